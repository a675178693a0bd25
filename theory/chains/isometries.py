"""Residuals between complements: partial isometries from the complement of v_l to that of u_l, and any spectrum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.chains._requests import row_chunks
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


def isometry_rows(rows: int, dimension: int) -> Iterator[slice]:
    """Slices of so many layers that drawing their isometries takes little memory."""
    return row_chunks(rows, WORK_ARRAYS * 8 * dimension**2)


def _rows(leaf: NDArray[np.float64]) -> NDArray[np.float64]:
    return leaf.reshape(-1, leaf.shape[-1])


def flat_residual(
    rng: np.random.Generator,
    size: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    out: NDArray[Any],
) -> None:
    """Fill `out` with size_l times a Haar-random isometry from the complement of v_l to that of u_l (T23), (T24).

    Args:
        rng: source of randomness.
        size: sigma_l xi_l, shape (L,).
        u: shape (..., L, d), d >= 2.
        v: shape (..., L, d).
        out: shape (..., L, d, d), overwritten.
    """
    _fill(rng, size[:, None], u, v, out, turns=1)


def profile_residual(
    rng: np.random.Generator,
    values: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    out: NDArray[Any],
) -> None:
    """Fill `out` with residuals of singular values `values`, shape (L, d - 1), and Haar-random singular vectors.

    The other arguments are those of `flat_residual`.
    """
    _fill(rng, values, u, v, out, turns=2)


def _fill(
    rng: np.random.Generator,
    values: NDArray[np.float64],
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    out: NDArray[Any],
    *,
    turns: int,
) -> None:
    d, depth = u.shape[-1], values.shape[0]
    flat_u, flat_v, flat_out = _rows(u), _rows(v), out.reshape(-1, d, d)
    for part in isometry_rows(flat_u.shape[0], d):
        width = part.stop - part.start
        core = haar_orthogonal(rng, d - 1, (width,))
        core *= values[np.arange(part.start, part.stop) % depth][:, None, :]
        if turns == 2:
            core = core @ haar_orthogonal(rng, d - 1, (width,))
        flat_out[part] = _between(core, flat_u[part], flat_v[part])


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
