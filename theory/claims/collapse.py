"""Claim C3, Regime II (P3): whether the four conditions give rank-1 collapse of J_L."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from theory.claims.check import ClaimCheck, mean_interval
from theory.claims.pulled_back import CoherentLayers, FramePool, Spectrum, pulled_back_jacobian, spectrum

__all__ = ["check_p3"]

P3_DIMENSIONS = (24, 96, 384)
"""Widths of the chains that `check_p3` builds; the last is that of Whisper tiny, the paper's narrowest model."""

P3_DEPTHS = (8, 16, 32)


def check_p3(seed: int = 3, chains: int = 64, dimensions: Sequence[int] = P3_DIMENSIONS) -> ClaimCheck:
    """Regime II (P3), claim C3: do the paper's four conditions give rank-1 collapse of J_L?

    Random chains (L = 8, 16, 32) with rho in [1, 1.2], kappa in [0.75, 0.99], L xi / kappa in [0.02, 0.28] and coherent
    injections of norm 1 along u_l. Their part across u_l, which the conditions leave free, is b times a frame of d - 1
    orthonormal columns, b in [0, 1]: operator norm b, Frobenius norm b sqrt(d - 1). The same parameters are used at
    every dimension, with directions of their own. The effect is the mean share of ||J_L||_F^2 in its first direction at
    the dimension where it is least; collapse is a share of at least 0.9 (O7).

    In details, by dimension: that share, the share of the same chains with the part across of Frobenius norm b instead,
    and sigma_2 / sigma_1, the weaker reading that has noise in the operator norm.

    Args:
        seed: of the parameters and chains.
        chains: number of chains at each dimension, at least 2.
        dimensions: d of the chains, each at least 3.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for index in range(chains):
        depth = P3_DEPTHS[index % len(P3_DEPTHS)]
        kappa, gain, across = rng.uniform(0.75, 0.99), rng.uniform(1.0, 1.2), rng.uniform(0.0, 1.0)
        drawn.append(CoherentLayers(depth, kappa, rng.uniform(0.02, 0.28) * kappa / depth, gain, across))
    rows, by_dimension = [], []
    for d in dimensions:
        pool = FramePool(d, max(P3_DEPTHS), rng)
        free, bounded = [], []
        for layers in drawn:
            y, noise = pulled_back_jacobian(layers, pool.draw(layers.depth, rng), rng)
            free.append(spectrum(y, noise, layers.across))
            bounded.append(spectrum(y, noise, layers.across / math.sqrt(d - 1)))
            rows.append({"dimension": d, **asdict(layers), "share": free[-1].share, "ratio": free[-1].ratio})
        by_dimension.append(_collapse_row(d, free, bounded))
    least = min(by_dimension, key=lambda row: row["share"])
    return ClaimCheck(
        "C3",
        "mean share of ||J_L||_F^2 in its first direction, at the dimension where it is least; claimed: at least 0.9",
        least["share"],
        least["share_interval"],
        chains,
        {"dimension": least["dimension"], "by_dimension": by_dimension, "rows": rows},
    )


def _collapse_row(dimension: int, free: list[Spectrum], bounded: list[Spectrum]) -> dict[str, Any]:
    """Means over the chains of one dimension, with intervals."""
    row: dict[str, Any] = {"dimension": dimension, "n": len(free)}
    for name, values in (
        ("share", [one.share for one in free]),
        ("ratio", [one.ratio for one in free]),
        ("share_fixed_frobenius", [one.share for one in bounded]),
        ("ratio_fixed_frobenius", [one.ratio for one in bounded]),
    ):
        row[name], row[f"{name}_interval"] = mean_interval(np.array(values))
    row["collapsed"] = sum(one.share >= 0.9 for one in free)
    row["ratio_largest"] = max(one.ratio for one in free)
    return row
