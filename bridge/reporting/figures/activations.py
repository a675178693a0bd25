"""The paper's Figures 1-3 on this run's data, and word error rates by condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bridge.comparison.conditions import conditions_of
from bridge.comparison.pooled import TOGETHER, Pooled
from bridge.reporting.figures import style

COMPONENTS = ("cross-attention", "self-attention", "feed-forward")
PROXY_LABELS = {
    "n_eff_pct": ("$N_{eff}$", "change of $N_{eff}$ (%)"),
    "log10_kf": ("$K_f$", "change of $\\log_{10} K_f$"),
    "alpha": ("α", "change of α"),
}


def changes_by_layer(pooled: Pooled, model: str, *, k: int = 50, narrow: bool = False) -> Figure:
    """The paper's Figure 1: change of N_eff, K_f and alpha by layer and component, matched lengths, with intervals."""
    rows = pooled.layers
    if not rows.empty:
        rows = rows[(rows["model"] == model) & (rows["k"] == k) & (rows["length"] == "matched")]
        rows = rows[(rows["kept"] == "all") & (rows["stress"] != TOGETHER)]
        rows = rows[rows["d_alpha"].notna()]
    if rows.empty:
        return style.nothing(f"{model}: fewer than {k} positive eigenvalues in every pooled covariance.", narrow=narrow)
    figure, axes = style.grid_of_panels(9, columns=3, height=2.1, narrow=narrow)
    depth = int(rows["layer"].max())
    stresses = conditions_of(rows.rename(columns={"stress": "condition"}))
    for row, (proxy, (short, unit)) in enumerate(PROXY_LABELS.items()):
        for column, component in enumerate(COMPONENTS):
            one = axes[3 * row + column]
            for place, stress in enumerate(stresses):
                part = rows[(rows["component"] == component) & (rows["stress"] == stress)].sort_values("layer")
                effect = part[f"d_{proxy}"].to_numpy(dtype=np.float64)
                ends = [
                    effect - part[f"d_{proxy}_low"].to_numpy(dtype=np.float64),
                    part[f"d_{proxy}_high"].to_numpy(dtype=np.float64) - effect,
                ]
                one.errorbar(
                    part["layer"].to_numpy() + 0.12 * (place - (len(stresses) - 1) / 2),
                    effect,
                    yerr=np.maximum(np.nan_to_num(ends), 0.0),
                    color=style.colour_of(stress),
                    marker=style.marker_of(stress),
                    markersize=3.5,
                    linewidth=1.2,
                    elinewidth=0.9,
                    label=stress,
                )
            one.axhline(0.0, color=style.INK, linewidth=0.8)
            style.whole_layers(one, depth)
            style.label(one, f"{component}: {short}", "decoder layer", unit)
    style.note(axes[0], f"K = {k}, n = {int(rows['n_clips'].min())} clips", y=0.97, va="top")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def clouds(pooled: Pooled, points: pd.DataFrame, models: Sequence[str], *, narrow: bool = False) -> Figure:
    """The paper's Figure 2: final decoder layer, N_eff against alpha, one cloud a model.

    Left: every clip alone (K = 10), clean filled, stressed hollow. Right: pooled over clips (K = 50), one mark a
    condition in a cloud of bootstrap resamples.
    """
    if points.empty:
        return style.nothing("No clip has ten positive eigenvalues.", narrow=narrow)
    figure, axes = style.grid_of_panels(2, columns=2, height=3.5, narrow=narrow)
    for index, model in enumerate(models):
        colour = style.MODEL_COLOURS[index % len(style.MODEL_COLOURS)]
        marker = style.MODEL_MARKERS[index % len(style.MODEL_MARKERS)]
        mine = points[points["model"] == model]
        for clean in (True, False):
            part = mine[(mine["condition"] == "clean") == clean]
            axes[0].plot(
                part["effective_rank_10"],
                part["alpha_10"],
                linestyle="none",
                marker=marker,
                markersize=4.5,
                markeredgecolor=colour,
                markerfacecolor=colour if clean else "none",
                alpha=0.75,
                label=f"{model}, {'clean' if clean else 'stressed'}",
            )
        rows = pooled.clouds
        if rows.empty:
            continue
        for row in rows[(rows["model"] == model) & (rows["component"] == "cross-attention")].to_dict("records"):
            n_eff, alpha = float(row["n_eff"]), float(row["alpha"])
            axes[1].plot(row["n_eff_draws"], row["alpha_draws"], ".", color=colour, markersize=1.6, alpha=0.25)
            if not np.isfinite(n_eff):
                continue
            axes[1].plot(
                [n_eff],
                [alpha],
                marker=marker,
                markersize=7,
                markeredgecolor=style.INK,
                markeredgewidth=0.8,
                markerfacecolor=colour if row["condition"] == "clean" else "white",
            )
            axes[1].annotate(
                str(row["condition"]),
                (n_eff, alpha),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=7.5,
                color=style.INK,
            )
    style.label(axes[0], "clip by clip, K = 10", "$N_{eff}$ (of 10)", "α over modes 1..10")
    style.label(axes[1], "pooled, K = 50, with resamples", "$N_{eff}$ (of 50)", "α over modes 10..50")
    style.note(axes[0], f"n = {len(points)} transcripts")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def tail_ratios(pooled: Pooled, model: str, *, narrow: bool = False) -> Figure:
    """The paper's Figure 3: lambda_i(stressed) / lambda_i(clean) of the final layer, i = 1..50, with intervals."""
    rows = pooled.tails
    if not rows.empty:
        rows = rows[(rows["model"] == model) & (rows["kept"] == "all") & (rows["stress"] != TOGETHER)]
    if rows.empty:
        return style.nothing(f"{model}: fewer than 50 positive eigenvalues in the pooled covariances.", narrow=narrow)
    last = rows[rows["layer"] == rows["layer"].max()]
    figure, axes = style.grid_of_panels(3, columns=3, height=2.7, narrow=narrow)
    for one, component in zip(axes, COMPONENTS, strict=True):
        part = last[last["component"] == component]
        for stress in conditions_of(part.rename(columns={"stress": "condition"})):
            row = part[part["stress"] == stress].iloc[0]
            x = np.arange(1, len(row["ratio"]) + 1)
            one.plot(x, row["ratio"], color=style.colour_of(stress), linewidth=1.5, label=stress)
            low, high = (np.asarray(row[end], dtype=np.float64) for end in ("low", "high"))
            one.fill_between(x, low, high, color=style.colour_of(stress), alpha=0.15, linewidth=0)
        one.axhline(1.0, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        style.log_axis(one.yaxis)
        style.label(one, f"{component}, last layer", "mode i", "$\\lambda_i$ stressed / $\\lambda_i$ clean")
    style.note(axes[0], f"n = {int(last['n_clips'].min())} clips, matched lengths")
    style.shared_legend(figure, axes, narrow=narrow)
    return figure


def error_rates(wer: pd.DataFrame, clips: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """WER by condition: every clip, the mean with its 95 % interval, truncated clips hollow."""
    models = list(dict.fromkeys(wer["model"]))
    figure, axes = style.grid_of_panels(len(models), columns=3, height=2.9, narrow=narrow)
    for one, model in zip(axes, models, strict=True):
        rows = clips[(clips["model"] == model) & clips["wer"].notna()]
        names = conditions_of(wer[wer["model"] == model])
        for place, condition in enumerate(names):
            part = rows[rows["condition"] == condition].sort_values("clip")
            # Spread by rank, not at random: the same records draw the same figure.
            spread = (np.arange(len(part)) % 7 - 3) * 0.045
            for truncated in (False, True):
                chosen = part["truncated"].astype(bool).to_numpy() == truncated
                one.plot(
                    place + spread[chosen],
                    part["wer"].to_numpy()[chosen],
                    linestyle="none",
                    marker=style.marker_of(condition),
                    markersize=3.5,
                    markeredgecolor=style.colour_of(condition),
                    markerfacecolor="none" if truncated else style.colour_of(condition),
                    alpha=0.45,
                )
            row = wer[(wer["model"] == model) & (wer["condition"] == condition)].iloc[0]
            ends = [[row["wer"] - row["low"]], [row["high"] - row["wer"]]]
            one.errorbar(
                [place + 0.28],
                [row["wer"]],
                yerr=np.nan_to_num(np.maximum(ends, 0.0)),
                marker="_",
                markersize=10,
                color=style.INK,
                elinewidth=1.4,
                capsize=3,
            )
        one.axhline(0.5, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        one.set_xticks(range(len(names)), [f"{name}\nn = {int((rows['condition'] == name).sum())}" for name in names])
        style.label(one, model, "", "word error rate")
    return figure
