"""One layer of the reduced recurrence (T23), written once over an array namespace: NumPy's or JAX's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.simulators._small import log_two_singular, triangular
from theory.simulators.cells import PhaseCells
from theory.simulators.draws import LayerDraw

__all__ = ["LOG_ROOM", "Numbers", "Recurrence", "Space", "State", "combined", "numbers_of", "rescale_every"]

LOG_ROOM = {"float64": 100.0, "float32": 15.0}
"""Natural-log units by which the state may have moved before it is rescaled: its squares must stay in range."""

LARGEST_STEP = 2.5
"""Times that room, what a single layer may move the state by: its squares, e^500 and e^75, are still in range."""


class Space(Protocol):
    """What the recurrence asks of an array library beside elementwise arithmetic."""

    xp: Any
    """The module: numpy or jax.numpy."""

    def exponent(self, x: Any) -> Any:
        """An integer e with x / 2^e between 1/4 and 2, for x > 0, and 0 for 0."""
        ...

    def scaled(self, x: Any, power: Any) -> Any:
        """x 2^power, exactly, or 0 where that lies below the range."""
        ...

    def wide(self, x: Any) -> Any:
        """x in the precision in which logarithms are taken."""
        ...


class Numbers(NamedTuple):
    """The numbers of C cells as the recurrence takes them, each of shape (C, 1).

    along and injected are float64 and at most 1, the scale taken out of them; the others are of the chosen dtype.
    """

    kappa: Any
    across: Any
    sigma: Any
    spread: Any
    along: Any
    injected: Any


class State(NamedTuple):
    """[r^T; F] column by column, each entry of shape (cells, chains), times 2^power.

    The earliest injection, where it is carried, is the first column, and its scale is 2^early_power. along and injected
    are the injections on the scale of J: 0 where they lie beyond its rounding by far.
    """

    r: list[Any]
    f: list[list[Any]]
    power: Any
    early_power: Any
    along: Any
    injected: Any


def numbers_of(cells: PhaseCells, dtype: str) -> tuple[Numbers, NDArray[np.int64]]:
    """Numbers of the cells on the host, and the power of two taken out of the injections, shape (C, 1)."""
    kappa = cells.alignment
    chain = (kappa, np.sqrt((1 - kappa) * (1 + kappa)), cells.sigma, cells.sigma * cells.gap)
    power = np.frexp(np.maximum(cells.along, cells.injected))[1].astype(np.int64)[:, None]
    with np.errstate(under="ignore"):
        injections = [np.ldexp(x[:, None], -power) for x in (cells.along, cells.injected)]
    return Numbers(*(x.astype(dtype)[:, None] for x in chain), *injections), power


def rescale_every(cells: PhaseCells, dimension: int, dtype: str) -> int:
    """Layers that may pass before the state is rescaled.

    Raises:
        ValueError: if one layer could move the state out of the range of dtype.
    """
    rate = np.maximum(np.maximum(cells.alignment, cells.gap), 1 / math.sqrt(dimension))
    moved = max(float(np.log1p(cells.sigma).max()), -float(np.log(cells.sigma * rate).min()))
    if moved > LARGEST_STEP * LOG_ROOM[dtype]:
        raise ValueError(f"sigma must keep one layer's product within {dtype}; it would change it by e^{moved:.0f}")
    return max(1, int(LOG_ROOM[dtype] / moved))


def combined(logs: Sequence[Any], power: Any, early_power: Any) -> list[Any]:
    """What `Recurrence.logs` gives with the scales put back, in the order of its docstring; float64 on the host."""
    results = [logs[0] + math.log(2) * power, *logs[1:3]]
    if len(logs) > 3:
        results.append(logs[3] + 2 * math.log(2) * (early_power - power))
        results.append(logs[4] + math.log(2) * early_power)
        results.append(logs[5])
    return results


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The recurrence over some cells and chains; every method is a pure function of arrays.

    Attributes:
        numbers: of the cells.
        dimension: d >= m + 1.
        context_dimension: m, 1 or 2.
        early: whether the earliest injection is carried as one more column.
        isotropic: whether the injected frame has a row along u.
        space: the array library.
        dtype: of the state.
    """

    numbers: Numbers
    dimension: int
    context_dimension: int
    early: bool
    isotropic: bool
    space: Space
    dtype: Any

    @property
    def columns(self) -> int:
        """m, and one for the earliest injection."""
        return self.context_dimension + self.early

    def first(self, draw: LayerDraw) -> State:
        """The state after the first injection, on the scale of `numbers`."""
        zero = self.space.xp.zeros_like(self.numbers.kappa)
        r: list[Any] = [zero] * self.columns
        f: list[Any] = [[zero] * (j + 1) for j in range(self.columns)]
        power = self.space.exponent(zero)
        along, injected = self._shrunk(power)
        r, f = self._injected(r, f, along, injected, draw)
        if self.early:  # its column is that of w, so the second row of F is free
            zero = self.space.xp.zeros_like(r[1])
            r, f = [r[1], *r[1:]], self._folded([[f[1][1]], *([x[1], zero, *x[2:]] for x in f[1:])])
        return State(r, f, power, power, along, injected)

    def next(self, state: State, draw: LayerDraw) -> State:
        """One more layer: A_l on the state and what it injects."""
        r, f = self._propagated(state.r, state.f, draw)
        r, f = self._injected(r, f, state.along, state.injected, draw)
        return state._replace(r=r, f=self._folded(f))

    def rescaled(self, state: State) -> State:
        """The same state with the sizes of J and of the earliest injection taken out as powers of two.

        Powers of two are exact: when a chain is rescaled, which depends on the cells run beside it, changes no bit.
        """
        r, f = list(state.r), list(state.f)
        power = state.power + self._halved(r, f, range(self.early, self.columns))
        early_power = state.early_power + self._halved(r, f, range(1)) if self.early else state.early_power
        return State(r, f, power, early_power, *self._shrunk(power))

    def _shrunk(self, power: Any) -> list[Any]:
        injections = (self.numbers.along, self.numbers.injected)
        return [self.space.scaled(x, -power).astype(self.dtype) for x in injections]

    def logs(self, state: State) -> list[Any]:
        """ln ||J||, ln sigma_2 / sigma_1, ln noise ratio and, where the earliest injection is carried, ln of its share,
        ln of its length and ln of its q / p, all without the scales, which `combined` puts back."""
        xp, wide, (r, f, *_) = self.space.xp, self.space.wide, state
        jacobian = range(self.early, self.columns)
        columns = [[r[j], *f[j], *[None] * (self.columns - 1 - j)] for j in jacobian]
        log_norm, log_ratio = log_two_singular(columns, xp)
        across, _ = log_two_singular([column[1:] for column in columns], xp)
        with np.errstate(divide="ignore", invalid="ignore"):  # a part that has died out exactly has logarithm -inf
            results = [log_norm, log_ratio, across - xp.log(wide(sum(r[j] * r[j] for j in jacobian))) / 2]
            if self.early:
                early, whole = (xp.log(wide(sum(x * x for x in [r[j], *f[j]]))) for j in range(2))
                slope = xp.log(wide(xp.abs(f[0][0]))) - xp.log(wide(xp.abs(r[0])))
                results += [early - whole, early / 2, slope]
        return results

    def _propagated(self, r: list[Any], f: list[Any], draw: LayerDraw) -> tuple[list[Any], list[Any]]:
        """A_l on the state: t = M^T v, then the root I - v v^T / (1 + sqrt(1 - |v|^2)) of I - v v^T, M = [r^T; F]."""
        kappa, s, sigma, spread, *_ = self.numbers
        v = [kappa, *(s * x for x in draw.new)]
        damped = 1 / (1 + s * draw.beyond)
        scaled = [x * damped for x in v]
        moved, across = [], []
        for first, column in zip(r, f, strict=True):
            t = v[0] * first
            for x, y in zip(v[1:], column, strict=False):
                t = t + x * y
            rest = [y - x * t for x, y in zip(scaled[1:], column, strict=False)]
            beyond = [-(x * t) for x in scaled[1 + len(column) :]]
            moved.append(sigma * t)
            across.append([first - scaled[0] * t, *rest, *beyond])
        return moved, [[spread * x for x in column] for column in self._folded(triangular(across, self.space.xp))]

    def _injected(
        self, r: list[Any], f: list[Any], along: Any, injected: Any, draw: LayerDraw
    ) -> tuple[list[Any], list[Any]]:
        w, top = int(self.early), draw.top
        r = [*r[:w], r[w] + along, *r[w + 1 :]]
        if self.isotropic:
            r = [*r[:w], *(x + injected * y for x, y in zip(r[w:], top[0], strict=True))]
            top = top[1:]
        columns = [column + [None] * (len(top) - len(column) + self.context_dimension) for column in f[:w]]
        for j, column in enumerate(f[w:]):
            whole = [x + injected * row[j] for x, row in zip(column, top, strict=False)]
            whole += [injected * row[j] for row in top[len(column) :]]
            whole += [injected * row[j] if i <= j else None for i, row in enumerate(draw.rest)]
            columns.append(whole)
        return r, triangular(columns, self.space.xp)

    def _folded(self, f: list[list[Any]]) -> list[list[Any]]:
        """At d = m + 1 with the earliest injection, F of m + 1 columns in m coordinates: no use of one that is not.

        Two things leave a row of the triangular root empty and need the last one, which does not exist. Where the
        earliest injection has nothing across u, F_00 = 0, the first row is empty and the others move up. Where the
        earliest injection and J w are parallel, as at first, the second row is 0 or rounding, and what the last column
        has in the third belongs into it; elsewhere that is rounding itself.
        """
        if self.dimension - 1 >= self.columns:
            return f
        xp = self.space.xp
        if self.columns == 3:
            dead, (a, b), (x, y, z) = f[0][0] == 0, f[1], f[2]
            zero = xp.zeros_like(z)
            second = [xp.where(dead, b, a), xp.where(dead, zero, b)]
            f = [f[0], second, [xp.where(dead, y, x), xp.where(dead, z, y), xp.where(dead, zero, z)]]
        *above, x, y = f[-1]
        return [*f[:-1], [*above, xp.copysign(xp.sqrt(x * x + y * y), x), xp.zeros_like(y)]]

    def _halved(self, r: list[Any], f: list[Any], which: range) -> Any:
        """Takes the size of some columns out of them, in place, as a power of two; 0 where they are 0."""
        square = sum(r[j] * r[j] + sum(x * x for x in f[j]) for j in which)
        power = self.space.exponent(self.space.xp.sqrt(square))
        factor = self.space.scaled(self.space.xp.ones(1, dtype=self.dtype), -power)
        for j in which:
            r[j], f[j] = r[j] * factor, [x * factor for x in f[j]]
        return power
