"""Where a statistic of chains crosses a threshold as the gain grows, with an interval from order statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["CROSSING_CODES", "crossings", "median_ranks", "order_values"]

CROSSING_CODES = {
    0: "ok",
    1: "no crossing: below the threshold in the whole range of gains",
    2: "no crossing: above the threshold in the whole range of gains",
    3: "crosses, but an end of the interval lies beyond the range of gains: that end is infinite or 0",
    4: "crosses more than once: the lowest gain is given",
    5: "undefined: the statistic is NaN somewhere in the range",
}
"""What each value of `code` says."""


def median_ranks(n: int, level: float) -> tuple[int, int]:
    """0-based ranks of the order statistics of n values that hold the median with probability at least `level`.

    The number of values below the median is binomial(n, 1/2), whatever the law of the values, if it is continuous.

    Raises:
        ValueError: if n is too small for the level.
    """
    low = int(stats.binom.ppf((1 - level) / 2, n, 0.5)) - 1
    if low < 0:
        raise ValueError(f"chains must be more for an interval of level {level}; got {n}")
    return low, n - 1 - low


def order_values(values: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The median over the last axis and the order statistics that bound it, shape (3, ...); NaN where one is NaN."""
    low, high = median_ranks(values.shape[-1], level)
    ordered = np.sort(values, axis=-1)  # a NaN goes to the end
    n = values.shape[-1]
    median = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    found = np.stack([median, ordered[..., low], ordered[..., high]])
    return np.where(np.isnan(ordered[..., -1]), np.nan, found)


def crossings(
    curves: NDArray[np.float64],
    log_grid: NDArray[np.float64],
    refine: Callable[[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]],
    steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The lowest crossing of 0 of each curve, by bisection from the first pair of grid points that enclose one.

    Args:
        curves: statistic minus threshold on the grid, shape (3, cells, grid): median, low and high order statistic, of
            a statistic that grows through 0.
        log_grid: ln gain, ascending, shape (grid,).
        refine: (log_gain, kinds, cells), all of shape (q,), to the values of curves[kinds, cells] at these gains.
        steps: bisections.

    Returns:
        ln gain of shape (3, cells), where the low and high rows are the ends of the interval, ascending, and codes of
        shape (cells,). NaN without a crossing; an end beyond the range is infinite.
    """
    above = curves > 0
    rises = ~above[..., :-1] & above[..., 1:]
    turns = (above[..., :-1] != above[..., 1:]).sum(axis=-1)
    first = rises.argmax(axis=-1)
    # Without a rise a curve is above 0 from the start (its crossing lies below the range) or never (above it).
    outside = np.where(above[..., 0], -np.inf, np.inf)
    found = np.where(rises.any(axis=-1), 0.0, outside)
    kinds, cells = np.nonzero(rises.any(axis=-1))
    low, high = log_grid[first[kinds, cells]], log_grid[first[kinds, cells] + 1]
    for _ in range(steps):
        middle = (low + high) / 2
        past = refine(middle, kinds, cells) > 0
        low, high = np.where(past, low, middle), np.where(past, middle, high)
    # Ends of the interval go outwards by what the bisection leaves open.
    found[kinds, cells] = np.select([kinds == 1, kinds == 2], [high, low], (low + high) / 2)
    undefined = np.isnan(curves).any(axis=(0, 2))
    code = np.select(
        [undefined, found[0] == np.inf, found[0] == -np.inf, turns[0] > 1, ~np.isfinite(found).all(axis=0)],
        [5, 1, 2, 4, 3],
        0,
    )
    found[:, undefined] = np.nan
    found[0, (code == 1) | (code == 2)] = np.nan
    # A low order statistic crosses later: it gives the upper end.
    return found[[0, 2, 1]], code
