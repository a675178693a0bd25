"""Residuals between complements: partial isometries from the complement of v_l to that of u_l, and any spectrum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.chains._requests import Request, row_chunks
from theory.chains.directions import haar_orthogonal, reflect
from theory.chains.factored import Factored

__all__ = ["flat_residual", "isometry_rows", "profile_residual", "reflection_residual"]

WORK_ARRAYS = 4
"""d x d float64 arrays alive at once while a layer is made, at most."""


def _between(core: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """U core V^T with U, V orthonormal bases of the complements of u and v; core of shape (n, d - 1, d - 1)."""
    n, d = u.shape
    padded = np.zeros((n, d, d))
    padded[:, 1:, 1:] = core
    return reflect(v, reflect(u, padded).swapaxes(1, 2)).swapaxes(1, 2)


def isometry_rows(request: Request) -> Iterator[slice]:
    """Slices of so many layers that drawing their isometries takes little memory."""
    return row_chunks(request.rows, WORK_ARRAYS * 8 * request.dimension**2)


def flat_residual(
    rng: np.random.Generator,
    request: Request,
    size: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
) -> NDArray[Any]:
    """size_l times a Haar-random isometry from the complement of v_l to that of u_l (T23), (T24).

    Args:
        rng: source of randomness.
        request: the chains, of dimension 2 at least.
        size: sigma_l xi_l, shape (L,).
        u: shape (*batch, L, d).
        v: shape (*batch, L, d).

    Returns:
        Shape (*batch, L, d, d), in the chains' precision.
    """
    return _drawn(rng, request, size[:, None], u, v, turns=1)


def profile_residual(
    rng: np.random.Generator,
    request: Request,
    values: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
) -> NDArray[Any]:
    """Residuals of singular values `values`, shape (L, d - 1), and Haar-random singular vectors.

    The other arguments and the result are those of `flat_residual`.
    """
    return _drawn(rng, request, values, u, v, turns=2)


def _drawn(
    rng: np.random.Generator,
    request: Request,
    values: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    *,
    turns: int,
) -> NDArray[Any]:
    d, out = request.dimension, request.dense_rows()
    u_rows, v_rows = request.by_row(u), request.by_row(v)
    for part in isometry_rows(request):
        width = part.stop - part.start
        core = haar_orthogonal(rng, d - 1, (width,))
        core *= values[request.layer_of(part)][:, None, :]
        if turns == 2:
            core = core @ haar_orthogonal(rng, d - 1, (width,))
        out[part] = _between(core, u_rows[part], v_rows[part])
    return request.by_chain(out)


def reflection_residual(size: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]) -> Factored:
    """size_l (O_l - u_l v_l^T) with O_l = +-(a Householder reflection) and O_l v_l = u_l, in O(d) memory a layer.

    O_l reflects v_l to u_l, or is minus the reflection of v_l to -u_l: of the two normals v - u and v + u the longer
    is taken, as the shorter may be 0. With Haar-random directions the spectrum of every product has the law of that
    with Haar-random isometries, since it depends on O_l only through the pulled-back directions (T24).
    """
    sign = np.copysign(1.0, -np.sum(u * v, axis=-1))
    normal = v - sign[..., None] * u
    scaled = -2.0 * normal / np.sum(normal * normal, axis=-1, keepdims=True)
    spread = (sign * size)[..., None]
    left = np.stack([spread * scaled, -size[:, None] * u], axis=-1)
    return Factored(sign * size, left, np.stack([normal, v], axis=-1))
