"""The tables of the report, from the analysis to text cells."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bridge.comparison import regimes, tables
from bridge.comparison.analysis import Analysis
from bridge.comparison.beside import NULL_KINDS
from bridge.comparison.compare import PREDICTOR_TITLES, PREDICTORS
from bridge.comparison.pooled import ALL_STRESSES
from bridge.reporting.wording import (
    NOTHING,
    Table,
    fixed,
    fixed_interval,
    mebibytes,
    number,
    percent,
    seconds,
    with_interval,
)


def models(analysis: Analysis) -> Table:
    """What was measured, model by model."""
    rows = []
    encoder = analysis.tables.layers["state"].isin(tables.ENCODER_STATES).any()
    for name in analysis.tables.models:
        part = analysis.tables.layers[analysis.tables.layers["model"] == name]
        own = part[~part["state"].isin(tables.ENCODER_STATES)]
        identity = analysis.identities[name]
        counts = {
            str(state): f"{one['clip'].nunique()} clips: {', '.join(tables.conditions_of(one))}"
            for state, one in part.groupby("state")
        }
        settings = analysis.tables.model_settings(name)
        chain = part[part["layer"] == part["layers"]].groupby("state")["chain_error"].median()
        rows.append(
            [
                name,
                str(part["d_model"].iloc[0]),
                str(own["layers"].max()) if len(own) else NOTHING,
                counts.get("position", NOTHING),
                counts.get("sequence", NOTHING),
                *([_encoder_counts(counts)] if encoder else []),
                ", ".join(f"{state} {number(value, 2)}" for state, value in chain.items()),
                ", ".join(sorted(set(part["dtype"]))),
                identity.family or "no published checkpoint",
                identity.why,
                str(settings.get("sha256", NOTHING))[:12],
            ]
        )
    headers = [
        "model", "d", "L", "position state", "sequence state", *(["encoder states"] if encoder else []),
        "chain error", "arithmetic", "counts as", "why", "weights",
    ]  # fmt: skip
    return Table(
        "Models and the states measured. Chain error: how far the chain of single positions is from the true Jacobian "
        "(‖(J − J_chain)ᵀU‖ / ‖JᵀU‖, median at the last layer); in the sequence state the chain is exact.",
        headers,
        rows,
        [False, True, True] + [False] * (8 if encoder else 7),
    )


def _encoder_counts(counts: dict[str, str]) -> str:
    found = [f"{state}: {counts[state]}" for state in tables.ENCODER_STATES if state in counts]
    return "; ".join(found) or NOTHING


def wer(analysis: Analysis) -> Table:
    """WER by model and condition."""
    rows = [
        [
            row.model,
            row.condition,
            str(row.n),
            fixed_interval(row.wer, row.low, row.high, 2, signed=False),
            fixed(row.pooled_wer, 2),
            str(row.above_half),
            str(row.above_half_truncated),
            fixed_interval(row.change, row.change_low, row.change_high, 2),
            number(row.q, 2),
            number(row.avg_logprob),
        ]
        for row in analysis.wer.itertuples()
    ]
    headers = [
        "model", "condition", "clips", "WER, mean [95 %]", "all words", "WER > 0.5", "of these cut",
        "change from clean",
        "q (Wilcoxon)", "mean log-prob.",
    ]  # fmt: skip
    return Table(
        "Word error rate after Whisper's English normalisation. “Of these cut”: counted apart, because their audio "
        "exceeds the model's window.",
        headers,
        rows,
        [False, False] + [True] * 8,
    )


def agreement(analysis: Analysis, predictor: str) -> Table:
    """Predicted (rows) against observed (columns), counts over clips and conditions, by model and state."""
    columns = [*regimes.REGIMES, regimes.UNDECIDED]
    rows = []
    counts = analysis.agreement[analysis.agreement["predictor"] == predictor]
    for (model, state, predicted), part in counts.groupby(["model", "state", "predicted"], sort=False):
        by_observed = part.groupby("observed")["count"].sum()
        agree, disagree = int(part["agree"].sum()), int(part["disagree"].sum())
        rows.append(
            [str(model), str(state), str(predicted)]
            + [str(int(by_observed.get(name, 0)) or NOTHING) for name in columns]
            + [f"{agree} of {agree + disagree}" if agree + disagree else NOTHING]
        )
    return Table(
        f"Predicted by the {PREDICTOR_TITLES[predictor]} (rows) against observed (columns).",
        ["model", "state", "predicted", *columns, "agree, of decided"],
        rows,
        [False] * 3 + [True] * 6,
    )


def agreement_by_condition(analysis: Analysis) -> Table:
    """Agreeing, of decided, by model, state and condition, all predictors."""
    rows = []
    for (model, state, condition), part in analysis.comparison.groupby(["model", "state", "condition"], sort=False):
        cells = [str(model), str(state), str(condition), str(len(part))]
        observed = part["observed"].value_counts()
        cells.append(", ".join(f"{name} {count}" for name, count in observed.items()))
        free = part["observed_scale_free"].value_counts()
        cells.append(", ".join(f"{name} {count}" for name, count in free.items()))
        for name in PREDICTORS:
            column = part[f"agrees_{name}"]
            decided = int(column.notna().sum())
            cells.append(f"{int(column.fillna(False).sum())} of {decided}" if decided else NOTHING)
        rows.append(cells)
    return Table(
        "Observed regimes by condition, as measured and scale-free (O8), and how many predictions agree, of those "
        "decided.",
        ["model", "state", "condition", "n", "observed", "scale-free"]
        + [PREDICTOR_TITLES[name] for name in PREDICTORS],
        rows,
        [False] * 3 + [True, False, False] + [True] * 3,
    )


def clip_regimes(analysis: Analysis) -> Table:
    """Every clip: predicted and observed regime with margins."""
    rows = [
        [
            row.model,
            row.state,
            row.condition,
            row.clip,
            f"{row.predicted_paper} ({number(row.predicted_paper_margin, 2)})",
            f"{row.predicted_certificate} ({number(row.predicted_certificate_margin, 2)})",
            f"{row.predicted_mean_field} ({number(row.predicted_mean_field_margin, 2)})",
            f"{row.observed} ({number(row.observed_margin, 2)})",
            with_interval(row.growth, row.growth_low, row.growth_high, 2),
            number(row.share, 2),
            number(row.share_null95, 2),
            number(row.norm),
            row.reason or row.prediction_reason or NOTHING,
        ]
        for row in analysis.comparison.itertuples()
    ]
    headers = [
        "model", "state", "condition", "clip", "paper's rule", "certificate", "mean field", "observed",
        "growth g", "share",
        "null 95 %", "‖J_L‖", "why undecided",
    ]  # fmt: skip
    return Table(
        "Each clip; margins in brackets, in log units (negative: inside the error).",
        headers,
        rows,
        [False] * 8 + [True] * 4,
    )


def certificate(analysis: Analysis) -> Table:
    """How vacuous the certificate is."""
    rows = [
        [
            row.model,
            row.state,
            row.condition,
            str(row.n),
            number(row.norm),
            number(row.upper_over_norm),
            f"{row.lower_positive} of {row.n}",
            str(row.violations) if row.state == "sequence" else f"{row.violations} (chain approximate)",
            number(row.chain_error, 2),
        ]
        for row in analysis.tightness.itertuples()
    ]
    headers = [
        "model", "state", "condition", "n", "‖J_L‖, median", "upper bound / ‖J_L‖", "lower bound > 0", "norms outside",
        "chain error",
    ]  # fmt: skip
    return Table(
        "The certificate's interval (T15) against the measured norm; a factor of 1 would be tight. What blocks of "
        "several layers and the other certificates give stands under “Are the theorem's hypotheses met?”.",
        headers,
        rows,
        [False] * 3 + [True] * 6,
    )


def sensitivity(analysis: Analysis) -> Table:
    """Observed regimes with each threshold halved and doubled."""
    names = [*regimes.REGIMES, regimes.UNDECIDED]
    rows = [
        [row["model"], row["state"], row["threshold"], *(str(row[name]) for name in names)]
        for row in analysis.sensitivity.to_dict("records")
    ]
    return Table(
        "How the observed regimes move when each threshold of (O7) is halved or doubled.",
        ["model", "state", "threshold", *names],
        rows,
        [False] * 3 + [True] * 5,
    )


def paired(analysis: Analysis) -> Table:
    """Paired changes from clean."""
    rows = [
        [
            row.model,
            row.state,
            row.stress,
            tables.QUANTITIES[str(row.quantity)],
            str(row.n),
            number(row.clean),
            with_interval(row.change, row.low, row.high),
            number(row.d_z, 2, signed=True),
            number(row.q, 2),
        ]
        for row in analysis.paired.itertuples()
    ]
    return Table(
        "Change from clean, clip by clip: mean with 95 % bootstrap interval over clips (2,000 resamples; none below "
        "five clips), d_z, and q (Wilcoxon signed rank, Benjamini-Hochberg over this whole table).",
        ["model", "state", "stress", "quantity", "clips", "clean", "change [95 %]", "d_z", "q"],
        rows,
        [False] * 4 + [True] * 5,
    )


def paper_form(analysis: Analysis, component: str, length: str) -> Table:
    """One component of the paper's Tables 1-2 in its own form, its numbers above ours."""
    table = tables.paper_table(analysis.pooled, length=length)
    part = table[table["component"] == component]
    rows = []
    emphasised = set()
    for index, row in enumerate(part.to_dict("records")):
        cells = ["the paper: " + row["model"] if row["source"] == "paper" else row["model"]]
        if row["source"] == "paper":
            emphasised.add(index)
            cells += ["as published", NOTHING]
        else:
            cells += ["all stresses" if row["stress"] == ALL_STRESSES else row["stress"], str(int(row["n_clips"]))]
        for proxy, decimals in (("n_eff_pct", 1), ("log10_kf", 2), ("alpha", 2)):
            effect, low, high = (row.get(f"d_{proxy}{end}") for end in ("", "_low", "_high"))
            if row["source"] == "paper":  # as published, digit by digit
                cells.append(f"{effect:+g}".replace("-", "−"))
            elif row["reason"] == "ok":
                cells.append(fixed_interval(effect, low, high, decimals))
            else:
                cells.append(str(row["reason"]).replace("_", " "))
        rows.append(cells)
    how = (
        "both conditions cut to the shorter, clip by clip"
        if length == "matched"
        else "whole transcripts, lengths differ"
    )
    return Table(
        f"{component}, K = 50, mean over layers; {how}. The paper's numbers stand first.",
        ["model", "stress", "clips", "ΔN_eff (%)", "Δlog₁₀ K_f", "Δα"],
        rows,
        [False, False] + [True] * 4,
        frozenset(emphasised),
    )


