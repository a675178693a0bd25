"""Loops of a transcript: a block of words said over and over, and text that zlib finds too regular."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Loop:
    """The longest run of one block of words in immediate succession.

    Attributes:
        period: words of the block, n; 0 where nothing is repeated.
        repeats: times that the block stands whole, c.
        extra: words beyond the first time, those of a last, broken block included: what the loop made up.
    """

    period: int = 0
    repeats: int = 1
    extra: int = 0


def plain_words(text: str) -> list[str]:
    """Runs of letters and digits in lower case: "I'm 21!" is i, m, 21.

    Whisper's normaliser will not do here: it joins numbers ("one one one" is 111), so that a loop of them vanishes.
    """
    return _WORD.findall(text.lower())


def longest_loop(text: str, *, least_repeats: int = 2) -> Loop:
    """The block of n words whose repetition makes up the most words.

    For each n the words w are held against themselves n places on: a run of r agreements w_i = w_{i+n} is a block
    said r // n + 1 times over r + n words. The largest r among those with at least `least_repeats` repetitions wins,
    of equal ones the shortest block (so that six times one word is not three times two).

    Args:
        text: any text; its words are `plain_words`.
        least_repeats: repetitions below which a run is no loop; at least 2.
    """
    if least_repeats < 2:
        raise ValueError(f"least_repeats must be at least 2; got {least_repeats}")
    words = plain_words(text)
    _, ids = np.unique(np.asarray(words, dtype=object), return_inverse=True) if words else (None, np.zeros(0, int))
    best = Loop()
    for period in range(1, len(ids) // least_repeats + 1):
        run = _longest_run(ids[period:] == ids[:-period])
        if run // period + 1 >= least_repeats and run > best.extra:
            best = Loop(period, run // period + 1, run)
    return best


def made_up_by_looping(transcript: str, reference: str | None, *, least_repeats: int = 3) -> Loop:
    """The transcript's longest loop, less what the speaker repeated too.

    People do say "no no no no": words that the reference's own longest loop repeats are taken from `extra`.

    Args:
        transcript: what the model wrote.
        reference: what was said; None where it is not known, and then nothing is taken off.
        least_repeats: as of `longest_loop`.
    """
    loop = longest_loop(transcript, least_repeats=least_repeats)
    if reference is None or not loop.period:
        return loop
    said = longest_loop(reference, least_repeats=2)
    return Loop(loop.period, loop.repeats, max(0, loop.extra - said.extra))


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of it compressed by zlib, as Whisper computes it; 0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _longest_run(hits: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hits, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0
