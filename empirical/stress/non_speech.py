"""Sound without speech, as loud and as long as the utterance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.stress.errors import require
from empirical.stress.levels import active_speech, lengths, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult
from empirical.stress.sounds import sound

KINDS = ("pink", "white", "folder")


@dataclass(frozen=True, slots=True)
class NonSpeech:
    """Noise in place of the utterance, its r.m.s. over the whole length that of the utterance over active speech.

    Attributes:
        kind: "pink", "white", or "folder" (a recording of the user's, which should hold no speech).
    """

    kind: str = "pink"
    name: ClassVar[str] = "non_speech"

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "kind", f"be one of {', '.join(KINDS)}", self.kind)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """The sound alone.

        Raises:
            StressError: "silent", "no_noises", "pool_missing".
        """
        _, power = active_speech(samples, scene.utterance)
        everywhere = np.ones(len(samples), bool)
        made = sound(self.kind, everywhere, 1, scene, scene.generator(self.name))
        result, scale = within_full_scale(made.samples * math.sqrt(power / np.square(made.samples).mean()))
        notes = made.notes + scale_notes(scale)
        return StressResult(result, lengths(result, scale), asdict(self) | made.parameters, notes, speech=False)
