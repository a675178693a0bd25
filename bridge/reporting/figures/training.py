"""Figures of claim C5: alignment along training, and its rise in every condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bridge.ledger.training_claim import short
from bridge.reporting.figures import style
from theory.claims.training import LEAST_ALIGNMENT_GAIN
from theory.training.spec import NETWORKS
from theory.training.task import LABELS

QUANTITIES = {
    "alignment": ("alignment κ", "mean κ, layers 2..L"),
    "gap": ("gap ξ = σ₂/σ₁", "mean ξ"),
    "gain": ("gain ρ", "mean ρ"),
}
_DASHED = (0, (4, 2))
# The palette of models and, beyond its six, three of Tol's muted colours.
_COLOURS = (*style.MODEL_COLOURS, "#882255", "#999933", "#332288")
_START = 0.5  # where step 0 stands on the logarithmic axis


def training_curves(
    rows: Sequence[dict[str, Any]], quantities: Sequence[str] = ("alignment",), *, narrow: bool = False
) -> Figure:
    """Numbers of consecutive layers against the training step: median over seeds, the middle half as a band.

    Args:
        rows: summaries of conditions, as `theory.claims.training.summary` makes them; one column a kind of network.
            At most nine that differ in more than their network: beyond, colours come again.
        quantities: among QUANTITIES; one row of panels each.
        narrow: one column.
    """
    networks = [name for name in NETWORKS if any(row["spec"]["network"] == name for row in rows)]
    if not networks:
        return style.nothing("No training was run.", narrow=narrow)
    labels = list(dict.fromkeys(_curve_label(row) for row in rows))
    colours = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(labels)}
    # One network alone has its quantities side by side.
    columns = len(networks) if len(networks) > 1 else len(quantities)
    count = len(quantities) * len(networks)
    figure, axes = style.grid_of_panels(count, columns=columns, height=2.5, narrow=narrow)
    panels = [(quantity, network) for quantity in quantities for network in networks]
    for one, (quantity, network) in zip(axes, panels, strict=True):
        chosen = [row for row in rows if row["spec"]["network"] == network]
        for row in chosen:
            _curve(one, row, quantity, colours[_curve_label(row)])
        if quantity == "alignment":
            one.plot([], [], color=style.MUTED, linestyle=_DASHED, linewidth=1.2, label="shuffled labels")
            chance = float(np.mean([row["chance"] for row in chosen]))
            one.axhline(chance, color=style.MUTED, linewidth=1.0, linestyle=":", label="random directions")
        if quantity == "gain":
            one.axhline(1.0, color=style.INK, linewidth=0.9, label="ρ = 1")
            one.set_ylim(0, None)
        else:
            one.set_ylim(0, 1.02)
        _step_axis(one, max(row["spec"]["steps"] for row in chosen))
        title, unit = QUANTITIES[quantity]
        style.label(one, f"{network}: {title}, n = {min(row['n'] for row in chosen)}", "training step", unit)
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def training_effects(rows: Sequence[dict[str, Any]], *, narrow: bool = False) -> Figure:
    """The rise of alignment in training and its difference from the shuffled control, with 95 % intervals.

    Conditions that decide are filled; their interval is the one that holds for all of them together.
    """
    if not rows:
        return style.nothing("No training was run.", narrow=narrow)
    panels = (
        ("change", "rise in training", "κ at the end minus κ at the start"),
        ("against_shuffled", "true minus shuffled labels", "κ at the end, true minus shuffled"),
    )
    height = 0.9 + 0.2 * len(rows)
    figure, axes = style.grid_of_panels(2, columns=2, height=height, narrow=narrow)
    longest = max(len(_label(row)) for row in rows)
    _room_for_names(figure, axes, 0.066 * longest, narrow=narrow)
    places = -np.arange(len(rows), dtype=np.float64)
    for index, (one, (name, title, unit)) in enumerate(zip(axes, panels, strict=True)):
        for place, row in zip(places, rows, strict=True):
            interval = row.get("simultaneous", row["change_interval"]) if name == "change" else row[f"{name}_interval"]
            colour = style.MODEL_COLOURS[NETWORKS.index(row["spec"]["network"])]
            one.plot(interval, [place, place], color=colour, linewidth=1.6)
            one.plot(
                row[name],
                place,
                marker=style.MODEL_MARKERS[NETWORKS.index(row["spec"]["network"])],
                markersize=5,
                linestyle="none",
                color=colour,
                markerfacecolor=colour if row["decides"] else "white",
                label=row["spec"]["network"] + (" (decides)" if row["decides"] else " (further)"),
            )
        one.axvline(0.0, color=style.INK, linewidth=0.9)
        one.axvline(LEAST_ALIGNMENT_GAIN, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        one.set_ylim(places[-1] - 0.7, 0.7)
        one.xaxis.set_major_locator(MaxNLocator(5))
        one.set_yticks(places, [_label(row) for row in rows] if index == 0 or narrow else [""] * len(rows))
        style.label(one, f"{title}, n = {min(row['n'] for row in rows)}", unit, "")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _label(row: dict[str, Any]) -> str:
    """A condition without its network, which the panel or the colour says."""
    return short(row["name"]).removeprefix(f"{row['spec']['network']}, ")


def _curve_label(row: dict[str, Any]) -> str:
    """The same without the number of steps, which the axis says."""
    return _label(row).replace(f", steps {row['spec']['steps']}", "")


def _curve(axes: Axes, row: dict[str, Any], quantity: str, colour: str) -> None:
    steps = np.maximum(np.asarray(row["curves"]["steps"], dtype=np.float64), _START)
    true, shuffled = (row["curves"][quantity][label] for label in LABELS)
    for (low, _, high), alpha in ((true, 0.16), (shuffled, 0.07)):
        axes.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0)
    axes.plot(steps, shuffled[1], color=colour, linestyle=_DASHED, linewidth=1.2)
    axes.plot(steps, true[1], color=colour, linewidth=1.5, label=_curve_label(row))


def _step_axis(axes: Axes, last: int) -> None:
    """A logarithmic axis that begins at step 0."""
    axes.set_xscale("log")
    ticks = [_START, *(10.0**power for power in range(int(np.log10(last)) + 1))]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= _START else f"{value:g}"))


def _room_for_names(figure: Figure, axes: Sequence[Axes], inches: float, *, narrow: bool) -> None:
    """Moves the panels right, so that the names of the conditions fit beside the first (each, if narrow)."""
    width = float(figure.get_size_inches()[0])
    margin = inches / width
    for index, one in enumerate(axes):
        _, y0, _, h = one.get_position(original=True).bounds
        each = (1 - margin) / (1 if narrow else len(axes))
        place = 0 if narrow else index
        one.set_position((margin + place * each + 0.02, y0, each - 0.05, h))
