"""The great map of docs/phase-boundary.md, whole, against what the NumPy loop would need for the same Jacobians.

The loop is timed on one chain for each depth; its chains have no injection and it draws nothing, so it does less. The
map is timed from the call to the last byte on disk, with its boundaries, in two processes of one thread each; the
loop's need is for one core, so half of it would be left on two.

Cost of the map: O(cells x chains x L), the same at any d; the loop's O(cells x chains x L d^3).
"""

from pathlib import Path

import numpy as np
import pytest

import theory
from benchmarks._loop import DEPTH, isometries, loop, seconds, skip_unless_one_thread

LEAST_OVER_LOOP = 100_000.0
WORKERS = 2


@pytest.fixture(autouse=True)
def one_thread():
    skip_unless_one_thread()


def test_the_great_map_against_the_loop(benchmark, tmp_path: Path) -> None:
    spec = theory.studies()["boundary"]
    plan = theory.plan_sweep(spec, workers=WORKERS)
    (d,), depths = spec.dimension, spec.depth
    turns, v = isometries(d, 1, np.random.default_rng(0))
    a_chain = {depth: seconds(lambda depth=depth: loop(turns, v[:, :depth])) for depth in depths if depth <= DEPTH}
    need = sum(a_chain.values()) * plan.jacobians / len(depths)
    taken = benchmark.pedantic(
        lambda: seconds(lambda: theory.sweep(spec, directory=tmp_path, workers=WORKERS)), rounds=1
    )
    ratio = need / taken
    benchmark.extra_info["over the loop"] = round(ratio)
    each = ", ".join(f"{value:.2f} s at L = {depth}" for depth, value in a_chain.items())
    print(
        f"\n{plan.jacobians:,} context Jacobians, d = {d}, {plan.distinct_chains:,} distinct chains: {taken:.0f} s in "
        f"{WORKERS} processes (planned {plan.seconds:.0f} s); the loop takes {each} a chain, {need / 86400:,.0f} days "
        f"of one core in all: {ratio:,.0f}x (limit {LEAST_OVER_LOOP:,.0f}x)"
    )
    assert ratio >= LEAST_OVER_LOOP
