"""Chains as dense d x d layers: the oracle of the other simulators, and what serves every spectrum of the residual.

For the flat and the low-rank family these are the structured simulator's chains, turned: A_l = O_l S_l with O_l a
Householder reflection of its own random axis, v_l = H_{l-1} w_l and B_l pushed forward likewise, so that the results
agree pathwise where (T24) holds and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from theory.chains._requests import afford
from theory.simulators.cells import PhaseCells
from theory.simulators.ensemble import BULK, DIRECTION, FRAME, TURN, Draws, Numbers, directions, reading, rows_of, split
from theory.simulators.runs import Request, Run, tile_room, tile_shape

__all__ = ["dense_runs", "layer_of", "quarter_circle_values"]

TILE_BYTES = 64 * 2**20
"""Matrices held at once on a CPU: one chain at d = 1280, thousands at d = 16."""

ACCELERATOR_TILE_BYTES = 4 * 2**30
"""The same on an accelerator."""

HELD = 6
"""d x d matrices alive at once, a chain."""


def quarter_circle_values(count: int) -> NDArray[np.float64]:
    """Quantiles of the quarter-circle law on [0, 1], density (4/pi) sqrt(1 - x^2), descending, the largest at its edge.

    The law of the singular values of a large square Gaussian matrix, in units of the largest. At the midpoints of equal
    parts of the distribution function, but for the first, which is 1, so that the gap is what it is said to be.
    """
    mass = (np.arange(count)[::-1] + 0.5) / count
    low, high = np.zeros(count), np.full(count, np.pi)  # of phi with x = sin(phi / 2): phi + sin phi = pi F(x)
    for _ in range(60):
        middle = (low + high) / 2
        below = middle + np.sin(middle) < np.pi * mass
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    values = np.sin((low + high) / 4)
    values[:1] = 1.0
    return values


class Dense(eqx.Module):
    """Of one chain of one cell: W_l, H_l, the columns X^T of [earliest, J] and P, but for powers of two."""

    frame: Any
    turn: Any
    x: Any
    product: Any
    power: Any
    early_power: Any
    product_power: Any


def layer_of(numbers: Numbers, basis: Any, axis: Any, turn: Any) -> Any:
    """A_l = O_l H_{l-1} S~_l H_{l-1}^T, dense, with O_l the reflection across `axis`.

    Args:
        numbers: of one cell.
        basis: W_l pulled back, shape (1 + r, d); r = 0 for the flat residual.
        axis: unit vector, shape (d,).
        turn: H_{l-1}, shape (d, d).
    """
    v = basis @ turn.T
    u = v - 2 * (v @ axis)[:, None] * axis
    d = axis.shape[0]
    if basis.shape[0] == 1:
        mirror = jnp.eye(d, dtype=axis.dtype) - 2 * axis[:, None] * axis
        return numbers.sigma * (numbers.gap * mirror + (1 - numbers.gap) * u[0][:, None] * v[0])
    weights = jnp.full((basis.shape[0],), numbers.gap).at[0].set(1)
    return numbers.sigma * ((weights[:, None] * u).T @ v)


def bulk_layer(numbers: Numbers, w: Any, core: Any) -> Any:
    """sigma (w w^T + xi F [0, 0; 0, core] F), F the reflection of e_1 to -+w: the layer pulled back."""
    padded = jnp.pad(core, ((1, 0), (1, 0)))
    normal = w.at[0].add(jnp.copysign(1.0, w[0]).astype(w.dtype))
    scale = 2 / (normal @ normal)
    padded = padded - scale * normal[:, None] * (normal @ padded)
    padded = padded - scale * (padded @ normal)[:, None] * normal
    return numbers.sigma * (w[:, None] * w + numbers.gap * padded)


def _step(
    numbers: Numbers, state: Dense, normals: Any, frames: Any, axis: Any, core: Any, first: Any, *, request: Request
) -> Dense:
    basis = directions(numbers, state.frame[0], normals, first)
    if core is None:
        a = layer_of(numbers, basis, axis, state.turn)
        turn = state.turn - 2 * axis[:, None] * (axis @ state.turn)
    else:
        a, turn = bulk_layer(numbers, basis[0], core), state.turn
    one = jnp.ones((), a.dtype)
    x, power, early_power = state.x, state.power, state.early_power
    if request.carried:
        early = request.early
        pulled = rows_of(numbers, basis[0], frames, request.isotropic, request.columns)
        added = jnp.ldexp(one, -power) * (pulled if core is not None else pulled @ turn.T)
        x = (x @ a.T).at[early:].add(added)
        if early:
            x = x.at[0].set(jnp.where(first, x[1], x[0]))
        moved = jnp.frexp(jnp.sqrt(jnp.sum(x[early:] ** 2)))[1]
        power, moves = power + moved, jnp.full((x.shape[0],), moved)
        if early:
            moved = jnp.frexp(jnp.sqrt(x[0] @ x[0]))[1]
            early_power, moves = early_power + moved, moves.at[0].set(moved)
        x = x * jnp.ldexp(one, -moves)[:, None]
    product, product_power = state.product, state.product_power
    if request.product:
        product = a @ product
        moved = jnp.frexp(jnp.sqrt(jnp.sum(product**2)))[1]
        product, product_power = product * jnp.ldexp(one, -moved), product_power + moved
    return Dense(basis, turn, x, product, power, early_power, product_power)


@partial(jax.jit, static_argnames=("request",), donate_argnums=(1,))
def _layer(
    numbers: Numbers, state: Dense, normals: Any, frames: Any, axis: Any, core: Any, first: Any, *, request: Request
) -> Dense:
    """One layer of a tile of cells (leading axis) and chains (second)."""
    axes = (None, 0, 0, None if frames is None else 0, 0, None if core is None else 0, None)
    over_chains = jax.vmap(partial(_step, request=request), in_axes=axes)
    return jax.vmap(over_chains, in_axes=(0, 0, *[None] * 5))(numbers, state, normals, frames, axis, core, first)


@partial(jax.jit, static_argnames=("early",))
def _read(state: Dense, *, early: bool) -> Any:
    def one(state: Dense) -> Any:
        u = state.turn @ state.frame[0]
        along, root = reading(u, state.x[early:])
        first, rest = split(u, state.x[0])
        return along, root, state.power, first, rest, state.early_power

    return jax.vmap(jax.vmap(one))(state)


def tiles(request: Request, cells: int) -> tuple[int, int]:
    """Cells and chains of one tile: a rule of the request alone."""
    whole = tile_room(TILE_BYTES, ACCELERATOR_TILE_BYTES)
    together = max(1, whole // (HELD * np.dtype(request.dtype).itemsize * request.dimension**2))
    return tile_shape(cells, request.chains, together)


def dense_runs(cells: PhaseCells, request: Request, *, quarter_circle: bool = False) -> Iterator[Run]:
    """The chains of every cell, a tile at a time; `kept` holds ln sigma_1 and ln sigma_2 / sigma_1 of P_l.

    Raises:
        ValueError: stating the bytes, if a tile would not fit in free memory.
    """
    some, together = tiles(request, len(cells))
    item = np.dtype(request.dtype).itemsize
    afford(HELD * item * some * together * request.dimension**2, f"dense chains of dimension {request.dimension}")
    parts = [slice(begin, begin + some) for begin in range(0, len(cells), some)]
    for begin in range(0, request.chains, together):
        for part in parts:
            with jax.enable_x64(request.dtype == "float64"):  # closed before the caller goes on
                run = _tile(cells, request, part, range(begin, begin + together), quarter_circle)
            yield run


def _tile(cells: PhaseCells, request: Request, part: slice, chains: range, quarter_circle: bool) -> Run:
    d, depth = request.dimension, request.depths[-1]
    draws, ones = Draws(request.seed, d, request.dtype), [1] * depth
    inner = Draws(request.seed, max(d - 1, 1), request.dtype)
    directions_of = draws.layers(chains, DIRECTION, 1 + request.rank, ones)
    framed = request.inject and bool((cells.injected > 0).any())
    frames_of = draws.layers(chains, FRAME, request.columns, ones) if framed else iter([None] * depth)
    axes_of = draws.layers(chains, TURN, 1, ones)
    cores_of = inner.layers(chains, BULK, d - 1, ones) if quarter_circle else iter([None] * depth)
    numbers = Numbers.of(cells, part, request.dtype, request.unit(cells))
    state = _start(request, (part.stop - part.start, len(chains)))
    found, values = [], []
    rows = zip(directions_of, frames_of, axes_of, cores_of, strict=True)
    for layer, (normals, frames, axes, cores) in enumerate(rows):
        axis = axes[0, :, 0] / np.linalg.norm(axes[0, :, 0], axis=-1, keepdims=True)
        core = None if cores is None else _core(cores[0])
        framing = None if frames is None else frames[0]
        state = _layer(numbers, state, normals[0], framing, axis, core, layer == 0, request=request.program)
        if layer + 1 in request.depths:
            if request.context:
                leaves = _read(state, early=request.early)
                found.append([np.asarray(leaf, dtype=np.float64) for leaf in leaves])
            if request.product:
                values.append(_values(np.asarray(state.product), np.asarray(state.product_power)))
    kept = np.stack(values) if request.product else None
    return request.run(cells, part, chains, [np.stack(leaf) for leaf in zip(*found, strict=True)], kept, 2)


def _core(normals: NDArray[Any]) -> NDArray[Any]:
    """Q diag(q) Q^T, Q Haar, shape (chains, d - 1, d - 1); the signs of Q's columns, which QR does not draw, cancel."""
    q = np.linalg.qr(normals)[0]
    values = quarter_circle_values(q.shape[-1]).astype(q.dtype)
    return np.matmul(q * values, np.swapaxes(q, -1, -2))


def _values(product: NDArray[Any], power: NDArray[np.int32]) -> NDArray[np.float64]:
    """ln sigma_1 and ln sigma_2 / sigma_1, on a leading axis; LAPACK stays outside jit."""
    s = np.linalg.svd(np.asarray(product, dtype=np.float64), compute_uv=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([np.log(s[..., 0]) + np.log(2.0) * power, np.log(s[..., 1] / s[..., 0])])


def _start(request: Request, shape: tuple[int, int]) -> Dense:
    d, dtype = request.dimension, np.dtype(request.dtype)
    x = jnp.zeros((*shape, request.carried, d), dtype=dtype)
    eye = np.broadcast_to(np.eye(d, dtype=dtype), (*shape, d, d))
    powers = [jnp.zeros(shape, dtype=jnp.int32) for _ in range(3)]
    frame = jnp.zeros((*shape, 1 + request.rank, d), dtype=dtype)
    product = jnp.array(eye) if request.product else jnp.zeros((*shape, 0, 0), dtype=dtype)
    return Dense(frame, jnp.array(eye), x, product, *powers)
