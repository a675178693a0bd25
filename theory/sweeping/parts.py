"""The pieces a sweep is computed and stored in: independent of each other and of who runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.phase.critical_context import half_depth
from theory.simulators.choose import Choice, choose
from theory.simulators.draws import BLOCK
from theory.sweeping.contexts import EVALUATIONS, FILL, MARGIN, context_part
from theory.sweeping.layout import TRANSITIONS, variables
from theory.sweeping.products import PIECE_BYTES, early_part, product_part, simulator_name
from theory.sweeping.residuals import residual_part, residual_rate
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, injections_of

__all__ = ["Part", "compute_part", "parts_of", "place", "simulators"]

CHAIN_LAYERS = 8_000_000
"""Layers of chains in one part, about: a second or two of work, which is what an interruption may lose."""

CONTEXT_S = {1: 6e-8, 2: 1.4e-7}
"""Seconds of one core for a layer of a chain of J_L, by context directions, medians and all: measured in sweeps."""

COORDINATE_BYTES = 256 * 2**20
"""Of the coordinates of products in one part."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a sweep.

    Attributes:
        name: of its file and in messages.
        kind: "product", "early", "context" or "residual".
        at: first and last + 1 index of every dimension the part is restricted to.
        chains: of all its cells together, at its greatest depth.
        seconds: an estimate, for one core of the machine the rates were measured on.
        memory_bytes: an estimate of the most it holds.
    """

    name: str
    kind: str
    at: dict[str, tuple[int, int]]
    chains: int
    seconds: float
    memory_bytes: int

    def of(self, spec: Any, name: str) -> list[Any]:
        """The values of one axis that the part covers."""
        return list(getattr(spec, name)[slice(*self.at[name])]) if name in self.at else list(getattr(spec, name))


def simulators(spec: SweepSpec) -> dict[tuple[str, int], Choice | str]:
    """The simulator of each quantity at each dimension, or why there is none.

    Raises:
        ValueError: if a quantity has none at any dimension.
    """
    asked = [name for name in ("product", "early") if name in spec.quantities] + ["context"] * bool(spec.injections)
    options: dict[str, Any] = {"residual": spec.residual, "rank": spec.rank, "simulator": simulator_name(spec)}
    found: dict[tuple[str, int], Choice | str] = {}
    for name in asked:
        m = 1 if name == "early" else spec.context_dimension
        for dimension in spec.dimension:
            try:
                kind: Any = "product" if name == "product" else "context"
                found[name, dimension] = choose(kind, dimension, max(spec.depth), context_dimension=m, **options)
            except ValueError as error:
                found[name, dimension] = str(error)
        reasons = [found[name, dimension] for dimension in spec.dimension]
        if all(isinstance(reason, str) for reason in reasons) and max(spec.dimension) > m:
            raise ValueError(str(reasons[-1]))
    return found


def parts_of(spec: SweepSpec | ResidualSweepSpec) -> Iterator[Part]:
    """The parts in the order they are computed. An iterator: an immense grid has too many to list."""
    if isinstance(spec, ResidualSweepSpec):
        yield from _residuals(spec)
        return
    chosen = simulators(spec)
    drawn = _drawn(spec)
    for j, dimension in enumerate(spec.dimension):
        if "product" in spec.quantities:
            yield from _products(spec, j, dimension, chosen["product", dimension])
        if "early" in spec.quantities:
            seconds, held = _rate(chosen["early", dimension], CONTEXT_S[1])
            layers = drawn * max(spec.depth)
            for a, g in _blocks(len(spec.alignment), len(spec.gap), layers):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"alignment": a, "gap": g, "dimension": (j, j + 1)}
                size = cells * spec.seeds * len(spec.depth) * 8 * 12 + held
                yield Part(f"early-{_label(at)}", "early", at, cells * spec.seeds, cells * layers * seconds, size)
        for i in range(len(spec.injections)):
            seconds, held = _rate(chosen["context", dimension], CONTEXT_S[spec.context_dimension])
            gains = sum(gain > 0 for gain in spec.gain)
            layers = _layers_with_search(spec, gains)
            for a, g in _blocks(len(spec.alignment), len(spec.gap), layers):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"injection": (i, i + 1), "alignment": a, "gap": g, "dimension": (j, j + 1)}
                size = _context_bytes(spec, cells, gains) + held
                name = f"context-{_label(at)}"
                yield Part(name, "context", at, cells * gains * spec.seeds, cells * layers * seconds, size)


def compute_part(spec: SweepSpec | ResidualSweepSpec, part: Part) -> dict[str, NDArray[Any]]:
    """The part's variables, each over its own dimensions, restricted to what the part covers."""
    if isinstance(spec, ResidualSweepSpec):
        return residual_part(spec, part)
    dimension = part.of(spec, "dimension")[0]
    alignment, gap = (np.asarray(part.of(spec, name), dtype=np.float64) for name in ("alignment", "gap"))
    if part.kind == "product":
        return product_part(spec, dimension, part.of(spec, "depth"), alignment, gap)
    if part.kind == "early":
        return early_part(spec, dimension, alignment, gap)
    return context_part(spec, injections_of(spec)[part.at["injection"][0]], dimension, alignment, gap)


