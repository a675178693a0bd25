"""Summaries of a run that report and ledger share: word errors, paired changes, layers, the paper's form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison import paper, statistics
from bridge.comparison.beside import beside_nulls
from bridge.comparison.conditions import CLEAN, conditions_of
from bridge.comparison.pooled import Pooled
from observables.thresholds import FAILED_WER


def wer_table(clips: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """WER by model and condition with intervals over clips, and its paired change from clean.

    Returns:
        mean WER with interval, pooled WER (all errors over all words), n clips, how many are above 0.5, how many of
        those truncated, mean change from clean with interval, d_z, Wilcoxon p and its q over the table.
    """
    records = []
    for model, rows in clips.groupby("model", sort=False):
        clean = rows[rows["condition"] == CLEAN].set_index("clip")["wer"]
        for condition in conditions_of(rows):
            part = rows[rows["condition"] == condition]
            known = part[part["wer"].notna()]
            found = statistics.bootstrap_mean(known["wer"], list(known["clip"]), seed=seed)
            change = (known.set_index("clip")["wer"] - clean).dropna() if condition != CLEAN else pd.Series(dtype=float)
            moved = statistics.bootstrap_mean(change, list(change.index), seed=seed)
            words = float(known["reference_words"].sum())
            errors = float(known[["substitutions", "deletions", "insertions"]].sum().sum())
            above = known["wer"] > FAILED_WER
            truncated = known["truncated"].astype(bool)
            records.append(
                {
                    "model": model,
                    "condition": condition,
                    "n": len(known),
                    "no_reference": len(part) - len(known),
                    "wer": found.effect,
                    "low": found.low,
                    "high": found.high,
                    "pooled_wer": errors / words if words else np.nan,
                    "above_half": int((above & ~truncated).sum()),
                    "above_half_truncated": int((above & truncated).sum()),
                    "truncated": int(part["truncated"].astype(bool).sum()),
                    "avg_logprob": float(part["avg_logprob"].mean()),
                    "change": moved.effect,
                    "change_low": moved.low,
                    "change_high": moved.high,
                    "d_z": statistics.standardised_mean(change),
                    "p": statistics.wilcoxon(change),
                }
            )
    table = pd.DataFrame.from_records(records)
    table["q"] = statistics.benjamini_hochberg(table["p"])
    return table


QUANTITIES = {
    "log_norm": "ln ‖J_L‖",
    "share": "share of the first direction of J_L",
    "ratio": "σ₂/σ₁ of J_L",
    "growth": "growth g (nats a layer)",
    "growth_transmission": "part of g made by the propagators",
    "log_sigma": "mean ln σ, layers 2..L",
    "bulk_gap": "mean bulk gap ξ_F, layers 2..L",
    "alignment": "mean alignment κ, layers 2..L",
    "gain": "mean gain ρ, layers 2..L",
    "avg_logprob": "mean log-probability of the transcript",
}


def clip_quantities(layers: pd.DataFrame, comparison: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """One row a model x clip x condition x state with the numbers of QUANTITIES."""
    keys = ["model", "clip", "condition", "state"]
    columns = ["wer", "truncated", "avg_logprob", "compression_ratio"]
    if comparison.empty:  # a run that only listened
        measured = ["norm", "sigma2", "share", "observed", "n_tokens", *QUANTITIES]
        return pd.DataFrame(columns=list(dict.fromkeys([*keys, *measured, *columns])))
    later = layers[layers["layer"] >= 2].assign(log_sigma=lambda rows: np.log(rows["sigma"].where(rows["sigma"] > 0)))
    means = later.groupby(keys)[["log_sigma", "bulk_gap", "alignment", "gain"]].mean().reset_index()
    table = comparison[
        [*keys, "norm", "sigma2", "share", "growth", "growth_transmission", "observed", "n_tokens"]
    ].merge(means, on=keys, how="left")
    norm = table["norm"].where(table["norm"] > 0)
    table["log_norm"], table["ratio"] = np.log(norm), table["sigma2"] / norm
    return table.merge(clips[[*keys[:3], *columns]], on=keys[:3], how="left")


def paired_changes(quantities: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Change of every quantity from clean to each stress, clip by clip, with interval, d_z, Wilcoxon p and q.

    q is Benjamini-Hochberg over the whole table: every comparison that was made counts.
    """
    records = []
    for (model, state), rows in quantities.groupby(["model", "state"], sort=False):
        clean = rows[rows["condition"] == CLEAN].set_index("clip")
        for condition in conditions_of(rows):
            if condition == CLEAN or clean.empty:
                continue
            stressed = rows[rows["condition"] == condition].set_index("clip")
            for name in QUANTITIES:
                change = (stressed[name] - clean[name]).dropna()
                found = statistics.bootstrap_mean(change, list(change.index), seed=seed)
                records.append(
                    {
                        "model": model,
                        "state": state,
                        "stress": condition,
                        "quantity": name,
                        "n": found.n,
                        "clean": float(clean.loc[clean.index.intersection(change.index), name].mean()),
                        "change": found.effect,
                        "low": found.low,
                        "high": found.high,
                        "d_z": statistics.standardised_mean(change),
                        "p": statistics.wilcoxon(change),
                        "code": found.code,
                    }
                )
    table = pd.DataFrame.from_records(records)
    if not table.empty:
        table["q"] = statistics.benjamini_hochberg(table["p"])
    return table


