"""Laws of ||J_L||, sigma_2 / sigma_1 and the earliest injection's share, by the million chains, at any dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators._small import log_two_singular, triangular
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.draws import BLOCK, LayerDraw, draw_layers

__all__ = ["ContextSpectra", "context_spectra"]

TILE = 8192
"""Chains of all cells run at once: some twenty arrays of this length stay in a core's second-level cache."""

LARGEST_RESULT = 4 * 2**30
"""Bytes of the result above which a request is refused."""

LOG_ROOM = {"float64": 100.0, "float32": 15.0}
"""Natural-log units by which the state may have moved before it is rescaled: its squares must stay in range."""

LARGEST_STEP = 2.5
"""Times that room, what a single layer may move the state by: its squares, e^500 and e^75, are still in range."""


@dataclass(frozen=True, slots=True, eq=False)
class ContextSpectra:
    """Of J_L at some depths, for every cell and chain. Arrays of shape (depths, cells, chains), float64.

    Attributes:
        log_norm: ln ||J_L||.
        log_ratio: ln sigma_2 / sigma_1 of J_L; NaN for one context direction, -inf where sigma_2 is 0. Below
            `log_floor` it is rounding.
        log_floor: of log_ratio, shape (depths,): 4 (k + 1) eps L, as for `reduced_jacobians`.
        log_share: ln (||P_{L:2} B_1 w||^2 / ||J_L w||^2), the earliest injection's share in the direction w; above 0
            where later injections cancel it. None if it was not asked for.
        log_noise: ln (||(I - u u^T) J_L|| / ||u^T J_L||), u = u_L: the noise ratio of (P3), in the operator norm; -inf
            where nothing lies across u, inf where all does.
        log_early: ln ||P_{L:2} B_1 w||; -inf where it has died out exactly. None if the share was not asked for.
        log_early_noise: ln q / p of P_{L:2} B_1 w, across over along u_L; NaN where both are 0. None likewise.
    """

    log_norm: NDArray[np.float64]
    log_ratio: NDArray[np.float64]
    log_floor: NDArray[np.float64]
    log_share: NDArray[np.float64] | None
    log_noise: NDArray[np.float64]
    log_early: NDArray[np.float64] | None = None
    log_early_noise: NDArray[np.float64] | None = None


