"""A verdict on a prediction: rule, effect, interval and count, by one rule for every prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["Judgement", "Verdict", "judge", "simultaneous"]

Judgement = Literal["supported", "refuted", "unresolved", "not tested"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One prediction in one scope.

    Attributes:
        tag: of the prediction, "T21" say.
        statement: what is predicted.
        scope: where it was tried.
        verdict: by `judge`.
        effect: the deviation from the prediction in the cell that decides, in `unit`: of a refuted prediction the cell
            whose interval lies furthest outside the tolerance, else the one whose interval reaches furthest.
        low: lower end of that cell's simultaneous interval.
        high: upper end.
        tolerance: deviation up to which the prediction counts as right, in `unit`.
        unit: of the four.
        cells: number of cells tried.
        agree: number whose own interval lies within the tolerance.
        disagree: number whose own interval lies outside it.
        chains: a cell.
        unmeasured: number of cells without a number, which do not count.
    """

    tag: str
    statement: str
    scope: str
    verdict: Judgement
    effect: float
    low: float
    high: float
    tolerance: float
    unit: str
    cells: int
    agree: int
    disagree: int
    chains: int
    unmeasured: int = 0


def simultaneous(level: float, cells: int) -> float:
    """Half-width, in standard errors, of intervals that hold in all cells at once (Bonferroni)."""
    return float(stats.norm.ppf(1 - (1 - level) / (2 * max(cells, 1))))


def judge(
    tag: str,
    statement: str,
    scope: str,
    deviation: ArrayLike,
    error: ArrayLike,
    *,
    tolerance: float,
    unit: str,
    chains: int,
    level: float = 0.95,
    one_sided: bool = False,
) -> Verdict:
    """The rule for every prediction, fixed before the data: equivalence within a tolerance, in every cell at once.

    Supported where each cell's simultaneous interval lies within the tolerance; refuted where one lies wholly outside;
    otherwise unresolved. Cells whose deviation or error is NaN were not measured and do not count. An infinite
    deviation counts whatever its error: it lies outside every tolerance, or within a one-sided one if it is negative.

    Args:
        tag, statement, scope, unit, chains: as in `Verdict`.
        deviation: measured less predicted, one for each cell.
        error: standard error of each.
        tolerance: >= 0.
        level: of the intervals, all cells together.
        one_sided: whether only a deviation above the tolerance counts against it, as for an upper bound.
    """
    found = np.asarray(deviation, dtype=np.float64).ravel()
    spread = np.asarray(error, dtype=np.float64).ravel()
    infinite = np.isinf(found)
    known = infinite | ~(np.isnan(found) | np.isnan(spread))
    lost = int((~known).sum())
    found, spread = found[known], np.where(infinite, 0.0, spread)[known]
    if not found.size:
        nan = float("nan")
        return Verdict(tag, statement, scope, "not tested", nan, nan, nan, tolerance, unit, 0, 0, 0, chains, lost)
    low, high = _interval(found, simultaneous(level, found.size) * spread)
    own_low, own_high = _interval(found, simultaneous(level, 1) * spread)
    within, outside = _sides(low, high, tolerance, one_sided)
    agree, disagree = _sides(own_low, own_high, tolerance, one_sided)
    # The cell that decides: its interval's near end where one is outside, else the far end.
    up, down = (low, -high) if outside.any() else (high, -low)
    worst = int(np.argmax(up if one_sided else np.maximum(up, down)))
    verdict: Judgement = "refuted" if outside.any() else "supported" if within.all() else "unresolved"
    return Verdict(
        tag,
        statement,
        scope,
        verdict,
        float(found[worst]),
        float(low[worst]),
        float(high[worst]),
        tolerance,
        unit,
        found.size,
        int(agree.sum()),
        int(disagree.sum()),
        chains,
        lost,
    )


def _interval(found: NDArray[np.float64], half: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return found - half, found + half


def _sides(
    low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float, one_sided: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each interval lies within the tolerance, and whether wholly outside."""
    if one_sided:
        return high <= tolerance, low > tolerance
    return (low >= -tolerance) & (high <= tolerance), (low > tolerance) | (high < -tolerance)
