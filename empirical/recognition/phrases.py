"""Phrases that recognisers are known to make up where nothing was said: a loadable list, and its search in a text."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from empirical.recognition.loops import plain_words


@dataclass(frozen=True, slots=True)
class PhraseList:
    """A bag of hallucinations.

    Attributes:
        phrases: each as its `plain_words`, sorted, without repetition.
        source: what the list is called in records.
        sha256: of the phrases, so that two runs can be told to have used the same.
        by_length: the phrases by their number of words, longest first, for the search.
    """

    phrases: tuple[tuple[str, ...], ...]
    source: str
    sha256: str
    by_length: Mapping[int, frozenset[tuple[str, ...]]] = field(repr=False, compare=False)

    def found(self, transcript: str, reference: str | None = None) -> list[str]:
        """Listed phrases that the transcript has and the reference has not, longest first where they overlap.

        Words are compared as `plain_words`. A phrase of two words or more counts wherever it stands, as in the post-
        processing of Barański et al.; a single word ("whoa") only where the whole transcript is nothing but that word,
        once or over and over, for inside a sentence it is an ordinary error.

        Args:
            transcript: what the model wrote.
            reference: what was said; None where it is not known.
        """
        words = plain_words(transcript)
        said = [] if reference is None else plain_words(reference)
        if len(set(words)) == 1 and (words[0],) in self.by_length.get(1, frozenset()):
            return [] if words[0] in said else [words[0]]
        hits, place = [], 0
        while place < len(words):
            size = self._longest_at(words, place)
            if size and not _contains(said, words[place : place + size]):
                hits.append(" ".join(words[place : place + size]))
            place += max(size, 1)
        return list(dict.fromkeys(hits))

    def identity(self) -> dict[str, str | int]:
        """Name, size and hash, for records."""
        return {"source": self.source, "phrases": len(self.phrases), "sha256": self.sha256}

    def _longest_at(self, words: list[str], place: int) -> int:
        """Words of the longest phrase of two or more that begins here; 0 if none does."""
        for size, phrases in self.by_length.items():
            if size > 1 and tuple(words[place : place + size]) in phrases:
                return size
        return 0


def phrase_list(phrases: Iterable[str], source: str) -> PhraseList:
    """A list of phrases in any writing; those without a letter or digit are left out.

    Raises:
        ValueError: if none is left.
    """
    kept = tuple(sorted({words for words in (tuple(plain_words(phrase)) for phrase in phrases) if words}))
    if not kept:
        raise ValueError(f"phrases must hold at least one word; got none in {source}")
    digest = hashlib.sha256("\n".join(" ".join(words) for words in kept).encode()).hexdigest()
    lengths = sorted({len(words) for words in kept}, reverse=True)
    by_length = {size: frozenset(words for words in kept if len(words) == size) for size in lengths}
    return PhraseList(kept, source, digest, by_length)


def load_phrases(path: str | Path) -> PhraseList:
    """A list from a file: CSV with the phrase in its first column, or text with one phrase a line.

    A CSV's first line is its header where its first cell is "prediction" or "phrase", as in the bag of hallucinations
    of Barański et al. (2025, "Investigation of Whisper ASR hallucinations induced by non-speech audio"), which their
    repository offers; it is not part of this package. In a text, blank lines and lines with # are passed over.

    Raises:
        ValueError: if the file cannot be read or holds no phrase.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = [row[0] for row in csv.reader(text.splitlines()) if row]
            phrases = rows[1:] if rows and rows[0].strip().lower() in ("prediction", "phrase") else rows
        else:
            phrases = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"phrases must be a readable UTF-8 file; got {path}: {error}") from error
    return phrase_list(phrases, path.name)


def _contains(words: list[str], block: list[str]) -> bool:
    size = len(block)
    return any(words[start : start + size] == block for start in range(len(words) - size + 1))