def layer_medians(analysis: Analysis) -> Table:
    """Sigma, gap, alignment and gain by layer."""
    rows = [
        [
            str(row["model"]),
            str(row["state"]),
            str(row["condition"]),
            str(row["layer"]),
            str(row["n"]),
            *(
                number(row[name])
                for name in (
                    *("sigma", "sigma_scale_free", "gap", "bulk_gap", "pinning"),
                    *("alignment", "gain", "gain_scale_free", "context_share"),
                )
            ),
            number(row.get("alignment_null95")),
        ]
        for row in analysis.layer_medians.to_dict("records")
    ]
    headers = [
        "model",
        "state",
        "condition",
        "layer",
        "clips",
        "σ",
        "σ scale-free",
        "ξ",
        "ξ_F",
        "σ ξ_F",
        "κ",
        "ρ",
        "ρ scale-free",
        "share",
        "κ, random weights 95 %",
    ]
    title = "Medians over clips by layer; scale-free: the propagator times ‖h_{l−1}‖ / ‖h_l‖ (O8)."
    return Table(title, headers, rows, [False] * 3 + [True] * 12)


def layer_nulls(analysis: Analysis) -> Table:
    """Gap and alignment by layer, beside every null."""
    rows = []
    for row in analysis.layer_medians.to_dict("records"):
        above = row["alignment_above"]
        rows.append(
            [
                *(str(row[name]) for name in ("model", "state", "condition", "layer", "n")),
                number(row["gap"], 2),
                *(_band(row[f"gap_{kind}_low"], row[f"gap_{kind}_high"]) for kind in NULL_KINDS),
                number(row["alignment"], 2),
                *(number(row[f"alignment_{kind}_q95"], 2) for kind in NULL_KINDS),
                *(number(row[f"alignment_directions_{name}"], 2) for name in ("mean", "rms", "q95")),
                number(row["alignment_positions_q95"], 2),
                f"{row['alignment_positions_beyond']} of {row['alignment_positions_n']}"
                if row["alignment_positions_n"]
                else NOTHING,
                NOTHING if above is None else ", ".join(above) or "none",
            ]
        )
    headers = [
        "model", "state", "condition", "layer", "clips",
        "ξ", *(f"ξ, null of {word}" for word in NULL_KINDS.values()),
        "κ", *(f"κ, null of {word}" for word in NULL_KINDS.values()),
        "κ, directions: mean", "r.m.s.", "95 %", "positions kept: 95 %", "clips beyond", "κ is above",
    ]  # fmt: skip
    return Table(
        "Gap and alignment beside their nulls: medians over clips; of a null's gaps the middle 95 %, of its alignments "
        "the 95 % quantile, over draws and clips. Null of weights: all drawn anew; of singular vectors: those of every "
        "matrix of the decoder's layers, their singular values kept; of order: the layers permuted; of directions: u "
        "and v at random in the state's dimension, σ and ξ kept, which is exact (T22) and says nothing of ξ. One "
        "layer in twenty is above a null by chance. In the sequence state a direction may lie on few positions, which "
        "two layers share or do not, so that untrained ones align more than this law says, or hardly at all. Positions "
        "kept: the law of directions turned inside each position alone (T35), median over clips of its 95 % quantile, "
        "and how many clips' own alignments it gives a chance below 0.05; above the one and within the other, it is "
        "positions that two layers share and not directions.",
        headers,
        rows,
        [False] * 3 + [True] * 15 + [False],
    )


