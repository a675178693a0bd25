"""Time stretch at constant pitch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.speech.audio import SAMPLE_RATE_HZ
from empirical.stress.errors import StressError, require
from empirical.stress.levels import lengths, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult
from empirical.stress.vocoder import stretch

MAX_RESULT_S = 7200.0
"""Longest result, seconds: four times the longest file that is read by default; about 4 GB while it is made."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Slow-down (or, below 1, speed-up) at constant pitch, by a phase vocoder (`vocoder.stretch`).

    Implements the paper's 3.5x time stretch: n samples become round(n * rate). The vocoder adds frames of unrelated
    phase, which lowers the level: at 3.5x to 0.71 times for white noise, 0.67-0.74 (median 0.70) for active speech of
    LibriSpeech; and at 0.5x to 0.53-0.66 times.

    Attributes:
        rate: duration after / duration before, positive.
    """

    rate: float = 3.5
    name: ClassVar[str] = "stretch"

    def __post_init__(self) -> None:
        require(math.isfinite(self.rate) and self.rate > 0, "rate", "be positive and finite", self.rate)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """Stretched samples; achieved has "rate", of their numbers.

        Raises:
            StressError: "too_long" beyond `MAX_RESULT_S`, "too_short" if no sample would be left.
        """
        wanted = len(samples) * self.rate
        if wanted > MAX_RESULT_S * SAMPLE_RATE_HZ:
            raise StressError(
                "too_long", f"a result must last {MAX_RESULT_S:g} s at most; got {wanted / SAMPLE_RATE_HZ:.6g} s"
            )
        if round(wanted) < 1:
            raise StressError("too_short", f"a result must have a sample; got {len(samples)} times {self.rate:g}")
        result, scale = within_full_scale(stretch(samples, self.rate))
        achieved = lengths(result, scale) | {"rate": len(result) / len(samples)}
        return StressResult(result, achieved, dict(asdict(self)), scale_notes(scale))
