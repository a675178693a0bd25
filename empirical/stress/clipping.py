"""Amplitude clipping."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.stress.errors import StressError, require
from empirical.stress.levels import active_speech, decibels, lengths, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult


@dataclass(frozen=True, slots=True)
class Clipping:
    """Hard clipping of a share of the active speech.

    y = max(-t, min(t, x)), without any gain after it; t is the largest level that the loudest round(fraction * n) of
    the n active samples exceed. So the amount is stated in what is lost, not in a gain that depends on the recording.

    Attributes:
        fraction: share of active samples that are clipped, 0 < fraction < 1.
    """

    fraction: float = 0.1
    name: ClassVar[str] = "clipping"

    def __post_init__(self) -> None:
        require(0 < self.fraction < 1, "fraction", "lie between 0 and 1", self.fraction)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """Clipped samples; achieved has "clipped_fraction" of active samples and "headroom_db", level t under the peak.

        Raises:
            StressError: "silent".
        """
        speech = samples.astype(np.float64)
        active, _ = active_speech(speech, scene.utterance)
        loudness = np.abs(speech[active])
        clipped = min(round(self.fraction * len(loudness)), len(loudness) - 1)
        kept = len(loudness) - 1 - clipped  # the loudest that stays as it is
        threshold = float(np.partition(loudness, kept)[kept])
        if threshold == 0:
            raise StressError("silent", f"{scene.utterance}: {self.fraction:g} of its active samples are all there is")
        result, scale = within_full_scale(np.clip(speech, -threshold, threshold))
        left = np.abs(result[active].astype(np.float64)) / scale
        changed = left < loudness * (1 - 2.0**-23)  # by more than rounding to float32
        achieved = lengths(result, scale) | {
            "clipped_fraction": float(changed.mean()),
            "headroom_db": decibels((threshold / float(np.abs(speech).max())) ** 2),
        }
        return StressResult(result, achieved, dict(asdict(self)), scale_notes(scale))
