"""A sweep's numbers of J_L: medians and fractions over the map of gains, and the gains where each transition turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.phase._crossing import crossings, order_values
from theory.phase.critical_context import PhaseThresholds, half_depth, transition_statistic
from theory.simulators.cells import PhaseCells
from theory.simulators.spectra import ContextSpectra
from theory.sweeping.layout import STATISTICS, TRANSITIONS
from theory.sweeping.products import FAILED, simulated
from theory.sweeping.spec import Injection, SweepSpec

__all__ = ["EVALUATIONS", "boundary_parts", "context_part", "scan_grid", "summarise"]

FILL = 0.5
"""Widest step of the scan for a crossing, natural log of gain."""

MARGIN = float(np.log(4.0))
"""How far the scan reaches beyond the grid of gains and the mean field's boundary, natural log of gain."""

TOLERANCE = 2e-4
"""Width of the last enclosure of a critical gain, natural log: what is left open widens the interval by this."""

EVALUATIONS = 5
"""Typical number of steps from a scan to that width, for the estimate of the time."""

BELOW_FLOOR = 4
NOT_FINITE = 5

Summary = dict[str, NDArray[np.float64]]
"""Order values of each statistic, (3, depths, cells): median, low, high; and "turned", (transitions, depths, cells)."""


def summarise(
    found: ContextSpectra, depths: list[int], every: list[int], thresholds: PhaseThresholds, level: float
) -> Summary:
    """Medians with intervals, and fractions beyond the thresholds, over the chains of each cell.

    Args:
        found: spectra at the depths `every`, ascending, which hold each wanted depth and its half.
        depths: the depths wanted.
        thresholds: of the transitions.
        level: of the intervals; NaN where the chains are too few for it.
    """
    row = {depth: index for index, depth in enumerate(every)}
    values: dict[str, list[Any]] = {name: [] for name in (*STATISTICS, "turned")}
    for depth in depths:
        at, half = row[depth], row[half_depth(depth)]
        of: dict[str, Any] = {name: transition_statistic(found, name, at, half) for name in TRANSITIONS}
        # A ratio below the floor is rounding: all that is known is that it is smaller than that.
        of["ratio"] = np.where(of["ratio"] < found.log_floor[at], -np.inf, of["ratio"])
        beyond = [thresholds.excess(name, of[name], depth) for name in TRANSITIONS]
        turned = [np.where(np.isnan(x).any(axis=-1), np.nan, (x > 0).mean(axis=-1)) for x in beyond]
        values["turned"].append(np.stack(turned))
        of = {f"log_{name}": value for name, value in of.items()}
        of |= {"log_norm": found.log_norm[at], "log_noise": found.log_noise[at]}
        for name in STATISTICS:
            values[name].append(order_values(of[name], level, few=True))
    return {name: np.stack(arrays, axis=1) for name, arrays in values.items()}


