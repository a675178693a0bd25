"""Structured and dense simulators, and reduced products, against the NumPy loop over dense layers and the machine.

The loop is `benchmarks/_loop.py`'s: its isometries are given, and drawing them is timed apart; the ratio with it is
printed too. Ours include drawing their random numbers. Structured: 64 probe vectors through 32 layers. Dense: a layer
with its drawing, putting together and multiplication, against a GEMM of that size, the faster of NumPy's and JAX's.

One run, interleaved, medians of 5; a ratio is the median of those within one round. NumPy has one thread; XLA's pool
is of as many as there are cores and shared by what runs beside: on a busy machine the ratios are lower. The machine's
limit of a structured chain: its normal variables, and for every layer one pass of products and one of sums over the
probes in cache, each timed alone in the same run. Compile time is the first call less the median.

Cost of ours: structured O(L d (r + k)) a chain for k columns, dense O(L d^3), reduced products O(L^3) at any d.
"""

import statistics
from collections.abc import Callable

import jax
import numpy as np
import pytest

from benchmarks._loop import DEPTH, isometries, loop, seconds, skip_unless_one_thread
from theory.simulators.cells import PhaseCells
from theory.simulators.probes import probe_growth
from theory.simulators.simulate import simulate

ROUNDS, PROBES = 5, 64
LOOP_CHAINS, OURS = {256: 2, 1280: 1}, {256: 64, 1280: 16}
LEAST_OVER_LOOP = {256: 10.0, 1280: 80.0}
LEAST_OF_GEMM = 0.5
CELL = PhaseCells(1.1, 0.8, 0.5, 1.0, 0.3)


@pytest.fixture(autouse=True)
def one_thread():
    skip_unless_one_thread()


