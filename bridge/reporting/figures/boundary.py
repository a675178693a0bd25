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
from bridge.reporting.figures.phase import (
    OPEN,
    chains_of,
    draw_boundaries,
    measured_boundary,
    open_ends,
    ordered,
    usual_dimension,
)

TRANSITIONS = {
    "share": ("context_shared", "the first injection's share of ‖J w‖²", "above", "1 / L²"),
    "growth": ("context_grown", "growth of ln ‖J‖ from L / 2 to L", "above", "ln(L / ⌊L/2⌋)"),
    "ratio": ("context_collapsed", "σ₂ / σ₁ of J", "below", "0.1"),
}
"""Of each transition of J_L: the fraction of chains beyond it, the statistic, the side, and the default threshold."""

PALE = LinearSegmentedColormap.from_list("pale", ["#8db4d6", "#f7f7f7", "#f5b56b"])
"""Blue to orange through white, pale enough for lines on it; colour-blind readers tell the ends apart."""

_LEAST_SHOWN = 0.08
OF_P = {
    "certified_I": "left of it $\\|P_L\\|$ certainly decays: $\\sigma\\Lambda_{max} = 1$ (T5)",
    "certified_II": "right of it $\\|P_L\\|$ certainly grows: $\\sigma\\Lambda_{min} = 1$ (T6)",
    "mean_field": "mean field of $\\|P_L\\|$: σ max(κ, ξ) = 1 (T18)",
}
"""The bounds and the mean field are of the size of P_L; on a map of J_L their legend says so."""
_HALF = "#0072B2"

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

    On it the boundary as it was measured (the lowest gain where the median turns, with its interval), rho = 1, and
    the lines for the size of P_L: the certified bounds (T5, T6) and the mean field (T18). Those say nothing of
    sigma_2 / sigma_1, whose map has the line kappa = xi instead, above which products collapse (T19), and the
    line on which half the chains have collapsed: it goes on where the
    collapsed part ends a second time, at kappa just under xi.

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
        if transition == "ratio":
            draw_boundaries(one, float(gap), ("paper",))
            one.axhline(
                float(gap), color="#0b8f66", linewidth=1.6, zorder=4, label="products collapse above κ = ξ (T19)"
            )
            _half(one, cells[fraction].transpose("alignment", "gain"))
        else:
            draw_boundaries(one, float(gap), texts=OF_P)
        if "context_gain" in cells:
            text = f"measured: lowest gain where the median turns, {level_of(sweep)} interval"
            measured_boundary(one, cells.sel(transition=transition), "context_gain", text)
        one.set_xlim(float(across[0]), float(across[-1]))
        style.log_axis(one.xaxis)
        one.set_ylim(0.0, 1.0)
        style.label(one, f"gap ξ = {gap:g}", "gain ρ = σ κ", "alignment κ")
    if mesh is not None:
        style.colour_bar(figure, axes, mesh, "fraction of chains", narrow=narrow, extend="neither")
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Context Jacobian, flat residual, {name} injections, L = {layers}, d = {style.short_number(d)}"
        f"{chains_of(sweep)} a cell. Colour: fraction of chains with {statistic} {side} "
        f"{threshold_of(sweep, transition)}{open_ends(axes)}",
    )
    return figure


def _half(axes: Axes, share: xr.DataArray) -> None:
    """The line on which half the chains lie beyond the transition."""
    if min(share.shape) > 1 and np.nanmin(share.values) < 0.5 < np.nanmax(share.values):
        at = (share["gain"].values, share["alignment"].values)
        axes.contour(*at, share.values, levels=[0.5], colors=[_HALF], linewidths=[1.3], linestyles="dashed", zorder=4.5)
        axes.plot([], [], color=_HALF, linewidth=1.3, linestyle="dashed", label="half the chains (interpolated)")


