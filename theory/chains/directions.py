"""Random directions and frames: uniform unit vectors, Haar matrices, bases of complements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["complement", "haar_orthogonal", "random_unit", "unit_across"]


def random_unit(rng: np.random.Generator, dimension: int) -> NDArray[np.float64]:
    """A uniform unit vector of R^d."""
    x = rng.standard_normal(dimension)
    return x / np.linalg.norm(x)


def haar_orthogonal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A Haar-random orthogonal matrix; the sign fix is what makes the QR factor Haar (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diagonal(r))


def unit_across(rng: np.random.Generator, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """A uniform unit vector orthogonal to a unit vector."""
    x = rng.standard_normal(axis.size)
    for _ in range(2):  # the second pass removes what rounding left of the axis
        x -= (x @ axis) * axis
        x /= np.linalg.norm(x)
    return x


def complement(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis of the complement of a unit vector, shape (d, d - 1), by one Householder reflection."""
    normal = axis.copy()
    normal[0] += 1.0 if axis[0] >= 0 else -1.0
    return (np.eye(axis.size) - 2.0 * np.outer(normal, normal) / (normal @ normal))[:, 1:]
