"""Finite size: the width of the crossover, rescaled by depth and dimension, beside the prediction (T21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import level_of
from bridge.reporting.figures.phase import chains_of, ordered
from theory.regimes.typical import crossover_width

WIDTHS = {"early": "$\\ln\\|P_{L:2}u_1\\|$ / (L - 1)", "product": "$\\ln\\|P_L\\|$ / L"}
"""Quantities whose width over chains a sweep has: the first direction's growth a layer, and the product's."""

_SHOWN_PAIRS = 4


def width_table(sweep: xr.Dataset, quantity: str) -> pd.DataFrame:
    """Widths that a chain's randomness makes, one row a cell where (T21) has one: kappa > xi > 0, kappa < 1, d >= 3.

    Args:
        sweep: dataset of `theory.sweep` with `<quantity>_width` and `_width_se`.
        quantity: among WIDTHS.

    Returns:
        alignment, gap, depth, dimension, layers (random steps: L - 1 for "early"), width and width_se (nats a layer),
        factor (T21 at L (d - 1) = 1).
    """
    table = sweep[[f"{quantity}_width", f"{quantity}_width_se"]].to_dataframe().reset_index()
    table = table.rename(columns={f"{quantity}_width": "width", f"{quantity}_width_se": "width_se"})
    table["layers"] = table["depth"] - (quantity == "early")
    known = (table["width"] > 0) & (table["alignment"] > table["gap"]) & (table["gap"] > 0) & (table["alignment"] < 1)
    table = table[known & (table["dimension"] >= 3) & (table["layers"] >= 1)].reset_index(drop=True)
    table["factor"] = crossover_width(table["alignment"].to_numpy(), table["gap"].to_numpy(), 1, 2)
    return table[["alignment", "gap", "depth", "dimension", "layers", "width", "width_se", "factor"]]


def width_collapse(
    sweep: xr.Dataset, quantity: str | None = None, *, fits: pd.DataFrame | None = None, narrow: bool = False
) -> Figure:
    """Width over chains of the growth a layer: as it is, and times sqrt(L (d - 1)) over what (T21) predicts.

    Left: against L (d - 1), colour the dimension, with (T21) as lines for a few pairs of alignment and gap. Middle:
    measured over predicted for every cell, against kappa / xi; all points lie on 1 where (T21) is right. Right, with
    `fits`: the fitted exponents of the width in L and in d - 1 with their intervals; (T21) says -1/2 for both.

    Args:
        sweep: dataset of `theory.sweep` over depths and dimensions.
        quantity: "early" or "product"; the first that the sweep has by default.
        fits: one row a pair, with columns alignment, gap, depth_exponent, dimension_exponent, and _low and _high
            of both, as `theory.phase.finite_size` makes.
        narrow: one column.
    """
    have = [name for name in WIDTHS if f"{name}_width" in sweep and np.isfinite(sweep[f"{name}_width"].values).any()]
    chosen = quantity or (have[0] if have else None)
    if chosen not in have:
        return style.nothing("This sweep has no width over chains.", narrow=narrow)
    data = ordered(sweep)
    table = width_table(data, str(chosen))
    if table.empty:
        return style.nothing("No cell has κ > ξ > 0, where (T21) predicts a width.", narrow=narrow)
    count = 2 + (fits is not None)
    figure, axes = style.grid_of_panels(count, columns=3, height=3.3, narrow=narrow)
    dimensions = sorted(int(value) for value in table["dimension"].unique())
    colours = dict(zip(dimensions, style.shades(len(dimensions)), strict=True))
    _widths(axes[0], table, colours)
    _ratios(axes[1], table, colours)
    if fits is not None:
        _exponents(axes[2], fits)
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Standard deviation over chains of {'ln ‖P u₁‖' if chosen == 'early' else 'ln ‖P‖'} a layer"
        f"{chains_of(sweep)}; {len(table)} cells with κ > ξ, {_range(table['layers'].tolist())} random "
        f"layers, d = {_range(dimensions)}; bars: {level_of(sweep)} intervals",
    )
    return figure


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _widths(axes: Axes, table: pd.DataFrame, colours: dict[int, str]) -> None:
    """Width against L (d - 1) for a few pairs, each with its own marker and its line of slope -1/2."""
    pairs = table[["alignment", "gap", "factor"]].drop_duplicates().sort_values(by="factor")
    pairs = pairs.iloc[style.picked(pairs["factor"], _SHOWN_PAIRS)]
    for index, (kappa, xi, factor) in enumerate(pairs.to_numpy(dtype=np.float64).tolist()):
        mine = table[(table["alignment"] == kappa) & (table["gap"] == xi)]
        marker = style.MODEL_MARKERS[index]
        for dimension, colour in colours.items():
            part = mine[mine["dimension"] == dimension]
            axes.errorbar(
                part["layers"] * (part["dimension"] - 1),
                part["width"],
                yerr=1.96 * part["width_se"],
                linestyle="none",
                marker=marker,
                markersize=3.8,
                elinewidth=0.8,
                color=colour,
            )
        reach = (table["layers"] * (table["dimension"] - 1)).agg(["min", "max"]).to_numpy(dtype=np.float64)
        axes.plot(reach, factor / np.sqrt(reach), color=style.MUTED, linewidth=0.9, zorder=1)
        text = f"κ = {kappa:.2g}, ξ = {xi:.2g}"
        axes.plot([], [], linestyle="none", marker=marker, color=style.MUTED, markersize=4.5, label=text)
    axes.plot([], [], color=style.MUTED, linewidth=0.9, label="predicted (T21)")
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)
    style.label(axes, "width of the crossover", "random layers × (d - 1)", "width (nats a layer)")


def _ratios(axes: Axes, table: pd.DataFrame, colours: dict[int, str]) -> None:
    """Measured over predicted width of every cell."""
    predicted = table["factor"] / np.sqrt(table["layers"] * (table["dimension"] - 1.0))
    rows = table.assign(
        ratio=table["width"] / predicted, ends=1.96 * table["width_se"] / predicted, x=table["alignment"] / table["gap"]
    )
    # Few layers small, many large: what is off at the left, near kappa = xi, is off because L is finite.
    depths = sorted(int(value) for value in rows["layers"].unique())
    sizes = dict(zip(depths, np.linspace(2.2, 5.5, len(depths)), strict=True)) if len(depths) > 1 else {depths[0]: 3.8}
    for dimension, layers in [(dimension, layers) for dimension in colours for layers in depths]:
        part = rows[(rows["dimension"] == dimension) & (rows["layers"] == layers)]
        axes.errorbar(
            part["x"],
            part["ratio"],
            yerr=part["ends"],
            linestyle="none",
            marker="o",
            markersize=sizes[layers],
            elinewidth=0.6,
            alpha=0.7,
            color=colours[dimension],
            label=f"d = {style.short_number(dimension)}",
        )
    axes.axhline(1.0, color=style.INK, linewidth=1.0, zorder=1)
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)
    style.label(axes, "measured over predicted (T21)", "alignment over gap, κ / ξ", "width / predicted width")
    if len(depths) > 1:
        style.note(axes, f"small marks {depths[0]}, large {depths[-1]} layers")


def _exponents(axes: Axes, fits: pd.DataFrame) -> None:
    x = (fits["alignment"] / fits["gap"]).to_numpy(dtype=np.float64)
    series: Sequence[tuple[str, str, str, str]] = (
        ("depth_exponent", "exponent of L", style.MODEL_COLOURS[0], "o"),
        ("dimension_exponent", "exponent of d - 1", style.MODEL_COLOURS[1], "s"),
    )
    for place, (name, text, colour, marker) in enumerate(series):
        middle, low, high = (fits[f"{name}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
        ends: Any = np.nan_to_num(np.stack([middle - low, high - middle])).clip(min=0.0)
        axes.errorbar(
            x * 1.015 ** (2 * place - 1),
            middle,
            yerr=ends,
            linestyle="none",
            marker=marker,
            markersize=3.8,
            elinewidth=0.9,
            color=colour,
            label=text,
        )
    axes.axhline(-0.5, color=style.INK, linewidth=1.0, zorder=1)
    style.log_axis(axes.xaxis)
    style.label(axes, "fitted exponents; (T21): -1/2", "alignment over gap, κ / ξ", "exponent of the width")
