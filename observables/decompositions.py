"""The one place where a NumPy matrix is decomposed: what comes in is finite and of the right shape, float64.

LAPACK answers a NaN with numbers, or with an error that does not name the matrix. Every decomposition and solve of
`observables`, and every one in NumPy elsewhere, is one of these functions, each of which takes the name of what it is
given. Stacks (..., m, n) are decomposed matrix by matrix. tests/test_decompositions.py reads the source for others.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cholesky",
    "eigenvalues",
    "eigenvectors",
    "inverse",
    "least_squares",
    "singular_values",
    "solve",
    "triangle",
]

Array = NDArray[np.float64]


def singular_values(name: str, matrix: Array) -> Array:
    """s of (..., m, n), descending.

    Raises:
        ValueError: if an entry is not finite, or it is no matrix.
    """
    return np.asarray(np.linalg.svd(_matrix(name, matrix), compute_uv=False), dtype=np.float64)


def eigenvalues(name: str, symmetric: Array) -> Array:
    """Eigenvalues of symmetric (..., d, d), ascending; the lower triangle is read. Raises as `singular_values`."""
    return np.asarray(np.linalg.eigvalsh(_square(name, symmetric)), dtype=np.float64)


def eigenvectors(name: str, symmetric: Array) -> Array:
    """Eigenvectors of symmetric (d, d) in columns, in the order of `eigenvalues`. Raises as `singular_values`."""
    return np.asarray(np.linalg.eigh(_square(name, symmetric))[1], dtype=np.float64)


def triangle(name: str, matrix: Array) -> Array:
    """R of the QR decomposition of (..., m, n), thin. Raises as `singular_values`."""
    mode: Literal["r"] = "r"
    return np.asarray(np.linalg.qr(_matrix(name, matrix), mode=mode), dtype=np.float64)


def cholesky(name: str, positive: Array) -> Array:
    """Lower triangular L with L L^T = the positive definite (..., d, d).

    Raises:
        ValueError: if an entry is not finite, it is not square, or not positive definite.
    """
    try:
        return np.asarray(np.linalg.cholesky(_square(name, positive)), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} must be positive definite; it is not, to rounding") from None


def inverse(name: str, square: Array) -> Array:
    """Inverse of (..., d, d).

    Raises:
        ValueError: if an entry is not finite, it is not square, or singular.
    """
    try:
        return np.asarray(np.linalg.inv(_square(name, square)), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} must be invertible; it is singular") from None


def solve(name: str, square: Array, right: Array) -> Array:
    """X with square X = right, (..., d, d) and (..., d, k). Raises as `inverse`."""
    try:
        return np.asarray(np.linalg.solve(_square(name, square), _finite(name, right)), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} must be invertible; it is singular") from None


def least_squares(name: str, design: Array, y: Array) -> Array:
    """Coefficients that fit y (n,) by the columns of design (n, p), the shortest such; raises as `singular_values`."""
    coefficients, *_ = np.linalg.lstsq(_matrix(name, design), _finite(name, y), rcond=None)
    return np.asarray(coefficients, dtype=np.float64)


def _finite(name: str, value: Array) -> Array:
    # A sum is not finite if an entry is not, and costs one pass; finite entries may overflow it.
    with np.errstate(over="ignore", invalid="ignore"):
        known = bool(np.isfinite(value.sum()))
    if not known and (bad := int(np.count_nonzero(~np.isfinite(value)))):
        raise ValueError(f"{name} must be finite before it is decomposed; got {bad} of {value.size} not finite")
    return value


def _matrix(name: str, matrix: Array) -> Array:
    if matrix.ndim < 2:
        raise ValueError(f"{name} must be a matrix; got shape {matrix.shape}")
    return _finite(name, matrix)


def _square(name: str, matrix: Array) -> Array:
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name} must be square; got shape {matrix.shape}")
    return _finite(name, matrix)
