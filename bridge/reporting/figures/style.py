"""One look for every figure: colours that colour-blind readers tell apart, quiet axes, one or many columns.

Figures are made with matplotlib's objects alone: no pyplot, no global settings. Every function takes `narrow`, which
stacks the panels in one column for a telephone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from textwrap import wrap

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from bridge.reporting.figures.looks import broken as broken
from bridge.reporting.figures.looks import colour_of as colour_of
from bridge.reporting.figures.looks import marker_of as marker_of

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, GRID, NULL_COLOUR = "#1d2733", "#5b6773", "#e4e8ec", "#b9c1c9"

WIDE_INCHES = 10.0
NARROW_INCHES = 4.3
_FONT = 9.0
MANY_MARKS = 1500
_RASTER_DPI = 240
"""Of maps inside vector figures: their cells are an image, everything else stays lines and letters."""
# Margins of a panel in inches: its axis labels, its title, the space to the next, and above the whole figure.
_LEFT, _BELOW, _ABOVE, _GAP, _TOP = 0.62, 0.5, 0.3, 0.16, 0.08


def beside(place: int, count: int, *, apart: float = 0.12, width: float = 0.6) -> float:
    """Shift of the one at `place` of `count` that stand around the same x: `apart`, or closer where they would fill
    more than `width`."""
    return min(apart, width / max(count, 1)) * (place - (count - 1) / 2)


def crowded(marks: int) -> bool:
    """Whether so many marks are better drawn as an image than one by one: a vector mark takes about 100 bytes."""
    return marks > MANY_MARKS


def shades(count: int) -> list[str]:
    """Colours of an ordered series, dark to light, none too pale for a line on white (viridis)."""
    places = np.linspace(0.0, 0.82, count) if count > 1 else [0.3]
    return [matplotlib.colors.to_hex(matplotlib.colormaps["viridis"](float(place))) for place in places]


def picked(values: ArrayLike, count: int) -> NDArray[np.intp]:
    """Indices of at most `count` values, evenly spaced in rank, both ends among them."""
    size = np.size(values)
    return np.unique(np.round(np.linspace(0, size - 1, min(count, size))).astype(np.intp))


def edges(values: ArrayLike, *, logarithmic: bool = False) -> NDArray[np.float64]:
    """Borders of cells around ascending values, half-way between neighbours, one more than there are values."""
    centres = np.asarray(values, dtype=np.float64)
    places = np.log(centres) if logarithmic else centres
    if places.size == 1:
        found = places[0] + np.array([-0.05, 0.05])
    else:
        middle = (places[1:] + places[:-1]) / 2
        found = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(found) if logarithmic else found


def grid_of_panels(
    count: int, *, columns: int, height: float, narrow: bool, right: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of `height` inches, `columns` beside each other (one if narrow).

    Margins are fixed in inches (a layout engine would draw everything twice); `right` keeps room for a colour bar.
    """
    columns = 1 if narrow else min(columns, count)
    rows = ceil(count / columns)
    width = NARROW_INCHES if narrow else WIDE_INCHES
    total = rows * height + _TOP
    figure = Figure(figsize=(width, total), facecolor="white")
    each = (width - right) / columns
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        left, bottom = column * each + _LEFT, total - _TOP - (row + 1) * height + _BELOW
        box = (left / width, bottom / total, (each - _LEFT - _GAP) / width, (height - _BELOW - _ABOVE) / total)
        axes.append(figure.add_axes(box))
    for one in axes:
        quiet(one)
    return figure, axes


def raise_top(figure: Figure, inches: float) -> None:
    """Makes the figure higher at the top; panels keep their size and place from the bottom."""
    width, before = figure.get_size_inches()
    figure.set_size_inches(width, before + inches)
    for one in figure.axes:
        x0, y0, w, h = one.get_position(original=True).bounds
        factor = before / (before + inches)
        one.set_position((x0, y0 * factor, w, h * factor))


def raise_bottom(figure: Figure, inches: float) -> None:
    """Makes the figure higher at the bottom; panels keep their size and place from the top."""
    before = float(figure.get_size_inches()[1])
    raise_top(figure, inches)
    after = before + inches
    for one in figure.axes:
        x0, y0, w, h = one.get_position(original=True).bounds
        one.set_position((x0, y0 + inches / after, w, h))


def quiet(axes: Axes) -> None:
    """Axes without a box, with a pale grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=_FONT - 1, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Title on the left, axis labels with units."""
    # At a height that is given: to find one above all ticks, matplotlib measures every text of the axes at each
    # drawing, a third of its time, and there are no ticks above these axes.
    axes.set_title(title, loc="left", y=1.0, fontsize=_FONT + 0.5, color=INK, fontweight="bold")
    axes.set_xlabel(x, fontsize=_FONT, color=INK)
    axes.set_ylabel(y, fontsize=_FONT, color=INK)


