"""Chains as low-rank factors, O(d r) a layer: the same chains as the dense simulator's, to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from theory.chains._requests import afford, available_bytes
from theory.simulators.cells import PhaseCells
from theory.simulators.ensemble import DIRECTION, FRAME, PROBE, Draws, Numbers, directions, reading, rows_of, split
from theory.simulators.runs import Request, Run, tile_room, tile_shape

__all__ = ["structured_runs"]

TILE_BYTES = 4 * 2**20
"""State of the chains run at once on a CPU, near its last-level cache's share of a core."""

ACCELERATOR_TILE_BYTES = 2**30
"""The same on an accelerator, which needs many chains to be busy. Fixed, as results may differ by rounding with it."""

SEGMENT = 64
"""Most layers whose random numbers are held at once."""


class State(eqx.Module):
    """Of one chain of one cell: W_l, and the columns X^T of [earliest, J] but for a power of two of each."""

    frame: Any
    x: Any
    power: Any
    early_power: Any


def _step(
    numbers: Numbers, state: State, normals: Any, frames: Any, first: Any, *, request: Request
) -> tuple[State, Any]:
    """One layer: the next state and W_l W_{l-1}^T."""
    rank, early = request.rank, request.early
    basis = directions(numbers, state.frame[0], normals, first)
    overlap = basis @ state.frame.T
    x = state.x
    power, early_power = state.power, state.early_power
    if x.shape[0]:
        # The first column stands for all: a norm over all of them costs four times the layer. Each has injections of
        # its size or less, or is a random vector like it, so that none leaves it behind by much.
        one = jnp.ones((), x.dtype)
        moved = jnp.frexp(jnp.sqrt(x[int(early)] @ x[int(early)]))[1]
        power, moves = power + moved, jnp.full((x.shape[0],), moved)
        if early:
            moved = jnp.frexp(jnp.sqrt(x[0] @ x[0]))[1]
            early_power, moves = early_power + moved, moves.at[0].set(moved)
        size = (numbers.sigma * jnp.ldexp(one, -moves))[:, None]
        if rank:
            weights = jnp.full((1 + rank,), numbers.gap).at[0].set(1)
            x = (size * (x @ basis.T) * weights) @ basis
        else:
            along = (1 - numbers.gap) * (x @ basis[0])
            x = size * (numbers.gap * x + along[:, None] * basis[0])
        if request.inject:
            added = rows_of(numbers, basis[0], frames, request.isotropic, request.columns)
            x = x.at[early:].add(jnp.ldexp(one, -power) * added)
            if early:  # [P_{l:2} B_1 w, J]: at the first layer its column is that of w
                x = x.at[0].set(jnp.where(first, x[1], x[0]))
    return State(basis, x, power, early_power), overlap


def _read(state: State, *, request: Request) -> Any:
    """Small arrays that decide the results at one depth."""
    if not state.x.shape[0]:
        return ()
    if request.probes:
        return jnp.sqrt(jnp.sum(state.x**2, axis=1)), state.power
    along, root = reading(state.frame[0], state.x[request.early :])
    first, rest = split(state.frame[0], state.x[0])
    return along, root, state.power, first, rest, state.early_power


@partial(jax.jit, static_argnames=("request",))
def _segment(
    numbers: Numbers, state: State, normals: Any, frames: Any, wanted: Any, begin: Any, *, request: Request
) -> tuple[State, Any]:
    """Some layers of a tile of cells (leading axis) and chains (second): a scan over layers of vmapped steps."""
    step = partial(_step, request=request)
    over_chains = jax.vmap(step, in_axes=(None, 0, 0, None if frames is None else 0, None))
    over_cells = jax.vmap(over_chains, in_axes=(0, 0, None, None, None))
    read = jax.vmap(jax.vmap(partial(_read, request=request)))
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(read, state))

    def layer(carry: State, row: Any) -> tuple[State, Any]:
        index, drawn, framed, asked = row
        after, overlap = over_cells(numbers, carry, drawn, framed, index == 0)
        found = jax.lax.cond(asked, read, lambda _: empty, after)
        if not request.product:
            return after, (found, None)
        return after, (found, overlap if request.rank else after.frame[:, :, 0])

    rows = (begin + jnp.arange(normals.shape[0]), normals, frames, wanted)
    return jax.lax.scan(layer, state, rows)


