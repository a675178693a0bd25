"""Context Jacobians a second: the written-out recurrence (T23) against the NumPy loop over dense layers.

The loop is the plain one: for each chain form the L dense layers from given isometries, multiply them (d x d), take the
two leading singular values of the product. Drawing the isometries and directions is timed apart; the ratio with it is
printed too. It says less than ours: its chains have no injection, ours give ||J_L||, sigma_2 / sigma_1 and, where said,
the earliest injection's share, of J_L with m = 2.

NumPy takes one thread; JAX's engine is printed beside it with the cores that it may take, its compilation apart, and
nothing is asked of it on a CPU but to beat the loop.

L = 32, one run, interleaved, medians of 5; a ratio is the median of those within one round. The loop is timed on few
chains and few rounds, as one chain of d = 1280 takes seconds. Ours includes drawing its random numbers, for one cell;
"64 cells" shares them, as a phase map does.

Cost of ours: O(L k^3) a chain, k = m + 1 with the share and m without, at any d.
"""

import functools
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import theory
from benchmarks._loop import DEPTH, isometries, loop, seconds, skip_unless_one_thread
from theory.simulators.draws import BLOCK, draw_layers, layer_draw, normals_per_layer
from theory.simulators.engine_numpy import TILE, NumpySpace
from theory.simulators.engine_step import Recurrence, numbers_of

ROUNDS = 5
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


def ours(
    cells: theory.PhaseCells, d: int, chains: int, dtype, share: bool, engine: Any = "numpy"
) -> theory.ContextSpectra:
    return theory.context_spectra(cells, d, [DEPTH], chains=chains, seed=0, dtype=dtype, share=share, engine=engine)


def drawing(d: int, chains: int, dtype: str, share: bool) -> None:
    """The random numbers of `ours` alone, made as it makes them."""
    together = 32
    for begin in range(0, chains // BLOCK, together):
        blocks = range(begin, min(begin + together, chains // BLOCK))
        layers = draw_layers(0, blocks, DEPTH, d, shown=2 + share, context_dimension=2, isotropic=False, dtype=dtype)
        for _ in layers:
            pass


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread() -> None:
    skip_unless_one_thread()


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
    jax = {}
    for dtype in ("float64", "float32"):
        first = seconds(lambda t=dtype: ours(ONE_CELL, d, chains, t, True, "jax"))
        again = [seconds(lambda t=dtype: ours(ONE_CELL, d, chains, t, True, "jax")) for _ in range(ROUNDS)]
        jax[dtype] = statistics.median(again) / chains, first - statistics.median(again)
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
    for dtype, (taken, compiled) in jax.items():
        numpy = statistics.median(found[f"{dtype}, share"])
        print(
            f"  jax {dtype}, share, {os.cpu_count()} cores: {1 / taken:,.0f} chains/s, {per_loop / taken:,.0f}x, "
            f"{numpy / taken:.2f} times NumPy's rate; compiling took {compiled:.1f} s"
        )
        assert taken < per_loop, dtype
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


class Counted(np.ndarray):
    """Counts how many numbers each elementwise function of it gives."""

    given: ClassVar[Counter[np.ufunc]] = Counter()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        result = getattr(ufunc, method)(*(np.asarray(x) for x in inputs), **options)
        Counted.given[ufunc] += result.size
        return result.view(Counted)


def rate(function: Callable[[], object], work: float) -> float:
    """Work a second, the best of many short runs: the machine undisturbed."""
    return work / min(seconds(function) for _ in range(200))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_distance_to_the_limit_of_the_machine(dtype) -> None:
    """What a layer of the NumPy engine takes, beside its draws and its arithmetic at the rates measured in this run.

    Its operations are counted on arrays that count, and each function is timed alone, in cache, with no
    memory to find for its result. The GEMM's rate is that of a core that never waits.
    """
    d, share, layers = 1280, True, 4
    normals, stream = normals_per_layer(3, 3, 2), np.random.default_rng(0)
    kind: Any = np.dtype(dtype).type
    numbers, _ = numbers_of(ONE_CELL, dtype)
    step, state = Recurrence(numbers, d, 2, share, False, NumpySpace(), dtype), None
    for layer in range(layers + 1):
        if layer == 1:
            Counted.given.clear()
        drawn_ = stream.standard_normal((normals, TILE), dtype=kind).view(Counted)
        draw = layer_draw(drawn_, d, shown=3, context_dimension=2, isotropic=False)
        state = step.first(draw) if state is None else step.next(state, draw)
    given = {function: count / layers / TILE for function, count in Counted.given.items()}
    x, y = (stream.uniform(0.5, 1, TILE).astype(dtype) for _ in range(2))
    alone = {}
    for function in given:
        inputs = (x, y)[: function.nin]
        out = function(*inputs)
        alone[function] = 1 / rate(functools.partial(function, *inputs, out=out), TILE)
    drawn = rate(lambda: stream.standard_normal(TILE, dtype=kind), TILE)
    square = stream.standard_normal((512, 512)).astype(dtype)
    gemm = rate(lambda: square @ square, 2 * 512**3)
    operations, arithmetic, drawing_ = sum(given.values()), sum(given[f] * alone[f] for f in given), normals / drawn
    chains = 32_768
    taken = statistics.median(seconds(lambda: ours(ONE_CELL, d, chains, dtype, share)) for _ in range(ROUNDS))
    taken /= chains * DEPTH
    print(
        f"\n{dtype}, a chain-layer: {normals} normals, {operations:.0f} operations; this core: {drawn / 1e6:.0f}e6 "
        f"normals/s, {1e-9 / alone[np.multiply]:.2f}e9 products/s, GEMM {gemm / 1e9:.0f}e9/s\n"
        f"  took {taken * 1e9:.0f} ns; normals alone {drawing_ * 1e9:.0f}, operations alone {arithmetic * 1e9:.0f} ns: "
        f"{taken / (drawing_ + arithmetic):.2f} times that limit, {taken * gemm / operations:.0f} times the GEMM's pace"
    )
    assert taken > drawing_  # or the count is wrong


@pytest.mark.parametrize("engine", ["numpy", "jax"])
@pytest.mark.parametrize("axis", ["d", "L", "chains", "cells"])
def test_growth(axis: str, engine: Any) -> None:
    """Exponents of the time in each, fitted over doublings, compilation apart; printed."""
    base = {"d": 1280, "L": 32, "chains": 2048, "cells": 4}
    sizes = {"d": [64, 1280, 10**5, 10**6], "L": [16, 32, 64, 128], "chains": [2048, 4096, 8192, 16384]}
    values = sizes.get(axis, [4, 16, 64, 256])
    found = []
    for value in values:
        at = base | {axis: value}
        cells = theory.PhaseCells(np.linspace(0.8, 1.2, at["cells"]), 0.8, 0.5, 1.0, 0.3)

        def run(at: dict[str, int] = at, cells: theory.PhaseCells = cells) -> object:
            return theory.context_spectra(cells, at["d"], [at["L"]], chains=at["chains"], seed=0, engine=engine)

        run()
        found.append(statistics.median(seconds(run) for _ in range(3)))
    exponent = np.polyfit(np.log(values), np.log(found), 1)[0]
    print(f"\n{engine}: growth in {axis} over {values}: {axis}^{exponent:.2f}")
