"""Tables of the report about the models: what was measured, word errors, changes under stress, the paper's form."""

from __future__ import annotations

from bridge.comparison import tables
from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import ENCODER_STATES, conditions_of
from bridge.comparison.pooled import ALL_STRESSES
from bridge.reporting.wording import NOTHING, Table, fixed, fixed_interval, number, with_interval


def models(analysis: Analysis) -> Table:
    """What was measured, model by model."""
    rows = []
    encoder = analysis.tables.layers["state"].isin(ENCODER_STATES).any()
    for name in analysis.tables.models:
        part = analysis.tables.layers[analysis.tables.layers["model"] == name]
        own = part[~part["state"].isin(ENCODER_STATES)]
        identity = analysis.identities[name]
        counts = {
            str(state): f"{one['clip'].nunique()} clips: {', '.join(conditions_of(one))}"
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
    found = [f"{state}: {counts[state]}" for state in ENCODER_STATES if state in counts]
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
