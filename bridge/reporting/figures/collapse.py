"""Finite size: the width of the crossover over depth and dimension, beside its predictions, and fitted exponents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import level_of
from bridge.reporting.figures.phase import chains_of, ordered
from theory.phase.finite_size import crossover_widths, finite_size

WIDTHS = {"early": "ln ‖P u₁‖, what an early injection becomes,", "product": "ln ‖P‖"}
"""Quantities whose width over chains a sweep has."""

_SHOWN_PAIRS = 5
_MANY = 1200
"""Points in a panel from which marks are small and without bars."""
_ROUNDING = 1e-12
"""Widths below it are rounding of chains that are all alike (nats a layer)."""
_NORMAL_95 = 1.959964


def width_table(sweep: xr.Dataset, quantity: str) -> pd.DataFrame:
    """`theory.phase.finite_size.crossover_widths` of the cells with 0 < xi and kappa > 0, with x = kappa / xi.

    Cells whose chains are all alike (two layers of an early direction, xi = 1) have no width but rounding: they are
    left out, by their prediction and by the size of what was measured.
    """
    table = crossover_widths(sweep, "early" if quantity == "early" else "product")
    wide = (table["t34"] > _ROUNDING) & (table["width"] > _ROUNDING)
    table = table[(table["gap"] > 0) & (table["alignment"] > 0) & wide]
    return table.assign(x=table["alignment"] / table["gap"]).reset_index(drop=True)


def width_collapse(sweep: xr.Dataset, quantity: str | None = None, *, narrow: bool = False) -> Figure:
    """Width over chains of the growth a layer, as it is and over what (T21) and (T34) predict, and its exponents.

    First against L (d - 1), colour the dimension, for a few pairs of alignment and gap on either side of kappa = xi.
    Then over the predictions, of every cell: the points of all depths and dimensions fall together on 1 where the
    prediction is right. Last, where the sweep has several depths and dimensions, the exponents of the width in L and
    in d - 1, fitted pair by pair, with their intervals; (T21) says -1/2 for both. Where the sweep has a single
    dimension the colour is the depth.

    Args:
        sweep: dataset of `theory.sweep` over depths and dimensions.
        quantity: "early" or "product"; the first that the sweep has by default.
        narrow: one column.
    """
    have = [name for name in WIDTHS if f"{name}_width" in sweep and np.isfinite(sweep[f"{name}_width"].values).any()]
    chosen = quantity or (have[0] if have else "")
    if chosen not in have:
        return style.nothing("This sweep has no width over chains.", narrow=narrow)
    data = ordered(sweep)
    table = width_table(data, chosen)
    if table.empty:
        return style.nothing("No cell of this sweep has a width that chance makes.", narrow=narrow)
    # ||A_2 u_1|| is the same for all chains: an early direction has a width from three layers on.
    least = 3 if chosen == "early" else 2
    fits = finite_size(
        data,
        "early" if chosen == "early" else "product",
        least_depth=least,
        level=float(sweep.attrs.get("level", 0.95)),
    )
    drawn = table[["alignment", "gap"]].drop_duplicates()
    pairs = len(drawn)
    if len(fits):
        fits = fits.merge(drawn, on=["alignment", "gap"])
    figure, axes = style.grid_of_panels(3 + (len(fits) > 0), columns=2, height=3.2, narrow=narrow)
    dimensions = sorted(int(value) for value in table["dimension"].unique())
    by = "dimension" if len(dimensions) > 1 else "depth"
    series = sorted(int(value) for value in table[by].unique())
    colours = dict(zip(series, style.shades(len(series)), strict=True))
    _widths(axes[0], table, by, colours)
    _ratios(axes[1], table, by, colours, "t21", "measured over predicted by (T21)")
    _ratios(axes[2], table, by, colours, "t34", "measured over predicted by (T34)")
    if len(fits):
        _exponents(axes[3], fits)
    style.shared_legend(figure, axes, narrow=narrow)
    depths = _range(table["depth"].tolist())
    style.headline(
        figure,
        f"Standard deviation over chains of {WIDTHS[chosen]} a layer{chains_of(sweep)} a cell; {len(table)} cells, "
        f"L = {depths}, d = {_range(dimensions)}; bars: {level_of(sweep)} intervals"
        + (f" (panels of {len(table)} points are without)" if len(table) > _MANY else "")
        + f"; first panel: {min(_SHOWN_PAIRS, pairs)} of {pairs} pairs of alignment and gap",
    )
    return figure


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return " to ".join(style.short_number(value) for value in dict.fromkeys((low, high)))


def _widths(axes: Axes, table: pd.DataFrame, by: str, colours: dict[int, str]) -> None:
    """Width against L (d - 1) for a few pairs, each with its own marker; (T21) as lines where it has one."""
    pairs = table[["alignment", "gap", "x"]].drop_duplicates().sort_values(by="x")
    pairs = pairs.iloc[style.picked(pairs["x"], _SHOWN_PAIRS)]
    reach = (table["depth"] * (table["dimension"] - 1)).agg(["min", "max"]).to_numpy(dtype=np.float64)
    for index, (kappa, xi, _) in enumerate(pairs.to_numpy(dtype=np.float64).tolist()):
        mine = table[(table["alignment"] == kappa) & (table["gap"] == xi)]
        marker = style.MODEL_MARKERS[index]
        for value, colour in colours.items():
            part = mine[mine[by] == value]
            axes.errorbar(
                part["depth"] * (part["dimension"] - 1),
                part["width"],
                yerr=_NORMAL_95 * part["width_se"],
                linestyle="none",
                marker=marker,
                markersize=3.8,
                elinewidth=0.8,
                color=colour,
            )
        factor = float((mine["t21"] * np.sqrt(mine["depth"] * (mine["dimension"] - 1.0))).iloc[0])
        if np.isfinite(factor):
            axes.plot(reach, factor / np.sqrt(reach), color=style.MUTED, linewidth=0.9, zorder=1)
        text = f"κ = {kappa:.2g}, ξ = {xi:.2g}"
        axes.plot([], [], linestyle="none", marker=marker, color=style.MUTED, markersize=4.5, label=text)
    axes.plot([], [], color=style.MUTED, linewidth=0.9, label="predicted (T21), where κ > ξ")
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)
    style.label(axes, "width of the crossover", "L (d - 1)", "width (nats a layer)")


def _ratios(axes: Axes, table: pd.DataFrame, by: str, colours: dict[int, str], name: str, title: str) -> None:
    """Measured over predicted width of every cell where there is a prediction."""
    rows = table[np.isfinite(table[f"log_{name}"])]
    # Few layers small, many large: what is off near kappa = xi is off because L is finite.
    depths = sorted(int(value) for value in rows["depth"].unique())
    sizes = dict(
        zip(depths, np.linspace(2.0, 5.0, len(depths)) if len(depths) > 1 else [3.8] * len(depths), strict=True)
    )
    many = len(table) > _MANY
    for value, depth in [(value, depth) for value in colours for depth in depths]:
        part = rows[(rows[by] == value) & (rows["depth"] == depth)]
        if part.empty:
            continue
        ratio = np.exp(part[f"log_{name}"])
        axes.errorbar(
            part["x"],
            ratio,
            yerr=None if many else _NORMAL_95 * ratio * part["log_se"],
            linestyle="none",
            marker="o",
            markersize=sizes[depth] * (0.6 if many else 1.0),
            markeredgewidth=0,
            elinewidth=0.6,
            alpha=0.6,
            color=colours[value],
        )
    for value, colour in colours.items():
        text = f"{'d' if by == 'dimension' else 'L'} = {style.short_number(value)}"
        axes.plot([], [], linestyle="none", marker="o", markersize=4.5, color=colour, label=text)
    axes.axhline(1.0, color=style.INK, linewidth=1.0, zorder=1)
    axes.axvline(1.0, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(float(table["x"].min()) / 1.15, float(table["x"].max()) * 1.15)
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)
    style.label(axes, title, "alignment over gap, κ / ξ", "width / predicted")
    if len(depths) > 1:
        style.note(axes, f"small marks L = {depths[0]}, large {depths[-1]}", x=0.02, y=0.97, ha="left", va="top")


def _exponents(axes: Axes, fits: pd.DataFrame) -> None:
    """Fitted exponents of the width, pair by pair."""
    x = (fits["alignment"] / fits["gap"]).to_numpy(dtype=np.float64)
    series = (
        ("exponent_depth", "fitted exponent of L", style.MODEL_COLOURS[0], "s"),
        ("exponent_dimension", "fitted exponent of d - 1", style.MODEL_COLOURS[1], "D"),
    )
    for place, (name, text, colour, marker) in enumerate(series):
        middle, low, high = (fits[f"{name}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
        axes.errorbar(
            x * 1.02 ** (2 * place - 1),
            middle,
            yerr=np.nan_to_num(np.stack([middle - low, high - middle])).clip(min=0.0),
            linestyle="none",
            marker=marker,
            markersize=3.8,
            elinewidth=0.9,
            color=colour,
            label=text,
        )
        if f"{name}_t34" in fits:
            axes.plot(
                x * 1.02 ** (2 * place - 1),
                fits[f"{name}_t34"],
                linestyle="none",
                marker=marker,
                markersize=7,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=0.9,
                label=text.replace("fitted", "(T34)'s"),
            )
    axes.axhline(-0.5, color=style.INK, linewidth=1.0, zorder=1)
    axes.axvline(1.0, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(x.min() / 1.15, x.max() * 1.15)
    style.log_axis(axes.xaxis)
    style.note(axes, "fitted over all L and d of a pair", x=0.98, y=0.97, va="top")
    style.label(axes, "exponents; (T21) says -1/2 for both", "alignment over gap, κ / ξ", "exponent of the width")
