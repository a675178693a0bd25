"""What refusals have in common: those to take an input, and those to report a number."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar


class CodedError(Exception):
    """An input that is refused, with a code for programs beside the words for people.

    A class of errors derives from this and from the built-in error that it is a case of, and says its codes. Errors
    pass between processes as what they are.

    Attributes:
        CODES: each code, with what it means.
        code: one of `CODES`.
        message: what was wrong, in words, without the code.
    """

    CODES: ClassVar[MappingProxyType[str, str]] = MappingProxyType({})

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise KeyError(f"code must be one of {type(self).__name__}.CODES; got {code!r}")
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[CodedError], tuple[Any, ...]]:
        return (type(self), (self.code, self.message))


class MeasuringError(RuntimeError):
    """A model of which no number would mean anything, found while it was measured: nothing of it is reported.

    Attributes:
        code: the reason in a word, as a run's failures and samples give it.
    """

    code: ClassVar[str] = "not_measured"
