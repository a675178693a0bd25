"""Laws of context Jacobians of the residual family I + F, by the million chains, at any dimension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from theory._checks import natural
from theory.simulators.cells import depth_list
from theory.simulators.draws import BLOCK
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.residual_draws import ResidualDraw, draw_residual_layers
from theory.simulators.residual_run import LOG_ROOM, ResidualRun
from theory.simulators.spectra import LARGEST_RESULT, ContextSpectra

__all__ = ["residual_spectra"]

TILE = 8192
"""Rows of the state times chains of all cells run at once: a few dozen such arrays stay in the second-level cache."""

KEPT_DRAWS = 256 * 2**20
"""Bytes of draws kept for the tiles that share them; beyond that every tile draws them again."""


def residual_spectra(
    cells: ResidualCells,
    dimension: int,
    depths: Sequence[int],
    *,
    rank: int,
    chains: int,
    seed: int,
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    dtype: Literal["float64", "float32"] = "float64",
    share: bool = True,
) -> ContextSpectra:
    """Spectra of the context Jacobians of residual chains, exact in law, in O(L r) a chain at any dimension.

    Implements (T32): A_l = I + tau X_l C_l^T + gamma G_l, as `ResidualCells` has it. The state is [p; R], p = X_l^T J_l
    and R a triangular root of the Gram matrix of what lies across X_l. The earliest injection in the direction w is
    one more column, the first, on a log-scale of its own.

    All cells are run on the same random numbers: intervals within a cell are right, differences between cells are
    correlated. A chain depends on (seed, its number, dimension, rank, context_dimension, frame, dtype, share) alone.

    Args:
        cells: the numbers of each cell.
        dimension: d >= rank + max(rank, context_dimension).
        depths: numbers of layers, each >= 1.
        rank: r, of every F_l.
        chains: n >= 1 for each cell.
        seed: >= 0.
        context_dimension: m, 1 or 2.
        frame: "across": Q_l has m orthonormal columns, Haar across X_l. "isotropic": Haar in R^d.
        dtype: of the draws and the recurrence; scales and results are float64.
        share: whether to carry the earliest injection.

    Returns:
        As `context_spectra`, but along and across are X_l and its complement: log_noise is ln of ||(I - X X^T) J_L|| /
        ||X^T J_L|| in the operator norm, log_early_noise that of P_{L:2} B_1 w.

    Raises:
        ValueError: if an argument leaves its range, one layer would leave that of dtype, or the result 4 GiB.
    """
    d, n, m, r = (
        int(natural(value, name))
        for value, name in (
            (dimension, "dimension"),
            (chains, "chains"),
            (context_dimension, "context_dimension"),
            (rank, "rank"),
        )
    )
    root, layers = int(natural(seed, "seed", least=0)), depth_list(depths)
    if m > 2:
        raise ValueError(f"context_dimension must be 1 or 2; got {m}")
    if d < r + max(r, m):
        raise ValueError(f"dimension must be at least rank + max(rank, context_dimension) = {r + max(r, m)}; got {d}")
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    if dtype not in LOG_ROOM:
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    kept = 3 + 3 * share
    bytes_needed = 8 * kept * layers.size * len(cells) * n
    if bytes_needed > LARGEST_RESULT:
        raise ValueError(f"cells x chains x depths must need at most 4 GiB; got {bytes_needed / 2**30:.3g} GiB")
    found = np.empty((kept, layers.size, len(cells), n))
    columns, blocks = m + share, -(-n // BLOCK)
    room = max(1, TILE // (BLOCK * r))
    together = min(blocks, max(1, room // len(cells)))
    rows = max(1, room // together)
    # Cells without a frame or a bulk skip its QR, which is rounding: they run apart, so no bit depends on the others.
    framed, spread = cells.injected > 0, cells.bulk > 0
    kinds = [np.flatnonzero((framed == x) & (spread == y)) for x in (False, True) for y in (False, True)]
    parts = [kind[first : first + rows] for kind in kinds for first in range(0, kind.size, rows)]
    for begin in range(0, blocks, together):
        block = range(begin, min(begin + together, blocks))

        def draws(block: range = block) -> Iterator[ResidualDraw]:
            return draw_residual_layers(
                root,
                block,
                int(layers.max()),
                d,
                rank=r,
                shown=columns,
                context_dimension=m,
                injected=bool(framed.any()),
                bulk=bool(spread.any()),
                isotropic=frame == "isotropic",
                dtype=dtype,
            )

        at = slice(begin * BLOCK, min(block.stop * BLOCK, n))
        entries = (
            (3 * r + 2 * columns + (r + 2 * columns) * spread.any()) * columns * BLOCK * len(block) * int(layers.max())
        )
        keep = len(parts) > 1 and entries * np.dtype(dtype).itemsize <= KEPT_DRAWS
        shared = list(draws()) if keep else None
        for part in parts:
            run = ResidualRun(cells.at(part), d, r, m, columns, frame == "isotropic", dtype)
            for depth, results in run.through(shared or draws(), set(layers.tolist())):
                for where in np.flatnonzero(layers == depth):
                    for value, store in zip(results, found, strict=True):
                        store[where, part, at] = value[:, : at.stop - at.start]
    floor = np.log(4.0 * (columns + r) * float(np.finfo(dtype).eps) * layers)
    early = (found[3], found[4], found[5]) if share else (None, None, None)
    return ContextSpectra(
        log_norm=found[0],
        log_ratio=found[1],
        log_floor=floor,
        log_share=early[0],
        log_noise=found[2],
        log_early=early[1],
        log_early_noise=early[2],
    )
