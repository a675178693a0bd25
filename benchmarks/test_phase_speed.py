"""Context Jacobians a second: the written-out recurrence (T23) against the NumPy loop over dense layers.

The loop is the plain one: for each chain form the L dense layers from given isometries, multiply them (d x d), take the
two leading singular values of the product. Drawing the isometries and directions is timed apart; the ratio with it is
printed too. It says less than ours: its chains have no injection, ours give ||J_L||, sigma_2 / sigma_1 and, where said,
the earliest injection's share, of J_L with m = 2.

One thread, L = 32, one run, interleaved, medians of 5; a ratio is the median of those within one round. The loop is
timed on few chains and few rounds, as one chain of d = 1280 takes seconds. Ours includes drawing its random numbers,
for one cell; "64 cells" shares them, as a phase map does.

Cost of ours: O(L k^3) a chain, k = m + 1 with the share and m without, at any d.
"""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest

import theory
from theory.chains.directions import haar_orthogonal
from theory.simulators.draws import BLOCK, draw_layers

DEPTH, ROUNDS = 32, 5
LOOP_CHAINS = {16: 64, 64: 16, 256: 2, 1280: 1}
LOOP_ROUNDS = {16: ROUNDS, 64: ROUNDS, 256: ROUNDS, 1280: 3}
LEAST_OVER_LOOP = {
    "float64": {16: 10.0, 64: 10.0, 256: 250.0, 1280: 5_000.0},
    "float32": {256: 1_000.0, 1280: 20_000.0},
}
MOST_OVER_DRAWING = 2.0
MOST_OVER_DIMENSION = 1.2
ONE_CELL = theory.PhaseCells(1.1, 0.8, 0.5, 1.0, 0.3)
CELLS = theory.PhaseCells(np.linspace(0.8, 1.4, 64), 0.8, 0.5, 1.0, 0.3)


