"""The reduced recurrence in JAX: the same step compiled for the devices there are, sharded over blocks of seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from numpy.typing import NDArray

from theory.simulators.cells import PhaseCells
from theory.simulators.draws import BLOCK, layer_draw, normals_per_layer
from theory.simulators.engine_step import Numbers, Recurrence, State, combined, numbers_of, rescale_every

__all__ = ["has_accelerator", "items_at_once", "run_jax"]

ROWS = 32
"""Most cells that share a block's random numbers: beyond, the draws are a small part of the work."""

CPU_TILE = 2048
"""Chains of all cells at once on one CPU device, or a block of each where those are more: they stay in its cache."""

LARGEST_TILE = 2**22
"""The same on an accelerator, were memory without end: enough to keep every multiprocessor at work."""

VALUES_PER_CHAIN = 96
"""Numbers that a chain may hold at once: state twice, draws and what the compiler does not fuse; an upper bound."""


class JaxSpace:
    """`Space` in JAX. No bits are taken apart, as TPUs have none of a float64: products of selects are exact too."""

    xp = jnp

    def exponent(self, x: Any) -> Any:
        log: Any = jnp.log2(jnp.maximum(x, jnp.finfo(x.dtype).tiny))
        return jnp.where(x > 0, jnp.ceil(log), 0).astype(jnp.int32)

    def scaled(self, x: Any, power: Any) -> Any:
        largest = int(np.finfo(x.dtype).maxexp) - 1
        size = jnp.minimum(jnp.abs(power), largest)
        factor: Any = jnp.ones((), dtype=x.dtype)
        for bit in range(largest.bit_length()):
            two = jnp.asarray(2.0 ** (2**bit), dtype=x.dtype)
            factor = jnp.where((size >> bit) & 1, factor * jnp.where(power < 0, 1 / two, two), factor)
        return jnp.where(power < -largest, 0 * x, x * factor)

    def wide(self, x: Any) -> Any:
        return x


LARGE = 16
"""Dimension from which all use one program: the draws differ in a divisor alone, which is an argument."""


class Kind(NamedTuple):
    """What a program is compiled for, beside the shapes; the dimension is at most `LARGE`, what is more an argument."""

    dimension: int
    context_dimension: int
    share: bool
    isotropic: bool
    dtype: str

    @property
    def shown(self) -> int:
        return self.context_dimension + self.share


def has_accelerator() -> bool:
    """Whether JAX's default backend is something other than a CPU."""
    return jax.default_backend() != "cpu"