def _band(low: float, high: float) -> str:
    return NOTHING if pd.isna(low) or pd.isna(high) else f"{number(low, 2)} to {number(high, 2)}"


def quarantine(analysis: Analysis, counts: dict[str, int]) -> Table:
    """Quarantined samples by reason."""
    details: dict[str, str] = {}
    for entry in analysis.tables.quarantine:
        details.setdefault(str(entry.get("code", "unknown")), str(entry.get("detail") or entry.get("path") or ""))
    total = sum(counts.values())
    rows = [[code, str(count), percent(count, total), details.get(code, NOTHING)] for code, count in counts.items()]
    return Table(
        "Samples that were not measured, by reason.",
        ["code", "samples", "share", "for example"],
        rows,
        [False, True, True],
    )


def flat(title: str, tree: Any, *, depth: int = 3) -> Table:
    """A mapping as two columns, nested keys joined by dots; long lists say how many they are."""
    rows: list[list[str]] = []

    def walk(prefix: str, value: Any, left: int) -> None:
        if isinstance(value, dict) and left:
            for key, one in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), one, left - 1)
        elif isinstance(value, list | tuple):
            plain = all(not isinstance(one, dict | list) for one in value)
            short = ", ".join(str(one) for one in value)
            rows.append([prefix, short if plain and len(short) < 400 else f"{len(value)} entries"])
        else:
            rows.append([prefix, NOTHING if value is None else str(value)])

    walk("", tree, depth)
    return Table(title, ["", ""], rows)


