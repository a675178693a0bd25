"""What typical chains do: mean-field rates, their finite-size width, and the exponents of Gaussian layers.

These are predictions for random directions in a large dimension, not bounds: a chain with the same numbers may do
anything that `theory.bounds` allows. They speak of the same numbers in every layer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from theory._checks import natural, unit_interval

__all__ = [
    "crossover_width",
    "newman_exponents",
    "typical_across_over_along",
    "typical_growth",
    "typical_log_ratio",
]


def _checked(alignment: Any, bulk_gap: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kappa = np.asarray(unit_interval(alignment, "alignment"), dtype=np.float64)
    bulk = np.asarray(unit_interval(bulk_gap, "bulk_gap"), dtype=np.float64)
    return kappa, bulk


def typical_growth(alignment: Any, bulk_gap: Any) -> NDArray[np.float64]:
    """Growth rate of ||P x|| a layer, per unit sigma, for a direction x fixed before the layers: max(kappa, xi_F).

    Implements (T18), for isotropic directions and d -> infinity at fixed L: a prediction of the typical case, no bound.
    ||P|| itself grows so where kappa > xi_F, and for the flat residual, up to a relative sqrt(L / d) where kappa <
    xi_F. For any other residual and kappa < xi_F its largest direction stands above ||P x|| by a factor that no d
    removes, the edge of a free product of L residuals: about sqrt(e v L) for large L, v the variance of the squared
    singular values over their mean squared; sqrt((L + 1)^(L + 1) / L^L), about sqrt(e (L + 1)), for the quarter circle.
    It adds some ln(e v L) / (2 L) to ln ||P|| / L, .12 at L = 16 for the quarter circle, and nothing as L -> infinity.

    Args:
        alignment: kappa, dimensionless, in [0, 1], any shape.
        bulk_gap: xi_F = ||R||_F / (sigma sqrt(d - 1)), dimensionless, in [0, 1], broadcast against it.

    Returns:
        Dimensionless, in [0, 1].

    Raises:
        ValueError: if an argument leaves [0, 1].
    """
    kappa, bulk = _checked(alignment, bulk_gap)
    return np.maximum(kappa, bulk)


def typical_log_ratio(alignment: Any, bulk_gap: Any) -> NDArray[np.float64]:
    """ln sigma_2 / sigma_1 of the product, a layer: ln(xi_F / kappa) where kappa > xi_F, else 0.

    Implements (T19): a prediction of the typical case, no bound. For the flat residual it is also the rate of collapse
    at any d where the directions are isotropic. For any other, sigma_2 carries the factor of the free product's edge,
    about sqrt(L), as in `typical_growth`.

    Args:
        alignment: kappa, dimensionless, in [0, 1], any shape.
        bulk_gap: xi_F, dimensionless, in [0, 1], broadcast against it.

    Returns:
        Natural-log units a layer, at most 0; -inf at xi_F = 0 < kappa.

    Raises:
        ValueError: if an argument leaves [0, 1].
    """
    kappa, bulk = _checked(alignment, bulk_gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(kappa > bulk, np.log(bulk) - np.log(kappa), 0.0)


def typical_across_over_along(alignment: Any, bulk_gap: Any) -> NDArray[np.float64]:
    """q / p of the image of v_1 at large depth: xi_F s / sqrt(kappa^2 - xi_F^2), s = sqrt(1 - kappa^2).

    Implements (T20): a prediction of the typical case, no bound. It is the fixed point of
    (q / p)' = xi_F sqrt(s^2 + (q / p)^2) / kappa.

    Args:
        alignment: kappa, dimensionless, in [0, 1], any shape.
        bulk_gap: xi_F, dimensionless, in [0, 1], broadcast against it.

    Returns:
        Dimensionless; inf where kappa <= xi_F and no fixed point exists, except 0 at kappa = xi_F = 1, where nothing
        is turned across.

    Raises:
        ValueError: if an argument leaves [0, 1].
    """
    kappa, bulk = _checked(alignment, bulk_gap)
    s = np.sqrt((1 - kappa) * (1 + kappa))
    room = (kappa - bulk) * (kappa + bulk)
    found = bulk * s / np.sqrt(np.where(room > 0, room, 1.0))
    return np.where(room > 0, found, np.where((s == 0) & (bulk == 1), 0.0, np.inf))


def crossover_width(alignment: Any, bulk_gap: Any, depth: Any, dimension: Any) -> NDArray[np.float64]:
    """Standard deviation of (1 / L) ln ||P|| over chains: (s (q / p) / kappa) / sqrt(L (d - 1)).

    Implements (T21): a prediction to be confirmed by data, no bound. It is the width in ln sigma of the crossover
    between growth and decay at finite depth and dimension.

    Args:
        alignment: kappa, dimensionless, in [0, 1], any shape.
        bulk_gap: xi_F, dimensionless, in [0, 1].
        depth: L >= 1.
        dimension: d >= 2.

    Returns:
        Natural-log units, the arguments' broadcast shape; inf where kappa <= xi_F.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, bulk = _checked(alignment, bulk_gap)
    layers, d = natural(depth, "depth"), natural(dimension, "dimension", least=2)
    s = np.sqrt((1 - kappa) * (1 + kappa))
    turned = typical_across_over_along(kappa, bulk)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(np.isinf(turned), np.inf, s * turned / kappa)
    return factor / np.sqrt(layers * (d - 1))


def newman_exponents(dimension: int, k: int | None = None, scale: float = 1.0) -> NDArray[np.float64]:
    """Lyapunov exponents of independent Gaussian layers with entries of variance scale^2 / d.

    Implements (T22), Newman 1986: lambda_i = (psi((d - i + 1) / 2) + ln 2 - ln d) / 2 + ln scale as L -> infinity.
    At depth L, ln|R_l,ii| of the QR along depth are independent, half the logarithm of a chi-squared variable of
    d - i + 1 degrees, of variance psi'((d - i + 1) / 2) / 4.

    Args:
        dimension: d >= 1.
        k: number of leading exponents, by default all d.
        scale: factor of the layers, > 0, finite.

    Returns:
        Natural-log units a layer, descending, shape (k,).

    Raises:
        ValueError: if dimension or k is not a positive integer, k exceeds d, or scale is not positive and finite.
    """
    d = int(natural(dimension, "dimension"))
    count = d if k is None else int(natural(k, "k"))
    if count > d:
        raise ValueError(f"k must be at most the dimension {d}; got {count}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive and finite; got {scale!r}")
    freedom = d + 1.0 - np.arange(1, count + 1)
    return (digamma(freedom / 2) + math.log(2) - math.log(d)) / 2 + math.log(scale)
