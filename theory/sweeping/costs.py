"""What parts of a sweep cost: time from rates measured in sweeps on one core, memory from what is held at once."""

from __future__ import annotations

from theory.phase.critical_context import half_depth
from theory.simulators.choose import Choice
from theory.simulators.draws import BLOCK
from theory.sweeping.contexts import EVALUATIONS, FILL, MARGIN
from theory.sweeping.layout import TRANSITIONS
from theory.sweeping.products import PIECE_BYTES
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

__all__ = [
    "CELL_S",
    "DRAW_S",
    "chains_drawn",
    "context_bytes",
    "context_seconds",
    "layers_with_search",
    "product_rate",
    "residual_rate",
]

CELL_S = {1: 4.5e-8, 2: 9e-8}
"""Seconds for a layer of a reduced chain of J_L, by context directions: the recurrence and the medians."""

DRAW_S = {1: 1.5e-7, 2: 1e-6}
"""Seconds for the draws of a layer, which all cells of one call share."""

SCAN = 2 * MARGIN / FILL + 2
"""Typical number of points that a scan adds to those of the map."""


def product_rate(width: int) -> float:
    """Seconds for a layer of a reduced product carried in so many coordinates."""
    return 3e-7 + 9e-9 * width**2


def residual_rate(rank: int) -> float:
    """Seconds for a layer of a chain of the residual family, measured at ranks 1 to 64."""
    return 6e-8 + 4.6e-8 * rank


def context_seconds(spec: SweepSpec, choice: Choice | str, pairs: int, sizes: int) -> float:
    """Seconds of a part of J_L: the map of so many pairs and sizes, and the search for its crossings."""
    if isinstance(choice, str):
        return 0.0
    layers = pairs * layers_with_search(spec, sizes)
    if choice.name != "reduced":
        return layers * choice.seconds
    m = spec.context_dimension
    calls = chains_drawn(spec) * ((1 + SCAN) * max(spec.depth) + EVALUATIONS * sum(spec.depth))
    return CELL_S[m] * layers + DRAW_S[m] * calls


def layers_with_search(spec: SweepSpec | ResidualSweepSpec, sizes: int) -> float:
    """Chain-layers of one pair: the map over so many sizes, the scan beyond it, and the steps to every crossing."""
    steps = 3 * len(TRANSITIONS) * EVALUATIONS * sum(spec.depth)
    return chains_drawn(spec) * ((sizes + SCAN) * max(spec.depth) + steps)


def context_bytes(spec: SweepSpec | ResidualSweepSpec, pairs: int, sizes: int) -> int:
    """Held while a part of J_L is computed: a piece of spectra with its sorted copies, and the summaries."""
    every = len({*spec.depth, *map(half_depth, spec.depth)})
    piece = min(PIECE_BYTES, pairs * sizes * spec.seeds * every * 48)
    return 4 * piece + pairs * sizes * len(spec.depth) * 8 * 60


def chains_drawn(spec: SweepSpec | ResidualSweepSpec) -> int:
    """Chains a cell that are run: the reduced simulators draw whole blocks."""
    return -(-spec.seeds // BLOCK) * BLOCK
