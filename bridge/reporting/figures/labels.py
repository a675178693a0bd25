"""Figures of what the failures of a run are: shares of the labels by condition, and how far the labels agree.

Each is a table set in colour: a row a condition (or label), a column a label, so that ten conditions take ten lines and
no more, and a number stands in each cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import in_order
from bridge.comparison.labelling import EVERYTHING, STRESSED
from bridge.reporting.figures import style
from bridge.reporting.figures.drawing import Drawing
from bridge.reporting.label_tables import COMPOSED, POOLED, TITLES, cells, records
from empirical.recognition.labels import LABELS

_CELL, _LINE = 0.36, 0.15
"""Height of a row of cells and of a line of small letters, in inches."""
_LETTER = 0.062
"""Width of a letter of row names, in inches."""
_BREAKS = re.compile(r"[+:]|(?<=[a-z])-(?=[a-z])")


_SHARES = (
    (
        "composition",
        COMPOSED,
        "What “WER > 0.5” is made of",
        "A row is the failed transcripts of one condition (how many stands beside it), a column a label; the number is "
        "the share of them in % that it holds for, below it the 95 % interval. Labels overlap. “None of these” failed "
        "in a way that no label names.",
    ),
    (
        "shares",
        LABELS,
        "How often each label holds",
        "A row is the transcripts of one condition, a column a label; the number is the share in % that it holds for, "
        "below it the 95 % interval; a dash where the question has no answer.",
    ),
)
"""Maps of shares: which records, which labels, title and how to read it."""


def drawings(analysis: Analysis) -> list[Drawing]:
    """The figures of this run, in order; none where nothing is labelled."""
    made = []
    for kind, columns, title, how_to_read in _SHARES:
        rows = records(analysis, kind)
        if any(row["n"] for row in rows):
            made.append(Drawing(f"failures-{kind}", title, how_to_read, partial(_drawn, label_map, rows, columns)))
    agreement = records(analysis, "agreement")
    if any(row["code"] != "constant" for row in agreement):
        made.append(
            Drawing(
                "failures-agreement",
                "Whether the labels say the same",
                "Cohen's κ of two labels over all conditions: 1 for the same label, 0 for chance, below the 95 % "
                "interval over clips. A dash: one of the two holds everywhere or nowhere, or they share no transcript.",
                partial(_drawn, kappa_map, agreement),
            )
        )
    return made


def label_map(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *, narrow: bool = False) -> Figure:
    """Shares of labels by condition, one panel a model.

    Args:
        rows: of `comparison.labelling.label_shares` or `composition`.
        labels: columns, those without any answer left out.
        narrow: one column.
    """
    names = [name for name in labels if any(row["n"] for row in rows if row["label"] == name)]
    by_cell = cells([dict(row) for row in rows])
    if not names or not by_cell:
        return style.nothing("No transcript has a label.", narrow=narrow)
    models = list(dict.fromkeys(model for model, _ in by_cell))
    seen = {condition for _, condition in by_cell}
    conditions = [*in_order(seen - {STRESSED, EVERYTHING}), *(name for name in (STRESSED, EVERYTHING) if name in seen)]
    panels = []
    for model in models:
        values = np.full((len(conditions), len(names)), np.nan)
        texts = [["–"] * len(names) for _ in conditions]
        titles = []
        for row, condition in enumerate(conditions):
            own = by_cell.get((model, condition), {})
            titles.append(f"{POOLED.get(condition, condition)} ({max([one['n'] for one in own.values()], default=0)})")
            for column, name in enumerate(names):
                one = own.get(name)
                if one is not None and one["n"]:
                    values[row, column] = 100.0 * one["share"]
                    texts[row][column] = f"{100 * one['share']:.0f}\n{100 * one['low']:.0f}–{100 * one['high']:.0f}"
        panels.append((model, titles, values, texts))
    ramp = matplotlib.colormaps["Blues"]
    return _maps(panels, names, ramp, Normalize(0.0, 130.0), narrow=narrow)


def kappa_map(rows: Sequence[Mapping[str, Any]], *, narrow: bool = False) -> Figure:
    """Cohen's kappa of every pair of labels, one panel a model.

    Args:
        rows: of `comparison.labelling.agreement_of_labels`.
        narrow: one column.
    """
    known = [row for row in rows if row["code"] != "constant"]
    names = [name for name in LABELS if any(name in (row["first"], row["second"]) for row in known)]
    if not names:
        return style.nothing("No two labels vary.", narrow=narrow)
    panels = []
    for model in dict.fromkeys(str(row["model"]) for row in rows):
        values = np.full((len(names), len(names)), np.nan)
        texts = [["" if row == column else "–" for column in range(len(names))] for row in range(len(names))]
        for one in known:
            if one["model"] != model:
                continue
            text = f"{one['kappa']:.2f}".replace("-", "−")
            if one["low"] is not None and math.isfinite(one["low"]):
                between = " to " if one["low"] < 0 else "–"
                text += f"\n{one['low']:.2f}{between}{one['high']:.2f}".replace("-", "−")
            for first, second in ((one["first"], one["second"]), (one["second"], one["first"])):
                place = names.index(first), names.index(second)
                values[place], texts[place[0]][place[1]] = one["kappa"], text
        most = max((one["n"], one["clips"]) for one in rows if one["model"] == model)
        title = f"{model}: {most[0]} transcripts of {most[1]} clips"
        panels.append((title, [TITLES[name] for name in names], values, texts))
    return _maps(panels, names, matplotlib.colormaps["PuOr"], Normalize(-1.4, 1.4), narrow=narrow)


def _drawn(figure: Any, *arguments: Any) -> Figure:
    """For `Drawing.draw`, which gives `narrow` last and by place."""
    *rest, narrow = arguments
    return figure(*rest, narrow=narrow)


def _maps(
    panels: Sequence[tuple[str, list[str], np.ndarray, list[list[str]]]],
    names: Sequence[str],
    ramp: Colormap,
    norm: Normalize,
    *,
    narrow: bool,
) -> Figure:
    """One map a panel: title, names of the rows, values (NaN: no colour) and texts of the cells."""
    width = style.NARROW_INCHES if narrow else style.WIDE_INCHES
    across = 1 if narrow else min(2, len(panels))
    letters = 17 if narrow else 22
    wrapped = [[_wrapped(title, letters) for title in titles] for _, titles, _, _ in panels]
    longest = max(len(line) for titles in wrapped for title in titles for line in title.splitlines())
    left = 0.2 + _LETTER * longest
    # A lone panel of three columns need not fill ten inches.
    cell = min(0.78, (width / across - left - 0.15) / len(names))
    heads = [_wrapped(TITLES[name], 11) for name in names]
    above = 0.34 + _LINE * max(head.count("\n") + 1 for head in heads)
    lines = max(title.count("\n") + 1 for titles in wrapped for title in titles)
    each = max(_CELL, 0.06 + _LINE * lines)
    high = max(len(titles) for titles in wrapped) * each
    down = math.ceil(len(panels) / across)
    total = down * (above + high + 0.12) + 0.05
    figure = Figure(figsize=(width, total), facecolor="white")
    for index, ((title, _, values, texts), rows) in enumerate(zip(panels, wrapped, strict=True)):
        row, column = divmod(index, across)
        top = total - 0.05 - row * (above + high + 0.12) - above
        mine = len(rows) * each
        box = (column * width / across + left, top - mine, cell * len(names), mine)
        axes = figure.add_axes((box[0] / width, box[1] / total, box[2] / width, box[3] / total))
        _map(axes, values, texts, rows, heads, ramp, norm, wide=cell > 0.6)
        axes.text(
            -left * 0.96 / box[2],
            1 + (above - 0.06) / mine,
            title,
            transform=axes.transAxes,
            fontsize=9.5,
            color=style.INK,
            fontweight="bold",
            va="top",
        )
    return figure


def _map(
    axes: Axes,
    values: np.ndarray,
    texts: list[list[str]],
    rows: Sequence[str],
    heads: Sequence[str],
    ramp: Colormap,
    norm: Normalize,
    *,
    wide: bool,
) -> None:
    axes.spines[:].set_visible(False)
    axes.set_xlim(0, len(heads))
    axes.set_ylim(len(rows), 0)
    for row in range(len(rows)):
        for column in range(len(heads)):
            known = bool(np.isfinite(values[row, column]))
            colour = ramp(norm(values[row, column])) if known else (1.0, 1.0, 1.0, 1.0)
            axes.add_patch(
                Rectangle(
                    (column + 0.02, row + 0.03), 0.96, 0.94, facecolor=colour, edgecolor=style.GRID, linewidth=0.6
                )
            )
            dark = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) < 0.55
            first, _, second = texts[row][column].partition("\n")
            ink = "white" if dark else style.INK
            lines = [(0.36 if second else 0.5, first, 8.5), (0.74, second, 6.3 if wide else 5.6)]
            for down, text, size in lines:
                axes.text(column + 0.5, row + down, text, fontsize=size, color=ink, ha="center", va="center")
    axes.set_xticks([index + 0.5 for index in range(len(heads))], heads, fontsize=7.6 if wide else 5.9, color=style.INK)
    axes.set_yticks([index + 0.5 for index in range(len(rows))], rows, fontsize=8.0, color=style.INK)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)


def _wrapped(text: str, letters: int) -> str:
    """Lines of so many letters; a label of the grammar is broken after + and : too, a word after its
    hyphen, a number nowhere."""
    spaced = _BREAKS.sub("\\g<0>\u200b ", text)
    return "\n".join(wrap(spaced, letters, break_long_words=True)).replace("\u200b ", "").replace("\u200b", "")