def note(axes: Axes, text: str, *, x: float = 0.98, y: float = 0.03, ha: str = "right", va: str = "bottom") -> None:
    """A small remark inside the axes (n, reasons)."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=ha,
        va=va,
        fontsize=_FONT - 1.5,
        color=MUTED,
        zorder=6,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.2},
    )


def shared_legend(figure: Figure, axes: Sequence[Axes], *, narrow: bool) -> None:
    """One legend for all panels, above them, each label once, in as many rows as it needs."""
    entries: dict[str, Artist] = {}
    for one in axes:
        for handle, text in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    if not entries:
        return
    width = float(figure.get_size_inches()[0])
    # About 0.075 inches a letter at this size, and half an inch for the handle and the gap.
    columns = max(1, min(len(entries), int((width - 0.2) / (0.068 * max(map(len, entries)) + 0.55))))
    raise_top(figure, 0.2 * ceil(len(entries) / columns))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="upper left",
        bbox_to_anchor=(0.005, 0.995),
        ncols=columns,
        fontsize=_FONT - 0.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.4,
        borderaxespad=0.1,
    )


def headline(figure: Figure, text: str) -> None:
    """What holds for every panel (which chains, n, intervals), in lines above everything; called last."""
    width = float(figure.get_size_inches()[0])
    # "n = 64" stays together: textwrap breaks at plain spaces alone.
    lines = wrap(text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), int((width - 0.3) / 0.068))
    raise_top(figure, 0.19 * len(lines) + 0.04)
    height = float(figure.get_size_inches()[1])
    figure.text(
        0.08 / width,
        1 - 0.06 / height,
        "\n".join(lines),
        ha="left",
        va="top",
        fontsize=_FONT - 0.5,
        color=INK,
        linespacing=1.25,
    )
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0.005, 1 - (0.19 * len(lines) + 0.06) / height))


def log_axis(axis: Axis) -> None:
    """A logarithmic axis with plain numbers, few of them, whatever the range."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high) - np.log10(low) if low > 0 else 1.0
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0) if decades > 0.6 else None
    if 0 < low < 2e-3 and decades > 1.5:  # "0.0003" is wide, and powers of ten are few enough
        subs = (1.0,)
    if subs is None:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=subs, numticks=12 if decades < 7 else 7))
    # Between powers of ten all ticks are plain: "5000, 10000, 20000", not "5000, 10^4, 20000".
    plain = subs != (1.0,) and high < 1e6
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}" if plain else short_number(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def values_axis(axis: Axis, values: ArrayLike, *, most: int = 7) -> None:
    """A logarithmic axis whose ticks are the values that were computed, at most `most` of them."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    known = np.unique(np.asarray(values, dtype=np.float64)).tolist()
    apart = np.log(known[-1] / known[0]) / (most + 0.5)
    ticks = known[-1:]
    for value in reversed(known[:-1]):  # from the last, which is always among them
        if np.log(ticks[-1] / value) >= apart:
            ticks.append(value)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_minor_locator(NullLocator())


def short_number(value: float) -> str:
    """A number as a tick says it: powers of ten from 10^4 and to 10^-3 as such, others plainly."""
    power = np.log10(value) if value > 0 else 0.0
    if (power >= 3.5 or power <= -2.5) and np.isclose(power, round(power)):
        return f"$10^{{{round(power)}}}$"
    return f"{value:g}"


def colour_bar(
    figure: Figure, axes: Sequence[Axes], mesh: ScalarMappable, text: str, *, narrow: bool, extend: str = "both"
) -> None:
    """The scale of a map: right of the last row of panels, or below them where they are stacked."""
    width, height = figure.get_size_inches()
    if narrow:
        raise_bottom(figure, 0.62)
        height = float(figure.get_size_inches()[1])
        box = (0.62 / width, 0.42 / height, 1 - 0.8 / width, 0.12 / height)
    else:
        _, y0, _, h = axes[-1].get_position(original=True).bounds
        right = max(one.get_position(original=True).x1 for one in axes)
        box = (right + 0.2 / width, y0, 0.12 / width, h)
    bar = figure.colorbar(
        mesh, cax=figure.add_axes(box), extend=extend, orientation="horizontal" if narrow else "vertical"
    )
    bar.locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    bar.update_ticks()
    bar.set_label(text, fontsize=_FONT - 0.5, color=INK)
    bar.ax.tick_params(labelsize=_FONT - 1, colors=MUTED)
    bar.outline.set_visible(False)  # type: ignore[operator]


def whole_layers(axes: Axes, depth: int) -> None:
    """Layer numbers as ticks, at most about a dozen of them."""
    step = max(1, ceil(depth / 12))
    axes.set_xticks(range(1, depth + 1, step))


def nothing(message: str, *, narrow: bool) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, (axes,) = grid_of_panels(1, columns=1, height=1.4, narrow=narrow)
    axes.axis("off")
    axes.text(0.5, 0.5, message, ha="center", va="center", fontsize=_FONT, color=MUTED, wrap=True)
    return figure


def svg_of(figure: Figure, *, salt: str) -> str:
    """The figure as SVG text; the same figure and salt give the same bytes."""
    buffer = io.StringIO()
    # The hash salt can only be set through rc; the context leaves nothing behind.
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", dpi=_RASTER_DPI, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save(figure: Figure, directory: Path, name: str, *, pdf: bool = False) -> str:
    """Writes name.svg and name.png (150 dots an inch), and name.pdf if asked, into the directory; returns the SVG."""
    text = svg_of(figure, salt=name)
    (directory / f"{name}.svg").write_text(text, encoding="utf-8")
    figure.savefig(directory / f"{name}.png", dpi=150, metadata={"Software": None})
    if pdf:
        blank = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(directory / f"{name}.pdf", dpi=_RASTER_DPI, metadata=blank)
    return text
