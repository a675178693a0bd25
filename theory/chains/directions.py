"""Random directions and frames: uniform unit vectors, Haar matrices, bases of complements; all of them in batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "complement",
    "frame_across",
    "haar_orthogonal",
    "linked_directions",
    "random_unit",
    "reflect",
    "unit_across",
]


def random_unit(rng: np.random.Generator, dimension: int, batch: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """Uniform unit vectors of R^d, shape (*batch, d)."""
    x = rng.standard_normal((*batch, dimension))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def haar_orthogonal(rng: np.random.Generator, size: int, batch: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """Haar-random orthogonal matrices, shape (*batch, size, size).

    The sign fix is what makes the QR factor Haar (Mezzadri 2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((*batch, size, size)))
    q *= np.copysign(1.0, np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q


def unit_across(rng: np.random.Generator, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform unit vectors orthogonal to unit vectors, both of shape (..., d) with d >= 2."""
    x = rng.standard_normal(axis.shape)
    for _ in range(2):  # the second pass removes what rounding left of the axis
        x -= np.sum(x * axis, axis=-1, keepdims=True) * axis
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x


def reflect(axis: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Householder's H x, where H sends e_1 to -+axis, so that H[:, 1:] spans the complement of the axis.

    Args:
        axis: unit vectors, shape (..., d).
        x: shape (..., d, k).
    """
    normal = axis.copy()
    normal[..., 0] += np.copysign(1.0, axis[..., 0])
    scale = 2.0 / np.sum(normal * normal, axis=-1)
    row = normal[..., None, :] @ x
    return x - (scale[..., None] * normal)[..., :, None] * row


def complement(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal bases of the complements of unit vectors, shape (..., d, d - 1)."""
    d = axis.shape[-1]
    return reflect(axis, np.broadcast_to(np.eye(d)[:, 1:], (*axis.shape, d - 1)))


def frame_across(rng: np.random.Generator, axis: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Haar-random frames of orthonormal columns across unit vectors, shape (..., d, columns), columns <= d - 1.

    The axis goes into the QR as its first column, so that rounding cannot leave any of it in the frame.
    """
    x = rng.standard_normal((*axis.shape, columns))
    q, r = np.linalg.qr(np.concatenate([axis[..., :, None], x], axis=-1))
    signs = np.copysign(1.0, np.diagonal(r, axis1=-2, axis2=-1))[..., None, 1:]
    return q[..., :, 1:] * signs


def linked_directions(
    rng: np.random.Generator,
    alignment: NDArray[np.float64],
    across: NDArray[np.float64],
    dimension: int,
    batch: tuple[int, ...] = (),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """u_1 .. u_L uniform and v_l = kappa_l u_{l-1} + s_l n_l with n_l uniform across u_{l-1}; v_1 is uniform.

    Args:
        rng: source of randomness.
        alignment: kappa_l, shape (L,); entry 0 is not read.
        across: s_l = sqrt(1 - kappa_l^2), shape (L,); entry 0 is not read.
        dimension: d; for d = 1, v_l = u_{l-1}.
        batch: leading axes.

    Returns:
        u and v, shape (*batch, L, d).
    """
    depth = alignment.size
    u = random_unit(rng, dimension, (*batch, depth))
    first = random_unit(rng, dimension, (*batch, 1))
    before = u[..., :-1, :]
    if dimension == 1:
        return u, np.concatenate([first, before], axis=-2)
    rest = alignment[1:, None] * before + across[1:, None] * unit_across(rng, before)
    rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
    return u, np.concatenate([first, rest], axis=-2)
