"""How far products collapse: sigma_2 / sigma_1 of P_L against alignment over gap, beside what is predicted."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

import theory
from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import level_of
from bridge.reporting.figures.phase import chains_of, ordered, usual_dimension

COLLAPSED = 0.1
"""Below it a ratio counts as collapsed (`theory.PhaseThresholds`)."""


def singular_ratio(sweep: xr.Dataset, *, dimension: int | None = None, narrow: bool = False) -> Figure:
    """ln sigma_2 / sigma_1 of P_L a layer against kappa / xi, one panel a depth, with (T19) and (T10).

    Medians over chains with their intervals, one colour a gap. The mean field is one line for all gaps, 0 left of
    kappa = xi and -ln(kappa / xi) right of it; the rigorous bound (T10) differs by gap and begins at kappa_c.

    Args:
        sweep: dataset of `theory.sweep` with log_ratio_median, or with log_ratio alone (means, and no intervals).
        dimension: 1280 by default if the sweep has it, else the largest.
        narrow: one column.
    """
    median = "log_ratio_median" in sweep
    data = ordered(sweep)
    gaps = data["gap"].values[(data["gap"].values > 0)]
    kappas = data["alignment"].values[data["alignment"].values > 0]
    if not gaps.size or not kappas.size:
        return style.nothing("No cell has both a gap and an alignment above 0.", narrow=narrow)
    d = usual_dimension(data) if dimension is None else dimension
    data = data.sel(dimension=d, alignment=kappas)
    if not median:
        data = data.isel(gain=0)
    known = gaps.size
    gaps = gaps[style.picked(gaps, 6)]
    depths = data["depth"].values[style.picked(data["depth"].values, 3)]
    figure, axes = style.grid_of_panels(len(depths), columns=3, height=3.1, narrow=narrow)
    for one, depth in zip(axes, depths, strict=True):
        for index, (gap, colour) in enumerate(zip(gaps, style.shades(len(gaps)), strict=True)):
            cell = data.sel(depth=depth, gap=gap)
            marker = style.MODEL_MARKERS[index % len(style.MODEL_MARKERS)]
            x, middle = kappas / gap, cell["log_ratio_median" if median else "log_ratio"].values
            if median:
                low, high = (cell[f"log_ratio_median_{end}"].values for end in ("low", "high"))
                ends = np.stack([middle - low, high - middle])
            else:
                ends = np.zeros((2, middle.size))
            one.errorbar(
                x,
                middle / depth,
                yerr=np.nan_to_num(ends).clip(min=0.0) / depth,
                linestyle="none",
                marker=marker,
                markersize=2.8,
                elinewidth=0.9,
                color=colour,
                label=f"ξ = {gap:.3g}",
            )
            one.plot(
                x, bound_a_layer(kappas, float(gap), int(depth)), color=colour, linewidth=1.0, linestyle=(0, (1, 1.2))
            )
        left, right = float(kappas.min() / gaps.max()), float(kappas.max() / gaps.min())
        grid = np.geomspace(left, right, 300)
        one.plot(grid, np.minimum(0.0, -np.log(grid)), color=style.INK, linewidth=1.3, label="mean field (T19)")
        one.plot([], [], color=style.MUTED, linewidth=1.0, linestyle=(0, (1, 1.2)), label="rigorous bound (T10)")
        one.axhline(
            np.log(COLLAPSED) / depth,
            color=style.NULL_COLOUR,
            linewidth=1.4,
            linestyle=(0, (5, 2)),
            label=f"“collapsed”: ratio {COLLAPSED:g}",
        )
        one.set_xlim(left * 0.9, right * 1.1)
        style.log_axis(one.xaxis)
        style.label(one, f"L = {depth}", "alignment over gap, κ / ξ", "$\\ln(\\sigma_2/\\sigma_1) / L$ (nats a layer)")
    style.shared_legend(figure, axes, narrow=narrow)
    said = f"medians with {level_of(sweep)} intervals" if median else "means"
    said += f"; {gaps.size} of {known} gaps" if gaps.size < known else ""
    style.headline(figure, f"Products, flat residual, d = {style.short_number(d)}{chains_of(sweep)} a cell; {said}")
    return figure


def bound_a_layer(alignment: NDArray[np.float64], gap: float, depth: int) -> NDArray[np.float64]:
    """(T10) a layer, ln(xi^L / Lambda_min^(2 (L - 1))) / L; NaN below kappa_c, and where it says nothing (above 0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = theory.min_rate(alignment, np.full_like(alignment, gap))
        found = (depth * np.log(gap) - 2 * (depth - 1) * np.log(rate)) / depth
    return np.where(found <= 0, found, np.nan)
