"""How the leading subspaces of consecutive layers meet, beside chance (T25): what kappa cannot say at gaps near 1.

The overlap of r directions is the share of one space that lies in the other, in [0, 1]; r = 1 gives kappa^2. Beside it
stands the exact null of two independent uniform spaces of the same state, mean r / D, and the boundary gap
sigma_{r+1} / sigma_r: where that is near 1 the r-th direction is one choice among many, and so is the space.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

KEYS = ["model", "state", "condition"]
LEVEL = 0.95

_REQUIRED = (
    *("model", "clip", "condition", "state", "layer", "layers", "dimension", "rank", "overlap", "largest_cosine"),
    *("smallest_cosine", "null_overlap", "null_overlap_high", "boundary_gap", "boundary_gap_before", "converged"),
)


def subspaces_by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over clips by model, state, condition, layer and rank.

    Args:
        rows: of `empirical.subspace_alignment`.

    Returns:
        One row each: n (clips whose space converged), unconverged, overlap, largest_cosine, smallest_cosine,
        null_overlap (mean, r / D), null_overlap_high (95 % quantile), boundary_gap of the layer's right space and
        boundary_gap_before of the left one before it, dimension, and above: on how many clips the overlap exceeds that
        quantile, of which one in twenty does by chance. kept_overlap, kept_overlap_high and above_kept: the same of
        the null that keeps each space's energy by position (T35); NaN and 0 at one position and in old records.

    Raises:
        ValueError: if a column is missing or there are no rows.
    """
    checked = _checked(rows)
    names = ["overlap", "largest_cosine", "smallest_cosine", "null_overlap", "null_overlap_high"]
    names += ["kept_overlap", "kept_overlap_high", "boundary_gap", "boundary_gap_before", "dimension"]
    grouped = checked.groupby([*KEYS, "layer", "rank"], sort=False)
    table = grouped[names].median().reset_index()
    counts = grouped.agg(
        n=("known", "sum"),
        unconverged=("unknown", "sum"),
        above=("exceeds", "sum"),
        above_kept=("exceeds_kept", "sum"),
    ).reset_index()
    return table.merge(counts, on=[*KEYS, "layer", "rank"])


def summarise_subspaces(rows: pd.DataFrame) -> pd.DataFrame:
    """The same over all layers l >= 2: one row by model, state, condition and rank.

    Returns:
        n (pairs of layers on clips whose spaces converged), clips, overlap (median over them) with overlap_low and
        overlap_high (quartiles), over_chance (the median of overlap over its null's mean), null_overlap,
        null_overlap_high, boundary_gap (median of the larger of both), above (how many exceed the 95 % quantile);
        kept_overlap, kept_overlap_high and above_kept (T35), as by layer.
    """
    checked = _checked(rows)
    edge = checked[["boundary_gap", "boundary_gap_before"]].max(axis=1)
    checked = checked.assign(edge=edge, over_chance=checked["overlap"] / checked["null_overlap"])
    grouped = checked.groupby([*KEYS, "rank"], sort=False)
    return grouped.agg(
        n=("known", "sum"),
        clips=("clip", "nunique"),
        overlap=("overlap", "median"),
        overlap_low=("overlap", lambda values: values.quantile(0.25)),
        overlap_high=("overlap", lambda values: values.quantile(0.75)),
        over_chance=("over_chance", "median"),
        null_overlap=("null_overlap", "median"),
        null_overlap_high=("null_overlap_high", "median"),
        boundary_gap=("edge", "median"),
        above=("exceeds", "sum"),
        kept_overlap=("kept_overlap", "median"),
        kept_overlap_high=("kept_overlap_high", "median"),
        above_kept=("exceeds_kept", "sum"),
    ).reset_index()


def describe_subspaces(summary: pd.DataFrame) -> list[str]:
    """One sentence by model and state: how much of one space lies in the next, and how much would by chance.

    Args:
        summary: rows of `summarise_subspaces`; conditions are taken together, by their medians.
    """
    lines = []
    for (model, state), rows in summary.groupby(["model", "state"], sort=False):
        parts = []
        for rank, one in rows.groupby("rank"):
            n, above = int(one["n"].sum()), int(one["above"].sum())
            if not n:
                continue
            parts.append(
                f"r = {rank}: {one['overlap'].median():.2g} where chance gives {one['null_overlap'].median():.2g} "
                f"(above its 95 % in {above} of {n}{_kept(one, n)}, boundary gap {one['boundary_gap'].median():.2f})"
            )
        if parts:
            lines.append(
                f"{model}, {state} state: share of r leading directions that one layer hands to the next: "
                + "; ".join(parts)
                + "."
            )
    return lines


def _kept(rows: pd.DataFrame, n: int) -> str:
    kept = rows["kept_overlap"].median()
    return f"; with positions kept {kept:.2g}, {int(rows['above_kept'].sum())} of {n}" if math.isfinite(kept) else ""


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    if missing := [name for name in _REQUIRED if name not in rows]:
        raise ValueError(f"rows must have the columns of empirical.subspace_alignment; missing {missing}")
    if rows.empty:
        raise ValueError("rows must hold at least one row; got none")
    known = rows["converged"].astype(bool) & np.isfinite(rows["overlap"].astype(float))
    exceeds = known & (rows["overlap"] > rows["null_overlap_high"])
    blank = pd.Series(math.nan, index=rows.index)
    kept = {name: rows.get(name, blank).astype(float) for name in ("kept_overlap", "kept_overlap_high")}
    exceeds_kept = known & (rows["overlap"] > kept["kept_overlap_high"])
    # a space that is not known has no angle: NaN, which medians leave out
    held = rows.assign(overlap=rows["overlap"].where(known, math.nan), **kept)
    return held.assign(
        known=known.astype(int),
        unknown=(~known).astype(int),
        exceeds=exceeds.astype(int),
        exceeds_kept=exceeds_kept.astype(int),
    )
