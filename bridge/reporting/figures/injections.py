"""Where J_L is of rank 1: its noise ratio and its second singular value, for each kind of injection."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import OF_P
from bridge.reporting.figures.phase import chains_of, draw_boundaries, ordered, usual_dimension

LIMIT_DECADES = 2.0
HALF = "#0072B2"
"""Of the line on which half the chains count as collapsed."""


def injection_map(
    sweep: xr.Dataset, *, depth: int | None = None, dimension: int | None = None, narrow: bool = False
) -> Figure:
    """Median noise ratio of J_L over gain and alignment: a row a kind of injection, a column a gap (three at most).

    The noise ratio is the operator norm of J_L across u_L over its norm along u_L, what the paper's rank-1 statement
    (P3) calls noise. On the line sigma_2 / sigma_1 of half the chains is below the threshold of collapse, and in the
    hatched part that of at least 95 %.

    Args:
        sweep: dataset of `theory.sweep` with injections.
        depth: the largest by default.
        dimension: 1280 by default if the sweep has it, else the largest.
        narrow: one column.
    """
    if "context_log_noise" not in sweep:
        return style.nothing("This sweep has no injections, or no noise ratio of them.", narrow=narrow)
    data = ordered(sweep)
    layers = int(data["depth"].values.max()) if depth is None else depth
    d = usual_dimension(data) if dimension is None else dimension
    data = data.sel(depth=layers, dimension=d)
    names = [str(name) for name in data["injection"].values]
    gaps = data["gap"].values[style.picked(data["gap"].values, 3)]
    count = len(names) * len(gaps)
    figure, axes = style.grid_of_panels(
        count, columns=len(gaps), height=2.9, narrow=narrow, right=0.0 if narrow else 0.85
    )
    mesh = None
    for one, (name, gap) in zip(axes, [(name, gap) for name in names for gap in gaps], strict=True):
        one.grid(False)
        cells = data.sel(injection=name, gap=gap)
        gain, alignment = cells["gain"].values, cells["alignment"].values
        across = style.edges(gain, logarithmic=True)
        mesh = one.pcolormesh(
            across,
            style.edges(alignment),
            cells["context_log_noise"].transpose("alignment", "gain").values / np.log(10.0),
            cmap="PuOr_r",
            vmin=-LIMIT_DECADES,
            vmax=LIMIT_DECADES,
            rasterized=True,
        )
        _collapsed(one, cells)
        draw_boundaries(one, float(gap), ("paper", "mean_field"), OF_P)
        one.set_xlim(float(across[0]), float(across[-1]))
        style.log_axis(one.xaxis)
        one.set_ylim(0.0, 1.0)
        style.label(one, f"{name}, ξ = {gap:g}", "gain ρ = σ κ", "alignment κ")
    if mesh is not None:
        style.colour_bar(figure, axes, mesh, "$\\log_{10}$ noise ratio", narrow=narrow)
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Context Jacobian, flat residual, L = {layers}, d = {style.short_number(d)}{chains_of(sweep)} a cell. "
        "Colour: median of J's operator norm across u over its norm along u, the noise of the rank-1 statement (P3): "
        "small in purple" + (f"; {len(gaps)} of {data.sizes['gap']} gaps" if len(gaps) < data.sizes["gap"] else ""),
    )
    return figure


def _collapsed(axes: Axes, cells: xr.Dataset) -> None:
    """The line of half the chains, and hatching where 95 % of them have collapsed."""
    share = cells["context_collapsed"].transpose("alignment", "gain").values
    if min(share.shape) < 2 or not np.isfinite(share).any():
        return
    gain, alignment = cells["gain"].values, cells["alignment"].values
    if np.nanmin(share) < 0.5 < np.nanmax(share):
        axes.contour(gain, alignment, share, levels=[0.5], colors=[HALF], linewidths=[1.8], zorder=4.2)
    if np.nanmax(share) >= 0.95:
        hatched = axes.contourf(gain, alignment, share, levels=[0.95, 1.01], colors="none", hatches=["///"], zorder=3)
        hatched.set_edgecolor(style.MUTED)
        hatched.set_linewidth(0.0)
    axes.plot([], [], color=HALF, linewidth=1.8, label="half the chains collapsed (hatched: 95 %)")
