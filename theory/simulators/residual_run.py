"""The recurrence of the residual family over one tile of cells and chains (T32)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.simulators._small import log_two_singular
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.residual_draws import ResidualDraw, gram_schmidt

__all__ = ["LOG_ROOM", "ResidualRun"]

LOG_ROOM = {"float64": 100.0, "float32": 15.0}
"""Natural-log units by which the state may have moved before it is rescaled: its squares must stay in range."""


class ResidualRun:
    """The recurrence over one tile of cells and chains. State: columns p of shape (r, ...) and R of (j + 1, ...)."""

    def __init__(self, cells: ResidualCells, d: int, r: int, m: int, columns: int, isotropic: bool, dtype: str) -> None:
        tau, kappa, omega, self.d = cells.strength, cells.alignment, cells.persistence, d
        s, turned = (np.sqrt((1 - x) * (1 + x)) for x in (kappa, omega))
        numbers = (omega + tau * kappa, tau * s, omega, turned)
        self.outlier, self.reads, self.omega, self.turned = (x.astype(dtype)[:, None] for x in numbers)
        self.along, self.injected = cells.along[:, None], cells.injected[:, None]
        self.r, self.m, self.columns, self.early = r, m, columns, columns - m
        self.tight = d - r < columns  # by one at most
        self.isotropic, self.dtype, self.random = isotropic, dtype, bool((cells.injected > 0).any())
        self.bulk = (cells.bulk / math.sqrt(d)).astype(dtype)[:, None] if (cells.bulk > 0).any() else None
        # ||A|| + 1 at least, as ||G|| is seldom above 2; a layer that shrinks a column much is a rare draw.
        moved = float(np.log1p(1 + tau + 4 * cells.bulk).max())
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
        """A_l on the state: X'^T A J along the new frame; across it J loses X'^T J, and F adds nothing but its bulk."""
        r, moved, across = self.r, [], []
        for first, column in zip(p, f, strict=True):
            written = _combined(draw.written, column, r)
            read = _combined(draw.read, column, r)
            moved.append(self.outlier * first + self.turned * written + self.reads * read)
            left = self.turned * first - self.omega * written
            across.append(np.concatenate([left, _combined(draw.unseen, column, len(column))]))
        if self.bulk is not None and draw.bulk is not None:
            whole = gram_schmidt([np.concatenate([x, y]) for x, y in zip(p, f, strict=True)])[1]
            for j, column in enumerate(whole):
                spread = self.bulk * _combined(draw.bulk, column, len(draw.bulk[j]))
                moved[j] = moved[j] + spread[:r]
                spread[r : r + len(across[j])] += across[j]
                across[j] = spread[r:]
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
