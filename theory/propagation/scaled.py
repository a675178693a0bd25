"""Matrices with a logarithm beside them, and an estimate of what rounding has added to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.propagation.floored import Floored, at_least

__all__ = ["Scaled", "leading_value", "ratio_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Matrices too large or too small for floats: value = matrix * exp(log_scale), batched.

    Attributes:
        matrix: Frobenius norm 1 (0 for the zero matrix), shape (..., p, q), in the chain's precision.
        log_scale: natural logarithm of the Frobenius norm, shape (...), float64; -inf for the zero matrix.
        rounding: estimate of what arithmetic has added to `matrix`, as a Frobenius norm, shape (...): the larger of
            eps (max(p, q) + 2 sum_l (||A_l|| ||P_{l-1}|| + ||B_l||) / ||P_l||), sizes of terms over size of result, and
            16 times an error column that is given eps of those terms in each layer and goes on through the later ones.
            No bound: one random direction stands for all errors.
    """

    matrix: NDArray[Any]
    log_scale: NDArray[np.float64]
    rounding: NDArray[np.float64]

    def dense(self) -> NDArray[np.float64]:
        """The matrices themselves; inf or 0 where they leave float64."""
        with np.errstate(over="ignore"):
            return self.matrix * np.exp(self.log_scale)[..., None, None]

    def singular_values(self) -> NDArray[np.float64]:
        """Singular values of `matrix`, descending, shape (..., min(p, q)); those below `rounding` are noise."""
        return np.asarray(np.linalg.svd(self.matrix, compute_uv=False), dtype=np.float64)

    def log_norm(self) -> NDArray[np.float64]:
        """ln of the operator norm, shape (...); -inf for the zero matrix."""
        with np.errstate(divide="ignore"):
            return np.log(leading_value(self.matrix)) + self.log_scale

    def log_ratio(self) -> Floored:
        """ln sigma_2 / sigma_1, or the floor that `rounding` puts under it, shape (...).

        A flag is false, and the number the floor, where `rounding` alone could have made the ratio. It is NaN for the
        zero matrix or a single singular value. `log_singular_values` has a lower floor.
        """
        return ratio_of(self.singular_values(), self.rounding)


def leading_value(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Operator norms of matrices near unit size, shape (...): from the smaller Gram matrix in float64, which is right
    to rounding for the largest singular value and two to four times faster than all of them."""
    x = matrix.astype(np.float64, copy=False)
    other = np.swapaxes(x, -1, -2)
    gram = other @ x if x.shape[-1] <= x.shape[-2] else x @ other
    if gram.shape[-1] == 1:
        return np.sqrt(gram[..., 0, 0])
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0.0))


def ratio_of(s: NDArray[np.float64], rounding: NDArray[np.float64]) -> Floored:
    """ln sigma_2 / sigma_1 of descending singular values (..., k), each uncertain by `rounding`."""
    if s.shape[-1] < 2:
        return Floored(np.full(s.shape[:-1], np.nan), np.zeros(s.shape[:-1], dtype=bool))
    with np.errstate(divide="ignore", invalid="ignore"):
        return at_least(np.log(s[..., 1] / s[..., 0]), np.log(np.minimum(rounding / s[..., 0], 1.0)))
