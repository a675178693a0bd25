"""Proxies of one eigenvalue spectrum: effective ranks, Kirchhoff index, tail energy.

All take descending eigenvalues as any array-API array, compute in NumPy float64 on the host and return Python
floats. A spectrum with fewer than k positive eigenvalues gives NaN, never a silently shorter sum; `reason` says why.
Positivity is taken literally: eigenvalues that rounding made must be set to zero by whoever computed them, as
`CovarianceSums.eigenvalues` and `covariance_eigenvalues` do.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from observables._host import host_float64, spectrum

__all__ = [
    "Reason",
    "effective_rank",
    "kirchhoff_index",
    "participation_ratio",
    "reason",
    "share_of_first",
    "stable_rank",
    "tail_ratio",
]

Reason = Literal["ok", "too_few_eigenvalues", "non_finite"]

DEFAULT_MODES = 50
"""K of the paper's proxies, a number of eigenvalues."""


def _modes(k: int, least: int = 1) -> int:
    if int(k) != k or k < least:
        raise ValueError(f"k must be an integer of at least {least}; got {k!r}")
    return int(k)


def _reason(values: NDArray[np.float64], k: int) -> Reason:
    if not np.isfinite(values).all():
        return "non_finite"
    if int(np.count_nonzero(values > 0)) < k:
        return "too_few_eigenvalues"
    return "ok"


def reason(eigenvalues: Any, k: int = DEFAULT_MODES) -> Reason:
    """Why a proxy over the first k eigenvalues is, or is not, a number.

    Args:
        eigenvalues: descending, shape (n,).
        k: number of leading eigenvalues asked for.

    Returns:
        "ok", "too_few_eigenvalues" (fewer than k are positive) or "non_finite".

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, or k is not a positive integer.
    """
    return _reason(spectrum(eigenvalues), _modes(k))


def effective_rank(eigenvalues: Any, k: int = DEFAULT_MODES) -> float:
    """Entropy rank of the first k eigenvalues: exp of the Shannon entropy of p_i = lambda_i / sum lambda.

    Implements (O2). Given singular values in place of eigenvalues it is the effective rank of Roy and Vetterli.

    Args:
        eigenvalues: descending, shape (n,), any one unit.
        k: number of leading eigenvalues, dimensionless.

    Returns:
        A number in [1, k]; NaN where `reason(eigenvalues, k)` is not "ok".

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, or k is not a positive integer.
    """
    values, k = spectrum(eigenvalues), _modes(k)
    if _reason(values, k) != "ok":
        return math.nan
    # Dividing by the largest first keeps the sum finite for any finite spectrum.
    p = values[:k] / values[0]
    p = p / p.sum()
    p = p[p > 0]  # an entry that underflowed adds nothing to the entropy
    return float(np.exp(-np.sum(p * np.log(p))))


def participation_ratio(eigenvalues: Any, k: int = DEFAULT_MODES) -> float:
    """Participation ratio (sum lambda)^2 / sum lambda^2 of the first k eigenvalues; an option of (O2).

    Args:
        eigenvalues: descending, shape (n,), any one unit.
        k: number of leading eigenvalues.

    Returns:
        A number in [1, k]; NaN where `reason(eigenvalues, k)` is not "ok".

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, or k is not a positive integer.
    """
    values, k = spectrum(eigenvalues), _modes(k)
    if _reason(values, k) != "ok":
        return math.nan
    p = values[:k] / values[0]
    return float(p.sum() ** 2 / np.sum(p * p))


def stable_rank(eigenvalues: Any, k: int = DEFAULT_MODES) -> float:
    """Stable rank, sum lambda / lambda_1, of the first k eigenvalues; an option of (O2).

    With lambda = s^2 this is ||X||_F^2 / ||X||^2 of the matrix cut to its first k directions.

    Args:
        eigenvalues: descending, shape (n,), any one unit.
        k: number of leading eigenvalues.

    Returns:
        A number in [1, k]; NaN where `reason(eigenvalues, k)` is not "ok".

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, or k is not a positive integer.
    """
    values, k = spectrum(eigenvalues), _modes(k)
    if _reason(values, k) != "ok":
        return math.nan
    return float(np.sum(values[:k] / values[0]))


