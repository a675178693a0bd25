"""Several speakers at once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.stress.errors import require
from empirical.stress.levels import active_speech, lengths, ratio_db, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult
from empirical.stress.voices import add_voices


@dataclass(frozen=True, slots=True)
class Mix:
    """The target with one utterance each of other speakers.

    y = x + 10^(level_db / 20) sum_j (a(x) / a(z_j)) z_j, with a() the r.m.s. over active speech: at 0 dB each other
    is as loud as the target, and five of them together 7 dB louder. How the z_j are chosen, and what a pool of fewer
    speakers gives: `voices.add_voices`.

    Attributes:
        speakers: number of voices, the target's included; at least 2.
        level_db: of each other against the target, over active speech; -60 to 60.
    """

    speakers: int = 6
    level_db: float = 0.0
    name: ClassVar[str] = "mix"

    def __post_init__(self) -> None:
        rule = "be a whole number of at least 2, the target's included"
        require(isinstance(self.speakers, int) and self.speakers >= 2, "speakers", rule, self.speakers)
        require(-60 <= self.level_db <= 60, "level_db", "lie in -60 to 60", self.level_db)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """The mixture; achieved has "speakers" and "sir_db".

        Raises:
            StressError: "silent", "pool_empty", "pool_missing".
        """
        target = samples.astype(np.float64)
        active, power = active_speech(target, scene.utterance)
        level = math.sqrt(power) * 10 ** (self.level_db / 20)
        voices = add_voices(target, self.speakers - 1, level, scene, scene.generator(self.name))
        result, scale = within_full_scale(voices.samples)
        achieved = lengths(result, scale) | {
            "speakers": float(len(voices.others) + 1),
            "sir_db": ratio_db(result, scale, target, active),
        }
        parameters: dict[str, object] = {**asdict(self), "others": voices.others}
        return StressResult(result, achieved, parameters, voices.notes + scale_notes(scale))
