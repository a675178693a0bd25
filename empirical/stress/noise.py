"""Noise under speech, at a ratio over active speech."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.stress.errors import require
from empirical.stress.levels import active_speech, lengths, ratio_db, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult
from empirical.stress.sounds import SOUNDS, sound

TALKERS = 6


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise at a signal-to-noise ratio over active speech.

    y = x + g n with g^2 = P_x / (P_n 10^(snr_db / 10)), both powers taken over the active frames of x: so pauses in
    the speech do not lower the noise. What n is: `sounds.sound`.

    Attributes:
        snr_db: decibels, -100 to 100 (beyond, float32 loses one of the two).
        kind: "white", "pink", "babble" (other speakers of the pool) or "folder" (a recording of the user's).
        talkers: voices of a babble, none of them the target's; at least 1.
    """

    snr_db: float = 0.0
    kind: str = "white"
    talkers: int = TALKERS
    name: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        require(math.isfinite(self.snr_db), "snr_db", "be finite", self.snr_db)
        require(abs(self.snr_db) <= 100, "snr_db", "lie in -100 to 100", self.snr_db)
        require(self.kind in SOUNDS, "kind", f"be one of {', '.join(SOUNDS)}", self.kind)
        whole = isinstance(self.talkers, int) and self.talkers >= 1
        require(whole, "talkers", "be a whole number of at least 1", self.talkers)
        only = self.kind == "babble" or self.talkers == TALKERS
        require(only, "talkers", "be left out unless kind=babble", self.talkers)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """Speech and noise; achieved has "snr_db", and of a babble "speakers", without the target's.

        Raises:
            StressError: "silent", "pool_empty", "no_noises", "pool_missing".
        """
        speech = samples.astype(np.float64)
        active, power = active_speech(speech, scene.utterance)
        made = sound(self.kind, active, self.talkers, scene, scene.generator(self.name))
        noise = made.samples
        wanted = power / 10 ** (self.snr_db / 10)
        noise *= math.sqrt(wanted / np.square(noise[active]).mean())
        result, scale = within_full_scale(speech + noise)
        achieved = lengths(result, scale) | {"snr_db": ratio_db(result, scale, speech, active)} | made.achieved
        return StressResult(result, achieved, asdict(self) | made.parameters, made.notes + scale_notes(scale))
