"""The pieces a sweep is computed and stored in: independent of each other and of who runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.simulators.choose import Choice, choose
from theory.sweeping.contexts import context_part
from theory.sweeping.costs import (
    CELL_S,
    DRAW_S,
    chains_drawn,
    context_bytes,
    context_seconds,
    layers_with_search,
    product_rate,
    residual_rate,
)
from theory.sweeping.layout import variables
from theory.sweeping.products import early_part, product_part, simulator_name
from theory.sweeping.residuals import residual_part
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, injections_of

__all__ = ["Part", "compute_part", "parts_of", "place", "simulators"]

PART_S = 2.5
"""Seconds of work in one part, about: what an interruption may lose."""

SHARING = 12
"""Cells in a part at least, where they share their draws, which cost as much as that many cells."""

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
    for j, dimension in enumerate(spec.dimension):
        if "product" in spec.quantities:
            yield from _products(spec, j, dimension, chosen["product", dimension])
        if "early" in spec.quantities:
            choice = chosen["early", dimension]
            layers = chains_drawn(spec) * max(spec.depth)
            pair_s = layers * _rate(choice, CELL_S[1])
            for a, g in _blocks(len(spec.alignment), len(spec.gap), pair_s, _least(choice)):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"alignment": a, "gap": g, "dimension": (j, j + 1)}
                seconds = cells * pair_s + layers * DRAW_S[1]
                size = cells * spec.seeds * len(spec.depth) * 8 * 12 + _held(choice)
                yield Part(f"early-{_label(at)}", "early", at, cells * spec.seeds, seconds, size)
        for i in range(len(spec.injections)):
            choice = chosen["context", dimension]
            gains = sum(gain > 0 for gain in spec.gain)
            pair_s = layers_with_search(spec, gains) * _rate(choice, CELL_S[spec.context_dimension])
            for a, g in _blocks(len(spec.alignment), len(spec.gap), pair_s, _least(choice)):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"injection": (i, i + 1), "alignment": a, "gap": g, "dimension": (j, j + 1)}
                seconds, size = context_seconds(spec, choice, cells, gains), context_bytes(spec, cells, gains)
                name, chains = f"context-{_label(at)}", cells * gains * spec.seeds
                yield Part(name, "context", at, chains, seconds, size + _held(choice))


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
        seconds = _rate(choice, product_rate(width))
        if reduced:
            a_step = max(1, COORDINATE_BYTES // (8 * spec.seeds * layers * width))
            g_step = 1
        else:
            width, g_step = 0, len(spec.gap)
            a_step = max(1, int(PART_S / (spec.seeds * layers * len(spec.gap) * seconds)) if seconds else 1)
        for a in _cuts(len(spec.alignment), a_step):
            for g in _cuts(len(spec.gap), g_step):
                cells = (a[1] - a[0]) * (g[1] - g[0])
                at = {"alignment": a, "gap": g, "depth": depth, "dimension": (j, j + 1)}
                size = 4 * 8 * (a[1] - a[0]) * spec.seeds * layers * width + cells * spec.seeds * 8 * 12
                size += cells * len(spec.gain) * (8 * 8 + spec.seeds * 9) + _held(choice)
                chains = cells * spec.seeds
                yield Part(f"product-{_label(at)}", "product", at, chains, chains * layers * seconds, size)


def _rate(choice: Choice | str, reduced: float) -> float:
    """Seconds a chain-layer, where `reduced` is the rate of the reduced simulator; 0 where there is no simulator."""
    if isinstance(choice, str):
        return 0.0
    return reduced if choice.name == "reduced" else choice.seconds


def _held(choice: Choice | str) -> int:
    """Bytes held beside the results."""
    return 0 if isinstance(choice, str) else choice.bytes


def _residuals(spec: ResidualSweepSpec) -> Iterator[Part]:
    sizes = len(spec.strength)
    for j in range(len(spec.dimension)):
        for k, rank in enumerate(spec.rank):
            pair_s = layers_with_search(spec, sizes) * residual_rate(rank)
            for i in range(len(spec.injections)):
                for a, p in _blocks(len(spec.alignment), len(spec.persistence), pair_s, 1):
                    cells = (a[1] - a[0]) * (p[1] - p[0])
                    at = {"injection": (i, i + 1), "alignment": a, "persistence": p}
                    at |= {"rank": (k, k + 1), "dimension": (j, j + 1)}
                    seconds, chains = cells * pair_s, cells * sizes * spec.seeds
                    size = context_bytes(spec, cells, sizes)
                    yield Part(f"residual-{_label(at)}", "residual", at, chains, seconds, size)


def _least(choice: Choice | str) -> int:
    return SHARING if not isinstance(choice, str) and choice.name == "reduced" else 1


def _blocks(first: int, second: int, pair_s: float, least: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rectangles of two axes of about `PART_S`, where one pair of their values costs `pair_s`; even pieces."""
    pairs = min(max(least, int(PART_S / pair_s) if pair_s > 0 else first * second), first * second)
    step = -(-second // -(-second // pairs))
    rows = max(1, pairs // step)
    for a in _cuts(first, -(-first // -(-first // rows))):
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
