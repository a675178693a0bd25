"""Chains from given dense layers, each split by SVD into its dominant triple and its residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.chains._requests import Request, host, row_chunks
from theory.chains.chain import Chain, in_gauge

__all__ = ["chain_of_layers", "decompose", "dense_layers", "residual_chain_of"]

WORK_ARRAYS = 5
"""d x d float64 arrays alive at once while a layer is decomposed: the layer, its vectors, and LAPACK's own."""


def dense_layers(value: Any, name: str) -> NDArray[Any]:
    """Dense layers, shape (..., L, d, d), finite.

    Raises:
        ValueError: if they are not.
    """
    host(value, name)
    array = np.asarray(value)
    if array.ndim < 3 or array.shape[-1] != array.shape[-2] or 0 in array.shape:
        raise ValueError(f"{name} must have shape (..., L, d, d) with no axis of length 0; got {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} must be real floating-point numbers; got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got a non-finite entry")
    return array


def given(request: Request, layers: NDArray[Any]) -> Callable[[slice], NDArray[np.float64]]:
    """Reads slices of the rows of `Request.by_chain` from layers (*batch, L, d, d), in float64, with no other copy."""
    flat, chains = layers.reshape(request.rows, *layers.shape[-2:]), request.rows // request.depth

    def rows(part: slice) -> NDArray[np.float64]:
        index = np.arange(part.start, part.stop)
        return np.asarray(flat[index % chains * request.depth + index // chains], dtype=np.float64)

    return rows


def decompose(
    request: Request, draw: Callable[[slice], NDArray[np.float64]], injection: NDArray[Any] | None = None
) -> Chain:
    """The chain whose layers `draw` gives, shape (n, d, d) for a slice of the rows of `Request.by_chain`.

    The layers are split in float64, a few at a time.
    """
    request.afford_dense()
    d, residual = request.dimension, request.dense_rows()
    sigma, u, v = np.empty(request.rows), np.empty((request.rows, d)), np.empty((request.rows, d))
    for part in row_chunks(request.rows, WORK_ARRAYS * 8 * d * d):
        layers = draw(part)
        left, s, right = np.linalg.svd(layers)
        sigma[part], u[part], v[part] = s[:, 0], left[:, :, 0], right[:, 0, :]
        with np.errstate(over="ignore"):  # Request.chain refuses what became infinite
            residual[part] = layers - (s[:, :1] * u[part])[:, :, None] * v[part][:, None, :]
    turned = in_gauge(request.by_chain(u), request.by_chain(v))
    return request.chain(request.by_chain(sigma), *turned, request.by_chain(residual), injection)


def chain_of_layers(propagators: ArrayLike, injections: ArrayLike | None = None, *, dtype: str = "float64") -> Chain:
    """The chain with these dense layers.

    Where a layer's largest singular value is not unique, u_l and v_l are one of its pairs of singular vectors.

    Args:
        propagators: A_l, shape (..., L, d, d).
        injections: B_l, shape (..., L, d, m); 0 with context dimension 1 if None.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        A dense chain, in the gauge of (T3).

    Raises:
        ValueError: if shapes disagree, an entry is not finite, or the chain would not fit in memory.
    """
    layers = dense_layers(propagators, "propagators")
    request = Request.of(layers.shape[-3], layers.shape[-1], layers.shape[:-3], dtype)
    b = None if injections is None else np.asarray(host(injections, "injections"), dtype=np.float64)
    if b is not None:
        if b.shape[:-1] != layers.shape[:-1] or b.shape[-1] == 0:
            raise ValueError(f"injections must have shape {layers.shape[:-1]} + (m,), m >= 1; got {b.shape}")
        if not np.isfinite(b).all():
            raise ValueError("injections must be finite; got a non-finite entry")
    return decompose(request, given(request, layers), b)


def residual_chain_of(updates: ArrayLike, *, dtype: str = "float64") -> Chain:
    """The chain A_l = I + F_l of given updates, learned ones for instance.

    Args:
        updates: F_l, shape (..., L, d, d).
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        A dense chain with injection 0 and context dimension 1, in the gauge of (T3).

    Raises:
        ValueError: if the shape is wrong, an entry is not finite, or the chain would not fit in memory.
    """
    layers = dense_layers(updates, "updates")
    request = Request.of(layers.shape[-3], layers.shape[-1], layers.shape[:-3], dtype)
    rows, eye = given(request, layers), np.eye(request.dimension)
    return decompose(request, lambda part: eye + rows(part))
