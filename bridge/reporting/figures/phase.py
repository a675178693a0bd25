"""The phase map: growth of synthetic chains over gain and alignment, with the measured layers on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import theory
from bridge.comparison.conditions import CLEAN
from bridge.reporting.figures import style

LIMIT_NATS = 1.0
WHISPER_DIMENSION = 1280
MEASURED_COLOUR = "#b3003c"
OPEN = "open end"
"""Of the marks of intervals that have an end beyond the values searched."""
MEASURED = "measured: median $\\|P_L\\|$ = 1, with its interval"
BOUNDARIES = {
    "paper": ("-", "#1d2733", 1.6, "the paper: ρ = 1 (P2)"),
    "certified_I": ((0, (1, 1.2)), "#1d2733", 1.5, "left of it Regime I certain: $\\sigma\\Lambda_{max} = 1$ (T5)"),
    "certified_II": ((0, (5, 1.6)), "#1d2733", 1.5, "right of it Regime II certain: $\\sigma\\Lambda_{min} = 1$ (T6)"),
    "mean_field": ("-", "#0b8f66", 1.8, "mean field: σ max(κ, ξ) = 1 (T18)"),
}


def phase_map(
    sweep: xr.Dataset, layers: pd.DataFrame | None = None, *, narrow: bool = False, depth: int | None = None
) -> Figure:
    """ln ||P_L|| a layer over gain and alignment, one panel a gap, with boundaries and the models' layers.

    Args:
        sweep: dataset of `theory.sweep`.
        layers: measured layers; each model's medians over clips stand on the panel whose gap is nearest to their bulk
            gap xi_F: the swept chains have flat residuals, whose xi_F is their xi, and it is xi_F that sets the colour.
            With layers the measured boundary of the chains is left out: the models are what is measured there.
        narrow: one column.
        depth: which depth of the sweep; if None the one nearest to the models' depth, the largest without models.
    """
    sweep = ordered(sweep)
    chosen = _depth(sweep, layers) if depth is None else depth
    dimension = usual_dimension(sweep)
    gaps = np.asarray(sweep["gap"].values, dtype=np.float64)
    points = measured_points(layers) if layers is not None else pd.DataFrame(columns=["bulk_gap"])
    figure, axes = style.grid_of_panels(len(gaps), columns=3, height=3.4, narrow=narrow, right=0.0 if narrow else 0.85)
    lowest = float(points["gain"].min()) * 0.8 if len(points) else np.inf
    mesh = None
    for one, gap in zip(axes, gaps, strict=True):
        one.grid(False)
        cells = sweep.sel(gap=gap, depth=chosen, dimension=dimension)
        log_norm = cells["log_norm"].transpose("alignment", "gain")
        near = (
            np.abs(points["bulk_gap"].to_numpy(dtype=np.float64)[:, None] - gaps).argmin(axis=1) if len(points) else []
        )
        here = points[np.asarray(near) == int(np.argmin(np.abs(gaps - gap)))] if len(points) else points
        gain, growth = _extended(*_spread(cells["gain"].values, log_norm.values / chosen), lowest)
        alignment = cells["alignment"].values
        across = style.edges(gain, logarithmic=True)
        mesh = one.pcolormesh(
            across,
            style.edges(alignment),
            growth,
            cmap="PuOr_r",
            vmin=-LIMIT_NATS,
            vmax=LIMIT_NATS,
            rasterized=True,
        )
        draw_boundaries(one, gap)
        if layers is None and "product_gain" in cells:
            measured_boundary(one, cells, "product_gain", MEASURED)
        _points(one, here, [] if layers is None else list(dict.fromkeys(layers["model"])))
        one.set_xlim(float(across[0]), float(across[-1]))
        style.log_axis(one.xaxis)
        one.set_ylim(0.0, 1.0)
        flat = "" if layers is None else " (flat residual)"
        style.label(one, f"gap ξ = {gap:g}{flat}", "gain ρ = σ κ", "alignment κ")
        if layers is not None:
            style.note(one, f"L = {chosen}, d = {dimension}")
    if mesh is not None:
        style.colour_bar(figure, axes, mesh, "$\\ln \\|P_L\\| / L$ (nats a layer)", narrow=narrow)
    style.shared_legend(figure, axes, narrow=narrow)
    if layers is None:
        size = f"L = {chosen}, d = {style.short_number(dimension)}"
        scaled = "" if sweep.sizes["gain"] > 1 else "; one gain was computed, the others follow exactly by scaling"
        text = f"Growth of products of random chains, flat residual, {size}{chains_of(sweep)} a cell{scaled}"
        style.headline(figure, text + open_ends(axes))
    return figure


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


def ordered(sweep: xr.Dataset) -> xr.Dataset:
    """The dataset with ascending coordinates and without a gain of 0, which a logarithmic axis does not have."""
    found = sweep.sortby([name for name in sweep.dims if sweep[name].dtype.kind in "iuf"])
    return found.sel(gain=found["gain"] > 0) if "gain" in found.dims else found


def usual_dimension(sweep: xr.Dataset) -> int:
    """The dimension drawn where none is asked for: Whisper large's 1280 if the sweep has it, else the largest."""
    values = sweep["dimension"].values
    return WHISPER_DIMENSION if WHISPER_DIMENSION in values else int(values.max())


