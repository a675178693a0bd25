"""Intervals, tests and verdicts: every number that the ledger calls an effect passes through here.

Clips are the unit of chance: layers, heads and conditions of one clip are not independent draws, so every resampling
draws whole clips (clusters). Seeds are arguments; nothing here reads a global state.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Direction = Literal["greater", "less"]
Verdict = Literal["supported", "refuted", "unresolved", "not tested"]

RESAMPLES = 2000
LEVEL = 0.95
# Below this many clips a percentile bootstrap is far too narrow (with one clip its width is zero): no interval then.
MIN_CLUSTERS = 5


@dataclass(frozen=True, slots=True)
class Interval:
    """An effect with its two-sided interval.

    Attributes:
        effect: point estimate, in the unit of the values it came from.
        low, high: ends of the interval at `level`; NaN where it could not be computed.
        n: number of independent units (clips) behind it.
        level: coverage aimed at, in (0, 1).
        code: "ok", or why there is no interval: "no_data", "too_few_clusters".
    """

    effect: float
    low: float
    high: float
    n: int
    level: float = LEVEL
    code: str = "ok"

    @property
    def known(self) -> bool:
        """Whether both ends are finite."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def as_list(self) -> list[float]:
        """[low, high], for records."""
        return [self.low, self.high]


def _paired(values: ArrayLike, clusters: Sequence[Any] | None) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Finite values and the cluster number of each."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional; got shape {array.shape}")
    if clusters is not None and len(clusters) != len(array):
        raise ValueError(f"clusters must have one label a value ({len(array)}); got {len(clusters)}")
    keep = np.isfinite(array)
    labels = np.arange(len(array)) if clusters is None else np.asarray([str(label) for label in clusters])
    _, codes = np.unique(labels[keep], return_inverse=True)
    return array[keep], codes


_KEPT_BYTES = 32 * 2**20


def _draw_times(clusters: int, resamples: int, seed: int) -> NDArray[np.unsignedinteger[Any]]:
    """How often each cluster is drawn, shape (resamples, clusters)."""
    rng = np.random.default_rng(seed)
    times = np.empty((resamples, clusters), dtype=np.uint16 if clusters < 2**16 else np.uint32)
    for rows in _batches(resamples, clusters):  # one stream, whatever the batch
        times[rows] = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=rows.stop - rows.start)
    return times


_same_draws = functools.lru_cache(maxsize=4)(_draw_times)


