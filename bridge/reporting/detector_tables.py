"""Tables of the report about what tells a failure, the detectors' baseline."""

from __future__ import annotations

from bridge.comparison.analysis import Analysis
from bridge.reporting.wording import Table


def sentences(analysis: Analysis) -> list[str]:
    """Plain paragraphs at the head of the section; none where nothing is labelled."""
    return []


def shown(analysis: Analysis) -> list[Table]:
    """Tables that stand open, in order."""
    return []


def folded(analysis: Analysis) -> list[tuple[str, Table]]:
    """Tables that are folded away, each with the line that opens it."""
    return []
