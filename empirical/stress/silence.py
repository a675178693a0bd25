"""Nothing at all, or next to nothing, for as long as the utterance lasts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.stress.errors import require
from empirical.stress.levels import lengths, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult


@dataclass(frozen=True, slots=True)
class Silence:
    """Digital zeros, or white Gaussian noise at a level, in place of the utterance.

    Attributes:
        level_dbfs: r.m.s. of the noise, dB of a square wave at full scale, -200 to 0; None for zeros.
    """

    level_dbfs: float | None = None
    name: ClassVar[str] = "silence"

    def __post_init__(self) -> None:
        fine = self.level_dbfs is None or -200 <= self.level_dbfs <= 0
        require(fine, "level_dbfs", "be none or lie in -200 to 0", self.level_dbfs)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """Silence as long as the samples."""
        noise = np.zeros(len(samples))
        if self.level_dbfs is not None:
            noise = scene.generator(self.name).standard_normal(len(samples))
            noise *= 10 ** (self.level_dbfs / 20) / np.sqrt(np.square(noise).mean())
        result, scale = within_full_scale(noise)
        return StressResult(result, lengths(result, scale), asdict(self), scale_notes(scale), speech=False)