def segments(depth: int) -> list[int]:
    """Equal lengths of layers that hold the depth; the last may reach beyond it."""
    parts = -(-depth // SEGMENT)
    return [-(-depth // parts)] * parts


def tiles(request: Request, cells: int) -> tuple[int, int]:
    """Cells and chains of one tile: a rule of the request alone, so that a run repeats to the bit."""
    item = np.dtype(request.dtype).itemsize
    # The state, as much again for its successor, and what each layer draws.
    rows = 2 * (request.carried + 1 + request.rank) + request.columns * request.context
    whole = tile_room(TILE_BYTES, ACCELERATOR_TILE_BYTES)
    together = max(1, whole // (item * request.dimension * rows))
    return tile_shape(cells, request.chains, together)


def tile_bytes(request: Request, some: int, chains: int) -> tuple[int, int]:
    """Memory of the random numbers of a segment and the work on one tile, and of what each further tile keeps."""
    item, d = np.dtype(request.dtype).itemsize, request.dimension
    drawn = segments(request.depths[-1])[0] * chains * d * (1 + request.rank + request.columns * request.context)
    state = some * chains * d * (request.carried + 1 + request.rank)
    width = (1 + request.rank) ** 2 if request.rank else d
    kept = some * chains * request.depths[-1] * width * request.product
    return item * (2 * drawn + 4 * state), item * state + 2 * 8 * kept


def structured_runs(cells: PhaseCells, request: Request) -> Iterator[Run]:
    """The chains of every cell, a tile at a time.

    Cells share a segment's random numbers, so that the states of all are held between segments; where free memory does
    not hold them, as many cells at a time as it does, from the same numbers drawn anew.

    Raises:
        ValueError: stating the bytes, if a tile would not fit in free memory.
    """
    some, together = tiles(request, len(cells))
    work, each = tile_bytes(request, some, together)
    afford(work + each, f"a tile of structured chains of dimension {request.dimension}")
    parts = [slice(begin, begin + some) for begin in range(0, len(cells), some)]
    held = max(1, (available_bytes() - work) // (2 * each))
    draws = Draws(request.seed, request.dimension, request.dtype)
    for begin in range(0, request.chains, together):
        chains = range(begin, begin + together)  # beyond n: drawn and dropped, so that one shape is compiled
        for first in range(0, len(parts), held):
            with jax.enable_x64(request.dtype == "float64"):  # closed before the caller goes on
                runs = _tile_of_chains(cells, request, draws, parts[first : first + held], chains)
            yield from runs


def _tile_of_chains(
    cells: PhaseCells,
    request: Request,
    draws: Draws,
    parts: list[slice],
    chains: range,
) -> list[Run]:
    lengths = segments(request.depths[-1])
    wanted = np.zeros(sum(lengths), dtype=bool)
    wanted[np.asarray(request.depths) - 1] = True
    framed = request.inject and bool((cells.injected > 0).any())
    numbers = [Numbers.of(cells, part, request.dtype, request.unit(cells)) for part in parts]
    states = [_start(request, draws, part.stop - part.start, chains) for part in parts]
    found: list[list[Any]] = [[] for _ in parts]
    directions_of = draws.layers(chains, DIRECTION, 1 + request.rank, lengths)
    frames_of = draws.layers(chains, FRAME, request.columns, lengths) if framed else iter([None] * len(lengths))
    done = 0
    for length, normals, frames in zip(lengths, directions_of, frames_of, strict=True):
        asked = wanted[done : done + length]
        for index in range(len(parts)):
            states[index], rows = _segment(
                numbers[index], states[index], normals, frames, asked, done, request=request.program
            )
            small, kept = rows
            found[index].append(
                (
                    [np.asarray(leaf, dtype=np.float64)[asked] for leaf in small],
                    None if kept is None else np.asarray(kept, dtype=np.float64),
                )
            )
        done += length
    runs = []
    for part, pieces in zip(parts, found, strict=True):
        leaves = [np.concatenate(leaf) for leaf in zip(*(small for small, _ in pieces), strict=True)]
        kept = None
        if request.product:
            kept = np.moveaxis(np.concatenate([rows for _, rows in pieces])[: request.depths[-1]], 0, 2)
        runs.append(request.run(cells, part, chains, leaves, kept, 0))
    return runs


def _start(request: Request, draws: Draws, cells: int, chains: range) -> State:
    d, dtype = request.dimension, np.dtype(request.dtype)
    shape = (cells, len(chains))
    x = np.zeros((*shape, request.carried, d), dtype=dtype)
    if request.probes:
        normals = next(draws.layers(chains, PROBE, request.columns, [1]))[0]
        x[:] = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    power = np.zeros(shape, dtype=np.int32)
    return State(np.zeros((*shape, 1 + request.rank, d), dtype=dtype), x, power, power)
