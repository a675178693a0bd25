"""C6-C10: what the paper says of the covariance of activations under stress."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bridge.comparison import statistics
from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import CLEAN, judged
from bridge.comparison.pooled import ALL_STRESSES, TOGETHER
from bridge.comparison.pooled_spectra import CLIPS_A_MODE, ROWS_A_MODE
from bridge.comparison.statistics import Direction, Interval
from bridge.ledger.settling import Reading, Test

# Least effects worth having: about half of the smallest change the paper reports for the claim (observables.md).
LEAST_RANK_LOSS_PCT = -5.0
LEAST_COMPRESSION_PCT = -1.0
LEAST_HARDENING = 0.004
LEAST_LOG10_KF = 1.0
LEAST_SILHOUETTE = 0.5
LEAST_TAIL_GAIN = float(np.log(1.01))

_FROM = (
    f"K_f, alpha and the tail have an interval from {CLIPS_A_MODE * 50} clips and {ROWS_A_MODE * 50} pooled tokens on."
)


def rank_loss(analysis: Analysis) -> Test:
    """C6: cross-attention N_eff of tiny and small falls under stress."""
    return Test(
        "C6",
        "Change of cross-attention N_eff (K = 50), pooled over clips, both conditions cut to the shorter, mean over "
        "layers and stresses; bootstrap over clips.",
        ("tiny", "small"),
        LEAST_RANK_LOSS_PCT,
        "less",
        _pooled(
            analysis,
            "cross-attention",
            "n_eff_pct",
            "change of cross-attention N_eff, %",
            LEAST_RANK_LOSS_PCT,
            "less",
            beside=True,
        ),
    )


def compression(analysis: Analysis) -> Test:
    """C7: self-attention of large loses rank and gains slope."""
    rank = _pooled(
        analysis, "self-attention", "n_eff_pct", "change of self-attention N_eff, %", LEAST_COMPRESSION_PCT, "less"
    )
    slope = _pooled(analysis, "self-attention", "alpha", "change of self-attention alpha", LEAST_HARDENING, "greater")
    return Test(
        "C7",
        "Two parts that must both hold: change of self-attention N_eff (K = 50) below -1 %, and of alpha above 0.004; "
        "pooled, matched lengths, mean over layers and stresses. " + _FROM,
        ("large",),
        LEAST_COMPRESSION_PCT,
        "less",
        [*rank, *slope],
    )


def disintegration(analysis: Analysis) -> Test:
    """C8: log10 K_f rises under stress, in every component."""
    readings = [
        reading
        for component in ("cross-attention", "self-attention", "feed-forward")
        for reading in _pooled(
            analysis,
            component,
            "log10_kf",
            f"change of {component} log10 K_f",
            LEAST_LOG10_KF,
            "greater",
            decides=component == "cross-attention",
            beside=component == "cross-attention",
        )
    ]
    return Test(
        "C8",
        "Change of log10 K_f (K = 50), pooled, matched lengths, mean over layers and stresses; cross-attention, which "
        "the paper gives for all three models, decides. Least effect: tenfold (the paper's smallest is 2.93). " + _FROM,
        ("tiny", "small", "large"),
        LEAST_LOG10_KF,
        "greater",
        readings,
    )


def tail(analysis: Analysis) -> Test:
    """C10: eigenvalues 10..50 of large models' self-attention gain energy under stress."""
    return Test(
        "C10",
        "Mean of ln lambda_i(stressed) / lambda_i(clean) over i = 10..50, self-attention, pooled, matched lengths, "
        "mean over layers and stresses. Least effect ln 1.01. (K_f is a sum of 1 / lambda: where C8 holds in a "
        "component, its smallest eigenvalues lost energy.) " + _FROM,
        ("large",),
        LEAST_TAIL_GAIN,
        "greater",
        _pooled(
            analysis, "self-attention", "tail_log", "mean ln tail ratio of self-attention", LEAST_TAIL_GAIN, "greater"
        ),
    )