def isometries(d: int, chains: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the loop is given: orthogonal O_l and unit v_l, O_l v_l = u_l. At d = 1280 four serve all layers."""
    distinct = DEPTH if d <= 256 else 4
    turns = np.stack([haar_orthogonal(rng, d, (chains,)) for _ in range(distinct)], axis=1)
    v = np.empty((chains, DEPTH, d))
    before = np.zeros((chains, d))
    before[:, 0] = 1.0
    for layer in range(DEPTH):
        across = rng.standard_normal((chains, d))
        across -= np.sum(across * before, axis=1, keepdims=True) * before
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        v[:, layer] = 0.8 * before + 0.6 * across
        before = np.einsum("nij,nj->ni", turns[:, layer % distinct], v[:, layer])
    return turns, v


def loop(turns: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ln of the two leading singular values of P_L, chain by chain; sigma = 1.1, xi = 0.5."""
    found = np.empty((len(turns), 2))
    for n, (turn, directions) in enumerate(zip(turns, v, strict=True)):
        product, log_scale = np.eye(turn.shape[-1]), 0.0
        for layer, direction in enumerate(directions):
            o = turn[layer % len(turn)]
            a = 0.55 * o + 0.55 * np.outer(o @ direction, direction)
            product = a @ product
            size = np.linalg.norm(product)
            product, log_scale = product / size, log_scale + np.log(size)
        found[n] = np.log(np.linalg.svd(product, compute_uv=False)[:2]) + log_scale
    return found


def ours(cells: theory.PhaseCells, d: int, chains: int, dtype, share: bool) -> theory.ContextSpectra:
    return theory.context_spectra(cells, d, [DEPTH], chains=chains, seed=0, dtype=dtype, share=share)


def drawing(d: int, chains: int, dtype: str, share: bool) -> None:
    """The random numbers of `ours` alone, made as it makes them."""
    together = 32
    for begin in range(0, chains // BLOCK, together):
        blocks = range(begin, min(begin + together, chains // BLOCK))
        layers = draw_layers(0, blocks, DEPTH, d, shown=2 + share, context_dimension=2, isotropic=False, dtype=dtype)
        for _ in layers:
            pass


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.fixture(autouse=True)
def one_thread():
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # `make bench` sets it. BLAS reads it when it is loaded, so that it is too late to set here.
        pytest.skip("set OMP_NUM_THREADS=1: the comparison is of one thread each")


@pytest.mark.parametrize("d", LOOP_CHAINS)
def test_reduced_against_the_numpy_loop(benchmark, d: int) -> None:
    chains = 16_384
    start = time.perf_counter()
    turns, v = isometries(d, LOOP_CHAINS[d], np.random.default_rng(0))
    made = (time.perf_counter() - start) * DEPTH / turns.shape[1] / LOOP_CHAINS[d]
    variants = {
        f"{dtype}{', share' if share else ''}{', 64 cells' if cells is CELLS else ''}": (cells, n, dtype, share)
        for dtype in ("float64", "float32")
        for share in (False, True)
        for cells, n in ((ONE_CELL, chains), (CELLS, 256))
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    ratios: dict[str, list[float]] = {name: [] for name in variants}
    loops: list[float] = []
    for round_ in range(LOOP_ROUNDS[d]):
        loops.append(seconds(lambda: loop(turns, v)) / LOOP_CHAINS[d])
        for name, (cells, n, dtype, share) in variants.items():
            if not round_:
                ours(cells, d, n, dtype, share)
            taken = seconds(lambda c=cells, n=n, t=dtype, s=share: ours(c, d, n, t, s)) / (n * len(cells))
            found[name].append(taken)
            ratios[name].append(loops[-1] / taken)
    per_loop = statistics.median(loops)
    print(
        f"\nd = {d}, L = {DEPTH}: NumPy loop {1 / per_loop:.3g} chains/s, drawing its isometries {made:.3g} s a chain"
    )
    for name in variants:
        taken, ratio = statistics.median(found[name]), statistics.median(ratios[name])
        least = LEAST_OVER_LOOP[name[:7]].get(d, 1.0)
        benchmark.extra_info[name] = round(ratio, 1)
        print(
            f"  {name}: {1 / taken:,.0f} chains/s, {ratio:,.0f}x (limit {least:,.0f}x), "
            f"{(per_loop + made) / taken:,.0f}x with the drawing"
        )
        assert ratio >= least, name
    benchmark.pedantic(lambda: ours(ONE_CELL, d, 1024, "float64", True), rounds=1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("share", [False, True])
def test_the_cost_does_not_grow_with_the_dimension_and_is_near_that_of_drawing(dtype, share: bool) -> None:
    chains = 32_768
    dimensions = (64, 1280, 10**6)
    runs: dict[int, list[float]] = {d: [] for d in dimensions}
    alone: list[float] = []
    for round_ in range(ROUNDS + 1):
        taken = {d: seconds(lambda d=d: ours(ONE_CELL, d, chains, dtype, share)) for d in dimensions}
        drawn = seconds(lambda: drawing(1280, chains, dtype, share))
        if round_:
            alone.append(drawn)
            for d in dimensions:
                runs[d].append(taken[d])
    growth = statistics.median(big / small for big, small in zip(runs[10**6], runs[64], strict=True))
    over = statistics.median(whole / drawn for whole, drawn in zip(runs[1280], alone, strict=True))
    print(
        f"\n{dtype}, share {share}: drawing alone {chains / statistics.median(alone):,.0f} chains/s, one cell takes "
        f"{over:.2f}x as long (limit {MOST_OVER_DRAWING}); d 10^6 / 64: {growth:.3f}x (limit {MOST_OVER_DIMENSION})"
    )
    assert growth <= MOST_OVER_DIMENSION
    assert over <= MOST_OVER_DRAWING


@pytest.mark.parametrize("axis", ["d", "L", "chains", "cells"])
def test_growth(axis: str) -> None:
    """Exponents of the time in each, fitted over doublings; printed."""
    base = {"d": 1280, "L": 32, "chains": 2048, "cells": 4}
    sizes = {"d": [64, 1280, 10**5, 10**6], "L": [16, 32, 64, 128], "chains": [2048, 4096, 8192, 16384]}
    values = sizes.get(axis, [4, 16, 64, 256])
    found = []
    for value in values:
        at = base | {axis: value}
        cells = theory.PhaseCells(np.linspace(0.8, 1.2, at["cells"]), 0.8, 0.5, 1.0, 0.3)

        def run(at: dict[str, int] = at, cells: theory.PhaseCells = cells) -> object:
            return theory.context_spectra(cells, at["d"], [at["L"]], chains=at["chains"], seed=0)

        run()
        found.append(statistics.median(seconds(run) for _ in range(3)))
    exponent = np.polyfit(np.log(values), np.log(found), 1)[0]
    print(f"\ngrowth in {axis} over {values}: {axis}^{exponent:.2f}")
