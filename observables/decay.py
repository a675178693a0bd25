"""The slope of an eigenvalue spectrum in log-log, and whether a power law is what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from observables._host import spectrum
from observables.decompositions import least_squares
from observables.spectrum import Reason

__all__ = ["SpectralAlpha", "spectral_alpha"]

LEAST_R_SQUARED = 0.9
"""Below this a log-log line is called no power law, whatever its rivals do. Dimensionless."""


@dataclass(frozen=True, slots=True)
class SpectralAlpha:
    """A log-log fit of eigenvalues against their index.

    Attributes:
        slope: alpha = -d log lambda / d log i, dimensionless; NaN where code is not "ok".
        r_squared: of the least-squares line; NaN where the spectrum is flat to rounding.
        slope_se: standard error of the slope under independent residuals. Sorted eigenvalues have correlated
            ones, so it is a lower estimate.
        interval: 95 % t interval of the slope under the same assumption, (low, high).
        llr_exponential: log-likelihood of the power law minus that of log lambda = a - b i, Gaussian residuals
            of log lambda; negative: the exponential is the better description.
        llr_lognormal: the same against log lambda = a - b log i - c (log i)^2 with c >= 0 (the shape of a
            lognormal), less the half log n that its third parameter costs.
        is_power_law: both ratios positive and r_squared at least 0.9.
        code: "ok", "too_few_eigenvalues" or "non_finite".
        first, last: indices i fitted, from 1, both included.
    """

    slope: float
    r_squared: float
    slope_se: float
    interval: tuple[float, float]
    llr_exponential: float
    llr_lognormal: float
    is_power_law: bool
    code: Reason
    first: int
    last: int


def _residual(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least-squares coefficients and the residual sum of squares."""
    coefficients = least_squares("log lambda", design, y)
    rest = y - design @ coefficients
    return coefficients, float(rest @ rest)


def spectral_alpha(eigenvalues: Any, first: int = 10, last: int = 50) -> SpectralAlpha:
    """Minus the slope of log lambda_i on log i, by least squares over i = first..last, with its credentials.

    Implements (O3) and (O4). An exponential spectrum fitted in log-log over 10..50 has slope near 10 and
    R^2 = 0.96, so neither number alone shows a power law: the likelihood ratios do.

    Args:
        eigenvalues: descending, shape (n,), any one unit; computed in float64 on the host.
        first: first index fitted, from 1.
        last: last index fitted, included; at least first + 3, so that the richest rival can be fitted.

    Returns:
        The fit; all NaN with a code where fewer than `last` eigenvalues are positive or any is not finite.

    Raises:
        ValueError: if the spectrum is not one-dimensional and descending, or the range is not valid.
    """
    values = spectrum(eigenvalues)
    if int(first) != first or int(last) != last or first < 1 or last < first + 3:
        raise ValueError(f"first and last must be integers with 1 <= first and first + 3 <= last; got {first}, {last}")
    code: Reason = "ok"
    if not np.isfinite(values).all():
        code = "non_finite"
    elif np.count_nonzero(values > 0) < last:
        code = "too_few_eigenvalues"
    nan = math.nan
    if code != "ok":
        return SpectralAlpha(nan, nan, nan, (nan, nan), nan, nan, False, code, first, last)

    index = np.arange(first, last + 1, dtype=np.float64)
    y, x = np.log(values[first - 1 : last]), np.log(index)
    n = index.size
    one, centred = np.ones(n), x - x.mean()
    line, rss = _residual(np.stack([one, centred], axis=1), y)
    _, rss_exponential = _residual(np.stack([one, index - index.mean()], axis=1), y)
    bend, rss_lognormal = _residual(np.stack([one, centred, centred**2], axis=1), y)
    if bend[2] > 0:  # convex: no lognormal bends that way, and its best fit is the line itself
        rss_lognormal = rss

    total = float(np.sum((y - y.mean()) ** 2))
    # Residuals of an exact law are rounding of the logarithms; below that floor two fits are equally good.
    floor = n * (8 * np.finfo(np.float64).eps * max(1.0, float(np.max(np.abs(y))))) ** 2
    r_squared = 1.0 - rss / total if total > floor else nan
    slope = float(-line[1])
    slope_se = math.sqrt(rss / (n - 2) / float(np.sum(centred**2)))
    half = float(stats.t.ppf(0.975, n - 2)) * slope_se
    llr_exponential = 0.5 * n * math.log((rss_exponential + floor) / (rss + floor))
    llr_lognormal = 0.5 * n * math.log((rss_lognormal + floor) / (rss + floor)) + 0.5 * math.log(n)
    return SpectralAlpha(
        slope=slope,
        r_squared=r_squared,
        slope_se=slope_se,
        interval=(slope - half, slope + half),
        llr_exponential=llr_exponential,
        llr_lognormal=llr_lognormal,
        is_power_law=bool(llr_exponential > 0 and llr_lognormal > 0 and r_squared >= LEAST_R_SQUARED),
        code="ok",
        first=int(first),
        last=int(last),
    )
