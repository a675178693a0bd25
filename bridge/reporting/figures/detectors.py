"""Figure of what tells a failure: the AUROC of each detector for each label, one colour a model."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bridge.comparison.analysis import Analysis
from bridge.comparison.detectors import CIRCULAR, CONFIDENCE, JACOBIAN, MEAN_OF_LAYERS, PROXIES, SCOPES
from bridge.reporting.detector_tables import SCOPE_TITLES, TITLES, most_rows
from bridge.reporting.figures import style
from bridge.reporting.figures.activations import COMPONENTS
from bridge.reporting.figures.drawing import Drawing
from bridge.reporting.label_tables import TITLES as LABEL_TITLES
from empirical.recognition.labels import LABELS

_ROW, _LETTER = 0.19, 0.058
"""Height of a detector's row for each model up to three, and width of a letter of its name, in inches."""
_LINE = 0.15
"""Height of a model's line of counts, in inches."""


def drawings(analysis: Analysis) -> list[Drawing]:
    """The figures of this run, in order; none where nothing is told."""
    table = analysis.tables.detectors
    if table is None or table.empty:
        return []
    return [
        Drawing(
            f"detectors-{scope}",
            f"How well each number tells a failure, {SCOPE_TITLES[scope]}",
            "A mark is the AUROC of one detector for one label with its 95 % interval over clips, on all clips (the "
            "table below tests the best ones on clips they were not chosen on); hollow where too few clips have the "
            "label for an interval. On the line at 0.5 a number is blind; left of it it goes against the direction "
            "fixed beforehand. Activations' numbers are means over layers; single layers are in the folded tables. "
            "Beneath each panel, model by model: transcripts that have the label, of how many that were asked.",
            partial(detector_forest, table, scope, analysis.tables.models),
        )
        for scope in SCOPES
        if (table["scope"] == scope).any()
    ]


def detector_forest(table: pd.DataFrame, scope: str, models: list[str], narrow: bool = False) -> Figure:
    """AUROC of the detectors that belong to no single layer, one panel a label that has an interval anywhere.

    Args:
        table: of `comparison.detectors.baseline`.
        scope: of SCOPES.
        models: in their order.
        narrow: one column.
    """
    part = table[(table["scope"] == scope) & (table["layer"].isna() | (table["layer"] == MEAN_OF_LAYERS))]
    known = part[part["low"].notna()]
    labels = [name for name in LABELS if (known["label"] == name).any()]
    if not labels:
        return style.nothing("Too few clips have any label, or lack it, for an interval.", narrow=narrow)
    rows = sorted(set(zip(part["detector"], part["part"], strict=True)), key=_block)
    names = [_title(detector, where) for detector, where in rows]
    width = style.NARROW_INCHES if narrow else style.WIDE_INCHES
    left = 0.15 + _LETTER * max(len(name) - 12 * name.count("mathrm") for name in names)
    across = 1 if narrow else min(len(labels), 4)
    down = math.ceil(len(labels) / across)
    high = len(rows) * _ROW * (0.75 + 0.25 * min(len(models), 4))
    above, below = 0.3, 0.5 + _LINE * len(models)
    total = 0.3 + down * (above + high + below)
    figure = Figure(figsize=(width, total), facecolor="white")
    each = (width - left - 0.1) / across
    for index, label in enumerate(labels):
        row, column = divmod(index, across)
        bottom = total - 0.3 - row * (above + high + below) - above - high
        box = (left + column * each + 0.06, bottom, each - 0.16, high)
        axes = figure.add_axes((box[0] / width, box[1] / total, box[2] / width, box[3] / total))
        style.quiet(axes)
        own = part[part["label"] == label]
        _panel(axes, own, rows, models, label)
        axes.set_yticks(range(len(rows)), names if column == 0 else [""] * len(rows), fontsize=8, color=style.INK)
        _counts(axes, own, models, high)
        style.label(axes, LABEL_TITLES[label], "AUROC", "")
    handles = [
        Line2D([], [], color=_colour(index), marker=_marker(index), linewidth=1.2, markersize=4, label=name)
        for index, name in enumerate(models)
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.005, 0.995),
        ncols=max(1, min(len(models), int(width / (0.8 + 0.075 * max(map(len, models)))))),
        fontsize=8.5,
        frameon=False,
        labelcolor=style.INK,
        borderaxespad=0.1,
    )
    return figure