def _resampled_means(sums: NDArray[Any], sizes: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean over the values of drawn clusters, one a resample, from each cluster's sum and number of values.

    Many effects of one table share their clips, and so their draws: those are kept while they are small. Thousands of
    clips are weighted batch by batch, lest 2,000 x 5,559 weights stand in memory twice as float64.
    """
    count = len(sums)
    times = (_same_draws if resamples * count * 2 <= _KEPT_BYTES else _draw_times)(count, resamples, seed)
    means = np.empty(resamples)
    for rows in _batches(resamples, count):
        weights = times[rows].astype(np.float64)
        means[rows] = (weights @ sums) / (weights @ sizes)
    return means


def _batches(resamples: int, clusters: int) -> list[slice]:
    step = max(1, 2**18 // max(clusters, 1))
    return [slice(start, min(start + step, resamples)) for start in range(0, resamples, step)]


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[Any] | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Mean of `values` with a percentile interval over resampled clusters.

    A paired comparison passes differences, one a pair, clustered by clip. NaN values are left out and not counted.

    Args:
        values: one-dimensional, any unit.
        clusters: label of the clip each value belongs to; None: each value is its own.
        seed: seed of the resampling.
        resamples: number of resamples, >= 2000 for what is reported.
        level: coverage, in (0, 1).

    Returns:
        The mean (each value weighted alike), its interval, n = number of clusters. No interval below
        MIN_CLUSTERS clusters.

    Raises:
        ValueError: if the shapes differ or the level leaves (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1); got {level}")
    array, codes = _paired(values, clusters)
    if len(array) == 0:
        return Interval(np.nan, np.nan, np.nan, 0, level, "no_data")
    count = int(codes.max()) + 1
    effect = float(array.mean())
    if count < MIN_CLUSTERS:
        return Interval(effect, np.nan, np.nan, count, level, "too_few_clusters")
    sums = np.bincount(codes, weights=array, minlength=count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    low, high = _quantiles(_resampled_means(sums, sizes, resamples, seed), level)
    return Interval(effect, low, high, count, level)


def bootstrap_difference(
    first: ArrayLike,
    first_clusters: Sequence[Any] | None,
    second: ArrayLike,
    second_clusters: Sequence[Any] | None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Difference of two unpaired means, first - second, each side's clusters resampled on their own.

    Returns:
        Interval with n = the smaller number of clusters; no interval where either side has too few.
    """
    sides = []
    for offset, (values, labels) in enumerate(((first, first_clusters), (second, second_clusters))):
        array, codes = _paired(values, labels)
        if len(array) == 0:
            return Interval(np.nan, np.nan, np.nan, 0, level, "no_data")
        count = int(codes.max()) + 1
        sums = np.bincount(codes, weights=array, minlength=count)
        sizes = np.bincount(codes, minlength=count).astype(np.float64)
        sides.append((float(array.mean()), _resampled_means(sums, sizes, resamples, seed + offset), count))
    (mean_a, draws_a, count_a), (mean_b, draws_b, count_b) = sides
    n = min(count_a, count_b)
    if n < MIN_CLUSTERS:
        return Interval(mean_a - mean_b, np.nan, np.nan, n, level, "too_few_clusters")
    low, high = _quantiles(draws_a - draws_b, level)
    return Interval(mean_a - mean_b, low, high, n, level)


def _quantiles(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_statistic(
    function: Any,
    arrays: Sequence[ArrayLike],
    clusters: Sequence[Any] | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """A statistic of several aligned arrays (a correlation, an AUROC) with a percentile interval over clusters.

    Args:
        function: maps the arrays (rows drawn with their clusters) to one float; NaN where it is not defined.
        arrays: aligned one-dimensional arrays; rows with a NaN in any are left out.
        clusters: label of the clip of each row; None: each row is its own.
        seed: seed of the resampling.
        resamples: number of resamples.
        level: coverage, in (0, 1).

    Returns:
        Interval with n = number of clusters. "undefined" if more than a twentieth of the resamples are NaN.

    Raises:
        ValueError: if the arrays differ in length.
    """
    columns = [np.asarray(array, dtype=np.float64) for array in arrays]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"arrays must have one length; got {[len(column) for column in columns]}")
    keep = np.asarray(np.isfinite(np.stack(columns)).all(axis=0))
    columns = [column[keep] for column in columns]
    labels = None if clusters is None else [label for label, kept in zip(clusters, keep, strict=True) if kept]
    _, codes = _paired(columns[0], labels)
    if len(columns[0]) == 0:
        return Interval(np.nan, np.nan, np.nan, 0, level, "no_data")
    count = int(codes.max()) + 1
    effect = float(function(*columns))
    if count < MIN_CLUSTERS:
        return Interval(effect, np.nan, np.nan, count, level, "too_few_clusters")
    members = [np.flatnonzero(codes == code) for code in range(count)]
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for index in range(resamples):
        rows = np.concatenate([members[code] for code in rng.integers(0, count, size=count)])
        draws[index] = function(*(column[rows] for column in columns))
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(effect) or len(finite) < 0.95 * resamples:
        return Interval(effect, np.nan, np.nan, count, level, "undefined")
    low, high = _quantiles(finite, level)
    return Interval(effect, low, high, count, level)


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1 of finite values, ties at their middle: `scipy.stats.rankdata`, four times as fast on a few dozen.

    A bootstrap of rank correlations takes tens of thousands of them.
    """
    if len(values) == 0:
        return np.empty(0)
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = ascending[1:] != ascending[:-1]
    begins = np.flatnonzero(first)
    ends = np.full(len(begins), len(values))
    ends[:-1] = begins[1:]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((begins + ends + 1) / 2.0, ends - begins)
    return ranks


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, in [-1, 1]; NaN where one side is constant or fewer than three rows."""
    if len(x) < 3:
        return float("nan")
    return _pearson(midranks(x), midranks(y))


def partial_spearman(x: NDArray[np.float64], y: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Spearman's correlation of x and y with the ranks of a third variable taken out of both, in [-1, 1].

    Returns the plain correlation where `given` is constant, NaN where it explains either side completely.
    """
    if len(x) < 4:
        return float("nan")
    x, y, given = (midranks(one) for one in (x, y, given))
    xy, xg, yg = _pearson(x, y), _pearson(x, given), _pearson(y, given)
    if np.isnan(xg) and np.isnan(yg):
        return xy
    rest = (1.0 - xg**2) * (1.0 - yg**2)
    # Ranks of n rows determine a correlation to about n eps: below that the remainder is rounding, not signal.
    return float((xy - xg * yg) / np.sqrt(rest)) if rest > len(x) * np.finfo(float).eps else float("nan")


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    scale = np.sqrt((dx @ dx) * (dy @ dy))
    return float(dx @ dy / scale) if scale > 0 else float("nan")


def auroc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Probability that a positive (label 1) scores above a negative (0), ties counted half; NaN if one is absent."""
    positive = np.asarray(labels) > 0.5
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    if n_pos == 0 or n_neg == 0:
        return float("nan")
    ranks = midranks(scores)
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def standardised_mean(differences: ArrayLike) -> float:
    """Cohen's d_z of paired differences: mean over standard deviation (n - 1), dimensionless; NaN below two pairs."""
    array, _ = _paired(differences, None)
    if len(array) < 2 or np.ptp(array) == 0:
        return float("nan")
    return float(array.mean() / array.std(ddof=1))


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p of the Wilcoxon signed-rank test, zeros left out (Wilcoxon 1945); NaN below six non-zero pairs.

    With five pairs the smallest two-sided p is 1/16: no answer could be significant.
    """
    array, _ = _paired(differences, None)
    array = array[array != 0]
    if len(array) < 6:
        return float("nan")
    return float(stats.wilcoxon(array).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p values (q), Benjamini and Hochberg 1995; NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    if len(known):
        order = known[np.argsort(p[known])]
        scaled = p[order] * len(known) / np.arange(1, len(known) + 1)
        q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def verdict(interval: Interval | tuple[float, float], least_effect: float, direction: Direction) -> Verdict:
    """The rule of the ledger: where the whole interval lies, seen from the least effect worth having.

    Args:
        interval: 95 % interval of the effect.
        least_effect: smallest effect that would support the claim, in the effect's unit and sign.
        direction: "greater" if the claim says the effect is above it, "less" if below.

    Returns:
        "supported" if the interval lies strictly on the claimed side, "refuted" if strictly on the other,
        "unresolved" if it straddles, touches, or is not known.

    Raises:
        ValueError: for another direction, or low > high.
    """
    low, high = (interval.low, interval.high) if isinstance(interval, Interval) else interval
    if direction not in ("greater", "less"):
        raise ValueError(f"direction must be 'greater' or 'less'; got {direction!r}")
    if not (np.isfinite(low) and np.isfinite(high) and np.isfinite(least_effect)):
        return "unresolved"
    if low > high:
        raise ValueError(f"an interval must have low <= high; got [{low}, {high}]")
    above, below = low > least_effect, high < least_effect
    if direction == "greater":
        return "supported" if above else "refuted" if below else "unresolved"
    return "supported" if below else "refuted" if above else "unresolved"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of a claim with several parts that must all hold: one refutation refutes, all supported supports."""
    tested = [one for one in verdicts if one != "not tested"]
    if not tested:
        return "not tested"
    if "refuted" in tested:
        return "refuted"
    return "supported" if all(one == "supported" for one in tested) else "unresolved"
