"""What the first direction's norm does at finite depth and dimension: exact moments, and a width from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval
from theory.simulators.cells import depth_list

__all__ = ["EarlyMoments", "dispersive_excess", "dispersive_width", "early_moments"]


@dataclass(frozen=True, slots=True, eq=False)
class EarlyMoments:
    """Of N = ||P_{L:2} u_1||^2 at sigma = 1, over random chains. Arrays of shape (depths, *cells), float64.

    Attributes:
        log_root_mean_square: (1/2) ln E N, exact at any L and d; -inf where N is 0.
        relative_variance: Var N / (E N)^2, exact.
        log_deviation: standard deviation of ln ||P_{L:2} u_1||, sqrt(ln(1 + relative_variance)) / 2: exact where N is
            lognormal, and to leading order where relative_variance is small.
        log_mean: mean of ln ||P_{L:2} u_1||, (1/2) ln E N - ln(1 + relative_variance) / 4, on the same terms.
    """

    log_root_mean_square: NDArray[np.float64]
    relative_variance: NDArray[np.float64]
    log_deviation: NDArray[np.float64]
    log_mean: NDArray[np.float64]


def early_moments(
    alignment: ArrayLike, gap: ArrayLike, depths: Sequence[int] | NDArray[np.int64], dimension: ArrayLike
) -> EarlyMoments:
    """Exact first and second moments of ||P_{L:2} u_1||^2 for flat residuals and isotropic directions.

    Implements (T34). With P = p^2, Q = q^2 and a the first coordinate of a uniform unit vector of R^(d-1), one layer is
    P' = m^2, Q' = xi^2 (P + Q - m^2), m = kappa p + s q a: the means of (P, Q) and their covariances each obey a linear
    recurrence with non-negative terms of the noise, so that no small variance comes from a difference.

    Args:
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1]; the residual is flat.
        depths: numbers of layers L, each >= 1; at L = 1 the norm is 1.
        dimension: d >= 2, broadcast against alignment and gap.

    Returns:
        Arrays of shape (depths, *cells), cells the broadcast shape of the other three.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, xi = unit_interval(alignment, "alignment"), unit_interval(gap, "gap")
    ambient = natural(dimension, "dimension", least=2) - 1.0
    kappa, xi, ambient = np.broadcast_arrays(kappa, xi, ambient)
    layers = depth_list(depths)
    s2, spread = (1 - kappa) * (1 + kappa), xi * xi
    seen = s2 / ambient
    variance_of_square = 2 * (ambient - 1) / (ambient**2 * (ambient + 2))

    mean: Any = (np.ones(kappa.shape), np.zeros(kappa.shape))
    cov: Any = (np.zeros(kappa.shape),) * 3
    log_scale: Any = np.zeros(kappa.shape)
    found = np.empty((2, layers.size, *kappa.shape))
    for layer in range(1, int(layers.max()) + 1):
        if layer > 1:
            across = mean[0] * mean[1] + cov[1]
            noise = 4 * kappa**2 * seen * across + s2**2 * variance_of_square * (mean[1] ** 2 + cov[2])
            # [[a, b], [c, e]] takes (E P, E Q) one layer on.
            a, b, c, e = kappa**2, seen, spread * s2, spread * (1 - seen)
            cov = (
                a * a * cov[0] + 2 * a * b * cov[1] + b * b * cov[2] + noise,
                a * c * cov[0] + (a * e + b * c) * cov[1] + b * e * cov[2] - spread * noise,
                c * c * cov[0] + 2 * c * e * cov[1] + e * e * cov[2] + spread**2 * noise,
            )
            mean = (a * mean[0] + b * mean[1], c * mean[0] + e * mean[1])
            size = mean[0] + mean[1]
            safe = np.where(size > 0, size, 1.0)
            mean, cov = tuple(x / safe for x in mean), tuple(x / safe**2 for x in cov)
            with np.errstate(divide="ignore"):
                log_scale = log_scale + np.where(size > 0, np.log(safe), -np.inf)
        for where in np.flatnonzero(layers == layer):
            found[0, where] = log_scale / 2
            found[1, where] = np.where(np.isfinite(log_scale), cov[0] + 2 * cov[1] + cov[2], np.nan)
    relative = np.maximum(found[1], 0.0)
    spread_of_log = np.log1p(relative)
    return EarlyMoments(found[0], relative, np.sqrt(spread_of_log) / 2, found[0] - spread_of_log / 4)


def _dispersive(alignment: ArrayLike, gap: ArrayLike, dimension: ArrayLike) -> tuple[Any, Any, Any]:
    kappa, xi = unit_interval(alignment, "alignment"), unit_interval(gap, "gap")
    ambient = natural(dimension, "dimension", least=2) - 1.0
    room = (xi - kappa) * (xi + kappa)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(room > 0, (1 - xi) * (1 + xi) * (1 - kappa) * (1 + kappa) / (room * ambient), np.nan)
    return excess, kappa, xi


def dispersive_excess(alignment: ArrayLike, gap: ArrayLike, dimension: ArrayLike) -> NDArray[np.float64]:
    """What d leaves of the growth rate above ln xi where kappa < xi: (1 - xi^2) s^2 / (2 (xi^2 - kappa^2) (d - 1)).

    Implements (T34), to first order in 1 / (d - 1), L -> infinity: p / q is then an autoregression of coefficient kappa
    / xi and variance s^2 / ((xi^2 - kappa^2) (d - 1)), and a layer grows by ln xi + (1 - xi^2) (p / q)^2 / 2.

    Args:
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        dimension: d >= 2.

    Returns:
        Natural-log units a layer; NaN where kappa >= xi.
    """
    excess, _, _ = _dispersive(alignment, gap, dimension)
    return excess / 2


def dispersive_width(
    alignment: ArrayLike, gap: ArrayLike, depth: ArrayLike, dimension: ArrayLike
) -> NDArray[np.float64]:
    """Standard deviation of (1/L) ln ||P|| where kappa < xi: it falls like 1 / (d - 1), not like its root.

    Implements (T34), to first order in 1 / (d - 1), for L so large that the start is forgotten: the layers' growths are
    squares of a Gaussian autoregression, whose sum over L has variance 2 V^2 L (1 + f^2) / (1 - f^2), f = kappa / xi.
    Where (T21) is infinite.

    Args:
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        depth: L >= 1.
        dimension: d >= 2.

    Returns:
        Natural-log units; NaN where kappa >= xi.
    """
    excess, kappa, xi = _dispersive(alignment, gap, dimension)
    layers = natural(depth, "depth")
    with np.errstate(divide="ignore", invalid="ignore"):
        memory = np.sqrt((xi**2 + kappa**2) / (2 * (xi - kappa) * (xi + kappa)))
        return np.where(xi > kappa, excess * memory / np.sqrt(layers), np.nan)
