"""How much the certified bounds leave open (T14), and how much of that typical chains decide."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bridge.reporting.figures import style
from bridge.reporting.figures.phase import chains_of, ordered, usual_dimension
from theory.phase.areas import RESOLVED, certified_areas, resolved_areas

_QUANTITIES = {
    "product": ("size of P", style.INK, "o"),
    "share": ("first share in J", style.MODEL_COLOURS[0], "s"),
    "growth": ("growth of J", style.MODEL_COLOURS[1], "^"),
    "ratio": ("σ₂ / σ₁ of J", style.MODEL_COLOURS[2], "D"),
}
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.2)))


def resolved_coexistence(sweep: xr.Dataset, *, narrow: bool = False) -> Figure:
    """Area of the coexistence part over the gap, and the fraction of it where nearly all chains fall on one side.

    The first panel is the area in ln gain times alignment within the box of the sweep, in closed form
    (`theory.certified_areas`): the line over all gaps, marks at those of the sweep. Then a panel a depth, three at
    most, from the nodes of the grid. What is missing to 1 are cells whose chains disagree.

    Args:
        sweep: dataset of `theory.sweep` over gain, with products or injections.
        narrow: one column.
    """
    if "gain" not in sweep.dims or min(sweep.sizes[name] for name in ("gain", "alignment", "gap")) < 2:
        return style.nothing("This sweep has no plane of gain and alignment at several gaps.", narrow=narrow)
    data = ordered(sweep)
    d = usual_dimension(data)
    data = data.sel(dimension=[d], gap=data["gap"] > 0)
    table = resolved_areas(data)
    depths = data["depth"].values[style.picked(data["depth"].values, 3)]
    figure, axes = style.grid_of_panels(1 + len(depths), columns=2, height=2.9, narrow=narrow)
    gaps = np.asarray(data["gap"].values, dtype=np.float64)
    box = tuple((float(data[name].min()), float(data[name].max())) for name in ("gain", "alignment"))
    fine = np.geomspace(gaps.min(), gaps.max(), 200)
    exact, at_gaps = ([certified_areas(float(gap), *box).coexistence for gap in values] for values in (fine, gaps))
    axes[0].plot(fine, exact, color=style.INK, linewidth=1.4)
    axes[0].plot(gaps, at_gaps, color=style.INK, linestyle="none", marker="o", markersize=4)
    axes[0].set_ylim(0.0, None)
    style.label(axes[0], "area that the bounds leave open (T14)", "gap ξ", "area (nats × alignment)")
    injections = [name for name in dict.fromkeys(table["injection"]) if name]
    for one, depth in zip(axes[1:], depths, strict=True):
        rows = table[table["depth"] == depth]
        for (quantity, name), part in rows.groupby(["quantity", "injection"], sort=False):
            text, colour, marker = _QUANTITIES[str(quantity)]
            one.plot(
                part["gap"],
                part["resolved"],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                linestyle=_DASHES[injections.index(name) % len(_DASHES)] if name else "-",
                label=f"{text}, {name}" if name else text,
            )
        one.set_ylim(0.0, 1.03)
        style.label(one, f"decided by typical chains, L = {depth}", "gap ξ", "fraction of the area")
    for one in axes:
        style.values_axis(one.xaxis, np.asarray(data["gap"].values))
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Coexistence of regimes in gain and alignment, d = {style.short_number(d)}{chains_of(sweep)} a cell; area in "
        f"closed form, in the box of the sweep. Decided: at least {100 * RESOLVED:g} % of a cell's chains on one side, "
        f"summed over {data.sizes['gain']} × {data.sizes['alignment']} nodes, whose steps blur its edges"
        + ("; lines end where a statistic has no number" if table["resolved"].isna().any() else ""),
    )
    return figure