def context_part(
    spec: SweepSpec,
    injection: Injection,
    dimension: int,
    alignment: NDArray[np.float64],
    gap: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """The map of J_L over (1, gain, alignment, gap, depth, 1) and its critical gains, (3, 1, alignment, gap, depth, 1).

    The gains of the map are the scan that the critical gains start from: one set of chains serves both.
    """
    kappa, xi = (x.ravel() for x in np.meshgrid(alignment, gap, indexing="ij"))
    gains, depths = np.asarray(spec.gain, dtype=np.float64), list(spec.depth)
    fits = dimension > spec.context_dimension
    runs = np.broadcast_to((kappa > 0) & (gains > 0)[:, None] & fits, (gains.size, kappa.size))

    def simulate_at(sigma: Any, pair: NDArray[np.intp], at: list[int]) -> tuple[Summary, NDArray[np.bool_]]:
        every = sorted({*at, *map(half_depth, at)})
        cells = PhaseCells(sigma, kappa[pair], xi[pair], injection.along, injection.across)
        whole = {name: np.full((3, len(at), pair.size), np.nan) for name in (*STATISTICS, "turned")}
        failed = np.ones(pair.size, dtype=bool)
        for which, found in simulated(spec, dimension, every, cells, "context", frame=injection.frame):
            for name, values in summarise(found.context, at, every, spec.thresholds, spec.level).items():
                whole[name][..., which] = values
            failed[which] = False
        return whole, failed

    summary = {name: np.full((3, len(depths), gains.size, kappa.size), np.nan) for name in (*STATISTICS, "turned")}
    failed = np.zeros((gains.size, kappa.size), dtype=bool)
    if runs.any():
        rows, pairs = np.nonzero(runs)
        found, bad = simulate_at(gains[rows] / kappa[pairs], pairs, depths)
        for name, values in found.items():
            summary[name][:, :, rows, pairs] = values
        failed[rows, pairs] = bad

    shape = (alignment.size, gap.size)
    arrays: dict[str, NDArray[Any]] = {}
    for name in STATISTICS:
        for end, values in zip(("", "_low", "_high"), summary[name], strict=True):
            arrays[f"context_{name}{end}"] = _point(values, shape)
    for name, values in zip(("shared", "grown", "collapsed"), summary["turned"], strict=True):
        arrays[f"context_{name}"] = _point(values, shape)
    arrays["context_code"] = _point(_code(spec, summary, failed, runs, kappa, gains, fits=fits), shape)

    def run(log_gain: NDArray[np.float64], pair: NDArray[np.intp], at: list[int]) -> Summary:
        return simulate_at(np.exp(log_gain) / kappa[pair], pair, at)[0]

    good = np.flatnonzero(kappa > 0) if fits else np.empty(0, dtype=np.intp)
    values, codes = boundary_parts(
        spec.thresholds, depths, gains, summary, scan_grid(gains, kappa, xi), good, run, _few(spec)
    )
    codes[..., (failed & runs).all(axis=0) & runs.any(axis=0)] = FAILED
    for end, one in zip(("", "_low", "_high"), np.exp(values), strict=True):
        arrays[f"context_gain{end}"] = _over(one, shape)
    arrays["context_gain_code"] = _over(codes, shape)
    return arrays


def scan_grid(gains: NDArray[np.float64], kappa: NDArray[np.float64], xi: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln gains of the scan of each pair, ascending, shape (pairs, n): the grid's, filled up and widened.

    It reaches from a factor of 4 below the least of the grid and of the mean field's boundary kappa / max(kappa, xi) to
    a factor of 4 above the greatest of both.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.where(kappa > 0, np.log(kappa) - np.log(np.maximum(kappa, xi)), 0.0)
    inner = np.log(np.sort(gains[gains > 0]))
    inner = inner if inner.size else np.zeros(1)
    low = np.minimum(inner[0], predicted) - MARGIN
    knots = np.column_stack([low, np.broadcast_to(inner, (kappa.size, inner.size)), np.full(kappa.size, 0.0)])
    knots[:, -1] = max(inner[-1], 0.0) + MARGIN
    pieces = [knots[:, :1]]
    for begin, end in zip(knots.T[:-1], knots.T[1:], strict=True):
        parts = max(1, int(np.ceil(float((end - begin).max()) / FILL)))
        share = np.arange(1, parts + 1) / parts
        piece = begin[:, None] + (end - begin)[:, None] * share
        piece[:, -1] = end  # exactly, as the map's own gain is known there
        pieces.append(piece)
    return np.concatenate(pieces, axis=1)


def boundary_parts(
    thresholds: PhaseThresholds,
    depths: list[int],
    gains: NDArray[np.float64],
    summary: Summary,
    log_grid: NDArray[np.float64],
    good: NDArray[np.intp],
    run: Callable[[NDArray[np.float64], NDArray[np.intp], list[int]], Summary],
    few: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where each transition crosses its threshold, for every depth and pair at once.

    Args:
        thresholds: of the transitions.
        depths: the depths.
        gains: of the map, any order.
        summary: the map, each statistic of shape (3, depths, gains, pairs).
        log_grid: the scan, (pairs, n); points that are not the map's are run here.
        good: pairs that can be run; the others get code 5.
        run: (ln gain, pair, depths) to a summary.
        few: whether there are too few chains for intervals, which are NaN then.

    Returns:
        ln gain, (3, transitions, depths, pairs): crossing, low, high; codes, (transitions, depths, pairs).
    """
    pairs = log_grid.shape[0]
    kinds = 1 if few else 3
    values = np.full((3, len(TRANSITIONS), len(depths), pairs), np.nan)
    codes = np.full((len(TRANSITIONS), len(depths), pairs), 5, dtype=np.int64)
    if good.size == 0:
        return values, codes
    grid = log_grid[good]
    curves = np.empty((kinds, len(TRANSITIONS), len(depths), good.size, grid.shape[1]))
    positive = np.flatnonzero(gains > 0)
    known = {float(np.log(gains[index])): index for index in positive}
    for point, log_gain in enumerate(grid.T):
        index = known.get(float(log_gain[0])) if (log_gain == log_gain[0]).all() else None
        if index is not None:
            here = {name: array[:, :, index, good] for name, array in summary.items()}
        else:
            here = run(log_gain, good, depths)
        for t, name in enumerate(TRANSITIONS):
            for j, depth in enumerate(depths):
                curves[:, t, j, :, point] = _excess(thresholds, here, name, depth, j)[:kinds]

    def refine(log_gain: NDArray[np.float64], which: NDArray[np.intp], curve: NDArray[np.intp]) -> NDArray[np.float64]:
        t, j, cell = np.unravel_index(curve, (len(TRANSITIONS), len(depths), good.size))
        result = np.empty(log_gain.size)
        for row, depth in enumerate(depths):
            here = np.flatnonzero(j == row)
            if here.size == 0:
                continue
            found = run(log_gain[here], good[cell[here]], [depth])
            for index, name in enumerate(TRANSITIONS):
                mine = np.flatnonzero(t[here] == index)
                excess = _excess(thresholds, found, name, depth, 0)
                result[here[mine]] = excess[which[here[mine]], mine]
        return result

    flat = curves.reshape(kinds, -1, grid.shape[1])
    spread = np.broadcast_to(grid, (len(TRANSITIONS), len(depths), *grid.shape)).reshape(-1, grid.shape[1])
    logs, found_codes = crossings(flat, spread, refine, tolerance=TOLERANCE)
    values[..., good] = logs.reshape(3, len(TRANSITIONS), len(depths), good.size)
    codes[..., good] = found_codes.reshape(len(TRANSITIONS), len(depths), good.size)
    return values, codes


def _excess(thresholds: PhaseThresholds, summary: Summary, name: str, depth: int, row: int) -> NDArray[np.float64]:
    """Order values of a transition's statistic beyond its threshold, (3, ...): median, low, high."""
    found = thresholds.excess(name, summary[f"log_{name}"][:, row], depth)
    return found[[0, 2, 1]] if name == "ratio" else found


def _few(spec: SweepSpec) -> bool:
    return bool(np.isnan(order_values(np.zeros(spec.seeds), spec.level, few=True)).any())


def _code(
    spec: SweepSpec,
    summary: Summary,
    failed: NDArray[np.bool_],
    runs: NDArray[np.bool_],
    kappa: NDArray[np.float64],
    gains: NDArray[np.float64],
    *,
    fits: bool,
) -> NDArray[np.int64]:
    """Result codes of the map, (depths, gains, pairs)."""
    medians = {name: values[0] for name, values in summary.items() if name != "turned"}
    needed = [name for name in medians if name != "log_growth" and (name != "log_ratio" or spec.context_dimension == 2)]
    missing = np.any([np.isnan(medians[name]) for name in needed], axis=0)
    below = medians["log_ratio"] == -np.inf
    return np.select(
        [
            np.broadcast_to(not fits, missing.shape),
            np.broadcast_to(kappa == 0, missing.shape),
            np.broadcast_to((gains == 0)[:, None], missing.shape),
            np.broadcast_to(failed & runs, missing.shape),
            missing,
            below,
        ],
        [3, 1, 2, FAILED, NOT_FINITE, BELOW_FLOOR],
        0,
    )


def _point(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(depths, gains, pairs) as (1, gains, alignments, gaps, depths, 1)."""
    depths, gains, _ = values.shape
    return np.moveaxis(values.reshape(depths, gains, *shape), 0, -1)[None, ..., None]


def _over(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(transitions, depths, pairs) as (transitions, 1, alignments, gaps, depths, 1)."""
    transitions, depths, _ = values.shape
    return np.moveaxis(values.reshape(transitions, depths, *shape), 1, -1)[:, None, ..., None]
