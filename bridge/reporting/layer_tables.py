"""Tables of the report about layers: sigma, gap, alignment and gain, and the same beside their nulls."""

from __future__ import annotations

import pandas as pd

from bridge.comparison.analysis import Analysis
from bridge.comparison.beside import NULL_KINDS
from bridge.reporting.wording import NOTHING, Table, number


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