def timings(analysis: Analysis) -> Table:
    """Wall time by stage, worker time by model and state, peak memory."""
    found = analysis.tables.timings
    rows = [[f"stage: {name}", seconds(value)] for name, value in dict(found.get("stages", {})).items()]
    for name, entry in dict(found.get("worker_seconds", {})).items():
        rows.append([f"worker time: {name}", f"{seconds(entry.get('seconds'))} in {int(entry.get('tasks', 0))} tasks"])
    if "total" in found:
        rows.append(["whole run so far", seconds(found["total"])])
    memory = found.get("peak_rss_bytes", {})
    if isinstance(memory, dict):
        if memory.get("parent") is not None:
            rows.append(["peak memory, main process", mebibytes(memory["parent"])])
        rows += [[f"peak memory, worker {i}", mebibytes(value)] for i, value in enumerate(memory.get("workers", []), 1)]
    return Table(
        "Wall time and memory (the report's own stage is added once it is written).", ["", ""], rows, [False, True]
    )


def sample_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Failed transcripts as text for the report."""
    return [
        {
            "model": str(row.model),
            "condition": str(row.condition),
            "clip": str(row.clip),
            "wer": number(row.wer, 3),
            "logprob": number(row.avg_logprob, 3),
            "compression": number(row.compression_ratio, 3),
            "reference": str(row.reference or ""),
            "transcript": str(row.transcript or "").strip() or "(nothing)",
        }
        for row in table.itertuples()
    ]
