"""The one place where a torch matrix is decomposed: what comes in is finite and of the right shape, and small is zero.

LAPACK answers a NaN with numbers (`eigvalsh` with plausible ones), with an error that names neither the matrix nor the
layer, or not at all. So every SVD, eigendecomposition and QR of `empirical` is one of these functions, each of which
takes the name of what it is given; `observables.decompositions` is the same for NumPy. tests/test_decompositions.py
reads the source for others.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """A matrix or vector holds a NaN or an infinity. `eigvalsh` would turn it into plausible numbers."""

    code = "non_finite"


def require_finite(name: str, value: Tensor) -> Tensor:
    """Return `value`, or raise.

    Raises:
        NonFiniteError: naming the quantity and how many of its entries are not finite.
    """
    # A sum is not finite if an entry is not, and costs one pass and no copy; finite entries may overflow it.
    if not torch.isfinite(value.sum()) and (bad := int((~torch.isfinite(value)).sum())):
        raise NonFiniteError(f"{name} must be finite before it is decomposed; got {bad} of {value.numel()} not finite")
    return value


def floor(dtype: torch.dtype) -> float:
    """Relative size below which a singular value is rounding of the products that made it."""
    return 8.0 * torch.finfo(dtype).eps


def svd(name: str, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, s, V^T) of a matrix (m, n), thin; s descending.

    Raises:
        NonFiniteError: if an entry is not finite.
        ValueError: if it is no matrix, or an empty one.
    """
    return torch.linalg.svd(_matrix(name, matrix), full_matrices=False)


def singular_values(name: str, matrix: Tensor) -> Tensor:
    """s of a matrix (m, n), descending, (min(m, n),). Raises as `svd`."""
    return torch.linalg.svdvals(_matrix(name, matrix))


def gram_singular(name: str, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, descending, (p,), and left singular vectors (p, p) of M from M M^T, in the unit of M.

    Only the lower triangle is read. Eigenvalues below zero, which rounding makes, are values of 0. Of M's small values
    a Gram matrix keeps nothing below sqrt(eps) of the largest.

    Raises:
        NonFiniteError: if an entry is not finite.
        ValueError: if it is not square, or empty.
    """
    values, vectors = torch.linalg.eigh(_square(name, gram))
    return values.flip(0).clamp_min(0.0).sqrt(), vectors.flip(1)


def gram_singular_values(name: str, gram: Tensor) -> Tensor:
    """Singular values of M from M M^T, descending, (p,), whose symmetric part is taken. Raises as `gram_singular`."""
    gram = _square(name, gram)
    return torch.linalg.eigvalsh(0.5 * (gram + gram.T)).flip(0).clamp_min(0.0).sqrt()


def qr(name: str, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, R), thin, with R's diagonal of either sign; of no columns, none.

    Raises:
        NonFiniteError: if an entry is not finite.
        ValueError: if it is no matrix.
    """
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a matrix; got shape {tuple(matrix.shape)}")
    q, r = torch.linalg.qr(require_finite(name, matrix))
    return q, r


def qr_positive(name: str, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, diagonal of R), thin, with signs such that the diagonal is >= 0: the one QR of a matrix of full column rank.

    Raises as `qr`.
    """
    q, r = qr(name, matrix)
    diagonal = r.diagonal()
    return q * torch.where(diagonal < 0.0, -1.0, 1.0), diagonal.abs()


def _matrix(name: str, matrix: Tensor) -> Tensor:
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"{name} must be a matrix of at least one row and column; got shape {tuple(matrix.shape)}")
    return require_finite(name, matrix)


def _square(name: str, gram: Tensor) -> Tensor:
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"{name} must be square; got shape {tuple(gram.shape)}")
    return _matrix(name, gram)
