"""Chains whose residual has low rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from theory.chains._requests import Request, misalignment, one
from theory.chains.chain import Chain
from theory.chains.directions import frame_across, linked_directions
from theory.chains.factored import Factored

__all__ = ["low_rank_chain"]


def low_rank_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    rank: int,
    gap: ArrayLike,
    alignment: ArrayLike,
    sigma: ArrayLike = 1.0,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains with R_l = sigma_l xi_l X_l Y_l^T, X_l and Y_l Haar-random frames across u_l and v_l.

    The residual has `rank` singular values equal to sigma_l xi_l and 0 for the rest; it is factored, O(d rank) memory
    a layer.

    Args:
        depth: L >= 1.
        dimension: d >= 2.
        rng: source of randomness.
        rank: number of columns of the frames, in 1..d - 1.
        gap: xi_l, a number or shape (L,), in [0, 1].
        alignment: kappa_l, a number or shape (L,), in [0, 1]; entry 0 of an array is never read.
        sigma: operator norms, a number or shape (L,), finite, >= 0.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Chains with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype, least_dimension=2)
    columns = one(rank, "rank")
    if columns > request.dimension - 1:
        raise ValueError(f"rank must be at most d - 1 = {request.dimension - 1}; got {columns}")
    norms, xi = request.sigma(sigma), request.fraction(gap, "gap")
    kappa = request.fraction(alignment, "alignment", first_unread=True)
    request.afford(request.dimension * (2 * columns + 4), f"a residual of rank {columns}")
    u, v = linked_directions(rng, kappa, misalignment(kappa), request.dimension, request.batch)
    left = (norms * xi)[:, None, None] * frame_across(rng, u, columns)
    right = frame_across(rng, v, columns)
    return request.chain(norms, u, v, Factored(np.zeros(request.layers), left, right))
