"""Means, medians and spreads over the chains of a cell, each with its error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_and_error", "spread_and_error"]


def mean_and_error(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the last axis and its standard error; NaN error for one sample or an infinite mean."""
    n = samples.shape[-1]
    mean = samples.mean(axis=-1)
    if n < 2:
        return mean, np.full(mean.shape, np.nan)
    with np.errstate(invalid="ignore"):
        error = samples.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean, np.where(np.isfinite(mean), error, np.nan)


def spread_and_error(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard deviation over the last axis and its standard error, from the fourth central moment.

    var(s^2) = (mu_4 - sigma^4 (n - 3) / (n - 1)) / n for any law, and se(s) = se(s^2) / (2 s). NaN for fewer than two
    samples, an error of 0 where all are equal.
    """
    n = samples.shape[-1]
    if n < 2:
        nowhere = np.full(samples.shape[:-1], np.nan)
        return nowhere, nowhere.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = samples - samples.mean(axis=-1, keepdims=True)
        variance = (centred**2).sum(axis=-1) / (n - 1)
        fourth = (centred**4).mean(axis=-1)
        excess = np.maximum(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n
        spread = np.sqrt(variance)
        error = np.where(spread > 0, np.sqrt(excess) / (2 * spread), np.where(np.isnan(spread), np.nan, 0.0))
    return spread, error