def chains_of(sweep: xr.Dataset) -> str:
    """How many chains a cell has, as the end of a note; nothing where the dataset does not say."""
    return f", n = {sweep.attrs['seeds']} chains" if "seeds" in sweep.attrs else ""


def measured_boundary(axes: Axes, cells: xr.Dataset, name: str, text: str, *, colour: str = MEASURED_COLOUR) -> None:
    """The gain where a median turns, over alignment, with its interval as a band.

    Args:
        axes: of gain and alignment.
        cells: dataset whose `name`, `name_low` and `name_high` have the dimension alignment alone. An interval with an
            end beyond the gains searched (0 or infinite) has an open triangle towards that end, and no band.
        name: of the gain.
        text: for the legend.
        colour: of the line and the band.
    """
    alignment = cells["alignment"].values
    middle, low, high = (np.asarray(cells[f"{name}{end}"].values, dtype=np.float64) for end in ("", "_low", "_high"))
    closed = (low > 0) & np.isfinite(high)
    if closed.any():
        axes.fill_betweenx(alignment, low, high, where=closed, color=colour, alpha=0.3, linewidth=0, zorder=4.2)
    axes.plot(middle, alignment, color=colour, linewidth=2.0, label=text, zorder=4.3)
    for here, marker in ((low == 0, "<"), (np.isposinf(high), ">")):
        here = here & np.isfinite(middle)
        if here.any():
            axes.plot(
                middle[here],
                alignment[here],
                linestyle="none",
                marker=marker,
                markersize=5,
                markerfacecolor="white",
                markeredgecolor=colour,
                gid=OPEN,
                zorder=4.4,
            )


def open_ends(axes: Sequence[Axes]) -> str:
    """What open triangles mean, for a headline, where one was drawn; nothing else."""
    drawn = any(line.get_gid() == OPEN for one in axes for line in one.lines)
    return "; open triangles: the interval's end on that side lies beyond the values searched" if drawn else ""


def draw_boundaries(
    axes: Axes, gap: float, names: Sequence[str] = tuple(BOUNDARIES), texts: Mapping[str, str] | None = None
) -> None:
    """The predicted boundaries of one gap as curves over gain and alignment.

    Args:
        axes: of gain and alignment.
        gap: xi, dimensionless, in [0, 1].
        names: among BOUNDARIES.
        texts: for the legend, in the place of those of BOUNDARIES.
    """
    grid = np.linspace(1e-3, 1.0, 400)
    curves = theory.boundary_curves(gap, grid)
    for name in names:
        line, colour, width, text = BOUNDARIES[name]
        text = (texts or {}).get(name, text)
        axes.plot(curves[name], grid, linestyle=line, color=colour, linewidth=width, label=text, zorder=4)  # type: ignore[arg-type]


def _depth(sweep: xr.Dataset, layers: pd.DataFrame | None) -> int:
    depths = np.asarray(sweep["depth"].values)
    if layers is None:
        return int(depths.max())
    typical = float(layers.groupby("model")["layers"].first().median())
    return int(max(depths[np.abs(depths - typical) == np.abs(depths - typical).min()]))


def _spread(gain: NDArray[np.float64], growth: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The map of a sweep of one gain, carried to gains from 1/4 to 4, exactly: growth a layer moves by ln gain."""
    if gain.size > 1:
        return gain, growth
    more = np.geomspace(0.25, 4.0, 41)
    return more, growth + np.log(more / gain[0])


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
