"""Figures of regimes: growth against share, the certificate against the measured norm."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bridge.comparison.conditions import conditions_of
from bridge.comparison.regimes import THRESHOLDS
from bridge.reporting.figures import style


def regime_plane(comparison: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Every clip in the plane of (O7): growth g with its interval against the share of the first direction of J_L."""
    if comparison.empty:
        return style.nothing("No context Jacobian was measured.", narrow=narrow)
    panels = list(comparison[["model", "state"]].drop_duplicates().itertuples(index=False))
    figure, axes = style.grid_of_panels(len(panels), columns=2, height=3.0, narrow=narrow)
    for one, (model, state) in zip(axes, panels, strict=True):
        rows = comparison[(comparison["model"] == model) & (comparison["state"] == state)]
        for condition in conditions_of(rows):
            part = rows[rows["condition"] == condition]
            x = part["growth"].to_numpy(dtype=np.float64)
            ends = [
                x - part["growth_low"].to_numpy(dtype=np.float64),
                part["growth_high"].to_numpy(dtype=np.float64) - x,
            ]
            drawn = one.errorbar(
                x,
                part["share"],
                xerr=np.nan_to_num(ends),
                linestyle="none",
                color=style.colour_of(condition),
                marker=style.marker_of(condition),
                markersize=4,
                elinewidth=0.5,
                alpha=0.75,
                label=condition,
            )
            for artist in drawn.get_children():
                artist.set_rasterized(style.crowded(len(comparison)))
        one.axvline(THRESHOLDS.growth, color=style.INK, linewidth=0.9)
        one.axhline(THRESHOLDS.share, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        null = rows["share_null95"].dropna()
        if len(null):
            one.axhline(float(null.iloc[0]), color=style.NULL_COLOUR, linewidth=1.4, label="nulls, 95 % quantile")
        reach = max(abs(end) for end in one.get_xlim())
        one.set_xlim(-reach, reach)
        one.set_ylim(0, 1.02)
        for x_place, y_place, text in (
            (0.02, 0.975, "coherent decay"),
            (0.98, 0.975, "attractor"),
            (0.02, 0.84, "dispersive decay"),
            (0.98, 0.84, "dispersive growth"),
        ):
            ha = "left" if x_place < 0.5 else "right"
            style.note(one, text, x=x_place, y=y_place, ha=ha, va="top")
        style.label(
            one, f"{model}, {state} state", "growth g (nats a layer), 95 % interval", "share of the first direction"
        )
        style.note(one, f"n = {rows['clip'].nunique()} clips, {len(rows)} points")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def certificate_gap(comparison: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Measured ||J_L|| against the certificate's upper bound (T15): on the diagonal the bound would be tight."""
    known = comparison[np.isfinite(comparison["norm"]) & np.isfinite(comparison["log10_norm_upper"])]
    if known.empty:
        return style.nothing("No certificate could be computed.", narrow=narrow)
    panels = list(known[["model", "state"]].drop_duplicates().itertuples(index=False))
    figure, axes = style.grid_of_panels(len(panels), columns=2, height=2.9, narrow=narrow)
    for one, (model, state) in zip(axes, panels, strict=True):
        rows = known[(known["model"] == model) & (known["state"] == state)]
        for condition in conditions_of(rows):
            part = rows[rows["condition"] == condition]
            one.plot(
                part["norm"],
                10 ** part["log10_norm_upper"],
                linestyle="none",
                marker=style.marker_of(condition),
                markersize=4,
                color=style.colour_of(condition),
                alpha=0.8,
                label=condition,
                rasterized=style.crowded(len(known)),
            )
        ends = np.array([rows["norm"].min(), (10 ** rows["log10_norm_upper"]).max()])
        one.plot(ends, ends, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), label="tight")
        style.log_axis(one.xaxis)
        style.log_axis(one.yaxis)
        factor = float(np.median(10 ** rows["log10_norm_upper"] / rows["norm"]))
        style.label(one, f"{model}, {state} state", "measured $\\|J_L\\|$", "certified upper bound")
        style.note(one, f"median bound / norm = {factor:.3g}; n = {len(rows)}")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure
