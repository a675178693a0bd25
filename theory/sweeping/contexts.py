"""A sweep's numbers of J_L: medians and fractions over the map, and where along its first axis each transition turns.

The first axis, `size` here, is the gain of a flat sweep and the strength of a residual one; a pair is the rest of a
cell's numbers. The map's own sizes are the scan that the search for crossings starts from: one set of chains serves
both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from theory.phase._crossing import crossings, order_values
from theory.phase.critical_context import PhaseThresholds, half_depth, transition_statistic
from theory.simulators.cells import PhaseCells
from theory.simulators.spectra import ContextSpectra
from theory.sweeping._statistics import mean_and_error, spread_and_error
from theory.sweeping.layout import STATISTICS, TRANSITIONS
from theory.sweeping.products import FAILED, UNDEFINED, simulated
from theory.sweeping.spec import Injection, ResidualSweepSpec, SweepSpec

__all__ = ["EVALUATIONS", "FILL", "MARGIN", "UNFITTING", "Family", "context_part", "finished", "over_map", "scan_grid"]

FILL = 0.5
"""Widest step of the scan for a crossing, natural log."""

MARGIN = float(np.log(4.0))
"""How far the scan reaches beyond the map and the predicted crossing, natural log."""

TOLERANCE = 2e-4
"""Width of the last enclosure of a crossing, natural log: what is left open widens the interval by this."""

EVALUATIONS = 5
"""Typical number of steps from a scan to that width, for the estimate of the time."""

UNALIGNED, SILENT, UNFITTING, BELOW_FLOOR, NOT_FINITE = 1, 2, 3, 4, 5
"""Of `CONTEXT_CODE_MEANINGS`."""

ENDS = ("", "_low", "_high")

Summary = dict[str, NDArray[np.float64]]
"""Order values of each statistic, (3, depths, cells): median, low, high; and "turned", (transitions, depths, cells)."""


@dataclass(frozen=True, slots=True)
class Family:
    """How chains of a sweep are run.

    Attributes:
        run: (size, pair, depths), the first two of shape (q,), to an iterator of (which of the q, their spectra); cells
            that cannot be simulated are left out.
        pairs: number of pairs.
        sizes: of the map, any order.
        scan: ln size of the search for crossings, not descending, shape (pairs, n).
        runs: which cells of the map can be run, shape (sizes, pairs).
        good: which pairs can be searched, indices.
        early: whether to keep numbers of the earliest injection.
    """

    run: Callable[[NDArray[np.float64], NDArray[np.intp], list[int]], Iterator[tuple[NDArray[np.intp], ContextSpectra]]]
    pairs: int
    sizes: NDArray[np.float64]
    scan: NDArray[np.float64]
    runs: NDArray[np.bool_]
    good: NDArray[np.intp]
    early: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*STATISTICS, "turned", *(("log_early", "early_rates") if self.early else ()))

    def summary(
        self,
        size: NDArray[np.float64],
        pair: NDArray[np.intp],
        depths: list[int],
        thresholds: PhaseThresholds,
        level: float,
    ) -> tuple[Summary, NDArray[np.bool_]]:
        """Summaries of cells, NaN where they cannot be simulated, and which those are."""
        first = {1} if self.early else set[int]()
        every = sorted(first.union(depths, map(half_depth, depths)))
        whole = {name: np.full((3, len(depths), pair.size), np.nan) for name in self.names}
        failed = np.ones(pair.size, dtype=bool)
        for which, found in self.run(size, pair, every):
            for name, values in summarise(found, depths, every, thresholds, level, early=self.early).items():
                whole[name][..., which] = values
            failed[which] = False
        return whole, failed


def summarise(
    found: ContextSpectra,
    depths: list[int],
    every: list[int],
    thresholds: PhaseThresholds,
    level: float,
    *,
    early: bool = False,
) -> Summary:
    """Medians with intervals, and fractions beyond the thresholds, over the chains of each cell.

    Args:
        found: spectra at the depths `every`, ascending, which hold each wanted depth and its half.
        depths: the depths wanted.
        thresholds: of the transitions.
        level: of the intervals; NaN where the chains are too few for it.
        early: whether to add "log_early", and "early_rates": mean, its error and spread of ln of ||P_{L:2} B_1 w|| over
            ||B_1 w||, a layer. `every` must hold 1 then.
    """
    row = {depth: index for index, depth in enumerate(every)}
    values: dict[str, list[Any]] = {}
    for depth in depths:
        at, half = row[depth], row[half_depth(depth)]
        of: dict[str, Any] = {name: transition_statistic(found, name, at, half) for name in TRANSITIONS}
        # A ratio below the floor is rounding: all that is known is that it is smaller than that.
        of["ratio"] = np.where(of["ratio"] < found.log_floor[at], -np.inf, of["ratio"])
        beyond = [thresholds.excess(name, of[name], depth) for name in TRANSITIONS]
        turned = [np.where(np.isnan(x).any(axis=-1), np.nan, (x > 0).mean(axis=-1)) for x in beyond]
        values.setdefault("turned", []).append(np.stack(turned))
        of = {f"log_{name}": value for name, value in of.items()}
        of |= {"log_norm": found.log_norm[at], "log_noise": found.log_noise[at]}
        for name in STATISTICS:
            values.setdefault(name, []).append(order_values(of[name], level, few=True))
        if early:
            first: Any = found.log_early
            with np.errstate(invalid="ignore", divide="ignore"):
                rates = (first[at] - first[row[1]]) / (depth - 1)  # 0 / 0 at L = 1: no layer, no rate
                mean, error = mean_and_error(rates)
                spread = spread_and_error(rates)[0]
            values.setdefault("log_early", []).append(order_values(first[at], level, few=True))
            values.setdefault("early_rates", []).append(np.stack([mean, error, spread]))
    return {name: np.stack(arrays, axis=1) for name, arrays in values.items()}


def mapped(
    family: Family, spec: SweepSpec | ResidualSweepSpec, *, refused: NDArray[np.int64]
) -> tuple[Summary, NDArray[np.int64]]:
    """The map: summaries of shape (3, depths, sizes, pairs), and result codes, (depths, sizes, pairs).

    Args:
        family: of the chains.
        spec: depths, thresholds and level.
        refused: code of each cell that is not run, (sizes, pairs); 0 for the others.
    """
    depths = list(spec.depth)
    shape = (len(depths), family.sizes.size, family.pairs)
    summary = {name: np.full((3, *shape), np.nan) for name in family.names}
    failed = np.zeros(shape[1:], dtype=bool)
    if family.runs.any():
        rows, pairs = np.nonzero(family.runs)
        found, failed[rows, pairs] = family.summary(family.sizes[rows], pairs, depths, _rule(spec), spec.level)
        for name, values in found.items():
            summary[name][:, :, rows, pairs] = values
    medians = {name: summary[name][0] for name in STATISTICS}
    needed = [name for name in medians if name != "log_growth" and (name != "log_ratio" or spec.context_dimension == 2)]
    missing = np.any([np.isnan(medians[name]) for name in needed], axis=0)
    below = medians["log_ratio"] == -np.inf
    code = np.select(
        [np.broadcast_to(refused > 0, shape), np.broadcast_to(failed, shape), missing, below],
        [np.broadcast_to(refused, shape), FAILED, NOT_FINITE, BELOW_FLOOR],
        0,
    )
    return summary, code


def context_part(
    spec: SweepSpec,
    injection: Injection,
    dimension: int,
    alignment: NDArray[np.float64],
    gap: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """The map of J_L, (1, gain, alignment, gap, depth, 1), and its critical gains, (3, 1, alignment, gap, depth, 1)."""
    kappa, xi = (x.ravel() for x in np.meshgrid(alignment, gap, indexing="ij"))
    gains = np.asarray(spec.gain, dtype=np.float64)
    fits = dimension > spec.context_dimension

    def run(gain: NDArray[np.float64], pair: NDArray[np.intp], every: list[int]) -> Iterator[Any]:
        cells = PhaseCells(gain / kappa[pair], kappa[pair], xi[pair], injection.along, injection.across)
        for which, found in simulated(spec, dimension, every, cells, "context", frame=injection.frame):
            yield which, found.context

    refused = np.zeros((gains.size, kappa.size), dtype=np.int64)
    refused[gains == 0] = SILENT
    refused[:, kappa == 0] = UNALIGNED
    refused[:] = refused if fits else UNFITTING
    with np.errstate(divide="ignore"):
        predicted = np.where(kappa > 0, np.log(kappa) - np.log(np.maximum(np.maximum(kappa, xi), 1e-300)), 0.0)
    family = Family(
        run,
        kappa.size,
        gains,
        scan_grid(gains, predicted, np.maximum(predicted, 0.0)),
        refused == 0,
        np.flatnonzero(kappa > 0) if fits else np.empty(0, dtype=np.intp),
    )
    return finished(spec, family, refused, (alignment.size, gap.size), "context_gain")[0]


def finished(
    spec: SweepSpec | ResidualSweepSpec,
    family: Family,
    refused: NDArray[np.int64],
    shape: tuple[int, int],
    critical: str,
) -> tuple[dict[str, NDArray[Any]], Summary]:
    """A part's variables of J_L, with the critical sizes under the name given, and the summary of the map.

    Over (1, size, *shape, depth, 1), and the critical ones over (transition, 1, *shape, depth, 1).
    """
    summary, code = mapped(family, spec, refused=refused)
    arrays: dict[str, NDArray[Any]] = {}
    for name in STATISTICS:
        for end, values in zip(ENDS, summary[name], strict=True):
            arrays[f"context_{name}{end}"] = over_map(values, shape)
    for name, values in zip(("shared", "grown", "collapsed"), summary["turned"], strict=True):
        arrays[f"context_{name}"] = over_map(values, shape)
    arrays["context_code"] = over_map(code, shape)
    values, codes = boundaries(spec, family, summary)
    ran = family.runs.any(axis=0)
    codes[..., ran & ((code == FAILED) | ~family.runs).all(axis=(0, 1))] = FAILED
    for end, one in zip(ENDS, np.exp(values), strict=True):
        arrays[f"{critical}{end}"] = _over_pairs(one, shape)
    arrays[f"{critical}_code"] = _over_pairs(codes, shape)
    return arrays, summary


def scan_grid(
    sizes: NDArray[np.float64], lowest: NDArray[np.float64], highest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ln sizes of the scan of each pair, not descending, shape (pairs, n): the map's, filled up and widened.

    As the scan starts from the map's sizes, critical values change in the last digits with the grid of sizes, and
    crossings closer together than its points may be seen by one grid and not by another.

    Args:
        sizes: of the map, any order.
        lowest, highest: predicted crossings of each pair, natural log. The scan reaches from a factor of 4 below the
            least to a factor of 4 above the greatest of these and of the map's.
    """
    inner = np.log(np.sort(sizes[sizes > 0]))
    inner = inner if inner.size else np.zeros(1)
    low, high = np.minimum(inner[0], lowest) - MARGIN, np.maximum(inner[-1], highest) + MARGIN
    below, above = (int(np.ceil(x.max() / FILL)) for x in (inner[0] - low, high - inner[-1]))
    # Steps from the map outwards, held at a pair's own end: its points do not depend on the pairs beside it.
    under = np.maximum(inner[0] - FILL * np.arange(below, 0, -1), low[:, None])
    over = np.minimum(inner[-1] + FILL * np.arange(1, above + 1), high[:, None])
    within = [inner[:1]]
    for begin, end in itertools.pairwise(inner):
        # The ends exactly, as the map's own numbers are known there.
        within.append(np.append(np.linspace(begin, end, int(np.ceil((end - begin) / FILL)) + 1)[1:-1], end))
    return np.hstack([under, np.broadcast_to(np.concatenate(within), (low.size, sum(map(len, within)))), over])