def _counts(axes: Axes, own: pd.DataFrame, models: list[str], high: float) -> None:
    """Below the axis, a line a model behind its mark: how many transcripts have the label, of how many.

    Args:
        axes: the panel.
        own: rows of its label.
        models: in their order.
        high: height of the panel in inches.
    """
    for index, model in enumerate(models):
        rows = own[own["model"] == model]
        holds, not_so = most_rows(rows) if len(rows) else (0, 0)
        y = -(0.46 + _LINE * (index + 0.5)) / high
        axes.plot(
            [0.12], [y], marker=_marker(index), markersize=4, color=_colour(index), transform=axes.transAxes,
            clip_on=False, linestyle="none",
        )  # fmt: skip
        axes.text(
            0.17, y, f"{holds} of {holds + not_so} have it", transform=axes.transAxes, fontsize=7.5, color=style.INK,
            va="center_baseline",
        )  # fmt: skip


def _panel(axes: Axes, own: pd.DataFrame, rows: list[tuple[str, str]], models: list[str], label: str) -> None:
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "", "0.5", "", "1"])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0.5, color=style.MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
    axes.grid(False, axis="y")
    place = {key: index for index, key in enumerate(rows)}
    apart = 0.7 / max(len(models), 2)
    for index, model in enumerate(models):
        shift = (index - (len(models) - 1) / 2) * apart
        for one in own[own["model"] == model].to_dict("records"):
            if one["circular"]:
                continue
            y = place[one["detector"], one["part"]] + shift
            sure = pd.notna(one["low"])
            if sure:
                axes.plot([one["low"], one["high"]], [y, y], color=_colour(index), linewidth=1.1, zorder=2)
            face = _colour(index) if sure else "white"
            axes.plot(
                [one["auroc"]], [y], marker=_marker(index), markersize=3.8, color=_colour(index), zorder=3,
                markerfacecolor=face, linestyle="none", clip_on=False,
            )  # fmt: skip
    for (detector, where), y in place.items():
        if y and _block((detector, where))[0] != _block(rows[y - 1])[0]:
            axes.axhline(y - 0.5, color=style.GRID, linewidth=1.0)
        if detector in CIRCULAR.get(label, ()):
            axes.text(0.02, y, "circular", fontsize=7, color=style.MUTED, va="center")


def _block(row: tuple[str, str]) -> tuple[int, str, int]:
    """Place of a detector: numbers of the clip first, then by component, then by state of the Jacobian."""
    detector, where = row
    if detector in CONFIDENCE and where == "clip":
        return 0, "", list(CONFIDENCE).index(detector)
    if detector in PROXIES:
        return 1, _place(where), list(PROXIES).index(detector)
    return 2, where, list(JACOBIAN).index(detector)


def _place(component: str) -> str:
    """A component's place in the paper's tables, as a text that sorts."""
    return f"{COMPONENTS.index(component)}" if component in COMPONENTS else component


def _title(detector: str, where: str) -> str:
    title = TITLES.get(detector, detector).replace("high share of J_L's first direction", "high share of J_L")
    title = title.replace("low effective rank of J_L", "low rank of J_L")
    for plain, symbol in (("N_eff", r"$N_\mathrm{eff}$"), ("K_f", "$K_f$"), ("J_L", "$J_L$")):
        title = title.replace(plain, symbol)
    return title if where == "clip" else f"{title}, {where}"


def _colour(index: int) -> str:
    return style.MODEL_COLOURS[index % len(style.MODEL_COLOURS)]


def _marker(index: int) -> str:
    return style.MODEL_MARKERS[index % len(style.MODEL_MARKERS)]
