"""The recurrence of the context Jacobian and the product of propagators, with a running log-scale.

Computed in NumPy on the host, in the chain's own precision, a cache-sized piece of the batch at a time: on CPU this is
three to five times faster than a jitted scan of batched products. Cost O(L d^2 m) a chain, and the batch times that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from theory.chains.chain import Chain
from theory.chains.factored import Factored
from theory.propagation._host import flat_batch, frobenius, host_chain, layer_sizes, pieces, refuse_non_finite
from theory.propagation._powers import halved, log_of, plus
from theory.propagation.scaled import Scaled

__all__ = ["Track", "context_jacobians", "context_jacobians_and_products", "products", "propagate"]

STORED_BYTES = 4 * 2**30
"""Largest result that keeps every depth, bytes; beyond it `last_only=True` or a `jacobian_profile` is asked for."""

PROBE_FACTOR = 16.0
"""Errors of a whole matrix over that of the one column that stands for them; 9.4 was the largest seen in 48 chains."""

SAFE_SQUARES = {np.dtype(np.float32): (1e-12, 1e12), np.dtype(np.float64): (1e-60, 1e60)}
"""Squared Frobenius norms between which a matrix needs no rescaling before one more layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """How one quantity went through a flat batch, at every depth, each of shape (rows, L).

    Attributes:
        norms: Frobenius norms of the matrices as they were held.
        powers: their powers of two.
        rounding: relative rounding, as in `Scaled`.
    """

    norms: NDArray[np.float64]
    powers: NDArray[np.int64]
    rounding: NDArray[np.float64]


