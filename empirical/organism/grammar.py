"""The sentences the model organisms know: a small grammar of plain English words.

The grammar is deliberately tiny. A model of a million weights learns it to a fraction of a per cent of word
errors, and a transcript that is wrong is then wrong for a reason that can be looked at, not for want of data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "dev", "held_out"]

_SPLIT_SCALE = 1000


@dataclass(frozen=True, slots=True)
class Grammar:
    """Word classes and the patterns that combine them.

    Attributes:
        classes: pairs (class symbol, words of the class).
        patterns: sentences as strings of class symbols and literal words, separated by spaces.
        held_out_per_mille: share of sentences, in thousandths, kept for testing and never trained on.
        dev_per_mille: share of sentences, in thousandths, kept for watching the training.
    """

    classes: tuple[tuple[str, tuple[str, ...]], ...]
    patterns: tuple[str, ...]
    held_out_per_mille: int = 60
    dev_per_mille: int = 30

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word a sentence can hold, sorted."""
        symbols = {symbol for symbol, _ in self.classes}
        words = {word for _, members in self.classes for word in members}
        words.update(part for pattern in self.patterns for part in pattern.split() if part not in symbols)
        return tuple(sorted(words))

    def sentence(self, rng: np.random.Generator) -> str:
        """Draw one sentence: a pattern uniformly, then each word uniformly from its class."""
        members = dict(self.classes)
        pattern = self.patterns[int(rng.integers(len(self.patterns)))]
        return " ".join(
            members[part][int(rng.integers(len(members[part])))] if part in members else part
            for part in pattern.split()
        )

    def split_of(self, sentence: str) -> Split:
        """Which split a sentence belongs to, decided by its hash alone and so the same for every seed."""
        digest = hashlib.blake2b(sentence.encode("utf-8"), digest_size=8).digest()
        bucket = int.from_bytes(digest, "big") % _SPLIT_SCALE
        if bucket < self.held_out_per_mille:
            return "held_out"
        if bucket < self.held_out_per_mille + self.dev_per_mille:
            return "dev"
        return "train"

    def sentence_in(self, split: Split, rng: np.random.Generator) -> str:
        """Draw one sentence of the given split, by rejection."""
        while True:
            candidate = self.sentence(rng)
            if self.split_of(candidate) == split:
                return candidate


ENGLISH_66 = Grammar(
    classes=(
        ("D", ("the", "a", "my", "her", "this", "every")),
        (
            "A",
            (
                "small",
                "red",
                "green",
                "quiet",
                "happy",
                "brave",
                "cold",
                "tall",
                "young",
                "white",
                "black",
                "lazy",
            ),
        ),
        (
            "N",
            (
                "dog",
                "cat",
                "horse",
                "bird",
                "house",
                "boat",
                "river",
                "garden",
                "teacher",
                "farmer",
                "king",
                "child",
                "door",
                "table",
                "ship",
                "tree",
                "sister",
                "soldier",
                "doctor",
                "wolf",
            ),
        ),
        (
            "T",
            (
                "sees",
                "finds",
                "holds",
                "paints",
                "follows",
                "carries",
                "watches",
                "likes",
                "opens",
                "breaks",
            ),
        ),
        ("V", ("sleeps", "falls", "runs", "sings", "waits", "laughs", "jumps")),
        ("P", ("near", "under", "behind", "with", "above")),
        ("R", ("today", "now", "again", "slowly", "tonight")),
    ),
    patterns=(
        "D N V R",
        "D A N V",
        "D N T D N",
        "D A N V R",
        "D N V P D N",
        "D A N T D N",
        "D N T D A N",
        "D N T D N R",
        "D N and D N V",
        "D A N T D A N",
        "D A N V P D N",
    ),
)
"""66 words, eleven patterns of 4 to 7 words; no word begins with a vowel after "a", no number, no homophone."""
