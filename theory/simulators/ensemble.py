"""Random chains as factors, pulled back: what the structured and the dense simulator have in common, chain by chain.

Any layer is A_l = O_l S_l with S_l symmetric and O_l orthogonal, O_l v_l = u_l. Pulled back through H_l = O_l ... O_1
the rotations drop out of every spectrum (T24): with w_l = H_{l-1}^T v_l, S~_l = sigma (shift I + W_l D W_l^T), W_l =
[w_l, Y_l] orthonormal, and H_l^T B_l = along w_l w^T + injected Q_l. The flat residual has shift xi, W = w and D = 1 -
xi; the low-rank one, X Y^T with independent Haar frames, has shift 0 and D = diag(1, xi, .. xi), Y across w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from theory.simulators.cells import PhaseCells

__all__ = [
    "BULK",
    "DIRECTION",
    "FRAME",
    "PROBE",
    "TURN",
    "Draws",
    "Numbers",
    "directions",
    "orthonormal",
    "reading",
    "rows_of",
    "split",
]

DIRECTION, FRAME, PROBE, TURN, BULK = range(5)
"""Uses of random numbers; each has a stream of its own."""


class Numbers(eqx.Module):
    """The numbers of a tile of cells, each of shape (cells,), in the precision of the run."""

    kappa: Any
    s: Any
    sigma: Any
    gap: Any
    along: Any
    injected: Any

    @classmethod
    def of(cls, cells: PhaseCells, part: slice, dtype: str, unit: NDArray[np.float64]) -> Numbers:
        """Of some cells, the injections in units of `unit`; the last cell fills a part that reaches beyond it."""
        kappa = cells.alignment
        values = (kappa, np.sqrt((1 - kappa) * (1 + kappa)), cells.sigma, cells.gap)
        index = np.minimum(np.arange(part.start, part.stop), len(cells) - 1)
        return cls(*(x[index].astype(dtype) for x in (*values, cells.along / unit, cells.injected / unit)))


@dataclass(frozen=True, slots=True)
class Draws:
    """Normal variables of chains, one stream a chain and a use, layer after layer.

    A chain depends on (seed, d, its number, dtype) and, for the frames, on how many columns they have: not on the other
    chains, the cells, or the depth. Directions and frames have streams of their own, so that a request without random
    injections has the same directions and draws no frame.
    """

    seed: int
    dimension: int
    dtype: str

    def layers(self, chains: range, use: int, columns: int, lengths: list[int]) -> Iterator[NDArray[Any]]:
        """Segments of so many layers, each of shape (layers, chains, columns, d); use tells the streams apart."""
        entropy = [[self.seed, self.dimension, use, columns, chain] for chain in chains]
        streams = [np.random.default_rng(words) for words in entropy]
        kind: Any = np.dtype(self.dtype).type
        for length in lengths:
            shape = (length, columns, self.dimension)
            out = np.empty((length, len(streams), columns, self.dimension), dtype=kind)
            for index, stream in enumerate(streams):
                out[:, index] = stream.standard_normal(shape, dtype=kind)
            yield out


def orthonormal(rows: Any, against: Any) -> tuple[Any, Any]:
    """Gram-Schmidt, each row projected twice: orthonormal rows across `against`, and the triangular coefficients.

    No LAPACK. A row that depends on its forerunners becomes what rounding left of it, a zero row stays 0.

    Args:
        rows: shape (k, d).
        against: orthonormal rows, shape (j, d).

    Returns:
        Q of shape (k, d), and R upper triangular, (k, k), with rows - (part along `against`) = R^T Q.
    """
    k = rows.shape[0]
    found, triangle = jnp.zeros_like(rows), jnp.zeros((k, k), rows.dtype)

    def column(index: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        q, r = carry
        x = rows[index]
        coefficients = jnp.zeros((k,), rows.dtype)
        for _ in range(2):
            x = x - (against @ x) @ against
            part = q @ x
            x, coefficients = x - part @ q, coefficients + part
        length = jnp.sqrt(x @ x)
        x = x * (1 / jnp.where(length > 0, length, 1))
        return q.at[index].set(x), r.at[:, index].set(coefficients.at[index].set(length))

    # Straight code would compile five times as long and run a tenth faster.
    return jax.lax.fori_loop(0, k, column, (found, triangle))


def directions(numbers: Numbers, before: Any, normals: Any, first: Any) -> Any:
    """W_l: w_l = kappa w_{l-1} + s n_l, n_l uniform across w_{l-1}, and Haar rows Y_l across w_l; w_1 is uniform.

    Args:
        numbers: of one cell.
        before: w_{l-1}, shape (d,), 0 before the first layer.
        normals: shape (1 + r, d).
        first: whether l = 1.

    Returns:
        Shape (1 + r, d), orthonormal rows.
    """
    new = normals[0]
    for _ in range(2):  # the second pass removes what rounding left along w_{l-1}
        new = new - (before @ new) * before
        new = new / jnp.sqrt(new @ new)
    along = jnp.where(first, 0, numbers.kappa)
    across = jnp.where(first, 1, numbers.s)
    w = along * before + across * new
    w = w / jnp.sqrt(w @ w)
    if normals.shape[0] == 1:
        return w[None]
    return jnp.concatenate([w[None], orthonormal(normals[1:], w[None])[0]])


def rows_of(numbers: Numbers, w: Any, normals: Any | None, isotropic: bool, columns: int) -> Any:
    """(H_l^T B_l)^T, shape (m, d): along w_l in the first context direction, and a Haar frame."""
    d = w.shape[-1]
    if normals is None:
        frame = jnp.zeros((columns, d), w.dtype)
    else:
        frame, _ = orthonormal(normals, jnp.zeros((1, d), w.dtype) if isotropic else w[None])
    return (numbers.injected * frame).at[0].add(numbers.along * w)


def split(u: Any, x: Any) -> tuple[Any, Any]:
    """The part of one vector along a unit vector, and the length of the rest."""
    along = u @ x
    rest = x - along * u
    rest = rest - (u @ rest) * u
    return along, jnp.sqrt(rest @ rest)


def reading(u: Any, x: Any) -> tuple[Any, Any]:
    """Of X^T, rows the columns of J: what lies along u, shape (m,), and a triangular root of the rest, (m, m)."""
    along = x @ u
    _, root = orthonormal(x, u[None])
    return along, root
