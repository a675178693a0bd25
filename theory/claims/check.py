"""What a simulation of one claim says, in plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["ClaimCheck", "mean_interval"]


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """What a simulation says of one claim.

    Attributes:
        claim: "C1" to "C5".
        effect_name: what effect is, with its unit and the side that the claim is on.
        effect: the measured effect.
        interval: 95 % interval of the effect; of no width where the simulation has no chance in it.
        n: number of chains (or pairs of directions) behind the effect.
        details: plain numbers and rows, by name.
    """

    claim: str
    effect_name: str
    effect: float
    interval: tuple[float, float]
    n: int
    details: dict[str, Any]


def mean_interval(x: NDArray[np.float64], level: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Mean and its t interval of that coverage, from at least 2 values."""
    mean, half = float(x.mean()), float(stats.t.ppf((1 + level) / 2, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return mean, (mean - half, mean + half)
