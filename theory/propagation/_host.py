"""Chains on the host: NumPy leaves, checked once, cut into pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.chains.chain import Chain
from theory.chains.factored import Factored

__all__ = ["flat_batch", "frobenius", "host_chain", "layer_range", "layer_sizes", "pieces", "refuse_non_finite"]

PIECE_BYTES = 2**20
"""Memory of one layer of one piece of a batch, bytes: near a core's second-level cache, and enough chains to share the
cost of a call (5 % faster than half of it at d = 16)."""


def host_chain(chain: Chain, dtype: Any = None) -> Chain:
    """The chain with NumPy leaves, of another precision if asked; JAX would compute float64 input in float32.

    Raises:
        TypeError: if it is no Chain.
    """
    if not isinstance(chain, Chain):
        raise TypeError(f"chain must be a theory.Chain; got {type(chain).__name__}: see theory.chain_of_layers")
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype=dtype), chain)


def refuse_non_finite(chain: Chain) -> None:
    """Raise ValueError if an entry is NaN or infinite: a QR or SVD of it may return plausible numbers."""
    for name in ("sigma", "u", "v", "residual", "injection"):
        for leaf in jax.tree.leaves(getattr(chain, name)):
            if not np.isfinite(leaf).all():
                raise ValueError(f"{name} must be finite; got {float(leaf[~np.isfinite(leaf)][0])!r} in it")


def flat_batch(chain: Chain) -> tuple[Chain, tuple[int, ...]]:
    """The chain with one leading axis, and the batch shape it had."""
    batch = tuple(chain.sigma.shape[:-1])
    rows = int(np.prod(batch))
    return jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[len(batch) :]), chain), batch


def pieces(chain: Chain) -> Iterator[tuple[slice, Chain]]:
    """Consecutive rows of a flat batch, as many at a time as stay in cache."""
    rows, d = chain.sigma.shape[0], chain.dimension
    step = max(1, PIECE_BYTES // (d * d * chain.dtype.itemsize))
    for begin in range(0, rows, step):
        rows_of_piece = slice(begin, min(rows, begin + step))
        yield rows_of_piece, jax.tree.map(lambda leaf, at=rows_of_piece: leaf[at], chain)


def layer_sizes(chain: Chain) -> NDArray[np.float64]:
    """Sizes of the terms that rounding sees in A_l x, per unit of ||x||, shape (..., L): at least ||A_l||."""
    residual = chain.residual
    if isinstance(residual, Factored):
        rest = np.abs(residual.shift) + frobenius(residual.left) * frobenius(residual.right)
    else:
        rest = frobenius(np.asarray(residual))
    return np.asarray(np.abs(chain.sigma) + rest, dtype=np.float64)


def frobenius(matrices: Any) -> NDArray[np.float64]:
    """Frobenius norms over the last two axes, float64, whatever the size of the entries; NaN and inf stay."""
    with np.errstate(over="ignore", under="ignore"):
        rows = matrices.reshape(*matrices.shape[:-2], -1)
        square = np.asarray(np.vecdot(rows, rows), dtype=np.float64)
    tiny = float(np.finfo(matrices.dtype).tiny) / float(np.finfo(matrices.dtype).eps) ** 2
    if square.size and tiny < square.min() and square.max() < np.inf:  # False for a NaN
        return np.sqrt(square)
    largest = np.abs(matrices).max(axis=(-2, -1), initial=0).astype(np.float64)
    safe = np.where(largest > 0, largest, 1.0)
    return largest * np.sqrt(np.sum((matrices / safe[..., None, None]) ** 2, axis=(-2, -1)))


def layer_range(chain: Chain, first: int, last: int | None) -> range:
    """0-based layers first..last (1-based, inclusive).

    Raises:
        ValueError: if 1 <= first <= last <= L does not hold.
    """
    begin = int(natural(first, "first"))
    end = chain.depth if last is None else int(natural(last, "last"))
    if end > chain.depth:
        raise ValueError(f"last must be at most the depth {chain.depth}; got {last!r}")
    if begin > end:
        raise ValueError(f"first must not exceed last; got first = {begin} and last = {end}")
    return range(begin - 1, end)
