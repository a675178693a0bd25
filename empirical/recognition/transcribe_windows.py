"""What becomes of a clip longer than the model's window: cut, taken piece by piece, or refused."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import numpy as np

from empirical.errors import CodedError

Long = Literal["cut", "chunk", "refuse"]
LONG: tuple[Long, ...] = ("cut", "chunk", "refuse")
"""Of a clip longer than the window: its beginning alone, marked truncated; consecutive windows; or nothing of it."""

QUIET_SAMPLES = 1600
"""0.1 s at 16 kHz: a pause shorter than that is not looked for, since stops of consonants are as short."""

_HOP = 160
_SEARCHED = 3
"""The last third of a window is searched for a quiet place."""
_LEAST = 6
"""The last window has at least a sixth of a window: a model makes words up for a syllable in much silence."""


class ListeningError(CodedError, ValueError):
    """A sample that could be heard, but not as it was asked for."""

    CODES = MappingProxyType(
        {"too_long": "longer than the model's window, where that is refused or a reference would have to be cut"}
    )


def check_long(long: str) -> None:
    """Refuse an unknown choice.

    Raises:
        ValueError: naming the argument.
    """
    if long not in LONG:
        raise ValueError(f"long must be one of {', '.join(LONG)}; got {long!r}")


def windows_of(samples: np.ndarray, window_samples: int, long: Long = "cut") -> list[np.ndarray]:
    """The pieces of a clip that a model hears one by one; the clip itself where it fits.

    "cut" leaves the clip whole, since the feature extractor takes its beginning and `Transcript.truncated` says so.
    "chunk" cuts every piece in the middle of the quietest 0.1 s (least energy, the later one of equals) of the last
    third of the window, or earlier so that a sixth of a window is left for the last one. The pieces together are the
    clip, each sample once: no overlap, since what is heard twice would have to be told from what was said twice.

    Args:
        samples: (n,) floats.
        window_samples: the model's window.
        long: of `LONG`.

    Raises:
        ListeningError: "too_long", with long="refuse".
        ValueError: for another `long`.
    """
    check_long(long)
    if len(samples) <= window_samples or long == "cut":
        return [samples]
    if long == "refuse":
        raise ListeningError(
            "too_long", f"a clip must fit into the model's window of {window_samples} samples; got {len(samples)}"
        )
    pieces = []
    while len(samples) > window_samples:
        last = min(window_samples, len(samples) - window_samples // _LEAST)
        place = quiet_place(samples, last - window_samples // _SEARCHED, last)
        pieces.append(samples[:place])
        samples = samples[place:]
    return [*pieces, samples]


def quiet_place(samples: np.ndarray, first: int, last: int) -> int:
    """Middle of the quietest `QUIET_SAMPLES` of samples[first:last], on a grid of 10 ms; the later one of equals."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(samples[first:last], dtype=np.float64))))
    starts = np.arange(0, max(1, last - first - QUIET_SAMPLES + 1), _HOP)
    ends = np.minimum(starts + QUIET_SAMPLES, last - first)
    # A cumulative sum leaves rounding of the whole before it, which would choose among silences.
    found = energy[ends] - energy[starts]
    quietest = np.flatnonzero(found <= found.min() + energy[-1] * np.finfo(np.float64).eps * (last - first))[-1]
    return first + (int(starts[quietest]) + int(ends[quietest])) // 2