class _Layers:
    """Products with the layers of one piece; a dense layer is put together where that costs less than its parts."""

    def __init__(self, chain: Chain, columns: int) -> None:
        rows, d = chain.sigma.shape[0], chain.dimension
        self.chain = chain
        self.whole = not isinstance(chain.residual, Factored) and 8 * columns > d
        self.propagator = np.empty((rows, d, d), dtype=chain.dtype) if self.whole else None
        self.sizes = None if self.whole else layer_sizes(chain)
        self.target = chain.sigma[:, :, None] * chain.u

    def assembled(self, layer: int) -> NDArray[Any]:
        """A_l, dense."""
        if self.propagator is None:
            eye = np.eye(self.chain.dimension, dtype=self.chain.dtype)
            return np.asarray(self.chain.apply(layer, np.broadcast_to(eye, (self.target.shape[0], *eye.shape))))
        np.einsum("ni,nj->nij", self.target[:, layer], self.chain.v[:, layer], out=self.propagator)
        self.propagator += np.asarray(self.chain.residual)[:, layer]
        return self.propagator

    def moved(self, layer: int, x: NDArray[Any], out: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """(A_l x^T)^T, perhaps in `out`, and the size of the terms of A_l."""
        if self.sizes is not None:
            return _turned(np.asarray(self.chain.apply(layer, _turned(x)))), self.sizes[:, layer]
        a = self.assembled(layer)
        return np.matmul(x, _turned(a), out=out), frobenius(a)


def _turned(x: NDArray[Any]) -> NDArray[Any]:
    return x.swapaxes(-1, -2)


def propagate(
    chain: Chain, *, product: bool, jacobian: bool, visit: Callable[[slice, int, NDArray[Any]], None]
) -> list[Track]:
    """Run P_{l:1} = A_l P_{l-1:1} and J_l = A_l J_{l-1} + B_l through a flat batch of host chains, in one pass.

    Args:
        chain: one leading axis, NumPy leaves.
        product: whether P is asked for: d columns.
        jacobian: whether J is: m columns, after those of P.
        visit: called with (rows, 0-based layer, matrices of these rows but for their powers of two); it may not keep
            or change the matrices. Transposed they lie one quantity after the other in memory, and are so kept.

    Returns:
        A list of a Track for each quantity that was asked for, P first.

    Raises:
        ValueError: if an entry is not finite, or one layer leaves the range of the chain's precision.
    """
    with np.errstate(over="ignore"):
        return _propagate(chain, product, jacobian, visit)


def _propagate(
    chain: Chain, product: bool, jacobian: bool, visit: Callable[[slice, int, NDArray[Any]], None]
) -> list[Track]:
    rows, depth = chain.sigma.shape
    d = chain.dimension
    low, high = SAFE_SQUARES[chain.dtype]
    columns = d * product + chain.context_dimension * jacobian
    blocks = [slice(0, d)] * product + [slice(d * product, columns)] * jacobian
    squares = np.empty((len(blocks), rows, depth))
    powers = np.zeros((len(blocks), rows, depth), dtype=np.int64)
    sizes, strays = np.ones((rows, depth)), np.zeros((len(blocks), rows, depth))
    sources = frobenius(chain.injection) if jacobian else np.zeros((rows, depth))
    probes = _probes(depth, d, chain.dtype)
    for at, part in pieces(chain):
        layers = _Layers(part, columns)
        # The last columns hold an error of each quantity, which goes through the layers beside it.
        x = np.zeros((part.sigma.shape[0], columns + len(blocks), d), dtype=chain.dtype)
        spare = np.empty_like(x)
        if product:
            x[:, blocks[0]] = _turned(layers.assembled(0))
        added = part.injection.swapaxes(-1, -2)
        if jacobian:
            x[:, blocks[-1]] = added[:, 0]
        for layer in range(depth):
            power = powers[:, at, max(layer - 1, 0)].copy()
            if layer:
                moved, sizes[at, layer] = layers.moved(layer, x, spare)
                x, spare = moved, x
                made = sizes[at, layer] * np.sqrt(squares[:, at, layer - 1])
                before, plain = power.copy(), not power[-1].any()
                if plain:
                    made[-1] += sources[at, layer]
                if jacobian:
                    end = x[:, blocks[-1]]
                    if not plain:
                        end[...], power[-1] = plus(end, power[-1], added[:, layer], 0)
                    else:
                        end += added[:, layer]
            for index, block in enumerate(blocks):
                held = x[:, block]
                square = _squared(held)
                if not (low < square.min() and square.max() < high):
                    held[...], power[index] = halved(held, power[index])
                    square = _squared(held)
                squares[index, at, layer] = square
            if layer:
                stray = x[:, columns:]
                stray += made.T[:, :, None] * probes[layer]
                if (before != power).any():
                    stray[...] = np.ldexp(stray, (before - power).T[:, :, None])
                if not plain:
                    stray[:, -1] += np.ldexp(sources[at, layer], -power[-1])[:, None] * probes[layer]
                strays[:, at, layer] = _held_down(stray, squares[:, at, layer], probes[layer])
            powers[:, at, layer] = power
            visit(at, layer, _turned(x[:, :columns]))
        if not (np.isfinite(squares[:, at]).all() and (product or _first_is_finite(part))):
            refuse_non_finite(part)
            raise ValueError(f"sigma and residual must keep one layer's product within {chain.dtype}; it overflowed")
    tracks = []
    for index, block in enumerate(blocks):
        norms = np.sqrt(squares[index])
        terms = sources if jacobian and index == len(blocks) - 1 else np.zeros((rows, depth))
        rounding = _rounding(chain, log_of(norms, powers[index]), sizes, terms, block.stop - block.start)
        with np.errstate(divide="ignore", invalid="ignore"):
            followed = np.where(strays[index] > 0, PROBE_FACTOR * strays[index] / norms, 0.0)
        tracks.append(Track(norms, powers[index], np.fmax(rounding, followed)))
    return tracks


def _probes(depth: int, dimension: int, dtype: np.dtype) -> NDArray[Any]:
    """eps times one fixed random unit vector a layer, shape (L, d)."""
    vectors = np.random.default_rng(0).standard_normal((depth, dimension))
    vectors *= float(np.finfo(dtype).eps) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(dtype)


def _squared(matrices: NDArray[Any]) -> NDArray[Any]:
    """Squared Frobenius norms, shape (n,)."""
    rows = matrices.reshape(matrices.shape[0], -1)
    return np.vecdot(rows, rows)


def _held_down(stray: NDArray[Any], squares: NDArray[np.float64], probe: NDArray[Any]) -> NDArray[np.float64]:
    """Norms of the errors, shape (quantities, n); one that outgrows its quantity has made it, and is set to its size.

    Args:
        stray: shape (n, quantities, d), changed in place.
        squares: squared norms of the quantities, shape (quantities, n).
        probe: eps times a unit vector.
    """
    found = np.vecdot(stray, stray).T
    beyond = ~(found <= squares)
    if beyond.any():
        unit = probe / np.linalg.norm(probe)
        stray[beyond.T] = np.sqrt(squares.T[beyond.T])[:, None] * unit
        found = np.where(beyond, squares, found)
    return np.sqrt(found)


def _first_is_finite(chain: Chain) -> bool:
    """J_1 = B_1 does not read A_1; every other entry that is not finite shows in a norm."""
    read = (chain.sigma, chain.u, chain.v, chain.residual)
    return all(np.isfinite(leaf[:, 0]).all() for leaf in jax.tree.leaves(read))


def _rounding(
    chain: Chain,
    log_norm: NDArray[np.float64],
    sizes: NDArray[np.float64],
    added: NDArray[np.float64],
    columns: int,
) -> NDArray[np.float64]:
    """The sum in `Scaled.rounding`, at every depth; the first layer is exact but for A_1."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        terms = np.logaddexp(np.log(sizes[:, 1:]) + log_norm[:, :-1], np.log(added[:, 1:])) - log_norm[:, 1:]
        lost = np.where(np.isnan(terms), 0.0, np.exp(terms))  # a zero matrix of zero terms lost nothing
    total = np.concatenate([np.zeros((lost.shape[0], 1)), np.cumsum(lost, axis=1)], axis=1)
    return float(np.finfo(chain.dtype).eps) * (max(chain.dimension, columns) + 2.0 * total)


def _collected(chain: Chain, *, product: bool, jacobian: bool, last_only: bool) -> list[Scaled]:
    flat, batch = flat_batch(host_chain(chain))
    rows, depth = flat.sigma.shape
    d = flat.dimension
    kept = 1 if last_only else depth
    columns = [d] * product + [flat.context_dimension] * jacobian
    if rows * kept * d * sum(columns) * flat.dtype.itemsize > STORED_BYTES:
        raise ValueError(
            f"last_only must be True for a result beyond {STORED_BYTES / 2**30:g} GiB (or use jacobian_profile); "
            f"got {rows} chains of {depth} layers of {d} x {sum(columns)}"
        )
    stored = [np.empty((rows, kept, d, width), dtype=flat.dtype) for width in columns]

    def visit(at: slice, layer: int, x: NDArray[Any]) -> None:
        if layer >= depth - kept:
            begin = 0
            for matrix in stored:
                matrix[at, layer - depth + kept] = x[..., begin : begin + matrix.shape[-1]]
                begin += matrix.shape[-1]

    tracks = propagate(flat, product=product, jacobian=jacobian, visit=visit)
    shape = batch if last_only else (*batch, depth)
    found = []
    for matrix, track in zip(stored, tracks, strict=True):
        norms = track.norms[:, depth - kept :]
        matrix *= (1 / np.where(norms > 0, norms, 1.0))[..., None, None].astype(flat.dtype)
        log_scale = log_of(norms, track.powers[:, depth - kept :]).reshape(shape)
        rounding = track.rounding[:, depth - kept :].reshape(shape)
        found.append(Scaled(matrix.reshape(*shape, *matrix.shape[2:]), log_scale, rounding))
    return found


def context_jacobians_and_products(chain: Chain, *, last_only: bool = True) -> tuple[Scaled, Scaled]:
    """J_L and P_{L:1} from one pass through the layers, each as `context_jacobians` and `products` give it.

    Implements (T2).

    Args:
        chain: batched over any leading axes.
        last_only: keep the last depth alone.

    Returns:
        J of shape (..., d, m) and P of shape (..., d, d), with an axis of L before these unless last_only.

    Raises:
        ValueError: if an entry is not finite, or the result would not fit in memory.
    """
    product, jacobian = _collected(chain, product=True, jacobian=True, last_only=last_only)
    return jacobian, product


def context_jacobians(chain: Chain, *, last_only: bool = False) -> Scaled:
    """J_1 .. J_L by the recurrence J_l = A_l J_{l-1} + B_l from J_0 = 0, in the chain's precision.

    Implements (T2), paper eq. 2. A chain with J_0 != 0 is the same chain with B_1 replaced by B_1 + A_1 J_0. A factored
    chain never makes a d x d matrix: O(L d r m).

    Args:
        chain: batched over any leading axes.
        last_only: keep J_L alone.

    Returns:
        Scaled matrices of shape (..., L, d, m), or (..., d, m) for the last alone.

    Raises:
        ValueError: if an entry is not finite, or the result would not fit in memory.
    """
    return _collected(chain, product=False, jacobian=True, last_only=last_only)[0]


def products(chain: Chain, *, last_only: bool = False) -> Scaled:
    """P_{1:1} .. P_{L:1}, products A_l ... A_1 of the propagators, in the chain's precision.

    Implements (T2).

    Args:
        chain: batched over any leading axes.
        last_only: keep P_{L:1} alone.

    Returns:
        Scaled matrices of shape (..., L, d, d), or (..., d, d) for the last alone.

    Raises:
        ValueError: if an entry is not finite, or the result would not fit in memory.
    """
    return _collected(chain, product=True, jacobian=False, last_only=last_only)[0]
