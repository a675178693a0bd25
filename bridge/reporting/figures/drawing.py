"""A figure with the words that stand beside it in the report: still to be drawn, and drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Captioned:
    """What stands beside a figure.

    Attributes:
        name: file name without ending.
        title: of the figure.
        how_to_read: one or two sentences under it.
    """

    name: str
    title: str
    how_to_read: str


@dataclass(frozen=True, slots=True)
class Drawing(Captioned):
    """A figure that is still to be drawn.

    Attributes:
        draw: makes it, narrow (one column) or wide.
    """

    draw: Callable[[bool], Figure]


@dataclass(frozen=True, slots=True)
class Shown(Captioned):
    """A figure in the report.

    Attributes:
        wide, narrow: data URIs of the two layouts.
    """

    wide: str
    narrow: str
