"""The gain at which context Jacobians of typical chains turn: the share, the growth and the collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural
from theory.phase._crossing import crossings, order_values
from theory.phase.critical import CriticalGain, cell_pairs, refuse_level
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.spectra import ContextSpectra, context_spectra

__all__ = ["PhaseThresholds", "critical_context_gain", "half_depth", "transition_statistic"]


@dataclass(frozen=True, slots=True)
class PhaseThresholds:
    """What counts as turned. The defaults are met at rho = 1 exactly by aligned chains with coherent injections alone.

    Attributes:
        share: of the earliest injection, of ||J_L w||^2; None for 1 / L^2, each of L equal parallel injections' share.
        growth: of ln ||J_L|| - ln ||J_l||, l = L // 2; None for ln(L / l), growth in proportion to depth. At L = 1 it
            is undefined.
        ratio: sigma_2 / sigma_1 of J_L, below which it counts as collapsed.

    Raises:
        ValueError: if share or ratio is not positive, or growth not finite.
    """

    share: float | None = None
    growth: float | None = None
    ratio: float = 0.1

    def __post_init__(self) -> None:
        for name in ("share", "ratio"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite; got {value!r}")
        if self.growth is not None and not np.isfinite(self.growth):
            raise ValueError(f"growth must be finite; got {self.growth!r}")

    def log_value(self, transition: str, depth: int) -> float:
        """The threshold of a statistic of `transition_statistic` at this depth, natural log; 0 growth at L = 1."""
        if transition == "share":
            return float(np.log(self.share)) if self.share is not None else -2 * float(np.log(depth))
        if transition == "growth":
            return self.growth if self.growth is not None else float(np.log(depth / half_depth(depth)))
        return float(np.log(self.ratio))

    def excess(self, transition: str, values: Any, depth: int) -> Any:
        """Statistic beyond its threshold, turned so that it grows through 0 as the gain grows."""
        beyond = values - self.log_value(transition, depth)
        return -beyond if transition == "ratio" else beyond


def half_depth(depth: int) -> int:
    """The depth that growth is counted from: L // 2, at least 1."""
    return max(depth // 2, 1)


def transition_statistic(found: ContextSpectra, transition: str, row: int, half: int) -> NDArray[np.float64]:
    """What each chain's transition is judged by, natural log: its share, its growth since L // 2, or its ratio.

    Args:
        found: spectra at some depths.
        transition: "share", "growth" or "ratio".
        row: of the depth L.
        half: of the depth L // 2. The same row (L = 1) leaves growth undefined.

    Returns:
        Shape (cells, chains).
    """
    if transition == "share":
        if found.log_share is None:
            raise ValueError("share must be carried for the transition 'share'")
        return found.log_share[row]
    if transition == "growth":
        if row == half:
            return np.full(found.log_norm.shape[1:], np.nan)
        with np.errstate(invalid="ignore"):
            return found.log_norm[row] - found.log_norm[half]
    return found.log_ratio[row]


def critical_context_gain(
    alignment: ArrayLike,
    gap: ArrayLike,
    depths: Sequence[int],
    *,
    dimension: int,
    chains: int,
    seed: int,
    along: float = 1.0,
    injected: float = 0.0,
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    thresholds: PhaseThresholds | None = None,
    gains: tuple[float, float] = (0.25, 4.0),
    scan: int = 17,
    steps: int = 10,
    level: float = 0.95,
    dtype: Literal["float64", "float32"] = "float64",
) -> dict[str, CriticalGain]:
    """Gains where the medians of J_L cross: the earliest injection's share, the growth with L, the collapse.

    A scan of gains finds the first pair that encloses a crossing, ITP steps on the same random numbers do the rest
    (a smooth curve; J_L at two gains is one chain's in law only), for the median and for the two order statistics that
    bound it: the interval holds the gains at which the test of "the median equals the threshold" would not refuse, and
    what the last enclosure leaves open.

    Args:
        alignment: kappa of each cell, in (0, 1].
        gap: xi of each cell, in [0, 1], broadcast against it.
        depths: numbers of layers, each >= 1.
        dimension: d >= context_dimension + 1.
        chains: number for each cell, enough for the level: 6 at 0.95.
        seed: >= 0.
        along, injected, context_dimension, frame: of the injections, as in `context_spectra`.
        thresholds: None for the defaults.
        gains: range searched, positive, ascending.
        scan: number of gains in the scan, >= 2, spaced evenly in their logarithm.
        steps: >= 0; the enclosure becomes as narrow as this many bisections make it.
        level: of the interval, in (0, 1).
        dtype: of the recurrence.

    Returns:
        "share", "growth" and, for two context directions, "ratio": the gain above which the median of the share or the
        growth is above its threshold, that of the ratio below. Shape (depths, cells).

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, xi = cell_pairs(alignment, gap)
    if (kappa == 0).any():
        raise ValueError("alignment must be positive, as sigma = gain / alignment; got 0.0")
    low, high = float(gains[0]), float(gains[1])
    if not (0 < low < high < np.inf):
        raise ValueError(f"gains must be positive, finite and ascending; got {gains!r}")
    grid_size, bisections = int(natural(scan, "scan", least=2)), int(natural(steps, "steps", least=0))
    n, layers = int(natural(chains, "chains")), depth_list(depths)
    refuse_level(n, level)
    rule = thresholds or PhaseThresholds()
    every = sorted({*layers.tolist(), *map(half_depth, layers.tolist())})
    row = {depth: index for index, depth in enumerate(every)}
    names = ["share", "growth", *(["ratio"] if context_dimension == 2 else [])]

    def run(log_gain: NDArray[np.float64], cells: NDArray[np.intp], depths: list[int]) -> ContextSpectra:
        sigma = np.exp(log_gain) / kappa[cells]
        numbers = PhaseCells(sigma, kappa[cells], xi[cells], along, injected)
        return context_spectra(
            numbers,
            dimension,
            depths,
            chains=n,
            seed=seed,
            context_dimension=context_dimension,
            frame=frame,
            dtype=dtype,
        )

    def statistics(found: ContextSpectra, name: str, depth: int, rows: dict[int, int]) -> NDArray[np.float64]:
        """Order values of one statistic beyond its threshold, shape (3, ...)."""
        values = transition_statistic(found, name, rows[depth], rows[half_depth(depth)])
        return order_values(rule.excess(name, values, depth), level)

    log_grid = np.linspace(np.log(low), np.log(high), grid_size)
    everyone = np.arange(kappa.size)
    curves = np.empty((len(names), layers.size, 3, kappa.size, grid_size))
    for point, log_gain in enumerate(log_grid):
        found = run(np.full(kappa.size, log_gain), everyone, every)
        if np.log(rule.ratio) < found.log_floor.max() and context_dimension == 2:
            least = float(np.exp(found.log_floor.max()))
            raise ValueError(f"thresholds.ratio must be above what {dtype} resolves, {least:.2g}; got {rule.ratio!r}")
        for i, name in enumerate(names):
            for j, depth in enumerate(layers.tolist()):
                curves[i, j, ..., point] = statistics(found, name, depth, row)
    results = {}
    for i, name in enumerate(names):
        logs, codes = np.empty((3, layers.size, kappa.size)), np.empty((layers.size, kappa.size), dtype=np.int64)
        for j, depth in enumerate(layers.tolist()):
            pair = sorted({depth, half_depth(depth)})
            rows = {value: index for index, value in enumerate(pair)}

            def refine(
                log_gain: NDArray[np.float64],
                kinds: NDArray[np.intp],
                cells: NDArray[np.intp],
                name: str = name,
                depth: int = depth,
                pair: list[int] = pair,
                rows: dict[int, int] = rows,
            ) -> NDArray[np.float64]:
                if cells.size == 0:
                    return np.empty(0)
                return statistics(run(log_gain, cells, pair), name, depth, rows)[kinds, np.arange(cells.size)]

            logs[:, j], codes[j] = crossings(curves[i, j], log_grid, refine, bisections)
        results[name] = CriticalGain(np.exp(logs[0]), np.exp(logs[1]), np.exp(logs[2]), codes, level)
    return results
