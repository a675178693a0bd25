"""Where a statistic of chains crosses a threshold as the gain grows, with an interval from order statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["CROSSING_CODES", "crossings", "enclosed_roots", "median_ranks", "order_values"]

CROSSING_CODES = {
    0: "ok",
    1: "no crossing: below the threshold in the whole range of gains",
    2: "no crossing: above the threshold in the whole range of gains",
    3: "crosses, but an end of the interval lies beyond the range of gains: that end is infinite or 0",
    4: "crosses more than once: the lowest gain is given",
    5: "undefined: the statistic is NaN somewhere in the range",
    6: "no crossing upwards: above the threshold at the least gain, it falls through it and never rises again",
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


def order_values(values: NDArray[np.float64], level: float, *, few: bool = False) -> NDArray[np.float64]:
    """The median over the last axis and the order statistics that bound it, shape (3, ...); NaN where one is NaN.

    Raises:
        ValueError: if there are too few values for the level, unless `few`: then the bounds are NaN.
    """
    n = values.shape[-1]
    try:
        low, high = median_ranks(n, level)
    except ValueError:
        if not few:
            raise
        low = high = None
    ordered = np.sort(values, axis=-1)  # a NaN goes to the end
    median = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    nowhere = np.full(median.shape, np.nan)
    found = np.stack([median, *(nowhere if rank is None else ordered[..., rank] for rank in (low, high))])
    return np.where(np.isnan(ordered[..., -1]), np.nan, found)


def crossings(
    curves: NDArray[np.float64],
    log_grid: NDArray[np.float64],
    refine: Callable[[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]],
    steps: int | None = None,
    *,
    tolerance: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The lowest crossing of 0 of each curve, enclosed from the first pair of grid points that encloses one.

    The enclosure shrinks by `enclosed_roots`, so that smooth curves cost a few evaluations whatever the accuracy.

    Args:
        curves: statistic minus threshold on the grid, of a statistic that grows through 0; shape (3, cells, grid):
            median, low and high order statistic, or (1, cells, grid): the median alone.
        log_grid: ln gain, ascending, shape (grid,) or (cells, grid).
        refine: (log_gain, kinds, cells), all of shape (q,), to the values of curves[kinds, cells] at these gains.
        steps: the enclosure becomes as narrow as this many bisections make it,
        tolerance: or at most this wide. One of the two must be given.

    Returns:
        ln gain of shape (3, cells), where the low and high rows are the ends of the interval, ascending, and codes of
        shape (cells,). NaN without a crossing; an end beyond the range is infinite; the ends are NaN where only the
        median is given and where the median falls through 0 and never rises: there is no side to put an end on.
    """
    grid = np.broadcast_to(log_grid, curves.shape[1:])
    above = curves > 0
    rises = ~above[..., :-1] & above[..., 1:]
    turns = (above[..., :-1] != above[..., 1:]).sum(axis=-1)
    first = rises.argmax(axis=-1)
    undefined = np.isnan(curves).any(axis=(0, 2))
    # Without a rise a curve is above 0 from the start (its crossing lies below the range) or never (above it).
    outside = np.where(above[..., 0], -np.inf, np.inf)
    found = np.where(rises.any(axis=-1), 0.0, outside)
    kinds, cells = np.nonzero(rises.any(axis=-1) & ~undefined)
    at = first[kinds, cells]
    low, high = grid[cells, at], grid[cells, at + 1]
    width = (high - low) / 2.0**steps if steps is not None else np.full(low.shape, tolerance)
    low, high = enclosed_roots(
        low,
        high,
        curves[kinds, cells, at],
        curves[kinds, cells, at + 1],
        lambda x, which: refine(x, kinds[which], cells[which]),
        width,
    )
    # Ends of the interval go outwards by what the enclosure leaves open.
    found[kinds, cells] = np.select([kinds == 1, kinds == 2], [high, low], (low + high) / 2)
    falls = (found[0] == -np.inf) & (turns[0] > 0)
    code = np.select(
        [undefined, falls, found[0] == np.inf, found[0] == -np.inf, turns[0] > 1, ~np.isfinite(found).all(axis=0)],
        [5, 6, 1, 2, 4, 3],
        0,
    )
    if len(found) == 1:
        found = np.concatenate([found, np.full((2, *found.shape[1:]), np.nan)])
    found[:, undefined | falls] = np.nan
    found[0, (code == 1) | (code == 2)] = np.nan
    # A low order statistic crosses later: it gives the upper end.
    return found[[0, 2, 1]], code


def enclosed_roots(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    below: NDArray[np.float64],
    above: NDArray[np.float64],
    function: Callable[[NDArray[np.float64], NDArray[np.intp]], NDArray[np.float64]],
    width: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Narrows enclosures of roots to a width, all at once: ITP (Oliveira and Takahashi, 2020), else halving.

    Every step evaluates a point near the secant, moved towards the middle so that the ends close in from both sides,
    and within the radius that keeps the worst case at one step more than bisection. A value that is not finite halves.

    Args:
        low, high: ends, ascending, shape (n,).
        below, above: values there, <= 0 and > 0; infinite ones are allowed.
        function: (x, which) of shape (q,), `which` the indices of the roots asked for, to values.
        width: wanted width of each, > 0.

    Returns:
        The ends, with function <= 0 at the first (or NaN) and > 0 at the second.
    """
    low, high, below, above = (np.array(x, dtype=np.float64) for x in (low, high, below, above))
    start = high - low
    most = np.ceil(np.log2(np.maximum(start / width, 1))).astype(int) + 1
    step = 0
    while (active := np.flatnonzero(high - low > width * (1 + 1e-9))).size:
        a, b, fa, fb = low[active], high[active], below[active], above[active]
        middle, half = (a + b) / 2, (b - a) / 2
        with np.errstate(invalid="ignore", over="ignore"):
            secant = a - fa * ((b - a) / (fb - fa))
        secant = np.where(np.isfinite(fa) & np.isfinite(fb) & np.isfinite(secant), secant, middle)
        # The push must exceed the secant's error, or only one end moves: quadratic in the width, as that error is.
        push = np.maximum(0.2 * (b - a) ** 2 / start[active], 0.3 * width[active])
        direction = np.sign(middle - secant)
        point = np.where(push <= np.abs(middle - secant), secant + direction * push, middle)
        left = np.maximum(most[active] - step, 1)
        radius = np.maximum(width[active] * 2.0 ** (left - 1.0) - half, 0.0)
        point = np.where(np.abs(point - middle) <= radius, point, middle - direction * radius)
        value = function(point, active)
        past = value > 0
        low[active], high[active] = np.where(past, a, point), np.where(past, point, b)
        below[active], above[active] = np.where(past, fa, value), np.where(past, value, fb)
        step += 1
    return low, high
