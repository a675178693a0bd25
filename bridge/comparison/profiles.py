"""What reaches the output from each layer's injection, and how J_L splits: tables along depth, from the records.

    arrival      ||P_{L:l+1} B_l||, over ||B_l|| what the propagators make of it
    split        J_L = u_L psi^T + the rest, psi^T = u_L^T J_L: ||psi|| and ||rest|| over ||J_L||, and the share of
                 ||J_L||_F^2 that lies along u_L

u_L is the last propagator's left vector: a J_L that the dominant path carries has ||psi|| near ||J_L||. The largest
share that any single left vector can have is that of J_L's own first direction, which stands beside it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

KEYS = ["model", "state", "condition"]
_CLIP = ["model", "clip", "condition", "state"]


def depth_profile(layers: pd.DataFrame) -> pd.DataFrame:
    """Medians over clips by model, state, condition and layer.

    Args:
        layers: rows of `empirical.analyze`; old ones may lack injection_norm.

    Returns:
        One row each: n, injection_norm, injection_along, injection_across, arrival, transmission (arrival over
        injection_norm, NaN where the layer injects nothing), context_norm, context_share, context_effective_rank.
    """
    norm = layers["injection_norm"] if "injection_norm" in layers else pd.Series(np.nan, index=layers.index)
    first = [float(values[0]) if len(values) else np.nan for values in layers["context_s"]]
    rows = layers.assign(
        injection_norm=norm,
        transmission=(layers["arrival"] / norm.where(norm > 0)).astype(float),
        context_norm=np.array(first, dtype=np.float64),
    )
    names = ["injection_norm", "injection_along", "injection_across", "arrival", "transmission"]
    names += ["context_norm", "context_share", "context_effective_rank"]
    grouped = rows.groupby([*KEYS, "layer"], sort=False)
    return grouped[names].median().reset_index().merge(grouped.size().rename("n").reset_index())


def context_split(blocks: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """The split of J_L along u_L, clip by clip and in the median.

    Args:
        blocks: rows of `empirical.block_parameters` (block size 1 is read: its u is u_L).
        layers: rows of `empirical.analyze` of the same clips, for the share of J_L's first direction.

    Returns:
        One row by model, state and condition: n, norm, along (||psi|| / ||J_L||), across (||rest|| / ||J_L||), energy
        (||psi||^2 / ||J_L||_F^2), share (that of J_L's own first direction) and energy_most, the largest energy of any
        clip. The energy is along^2 times share, which is the same where both are of one J_L, as for the sequence. At
        one position norm, along and across are of the chain's J_L (T2) and share is the true Jacobian's, so that the
        energy is approximate there; it never exceeds the share, as it does where ||psi|| of the one is held against
        ||J_L||_F of the other.
    """
    ones = blocks[(blocks["block"] == 1) & (blocks["index"] == blocks["blocks"])]
    last = layers[layers["layer"] == layers["layers"]][[*_CLIP, "context_share"]]
    table = ones.merge(last, on=_CLIP, how="left")
    # what did not converge is NaN, and the flag also speaks of other block sizes
    known = (table["context_norm"] > 0) & table["context_along"].notna() & table["context_across"].notna()
    norm = table["context_norm"].where(known)
    table = table.assign(
        norm=norm,
        along=table["context_along"] / norm,
        across=table["context_across"] / norm,
        energy=(table["context_along"] / norm) ** 2 * table["context_share"],
        known=known.astype(int),
    )
    grouped = table.groupby(KEYS, sort=False)
    return grouped.agg(
        n=("known", "sum"),
        norm=("norm", "median"),
        along=("along", "median"),
        across=("across", "median"),
        energy=("energy", "median"),
        energy_most=("energy", "max"),
        share=("context_share", "median"),
    ).reset_index()


def effort(layers: pd.DataFrame) -> pd.DataFrame:
    """Convergence, memory and time by model and state.

    Args:
        layers: rows of `empirical.analyze`; old ones lack `block` and `refusals`.

    Returns:
        One row each: tasks (clips x conditions), triplets (singular values of context Jacobians asked for), converged
        (share of them), worst_residual (of those that converged), propagators, injections, arrivals (shares
        converged), products and seconds (medians a task), block_least and block_most (directions a step; NaN where
        unknown or all dense), refusals (times memory was refused and the block halved).
    """
    records = []
    for (model, state), rows in layers.groupby(["model", "state"], sort=False):
        held = np.concatenate([np.asarray(one, dtype=bool) for one in rows["converged"]])
        residual = np.concatenate([np.asarray(one, dtype=np.float64) for one in rows["residual"]])
        good = residual[held & np.isfinite(residual)]
        tasks = rows.groupby(["clip", "condition"])
        block = rows["block"].where(rows["block"] > 0) if "block" in rows else pd.Series(dtype=float)
        records.append(
            {
                "model": model,
                "state": state,
                "tasks": tasks.ngroups,
                "triplets": len(held),
                "converged": float(held.mean()) if len(held) else np.nan,
                "worst_residual": float(good.max()) if len(good) else np.nan,
                **{
                    f"{name}s": float(rows[f"{name}_converged"].astype(bool).mean())
                    for name in ("propagator", "injection", "arrival")
                    if f"{name}_converged" in rows
                },
                "products": float(tasks["products"].sum().median()),
                "seconds": float(tasks["seconds"].sum().median()),
                "block_least": float(block.min()) if block.notna().any() else np.nan,
                "block_most": float(block.max()) if block.notna().any() else np.nan,
                "refusals": float(rows["refusals"].fillna(0).sum()) if "refusals" in rows else np.nan,
            }
        )
    return pd.DataFrame.from_records(records)