def _pooled(
    analysis: Analysis,
    component: str,
    proxy: str,
    what: str,
    least: float,
    direction: Direction,
    *,
    decides: bool = True,
    beside: bool = False,
) -> list[Reading]:
    """The mean over stresses of every model; with `beside`, what the paper pooled too: all stresses as one condition,
    and of these the pairs whose stressed transcript failed."""
    readings = []
    for name, identity in analysis.identities.items():
        rows = _summary(analysis, name, component)
        chosen = [(ALL_STRESSES, "all", what, decides)]
        if beside:
            chosen += [
                (TOGETHER, "all", f"{what}, all stresses pooled as one condition", False),
                (TOGETHER, "failed", f"{what}, the same of the pairs that failed (WER > 0.5, not cut)", False),
            ]
        for stress, kept, said, deciding in chosen:
            mine = rows if rows.empty else rows[rows["kept"] == kept]
            whole = mine if mine.empty else mine[mine["stress"] == stress]
            if whole.empty:
                continue
            row = whole.iloc[0]
            note = _note(mine if stress == ALL_STRESSES else whole, row, proxy)
            if stress == ALL_STRESSES:
                note += _cut(analysis, name)
            readings.append(
                Reading(name, identity.paper_family, said, _interval(row, proxy), least, direction, note, deciding)
            )
    return readings


def _summary(analysis: Analysis, model: str, component: str) -> pd.DataFrame:
    """Matched lengths, K = 50."""
    rows = analysis.pooled.summary
    if rows.empty:
        return rows
    return rows[
        (rows["model"] == model) & (rows["component"] == component) & (rows["length"] == "matched") & (rows["k"] == 50)
    ]


def _interval(row: pd.Series, proxy: str) -> Interval:
    effect, low, high = (float(row[f"d_{proxy}{end}"]) for end in ("", "_low", "_high"))
    n = int(row["n_clips"])
    code = "ok" if np.isfinite(low) else str(row["reason"])
    if code == "ok" and not np.isfinite(low):
        few = proxy != "n_eff_pct" and n >= CLIPS_A_MODE * row["k"]
        few &= min(row["n_tokens_clean"], row["n_tokens_stressed"]) < ROWS_A_MODE * row["k"]
        code = "too_few_tokens" if few else "too_few_clips"
    if n < statistics.MIN_CLUSTERS:
        low = high = float("nan")
        code = "too_few_clusters"
    return Interval(effect, low, high, n, code=code)


def _note(rows: pd.DataFrame, row: pd.Series, proxy: str) -> str:
    meant = judged(set(rows["stress"]) - {ALL_STRESSES, TOGETHER})
    by_stress = ", ".join(
        f"{one['stress']} {one[f'd_{proxy}']:.3g}"
        for one in rows[rows["stress"].isin(meant)].to_dict("records")
        if np.isfinite(one[f"d_{proxy}"])
    )
    tokens = f"{int(row['n_tokens_stressed'])} pooled tokens"
    if row["stress"] == TOGETHER:
        note = f"one stress a clip; {tokens}" + (f"; {row['reason']}" if row["reason"] != "ok" else "")
    else:
        note = f"by stress: {by_stress}; {tokens}" if by_stress else f"{row['reason']}; {tokens}"
    if proxy == "alpha":
        fitted = f"a power law in {int(row['power_law_clean'])} of {int(row['rows'])} spectra"
        note += f"; clean alpha {row['clean_alpha']:.2f}, {fitted}"
    return note


def _cut(analysis: Analysis, model: str) -> str:
    """How many of the stressed samples were longer than the model's window: their ends count in no activation."""
    clips = analysis.tables.clips
    stressed = clips[(clips["model"] == model) & clips["condition"].isin(judged(clips["condition"]))]
    cut = int(stressed["truncated"].astype(bool).sum())
    return f"; {cut} of {len(stressed)} stressed samples cut at the model's window" if cut else ""


