"""Figures along depth: layer numbers beside null bands, spectra of the context Jacobian, what arrives at the output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bridge.comparison.beside import random_directions
from bridge.comparison.conditions import CLEAN, ENCODER_STATES, conditions_of
from bridge.comparison.regimes import THRESHOLDS, Evidence, evidence, transmission
from bridge.reporting.figures import style

LAYER_PANELS = (
    ("sigma", "σ, largest singular value", "σ", "log"),
    ("gap", "ξ = σ₂/σ₁ (large means no gap)", "ξ", "linear"),
    ("bulk_gap", "bulk gap $\\xi_F$", "$\\xi_F$", "linear"),
    ("pinning", "$\\sigma\\,\\xi_F$, growth of the bulk", "$\\sigma\\,\\xi_F$", "log"),
    ("alignment", "alignment κ with the layer before", "κ", "linear"),
    ("gain", "gain ρ = σ κ", "ρ", "log"),
)


NULL_LOOKS = (
    ("random_weights", None, style.NULL_COLOUR),
    ("shuffled_layers", "////", "#8f99a3"),
    ("random_singular_vectors", "....", "#6f7a86"),
)


def layer_profiles(
    layers: pd.DataFrame, nulls: pd.DataFrame | None, model: str, state: str, *, narrow: bool = False
) -> Figure:
    """sigma, xi, xi_F, sigma xi_F, kappa and rho by layer: medians over clips, quartiles of clean, null bands.

    The alignment of random directions has a law (T22) and needs no records: its 95 % quantile is a dotted line.

    Args:
        layers: measured layers.
        nulls: layers of null models, or None.
        model: its name.
        state: "position" or "sequence".
        narrow: one column.
    """
    rows = _chosen(layers, model, state)
    if rows.empty:
        return style.nothing(f"{model}: the {state} state was not measured.", narrow=narrow)
    null = _chosen(nulls, model, state) if nulls is not None else rows.iloc[:0]
    figure, axes = style.grid_of_panels(len(LAYER_PANELS), columns=3, height=2.35, narrow=narrow)
    for one, (column, title, unit, scale) in zip(axes, LAYER_PANELS, strict=True):
        _null_band(one, null, column)
        for condition in conditions_of(rows):
            part = rows[rows["condition"] == condition]
            grouped = part.groupby("layer")[column]
            x = np.array(sorted(part["layer"].unique()))
            one.plot(
                x,
                grouped.median().to_numpy(),
                color=style.colour_of(condition),
                marker=style.marker_of(condition),
                markersize=3.5,
                linewidth=1.4,
                label=f"{condition} (median)",
            )
            if condition == CLEAN:
                low, high = (grouped.quantile(q).to_numpy() for q in (0.25, 0.75))
                one.fill_between(
                    x, low, high, color=style.colour_of(condition), alpha=0.16, linewidth=0, label="clean quartiles"
                )
        if column == "alignment":
            limit = float(random_directions(rows)["alignment_directions_q95"].median())
            dots = (0, (1, 1.5))
            one.axhline(limit, color=style.INK, linewidth=1.2, linestyle=dots, label="random directions, 95 % (exact)")
        if column in ("pinning", "gain"):
            one.axhline(1.0, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        if scale == "log":
            style.log_axis(one.yaxis)
        style.whole_layers(one, int(rows["layers"].max()))
        style.label(one, title, f"{_half(state)} layer", unit)
    style.note(axes[0], f"n = {rows['clip'].nunique()} clips, {state} state", y=0.97, va="top")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _half(state: str) -> str:
    return "encoder" if state in ENCODER_STATES else "decoder"


def _null_band(axes: Axes, null: pd.DataFrame, column: str) -> None:
    if null.empty:
        return
    for kind, hatch, colour in NULL_LOOKS:
        part = null[null["null"] == kind]
        grouped = part.groupby("layer")[column]
        if part.empty:
            continue
        x = np.array(sorted(part["layer"].unique()))
        axes.fill_between(
            x,
            grouped.quantile(0.025).to_numpy(),
            grouped.quantile(0.975).to_numpy(),
            facecolor=colour if hatch is None else "none",
            edgecolor=colour,
            hatch=hatch,
            alpha=0.5,
            linewidth=0,
            zorder=0.6,
            label=f"{str(kind).replace('_', ' ')}, 95 % of {part['draw'].nunique()} draws",
        )


def _chosen(layers: pd.DataFrame, model: str, state: str) -> pd.DataFrame:
    rows = layers[(layers["model"] == model) & (layers["state"] == state)]
    return rows.assign(pinning=rows["sigma"] * rows["bulk_gap"])


def _values(rows: pd.DataFrame) -> NDArray[np.float64]:
    """First k singular values of J_l of each row, NaN where not converged, shape (rows, k)."""
    width = max(len(value) for value in rows["context_s"])
    table = np.full((len(rows), width), np.nan)
    for index, value in enumerate(rows["context_s"]):
        table[index, : len(value)] = np.asarray(value, dtype=np.float64)
    return table


def context_spectra(
    layers: pd.DataFrame, nulls: pd.DataFrame | None, model: str, state: str, *, narrow: bool = False
) -> Figure:
    """Leading singular values of J_l along depth, clean against each stress, and the share of the first direction.

    Lines are geometric means over the clips measured under both conditions; bands are 95 % of the clean mean.
    """
    rows = _chosen(layers, model, state)
    stresses = [name for name in conditions_of(rows) if name != CLEAN]
    if rows.empty:
        return style.nothing(f"{model}: the {state} state was not measured.", narrow=narrow)
    panels = max(len(stresses), 1) + 1
    figure, axes = style.grid_of_panels(panels, columns=2 if panels <= 6 else 3, height=2.7, narrow=narrow)
    for one, stress in zip(axes, stresses or [CLEAN], strict=False):
        both = set(rows.loc[rows["condition"] == stress, "clip"]) & set(rows.loc[rows["condition"] == CLEAN, "clip"])
        for condition, line in ((CLEAN, "-"), (stress, (0, (4, 2)))):
            part = rows[(rows["condition"] == condition) & rows["clip"].isin(both)]
            if not part.empty:
                _spectrum_lines(one, part, condition, line)
        style.log_axis(one.yaxis)
        style.whole_layers(one, int(rows["layers"].max()))
        title = (
            f"$s_1, s_2, s_4, s_8$ of $J_l$: clean, {stress}" if stresses else "$s_1, s_2, s_4, s_8$ of $J_l$: clean"
        )
        style.label(one, title, f"{_half(state)} layer l", "singular value of $J_l$")
        style.note(one, f"n = {len(both)} clips")
    _share_panel(axes[-1], rows, nulls, model, state)
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _spectrum_lines(axes: Axes, part: pd.DataFrame, condition: str, line: object) -> None:
    depth = np.array(sorted(part["layer"].unique()))
    by_layer = [_values(part[part["layer"] == layer]) for layer in depth]
    ranks = [rank for rank in (1, 2, 4, 8) if rank <= min(table.shape[1] for table in by_layer)]
    for rank in ranks:
        logs = [np.log(table[:, rank - 1][table[:, rank - 1] > 0]) for table in by_layer]
        mean = np.array([one.mean() if len(one) else np.nan for one in logs])
        axes.plot(
            depth,
            np.exp(mean),
            color=style.colour_of(condition),
            linestyle=line,  # type: ignore[arg-type]
            linewidth=1.9 if rank == 1 else 1.0,
            alpha=1.0 if rank == 1 else 0.8,
            label=condition if rank == 1 else None,
        )
        if rank == 1 and condition == CLEAN:
            half = np.array([1.96 * one.std(ddof=1) / np.sqrt(len(one)) if len(one) > 1 else np.nan for one in logs])
            axes.fill_between(
                depth,
                np.exp(mean - half),
                np.exp(mean + half),
                color=style.colour_of(condition),
                alpha=0.15,
                linewidth=0,
            )


def _share_panel(axes: Axes, rows: pd.DataFrame, nulls: pd.DataFrame | None, model: str, state: str) -> None:
    if nulls is not None and not nulls.empty:
        _null_band(axes, _chosen(nulls, model, state), "context_share")
    conditions = conditions_of(rows)
    for place, condition in enumerate(conditions):
        part = rows[rows["condition"] == condition]
        grouped = part.groupby("layer")["context_share"]
        x = np.array(sorted(part["layer"].unique())) + style.beside(place, len(conditions), apart=0.06)
        mean, count = grouped.mean().to_numpy(), grouped.count().to_numpy()
        half = 1.96 * grouped.std().to_numpy() / np.sqrt(np.maximum(count, 1))
        axes.errorbar(
            x,
            mean,
            yerr=np.where(np.isfinite(half), half, 0.0),
            color=style.colour_of(condition),
            marker=style.marker_of(condition),
            markersize=3.5,
            linewidth=1.4,
            elinewidth=0.8,
            label=condition,
        )
    axes.axhline(THRESHOLDS.share, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1)
    style.whole_layers(axes, int(rows["layers"].max()))
    style.label(axes, "share of the first direction", f"{_half(state)} layer l", "$s_1^2\\,/\\,\\|J_l\\|_F^2$")
    style.note(axes, f"collapse from {THRESHOLDS.share:g}; bars 95 % of the mean", y=0.8)


ARRIVALS = (
    ("as measured", "$\\|P_{L:l+1} B_l\\|$"),
    ("over the injection's size", "$\\|P_{L:l+1} B_l\\|\\,/\\,\\|B_l\\|$"),
    ("scale-free (O8)", "$\\|P_{L:l+1} B_l\\|\\; r_l / r_L$"),
)


def arrival(layers: pd.DataFrame, model: str, states: Sequence[str], *, narrow: bool = False) -> Figure:
    """What the injection of each layer is worth at the output, by distance from the output.

    As measured, over the injection's own size (what the propagators make of it), and scale-free.
    """
    present = [state for state in states if not _chosen(layers, model, state).empty]
    if not present:
        return style.nothing(f"{model}: no context Jacobian was measured.", narrow=narrow)
    figure, axes = style.grid_of_panels(3 * len(present), columns=3, height=2.5, narrow=narrow)
    for index, state in enumerate(present):
        rows = _chosen(layers, model, state)
        depth = int(rows["layers"].max())
        seen = {
            condition: [evidence(one) for _, one in rows[rows["condition"] == condition].groupby("clip")]
            for condition in conditions_of(rows)
        }
        for kind, (title, unit) in enumerate(ARRIVALS):
            one = axes[3 * index + kind]
            for condition, measured in seen.items():
                _arrival_line(one, measured, condition, kind)
            if kind == 1:
                one.axhline(1.0, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
            style.log_axis(one.yaxis)
            one.set_xlim(depth - 0.7, -0.3)
            one.set_xticks(range(depth))
            style.label(one, f"{state} state, {title}", "layers to the output, L − l", unit)
        style.note(axes[3 * index], f"n = {rows['clip'].nunique()} clips; bars 95 % of the mean")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _arrival_line(axes: Axes, seen: Sequence[Evidence], condition: str, kind: int) -> None:
    if not seen:
        return
    curves = [(one.arrival, transmission(one.arrival, one.injection), one.arrival_scale_free)[kind] for one in seen]
    table = np.stack(curves)
    table = np.log(np.where(table > 0, table, np.nan))
    count = np.isfinite(table).sum(axis=0)
    total = np.nansum(table, axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    spread = np.sqrt(np.nansum((table - mean) ** 2, axis=0) / np.maximum(count - 1, 1) / np.maximum(count, 1))
    distance = np.arange(table.shape[1] - 1, -1, -1)
    half = 1.96 * np.where(count > 1, spread, 0.0)
    axes.errorbar(
        distance,
        np.exp(mean),
        yerr=[np.exp(mean) - np.exp(mean - half), np.exp(mean + half) - np.exp(mean)],
        color=style.colour_of(condition),
        marker=style.marker_of(condition),
        markersize=4,
        linewidth=1.4,
        elinewidth=0.8,
        label=condition,
    )
