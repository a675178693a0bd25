"""Stresses put on speech: what each does is one frozen dataclass, and all its chance one seed (observables.md)."""

from empirical.stress.applying import apply, reapply
from empirical.stress.clean import Clean
from empirical.stress.clipping import Clipping
from empirical.stress.composition import Composition
from empirical.stress.errors import StressError
from empirical.stress.grammar import (
    NAMES,
    STRESSORS,
    base_names,
    expand,
    label,
    order_key,
    parse,
    removes_speech,
    stressor,
)
from empirical.stress.levels import active_frames, active_power
from empirical.stress.mix import Mix
from empirical.stress.noise import Noise
from empirical.stress.non_speech import NonSpeech
from empirical.stress.randomness import generator
from empirical.stress.records import PoolClip, Stressor, StressResult
from empirical.stress.reverberation import Reverberation
from empirical.stress.silence import Silence
from empirical.stress.stretch import Stretch

__all__ = [
    "NAMES",
    "STRESSORS",
    "Clean",
    "Clipping",
    "Composition",
    "Mix",
    "Noise",
    "NonSpeech",
    "PoolClip",
    "Reverberation",
    "Silence",
    "StressError",
    "StressResult",
    "Stressor",
    "Stretch",
    "active_frames",
    "active_power",
    "apply",
    "base_names",
    "expand",
    "generator",
    "label",
    "order_key",
    "parse",
    "reapply",
    "removes_speech",
    "stressor",
]