def place(
    spec: SweepSpec | ResidualSweepSpec, part: Part, values: dict[str, NDArray[Any]], whole: dict[str, NDArray[Any]]
) -> None:
    """Puts a part's variables where they belong."""
    table = variables(spec)
    for name, array in values.items():
        whole[name][tuple(slice(*part.at.get(dim, (None, None))) for dim in table[name].dims)] = array


def _products(spec: SweepSpec, j: int, dimension: int, choice: Choice | str) -> Iterator[Part]:
    """One part a depth and gap for reduced products, which draw every depth anew; else all depths together."""
    reduced = not isinstance(choice, Choice) or choice.name == "reduced"
    depths = [(i, i + 1) for i in range(len(spec.depth))] if reduced else [(0, len(spec.depth))]
    for depth in depths:
        layers = max(spec.depth[slice(*depth)])
        width = min(dimension, layers + 1)
        seconds, held = _rate(choice, 3e-7 + 9e-9 * width**2)
        if reduced:
            a_step = max(1, COORDINATE_BYTES // (8 * spec.seeds * layers * width))
            g_step = 1
        else:
            width, g_step = 0, len(spec.gap)
            a_step = max(1, CHAIN_LAYERS // (spec.seeds * layers * len(spec.gap)))
        for a in _cuts(len(spec.alignment), a_step):
            for g in _cuts(len(spec.gap), g_step):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"alignment": a, "gap": g, "depth": depth, "dimension": (j, j + 1)}
                size = 3 * 8 * (a[1] - a[0]) * spec.seeds * layers * width + cells * spec.seeds * 8 * 12
                size += cells * len(spec.gain) * (8 * 8 + spec.seeds * 9) + held
                chains = cells * spec.seeds
                yield Part(f"product-{_label(at)}", "product", at, chains, chains * layers * seconds, size)


def _rate(choice: Choice | str, columns_s: float) -> tuple[float, int]:
    """Seconds a chain-layer, and bytes held beside the results; nothing where there is no simulator.

    Args:
        choice: of the simulator.
        columns_s: what this sweep measured of the reduced simulator.
    """
    if isinstance(choice, str):
        return 0.0, 0
    return (columns_s if choice.name == "reduced" else choice.seconds), choice.bytes


def _residuals(spec: ResidualSweepSpec) -> Iterator[Part]:
    sizes = len(spec.strength)
    for j in range(len(spec.dimension)):
        for k, rank in enumerate(spec.rank):
            # A layer of rank r costs as much as `weight` of rank 1.
            weight = residual_rate(rank) / residual_rate(1)
            layers = weight * _layers_with_search(spec, sizes)
            for i in range(len(spec.injections)):
                for a, p in _blocks(len(spec.alignment), len(spec.persistence), layers):
                    cells = (a[1] - a[0]) * (p[1] - p[0])
                    at = {"injection": (i, i + 1), "alignment": a, "persistence": p}
                    at |= {"rank": (k, k + 1), "dimension": (j, j + 1)}
                    seconds, chains = cells * layers * residual_rate(1), cells * sizes * spec.seeds
                    size = _context_bytes(spec, cells, sizes)
                    yield Part(f"residual-{_label(at)}", "residual", at, chains, seconds, size)


def _drawn(spec: SweepSpec | ResidualSweepSpec) -> int:
    """Chains a cell that are run: the reduced simulators draw whole blocks."""
    return -(-spec.seeds // BLOCK) * BLOCK


def _layers_with_search(spec: SweepSpec | ResidualSweepSpec, sizes: int) -> float:
    """Chain-layers of one pair: the map over so many sizes, the scan beyond it, and the steps to every crossing."""
    scan = 2 * MARGIN / FILL + 2
    steps = 3 * len(TRANSITIONS) * EVALUATIONS * sum(spec.depth)
    return _drawn(spec) * ((sizes + scan) * max(spec.depth) + steps)


def _context_bytes(spec: SweepSpec | ResidualSweepSpec, cells: int, sizes: int) -> int:
    """Held while a part of J_L is computed: a piece of spectra with its sorted copies, and the summaries."""
    every = len({*spec.depth, *map(half_depth, spec.depth)})
    piece = min(PIECE_BYTES, cells * sizes * spec.seeds * every * 48)
    return 4 * piece + cells * sizes * len(spec.depth) * 8 * 60


def _blocks(first: int, second: int, layers: float) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rectangles of two axes of about `CHAIN_LAYERS`, where one pair of their values costs `layers`."""
    pairs = max(1, int(CHAIN_LAYERS // layers))
    step = min(second, pairs)
    for a in _cuts(first, max(1, pairs // step)):
        for b in _cuts(second, step):
            yield a, b


def _cuts(n: int, step: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, n, step):
        yield begin, min(begin + step, n)


def _label(at: dict[str, tuple[int, int]]) -> str:
    short = {
        "injection": "i",
        "alignment": "a",
        "gap": "g",
        "persistence": "p",
        "rank": "r",
        "depth": "l",
        "dimension": "d",
    }
    return "-".join(f"{short[dim]}{low}" for dim, (low, _) in at.items())
