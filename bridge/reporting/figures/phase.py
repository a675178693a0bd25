"""The phase map: growth of synthetic chains over gain and alignment, with the measured layers on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray

import theory
from bridge.comparison.tables import CLEAN
from bridge.reporting.figures import style

LIMIT_NATS = 1.0
BOUNDARIES = {
    "paper": ("-", "#1d2733", 1.6, "the paper: ρ = 1 (P2)"),
    "certified_I": ((0, (1, 1.2)), "#1d2733", 1.5, "left of it Regime I certain: $\\sigma\\Lambda_{max} = 1$ (T5)"),
    "certified_II": ((0, (5, 1.6)), "#1d2733", 1.5, "right of it Regime II certain: $\\sigma\\Lambda_{min} = 1$ (T6)"),
    "mean_field": ("-", "#0b8f66", 2.0, "mean field: σ max(κ, ξ) = 1 (T18)"),
}


def phase_map(
    sweep: xr.Dataset, layers: pd.DataFrame | None = None, *, narrow: bool = False, depth: int | None = None
) -> Figure:
    """ln ||P_L|| a layer over gain and alignment, one panel a gap, with boundaries and the models' layers.

    Args:
        sweep: dataset of `theory.sweep`.
        layers: measured layers; each model's medians over clips stand on the panel whose gap is nearest to their bulk
            gap xi_F: the swept chains have flat residuals, whose xi_F is their xi, and it is xi_F that sets the colour.
        narrow: one column.
        depth: which depth of the sweep; if None the one nearest to the models' depth, the largest without models.
    """
    chosen = _depth(sweep, layers) if depth is None else depth
    dimension = int(np.asarray(sweep["dimension"].values).max())
    gaps = np.asarray(sweep["gap"].values, dtype=np.float64)
    points = measured_points(layers) if layers is not None else pd.DataFrame(columns=["bulk_gap"])
    figure, axes = style.grid_of_panels(len(gaps), columns=3, height=3.4, narrow=narrow, right=0.0 if narrow else 0.75)
    lowest = float(points["gain"].min()) * 0.8 if len(points) else np.inf
    mesh = None
    for one, gap in zip(axes, gaps, strict=True):
        one.grid(False)
        cells = sweep.sel(gap=gap, depth=chosen, dimension=dimension).transpose("alignment", "gain")
        near = (
            np.abs(points["bulk_gap"].to_numpy(dtype=np.float64)[:, None] - gaps).argmin(axis=1) if len(points) else []
        )
        here = points[np.asarray(near) == int(np.argmin(np.abs(gaps - gap)))] if len(points) else points
        gain, growth = _extended(cells["gain"].values, cells["log_norm"].values / chosen, lowest)
        alignment = cells["alignment"].values
        mesh = one.pcolormesh(
            gain,
            alignment,
            growth,
            cmap="PuOr_r",
            vmin=-LIMIT_NATS,
            vmax=LIMIT_NATS,
            shading="nearest",
            rasterized=True,
        )
        _boundaries(one, gap)
        _points(one, here, [] if layers is None else list(dict.fromkeys(layers["model"])))
        one.set_xlim(float(gain.min()), float(gain.max()))
        style.log_axis(one.xaxis)
        one.set_ylim(0.0, 1.0)
        style.label(one, f"gap ξ = {gap:g} (flat residual)", "gain ρ = σ κ", "alignment κ")
        style.note(one, f"L = {chosen}, d = {dimension}")
    if mesh is not None:
        _colour_bar(figure, axes, mesh, narrow=narrow)
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _colour_bar(figure: Figure, axes: list[Axes], mesh: QuadMesh, *, narrow: bool) -> None:
    """The scale of the map: right of the panels, or below them where they are stacked."""
    width, height = figure.get_size_inches()
    if narrow:
        style.raise_bottom(figure, 0.62)
        height = float(figure.get_size_inches()[1])
        box = (0.62 / width, 0.42 / height, 1 - 0.8 / width, 0.12 / height)
    else:
        x0, y0, w, h = axes[-1].get_position(original=True).bounds
        box = (x0 + w + 0.2 / width, y0, 0.12 / width, h)
    bar = figure.colorbar(
        mesh, cax=figure.add_axes(box), extend="both", orientation="horizontal" if narrow else "vertical"
    )
    bar.set_label("$\\ln \\|P_L\\| / L$ (nats a layer)", fontsize=8.5, color=style.INK)
    bar.ax.tick_params(labelsize=8, colors=style.MUTED)


def measured_points(layers: pd.DataFrame) -> pd.DataFrame:
    """Median gain, alignment and gap of each model's layers 2..L, clean and stressed apart; position state if there."""
    state = "position" if (layers["state"] == "position").any() else "sequence"
    rows = layers[(layers["state"] == state) & (layers["layer"] >= 2)]
    rows = rows.assign(stressed=rows["condition"] != CLEAN)
    grouped = rows.groupby(["model", "layer", "stressed"])[["gain", "alignment", "gap", "bulk_gap"]].median()
    return grouped.reset_index().dropna()


def _points(axes: Axes, points: pd.DataFrame, models: list[str]) -> None:
    for index, model in enumerate(models):
        mine = points[points["model"] == model]
        for stressed in (False, True):
            part = mine[mine["stressed"] == stressed]
            if part.empty:
                continue
            axes.plot(
                part["gain"],
                part["alignment"],
                linestyle="none",
                marker=style.MODEL_MARKERS[index % len(style.MODEL_MARKERS)],
                markersize=6,
                markerfacecolor="white" if stressed else style.INK,
                markeredgecolor=style.INK,
                markeredgewidth=0.9,
                label=f"{model}, {'stressed' if stressed else 'clean'}",
                clip_on=True,
                zorder=5,
            )


def _boundaries(axes: Axes, gap: float) -> None:
    grid = np.linspace(1e-3, 1.0, 400)
    curves = theory.boundary_curves(gap, grid)
    for name, (line, colour, width, text) in BOUNDARIES.items():
        axes.plot(curves[name], grid, linestyle=line, color=colour, linewidth=width, label=text, zorder=4)  # type: ignore[arg-type]


def _depth(sweep: xr.Dataset, layers: pd.DataFrame | None) -> int:
    depths = np.asarray(sweep["depth"].values)
    if layers is None:
        return int(depths.max())
    typical = float(layers.groupby("model")["layers"].first().median())
    return int(max(depths[np.abs(depths - typical) == np.abs(depths - typical).min()]))


def _extended(
    gain: NDArray[np.float64], growth: NDArray[np.float64], lowest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The map carried on to lower gains: ||P_L|| scales with gain^L exactly, so growth a layer moves by ln gain."""
    if lowest >= gain[0]:
        return gain, growth
    ratio = gain[1] / gain[0]
    count = int(np.ceil(np.log(gain[0] / lowest) / np.log(ratio)))
    more = gain[0] * ratio ** -np.arange(count, 0, -1, dtype=np.float64)
    return np.concatenate([more, gain]), np.concatenate([growth[:, :1] + np.log(more / gain[0]), growth], axis=1)
