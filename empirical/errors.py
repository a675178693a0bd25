"""What all refusals to report a number have in common."""

from __future__ import annotations

from typing import ClassVar


class MeasuringError(RuntimeError):
    """A model of which no number would mean anything, found while it was measured: nothing of it is reported.

    Attributes:
        code: the reason in a word, as a run's failures and samples give it.
    """

    code: ClassVar[str] = "not_measured"