def boundaries(
    spec: SweepSpec | ResidualSweepSpec, family: Family, summary: Summary
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where each transition crosses its threshold, for every depth and pair at once.

    Args:
        spec: depths, thresholds and level.
        family: of the chains.
        summary: the map, each statistic of shape (3, depths, sizes, pairs).

    Returns:
        ln size, (3, transitions, depths, pairs): crossing, low, high; codes, (transitions, depths, pairs).
    """
    depths, thresholds, good = list(spec.depth), _rule(spec), family.good
    few = bool(np.isnan(order_values(np.zeros(spec.seeds), spec.level, few=True)).any())
    kinds = 1 if few else 3
    shape = (len(TRANSITIONS), len(depths), family.pairs)
    values, codes = np.full((3, *shape), np.nan), np.full(shape, UNDEFINED, dtype=np.int64)
    if good.size == 0:
        return values, codes
    grid = family.scan[good]
    curves = np.empty((kinds, *shape[:2], good.size, grid.shape[1]))
    with np.errstate(divide="ignore"):
        of_map = np.log(family.sizes)
    for point, log_size in enumerate(grid.T):
        index = int(np.abs(of_map - log_size[0]).argmin())
        if not (np.abs(log_size - of_map[index]) < 1e-12).all():
            here = family.summary(np.exp(log_size), good, depths, thresholds, spec.level)[0]
        else:
            here = {name: array[:, :, index, good] for name, array in summary.items()}
        for t, name in enumerate(TRANSITIONS):
            for j, depth in enumerate(depths):
                curves[:, t, j, :, point] = _excess(thresholds, here, name, depth, j)[:kinds]

    def refine(log_size: NDArray[np.float64], which: NDArray[np.intp], curve: NDArray[np.intp]) -> NDArray[np.float64]:
        t, j, cell = np.unravel_index(curve, (*shape[:2], good.size))
        result = np.empty(log_size.size)
        for row, depth in enumerate(depths):
            here = np.flatnonzero(j == row)
            if here.size == 0:
                continue
            found = family.summary(np.exp(log_size[here]), good[cell[here]], [depth], thresholds, spec.level)[0]
            for index, name in enumerate(TRANSITIONS):
                mine = np.flatnonzero(t[here] == index)
                result[here[mine]] = _excess(thresholds, found, name, depth, 0)[which[here[mine]], mine]
        return result

    spread = np.broadcast_to(grid, (*shape[:2], *grid.shape)).reshape(-1, grid.shape[1])
    logs, found_codes = crossings(curves.reshape(kinds, -1, grid.shape[1]), spread, refine, tolerance=TOLERANCE)
    values[..., good] = logs.reshape(3, *shape[:2], good.size)
    codes[..., good] = found_codes.reshape(*shape[:2], good.size)
    return values, codes


def _excess(thresholds: PhaseThresholds, summary: Summary, name: str, depth: int, row: int) -> NDArray[np.float64]:
    """Order values of a transition's statistic beyond its threshold, (3, ...): median, low, high."""
    found = thresholds.excess(name, summary[f"log_{name}"][:, row], depth)
    return found[[0, 2, 1]] if name == "ratio" else found


def _rule(spec: SweepSpec | ResidualSweepSpec) -> PhaseThresholds:
    return cast("PhaseThresholds", spec.thresholds)


def over_map(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(depths, sizes, pairs) as (1, sizes, *shape, depths, 1)."""
    depths, sizes, _ = values.shape
    return np.moveaxis(values.reshape(depths, sizes, *shape), 0, -1)[None, ..., None]


def _over_pairs(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(transitions, depths, pairs) as (transitions, 1, *shape, depths, 1)."""
    transitions, depths, _ = values.shape
    return np.moveaxis(values.reshape(transitions, depths, *shape), 1, -1)[:, None, ..., None]
