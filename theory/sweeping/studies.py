"""The sweeps by which the questions about the phase boundary are answered, each with a name and its question."""

from __future__ import annotations

import numpy as np

from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

__all__ = ["STUDY_QUESTIONS", "studies"]

STUDY_QUESTIONS = {
    "boundary": "Where do typical chains and their context Jacobians turn, at Whisper's d = 1280?",
    "boundary-depth": "How does that boundary move with depth, 2 to 128 layers, and dimension, 64 to 10^6?",
    "finite-size": "How does the crossover's width fall with depth and dimension: an early direction, to L = 1000?",
    "finite-size-product": "The same of ||P_L||, to the depth that its L x L reduction affords.",
    "ratio": "How fast does sigma_2 / sigma_1 of P_L fall, and at what alignment does collapse begin?",
    "residual": "A = I + F: where is J_L pinned, where does an outlier take over, what does the paper's rule say?",
    "injections": "Where is J_L of rank one up to small noise under coherent, random and mixed injections?",
}
"""What each study asks, in a line."""

DIMENSIONS = (16, 64, 256, 1280, 10_000, 100_000, 1_000_000)


def studies() -> dict[str, SweepSpec | ResidualSweepSpec]:
    """The named sweeps, keys as in `STUDY_QUESTIONS`; each a few minutes at most on two cores."""
    middle = (np.arange(64) + 0.5) / 64  # cells of equal area between alignments 0 and 1
    return {
        "boundary": SweepSpec(
            gain=_logarithmic(0.25, 4.0, 64),
            alignment=middle,
            gap=(0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9),
            depth=(4, 12, 32),
            dimension=(1280,),
            seeds=256,
            quantities=("product", "early"),
            injections=("coherent", "random"),
        ),
        "boundary-depth": SweepSpec(
            gain=_logarithmic(0.25, 4.0, 9),
            alignment=(0.1, 0.3, 0.5, 0.7, 0.9, 0.97),
            gap=(0.1, 0.5, 0.9),
            depth=(2, 4, 8, 12, 16, 24, 32, 64, 128),
            dimension=(64, 1280, 1_000_000),
            seeds=256,
            quantities=("early",),
            injections=("coherent", "random"),
        ),
        "finite-size": SweepSpec(
            gain=(1.0,),
            alignment=(0.1, 0.3, 0.4, 0.5, 0.7, 0.9),
            gap=(0.1, 0.4, 0.7),
            depth=(4, 8, 16, 32, 64, 125, 250, 500, 1000),
            dimension=DIMENSIONS,
            seeds=4096,
            quantities=("early",),
        ),
        "finite-size-product": SweepSpec(
            gain=(1.0,),
            alignment=(0.1, 0.4, 0.7, 0.9),
            gap=(0.1, 0.4),
            depth=(4, 8, 16, 32),
            dimension=DIMENSIONS,
            seeds=512,
        ),
        "ratio": SweepSpec(
            gain=(1.0,),
            alignment=np.round(np.linspace(0.02, 0.98, 33), 12),
            gap=(0.05, 0.1, 0.3, 0.6, 0.9),
            depth=(4, 12, 16, 32),
            dimension=(128, 1280, 100_000),
            seeds=64,
        ),
        "residual": ResidualSweepSpec(
            strength=_logarithmic(0.1, 10.0, 25),
            alignment=np.round(np.linspace(0.0, 0.96, 13), 12),
            persistence=(0.0, 0.5, 0.9),
            rank=(1, 4, 16),
            depth=(4, 12, 32),
            dimension=(1280,),
            injections=("coherent", "random"),
            seeds=64,
        ),
        "injections": SweepSpec(
            gain=_logarithmic(0.25, 4.0, 25),
            alignment=(np.arange(24) + 0.5) / 24,
            gap=(0.005, 0.05, 0.3),
            depth=(4, 12, 32),
            dimension=(64, 1280),
            seeds=256,
            injections=("coherent", "random", "mixed"),
            quantities=(),
        ),
    }


def _logarithmic(low: float, high: float, count: int) -> tuple[float, ...]:
    """Evenly spaced in their logarithm, rounded so that files made on different machines hold the same numbers."""
    return tuple(np.round(np.geomspace(low, high, count), 12).tolist())