def context_spectra(
    cells: PhaseCells,
    dimension: int,
    depths: Sequence[int],
    *,
    chains: int,
    seed: int,
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    dtype: Literal["float64", "float32"] = "float64",
    share: bool = True,
) -> ContextSpectra:
    """Spectra of the context Jacobians of flat random chains, exact in law, in O(L) a chain at any dimension.

    Implements (T23) with the state [r^T; F], F upper triangular, written out entry by entry over arrays of chains. The
    earliest injection in the direction w is one more column: with [P_{L:2} B_1 w, J] in place of J the reduction holds
    as it stands, with nothing injected into that column, which keeps a log-scale of its own. It comes first, so that
    its coordinates do not depend on J: on one seed it scales with sigma^(L - 1) exactly, chain by chain.

    All cells are run on the same random chains, so that n chains a cell are n distinct draws however many the cells:
    intervals within a cell are right, as its chains are independent; differences between cells are correlated, and
    that makes them smoother, not more certain. A chain depends on (seed, its number, dimension, context_dimension,
    frame, dtype, share) alone: not on the other cells, the number of chains, nor on the depths asked for beside.

    Args:
        cells: the numbers of each cell.
        dimension: d >= context_dimension + 1.
        depths: numbers of layers, each >= 1.
        chains: n >= 1 for each cell.
        seed: >= 0.
        context_dimension: m, 1 or 2.
        frame: "across": Q_l has m orthonormal columns, Haar across u_l, as `inject_coherent`. "isotropic": Haar in R^d;
            with along = 0 the injections are random.
        dtype: of the draws and the recurrence; scales and results are float64.
        share: whether to carry the earliest injection.

    Raises:
        ValueError: if an argument leaves its range, one layer would leave that of dtype, or the result 4 GiB.
    """
    d, n, m = (
        int(natural(value, name))
        for value, name in ((dimension, "dimension"), (chains, "chains"), (context_dimension, "context_dimension"))
    )
    root = int(natural(seed, "seed", least=0))
    layers = depth_list(depths)
    if m > 2:
        raise ValueError(f"context_dimension must be 1 or 2 (reduced_jacobians takes any); got {m}")
    if d < m + 1:
        raise ValueError(f"dimension must be at least context_dimension + 1 = {m + 1}; got {d}")
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    if dtype not in LOG_ROOM:
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    kept = 6 if share else 3
    bytes_needed = 8 * kept * layers.size * len(cells) * n
    if bytes_needed > LARGEST_RESULT:
        raise ValueError(f"cells x chains x depths must need at most 4 GiB; got {bytes_needed / 2**30:.3g} GiB")
    found = np.empty((kept, layers.size, len(cells), n))
    columns, blocks = m + share, -(-n // BLOCK)
    together = min(blocks, max(1, TILE // (BLOCK * len(cells))))
    rows = max(1, TILE // (BLOCK * together))
    for begin in range(0, blocks, together):
        block = range(begin, min(begin + together, blocks))
        draws = draw_layers(
            root,
            block,
            int(layers.max()),
            d,
            shown=columns,
            context_dimension=m,
            isotropic=frame == "isotropic",
            dtype=dtype,
        )
        at = slice(begin * BLOCK, min(block.stop * BLOCK, n))
        parts = [slice(first, first + rows) for first in range(0, len(cells), rows)]
        shared: Iterable[LayerDraw] = draws if len(parts) == 1 else list(draws)  # kept only where cells share them
        for part in parts:
            run = _Run(cells.at(part), d, m, columns, frame == "isotropic", dtype)
            for depth, results in run.through(shared, set(layers.tolist())):
                for where in np.flatnonzero(layers == depth):
                    for value, store in zip(results, found, strict=True):
                        store[where, part, at] = value[:, : at.stop - at.start]
    floor = np.log(4.0 * (columns + 1) * float(np.finfo(dtype).eps) * layers)
    early = (found[3], found[4], found[5]) if share else (None, None, None)
    return ContextSpectra(found[0], found[1], floor, early[0], found[2], early[1], early[2])


class _Run:
    """The recurrence over one tile of cells and chains."""

    def __init__(self, cells: PhaseCells, d: int, m: int, columns: int, isotropic: bool, dtype: str) -> None:
        kappa = cells.alignment
        numbers = (kappa, np.sqrt((1 - kappa) * (1 + kappa)), cells.sigma, cells.sigma * cells.gap)
        self.kappa, self.s, self.sigma, self.spread = (x.astype(dtype)[:, None] for x in numbers)
        self.along, self.injected = cells.along[:, None], cells.injected[:, None]
        self.m, self.columns, self.early, self.isotropic, self.dtype = m, columns, columns - m, isotropic, dtype
        rate = np.maximum(np.maximum(kappa, cells.gap), 1 / math.sqrt(d))
        moved = max(float(np.log1p(cells.sigma).max()), -float(np.log(cells.sigma * rate).min()))
        if moved > LARGEST_STEP * LOG_ROOM[dtype]:
            raise ValueError(f"sigma must keep one layer's product within {dtype}; it would change it by e^{moved:.0f}")
        self.every = max(1, int(LOG_ROOM[dtype] / moved))

    def through(self, draws: Iterable[LayerDraw], depths: set[int]) -> Any:
        """Yields each wanted depth with ln ||J||, ln ratio and, where it is carried, ln share."""
        power = early_power = np.frexp(np.maximum(self.along, self.injected))[1].astype(np.int64)
        along, injected = self._shrunk(power)
        zero = np.zeros_like(self.kappa)
        r: list[Any] = [zero] * self.columns
        f: list[Any] = [[zero] * (j + 1) for j in range(self.columns)]
        jacobian = range(self.early, self.columns)
        for layer, draw in enumerate(draws):
            if layer:
                r, f = self._propagated(r, f, draw)
            r, f = self._injected(r, f, draw, along, injected)
            if not layer and self.early:  # its column is that of w, so the second row of F is free
                zero = np.zeros_like(r[1])
                r, f = [r[1], *r[1:]], [[f[1][1]], *([x[1], zero, *x[2:]] for x in f[1:])]
            wanted = layer + 1 in depths
            if wanted or layer % self.every == 0:
                power = power + self._halved(r, f, jacobian)
                if self.early:
                    early_power = early_power + self._halved(r, f, range(1))
                along, injected = self._shrunk(power)
            if wanted:
                yield layer + 1, self._read(r, f, power, early_power)

    def _shrunk(self, power: Any) -> tuple[Any, Any]:
        """The injections on the scale of the state: 0 where they are beyond its rounding by far."""
        with np.errstate(under="ignore"):
            return np.ldexp(self.along, -power).astype(self.dtype), np.ldexp(self.injected, -power).astype(self.dtype)

    def _propagated(self, r: list[Any], f: list[Any], draw: LayerDraw) -> tuple[list[Any], list[Any]]:
        """A_l on the state: t = M^T v, then the root I - v v^T / (1 + sqrt(1 - |v|^2)) of I - v v^T, M = [r^T; F]."""
        v = [self.kappa, *(self.s * x for x in draw.new)]
        damped = 1 / (1 + self.s * draw.beyond)
        scaled = [x * damped for x in v]
        moved, across = [], []
        for first, column in zip(r, f, strict=True):
            t = v[0] * first
            for x, y in zip(v[1:], column, strict=False):
                t = t + x * y
            rest = [y - x * t for x, y in zip(scaled[1:], column, strict=False)]
            beyond = [-(x * t) for x in scaled[1 + len(column) :]]
            moved.append(self.sigma * t)
            across.append([first - scaled[0] * t, *rest, *beyond])
        return moved, [[self.spread * x for x in column] for column in triangular(across)]

    def _injected(
        self, r: list[Any], f: list[Any], draw: LayerDraw, along: Any, injected: Any
    ) -> tuple[list[Any], list[Any]]:
        w, top = self.early, draw.top
        r = [*r[:w], r[w] + along, *r[w + 1 :]]
        if self.isotropic:
            r = [*r[:w], *(x + injected * y for x, y in zip(r[w:], top[0], strict=True))]
            top = top[1:]
        columns = [column + [None] * (len(top) - len(column) + self.m) for column in f[:w]]
        for j, column in enumerate(f[w:]):
            whole = [x + injected * row[j] for x, row in zip(column, top, strict=False)]
            whole += [injected * row[j] for row in top[len(column) :]]
            whole += [injected * row[j] if i <= j else None for i, row in enumerate(draw.rest)]
            columns.append(whole)
        return r, triangular(columns)

    def _halved(self, r: list[Any], f: list[Any], which: range) -> Any:
        """Takes the size of some columns out of them, in place, as a power of two; 0 where they are 0.

        Powers of two are exact: when a chain is rescaled, which depends on the cells run beside it, changes no bit.
        """
        power = np.frexp(np.sqrt(sum(r[j] * r[j] + sum(x * x for x in f[j]) for j in which)))[1]
        factor = np.ldexp(np.ones(1, dtype=self.dtype), -power)
        for j in which:
            r[j], f[j] = r[j] * factor, [x * factor for x in f[j]]
        return power

    def _read(self, r: list[Any], f: list[Any], power: Any, early_power: Any) -> list[Any]:
        jacobian = range(self.early, self.columns)
        columns = [[r[j], *f[j], *[None] * (self.columns - 1 - j)] for j in jacobian]
        log_norm, log_ratio = log_two_singular(columns)
        across, _ = log_two_singular([column[1:] for column in columns])
        with np.errstate(divide="ignore", invalid="ignore"):  # a part that has died out exactly has logarithm -inf
            along = np.log(sum(r[j] * r[j] for j in jacobian), dtype=np.float64) / 2
            results = [log_norm + math.log(2) * power, log_ratio, across - along]
            if self.early:
                early, whole = (np.log(sum(x * x for x in [r[j], *f[j]]), dtype=np.float64) for j in range(2))
                results.append(early - whole + 2 * math.log(2) * (early_power - power))
                results.append(early / 2 + math.log(2) * early_power)
                results.append(np.log(np.abs(f[0][0]), dtype=np.float64) - np.log(np.abs(r[0]), dtype=np.float64))
        return results
