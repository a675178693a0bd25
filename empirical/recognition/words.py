"""Word errors of a transcript against its reference, after Whisper's English normalisation."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer


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


def word_errors(reference: str | None, hypothesis: str) -> WordErrors:
    """Word errors after transformers' `EnglishTextNormalizer`, aligned by jiwer; see `normaliser_identity`.

    Args:
        reference: what was said; None where it is not known.
        hypothesis: what the model wrote.
    """
    if reference is None:
        return WordErrors(math.nan, 0, 0, 0, 0, "no_reference")
    import jiwer

    said, wrote = normalise(reference), normalise(hypothesis)
    if not said:
        return WordErrors(math.nan, 0, 0, len(wrote.split()), 0, "empty_reference")
    if not wrote:
        words = len(said.split())
        return WordErrors(1.0, 0, words, 0, words, "ok")
    out = jiwer.process_words(said, wrote)
    words = out.hits + out.substitutions + out.deletions
    return WordErrors(float(out.wer), out.substitutions, out.deletions, out.insertions, words, "ok")


def normalise(text: str) -> str:
    """Lower case, without punctuation and fillers, numbers as digits, contractions written out."""
    return " ".join(_normaliser()(text).split())


def normaliser_identity() -> dict[str, str]:
    """What normalises text before words are counted: name, version, and hashes of its code and spelling map.

    Published checkpoints carry a map of British to American spellings (normalizer.json); it is not used, so that all
    models are measured alike, with or without it.
    """
    import transformers

    kind = type(_normaliser())
    code = inspect.getsource(inspect.getmodule(kind) or kind)
    return {
        "name": f"{kind.__module__}.{kind.__qualname__}",
        "version": transformers.__version__,
        "code_sha256": hashlib.sha256(code.encode()).hexdigest(),
        "spelling_map_sha256": hashlib.sha256(json.dumps({}).encode()).hexdigest(),
        "spelling_map": "empty",
    }


@functools.cache
def _normaliser() -> EnglishTextNormalizer:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})