def interleaved(functions: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each in every round, after one call of each."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            taken = seconds(function)
            if round_:
                found[name].append(taken)
    return found


def over(slow: list[float], fast: list[float]) -> float:
    """Median of the ratios within one round."""
    return statistics.median(x / y for x, y in zip(slow, fast, strict=True))


@pytest.mark.parametrize("d", LOOP_CHAINS)
def test_structured_and_reduced_products_against_the_numpy_loop(benchmark, d: int) -> None:
    rng = np.random.default_rng(0)
    given: list[tuple[np.ndarray, np.ndarray]] = []
    made = seconds(lambda: given.append(isometries(d, LOOP_CHAINS[d], rng))) / LOOP_CHAINS[d]
    turns, v = given[0]
    made *= DEPTH / turns.shape[1]
    n, x = OURS[d], rng.standard_normal((PROBES, d))
    w, spare = rng.standard_normal(d), np.empty((PROBES, d))

    def machine() -> None:
        for _ in range(n):
            rng.standard_normal((DEPTH, d))
            for _ in range(DEPTH):
                np.dot(x, w)
                np.multiply(x, 0.5, out=spare)

    def ours(dtype: str) -> object:
        return probe_growth(CELL, d, [DEPTH], chains=n, seed=0, probes=PROBES, dtype=dtype)  # pyright: ignore[reportArgumentType]

    functions = {
        "loop": lambda: loop(turns, v),
        "structured, 64 probes, float64": lambda: ours("float64"),
        "structured, 64 probes, float32": lambda: ours("float32"),
        "reduced, P": lambda: simulate(CELL, d, [DEPTH], chains=64, seed=0, quantities=("product",)),
        "machine": machine,
    }
    first = {name: seconds(function) for name, function in functions.items() if name not in ("loop", "machine")}
    found = interleaved(functions)
    loops = [taken / LOOP_CHAINS[d] for taken in found["loop"]]
    rate = 1 / statistics.median(loops)
    print(f"\nd = {d}, L = {DEPTH}: NumPy loop {rate:.3g} chains/s, its isometries {made:.3g} s a chain")
    for name, start in first.items():
        chains = 64 if name == "reduced, P" else n
        each = [taken / chains for taken in found[name]]
        ratio, taken = over(loops, each), statistics.median(each)
        least = LEAST_OVER_LOOP[d] if name.endswith("float64") else 1.0
        benchmark.extra_info[name] = round(ratio, 1)
        print(
            f"  {name}: {1 / taken:,.0f} chains/s, {ratio:,.0f}x (limit {least:g}x), "
            f"{(1 / rate + made) / taken:,.0f}x with the drawing; compiled in {start - chains * taken:.2g} s"
        )
        assert ratio >= least, name
    limit = over(found["structured, 64 probes, float64"], found["machine"])
    print(f"  structured, float64: {limit:.2f} times what its normal variables and two passes a layer take alone")
    benchmark.pedantic(lambda: ours("float64"), rounds=1)


def test_dense_layers_against_the_machines_gemm(benchmark) -> None:
    d, short, long = 1280, 4, 12

    def run(depth: int) -> object:
        return simulate(CELL, d, [depth], chains=1, seed=0, quantities=("product",), simulator="dense")

    a, b = np.random.default_rng(0).standard_normal((2, d, d))
    product = jax.jit(lambda x, y: x @ y)

    def by_jax() -> None:
        with jax.enable_x64(True):
            on_device = jax.numpy.asarray(a), jax.numpy.asarray(b)
            for _ in range(long - short):
                product(*on_device).block_until_ready()

    def by_numpy() -> None:
        for _ in range(long - short):
            np.matmul(a, b)

    start = seconds(lambda: run(short))
    functions = {"short": lambda: run(short), "long": lambda: run(long), "NumPy": by_numpy, "JAX": by_jax}
    found = interleaved(functions)
    # The two runs differ by so many layers and share the SVD, whose time is printed apart.
    layers = [long_ - short_ for long_, short_ in zip(found["long"], found["short"], strict=True)]
    flops = 2 * d**3 * (long - short)
    rates = {name: statistics.median(flops / taken for taken in found[name]) for name in ("NumPy", "JAX")}
    best = [min(pair) for pair in zip(found["NumPy"], found["JAX"], strict=True)]
    part = statistics.median(gemm / taken for gemm, taken in zip(best, layers, strict=True))
    share = short / (long - short)
    svd = statistics.median(whole - share * taken for whole, taken in zip(found["short"], layers, strict=True))
    benchmark.extra_info["of GEMM"] = round(part, 2)
    print(
        f"\ndense, d = {d}, float64: {part:.2f} of the machine's GEMM rate (limit {LEAST_OF_GEMM}); "
        f"{', '.join(f'{name} {rate / 1e9:.0f} Gflop/s' for name, rate in rates.items())}; "
        f"singular values at the end {svd:.2g} s, compiled in {start - statistics.median(found['short']):.2g} s"
    )
    assert part >= LEAST_OF_GEMM
    benchmark.pedantic(lambda: run(1), rounds=1)


@pytest.mark.parametrize("name", ["structured", "dense"])
@pytest.mark.parametrize("axis", ["d", "L", "chains"])
def test_growth(name: str, axis: str) -> None:
    """Exponents of the time in each, fitted over doublings; printed. J_L and, for dense chains, P_L."""
    base = {"d": 512, "L": 32, "chains": 16} if name == "structured" else {"d": 128, "L": 8, "chains": 8}
    sizes = {"d": [base["d"] * 2**k for k in range(4)], "L": [base["L"] * 2**k for k in range(4)]}
    values = sizes.get(axis, [base["chains"] * 2**k for k in range(4)])
    quantity = "context" if name == "structured" else "product"
    found = []
    for value in values:
        at = base | {axis: value}

        def run(at: dict[str, int] = at) -> object:
            return simulate(
                CELL,
                at["d"],
                [at["L"]],
                chains=at["chains"],
                seed=0,
                quantities=(quantity,),
                simulator=name,  # pyright: ignore[reportArgumentType]
            )

        run()
        found.append(statistics.median(seconds(run) for _ in range(3)))
    exponent = np.polyfit(np.log(values), np.log(found), 1)[0]
    print(f"\n{name}: growth in {axis} over {values}: {axis}^{exponent:.2f}")
