"""The paper's Figures 1-3 on this run's data, and word error rates by condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETUP

from bridge.comparison.conditions import CLEAN, conditions_of, in_order
from bridge.comparison.pooled import TOGETHER, Pooled
from bridge.reporting.figures import style

COMPONENTS = ("cross-attention", "self-attention", "feed-forward")
PROXY_LABELS = {
    "n_eff_pct": ("$N_{eff}$", "change of $N_{eff}$ (%)"),
    "log10_kf": ("$K_f$", "change of $\\log_{10} K_f$"),
    "alpha": ("α", "change of α"),
}
TOGETHER_LABEL = "all stresses as one condition"
_FEW = 4
"""Conditions up to which each keeps its interval or its name beside its mark; with more they would cover each other."""


def changes_by_layer(pooled: Pooled, model: str, *, k: int = 50, narrow: bool = False) -> Figure:
    """The paper's Figure 1: change of N_eff, K_f and alpha by layer and component, matched lengths, with intervals.

    All stresses pooled as one condition, the paper's way, are black; with more than four stresses only these carry
    their intervals.
    """
    rows = pooled.layers
    if not rows.empty:
        rows = rows[(rows["model"] == model) & (rows["k"] == k) & (rows["length"] == "matched")]
        rows = rows[(rows["kept"] == "all") & rows["d_alpha"].notna()]
    if rows.empty:
        return style.nothing(f"{model}: fewer than {k} positive eigenvalues in every pooled covariance.", narrow=narrow)
    figure, axes = style.grid_of_panels(9, columns=3, height=2.1, narrow=narrow)
    depth = int(rows["layer"].max())
    stresses = _stresses(rows)
    for row, (proxy, (short, unit)) in enumerate(PROXY_LABELS.items()):
        for column, component in enumerate(COMPONENTS):
            one = axes[3 * row + column]
            for place, stress in enumerate(stresses):
                part = rows[(rows["component"] == component) & (rows["stress"] == stress)].sort_values("layer")
                _by_layer(one, part, proxy, stress, place, len(stresses))
            one.axhline(0.0, color=style.INK, linewidth=0.8)
            style.whole_layers(one, depth)
            style.label(one, f"{component}: {short}", "decoder layer", unit)
    style.note(axes[0], f"K = {k}, {_clips(rows)}", y=0.97, va="top")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _stresses(rows: pd.DataFrame) -> list[str]:
    """In order; TOGETHER last, and only beside others."""
    named = in_order(one for one in rows["stress"] if one != TOGETHER)
    return [*named, TOGETHER] if len(named) > 1 and TOGETHER in set(rows["stress"]) else named


def _clips(rows: pd.DataFrame) -> str:
    low, high = int(rows["n_clips"].min()), int(rows["n_clips"].max())
    return f"n = {low} clips" if low == high else f"n = {low} to {high} clips"


def _by_layer(axes: Axes, part: pd.DataFrame, proxy: str, stress: str, place: int, count: int) -> None:
    one_of_all = stress == TOGETHER
    colour = style.colour_of(stress)
    effect = part[f"d_{proxy}"].to_numpy(dtype=np.float64)
    ends = [
        effect - part[f"d_{proxy}_low"].to_numpy(dtype=np.float64),
        part[f"d_{proxy}_high"].to_numpy(dtype=np.float64) - effect,
    ]
    bars = np.maximum(np.nan_to_num(ends), 0.0) if one_of_all or count <= _FEW + 1 else None
    axes.errorbar(
        part["layer"].to_numpy() + style.beside(place, count),
        effect,
        yerr=bars,
        color=colour,
        marker=style.marker_of(stress),
        markersize=5 if one_of_all else 3.5,
        linewidth=1.2,
        linestyle=(0, (4, 2)) if one_of_all else "-",
        elinewidth=0.9,
        label=TOGETHER_LABEL if one_of_all else stress,
    )


def clouds(pooled: Pooled, points: pd.DataFrame, models: Sequence[str], *, narrow: bool = False) -> Figure:
    """The paper's Figure 2: final decoder layer, N_eff against alpha, one cloud a model.

    Left: every clip alone (K = 10), clean filled, stressed hollow. Right: pooled over clips (K = 50), one mark a
    condition in a cloud of bootstrap resamples; the stresses pooled as one condition are a star.
    """
    if points.empty:
        return style.nothing("No clip has ten positive eigenvalues.", narrow=narrow)
    figure, axes = style.grid_of_panels(2, columns=2, height=3.5, narrow=narrow)
    crowded = style.crowded(len(points))
    for index, model in enumerate(models):
        colour = style.MODEL_COLOURS[index % len(style.MODEL_COLOURS)]
        marker = style.MODEL_MARKERS[index % len(style.MODEL_MARKERS)]
        mine = points[points["model"] == model]
        for clean in (False, True):
            part = mine[(mine["condition"] == CLEAN) == clean]
            axes[0].plot(
                part["effective_rank_10"],
                part["alpha_10"],
                linestyle="none",
                marker=marker,
                markersize=3.0 if crowded else 4.5,
                markeredgecolor=colour,
                markerfacecolor=colour if clean else "none",
                alpha=0.35 if crowded else 0.75,
                rasterized=crowded,
                label=f"{model}, {'clean' if clean else 'stressed'}",
            )
        rows = pooled.clouds
        if not rows.empty:
            chosen = rows[(rows["model"] == model) & (rows["component"] == "cross-attention")]
            _pooled_cloud(axes[1], chosen, colour, marker)
    style.label(axes[0], "clip by clip, K = 10", "$N_{eff}$ (of 10)", "α over modes 1..10")
    style.label(axes[1], "pooled, K = 50, with resamples", "$N_{eff}$ (of 50)", "α over modes 10..50")
    style.note(axes[0], f"n = {len(points)} transcripts of {points['clip'].nunique()} clips")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def _pooled_cloud(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    """One model's conditions; with many of them only clean and all stresses as one are named and have a cloud."""
    stresses = in_order(one for one in rows["condition"] if one not in (CLEAN, TOGETHER))
    named = {CLEAN, *(stresses if len(stresses) <= _FEW else ())} | ({TOGETHER} if len(stresses) > 1 else set())
    for row in rows.to_dict("records"):
        condition = str(row["condition"])
        n_eff, alpha = float(row["n_eff"]), float(row["alpha"])
        if not np.isfinite(n_eff) or (condition == TOGETHER and condition not in named):
            continue
        if condition in named:
            axes.plot(
                row["n_eff_draws"], row["alpha_draws"], ".", color=colour, markersize=1.6, alpha=0.25, rasterized=True
            )
        axes.plot(
            [n_eff],
            [alpha],
            marker="*" if condition == TOGETHER else marker,
            markersize=11 if condition == TOGETHER else 7 if condition in named else 4.5,
            markeredgecolor=style.INK if condition in named else colour,
            markeredgewidth=0.8,
            markerfacecolor=colour if condition == CLEAN else "white",
            zorder=4,
        )
        if condition in named:
            axes.annotate(
                "all as one" if condition == TOGETHER else style.broken(condition, 18),
                (n_eff, alpha),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=7.5,
                color=style.INK,
                zorder=5,
            )


