"""The reduced recurrence in NumPy on one core, tile by tile in its cache: the engine for machines without a device."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from theory.simulators.cells import PhaseCells
from theory.simulators.draws import BLOCK, LayerDraw, draw_layers
from theory.simulators.engine_step import Recurrence, combined, numbers_of, rescale_every

__all__ = ["NumpySpace", "run_numpy"]

TILE = 8192
"""Chains of all cells run at once: some twenty arrays of this length stay in a core's second-level cache."""


class NumpySpace:
    """`Space` in NumPy; logarithms are taken in float64."""

    xp = np

    def exponent(self, x: NDArray[np.floating]) -> NDArray[np.int64]:
        return np.frexp(x)[1].astype(np.int64)

    def scaled(self, x: NDArray[np.floating], power: NDArray[np.int64]) -> NDArray[np.floating]:
        with np.errstate(under="ignore"):
            return np.ldexp(x, power)

    def wide(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(x, dtype=np.float64)


def run_numpy(
    cells: PhaseCells,
    dimension: int,
    layers: NDArray[np.int64],
    found: NDArray[np.float64],
    *,
    seed: int,
    context_dimension: int,
    isotropic: bool,
    dtype: str,
    share: bool,
) -> None:
    """Fills `found`, (statistics, depths, cells, chains), with what `combined` gives at each of the depths `layers`."""
    n, m = found.shape[-1], context_dimension
    blocks = -(-n // BLOCK)
    together = min(blocks, max(1, TILE // (BLOCK * len(cells))))
    rows = max(1, TILE // (BLOCK * together))
    parts = [slice(first, first + rows) for first in range(0, len(cells), rows)]
    rescaling = [rescale_every(cells.at(part), dimension, dtype) for part in parts]
    for begin in range(0, blocks, together):
        block = range(begin, min(begin + together, blocks))
        draws = draw_layers(
            seed,
            block,
            int(layers.max()),
            dimension,
            shown=m + share,
            context_dimension=m,
            isotropic=isotropic,
            dtype=dtype,
        )
        at = slice(begin * BLOCK, min(block.stop * BLOCK, n))
        shared: Iterable[LayerDraw] = draws if len(parts) == 1 else list(draws)  # kept only where cells share them
        for part, every in zip(parts, rescaling, strict=True):
            numbers, offset = numbers_of(cells.at(part), dtype)
            step = Recurrence(numbers, dimension, m, share, isotropic, NumpySpace(), dtype)
            state = None
            for layer, draw in enumerate(shared):
                state = step.first(draw) if state is None else step.next(state, draw)
                where = np.flatnonzero(layers == layer + 1)
                if where.size or layer % every == 0:
                    state = step.rescaled(state)
                if where.size:
                    results = combined(step.logs(state), state.power + offset, state.early_power + offset)
                    for value, store in zip(results, found, strict=True):
                        store[where, part, at] = value[None, :, : at.stop - at.start]