def boundary_along(
    sweep: xr.Dataset, along: str = "depth", *, injection: str | None = None, narrow: bool = False
) -> Figure:
    """The gain where each quantity's median turns, against depth or dimension: a row a quantity, a column a gap.

    Points carry their intervals, dashed lines are the mean field's gain kappa / max(kappa, xi) (T18), which speaks of
    size and not of sigma_2 / sigma_1, and the solid line is the paper's rho = 1. A quantity that never turns within the
    gains searched has no point, and an interval with an end beyond them an arrow there; both are said.

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
    missing = 0
    for one, (kind, gap) in zip(axes, panels, strict=True):
        found = _boundary(data, kind)
        assert found is not None  # the rows are those that have one
        style.values_axis(one.xaxis, x)
        for place, (kappa, colour) in enumerate(zip(kappas, style.shades(len(kappas)), strict=True)):
            values = [part.sel(gap=gap, alignment=kappa).values for part in found]
            # Beside each other, so that intervals at one depth do not hide one another.
            shift = (x.max() / x.min()) ** (0.008 * (place - (len(kappas) - 1) / 2))
            _intervals(one, x * shift, values, colour, f"κ = {kappa:.2g}", style.MODEL_MARKERS[place])
            missing += int((~np.isfinite(values[0])).sum())
            if kind != "ratio":
                field = theory.boundary_curves(gap, np.array([kappa]))["mean_field"][0]
                one.axhline(field, color=colour, linewidth=0.9, linestyle=(0, (4, 2.5)), zorder=1)
        one.axhline(1.0, color=style.INK, linewidth=1.1, label="the paper: ρ = 1", zorder=1.5)
        one.plot([], [], color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 2.5)), label="mean field (T18)")
        one.margins(y=0.22 if any(note.get_gid() == OPEN for note in one.texts) else 0.12)  # arrows need room
        pad = float(x.max() / x.min()) ** 0.05
        one.set_xlim(float(x.min()) / pad, float(x.max()) * pad)
        style.log_axis(one.yaxis)
        shown = np.isfinite(found[0].sel(gap=gap, alignment=kappas).values)
        some = f" ({shown.sum()} of {shown.size} points)" if shown.sum() < shown.size else ""
        unit = "depth L (layers)" if along == "depth" else "dimension d"
        style.label(one, f"{_KINDS[kind][1]}, ξ = {gap:g}{some}", unit, "critical gain ρ")
    style.shared_legend(figure, axes, narrow=narrow)
    which = "" if name is None else f"; J under {name} injections"
    fixed = f"d = {style.short_number(held)}" if along == "depth" else f"L = {held}"
    text = f"{fixed}{chains_of(sweep)} a cell; bars: {level_of(sweep)} intervals{which}"
    if len(gaps) < data.sizes["gap"]:
        text += f"; {len(gaps)} of {data.sizes['gap']} gaps"
    if len(kappas) < known.size:
        text += f"; {len(kappas)} of {known.size} alignments"
    if any(note.get_gid() == OPEN for one in axes for note in one.texts):
        text += "; arrows: the interval's end lies beyond the gains searched"
    if missing:
        text += "; no point: no crossing within the gains searched"
    style.headline(figure, text)
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
    """Points with their intervals; at an end beyond the gains searched an arrow of a fixed length on paper."""
    middle, low, high = (np.asarray(value, dtype=np.float64) for value in values)
    below, above = low == 0, np.isposinf(high)
    ends = np.stack([np.where(below, 0.0, middle - low), np.where(above, 0.0, high - middle)])
    axes.errorbar(
        x,
        middle,
        yerr=np.nan_to_num(ends).clip(min=0.0),
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        elinewidth=1.1,
        label=text,
    )
    for here, points in ((below, -20), (above, 20)):
        for place in np.flatnonzero(here & np.isfinite(middle)):
            axes.annotate(
                "",
                xy=(x[place], middle[place]),
                xytext=(0, points),
                textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": colour, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1},
                annotation_clip=True,
                gid=OPEN,
            )
