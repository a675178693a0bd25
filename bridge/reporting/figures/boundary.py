"""The boundary of J_L: maps over gain and alignment, and where the boundary stands as depth and dimension grow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

import theory
from bridge.reporting.figures import style
from bridge.reporting.figures.phase import chains_of, draw_boundaries, measured_boundary, ordered, usual_dimension

TRANSITIONS = {
    "share": ("context_shared", "the first injection's share of ‖J w‖²", "above", "1 / L²"),
    "growth": ("context_grown", "growth of ln ‖J‖ from L / 2 to L", "above", "ln(L / ⌊L/2⌋)"),
    "ratio": ("context_collapsed", "σ₂ / σ₁ of J", "below", "0.1"),
}
"""Of each transition of J_L: the fraction of chains beyond it, the statistic, the side, and the default threshold."""

PALE = LinearSegmentedColormap.from_list("pale", ["#8db4d6", "#f7f7f7", "#f5b56b"])
"""Blue to orange through white, pale enough for lines on it; colour-blind readers tell the ends apart."""

_LEAST_SHOWN = 0.08

_KINDS = {
    "product": ("product_gain", "size of $P_L$"),
    "share": ("context_gain", "first share in $J_L$"),
    "growth": ("context_gain", "growth of $J_L$"),
    "ratio": ("context_gain", "$\\sigma_2/\\sigma_1$ of $J_L$"),
}


def threshold_of(sweep: xr.Dataset, transition: str) -> str:
    """The threshold of a transition in words: what the sweep was asked for, else the default."""
    try:
        asked: Any = json.loads(sweep.attrs["spec"])["thresholds"][transition]
    except (KeyError, TypeError, ValueError):
        asked = None
    return TRANSITIONS[transition][3] if asked is None else f"{asked:g}"


def level_of(sweep: xr.Dataset) -> str:
    """The level of the intervals, as "95 %"."""
    return f"{100 * float(sweep.attrs.get('level', 0.95)):g} %"


def context_map(
    sweep: xr.Dataset,
    transition: str = "share",
    *,
    injection: str | None = None,
    depth: int | None = None,
    dimension: int | None = None,
    narrow: bool = False,
) -> Figure:
    """Fraction of chains whose J_L lies beyond a transition, over gain and alignment, one panel a gap.

    On it the boundary as it was measured (the gain where the median turns, with its interval) and as it is predicted:
    rho = 1, the certified bounds (T5, T6) and the mean field (T18).

    Args:
        sweep: dataset of `theory.sweep` with injections.
        transition: "share", "growth" or "ratio".
        injection: its name; the first by default.
        depth: the largest by default.
        dimension: 1280 by default if the sweep has it, else the largest.
        narrow: one column.

    Raises:
        ValueError: if the transition is unknown.
    """
    if transition not in TRANSITIONS:
        raise ValueError(f"transition must be one of {', '.join(TRANSITIONS)}; got {transition!r}")
    fraction, statistic, side, _ = TRANSITIONS[transition]
    if fraction not in sweep or not np.isfinite(sweep[fraction].values).any():
        return style.nothing("This sweep has no injections with such a statistic.", narrow=narrow)
    data = ordered(sweep)
    name = str(data["injection"].values[0]) if injection is None else injection
    layers = int(data["depth"].values.max()) if depth is None else depth
    d = usual_dimension(data) if dimension is None else dimension
    gaps = data["gap"].values
    figure, axes = style.grid_of_panels(len(gaps), columns=3, height=3.2, narrow=narrow, right=0.0 if narrow else 0.85)
    mesh = None
    for one, gap in zip(axes, gaps, strict=True):
        one.grid(False)
        cells = data.sel(injection=name, depth=layers, dimension=d, gap=gap)
        across = style.edges(cells["gain"].values, logarithmic=True)
        mesh = one.pcolormesh(
            across,
            style.edges(cells["alignment"].values),
            cells[fraction].transpose("alignment", "gain").values,
            cmap=PALE,
            vmin=0.0,
            vmax=1.0,
            rasterized=True,
        )
        draw_boundaries(one, float(gap))
        if "context_gain" in cells:
            text = f"measured: median turns, {level_of(sweep)} interval"
            measured_boundary(one, cells.sel(transition=transition), "context_gain", text)
        one.set_xlim(float(across[0]), float(across[-1]))
        style.log_axis(one.xaxis)
        one.set_ylim(0.0, 1.0)
        style.label(one, f"gap ξ = {gap:g} (flat residual)", "gain ρ = σ κ", "alignment κ")
    if mesh is not None:
        style.colour_bar(figure, axes, mesh, "fraction of chains", narrow=narrow, extend="neither")
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Context Jacobian, {name} injections, L = {layers}, d = {style.short_number(d)}{chains_of(sweep)} a cell. "
        f"Colour: fraction of chains with {statistic} {side} {threshold_of(sweep, transition)}",
    )
    return figure


def boundary_along(
    sweep: xr.Dataset, along: str = "depth", *, injection: str | None = None, narrow: bool = False
) -> Figure:
    """The gain where each quantity's median turns, against depth or dimension: a row a quantity, a column a gap.

    Points carry their intervals, dashed lines are the mean field's gain kappa / max(kappa, xi) (T18), and the solid
    line is the paper's rho = 1. A quantity that never turns within the gains searched has no point.

    Args:
        sweep: dataset of `theory.sweep` with quantities or injections.
        along: "depth" or "dimension"; the depth is else held at its largest value, the dimension at 1280
            if the sweep has it.
        injection: its name; the first by default.
        narrow: one column.

    Raises:
        ValueError: if along is neither.
    """
    if along not in ("depth", "dimension"):
        raise ValueError(f"along must be 'depth' or 'dimension'; got {along!r}")
    if sweep.sizes.get(along, 0) < 2:
        return style.nothing(f"This sweep has one {along}: there is nothing to draw against it.", narrow=narrow)
    data = ordered(sweep)
    other = "dimension" if along == "depth" else "depth"
    held = usual_dimension(data) if other == "dimension" else int(data["depth"].values.max())
    data = data.sel({other: held})
    name = None
    if "injection" in data.dims:
        name = str(data["injection"].values[0]) if injection is None else injection
        data = data.sel(injection=name)
    rows = [kind for kind in _KINDS if _boundary(data, kind) is not None]
    if not rows:
        return style.nothing("This sweep has no boundary.", narrow=narrow)
    gaps = data["gap"].values[style.picked(data["gap"].values, 3)]
    known = data["alignment"].values
    # Near 0 the critical gain falls to 0 with the alignment, and would take the whole axis.
    positive = known[known >= _LEAST_SHOWN] if (known >= _LEAST_SHOWN).any() else known[known > 0]
    kappas = positive[style.picked(positive, 5)]
    figure, axes = style.grid_of_panels(len(rows) * len(gaps), columns=len(gaps), height=2.5, narrow=narrow)
    x = data[along].values.astype(np.float64)
    panels = [(kind, float(gap)) for kind in rows for gap in gaps]
    for one, (kind, gap) in zip(axes, panels, strict=True):
        found = _boundary(data, kind)
        assert found is not None  # the rows are those that have one
        style.values_axis(one.xaxis, x)
        for place, (kappa, colour) in enumerate(zip(kappas, style.shades(len(kappas)), strict=True)):
            values = [part.sel(gap=gap, alignment=kappa).values for part in found]
            # Beside each other, so that intervals at one depth do not hide one another.
            shift = (x.max() / x.min()) ** (0.008 * (place - (len(kappas) - 1) / 2))
            _intervals(one, x * shift, values, colour, f"κ = {kappa:.2g}", style.MODEL_MARKERS[place])
            field = theory.boundary_curves(gap, np.array([kappa]))["mean_field"][0]
            one.axhline(field, color=colour, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1)
        one.axhline(1.0, color=style.INK, linewidth=1.1, label="the paper: ρ = 1", zorder=1.5)
        one.plot([], [], color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 2.5)), label="mean field (T18)")
        pad = float(x.max() / x.min()) ** 0.05
        one.set_xlim(float(x.min()) / pad, float(x.max()) * pad)
        style.log_axis(one.yaxis)
        unit = "depth L (layers)" if along == "depth" else "dimension d"
        style.label(one, f"{_KINDS[kind][1]}, ξ = {gap:g}", unit, "critical gain ρ")
    style.shared_legend(figure, axes, narrow=narrow)
    which = "" if name is None else f"; J under {name} injections"
    fixed = f"d = {style.short_number(held)}" if along == "depth" else f"L = {held}"
    style.headline(figure, f"{fixed}{chains_of(sweep)} a cell; bars: {level_of(sweep)} intervals{which}")
    return figure


def _boundary(data: xr.Dataset, kind: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray] | None:
    """Gain and the ends of its interval of one quantity; None where the sweep has none."""
    name = _KINDS[kind][0]
    if name not in data:
        return None
    found = tuple(data[f"{name}{end}"] for end in ("", "_low", "_high"))
    if kind != "product":
        if kind not in data["transition"].values:
            return None
        found = tuple(part.sel(transition=kind) for part in found)
    return None if not np.isfinite(found[0].values).any() else (found[0], found[1], found[2])


def _intervals(axes: Axes, x: Any, values: list[Any], colour: str, text: str, marker: str) -> None:
    """Points with their intervals; an end beyond the gains searched is an open line to a factor of two."""
    middle, low, high = (np.asarray(value, dtype=np.float64) for value in values)
    low, high = np.where(low > 0, low, middle / 2), np.where(np.isfinite(high), high, middle * 2)
    ends = np.nan_to_num(np.stack([middle - low, high - middle])).clip(min=0.0)
    axes.errorbar(
        x, middle, yerr=ends, color=colour, marker=marker, markersize=4, linewidth=1.2, elinewidth=1.1, label=text
    )
