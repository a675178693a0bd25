"""Training many chains at once, and what their layers look like on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from observables import ChainParameters
from theory.regimes.predictions import paper_rule
from theory.training.networks import draw_parameters, loss_of, propagators, seen
from theory.training.spec import TrainingSpec
from theory.training.task import draw_task

__all__ = ["LayerNumbers", "Trajectory", "layer_numbers", "snapshot_steps", "train"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerNumbers:
    """Numbers of consecutive layers (T3), measured by SVD; any leading axes.

    Attributes:
        sigma: operator norms, shape (..., L).
        gap: sigma_2 / sigma_1 (0 for d = 1), shape (..., L). Where it is 1 the leading directions, and so the
            alignment, are not determined.
        alignment: |<v_l, u_{l-1}>| of layers 2..L, shape (..., L - 1).
    """

    sigma: Array
    gap: Array
    alignment: Array

    @property
    def gain(self) -> Array:
        """rho_l = sigma_l kappa_l of layers 2..L."""
        return self.sigma[..., 1:] * self.alignment


def layer_numbers(a: Array) -> LayerNumbers:
    """Numbers of the propagators a, shape (..., L, d, d).

    Raises:
        ValueError: if an entry is not finite (an SVD of it would be a number all the same).
    """
    if not np.isfinite(a).all():
        raise ValueError("propagators must be finite; got a non-finite entry")
    left, s, right = np.linalg.svd(a)
    sigma = s[..., 0]
    gap = s[..., 1] / np.where(sigma > 0, sigma, 1.0) if s.shape[-1] > 1 else np.zeros_like(sigma)
    overlap = np.abs(np.sum(right[..., 1:, 0, :] * left[..., :-1, :, 0], axis=-1))
    return LayerNumbers(sigma, gap, np.minimum(overlap, 1.0))  # above 1 by rounding alone


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What training did to the chains of one experiment. Leading axes: labels (true, shuffled), snapshots S, seeds.

    Attributes:
        spec: the experiment.
        steps: of the optimiser at each snapshot, shape (S,), the first 0.
        loss: mean square error over that of answering 0, shape (2, S, seeds).
        alignment, gap, gain: means over layers 2..L (and data points), shape (2, S, seeds).
        regime_one: share of data points at which the last snapshot is in the paper's Regime I (P2), shape (2, seeds).
        regime_two: the same of its Regime II (P3).
    """

    spec: TrainingSpec
    steps: NDArray[np.int64]
    loss: Array
    alignment: Array
    gap: Array
    gain: Array
    regime_one: Array
    regime_two: Array


def snapshot_steps(spec: TrainingSpec) -> NDArray[np.int64]:
    """Step 0 and whole steps evenly in the logarithm up to the last, each once."""
    between = np.rint(np.geomspace(1, spec.steps, spec.snapshots - 1)).astype(np.int64)
    return np.unique(np.concatenate([[0], between, [spec.steps]]))


def train(spec: TrainingSpec, progress: Callable[[int], None] | None = None) -> Trajectory:
    """Trains every chain of the experiment on true and on shuffled labels, from the same start on the same inputs.

    Full-batch steps of optax in float32, all chains at once; the layers are measured on the host in float64. The same
    spec gives the same numbers, and chain i does not depend on how many chains there are.

    Args:
        spec: the experiment.
        progress: called with the number of steps done since the last call.

    Raises:
        TypeError: if spec is no TrainingSpec.
        ValueError: if the training diverged, with the step and the learning rate.
    """
    if not isinstance(spec, TrainingSpec):
        raise TypeError(f"spec must be a TrainingSpec; got {type(spec).__name__}")
    rngs = [np.random.default_rng([spec.seed, index]) for index in range(spec.seeds)]
    drawn = [(draw_task(spec, rng), draw_parameters(spec, rng)) for rng in rngs]
    start = _stack([parameters for _, parameters in drawn])
    data = _stack([seen(spec, task) for task, _ in drawn])
    labels = "labels" if spec.network == "nonlinear" else "cross"
    # Chains in one leading axis: all seeds on true labels, then all on shuffled ones.
    parameters = {name: jnp.asarray(np.concatenate([value, value])) for name, value in start.items()}
    both = {name: np.concatenate([value, value]) for name, value in data.items() if name != labels}
    both[labels] = np.concatenate([data[labels][:, 0], data[labels][:, 1]])
    both = {name: jnp.asarray(value) for name, value in both.items()}

    optimiser, advance = _machine(spec.network, spec.optimiser, spec.weight_decay)
    state = jax.vmap(optimiser.init)(parameters)
    steps = snapshot_steps(spec)
    rows: list[tuple[Array, Array, Array, Array]] = []
    for done, step in zip([0, *steps[:-1]], steps, strict=True):
        parameters, state, losses = advance(parameters, state, both, jnp.float32(spec.rate), int(step - done))
        if progress is not None:
            progress(int(step - done))
        loss = np.asarray(losses, dtype=np.float64)
        if not np.isfinite(loss).all():
            raise ValueError(f"training diverged before step {step}; learning_rate {spec.rate:g} is too high for it")
        numbers = layer_numbers(propagators(spec.network, parameters, both))
        means = (numbers.alignment, numbers.gap[..., 1:], numbers.gain)
        rows.append((loss, *(value.mean(axis=(1, 2)) for value in means)))
    loss, alignment, gap, gain = (
        np.stack(column).reshape(len(steps), 2, -1).swapaxes(0, 1) for column in zip(*rows, strict=True)
    )
    last = layer_numbers(propagators(spec.network, parameters, both))
    one, two = (_share_in(last, regime).reshape(2, -1) for regime in ("I", "II"))
    return Trajectory(spec, steps, loss, alignment, gap, gain, one, two)


def _stack(many: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([one[name] for one in many]) for name in many[0]}


@cache
def _machine(network: str, optimiser: str, weight_decay: float) -> tuple[optax.GradientTransformation, Any]:
    """The optimiser and, compiled once a shape: so many steps of all chains, with the loss after them."""
    scale = optax.scale_by_adam() if optimiser == "adam" else optax.identity()
    chain = optax.chain(optax.clip_by_global_norm(1.0), scale, optax.add_decayed_weights(weight_decay))
    loss = loss_of(network)

    def step(parameters: Any, state: Any, data: Any, rate: Any) -> tuple[Any, Any]:
        updates, state = chain.update(jax.grad(loss)(parameters, data), state, parameters)
        return jax.tree.map(lambda value, update: value - rate * update, parameters, updates), state

    @jax.jit
    def advance(parameters: Any, state: Any, data: Any, rate: Any, count: Any) -> tuple[Any, Any, Any]:
        all_chains = jax.vmap(step, in_axes=(0, 0, 0, None))
        parameters, state = jax.lax.fori_loop(
            0, count, lambda _, at: all_chains(at[0], at[1], data, rate), (parameters, state)
        )
        return parameters, state, jax.vmap(loss)(parameters, data)

    return chain, advance


def _share_in(numbers: LayerNumbers, regime: str) -> Array:
    """Share of the points of each chain that `paper_rule` puts in this regime, shape (chains,)."""
    chains, points, depth = numbers.sigma.shape
    found = np.zeros((chains, points))
    none = np.zeros(depth)
    for index in np.ndindex(chains, points):
        alignment = np.concatenate([[np.nan], numbers.alignment[index]])
        parameters = ChainParameters(
            sigma=numbers.sigma[index],
            gap=numbers.gap[index],
            alignment=alignment,
            injection_along=none,
            injection_across=none,
        )
        found[index] = paper_rule(parameters).regime == regime
    return found.mean(axis=1)
