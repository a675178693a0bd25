"""Several stresses one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from empirical.stress.clean import Clean
from empirical.stress.errors import StressError, require
from empirical.stress.records import Scene, Stressor, StressResult, check_recorded


@dataclass(frozen=True, slots=True)
class Composition:
    """Stresses applied left to right, each to what the one before left.

    Each part has a stream of chance of its own: that of its name where the part stands alone, so that
    `reverberation+noise` has the noise of `noise`; a name's second use has another.

    Attributes:
        parts: two or more, none of them clean or a composition.
    """

    parts: tuple[Stressor, ...]
    name: ClassVar[str] = "composition"

    def __post_init__(self) -> None:
        require(len(self.parts) >= 2, "parts", "be two or more", len(self.parts))
        plain = not any(isinstance(part, (Clean, Composition)) for part in self.parts)
        require(plain, "parts", "be neither clean nor compositions", "+".join(part.name for part in self.parts))

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """All parts.

        Achieved numbers are those of the parts, each measured where its part was put on: a ratio is to what came
        before that part. "scale" is the product of all factors; a number that an earlier part has too has the part's
        place after it, as "snr_db_2". Parameters: "parts", a list of {"stressor", "parameters"}.

        Raises:
            StressError: as the parts do.
        """
        recorded = self._recorded(scene.recorded)
        achieved: dict[str, float] = {"scale": 1.0}
        parameters: list[dict[str, object]] = []
        notes: dict[str, None] = {}
        names = [part.name for part in self.parts]
        speech, result = True, StressResult(samples, {}, {}, ())
        for place, part in enumerate(self.parts):
            uses = names[:place].count(part.name)
            own = replace(scene, recorded=recorded[place], stream=f"#{uses + 1}" if uses else "")
            result = part.put(result.samples, own)
            for key, value in result.achieved.items():
                if key == "scale":
                    achieved[key] *= value
                elif key == "duration_s" or key not in achieved:
                    achieved[key] = value
                else:
                    achieved[f"{key}_{place + 1}"] = value
            parameters.append({"stressor": part.name, "parameters": result.parameters})
            notes |= dict.fromkeys(result.notes)
            speech &= result.speech
        return StressResult(result.samples, achieved, {"parts": parameters}, tuple(notes), speech)

    def _recorded(self, recorded: Mapping[str, object] | None) -> list[Mapping[str, object] | None]:
        """What was recorded of each part."""
        if recorded is None:
            return [None] * len(self.parts)
        parts = recorded.get("parts")
        if isinstance(parts, Sequence) and not isinstance(parts, str) and len(parts) == len(self.parts):
            pairs = zip(parts, self.parts, strict=True)
            if all(isinstance(each, Mapping) and each.get("stressor") == part.name for each, part in pairs):
                found = [each.get("parameters") for each in parts]
                if all(isinstance(each, Mapping) for each in found):
                    for part, each in zip(self.parts, found, strict=True):
                        check_recorded(part, each)
                    return found
        names = "+".join(part.name for part in self.parts)
        raise StressError("bad_parameter", f"recorded parts must be those of {names}; got {parts!r}")
