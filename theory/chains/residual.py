"""Residual layers with random updates of low rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from theory.chains._requests import Request, layer_values, one, row_chunks
from theory.chains.chain import Chain, in_gauge
from theory.chains.directions import random_unit
from theory.chains.factored import Factored, leading_triples

__all__ = ["residual_chain"]


def residual_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    strength: ArrayLike,
    rank: int = 1,
    drift: ArrayLike = 0.0,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains A_l = I + F_l, F_l = -drift_l I + strength_l / sqrt(rank) sum_i a_i c_i^T with random unit a_i and c_i.

    The family of (T26): ||F_l + drift_l I||_F is strength_l on average over squares, and exactly for rank 1. sigma, u
    and v come from the SVD on the span of the a_i and c_i; with strength 0 every singular value is equal, and u and v
    are two of many.

    Args:
        depth: L >= 1.
        dimension: d >= 1.
        rng: source of randomness.
        strength: Frobenius size of the update, a number or shape (L,), finite, >= 0.
        rank: number of terms, in 1..d.
        drift: decay of the residual stream, a number or shape (L,), finite.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Chains in the gauge of (T3), factored with rank + 1 columns, with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype)
    terms = one(rank, "rank")
    if terms > request.dimension:
        raise ValueError(f"rank must be at most d = {request.dimension}; got {terms}")
    size = layer_values(strength, "strength", request.depth) / np.sqrt(terms)
    shift = np.broadcast_to(1.0 - layer_values(drift, "drift", request.depth, least=None), request.layers).ravel()
    d, rows = request.dimension, request.rows
    request.afford(d * (2 * terms + 6), f"a residual of rank {terms + 1}")
    left = np.empty((rows, d, terms + 1), dtype=request.dtype)
    right = np.empty_like(left)
    sigma, u, v = np.empty(rows), np.empty((rows, d)), np.empty((rows, d))
    for part in row_chunks(rows, 8 * d * 10 * terms):
        n = part.stop - part.start
        a, c = (random_unit(rng, d, (n, terms)).swapaxes(-1, -2) for _ in range(2))
        a = a * size[np.arange(part.start, part.stop) % request.depth, None, None]
        s, u[part], v[part] = leading_triples(shift[part], a, c)
        sigma[part] = s[:, 0]
        with np.errstate(over="ignore"):  # Request.chain refuses what became infinite
            left[part, :, :terms], right[part, :, :terms] = a, c
            left[part, :, terms], right[part, :, terms] = -sigma[part, None] * u[part], v[part]
    shape = (*request.layers, d)
    turned = in_gauge(u.reshape(shape), v.reshape(shape))
    residual = Factored(shift.reshape(request.layers), left.reshape(*shape, -1), right.reshape(*shape, -1))
    return request.chain(sigma.reshape(request.layers), *turned, residual)
