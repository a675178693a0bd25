"""The residual family I + F: where it is pinned, where an outlier takes over, and how J_L grows there with depth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import level_of
from bridge.reporting.figures.phase import chains_of, measured_boundary, open_ends, ordered, usual_dimension

LIMIT_NATS = 1.0
COLLAPSE = "#0072B2"
_MODEST = 2.5
"""Largest strength whose growth with depth is drawn: beyond, everything else is flat beside it."""
_PREDICTED = {
    "paper_strength": (style.INK, "-", 1.6, "the paper's ρ = 1 (right of it: Regime II)"),
    "predicted_strength": ("#0b8f66", "-", 1.8, "outlier's predicted rate ω + τ κ = 1 (T33)"),
}


def residual_map(
    sweep: xr.Dataset,
    *,
    injection: str | None = None,
    depth: int | None = None,
    dimension: int | None = None,
    narrow: bool = False,
) -> Figure:
    """Growth of the earliest injection a layer over strength and alignment: a row a rank, a column a persistence.

    White is pinned (T26): the identity carries the injection on, neither grown nor decayed. On it the strength where
    the growth of J_L with depth and its second singular value turn, as measured, and where the paper's rule and the
    outlier's rate say they do.

    Args:
        sweep: dataset of `theory.sweep` over the residual family.
        injection: its name; the first by default.
        depth: the largest by default.
        dimension: 1280 by default if the sweep has it, else the largest.
        narrow: one column.
    """
    if "strength" not in sweep.dims or "early_rate" not in sweep:
        return style.nothing("This sweep is not of the residual family.", narrow=narrow)
    data, name, layers, d = _chosen(sweep, injection, depth, dimension)
    ranks = data["rank"].values[style.picked(data["rank"].values, 3)]
    persistences = data["persistence"].values[style.picked(data["persistence"].values, 3)]
    panels = [(int(rank), float(omega)) for rank in ranks for omega in persistences]
    figure, axes = style.grid_of_panels(
        len(panels), columns=len(persistences), height=2.9, narrow=narrow, right=0.0 if narrow else 0.85
    )
    mesh, ends = None, False
    for one, (rank, omega) in zip(axes, panels, strict=True):
        one.grid(False)
        cells = data.sel(rank=rank, persistence=omega)
        across = style.edges(cells["strength"].values, logarithmic=True)
        sides = style.edges(cells["alignment"].values)
        mesh = one.pcolormesh(
            across,
            sides,
            cells["early_rate"].transpose("alignment", "strength").values,
            cmap="PuOr_r",
            vmin=-LIMIT_NATS,
            vmax=LIMIT_NATS,
            rasterized=True,
        )
        ends |= _strengths(one, cells)
        one.set_xlim(float(across[0]), float(across[-1]))
        style.log_axis(one.xaxis)
        one.set_ylim(float(sides[0]), float(sides[-1]))
        style.label(one, f"rank {rank}, persistence ω = {omega:g}", "strength τ = ‖F‖", "alignment κ of F")
    if mesh is not None:
        style.colour_bar(figure, axes, mesh, "growth (nats a layer)", narrow=narrow)
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Residual chains I + F, {name} injections, L = {layers}, d = {style.short_number(d)}{chains_of(sweep)} a "
        "cell. Colour: mean growth a layer of the first injection; white is pinned (T26). "
        f"Bands: {level_of(sweep)} intervals{open_ends(axes)}"
        + ("; measured lines end where the median does not turn within the strengths searched" if ends else ""),
    )
    return figure


def residual_growth(
    sweep: xr.Dataset, *, rank: int | None = None, persistence: float | None = None, narrow: bool = False
) -> Figure:
    """||J_L|| against depth: a row a kind of injection, a column an alignment, a line a strength.

    The dotted lines are what equal injections add up to where the chain is pinned: in proportion to L if they are
    parallel, to its square root if they are random.

    Args:
        sweep: dataset of `theory.sweep` over the residual family.
        rank: the smallest by default.
        persistence: the smallest by default.
        narrow: one column.
    """
    if "strength" not in sweep.dims or sweep.sizes["depth"] < 2:
        return style.nothing("This sweep is not of the residual family at several depths.", narrow=narrow)
    data = ordered(sweep)
    d = usual_dimension(data)
    r = int(data["rank"].values[0]) if rank is None else rank
    omega = float(data["persistence"].values[0]) if persistence is None else persistence
    data = data.sel(dimension=d, rank=r, persistence=omega)
    names = [str(name) for name in data["injection"].values]
    kappas = data["alignment"].values[style.picked(data["alignment"].values, 3)]
    strengths = data["strength"].values
    searched = strengths.size
    modest = strengths[strengths <= _MODEST]
    strengths = modest if modest.size > 1 else strengths
    strengths = strengths[style.picked(strengths, 5)]
    depths = data["depth"].values.astype(np.float64)
    panels = [(name, float(kappa)) for name in names for kappa in kappas]
    figure, axes = style.grid_of_panels(len(panels), columns=len(kappas), height=2.6, narrow=narrow)
    for one, (name, kappa) in zip(axes, panels, strict=True):
        for index, (tau, colour) in enumerate(zip(strengths, style.shades(len(strengths)), strict=True)):
            cell = data.sel(injection=name, alignment=kappa, strength=tau)
            middle, low, high = (cell[f"context_log_norm{end}"].values for end in ("", "_low", "_high"))
            one.errorbar(
                depths * (depths[-1] / depths[0]) ** (0.008 * (index - (len(strengths) - 1) / 2)),
                np.exp(middle),
                yerr=np.nan_to_num(np.stack([np.exp(middle) - np.exp(low), np.exp(high) - np.exp(middle)])).clip(0.0),
                color=colour,
                marker=style.MODEL_MARKERS[index],
                markersize=4,
                linewidth=1.2,
                elinewidth=1.0,
                label=f"τ = {tau:.3g}",
            )
            if index == 0:
                for power, dots, text in ((1.0, (0, (1, 1.2)), "∝ L"), (0.5, (0, (4, 2)), "∝ √L")):
                    line = np.exp(middle[0]) * (depths / depths[0]) ** power
                    one.plot(depths, line, color=style.INK, linestyle=dots, linewidth=1.2, label=text, zorder=4)
        style.values_axis(one.xaxis, depths)
        pad = (depths[-1] / depths[0]) ** 0.05
        one.set_xlim(depths[0] / pad, depths[-1] * pad)
        style.log_axis(one.yaxis)
        style.label(one, f"{name}, κ = {kappa:.2g}", "depth L (layers)", "median $\\|J_L\\|$ (dimensionless)")
    style.shared_legend(figure, axes, narrow=narrow)
    style.headline(
        figure,
        f"Residual chains I + F, rank {r}, persistence ω = {omega:g}, d = {style.short_number(d)}{chains_of(sweep)} "
        f"a cell; bars: {level_of(sweep)} intervals"
        + (f"; {strengths.size} of {searched} strengths" if strengths.size < searched else "")
        + (f"; {kappas.size} of {data.sizes['alignment']} alignments" if kappas.size < data.sizes["alignment"] else ""),
    )
    return figure


def _chosen(
    sweep: xr.Dataset, injection: str | None, depth: int | None, dimension: int | None
) -> tuple[xr.Dataset, str, int, int]:
    data = ordered(sweep)
    data = data.sel(strength=data["strength"] > 0)
    name = str(data["injection"].values[0]) if injection is None else injection
    layers = int(data["depth"].values.max()) if depth is None else depth
    d = usual_dimension(data) if dimension is None else dimension
    return data.sel(injection=name, depth=layers, dimension=d), name, layers, d


def _strengths(axes: Axes, cells: xr.Dataset) -> bool:
    """Where the quantities turn, measured and predicted, over alignment; whether a measured line has an end."""
    alignment = cells["alignment"].values
    for name, (colour, line, width, text) in _PREDICTED.items():
        if name in cells:
            axes.plot(
                cells[name].values, alignment, color=colour, linestyle=line, linewidth=width, label=text, zorder=4
            )
    if "critical_strength" in cells:
        measured_boundary(axes, cells.sel(transition="growth"), "critical_strength", "measured: growth of J turns")
        collapse = cells.sel(transition="ratio")
        measured_boundary(axes, collapse, "critical_strength", "measured: J collapses (σ₂ / σ₁)", colour=COLLAPSE)
        _said(axes, collapse)
        shown = cells["critical_strength"].sel(transition=["growth", "ratio"])
        return bool((~np.isfinite(shown.values)).any())
    return False


def _said(axes: Axes, collapse: xr.Dataset) -> None:
    """Why the line of collapse is missing or ends: its result codes in words, on the panel."""
    if "critical_strength_code" not in collapse:
        return
    code = collapse["critical_strength_code"].values
    # The ratio is beyond its transition where it lies below the threshold: codes count from its own side.
    words = {1: "J never collapses", 2: "collapsed from the least τ", 6: "collapsed at the least τ alone"}
    parts = [f"{words[key]}: {int((code == key).sum())} of {code.size} κ" for key in words if (code == key).any()]
    if parts:
        style.note(axes, "\n".join(parts), x=0.02, ha="left")
        axes.texts[-1].set_zorder(3.5)  # below the lines
