"""The reference transcript as decoder input: what a model is forced along where its own words are not wanted.

A model of random weights goes on to any limit of tokens, and a failing one says something else in each condition; along
the reference every model and condition is measured on the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.errors import CodedError


class ReferenceTokensError(CodedError, ValueError):
    """A reference that a model cannot be forced along."""

    CODES = MappingProxyType(
        {
            "no_reference": "no reference transcript, or an empty one",
            "bad_reference": "text that the model's tokenizer cannot spell",
            "reference_too_long": "more tokens than the decoder has positions for",
        }
    )

    @property
    def detail(self) -> str:
        """What was found, in words."""
        return self.message


def reference_tokens(checkpoint: Checkpoint, reference: str | None, prompt: Sequence[int]) -> tuple[int, ...]:
    """Prompt and reference as decoder input ids, as teacher forcing takes them: no end token.

    The text begins with a space, as what Whisper writes does. Text without any small letter (LibriSpeech's) is written
    small, for Whisper does not write in capitals and its tokens for them are other, shorter ones.

    Args:
        checkpoint: whose tokenizer and positions are used.
        reference: what was said; None where it is not known.
        prompt: start, language and task ids, as `generate` sets them (`Transcript.tokens[:prompt_tokens]`).

    Raises:
        ReferenceTokensError: with one of its codes.
    """
    words = " ".join((reference or "").split())
    if not words:
        raise ReferenceTokensError("no_reference", "the clip must have a reference transcript to be forced along")
    text = " " + (words.lower() if words == words.upper() else words)
    tokenizer = checkpoint.tokenizer
    # A special token spelt out in a transcript is text: as a token it would end the utterance or change the task.
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    # Pieces that a small vocabulary lacks are left out by the tokenizer without a word.
    spelt = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if spelt != text or set(ids) & set(tokenizer.all_special_ids):
        missing = "".join(sorted(set(text) - set(spelt)))
        what = f"has no pieces for {missing!r}" if missing else f"makes {spelt[:60]!r} of {text[:60]!r}"
        raise ReferenceTokensError("bad_reference", f"the reference must be text that the tokenizer spells; it {what}")
    tokens = (*(int(token) for token in prompt), *(int(token) for token in ids))
    most = checkpoint.model.config.max_target_positions
    if len(tokens) > most:
        detail = f"prompt and reference must be at most {most} tokens, the decoder's positions; got {len(tokens)}"
        raise ReferenceTokensError("reference_too_long", detail)
    return tokens
