"""What can be wrong with a checkpoint, each with a code; and words for lists of names and for others' errors."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from empirical.errors import CodedError

_NAMES_SHOWN = 3


class CheckpointError(CodedError, ValueError):
    """A checkpoint that cannot be measured.

    Attributes:
        code: one of `CODES`.
        message: one line; two for "unreachable": what was tried, and how to pass a directory.
    """

    CODES = MappingProxyType(
        {
            "missing": "no such directory or file, and not the id of a model on the hub",
            "unreachable": "a hub id, not in the local cache, and the hub cannot be reached",
            "not_found": "a hub id that the hub does not know or does not give out",
            "no_revision": "a revision that the model does not have on the hub",
            "not_a_directory": "a file that is neither a checkpoint directory nor one of OpenAI's .pt files",
            "missing_file": "a checkpoint without one of the files that belong to it",
            "bad_config": "a JSON file of the checkpoint, or the dimensions in a .pt, that cannot be read or used",
            "not_whisper": "a model of another architecture",
            "adapter": "an adapter (LoRA) that is not merged into its model",
            "holds_code": "a pickled weight file that asks for code to be run on loading; it was not run",
            "bad_weights": "a weight file that cannot be read",
            "missing_tensors": "tensors of the architecture that the weight files do not have",
            "unexpected_tensors": "tensors in the weight files that the architecture does not have",
            "mismatched_tensors": "tensors of another shape than the config or the dimensions say",
            "non_finite": "tensors with NaN or infinite values",
            "wrong_mels": "a feature extractor with another number of mel bins than the model",
            "wrong_window": "a feature extractor whose frames do not fill the encoder's positions",
            "wrong_sample_rate": "a feature extractor for another rate than 16 kHz",
            "bad_tokenizer": "a tokenizer that cannot be read or is of another vocabulary than the model",
        }
    )

    def __str__(self) -> str:
        return self.message  # a command prints it as it is


def listed(names: Iterable[str]) -> str:
    """ "a, b, c and 4 more"."""
    names = list(names)
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """An error's first line, shortened."""
    lines = str(error).strip().splitlines() or [""]
    return (lines[0][:160] or type(error).__name__).rstrip(". ")
