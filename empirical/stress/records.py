"""What a stress works on, what it may take from, and what comes out."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from empirical.stress.errors import StressError
from empirical.stress.randomness import generator


@dataclass(frozen=True, slots=True)
class PoolClip:
    """One utterance that may be mixed in, or one recording of noise.

    Attributes:
        name: utterance id; of a recording its path within its folder.
        speaker: who speaks, or None if unknown.
        load: gives its samples, (n,) float at 16 kHz; an `AudioError` from it makes the stress take another.
    """

    name: str
    speaker: str | None
    load: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Scene:
    """One utterance, and all that a stress may draw on.

    Attributes:
        utterance: its id; with the seed it fixes everything random.
        seed: of the whole set.
        pool: utterances of others.
        speaker: who speaks in the target, or None where only the pool may know.
        noises: recordings of noise.
        recorded: the parameters of an earlier result that is to be made again, or None to draw anew.
        stream: added to a stressor's name for its stream of chance; "" but for a name's repetition in a composition.
    """

    utterance: str
    seed: int
    pool: Sequence[PoolClip] = ()
    speaker: str | None = None
    noises: Sequence[PoolClip] = ()
    recorded: Mapping[str, object] | None = None
    stream: str = ""

    def generator(self, name: str) -> np.random.Generator:
        """The chance of the stressor of that name here."""
        return generator(self.utterance, name + self.stream, self.seed)


@dataclass(frozen=True, slots=True)
class StressResult:
    """Stressed samples and what was really done.

    Attributes:
        samples: (n,) float32 at 16 kHz.
        achieved: numbers measured on the samples: "scale", "duration_s", "source_level_dbfs" and "level_dbfs" (over
            active speech before and after, dB of a full-scale square wave); "rate" for stretch; "speakers" and "sir_db"
            (target to all others, over the target's active frames) for mix; "snr_db" for noise; what else each
            stressor's docstring names. A value that does not exist, as the level of silence, is left out.
        parameters: what was asked, and names and starts of what was mixed in: enough for `reapply`.
        notes: short codes of what was out of the ordinary.
        speech: whether anything of the utterance is left.
    """

    samples: np.ndarray
    achieved: dict[str, float]
    parameters: dict[str, object]
    notes: tuple[str, ...]
    speech: bool = True


class Stressor(Protocol):
    """What every stressor is: a frozen dataclass of its parameters, with a name and what it does."""

    name: ClassVar[str]

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """The stress put on (n,) finite float samples of any level."""
        ...


def check_recorded(stressor: Stressor, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that were recorded of another stress.

    Raises:
        StressError: "bad_parameter".
    """
    for field_ in dataclasses.fields(typing.cast(typing.Any, stressor)):
        asked, got = getattr(stressor, field_.name), parameters.get(field_.name)
        if not isinstance(asked, tuple) and (field_.name not in parameters or got != asked):
            raise StressError("bad_parameter", f"recorded {field_.name} must be {asked}, as asked; got {got!r}")
