"""Were the theorem's hypotheses met, at which block size, and what is its certificate worth: tables and sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bridge.comparison.analysis import Analysis
from bridge.comparison.blocks import describe_blocks, headline_blocks
from bridge.comparison.subspaces import describe_subspaces
from bridge.reporting.wording import NOTHING, Table, fixed, mebibytes, number, seconds
from theory.regimes.thresholds import PAPER_ALIGNMENT, PAPER_FIRST_ORDER_ERROR


def sentences(analysis: Analysis) -> dict[str, list[str]]:
    """In plain words: {"blocks": one a model, state and condition, "subspaces": one a model and state}."""
    blocks, subspaces = analysis.block_summary, analysis.subspace_summary
    return {
        "blocks": [] if blocks is None else describe_blocks(blocks),
        "subspaces": [] if subspaces is None else describe_subspaces(subspaces),
    }


def verdict(analysis: Analysis) -> str:
    """For the opening: how often the hypotheses held, by model in the state that speaks for it; "" without blocks."""
    if analysis.block_summary is None:
        return ""
    pieces = []
    for (model, state), rows in analysis.block_summary.groupby(["model", "state"], sort=False):
        inside = rows[rows["headline"]]
        if inside.empty:
            continue
        met, n = int(inside["both"].sum()), int(inside["n"].sum())
        sizes = ", ".join(str(size) for size in sorted(inside["block"].unique()))
        line = (
            f"{model}, {state} state: met together in {met} of {n} chains of m = {sizes} layers a block; largest κ of "
            f"any block {inside['alignment_most'].max():.2f}, smallest ξ {inside['gap_least'].min():.2f}"
        )
        best = headline_blocks(rows)
        if len(best):
            bound, plain = best["cone_upper_over_norm"].median(), best["trivial_over_norm"].median()
            low = int(inside["lower_positive"].sum())
            gained = int(inside["below_trivial"].sum())
            line += (
                f"; the certificate at its best block size bounds ‖J_L‖ by {bound:.3g} times its value (σ and ‖B‖ "
                f"alone, by the triangle inequality: {plain:.3g}; gap and alignment improve on it in {gained} of {n}), "
                f"and from below by more than 0 in {low} of {n}"
            )
        pieces.append(line)
    if not pieces:
        return ""
    return (
        f"The theorem asks for ξ << 1 (N ξ / κ below {PAPER_FIRST_ORDER_ERROR:g}, N the number of blocks) and κ near 1 "
        f"(above {PAPER_ALIGNMENT:g}). " + ". ".join(pieces) + "."
    )


def blocks(analysis: Analysis) -> Table | None:
    """Hypotheses and certificate by model, state, condition and block size."""
    if analysis.block_summary is None:
        return None
    rows = []
    for row in analysis.block_summary.to_dict("records"):
        n = int(row["n"])
        rows.append(
            [
                *(str(row[name]) for name in ("model", "state", "condition")),
                f"{int(row['block'])}{'' if row['headline'] else ' (> L/2)'}",
                str(n) + (f" (+{int(row['uncertified'])} not)" if row["uncertified"] else ""),
                number(row["gap_largest"], 2),
                number(row["bulk_gap_largest"], 2),
                number(row["alignment_smallest"], 2),
                number(row["critical_alignment"], 2),
                number(row["first_order_error"], 2),
                *(f"{int(row[name])} of {n}" for name in ("gap_small", "alignment_near_one", "both")),
                number(row["cone_upper_over_norm"], 3),
                number(row["trivial_over_norm"], 3),
                f"{int(row['below_trivial'])} of {n}",
                number(row["cone_lower_over_norm"], 2),
                f"{int(row['lower_positive'])} of {n}",
                f"{int(row['cone'])} of {n}",
                str(int(row["violations"])),
            ]
        )
    headers = [
        "model", "state", "condition", "m", "clips", "largest ξ", "largest ξ_F", "smallest κ", "κ needed",
        "N ξ / κ", "ξ ≪ 1", "κ near 1", "both", "upper / ‖J_L‖", "triangle / ‖J_L‖", "upper below it",
        "lower / ‖J_L‖", "lower > 0", "cone", "outside",
    ]  # fmt: skip
    return Table(
        "Blocks of m layers as layers of a chain with the same J_L (T17); medians over clips of the largest gap and "
        "the smallest alignment of blocks 2..N. κ needed: the critical alignment of that gap (T7), from which a "
        f"certificate can hold from below. ξ << 1: N ξ / κ below {PAPER_FIRST_ORDER_ERROR:g}; κ near 1: above "
        f"{PAPER_ALIGNMENT:g}; both thresholds are the paper's. Upper and lower: the certificate (T15), (T16), (T27), "
        "(T28) over the measured norm; triangle: what σ and ‖B‖ alone give. Cone: a dominant direction is certain at "
        "the last block. Outside: measured values beyond the certificate, which must be 0. At m > L/2 little is left "
        "to predict, and at m = L nothing. In the position state the norm is the chain's own.",
        headers,
        rows,
        [False] * 3 + [True] * 17,
    )


def subspaces(analysis: Analysis) -> Table | None:
    """Overlap of leading subspaces over all layers."""
    if analysis.subspace_summary is None:
        return None
    rows = []
    for row in analysis.subspace_summary.to_dict("records"):
        n = int(row["n"])
        rows.append(
            [
                *(str(row[name]) for name in ("model", "state", "condition")),
                str(int(row["rank"])),
                str(n),
                f"{number(row['overlap'], 2)} ({number(row['overlap_low'], 2)} to {number(row['overlap_high'], 2)})",
                number(row["null_overlap"], 2),
                number(row["null_overlap_high"], 2),
                number(row["over_chance"], 2),
                f"{int(row['above'])} of {n}",
                number(row["kept_overlap"], 2),
                NOTHING if pd.isna(row["kept_overlap"]) else f"{int(row['above_kept'])} of {n}",
                number(row["boundary_gap"], 2),
            ]
        )
    return Table(
        "Alignment of leading subspaces (T25): the share of the r leading right directions of a layer that lies in the "
        "r leading left ones of the layer before; r = 1 is κ². Median and quartiles over layers 2..L and clips. "
        "Chance: two independent uniform spaces of the state, exact in the mean (r / D); one pair in twenty is above "
        "its 95 % by chance. Positions kept: chance where each space keeps its energy by position (T35), which judges "
        "in the sequence state, where directions lie on few positions. "
        "Boundary gap: σ_{r+1} / σ_r, the larger of both layers'; near 1 the space itself is one choice of many.",
        ["model", "state", "condition", "r", "pairs", "overlap (quartiles)", "chance", "chance 95 %", "× chance",
         "above 95 %", "positions kept", "above its 95 %", "boundary gap"],
        rows,
        [False] * 3 + [True] * 10,
    )  # fmt: skip


def subspaces_by_layer(analysis: Analysis) -> Table | None:
    """The same by layer."""
    if analysis.subspace_layers is None:
        return None
    rows = [
        [
            *(str(row[name]) for name in ("model", "state", "condition")),
            *(str(int(row[name])) for name in ("layer", "rank", "n", "unconverged")),
            number(row["overlap"], 2),
            number(row["null_overlap"], 2),
            number(row["null_overlap_high"], 2),
            f"{int(row['above'])} of {int(row['n'])}",
            number(row["kept_overlap"], 2),
            number(row["kept_overlap_high"], 2),
            NOTHING if pd.isna(row["kept_overlap"]) else f"{int(row['above_kept'])} of {int(row['n'])}",
            f"{fixed(row['largest_cosine'], 2)} to {fixed(row['smallest_cosine'], 2)}",
            number(row["boundary_gap_before"], 2),
            number(row["boundary_gap"], 2),
        ]
        for row in analysis.subspace_layers.to_dict("records")
    ]
    headers = [
        "model", "state", "condition", "layer", "r", "clips", "unconverged", "overlap", "chance", "chance 95 %",
        "above 95 %", "positions kept", "95 %", "above", "cosines", "boundary gap, layer before", "boundary gap",
    ]  # fmt: skip
    return Table(
        "Leading subspaces by layer: medians over clips; cosines: the largest and the smallest of the principal "
        "angles.",
        headers,
        rows,
        [False] * 3 + [True] * 14,
    )


def profile(analysis: Analysis) -> Table:
    """What each layer injects, and what of it reaches the output."""
    rows = [
        [
            *(str(row[name]) for name in ("model", "state", "condition")),
            str(int(row["layer"])),
            str(int(row["n"])),
            *(
                number(row[name])
                for name in (
                    *("injection_norm", "injection_along", "injection_across", "arrival", "transmission"),
                    *("context_norm", "context_share", "context_effective_rank"),
                )
            ),
        ]
        for row in analysis.profile.to_dict("records")
    ]
    headers = [
        "model", "state", "condition", "layer", "clips", "‖B_l‖", "‖uᵀB_l‖", "‖(I − uuᵀ)B_l‖", "‖P_{L:l+1} B_l‖",
        "arrival / ‖B_l‖", "‖J_l‖", "share", "effective rank",
    ]  # fmt: skip
    return Table(
        "What each layer injects, along and across its dominant direction, what of it reaches the output, and the "
        "context Jacobian it has made so far; medians over clips. In the encoder only the first layer injects.",
        headers,
        rows,
        [False] * 3 + [True] * 10,
    )


def split(analysis: Analysis) -> Table | None:
    """J_L = u_L psi^T + the rest."""
    if analysis.split is None:
        return None
    rows = [
        [
            *(str(row[name]) for name in ("model", "state", "condition")),
            str(int(row["n"])),
            *(number(row[name]) for name in ("norm", "along", "across")),
            *(number(row[name], 2) for name in ("energy", "energy_most", "share")),
        ]
        for row in analysis.split.to_dict("records")
    ]
    return Table(
        "J_L = u_L ψᵀ + rest with ψᵀ = u_LᵀJ_L, u_L the last propagator's dominant left direction: norms of both parts "
        "over ‖J_L‖, and the share of ‖J_L‖_F^2 along u_L, median and the largest of any clip, beside the share of "
        "J_L's own first direction, which no direction can exceed. Rank-1 collapse onto the dominant path would be a "
        "share near 1 and a rest near 0. In the position state the norms are the chain's, the Frobenius norm "
        "is the true Jacobian's.",
        ["model", "state", "condition", "clips", "‖J_L‖", "‖ψ‖ / ‖J_L‖", "‖rest‖ / ‖J_L‖", "share along u_L", "largest",
         "share of J_L's first direction"],
        rows,
        [False] * 3 + [True] * 7,
    )  # fmt: skip


def effort(analysis: Analysis) -> Table:
    """Convergence, memory and time."""
    memory = analysis.tables.timings.get("peak_rss_bytes", {})
    workers = [value for value in memory.get("workers", []) if value is not None] if isinstance(memory, dict) else []
    rows = []
    for row in analysis.effort.to_dict("records"):
        rows.append(
            [
                str(row["model"]),
                str(row["state"]),
                str(int(row["tasks"])),
                f"{_share(row['converged'])} of {int(row['triplets'])}",
                number(row["worst_residual"], 2),
                *(_share(row.get(name)) for name in ("propagators", "injections", "arrivals")),
                number(row["products"], 4),
                seconds(row["seconds"]),
                _block(row["block_least"], row["block_most"]),
                NOTHING if pd.isna(row["refusals"]) else str(int(row["refusals"])),
            ]
        )
    peak = f" Peak memory of a worker: {mebibytes(max(workers))}." if workers else ""
    return Table(
        "Convergence, memory and time by model and state. Triplets: leading singular values of J_l at every depth; one "
        "that has not converged is never shown as a singular value. Products: through one layer, in the median task. "
        "Block: directions a step of the iteration; refusals: how often memory was refused and the block halved."
        + peak,
        ["model", "state", "tasks", "triplets converged", "worst residual of these", "propagators", "injections",
         "arrivals", "products a task", "time a task", "block", "refusals"],
        rows,
        [False, False] + [True] * 10,
    )  # fmt: skip


def _share(value: Any) -> str:
    if value is None or pd.isna(value):
        return NOTHING
    # 99.96 % is not all of them
    return "all" if value == 1.0 else "none" if value == 0.0 else f"{100 * float(value):.3g} %"


def _block(least: float, most: float) -> str:
    if pd.isna(least):
        return NOTHING
    return str(int(least)) if least == most else f"{int(least)} to {int(most)}"
