"""What the structured and the dense simulator are asked for, and the tiles in which they answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from theory.simulators.cells import PhaseCells

__all__ = ["Request", "Run", "tile_room", "tile_shape"]


def tile_room(cached: int, accelerator: int) -> int:
    """Bytes of one tile: on a CPU a fixed number, on an accelerator at most a quarter of what is free there.

    Where the tile is cut by want of memory, a run on another device may differ by rounding.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return cached
    stats: Any = device.memory_stats() or {}
    free = stats.get("bytes_limit", 4 * accelerator) - stats.get("bytes_in_use", 0)
    return max(1, min(accelerator, free // 4))


def tile_shape(cells: int, chains: int, together: int) -> tuple[int, int]:
    """Cells and chains of a tile of at most `together` of their pairs, where one fits at all.

    A power of two of cells, the last repeated: a search that asks for fewer and fewer cells compiles few programs.
    """
    padded = 1 << (cells - 1).bit_length()
    some = min(chains, max(1, together // min(padded, 16)), 256)
    return min(padded, 1 << (max(1, together // some).bit_length() - 1)), some


@dataclass(frozen=True, slots=True)
class Run:
    """One tile, as it comes out of all its layers.

    Attributes:
        cells: which cells.
        chains: which chains.
        leaves: what `ensemble.reading` leaves, each with leading axes (depths, cells, chains), NumPy float64, powers of
            two as natural logarithms; empty if the context was not asked for.
        kept: what P is made of; None if it was not asked for. Structured, flat: w_l, shape (cells, chains, L, d); low
            rank: W_l W_{l-1}^T, shape (cells, chains, L, 1 + r, 1 + r). Dense: ln sigma_1 and ln sigma_2 / sigma_1,
            shape (depths, 2, cells, chains).
    """

    cells: slice
    chains: slice
    leaves: tuple[NDArray[np.float64], ...]
    kept: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be run, checked by `simulate`.

    Attributes:
        dimension: d.
        depths: ascending, distinct.
        chains: n for each cell.
        seed: of the run.
        rank: r of a low-rank residual, 0 for another.
        columns: m, of the context; or the number of probe vectors.
        probes: whether the columns are random unit vectors sent through P, with no injection.
        isotropic: frame of the injections.
        share: whether to carry the earliest injection.
        product: whether P is asked for.
        context: whether columns are carried at all.
        dtype: of the draws and the recurrence.
    """

    dimension: int
    depths: tuple[int, ...]
    chains: int
    seed: int
    rank: int = 0
    columns: int = 2
    probes: bool = False
    isotropic: bool = False
    share: bool = True
    product: bool = False
    context: bool = True
    dtype: str = "float64"

    @property
    def early(self) -> bool:
        """Whether the earliest injection is carried, as row 0 of the state."""
        return self.share and self.inject

    @property
    def inject(self) -> bool:
        """Whether there are injections."""
        return self.context and not self.probes

    @property
    def carried(self) -> int:
        """Columns of the state."""
        return (self.columns + self.early) if self.context else 0

    @property
    def program(self) -> Request:
        """The request without what the compiled code does not read: hashable, the static argument of jit."""
        return replace(self, depths=(1,), chains=1, seed=0)

    def unit(self, cells: PhaseCells) -> NDArray[np.float64]:
        """Size of each cell's injections, what its state is measured in."""
        return np.maximum(cells.along, cells.injected) if self.inject else np.ones(len(cells))

    def run(
        self,
        cells: PhaseCells,
        part: slice,
        chains: range,
        leaves: list[Any],
        kept: NDArray[np.float64] | None,
        cell_axis: int,
    ) -> Run:
        """A tile without the cells and chains that only filled it, on the scale of its cells.

        Args:
            cells: all of them.
            part: the tile's cells; it may reach beyond the last.
            chains: the tile's chains; they may reach beyond n.
            leaves: with leading axes (depths, cells, chains).
            kept: cells on `cell_axis`, chains on the next.
            cell_axis: of kept.
        """
        some, n = min(part.stop, len(cells)) - part.start, min(chains.stop, self.chains) - chains.start
        found = [np.asarray(leaf, dtype=np.float64)[:, :some, :n] for leaf in leaves]
        if self.inject:
            log_unit, log_two = np.log(self.unit(cells)[part])[:, None], np.log(2.0)
            for index in (2, 5):
                found[index] = log_two * found[index] + log_unit
        if kept is not None:
            kept = kept[(slice(None),) * cell_axis + (slice(some), slice(n))]
        return Run(slice(part.start, part.start + some), slice(chains.start, chains.start + n), tuple(found), kept)
