"""Tables of the report about the models: what was measured, word errors, changes under stress, the paper's form."""

from __future__ import annotations

import pandas as pd

from bridge.comparison import tables
from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import ENCODER_STATES
from bridge.reporting.condition_wording import named
from bridge.reporting.wording import NOTHING, Table, fixed, fixed_interval, number, with_interval


def models(analysis: Analysis) -> Table:
    """What was heard and measured, model by model."""
    run = analysis.tables
    encoder = bool(run.layers["state"].isin(ENCODER_STATES).any())
    rows = []
    for name in run.models:
        heard = run.clips[run.clips["model"] == name]
        identity = analysis.identities[name]
        d_model, depth = run.dimensions(name)
        rows.append(
            [
                name,
                NOTHING if d_model is None else str(d_model),
                NOTHING if depth is None else str(depth),
                f"{heard['clip'].nunique()} clips, {len(heard)} samples",
                *(_states(run.layers[run.layers["model"] == name], encoder) if analysis.measured else []),
                identity.family or "no published checkpoint",
                identity.why,
                str(run.model_settings(name).get("sha256", NOTHING))[:12],
            ]
        )
    states = ["position state", "sequence state", *(["encoder states"] if encoder else []), "chain error", "arithmetic"]
    headers = ["model", "d", "L", "heard", *(states if analysis.measured else []), "counts as", "why", "weights"]
    chain = (
        "Models and the states measured. Chain error: how far the chain of single positions is from the true Jacobian "
        "(‖(J − J_chain)ᵀU‖ / ‖JᵀU‖, median at the last layer); in the sequence state the chain is exact."
    )
    return Table(
        chain if analysis.measured else "Models, and what they heard. No propagator and no Jacobian was measured.",
        headers,
        rows,
        [False, True, True] + [False] * (len(headers) - 3),
    )


def _states(part: pd.DataFrame, encoder: bool) -> list[str]:
    """Cells of what was measured of a model: by state, the chain's error, and the arithmetic."""
    counts = {
        str(state): f"{one['clip'].nunique()} clips: {named(one['condition'])}" for state, one in part.groupby("state")
    }
    error = part[part["layer"] == part["layers"]].groupby("state")["chain_error"].median()
    return [
        counts.get("position", NOTHING),
        counts.get("sequence", NOTHING),
        *([_encoder_counts(counts)] if encoder else []),
        ", ".join(f"{state} {number(value, 2)}" for state, value in error.items()) or NOTHING,
        ", ".join(sorted(set(part["dtype"]))) or NOTHING,
    ]


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
