"""Stresses put on speech: what each does is one frozen dataclass, and all its chance one seed (observables.md)."""

from empirical.stress.applying import (
    STRESSORS,
    Clean,
    Mix,
    Noise,
    PoolClip,
    StressError,
    Stressor,
    StressResult,
    Stretch,
    active_frames,
    active_power,
    apply,
    generator,
    stressor,
)

__all__ = [
    "STRESSORS",
    "Clean",
    "Mix",
    "Noise",
    "PoolClip",
    "StressError",
    "StressResult",
    "Stressor",
    "Stretch",
    "active_frames",
    "active_power",
    "apply",
    "generator",
    "stressor",
]