def layer_table(layers: pd.DataFrame, nulls: pd.DataFrame | None = None) -> pd.DataFrame:
    """Medians over clips of sigma, xi, xi_F, sigma xi_F, kappa and rho by model, state, condition and layer.

    sigma_scale_free and gain_scale_free are those of A_l ||h_{l-1}|| / ||h_l|| (O8), positions' r.m.s.

    What the nulls of gap and alignment have there stands beside them (`beside_nulls`); alignment_null95 is the 95 %
    quantile under random weights, where they were measured, by its older name.
    """
    columns = ["sigma", "gap", "bulk_gap", "pinning", "alignment", "gain", "context_share"]
    columns += ["sigma_scale_free", "gain_scale_free"]
    keys = ["model", "state", "condition", "layer"]
    table = _with_scale_free(_with_pinning(layers)).groupby(keys, sort=False)[columns].median().reset_index()
    sizes = layers.groupby(keys, sort=False).size().rename("n").reset_index()
    table = table.merge(sizes, on=keys)
    table = beside_nulls(table, layers, nulls)
    return table.assign(alignment_null95=table["alignment_random_weights_q95"])


def _with_scale_free(rows: pd.DataFrame) -> pd.DataFrame:
    scale = rows["hidden_rms_before"] / rows["hidden_rms"]
    return rows.assign(sigma_scale_free=rows["sigma"] * scale, gain_scale_free=rows["gain"] * scale)


def _with_pinning(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(pinning=rows["sigma"] * rows["bulk_gap"])


def paper_table(pooled: Pooled, *, length: str = "matched", k: int = 50, kept: str = "all") -> pd.DataFrame:
    """The paper's Tables 1-2 in its own form: published rows (K = 50) first, then ours by model and stress.

    Args:
        pooled: what pooling gave.
        length: "matched" or "none".
        k: modes, 50 or 10.
        kept: "all" pairs, or the "failed" ones.

    Returns:
        source ("paper" or "ours"), component, model, stress, d_n_eff_pct, d_log10_kf, d_alpha with ends of their
        intervals (NaN for the paper, which prints none), n_clips, reason.
    """
    records: list[dict[str, Any]] = [
        {
            "source": "paper",
            "component": row.component,
            "model": row.model,
            "stress": "all",
            "d_n_eff_pct": row.n_eff_pct,
            "d_log10_kf": row.log10_kf,
            "d_alpha": row.alpha,
            "reason": "ok",
        }
        for row in paper.TABLES
    ]
    if not pooled.summary.empty:
        ours = pooled.summary[(pooled.summary["length"] == length) & (pooled.summary["k"] == k)]
        ours = ours[ours["kept"] == kept]
        columns = ["component", "model", "stress", "n_clips", "n_layers", "reason"]
        columns += ["power_law_clean", "rows"]
        columns += [str(name) for name in ours if str(name).startswith("d_")]
        records += [
            {"source": "ours", **{str(key): one for key, one in row.items()}}
            for row in ours[columns].to_dict("records")
        ]
    return pd.DataFrame.from_records(records)


def failures(clips: pd.DataFrame, *, truncated: bool) -> pd.DataFrame:
    """Failed transcripts, those whose audio was cut at the model's window apart from the others."""
    chosen = (clips["wer"] > FAILED_WER) & (clips["truncated"].astype(bool) == truncated)
    columns = ["model", "condition", "clip", "wer", "reference", "transcript", "avg_logprob", "compression_ratio"]
    return clips.loc[chosen, columns].sort_values(["model", "condition", "clip"], ignore_index=True)