def kirchhoff_index(eigenvalues: Any, k: int = DEFAULT_MODES, *, floor: float | None = None) -> float:
    """Kirchhoff index k * sum_{i<=k} 1 / lambda_i (the index itself; tables show its log10).

    Implements (O5).

    Args:
        eigenvalues: descending, shape (n,).
        k: number of leading eigenvalues.
        floor: if given, eigenvalues below it count as it; positive, in the unit of the eigenvalues. Only the
            number of eigenvalues given, not their sign, then limits k.

    Returns:
        The index, in the inverse unit of the eigenvalues (inf where it exceeds float64); NaN where
        `reason(eigenvalues, k)` is not "ok".

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, k is not a positive integer, or
            floor is not positive.
    """
    values, k = spectrum(eigenvalues), _modes(k)
    if floor is not None:
        if not (math.isfinite(floor) and floor > 0):
            raise ValueError(f"floor must be positive and finite; got {floor!r}")
        values = np.maximum(values, floor)  # maximum keeps a NaN
    if _reason(values, k) != "ok":
        return math.nan
    with np.errstate(over="ignore"):
        return float(k * np.sum(1.0 / values[:k]))


def tail_ratio(stressed: Any, clean: Any, k: int = DEFAULT_MODES) -> NDArray[np.float64]:
    """Eigenvalue ratio lambda_i(stressed) / lambda_i(clean), i = 1..k.

    Implements (O6), the paper's Figure 3.

    Args:
        stressed: descending eigenvalues, shape (n,).
        clean: descending eigenvalues, shape (m,), same unit.
        k: number of leading eigenvalues.

    Returns:
        Shape (k,), dimensionless; all NaN where either spectrum has fewer than k positive eigenvalues.

    Raises:
        ValueError: if a spectrum is not one-dimensional and descending, or k is not a positive integer.
    """
    top, base, k = spectrum(stressed, "stressed"), spectrum(clean, "clean"), _modes(k)
    if _reason(top, k) != "ok" or _reason(base, k) != "ok":
        return np.full(k, np.nan)
    return top[:k] / base[:k]


def share_of_first(s: Any, frobenius: float) -> float:
    """Share of a matrix's squared Frobenius norm that lies in its first singular direction, s_1^2 / ||J||_F^2.

    The collapse measure c of (O7): 0.9 corresponds to a noise ratio of 1/3.

    Args:
        s: leading singular values, descending, shape (k,), k >= 1.
        frobenius: Frobenius norm of the whole matrix, same unit, at least s_1 up to rounding.

    Returns:
        A number in [0, 1]; NaN for the zero matrix or where s_1 or the norm is not finite.

    Raises:
        ValueError: if s is empty or not descending, or the norm is negative or smaller than s_1 by more than
            one part in 10^5 (a Frobenius norm in float32 is that good; a stochastic estimate that falls below
            s_1 has to be handled by whoever made it).
    """
    values = spectrum(s, "s")
    if values.size == 0:
        raise ValueError("s must hold at least one singular value; got none")
    first, norm = float(values[0]), float(host_float64(frobenius, "frobenius"))
    if not (math.isfinite(first) and math.isfinite(norm)):
        return math.nan
    if norm < 0 or first < 0:
        raise ValueError(f"s and frobenius must not be negative; got {first!r} and {norm!r}")
    if norm == 0 and first == 0:
        return math.nan
    if first > norm * (1 + 1e-5):
        raise ValueError(f"frobenius must be at least s[0] = {first!r}; got {norm!r}")
    return min(1.0, (first / norm) ** 2)