def clusters(analysis: Analysis) -> Test:
    """C9: in the plane of N_eff and alpha the final layers of small and large models separate."""
    test = (
        "Silhouette (distances to the groups' centres, both axes scaled to unit variance) of per-clip points (N_eff, "
        "alpha; K = 10) of the final decoder layer's cross-attention, grouped as the paper does: tiny and small "
        "against large; bootstrap over clips."
    )
    points = final_points(analysis.tables.activations)
    points = points[points["condition"].isin([CLEAN, *judged(points["condition"])])]
    families = {name: one.paper_family for name, one in analysis.identities.items()}
    groups = {name: {"tiny": 0, "small": 0, "large": 1}.get(family or "", -1) for name, family in families.items()}
    known = points[points["model"].map(groups) >= 0]
    readings = []
    if known["model"].map(groups).nunique() == 2:
        found = _silhouette(known, np.asarray(known["model"].map(groups), dtype=np.intp))
        readings.append(
            Reading(
                "all measured",
                "small and large",
                "silhouette of small against large",
                found,
                LEAST_SILHOUETTE,
                "greater",
            )
        )
    elif points["model"].nunique() >= 2:
        codes = pd.factorize(points["model"])[0]
        names = " against ".join(dict.fromkeys(points["model"]))
        readings.append(
            Reading(
                names,
                None,
                "silhouette of one model against the others",
                _silhouette(points, np.asarray(codes, dtype=np.intp)),
                LEAST_SILHOUETTE,
                "greater",
                "widths, depths and transcript lengths differ between models too, and move both axes",
            )
        )
    return Test(
        "C9",
        test,
        ("small and large",),
        LEAST_SILHOUETTE,
        "greater",
        readings,
        "" if readings else "It needs a small and a large Whisper in one run.",
    )


def final_points(activations: pd.DataFrame, component: str = "cross-attention") -> pd.DataFrame:
    """Per-clip proxies (K = 10) of the last decoder layer, one row a model x clip x condition."""
    last = activations.groupby("model")["layer"].transform("max")
    chosen = (activations["layer"] == last) & (activations["component"] == component)
    columns = ["model", "clip", "condition", "effective_rank_10", "alpha_10", "kirchhoff_10", "n_tokens"]
    return activations.loc[chosen, columns].dropna(subset=["effective_rank_10", "alpha_10"])


def _silhouette(points: pd.DataFrame, codes: NDArray[np.intp]) -> Interval:
    return statistics.bootstrap_statistic(
        centre_silhouette,
        [points["effective_rank_10"].to_numpy(), points["alpha_10"].to_numpy(), codes.astype(np.float64)],
        list(points["clip"]),
        seed=0,
    )


def centre_silhouette(x: NDArray[np.float64], y: NDArray[np.float64], codes: NDArray[np.float64]) -> float:
    """Mean over points of (b - a) / max(a, b), a the distance to the own group's centre, b to the nearest other's.

    Returns:
        In [-1, 1]; NaN with fewer than two groups or an axis without variance.
    """
    names = np.unique(codes)
    if len(names) < 2 or np.std(x) == 0 or np.std(y) == 0:
        return float("nan")
    plane = np.stack([(x - x.mean()) / np.std(x), (y - y.mean()) / np.std(y)], axis=1)
    distances = np.stack([np.linalg.norm(plane - plane[codes == name].mean(axis=0), axis=1) for name in names], axis=1)
    own = np.searchsorted(names, codes)
    rows = np.arange(len(codes))
    a = distances[rows, own]
    distances[rows, own] = np.inf
    b = distances.min(axis=1)
    scale = np.maximum(a, b)
    return float(np.mean(np.where(scale > 0, (b - a) / np.where(scale > 0, scale, 1.0), 0.0)))
