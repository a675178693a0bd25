"""Context Jacobians of the residual family a second: the reduction (T32) against NumPy loops over given frames.

Two loops, both with frames given (their drawing is timed apart): one multiplies dense layers, as for the flat family,
one applies I + tau X C^T to J, the best a simulator that keeps vectors of length d can do. One thread, L = 32, medians
of 5 interleaved rounds. Ours includes drawing its random numbers; it does O(r) operations a layer at any d.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks._loop import skip_unless_one_thread
from theory.chains.aligned_residual import aligned_residual_chain, inject_written
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells

DEPTH, ROUNDS, CHAINS, FEW = 32, 5, 4096, 2
LEAST_OVER_DENSE = {64: 30.0, 256: 500.0}
LEAST_OVER_FACTORED = {64: 0.0, 256: 1.0, 1280: 5.0}
MOST_OVER_DIMENSION = 1.2
CELL = ResidualCells(1.0, 0.5, 0.3, 1.0, 0.3)


def seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians over interleaved rounds, after one warm-up each."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in found.items()}


def ours(d: int, chains: int = CHAINS, depth: int = DEPTH, rank: int = 1, cells: ResidualCells = CELL) -> None:
    residual_spectra(cells, d, [depth], rank=rank, chains=chains, seed=0)


def given(d: int, chains: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, tau C and B of some chains, shape (chains, L, d, ...)."""
    rng = np.random.default_rng(0)
    chain = aligned_residual_chain(DEPTH, d, rng, strength=1.0, alignment=0.5, persistence=0.3, batch=(chains,))
    chain = inject_written(chain, rng, along=1.0, injected=0.3, context_dimension=2)
    residual = chain.residual
    return residual.left[..., :1], residual.right[..., :1], chain.injection  # pyright: ignore[reportAttributeAccessIssue]


def dense_loop(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    found = []
    for write, read in zip(x, c, strict=True):
        product = np.eye(x.shape[-2])
        for layer in range(DEPTH):
            product = (np.eye(len(product)) + write[layer] @ read[layer].T) @ product
        found.append(np.linalg.svd(product, compute_uv=False)[:2])
    return np.array(found)


def factored_loop(x: np.ndarray, c: np.ndarray, b: np.ndarray) -> np.ndarray:
    jacobian = b[:, 0]
    for layer in range(1, DEPTH):
        jacobian = jacobian + x[:, layer] @ (c[:, layer].swapaxes(-1, -2) @ jacobian) + b[:, layer]
    return np.linalg.svd(jacobian, compute_uv=False)


def test_residual_chains_a_second() -> None:
    skip_unless_one_thread()
    print()
    for d, least in LEAST_OVER_FACTORED.items():
        n = {64: 256, 256: 64, 1280: 16}[d]
        begin = time.perf_counter()
        x, c, b = given(d, n)
        drawing = (time.perf_counter() - begin) / n
        runs = {"ours": lambda d=d: ours(d), "factored": lambda x=x, c=c, b=b: factored_loop(x, c, b)}
        if d in LEAST_OVER_DENSE:
            runs["dense"] = lambda x=x, c=c: dense_loop(x[:FEW], c[:FEW])
        found = seconds(runs)
        each = {"ours": found["ours"] / CHAINS, "factored": found["factored"] / n}
        line = f"d {d}: ours {each['ours'] * 1e6:.1f} us a chain; factored loop {each['factored'] / each['ours']:.0f}x"
        line += f", with its drawing {(each['factored'] + drawing) / each['ours']:.0f}x"
        assert each["factored"] > least * each["ours"]
        if "dense" in found:
            ratio = found["dense"] / FEW / each["ours"]
            line += f"; dense loop {ratio:.0f}x"
            assert ratio > LEAST_OVER_DENSE[d]
        print(line)


def test_cost_does_not_know_the_dimension_and_grows_as_it_should() -> None:
    """Growth exponents between the ends of a range; d from 64 to 10^6 costs at most 1.2 times."""
    found = seconds({"64": lambda: ours(64), "1000000": lambda: ours(10**6)})
    print(f"\nd = 10^6 over d = 64: {found['1000000'] / found['64']:.2f}")
    assert found["1000000"] < MOST_OVER_DIMENSION * found["64"]
    many = ResidualCells(np.linspace(0.2, 3.0, 64), 0.5, 0.3, 1.0, 0.3)
    ranges: dict[str, tuple[Callable[[], object], Callable[[], object], float]] = {
        "depth": (lambda: ours(1280, 1024, 16), lambda: ours(1280, 1024, 128), 8),
        "chains": (lambda: ours(1280, 1024), lambda: ours(1280, 8192), 8),
        "rank": (lambda: ours(1280, 512, rank=8), lambda: ours(1280, 512, rank=64), 8),
    }
    for name, (small, large, factor) in ranges.items():
        times = seconds({"small": small, "large": large})
        exponent = float(np.log(times["large"] / times["small"]) / np.log(factor))
        print(f"{name}: exponent {exponent:.2f}")
        assert exponent < 1.15
    shared = seconds({"one": lambda: ours(1280, 256), "64 cells": lambda: ours(1280, 256, cells=many)})
    alone, each = (shared[name] * 1e9 / (cells * 256 * DEPTH) for name, cells in (("one", 1), ("64 cells", 64)))
    print(f"one cell: {alone:.0f} ns a chain and layer; 64 cells on common draws: {each:.0f}")
    assert shared["64 cells"] < 0.8 * 64 * shared["one"]