def items_at_once(device: Any, dtype: str, rows: int, wanted: int) -> int:
    """Blocks of `rows` cells that one device takes at once: from its free memory, half of it left to others.

    On a CPU the number depends on `rows` alone. Programs of other shapes may round differently, and so may those cut
    into other numbers of threads, which XLA takes from the cores or the devices, whichever are more. Where these are
    the same, the number of devices changes no bit.
    """
    if device.platform == "cpu":
        return max(1, CPU_TILE // (rows * BLOCK))
    stats = device.memory_stats() or {}
    free = int(stats.get("bytes_limit", 2**32)) - int(stats.get("bytes_in_use", 0))
    chains = min(LARGEST_TILE, free // (2 * VALUES_PER_CHAIN * np.dtype(dtype).itemsize))
    return max(1, min(chains // (rows * BLOCK), 1 << (wanted - 1).bit_length()))


def run_jax(
    cells: PhaseCells,
    dimension: int,
    layers: NDArray[np.int64],
    found: NDArray[np.float64],
    *,
    seed: int,
    context_dimension: int,
    isotropic: bool,
    dtype: str,
    share: bool,
) -> None:
    """Fills `found`, (statistics, depths, cells, chains), with what `combined` gives at each of the depths `layers`.

    The work is cut into items, a block of 256 chains for some of the cells each. A block's numbers come from one key,
    folded with the layer, on the device itself: the same on any number of devices. Many items are run at once, as many
    as a device's memory takes, and the devices share them out over the axis "seeds".
    """
    devices = tuple(jax.local_devices())
    kind = Kind(min(dimension, LARGE), context_dimension, share, isotropic, dtype)
    every = rescale_every(cells, dimension, dtype)
    parts = -(-len(cells) // ROWS)
    rows = _rounded(-(-len(cells) // parts))
    blocks = -(-found.shape[-1] // BLOCK)
    items = [(part * rows, block) for part in range(-(-len(cells) // rows)) for block in range(blocks)]
    each = items_at_once(devices[0], dtype, rows, -(-len(items) // len(devices)))
    more = np.array(dimension - kind.dimension, dtype=dtype)
    words = np.random.SeedSequence([seed, dimension, kind.shown, context_dimension, isotropic]).generate_state(2)
    numbers, offset = numbers_of(cells, dtype)
    with jax.enable_x64(dtype == "float64"):
        start, advance = _programs(kind, devices)
        for begin in range(0, len(items), each * len(devices)):
            batch = items[begin : begin + each * len(devices)]
            padded = batch + [batch[0]] * (each * len(devices) - len(batch))
            which = np.minimum(np.array([first for first, _ in padded])[:, None] + np.arange(rows), len(cells) - 1)
            block = np.array([block for _, block in padded], dtype=np.uint32)
            here = Numbers(*(x.astype(dtype)[which] for x in numbers))
            state = start(words, more, block, here)
            done = 1
            for depth in np.unique(layers).tolist():
                state, logs = advance(words, more, block, here, state, done, depth, every)
                done = depth
                _store(found, layers == depth, batch, state, logs, offset)


def _store(
    found: NDArray[np.float64],
    where: NDArray[np.bool_],
    batch: list[tuple[int, int]],
    state: State,
    logs: list[jax.Array],
    offset: NDArray[np.int64],
) -> None:
    """The scales put back in float64 on the host, item by item into its place."""
    values = [np.asarray(x, dtype=np.float64) for x in logs]
    powers = [np.asarray(x, dtype=np.int64) for x in (state.power, state.early_power)]
    rows = values[0].shape[1]
    for item, (first, block) in enumerate(batch):
        cells, at = slice(first, first + rows), slice(block * BLOCK, (block + 1) * BLOCK)
        target = found[:, :, cells, at]
        r, n = target.shape[2:]
        power, early_power = (x[item, :r, :n] + offset[cells] for x in powers)
        for store, value in zip(target, combined([x[item, :r, :n] for x in values], power, early_power), strict=True):
            store[where] = value


def _rounded(rows: int) -> int:
    """Up to 1, 8 or `ROWS`, so that few shapes are compiled: a compilation costs seconds, a cell too many little."""
    return 1 if rows == 1 else 8 if rows <= 8 else ROWS


@functools.lru_cache(maxsize=64)
def _programs(kind: Kind, devices: tuple[Any, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`start` (the first layer) and `advance` (from one depth to another, and what it reads there), over the mesh."""
    size = normals_per_layer(kind.shown, kind.shown + kind.isotropic, kind.context_dimension)

    def recurrence(numbers: Numbers) -> Recurrence:
        return Recurrence(
            numbers,
            kind.dimension,
            kind.context_dimension,
            kind.share,
            kind.isotropic,
            JaxSpace(),
            np.dtype(kind.dtype),
        )

    def draw(words: jax.Array, more: jax.Array, block: jax.Array, layer: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), block)
        normals: Any = jax.random.normal(jax.random.fold_in(key, layer), (size, BLOCK), dtype=kind.dtype)
        return layer_draw(
            normals,
            kind.dimension,
            shown=kind.shown,
            context_dimension=kind.context_dimension,
            isotropic=kind.isotropic,
            xp=jnp,
            more=more,
        )

    def start(words: jax.Array, more: jax.Array, block: jax.Array, numbers: Numbers) -> State:
        step = recurrence(numbers)
        state = step.rescaled(step.first(draw(words, more, block, 0)))
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (x.shape[0], BLOCK)), state)

    def advance(
        words: jax.Array,
        more: jax.Array,
        block: jax.Array,
        numbers: Numbers,
        state: State,
        done: Any,
        depth: Any,
        every: Any,
    ) -> tuple[State, list[jax.Array]]:
        step = recurrence(numbers)

        def layer(index: jax.Array, state: State) -> State:
            state = step.next(state, draw(words, more, block, index))
            due = (index % every == 0) | (index + 1 == depth)
            return jax.lax.cond(due, step.rescaled, lambda x: x, state)

        # A loop whose ends are arguments: one compilation serves every depth, where a scan has one for each.
        last = jax.lax.fori_loop(done, depth, layer, state)
        return last, step.logs(last)

    mesh = jax.make_mesh((len(devices),), ("seeds",), (AxisType.Auto,), devices=devices)
    each, same = PartitionSpec("seeds"), PartitionSpec()
    first = jax.shard_map(
        jax.vmap(start, in_axes=(None, None, 0, 0)),
        mesh=mesh,
        in_specs=(same, same, each, each),
        out_specs=each,
        check_vma=False,
    )
    rest = jax.shard_map(
        jax.vmap(advance, in_axes=(None, None, 0, 0, 0, None, None, None)),
        mesh=mesh,
        in_specs=(same, same, each, each, each, same, same, same),
        out_specs=each,
        check_vma=False,
    )
    return jax.jit(first), jax.jit(rest, donate_argnums=4)
