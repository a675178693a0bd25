"""Alignment of random directions, exactly and by measurement."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural

__all__ = ["mean_random_alignment", "measured_random_alignment"]


def mean_random_alignment(dimension: int) -> float:
    """Exact mean of |<u, v>| for independent uniform unit vectors of R^d.

    Implements (T22): Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)), about sqrt(2 / (pi d)). The paper's d^{-1/2} (P4) is the
    root mean square, which is exact at every d.

    Args:
        dimension: d >= 1.

    Returns:
        Mean alignment, dimensionless, in (0, 1].

    Raises:
        ValueError: if dimension is not a positive integer.
    """
    d = int(natural(dimension, "dimension"))
    return math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)


def measured_random_alignment(dimension: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """|<u, v>| of n independent pairs of uniform unit vectors of R^d, drawn as vectors.

    Args:
        dimension: d >= 1.
        n: number of pairs, >= 1.
        rng: source of randomness.

    Returns:
        Shape (n,), dimensionless, in [0, 1].

    Raises:
        ValueError: if dimension or n is not a positive integer.
    """
    d, pairs = int(natural(dimension, "dimension")), int(natural(n, "n"))
    u, v = rng.standard_normal((2, pairs, d))
    size = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    return np.minimum(np.abs(np.einsum("nd,nd->n", u, v)) / size, 1.0)
