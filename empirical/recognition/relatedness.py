"""How much a transcript has to do with its reference, without a language model, and from where on that is nothing.

Whether a transcript is *unrelated* to what was said is asked of the transcripts themselves: beside its own reference a
transcript is held against the references of other clips, with which it has nothing to do by construction. It is
unrelated if it resembles its own no more than 95 % of those resemble it. The rule was fixed before any model was
looked at; its threshold is read off one half of the clips and its errors are counted on the other.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

QUANTILE = 0.95
"""Share of foreign references that a transcript may resemble as little as its own and still be called unrelated."""

MIN_CLIPS = 5
"""Clips with a reference that each half must have: fewer make no quantile of 95 %."""

FOREIGN = 8
"""Other clips' references that each transcript is held against, at most."""

PAIRS = 4000
"""Pairs of a half beyond which a transcript is held against fewer, but at least one: enough for a quantile of 95 %."""

ACCURATE_WER = 0.25
"""Word error rate up to which a transcript is surely of its clip; the rule's false alarms are counted on these."""

_Z95 = 1.959963984540054

# Soundex (Russell, 1918): letters that are made at one place sound alike. Vowels and h, w, y are silent inside a word.
_SOUNDS = {
    letter: code
    for letters, code in (("bfpv", "1"), ("cgjkqsxz", "2"), ("dt", "3"), ("l", "4"), ("mn", "5"), ("r", "6"))
    for letter in letters
} | dict.fromkeys("aeiou", "0")
_SILENT = frozenset("aeiouhwy'")
_REPEATED = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class Relatedness:
    """Three resemblances of two normalised texts, each in [0, 1], 1 for the same text.

    Attributes:
        words: 2 |common words| / (words of both), words counted as often as they occur, order left aside.
        characters: 1 - edit distance / length of the longer, of the characters, spaces included.
        sounds: the same of the texts' `sounds`.
    """

    words: float
    characters: float
    sounds: float

    @property
    def score(self) -> float:
        """Mean of the three."""
        return (self.words + self.characters + self.sounds) / 3.0


@dataclass(frozen=True, slots=True)
class Told:
    """One transcript for the calibration, its texts normalised.

    Attributes:
        clip: the clip, on whose name its half depends.
        reference: what was said; empty where it is not known, and the transcript is then not used.
        transcript: what the model wrote.
        wer: its word error rate.
    """

    clip: str
    reference: str
    transcript: str
    wer: float


@dataclass(frozen=True, slots=True)
class Share:
    """A share of n cases with its 95 % interval (Wilson 1927), as wide as the number of independent ones has it.

    Attributes:
        value: in [0, 1]; NaN of no case.
        low, high: ends of the interval.
        n: cases.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where "unrelated" begins, and how well that is told on clips that had no part in it.

    Attributes:
        threshold: score up to which a transcript is unrelated; NaN where it could not be found.
        pairs: pairs of a transcript with another clip's reference that it is the 95 % quantile of.
        missed: of such pairs in the other half, those above the threshold; 0.05 if the halves are alike.
        false_alarms: of the other half's accurate transcripts (WER up to `ACCURATE_WER`), those at or below it.
        code: "ok", or "too_few_clips".
    """

    threshold: float
    pairs: int
    missed: Share
    false_alarms: Share
    code: str


def relatedness(reference: str, transcript: str) -> Relatedness:
    """How much two normalised texts resemble each other; all 0 where just one of them is empty."""
    first, second = Counter(reference.split()), Counter(transcript.split())
    total = first.total() + second.total()
    return Relatedness(
        words=2.0 * (first & second).total() / total if total else 1.0,
        characters=_similarity(reference, transcript),
        sounds=_similarity(sounds(reference), sounds(transcript)),
    )


def sounds(text: str) -> str:
    """A text by its consonants: classes of Soundex, of each word the first letter and what is voiced after it.

    A vowel that begins a word is 0, h, w and y there are themselves; digits and other scripts stay as they are. Equal
    codes that follow on each other in a word are one, and where words begin is not kept.
    """
    return "".join(_sound(word) for word in text.split())


