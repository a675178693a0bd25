"""Gaussian and orthogonal chains, whose exponents are known exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.chains._requests import Request, layer_values
from theory.chains.chain import Chain, in_gauge
from theory.chains.directions import haar_orthogonal, random_unit
from theory.chains.isometries import isometry_rows
from theory.chains.layers import decompose

__all__ = ["gaussian_chain", "orthogonal_chain"]


def gaussian_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    scale: ArrayLike = 1.0,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains of independent layers with entries N(0, scale_l^2 / d); their exponents are Newman's (T22).

    Args:
        depth: L >= 1.
        dimension: d >= 1.
        rng: source of randomness.
        scale: a number or shape (L,), finite, >= 0.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Dense chains in the gauge of (T3), with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype)
    size = layer_values(scale, "scale", request.depth) / np.sqrt(request.dimension)

    def draw(part: slice) -> NDArray[np.float64]:
        entries = rng.standard_normal((part.stop - part.start, request.dimension, request.dimension))
        entries *= size[request.layer_of(part), None, None]
        return entries

    return decompose(request, draw)


def orthogonal_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    sigma: ArrayLike = 1.0,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains of independent layers sigma_l Q_l, Q_l Haar-random: every singular value is sigma_l (T22).

    The gap is 1, so that u_l and v_l are not determined: v_l is drawn uniformly, and u_l = Q_l v_l.

    Args:
        depth: L >= 1.
        dimension: d >= 1.
        rng: source of randomness.
        sigma: operator norms, a number or shape (L,), finite, >= 0.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Dense chains in the gauge of (T3), with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype)
    norms = request.sigma(sigma)
    d = request.dimension
    request.afford_dense()
    rows = request.dense_rows()
    v = random_unit(rng, d, (request.rows,))
    u = np.empty_like(v)
    for part in isometry_rows(request):
        q = haar_orthogonal(rng, d, (part.stop - part.start,))
        u[part] = (q @ v[part][:, :, None])[:, :, 0]
        u[part] /= np.linalg.norm(u[part], axis=1, keepdims=True)
        q -= u[part][:, :, None] * v[part][:, None, :]
        rows[part] = norms[request.layer_of(part), None, None] * q
    turned = in_gauge(request.by_chain(u), request.by_chain(v))
    return request.chain(norms, *turned, request.by_chain(rows))
