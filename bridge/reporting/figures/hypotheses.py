"""Figures of the theorem's hypotheses: gap, alignment and certificate by block size, and subspaces beside chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.comparison.conditions import CLEAN, conditions_of
from bridge.reporting.figures import style
from theory.regimes.thresholds import PAPER_ALIGNMENT, PAPER_FIRST_ORDER_ERROR

_DASH = (0, (4, 3))


def hypotheses_by_block(summary: pd.DataFrame, model: str, *, narrow: bool = False) -> Figure:
    """By block size m: largest gap and smallest alignment, N xi / kappa, and both upper bounds over the measured norm.

    Args:
        summary: rows of `summarise_blocks`, medians over clips.
        model: its name; one row of panels a state.
        narrow: one column.
    """
    rows = summary[(summary["model"] == model) & (summary["n"] > 0)]
    states = list(dict.fromkeys(rows["state"]))
    if not states:
        return style.nothing(f"{model}: no blocks of layers were certified.", narrow=narrow)
    figure, axes = style.grid_of_panels(3 * len(states), columns=3, height=2.5, narrow=narrow)
    for index, state in enumerate(states):
        part = rows[rows["state"] == state]
        one, two, three = axes[3 * index : 3 * index + 3]
        for condition in conditions_of(part):
            _lines(one, two, three, part[part["condition"] == condition].sort_values("block"), condition)
        one.axhline(PAPER_ALIGNMENT, color=style.INK, linewidth=0.9, linestyle=_DASH)
        two.axhline(PAPER_FIRST_ORDER_ERROR, color=style.INK, linewidth=0.9, linestyle=_DASH)
        three.axhline(1.0, color=style.INK, linewidth=0.9, linestyle=_DASH)
        one.set_ylim(0, 1)
        style.note(one, f"κ near 1: above {PAPER_ALIGNMENT:g}", y=PAPER_ALIGNMENT - 0.09)
        low = min(0.1, float(part["first_order_error"].min(skipna=True) or 1.0))
        two.set_ylim(low / 2, max(1.0, float(part["first_order_error"].max())) * 2)
        half = int(part.loc[part["headline"], "block"].max()) if part["headline"].any() else 0
        for axis in (one, two, three):
            axis.set_xticks(sorted(part["block"].unique()))
            if 0 < half < part["block"].max():
                axis.axvspan(half + 0.5, float(part["block"].max()) + 0.4, color=style.GRID, alpha=0.6, linewidth=0)
            axis.set_xlim(float(part["block"].min()) - 0.4, float(part["block"].max()) + 0.4)
        style.log_axis(two.yaxis)
        style.log_axis(three.yaxis)
        style.note(two, f"ξ ≪ 1: below {PAPER_FIRST_ORDER_ERROR:g}", y=0.04)
        style.note(three, f"n = {_counts(part)} clips", y=0.97, va="top")
        style.label(one, f"{state} state: ξ (○) and κ (●)", "layers a block, m", "largest ξ, smallest κ")
        style.label(two, "N ξ / κ, small in the theorem", "layers a block, m", "N ξ / κ")
        style.label(three, "upper bound over $\\|J_L\\|$", "layers a block, m", "bound / measured")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _lines(one: Axes, two: Axes, three: Axes, rows: pd.DataFrame, condition: str) -> None:
    x = rows["block"].to_numpy()
    colour = style.colour_of(condition)
    look = {"color": colour, "markersize": 4, "linewidth": 1.3, "marker": "o"}
    one.plot(x, rows["gap_largest"], markerfacecolor="white", linestyle=_DASH, **look)
    one.plot(x, rows["alignment_smallest"], label=condition, **look)
    two.plot(x, rows["first_order_error"], **look)
    three.plot(x, rows["cone_upper_over_norm"], **look)
    three.plot(
        x,
        rows["trivial_over_norm"],
        color=colour,
        linewidth=0.9,
        linestyle=(0, (1, 1.5)),
        label="triangle inequality alone" if condition == CLEAN else None,
    )


def _counts(rows: pd.DataFrame) -> str:
    least, most = int(rows["n"].min()), int(rows["n"].max())
    return str(least) if least == most else f"{least} to {most}"


def subspace_overlaps(summary: pd.DataFrame, models: list[str], *, narrow: bool = False) -> Figure:
    """Overlap of the r leading directions of consecutive layers against r, beside its exact null.

    Args:
        summary: rows of `summarise_subspaces`.
        models: in the order of the panels, one a model and state.
        narrow: one column.
    """
    order = {name: place for place, name in enumerate(models)}
    panels = summary[summary["n"] > 0][["model", "state"]].drop_duplicates()
    panels = panels.assign(place=panels["model"].map(order)).sort_values(["place", "state"])
    if panels.empty:
        return style.nothing("No leading subspaces were measured.", narrow=narrow)
    figure, axes = style.grid_of_panels(len(panels), columns=2, height=2.6, narrow=narrow)
    for axis, (model, state) in zip(axes, panels[["model", "state"]].itertuples(index=False), strict=True):
        rows = summary[(summary["model"] == model) & (summary["state"] == state) & (summary["n"] > 0)]
        ranks = sorted(rows["rank"].unique())
        conditions = conditions_of(rows)
        for place, condition in enumerate(conditions):
            part = rows[rows["condition"] == condition].sort_values("rank")
            shift = 2.0 ** style.beside(place, len(conditions))  # side by side on the logarithmic axis
            middle = part["overlap"].to_numpy()
            ends = np.abs(np.stack([part["overlap_low"].to_numpy(), part["overlap_high"].to_numpy()]) - middle)
            axis.errorbar(
                part["rank"].to_numpy() * shift,
                middle,
                yerr=ends,
                color=style.colour_of(condition),
                marker=style.marker_of(condition),
                markersize=4,
                linewidth=1.2,
                elinewidth=0.8,
                label=f"{condition} (median, quartiles)",
            )
        null = rows.groupby("rank")[["null_overlap", "null_overlap_high"]].median()
        axis.plot(null.index, null["null_overlap"], color=style.MUTED, linewidth=1.2, label="chance, r / D")
        axis.plot(
            null.index,
            null["null_overlap_high"],
            color=style.MUTED,
            linewidth=1.2,
            linestyle=(0, (1, 1.5)),
            label="chance, 95 %",
        )
        kept = rows.groupby("rank")["kept_overlap_high"].median()
        if kept.notna().any():
            axis.plot(kept.index, kept, color=style.INK, linewidth=1.2, linestyle=_DASH, label="positions kept, 95 %")
        axis.set_xscale("log", base=2)
        axis.set_xticks(ranks, [str(rank) for rank in ranks])
        axis.minorticks_off()
        axis.set_ylim(0, max(0.1, 1.15 * float(rows[["overlap_high", "kept_overlap_high"]].max().max())))
        style.note(axis, f"n = {_counts(rows)} pairs of layers", y=0.97, va="top", x=0.6)
        style.label(axis, f"{model}, {state} state", "leading directions, r", "overlap, share in [0, 1]")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure
