"""Laws of context Jacobians of the residual family I + F, by the million chains, at any dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators._small import log_two_singular
from theory.simulators.cells import depth_list
from theory.simulators.draws import BLOCK
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.residual_draws import ResidualDraw, draw_residual_layers, gram_schmidt
from theory.simulators.spectra import LARGEST_RESULT, ContextSpectra

__all__ = ["residual_spectra"]

TILE = 8192
"""Rows of the state times chains of all cells run at once: a few dozen such arrays stay in the second-level cache."""

LOG_ROOM = {"float64": 100.0, "float32": 15.0}
"""Natural-log units by which the state may have moved before it is rescaled: its squares must stay in range."""

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

    Implements (T32). The state is [p; R], p = X_l^T J_l and R a triangular root of the Gram matrix of what lies across
    X_l. The earliest injection in the direction w is one more column, the first, on a log-scale of its own.

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
    # Cells without a frame skip its QR, which is rounding: they run apart, so that no bit depends on the others.
    kinds = [np.flatnonzero(cells.injected > 0), np.flatnonzero(cells.injected == 0)]
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
                injected=bool(kinds[0].size),
                isotropic=frame == "isotropic",
                dtype=dtype,
            )

        at = slice(begin * BLOCK, min(block.stop * BLOCK, n))
        entries = (3 * r + 2 * columns) * columns * BLOCK * len(block) * int(layers.max())
        keep = len(parts) > 1 and entries * np.dtype(dtype).itemsize <= KEPT_DRAWS
        shared = list(draws()) if keep else None
        for part in parts:
            run = _Run(cells.at(part), d, r, m, columns, frame == "isotropic", dtype)
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


class _Run:
    """The recurrence over one tile of cells and chains. State: columns p of shape (r, ...) and R of (j + 1, ...)."""

    def __init__(self, cells: ResidualCells, d: int, r: int, m: int, columns: int, isotropic: bool, dtype: str) -> None:
        tau, kappa, omega = cells.strength, cells.alignment, cells.persistence
        s, turned = (np.sqrt((1 - x) * (1 + x)) for x in (kappa, omega))
        numbers = (omega + tau * kappa, tau * s, omega, turned)
        self.outlier, self.reads, self.omega, self.turned = (x.astype(dtype)[:, None] for x in numbers)
        self.along, self.injected = cells.along[:, None], cells.injected[:, None]
        self.r, self.m, self.columns, self.early = r, m, columns, columns - m
        self.tight = d - r < columns  # by one at most
        self.isotropic, self.dtype, self.random = isotropic, dtype, bool((cells.injected > 0).any())
        moved = float(np.log1p(1 + tau).max())  # ||A|| + 1; a layer that shrinks a column much is a rare draw
        if moved > LOG_ROOM[dtype]:
            raise ValueError(
                f"strength must keep one layer within {dtype}; it would change its product by e^{moved:.0f}"
            )
        self.every = max(1, int(LOG_ROOM[dtype] / moved))

    def through(self, draws: Iterable[ResidualDraw], depths: set[int]) -> Iterator[tuple[int, list[Any]]]:
        """Yields each wanted depth with ln ||J||, ln ratio, ln noise and, where it is carried, the earliest's three."""
        power = early_power = np.frexp(np.maximum(self.along, self.injected))[1].astype(np.int64)
        along, injected = self._shrunk(power)
        p: list[Any] = []
        f: list[Any] = []
        for layer, draw in enumerate(draws):
            if layer:
                p, f = self._propagated(p, self._folded(f), draw)
                f = self._folded(f)
            else:
                n = draw.read[0].shape[-1]
                blank = np.zeros((max(self.r, self.columns), len(self.along), n), dtype=self.dtype)
                p, f = [blank[: self.r]] * self.columns, [blank[: j + 1] for j in range(self.columns)]
            p, f = self._injected(p, f, draw, along, injected)
            if not layer and self.early:  # its column is that of w, so the second row of R is free
                p = [p[1], *p[1:]]
                f = [f[1][1:2], *(np.concatenate([x[1:], 0 * x[:1]]) for x in f[1:])]
            wanted = layer + 1 in depths
            if wanted or layer % self.every == 0:
                power = power + self._halved(p, f, range(self.early, self.columns))
                if self.early:
                    early_power = early_power + self._halved(p, f, range(1))
                along, injected = self._shrunk(power)
            if wanted:
                yield layer + 1, self._read(p, f, power, early_power)

    def _shrunk(self, power: Any) -> tuple[Any, Any]:
        """The injections on the scale of the state: 0 where they are beyond its rounding by far."""
        with np.errstate(under="ignore"):
            return np.ldexp(self.along, -power).astype(self.dtype), np.ldexp(self.injected, -power).astype(self.dtype)

    def _propagated(self, p: list[Any], f: list[Any], draw: ResidualDraw) -> tuple[list[Any], list[Any]]:
        """A_l on the state: X'^T A J along the new frame; across it J loses X'^T J, and F adds nothing."""
        moved, across = [], []
        for first, column in zip(p, f, strict=True):
            written = _combined(draw.written, column, self.r)
            read = _combined(draw.read, column, self.r)
            moved.append(self.outlier * first + self.turned * written + self.reads * read)
            left = self.turned * first - self.omega * written
            across.append(np.concatenate([left, _combined(draw.unseen, column, len(column))]))
        return moved, gram_schmidt(across)[1]

    def _injected(
        self, p: list[Any], f: list[Any], draw: ResidualDraw, along: Any, injected: Any
    ) -> tuple[list[Any], list[Any]]:
        w = self.early
        coherent = p[w].copy()
        coherent[0] += along
        p = [*p[:w], coherent, *p[w + 1 :]]
        if draw.injected is None or not self.random:
            return p, f
        seen = self.r if self.isotropic else 0
        columns = list(f[:w])
        for j, column in enumerate(f[w:]):
            put = injected * draw.injected[j]
            if seen:
                p[w + j] = p[w + j] + put[:seen]
            whole = put[seen:]
            whole[: len(column)] += column
            columns.append(whole)
        return p, gram_schmidt(columns)[1]

    def _folded(self, f: list[Any]) -> list[Any]:
        """R with no row more than there are dimensions across X: the last column's last two entries are one.

        The last is rounding, unless the columns before are parallel (in layer 2); the row before is then rounding.
        """
        if self.tight:
            f = [*f[:-1], f[-1].copy()]
            f[-1][-2] = np.copysign(np.hypot(f[-1][-2], f[-1][-1]), f[-1][-2])
            f[-1][-1] = 0
        return f

    def _halved(self, p: list[Any], f: list[Any], which: range) -> Any:
        """Takes the size of some columns out of them, in place, as a power of two: exact, and 0 where they are 0."""
        power = np.frexp(np.sqrt(sum((x * x).sum(axis=0) for j in which for x in (p[j], f[j]))))[1]
        factor = np.ldexp(np.ones(1, dtype=self.dtype), -power)
        for j in which:
            p[j], f[j] = p[j] * factor, f[j] * factor
        return power

    def _read(self, p: list[Any], f: list[Any], power: Any, early_power: Any) -> list[Any]:
        whole = [np.concatenate([x, y]) for x, y in zip(p, f, strict=True)]
        log_norm, log_ratio = _log_two(whole[self.early :])
        with np.errstate(divide="ignore", invalid="ignore"):  # a part that has died out exactly is 0 of the whole
            noise = _log_two(f[self.early :])[0] - _log_two(p[self.early :])[0]
            results = [log_norm + math.log(2) * power, log_ratio, noise]
            if self.early:
                early, along, across, rest = (_log_length(x) for x in (whole[0], p[0], f[0], whole[1]))
                lasting = early + math.log(2) * early_power
                results += [2 * (lasting - rest - math.log(2) * power), lasting, across - along]
        return results


def _combined(drawn: list[Any], column: Any, rows: int) -> Any:
    """Sum of the drawn columns by the entries of one column of R, its first rows."""
    total = drawn[len(column) - 1][:rows] * column[-1]
    for x, entry in zip(drawn, column[:-1], strict=False):
        total[: len(x)] += x[:rows] * entry
    return total


def _log_two(columns: list[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    root = gram_schmidt(columns)[1]
    log_norm, log_ratio = log_two_singular([[*column, *[None] * (len(root) - len(column))] for column in root])
    return log_norm.astype(np.float64), log_ratio.astype(np.float64)


def _log_length(x: Any) -> NDArray[np.float64]:
    return np.log((x * x).sum(axis=0), dtype=np.float64) / 2