def tail_ratios(pooled: Pooled, model: str, *, narrow: bool = False) -> Figure:
    """The paper's Figure 3: lambda_i(stressed) / lambda_i(clean) of the final layer, i = 1..50, with intervals.

    With more than four stresses only all of them as one condition, black, keep their band.
    """
    rows = pooled.tails
    if not rows.empty:
        rows = rows[(rows["model"] == model) & (rows["kept"] == "all")]
    if rows.empty:
        return style.nothing(f"{model}: fewer than 50 positive eigenvalues in the pooled covariances.", narrow=narrow)
    last = rows[rows["layer"] == rows["layer"].max()]
    figure, axes = style.grid_of_panels(3, columns=3, height=2.7, narrow=narrow)
    stresses = _stresses(last)
    for one, component in zip(axes, COMPONENTS, strict=True):
        part = last[last["component"] == component]
        for stress in stresses:
            found = part[part["stress"] == stress]
            if found.empty:
                continue
            row, one_of_all = found.iloc[0], stress == TOGETHER
            colour = style.colour_of(stress)
            x = np.arange(1, len(row["ratio"]) + 1)
            one.plot(
                x,
                row["ratio"],
                color=colour,
                linewidth=1.5,
                linestyle=(0, (4, 2)) if one_of_all else "-",
                label=TOGETHER_LABEL if one_of_all else stress,
            )
            if one_of_all or len(stresses) <= _FEW + 1:
                low, high = (np.asarray(row[end], dtype=np.float64) for end in ("low", "high"))
                one.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        one.axhline(1.0, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        style.log_axis(one.yaxis)
        style.label(one, f"{component}, last layer", "mode i", "$\\lambda_i$ stressed / $\\lambda_i$ clean")
    style.note(axes[0], f"{_clips(last)}, matched lengths")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def error_rates(wer: pd.DataFrame, clips: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """WER by condition: every clip, the mean with its 95 % interval, truncated clips hollow.

    A loop can make a WER of 10 and more: where some lie far above the others, the axis is cut and a note counts them.
    """
    wer = wer[wer["n"] > 0]  # without speech there is no reference to err against
    models = list(dict.fromkeys(wer["model"]))
    if not models:
        return style.nothing("No clip has a reference transcript.", narrow=narrow)
    most = max(int((wer["model"] == model).sum()) for model in models)
    columns = 3 if most <= _FEW else 2 if most <= 6 else 1
    letters = int((3.4 if narrow else 10.0 / min(columns, len(models)) - 0.8) / most / 0.068)
    upright = letters < 9  # no room beside each other: from below to above
    longest = max(len(str(name)) for name in wer["condition"]) + 9
    below = 0.068 * longest - 0.25 if upright else 0.0
    figure, axes = style.grid_of_panels(len(models), columns=columns, height=2.9 + below, narrow=narrow)
    for one, model in zip(axes, models, strict=True):
        rows = clips[(clips["model"] == model) & clips["wer"].notna()]
        names = conditions_of(wer[wer["model"] == model])
        ends = wer.loc[wer["model"] == model, ["wer", "high"]].to_numpy(dtype=np.float64)
        top = _cut(rows["wer"], float(np.nanmax(ends)))
        for place, condition in enumerate(names):
            part = rows[rows["condition"] == condition].sort_values("clip")
            row = wer[(wer["model"] == model) & (wer["condition"] == condition)].iloc[0]
            _errors(one, part, row, condition, place, top=top, crowded=style.crowded(len(clips)))
        one.axhline(0.5, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        counts = rows["condition"].value_counts()
        counted = [(name, f"n = {int(counts.get(name, 0))}") for name in names]
        ticks = [f"{name}, {n}" if upright else f"{style.broken(name, letters)}\n{n}" for name, n in counted]
        one.set_xticks(range(len(names)), ticks, rotation=90 if upright else 0)
        style.label(one, model, "", "word error rate")
        if top is not None:
            one.set_ylim(-0.04 * top, top)
            above = rows.loc[rows["wer"] > top, "wer"]
            said = f"{len(above)} of {len(rows)} above {top:g}, at the upper edge: up to {above.max():.3g}"
            style.note(one, said, x=0.01, y=0.92, ha="left", va="top")
    lines = max(label.get_text().count("\n") + 1 for one in axes for label in one.get_xticklabels())
    if upright or lines > 2:
        _make_room(figure, axes, below if upright else 0.13 * (lines - 2))
    return figure


def _cut(rates: pd.Series, mean: float) -> float | None:
    """Where the axis of word error rates ends short of its greatest; None where all are shown.

    Args:
        rates: of every clip of a model.
        mean: upper end of its greatest mean, which stays inside.

    Returns:
        2, or in halves above the 99 % quantile and the means if these lie higher; None where that would hardly
        shorten the axis.
    """
    top = max(2.0, np.ceil(2 * 1.05 * max(rates.quantile(0.99), mean)) / 2) if len(rates) else np.inf
    return float(top) if len(rates) and rates.max() > 1.25 * top else None


def _errors(
    axes: Axes, part: pd.DataFrame, row: pd.Series, condition: str, place: int, *, top: float | None, crowded: bool
) -> None:
    """One condition of one model: its clips, and the mean beside them; clips above `top` point up at the edge."""
    # Spread by rank, not at random: the same records draw the same figure.
    spread = (np.arange(len(part)) % 7 - 3) * 0.045
    rates = part["wer"].to_numpy(dtype=np.float64)
    beyond = rates > (np.inf if top is None else top)
    for truncated in (False, True):
        chosen = part["truncated"].astype(bool).to_numpy() == truncated
        inside, outside = chosen & ~beyond, chosen & beyond
        look: dict[str, Any] = {
            "linestyle": "none",
            "markeredgecolor": style.colour_of(condition),
            "markerfacecolor": "none" if truncated else style.colour_of(condition),
        }
        marker = style.marker_of(condition)
        axes.plot(
            place + spread[inside], rates[inside], marker=marker, markersize=3.5, alpha=0.45, rasterized=crowded, **look
        )
        if outside.any():
            edge = np.full(int(outside.sum()), top)
            axes.plot(place + spread[outside], edge, marker=CARETUP, markersize=7, clip_on=False, **look)
    ends = [[row["wer"] - row["low"]], [row["high"] - row["wer"]]]
    axes.errorbar(
        [place + 0.28],
        [row["wer"]],
        yerr=np.nan_to_num(np.maximum(ends, 0.0)),
        marker="_",
        markersize=10,
        color=style.INK,
        elinewidth=1.4,
        capsize=3,
    )


def _make_room(figure: Figure, axes: Sequence[Axes], inches: float) -> None:
    """Lifts the lower edge of every panel for tick labels of several lines."""
    height = float(figure.get_size_inches()[1])
    for one in axes:
        x0, y0, w, h = one.get_position(original=True).bounds
        one.set_position((x0, y0 + inches / height, w, h - inches / height))
