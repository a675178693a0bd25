"""Word errors of a transcript against its reference, after Whisper's English normalisation."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer


@dataclass(frozen=True, slots=True)
class Spellings:
    """A map from one spelling to another that the normaliser applies last, word by word.

    Attributes:
        pairs: (spelling, spelling that replaces it), sorted; none in the default map.
        source: what the map is called in records.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    source: str = "empty"


NO_SPELLINGS = Spellings()
"""The default: checkpoints differ in whether they ship a map (normalizer.json), and all are to be scored alike."""


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors of one transcript.

    Attributes:
        wer: (substitutions + deletions + insertions) / reference words; above 1 is possible; NaN without a reference.
        substitutions: words replaced.
        deletions: words left out.
        insertions: words made up.
        reference_words: words of the normalised reference.
        reason: "ok", "no_reference" (there is none), or "empty_reference" (nothing is left of it).
    """

    wer: float
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    reason: str

    @property
    def insertion_rate(self) -> float:
        """Words made up for each word of the reference; NaN without one."""
        return self.insertions / self.reference_words if self.reference_words else math.nan


def word_errors(reference: str | None, hypothesis: str, spellings: Spellings = NO_SPELLINGS) -> WordErrors:
    """Word errors after transformers' `EnglishTextNormalizer`, aligned by jiwer; see `normaliser_identity`.

    Of several alignments with as few errors jiwer's is taken: only the sum of the three counts is unique.

    Args:
        reference: what was said; None where it is not known.
        hypothesis: what the model wrote.
        spellings: which spellings count as one.
    """
    if reference is None:
        return WordErrors(math.nan, 0, 0, 0, 0, "no_reference")
    import jiwer

    said, wrote = normalise(reference, spellings), normalise(hypothesis, spellings)
    if not said:
        return WordErrors(math.nan, 0, 0, len(wrote.split()), 0, "empty_reference")
    if not wrote:
        words = len(said.split())
        return WordErrors(1.0, 0, words, 0, words, "ok")
    out = jiwer.process_words(said, wrote)
    words = out.hits + out.substitutions + out.deletions
    return WordErrors(float(out.wer), out.substitutions, out.deletions, out.insertions, words, "ok")


def normalise(text: str, spellings: Spellings = NO_SPELLINGS) -> str:
    """Lower case, without punctuation, brackets and fillers, numbers as digits, contractions written out.

    It is not a projection: normalising twice may change digits once more, so texts are kept as they were written.
    """
    return _normalised(text, spellings)


def normaliser_identity(spellings: Spellings = NO_SPELLINGS) -> dict[str, str]:
    """What words are counted after and by: the normaliser's name, version, hashes of its code and map, and jiwer's.

    Published checkpoints carry a map of British to American spellings (normalizer.json); by default it is not used, so
    that all models are measured alike, with or without it.
    """
    import transformers

    kind = type(_normaliser(spellings))
    code = inspect.getsource(inspect.getmodule(kind) or kind)
    return {
        "name": f"{kind.__module__}.{kind.__qualname__}",
        "version": transformers.__version__,
        "code_sha256": hashlib.sha256(code.encode()).hexdigest(),
        "spelling_map_sha256": hashlib.sha256(json.dumps(dict(spellings.pairs)).encode()).hexdigest(),
        "spelling_map": spellings.source,
        "alignment": f"jiwer {version('jiwer')}",
    }


def load_spellings(path: str | Path) -> Spellings:
    """A map of spellings from a JSON object, as published checkpoints have in normalizer.json.

    Raises:
        ValueError: if the file cannot be read, or is not an object of words.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"spellings must be a readable JSON file; got {path}: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(word, str) for word in found.values()):
        raise ValueError(f"spellings must be a JSON object from word to word; got {type(found).__name__} in {path}")
    return Spellings(tuple(sorted(found.items())), path.name)


# A reference is asked for under every condition, a transcript by its scores and by its labels: nearly all the time of
# labelling went into normalising them again.
@functools.lru_cache(maxsize=2**12)
def _normalised(text: str, spellings: Spellings) -> str:
    return " ".join(_normaliser(spellings)(text).split())


@functools.lru_cache(maxsize=8)
def _normaliser(spellings: Spellings) -> EnglishTextNormalizer:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(dict(spellings.pairs))
