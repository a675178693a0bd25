"""Word errors and rank of cross-attention along a ladder of one stress, from mild to severe."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.comparison.analysis import Analysis
from bridge.comparison.severity import severity_table
from bridge.reporting.figures import style
from bridge.reporting.figures.drawing import Drawing

_RANK = "change of $N_{eff}$ (%)"
_PANELS = (
    ("wer", "low", "high", "n", "word errors", "word error rate"),
    ("d_n_eff_50", "d_n_eff_50_low", "d_n_eff_50_high", "n_50", "pooled, K = 50", _RANK),
    ("d_n_eff_10", "d_n_eff_10_low", "d_n_eff_10_high", "n_10", "by clip, K = 10", _RANK),
)


def drawings(analysis: Analysis) -> list[Drawing]:
    """The figure of a run's ladders; none where it has no ladder."""
    table = severity_table(analysis.tables.clips, analysis.pooled, seed=analysis.tables.seed)
    if table.empty:
        return []
    return [
        Drawing(
            "severity",
            "From mild to severe",
            "To the right the stress is harder where it is an SNR, stronger or longer else. Where rank falls before "
            "the word errors pass the dashed line it could warn of them; where it falls with them or after, it cannot. "
            "Dotted: word errors of clean speech. N_eff is of cross-attention, mean over layers, both transcripts cut "
            "to the shorter; clip by clip it needs eleven tokens, which fewer clips have.",
            lambda narrow: severity(table, narrow=narrow),
        )
    ]


def severity(table: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """One row of panels a ladder: WER, pooled N_eff and N_eff clip by clip against what was varied, a line a model.

    Args:
        table: of `bridge.comparison.severity.severity_table`.
        narrow: one panel beside the other, or all in a column.
    """
    if table.empty:
        return style.nothing("No stress was measured at three severities or more.", narrow=narrow)
    groups = list(table.groupby(["ladder", "parameter"], sort=False))
    figure, axes = style.grid_of_panels(len(_PANELS) * len(groups), columns=len(_PANELS), height=2.5, narrow=narrow)
    models = list(dict.fromkeys(table["model"]))
    for number, ((ladder, _), rows) in enumerate(groups):
        own = axes[len(_PANELS) * number : len(_PANELS) * (number + 1)]
        for one, (effect, low, high, counted, title, unit) in zip(own, _PANELS, strict=True):
            for model, part in rows.groupby("model", sort=False):
                _line(one, part.sort_values("value"), (effect, low, high), models.index(model), len(models))
                if effect == "wer" and np.isfinite(part["clean_wer"].iloc[0]):
                    colour = _look(models.index(model))[0]
                    one.axhline(float(part["clean_wer"].iloc[0]), color=colour, linewidth=0.9, linestyle=(0, (1, 2)))
            if effect == "wer":
                one.axhline(0.5, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            else:
                one.axhline(0.0, color=style.INK, linewidth=0.8)
            fewest, most = int(rows[counted].min()), int(rows[counted].max())
            clips = f"n = {fewest} clips" if fewest == most else f"n = {fewest} to {most} clips"
            _axis(one, rows)
            _note(one, clips, rows, (low, high))
            style.label(one, f"{ladder}: {title}", str(rows["axis"].iloc[0]), unit)
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _look(place: int) -> tuple[str, str]:
    return (
        style.MODEL_COLOURS[place % len(style.MODEL_COLOURS)],
        style.MODEL_MARKERS[place % len(style.MODEL_MARKERS)],
    )


def _line(axes: Axes, part: pd.DataFrame, columns: tuple[str, str, str], place: int, count: int) -> None:
    known = part[part[columns[0]].notna()]
    x = known["value"].to_numpy(dtype=np.float64)
    effect, low, high = (known[name].to_numpy(dtype=np.float64) for name in columns)
    colour, marker = _look(place)
    span = float(np.ptp(part["value"])) or 1.0
    bars = np.maximum(np.nan_to_num([effect - low, high - effect]), 0.0)
    axes.errorbar(
        x + (place - (count - 1) / 2) * 0.008 * span,
        effect,
        yerr=bars,
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.3,
        elinewidth=0.9,
        label=str(part["model"].iloc[0]),
    )


def _note(axes: Axes, text: str, rows: pd.DataFrame, ends: tuple[str, str]) -> None:
    """In the left corner, upper or lower, that is farther from where the lines begin."""
    places = np.concatenate([rows[["value", end]].to_numpy(dtype=np.float64) for end in ends])
    inside = axes.transAxes.inverted().transform(axes.transData.transform(places[np.isfinite(places).all(axis=1)]))
    heights = inside[inside[:, 0] < 0.5, 1]  # the note is about half a panel wide
    low = heights.size > 0 and 1 - heights.max() < heights.min()
    style.note(axes, text, x=0.02, y=0.03 if low else 0.97, ha="left", va="bottom" if low else "top")


def _axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Ticks at what was measured; towards the right it gets worse, so an SNR falls."""
    values = np.unique(rows["value"].to_numpy(dtype=np.float64))
    if len(values) <= 8:
        axes.set_xticks(values, [f"{value:g}".replace("-", "−") for value in values])
    if rows["parameter"].iloc[0] == "snr_db":
        axes.invert_xaxis()
