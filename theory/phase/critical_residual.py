"""The strength of the updates at which the residual family turns: where an outlier takes over from the pinned bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval
from theory.phase._crossing import CROSSING_CODES, crossings, order_values
from theory.phase.critical import refuse_level
from theory.phase.critical_context import PhaseThresholds, half_depth, transition_statistic
from theory.regimes.residual_moments import residual_moments
from theory.simulators.cells import depth_list
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.spectra import ContextSpectra

__all__ = ["CriticalStrength", "critical_strength", "predicted_strength"]

TOGETHER = 512
"""Cells run at once in the scan: enough that their common draws cost little beside them."""


@dataclass(frozen=True, slots=True, eq=False)
class CriticalStrength:
    """Strengths tau = ||F_l|| where a median crosses its threshold. Arrays of shape (depths, cells).

    Attributes:
        strength: the crossing; NaN where there is none.
        low: lower end of its confidence interval; 0 where it lies below the range searched.
        high: upper end; inf where it lies above.
        code: what `CROSSING_CODES` says, "gain" being the strength here.
        level: of the interval, for one cell; those of different cells are correlated.
    """

    strength: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    code: NDArray[np.int64]
    level: float

    def describe(self, index: tuple[int, int]) -> str:
        """One cell in words."""
        if np.isnan(self.strength[index]):
            return CROSSING_CODES[int(self.code[index])].replace("gain", "strength")
        return f"{self.strength[index]:.4g} ({self.low[index]:.4g} to {self.high[index]:.4g})"


def critical_strength(
    alignment: ArrayLike,
    persistence: ArrayLike,
    depths: Sequence[int],
    *,
    rank: int,
    dimension: int,
    chains: int,
    seed: int,
    along: float = 1.0,
    injected: float = 0.0,
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    bulk: float = 0.0,
    thresholds: PhaseThresholds | None = None,
    strengths: tuple[float, float] = (0.02, 20.0),
    scan: int = 17,
    steps: int = 10,
    level: float = 0.95,
    dtype: Literal["float64", "float32"] = "float64",
) -> dict[str, CriticalStrength]:
    """Strengths where the medians of the residual family cross: share, growth, collapse, and the earliest's growth.

    By a scan and enclosure on the same random numbers, as `critical_context_gain`, whose thresholds for share, growth
    and ratio are taken. "early" asks whether ||P_{L:2} B_1 w|| grows from L // 2 to L by more than it would for d ->
    infinity at an outlier's rate equal to the bulk's, without a bulk part ln hypot(along sqrt(1 + s_w^2 (L - 1)),
    injected): its crossing tends to (sqrt(1 + bulk^2) - omega) / kappa (T33). Without a part along it is undefined.

    Args:
        alignment: kappa of each cell, in [0, 1].
        persistence: omega of each cell, in [0, 1], broadcast against it.
        depths: numbers of layers, each >= 1.
        rank: r, of every F_l.
        dimension: d >= rank + max(rank, context_dimension).
        chains: number for each cell, enough for the level: 6 at 0.95.
        seed: >= 0.
        along, injected, context_dimension, frame: of the injections, as in `residual_spectra`.
        bulk: gamma, of every layer.
        thresholds: None for the defaults.
        strengths: range searched, positive, ascending.
        scan: number of strengths in the scan, >= 2, spaced evenly in their logarithm.
        steps: >= 0; the enclosure becomes as narrow as this many bisections make it.
        level: of the interval, in (0, 1).
        dtype: of the recurrence.

    Returns:
        "share", "growth", "early" and, for two context directions, "ratio"; shape (depths, cells).

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, omega = _pairs(alignment, persistence)
    low, high = _range(strengths)
    grid_size, narrowed = int(natural(scan, "scan", least=2)), int(natural(steps, "steps", least=0))
    n, layers = int(natural(chains, "chains")), depth_list(depths)
    refuse_level(n, level)
    rule = thresholds or PhaseThresholds()
    every = sorted({*layers.tolist(), *map(half_depth, layers.tolist())})
    names = ["share", "growth", "early", *(["ratio"] if context_dimension == 2 else [])]

    def run(log_strength: NDArray[np.float64], cells: NDArray[np.intp], depths: list[int]) -> ContextSpectra:
        numbers = ResidualCells(np.exp(log_strength), kappa[cells], omega[cells], along, injected, bulk)
        return residual_spectra(
            numbers,
            dimension,
            depths,
            rank=rank,
            chains=n,
            seed=seed,
            context_dimension=context_dimension,
            frame=frame,
            dtype=dtype,
        )

    def statistic(
        found: ContextSpectra, name: str, depth: int, at: list[int], cells: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Order values of one statistic beyond its threshold, shape (3, cells)."""
        row, half = at.index(depth), at.index(half_depth(depth))
        if name != "early":
            values = transition_statistic(found, name, row, half)
            return order_values(rule.excess(name, values, depth), level)
        log_early = found.log_early
        if log_early is None or depth == 1 or along == 0:
            return np.full((3, len(cells)), np.nan)
        grown = log_early[row] - log_early[half]
        return order_values(grown - _early_threshold(omega[cells], depth, along, injected, bulk)[:, None], level)

    # The lowest strengths of all cells are run before the next: the scan is one axis of cells.
    log_grid, everyone = np.linspace(np.log(low), np.log(high), grid_size), np.arange(kappa.size)
    curves = np.empty((len(names), layers.size, 3, kappa.size, grid_size))
    step = max(1, TOGETHER // kappa.size)
    for first in range(0, grid_size, step):
        points = log_grid[first : first + step]
        cells = np.tile(everyone, points.size)
        found = run(np.repeat(points, kappa.size), cells, every)
        if "ratio" in names and rule.log_value("ratio", 1) < found.log_floor.max():
            least = float(np.exp(found.log_floor.max()))
            raise ValueError(f"thresholds.ratio must be above what {dtype} resolves, {least:.2g}; got {rule.ratio!r}")
        for i, name in enumerate(names):
            for j, depth in enumerate(layers.tolist()):
                values = statistic(found, name, depth, every, cells).reshape(3, points.size, kappa.size)
                curves[i, j, ..., first : first + step] = np.swapaxes(values, 1, 2)
    results = {}
    for i, name in enumerate(names):
        logs, codes = np.empty((3, layers.size, kappa.size)), np.empty((layers.size, kappa.size), dtype=np.int64)
        for j, depth in enumerate(layers.tolist()):
            pair = sorted({depth, half_depth(depth)})

            def refine(
                log_strength: NDArray[np.float64],
                kinds: NDArray[np.intp],
                cells: NDArray[np.intp],
                name: str = name,
                depth: int = depth,
                pair: list[int] = pair,
            ) -> NDArray[np.float64]:
                if cells.size == 0:
                    return np.empty(0)
                found = run(log_strength, cells, pair)
                return statistic(found, name, depth, pair, cells)[kinds, np.arange(cells.size)]

            logs[:, j], codes[j] = crossings(curves[i, j], log_grid, refine, narrowed)
        results[name] = CriticalStrength(np.exp(logs[0]), np.exp(logs[1]), np.exp(logs[2]), codes, level)
    return results


def predicted_strength(
    alignment: ArrayLike,
    persistence: ArrayLike,
    depths: Sequence[int],
    *,
    rank: int = 1,
    dimension: int | None = None,
    along: float = 1.0,
    injected: float = 0.0,
    frame: Literal["across", "isotropic"] = "across",
    bulk: float = 0.0,
    thresholds: PhaseThresholds | None = None,
    strengths: tuple[float, float] = (0.02, 20.0),
) -> dict[str, NDArray[np.float64]]:
    """Where the root mean squares of (T32) cross, with no random numbers: "growth", of J_L w, "early" and "ratio".

    For d -> infinity at fixed depth a median is its root mean square, and this is where `critical_strength` tends; at
    finite d rare chains carry the mean square, which crosses at a smaller strength. "ratio" takes what the second
    context direction leaves across X_L for sigma_2, which holds in that limit. Parameters as there. A sweep's variable
    of the same name is another number: (1 - omega) / kappa, `residual_rates(...).critical_strength`.

    Returns:
        Shape (depths, cells); NaN where nothing crosses in the range; of "early" and "ratio" without a part along, and
        of "ratio" without a frame.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, omega = _pairs(alignment, persistence)
    ends, layers, rule = _range(strengths), depth_list(depths), thresholds or PhaseThresholds()

    def excess(log_strength: NDArray[np.float64], name: str, depth: int) -> NDArray[np.float64]:
        cells = ResidualCells(np.exp(log_strength), kappa, omega, along, injected, bulk)
        found = residual_moments(cells, dimension, [depth, half_depth(depth)], rank=rank, frame=frame)
        if name == "ratio":
            other = ResidualCells(cells.strength, kappa, omega, 0.0, injected, bulk)
            second = residual_moments(other, dimension, [depth], rank=rank, frame=frame)
            across = second.log_whole[0] - np.log1p(np.exp(-2 * second.log_noise[0])) / 2
            return rule.excess("ratio", across - found.log_whole[0], depth)
        if name == "growth":
            return found.log_whole[0] - found.log_whole[1] - rule.log_value("growth", depth)
        return found.log_early[0] - found.log_early[1] - _early_threshold(omega, depth, along, injected, bulk)

    results = {name: np.full((layers.size, kappa.size), np.nan) for name in ("growth", "early", "ratio")}
    for name, result in results.items():
        if (name != "growth" and along == 0) or (name == "ratio" and injected == 0):
            continue
        for row, depth in enumerate(layers.tolist()):
            if depth == 1 and name != "ratio":
                continue
            low, high = (np.full(kappa.size, np.log(end)) for end in ends)
            crosses = (excess(low, name, depth) <= 0) & (excess(high, name, depth) > 0)
            for _ in range(50):
                middle = (low + high) / 2
                past = excess(middle, name, depth) > 0
                low, high = np.where(past, low, middle), np.where(past, middle, high)
            result[row, crosses] = np.exp((low + high) / 2)[crosses]
    return results


def _early_threshold(
    omega: NDArray[np.float64], depth: int, along: float, injected: float, bulk: float
) -> NDArray[np.float64]:
    """ln of the growth of ||P_{L:2} B_1 w|| since L // 2, for d -> infinity and an outlier as fast as the bulk."""
    square = 1 + bulk**2
    fed = ((1 - omega) * (1 + omega) + bulk**2) / square
    whole, half = (np.hypot(along * np.sqrt(1 + fed * (of - 1)), injected) for of in (depth, half_depth(depth)))
    return np.log(whole / half) + (depth - half_depth(depth)) * np.log(square) / 2


def _pairs(alignment: ArrayLike, persistence: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kappa, omega = unit_interval(alignment, "alignment"), unit_interval(persistence, "persistence")
    try:
        kappa, omega = np.broadcast_arrays(np.atleast_1d(kappa), np.atleast_1d(omega))
    except ValueError as error:
        raise ValueError(f"alignment and persistence must broadcast; got {kappa.shape} and {omega.shape}") from error
    if kappa.ndim != 1 or kappa.size == 0:
        raise ValueError(f"alignment and persistence must lie on one axis, with at least one cell; got {kappa.shape}")
    return kappa, omega


def _range(strengths: tuple[float, float]) -> tuple[float, float]:
    low, high = float(strengths[0]), float(strengths[1])
    if not (0 < low < high < np.inf):
        raise ValueError(f"strengths must be positive, finite and ascending; got {strengths!r}")
    return low, high
