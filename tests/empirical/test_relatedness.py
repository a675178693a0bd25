"""Whether a transcript has to do with its reference: the score's laws, and the threshold's errors on unseen clips."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.recognition.relatedness import MIN_CLIPS, Told, calibrate, halves, relatedness, share, sounds

TEXTS = st.lists(st.text("abcdefghw", min_size=1, max_size=4), max_size=6).map(" ".join)
NOUNS = ["soldier", "river", "house", "apple", "teacher", "garden", "kitchen", "letter", "window", "market"]
VERBS = ["opens", "follows", "carries", "likes", "paints", "remembers", "destroys", "visits"]


def told(clips: int, seed: int) -> list[Told]:
    """Accurate transcripts of random sentences under two conditions, one with a word wrong."""
    rng = random.Random(seed)
    made = []
    for index in range(clips):
        words = [*rng.sample(NOUNS, 2), rng.choice(VERBS), *rng.sample(NOUNS, 2)]
        text = " ".join(words)
        made.append(Told(f"clip-{index}", text, text, 0.0))
        made.append(Told(f"clip-{index}", text, " ".join([*words[:-1], "zebra"]), 0.2))
    return made


@settings(deadline=None, max_examples=80)
@given(TEXTS, TEXTS)
def test_resemblance_is_symmetric_bounded_and_1_only_for_the_same(first: str, second: str) -> None:
    there, back = relatedness(first, second), relatedness(second, first)
    assert there == back
    assert all(0.0 <= value <= 1.0 for value in (there.words, there.characters, there.sounds))
    assert (there.characters == 1.0) == (first == second)
    assert relatedness(first, first).score == 1.0


def test_resemblances_by_hand() -> None:
    assert relatedness("", "a b").score == 0.0
    found = relatedness("a cat", "a hat sat")
    assert found.words == pytest.approx(2 / 5)
    # "a cat" to "a hat sat": one letter replaced, four put in, of nine.
    assert found.characters == pytest.approx(1 - 5 / 9)
    assert sounds("knight") == sounds("knikhd") and sounds("ice cream") == "02265" and sounds("21 haha") == "21h"
    assert relatedness("their knight", "there night").sounds > relatedness("their knight", "the bog").sounds


def test_threshold_is_told_on_one_half_and_its_errors_on_the_other() -> None:
    found = calibrate(told(40, 1), seed=3)
    assert found.code == "ok" and 0 < found.threshold < 1
    # Both halves are drawn alike, but pairs of one transcript depend on each other: the interval is wide on purpose.
    missed, alarms = found.missed, found.false_alarms
    assert missed.n >= 100 and missed.value < 0.2
    assert alarms.n == 40 and alarms.value == 0.0
    # Each as wide as the half's twenty clips have it, whatever conditions and pairs they were made into.
    assert alarms.high == share(0, 20).high
    assert missed == share(round(missed.value * missed.n), missed.n, independent=20)
    assert relatedness("a red river runs", "a red river sits").score > found.threshold


def test_each_number_comes_from_the_half_it_is_said_to() -> None:
    """Two texts in each half, so that there is but one pair of foreign texts, whose score is the threshold."""
    names = [f"clip-{index}" for index in range(24)]
    first, second = (sorted(half) for half in halves(names, 5))
    far, near = ("my cold boat", "the dog sings under it"), ("a red river runs", "a red river sits")
    sample = [Told(name, text, text, 0.0) for name, text in zip(first, 6 * far, strict=True)]
    # Accurate as they say, and yet of another text: every one is a false alarm.
    sample += [Told(name, text, "zzz", 0.25) for name, text in zip(second, 6 * near, strict=True)]
    sample += [Told(name, text, text, 0.3) for name, text in zip(second, 6 * near, strict=True)]
    found = calibrate(sample, 5)
    assert found.threshold == relatedness(*far).score < relatedness(*near).score
    assert found.false_alarms.value == 1.0 and found.false_alarms.n == 12
    # Of the second half's foreign pairs those of "zzz" lie below, those of its two texts above.
    assert found.missed.value == 0.5 and found.pairs == 12 * 6 and found.missed.n == 24 * 6


def test_calibration_depends_on_its_clips_and_not_on_their_order() -> None:
    sample = told(30, 2)
    assert calibrate(sample, 0) == calibrate(sample[::-1] + sample[:5], 0)
    assert calibrate(sample, 0) != calibrate(sample, 1)


def test_too_few_clips_give_no_threshold() -> None:
    few = calibrate(told(2 * MIN_CLIPS - 1, 0), 0)
    assert few.code == "too_few_clips" and math.isnan(few.threshold)
    assert calibrate(told(2 * MIN_CLIPS, 0), 0).code == "ok"
    assert calibrate([Told("a", "", "b", math.nan), Told("b", "a", "", 1.0)], 0).code == "too_few_clips"


@given(st.sets(st.text(max_size=4), max_size=12), st.integers(0, 5))
def test_halves_part_the_clips(clips: set[str], seed: int) -> None:
    first, second = halves(clips, seed)
    assert first | second == clips and not first & second and 0 <= len(first) - len(second) <= 1


def test_wilson_interval_by_its_equation() -> None:
    """The ends p solve (count/n - p)^2 = z^2 p (1 - p) / n."""
    found = share(7, 40)
    for p in (found.low, found.high):
        assert (7 / 40 - p) ** 2 == pytest.approx(1.959963984540054**2 * p * (1 - p) / 40, rel=1e-12)
    assert share(0, 9).low == 0.0 and share(9, 9).high == 1.0 and math.isnan(share(0, 0).value)
    with pytest.raises(ValueError, match=r"count must lie in \[0, 3\]; got 4"):
        share(4, 3)
