"""The search: many random starts, Adam on a smooth objective, a budget, and a checkpoint that goes on bit for bit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from theory.attack.checkpoint import OtherAttackError, read_checkpoint, write_checkpoint
from theory.attack.evaluate import Evaluation, evaluate
from theory.attack.frames import Box, start
from theory.attack.objectives import log_excess
from theory.attack.spec import AttackSpec, Ranges, ranges, real
from theory.chains._requests import available_bytes

__all__ = ["AttackResult", "afford", "attack", "memory"]

BLOCK_STEPS = 100
"""Gradient steps between two looks at the clock; part of what makes a resumed search repeat the uninterrupted one."""

CHECKPOINT_SECONDS = 2.0
"""Least time between two checkpoints on disk; the last block is always written."""

LEARNING_RATE = 0.1
"""Of Adam at the start, per unit of the free parameters; it falls to 0 by a cosine over the budget of steps."""

JUDGED = 8
"""Starts whose best chains are recomputed in float64 without smoothing; the best of them is the result."""


@dataclass(frozen=True, slots=True, eq=False)
class AttackResult:
    """What a worst-case search found.

    Attributes:
        spec: what was asked for.
        found: the worst chain of all, recomputed exactly on the host.
        restart_values: best smoothed objective of each start, natural log units, in the order of the starts.
        history: best smoothed objective over all starts after each block of 100 steps.
        steps_done: gradient steps taken by every start.
        complete: whether the whole budget of steps was used; if not, time ran out or the search was interrupted.
        interrupted: whether it was stopped by KeyboardInterrupt.
    """

    spec: AttackSpec
    found: Evaluation
    restart_values: tuple[float, ...]
    history: tuple[float, ...]
    steps_done: int
    complete: bool
    interrupted: bool


class _State(NamedTuple):
    free: Any
    momentum: Any
    best: Any
    value: Any


def attack(
    spec: AttackSpec,
    *,
    seconds: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> AttackResult:
    """Search for a chain that exceeds a bound, or that grows or decays most, by gradient ascent from random starts.

    Gap and alignment hold exactly at every step (`theory.attack.frames`); the search is not told of (T11). What it
    returns is recomputed in float64 by plain products and the scalar theory. The same spec gives the same bits on the
    same machine, interrupted or not; it depends on no global setting.

    Args:
        spec: bound, sizes, fixed numbers, budget of steps and seed.
        seconds: budget of time, > 0; None for no limit. Checked every 100 steps, at least one of which is done.
        checkpoint: file to go on from if it exists, and to write; .npz without pickle.
        progress: called after every block with the number of new steps and the best objective, natural log units.

    Returns:
        The result. A KeyboardInterrupt after the first block ends the search with what it has, `interrupted` set.

    Raises:
        TypeError: if spec is no AttackSpec.
        ValueError: if seconds is not a positive number, or the search would not fit in memory (stating the bytes).
        OtherAttackError: if the checkpoint is of another spec, or no checkpoint.
    """
    if not isinstance(spec, AttackSpec):
        raise TypeError(f"spec must be an AttackSpec; got {type(spec).__name__}")
    if seconds is not None and not real(seconds, "seconds") > 0:
        raise ValueError(f"seconds must be positive; got {seconds!r}")
    afford(spec)
    path = None if checkpoint is None else Path(checkpoint)
    begun = time.monotonic()
    space = ranges(spec)
    with jax.enable_x64(True):
        box = Box(*(jnp.asarray(pair, jnp.float64) for pair in (space.gap, space.alignment, space.sigma)))
        state, steps_done, history = _begin(spec, space), 0, []
        if path is not None and path.exists():
            leaves, steps_done, history = read_checkpoint(path, spec)
            state = _restored(state, leaves, path)
            if progress is not None and history:
                progress(steps_done, history[-1])
        interrupted, saved = False, time.monotonic()
        try:
            while steps_done < spec.steps:
                count = min(BLOCK_STEPS, spec.steps - steps_done)
                following = _block(state, box, spec.bound, spec.depth, spec.steps, count)
                value = float(np.max(np.asarray(following.value)))
                state, steps_done, history = following, steps_done + count, [*history, value]
                if progress is not None:
                    progress(count, value)
                now = time.monotonic()
                if seconds is not None and now - begun >= seconds:
                    break
                if path is not None and now - saved >= CHECKPOINT_SECONDS:
                    write_checkpoint(path, spec, jax.tree.leaves(state), steps_done, history)
                    saved = now
        except KeyboardInterrupt:
            if not history:
                raise
            interrupted = True
        if path is not None:
            write_checkpoint(path, spec, jax.tree.leaves(state), steps_done, history)
        return AttackResult(
            spec=spec,
            found=_judged(state, box, spec),
            restart_values=tuple(np.asarray(state.value).tolist()),
            history=tuple(history),
            steps_done=steps_done,
            complete=steps_done == spec.steps,
            interrupted=interrupted,
        )


def memory(spec: AttackSpec) -> int:
    """About how many bytes a search takes at its peak, beside the 0.5 GB of Python and JAX.

    Measured: (16 + d) numbers for each entry of the L layers of every start, within 6 % at d = 4, 16 and 64; the d are
    the reflections of O_l, kept for the gradient.
    """
    return 8 * (16 + spec.dimension) * spec.restarts * spec.depth * spec.dimension**2


def afford(spec: AttackSpec) -> None:
    """Refuses what would not fit, before it kills the process.

    Raises:
        ValueError: stating the bytes.
    """
    size, free = memory(spec), available_bytes()
    if size > free:
        raise ValueError(
            f"depth, dimension and restarts must make a search that fits in memory; {spec.depth}, {spec.dimension} and "
            f"{spec.restarts} take about {size} bytes and {free} are available"
        )


def _optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))


def _begin(spec: AttackSpec, space: Ranges) -> _State:
    free: Any = jax.tree.map(jnp.asarray, start(spec, space.shared))
    return _State(free, _optimizer(spec.steps).init(free), free, jnp.full(spec.restarts, -jnp.inf))


def _restored(like: _State, leaves: list[np.ndarray], path: Path) -> _State:
    old, tree = jax.tree.flatten(like)
    if [x.shape for x in old] != [x.shape for x in leaves]:
        raise OtherAttackError(f"{path} was written by another version of the search")
    return jax.tree.unflatten(tree, [jnp.asarray(x, y.dtype) for x, y in zip(leaves, old, strict=True)])


@partial(jax.jit, static_argnames=("bound", "depth", "steps", "count"))
def _block(state: _State, box: Box, bound: str, depth: int, steps: int, count: int) -> _State:
    optimizer = _optimizer(steps)

    def loss(free: Any) -> tuple[Any, Any]:
        values = jax.vmap(lambda one: log_excess(one, box, bound, depth))(free)
        return -jnp.sum(values), values

    def step(state: _State, _: None) -> tuple[_State, None]:
        slope, values = jax.grad(loss, has_aux=True)(state.free)
        # A start that ran into a singular point stays where it is, with the best it had.
        sound = jnp.isfinite(values)
        slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), slope)
        better = sound & (values > state.value)
        best = jax.tree.map(lambda new, old: jnp.where(_over(better, new), new, old), state.free, state.best)
        updates, momentum = optimizer.update(slope, state.momentum)
        free: Any = optax.apply_updates(state.free, updates)
        return _State(free, momentum, best, jnp.where(better, values, state.value)), None

    return jax.lax.scan(step, state, None, length=count)[0]


def _over(mask: Any, like: Any) -> Any:
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))


def _judged(state: _State, box: Box, spec: AttackSpec) -> Evaluation:
    """The worst of the most promising starts, by unsmoothed numbers; ties go to the earlier start."""
    order = np.argsort(-np.asarray(state.value), kind="stable")[:JUDGED]
    found = [evaluate(jax.tree.map(lambda x, i=i: x[i], state.best), box, spec) for i in order.tolist()]
    return max(found, key=lambda one: one.score)
