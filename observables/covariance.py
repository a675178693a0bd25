"""Covariances accumulated as mergeable sums, and their eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from observables._host import host_float64
from observables.decompositions import eigenvalues, singular_values

__all__ = ["CovarianceSums", "covariance_eigenvalues"]


def _rows(x: Any) -> NDArray[np.float64]:
    rows = host_float64(x, "X")
    if rows.ndim != 2:
        raise ValueError(f"X must have shape (rows, features); got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"X must be finite; got {int(np.count_nonzero(~np.isfinite(rows)))} non-finite entries")
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class CovarianceSums:
    """Count, mean and centred second moment of rows seen so far; two of them merge into that of their union.

    Pooling clips this way gives a covariance with more modes than any one clip has tokens, and lets shards be
    merged in any grouping with the same result up to rounding (Chan, Golub and LeVeque 1979). See (O1).

    Attributes:
        n: number of rows.
        mean: shape (d,), float64.
        m2: sum of (x - mean)(x - mean)^T over rows, shape (d, d), float64, symmetric.
    """

    n: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.n < 0 or self.mean.ndim != 1 or self.m2.shape != (self.mean.size, self.mean.size):
            raise ValueError(
                f"n must not be negative, mean (d,) and m2 (d, d); got {self.n}, {self.mean.shape}, {self.m2.shape}"
            )

    @classmethod
    def from_rows(cls, x: Any) -> CovarianceSums:
        """Sums of the rows of X, shape (n, d), n >= 0, any array-API array.

        Raises:
            ValueError: if X is not two-dimensional or not finite.
        """
        rows = _rows(x)
        if rows.shape[0] == 0:
            d = rows.shape[1]
            return cls(0, np.zeros(d), np.zeros((d, d)))
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(rows.shape[0], mean, centred.T @ centred)

    def merge(self, other: CovarianceSums) -> CovarianceSums:
        """Sums of both sets of rows together.

        Raises:
            ValueError: if the numbers of features differ.
        """
        if self.mean.size != other.mean.size:
            raise ValueError(f"features must agree to merge; got {self.mean.size} and {other.mean.size}")
        n = self.n + other.n
        if other.n == 0:
            return self
        if self.n == 0:
            return other
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        return CovarianceSums(n, mean, self.m2 + other.m2 + np.outer(step, step) * (self.n * other.n / n))

    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance, shape (d, d), in the squared unit of the rows.

        Raises:
            ValueError: if there are fewer than two rows.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows; got {self.n}")
        return self.m2 / (self.n - 1)

    def second_moment(self) -> NDArray[np.float64]:
        """Uncentred second moment, mean of x x^T, shape (d, d); the "uncentred" option of (O2).

        Raises:
            ValueError: if there are no rows.
        """
        if self.n < 1:
            raise ValueError("a second moment needs at least 1 row; got 0")
        return self.m2 / self.n + np.outer(self.mean, self.mean)

    def eigenvalues(self) -> NDArray[np.float64]:
        """Eigenvalues of the covariance, shape (d,), descending.

        Those beyond the rank (n - 1 at most) and those below d eps lambda_1, which rounding made, are exactly 0:
        a clip of 20 tokens then has 19 positive eigenvalues and no more.

        Raises:
            ValueError: if there are fewer than two rows.
        """
        values = eigenvalues("the covariance", self.covariance())[::-1].copy()
        values[min(self.n - 1, values.size) :] = 0.0
        if values.size:
            values[values <= values.size * np.finfo(np.float64).eps * max(values[0], 0.0)] = 0.0
        return values


def covariance_eigenvalues(x: Any) -> NDArray[np.float64]:
    """Eigenvalues of the covariance of the rows of X, descending, from singular values of the centred X.

    Implements (O1). The singular values reach eigenvalue ratios of about 1e-28, where the covariance itself
    stops near 1e-14; use it where the rows are at hand.

    Args:
        x: shape (n, d), n >= 2, any array-API array; float64 on the host.

    Returns:
        Shape (d,), in the squared unit of X; exactly 0 beyond the rank.

    Raises:
        ValueError: if X is not two-dimensional, not finite, or has fewer than two rows.
    """
    rows = _rows(x)
    n, d = rows.shape
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 rows; got {n}")
    values = np.zeros(d)
    if d:
        s = singular_values("the centred X", rows - rows.mean(axis=0))
        s[s <= max(n, d) * np.finfo(np.float64).eps * s[0]] = 0.0
        values[: s.size] = s**2 / (n - 1)
        values[min(n - 1, d) :] = 0.0
    return values