def halves(clips: Iterable[str], seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """The clips in two halves by a hash of seed and name, all conditions of a clip on one side; neither their order
    nor how often one is named matters."""
    names = sorted(set(clips), key=lambda clip: hashlib.sha256(f"{seed}\0{clip}".encode()).digest())
    return frozenset(names[: (len(names) + 1) // 2]), frozenset(names[(len(names) + 1) // 2 :])


def calibrate(told: Sequence[Told], seed: int) -> Calibration:
    """The threshold from the first of the `halves`, its errors on the second.

    Foreign references are those of other clips of the same half with another text, `FOREIGN` of them a transcript
    (fewer above `PAIRS`), drawn by `seed` and the transcript.

    Args:
        told: transcripts of one model, under all conditions; empty ones and those without reference are left out, and
            one that a clip has under several conditions counts once.
        seed: of the halves and the draws.
    """
    usable = sorted({one for one in told if one.reference and one.transcript}, key=_order)
    sides = [[one for one in usable if one.clip in half] for half in halves((one.clip for one in usable), seed)]
    if any(len({one.clip for one in side}) < MIN_CLIPS for side in sides):
        nothing = Share(math.nan, math.nan, math.nan, 0)
        return Calibration(math.nan, 0, nothing, nothing, "too_few_clips")
    chosen, tested = (_foreign_scores(side, seed) for side in sides)
    # An order statistic, not an interpolated quantile: the share of pairs at or below it is at least QUANTILE.
    threshold = float(np.quantile(chosen, QUANTILE, method="inverted_cdf"))
    own = [relatedness(one.reference, one.transcript).score for one in sides[1] if one.wer <= ACCURATE_WER]
    clips = len({one.clip for one in sides[1]})
    accurate = len({one.clip for one in sides[1] if one.wer <= ACCURATE_WER})
    return Calibration(
        threshold=threshold,
        pairs=len(chosen),
        # Pairs share transcripts and references: there is no more to learn from them than there are clips.
        missed=share(sum(score > threshold for score in tested), len(tested), independent=clips),
        false_alarms=share(sum(score <= threshold for score in own), len(own), independent=accurate or None),
        code="ok",
    )


def share(count: int, n: int, independent: int | None = None) -> Share:
    """count / n with Wilson's 95 % interval.

    Args:
        count: cases that hold.
        n: cases.
        independent: how many of them are (clips, where a clip has several cases), by default all: the interval is then
            as wide as that many would have it, which is too wide rather than too narrow.

    Raises:
        ValueError: if count is not in [0, n].
    """
    if not 0 <= count <= n:
        raise ValueError(f"count must lie in [0, {n}]; got {count}")
    if n == 0:
        return Share(math.nan, math.nan, math.nan, 0)
    p, weight = count / n, _Z95**2 / (n if independent is None else independent)
    centre = (p + weight / 2.0) / (1.0 + weight)
    reach = math.sqrt(weight * (p * (1.0 - p) + weight / 4.0)) / (1.0 + weight)
    return Share(p, max(0.0, centre - reach), min(1.0, centre + reach), n)


def _foreign_scores(side: list[Told], seed: int) -> list[float]:
    references = sorted({(one.clip, one.reference) for one in side})
    scores = []
    each = max(1, min(FOREIGN, PAIRS // len(side)))
    for one in side:
        others = [text for clip, text in references if clip != one.clip and text != one.reference]
        key = hashlib.sha256("\0".join((str(seed), *_order(one)[:3])).encode()).digest()
        rng = np.random.default_rng(list(key))
        for place in rng.permutation(len(others))[:each]:
            scores.append(relatedness(others[place], one.transcript).score)
    return scores


def _order(one: Told) -> tuple[str, str, str, float]:
    return one.clip, one.reference, one.transcript, one.wer


def _similarity(first: str, second: str) -> float:
    if not first or not second:
        return 1.0 if first == second else 0.0
    # What jiwer counts characters with, without the forty times as long that its alignment takes.
    from rapidfuzz.distance import Levenshtein

    return 1.0 - Levenshtein.distance(first, second) / max(len(first), len(second))


# A run says few words, and each very often.
@functools.lru_cache(maxsize=2**14)
def _sound(word: str) -> str:
    codes = [_SOUNDS.get(word[0], word[0]), *(_SOUNDS.get(one, one) for one in word[1:] if one not in _SILENT)]
    return _REPEATED.sub(r"\1", "".join(codes))
