"""A figure that is still to be drawn, with the words that stand beside it in the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of the report.

    Attributes:
        name: file name without ending.
        title: of the figure.
        how_to_read: one or two sentences under it.
        draw: makes it, narrow (one column) or wide.
    """

    name: str
    title: str
    how_to_read: str
    draw: Callable[[bool], Figure]
