"""Figures of what the failures of a run are, by label."""

from __future__ import annotations

from bridge.comparison.analysis import Analysis
from bridge.reporting.figures.drawing import Drawing


def drawings(analysis: Analysis) -> list[Drawing]:
    """The figures of this run, in order; none where nothing is labelled."""
    return []
