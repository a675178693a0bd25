"""The chains that are trained: their start, their loss and their propagators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from theory.training.spec import TrainingSpec
from theory.training.task import Task, moments, orthonormal

__all__ = ["POINTS", "draw_parameters", "loss_of", "propagators", "seen"]

POINTS = 2
"""Data points at which the propagators of a nonlinear chain are taken."""

Array = NDArray[np.float64]
Parameters = dict[str, Any]


def draw_parameters(spec: TrainingSpec, rng: np.random.Generator) -> Parameters:
    """The start of one chain, a mapping of float32 arrays.

    layers (L, d, d): A_l, F_l, or W_l; injections (L, d, m): B_l, or U_l; readout (d, d); nonlinear: outer (L, d, d),
    V_l. Sizes as `TrainingSpec.initial` says; an injection has variance scale^2 / (m L).
    """
    depth, d, m = spec.depth, spec.width, spec.context
    added = 1 / np.sqrt(d * depth)
    layers = rng.standard_normal((depth, d, d))
    injections = rng.standard_normal((depth, d, m)) / np.sqrt(m * depth)
    parameters = {"layers": layers, "injections": injections, "readout": rng.standard_normal((d, d)) / np.sqrt(d)}
    if spec.network == "linear":
        scale = 0.3 if spec.initial == "small" else 1.0
        layers *= scale / np.sqrt(d)
        injections *= scale
        if spec.initial == "orthogonal":
            parameters["layers"] = np.stack([orthonormal(d, d, rng) for _ in range(depth)])
    else:
        scale = 0.1 if spec.initial == "small" else 1.0
        if spec.network == "residual":
            layers *= scale * added
            injections *= scale
        else:
            layers /= np.sqrt(d)
            injections *= np.sqrt(depth)  # U_l acts inside the tanh, where depth adds nothing up
            parameters["outer"] = rng.standard_normal((depth, d, d)) * scale * added
    return {name: value.astype(np.float32) for name, value in parameters.items()}


def seen(spec: TrainingSpec, task: Task) -> dict[str, NDArray[np.float32]]:
    """What the loss reads of a task; leading axis of "cross" and "labels": true, shuffled."""
    found = {"inputs": task.inputs, "labels": task.labels} if spec.network == "nonlinear" else moments(task)
    return {name: value.astype(np.float32) for name, value in found.items()}


def loss_of(network: str) -> Callable[[Parameters, dict[str, Any]], Any]:
    """Loss of one chain on what `seen` gives, with one set of labels: mean square error over that of answering 0."""
    return _sample_loss if network == "nonlinear" else _linear_loss if network == "linear" else _residual_loss


def _linear_loss(parameters: Parameters, data: dict[str, Any]) -> Any:
    return _moment_loss(parameters, data, parameters["layers"])


def _residual_loss(parameters: Parameters, data: dict[str, Any]) -> Any:
    return _moment_loss(parameters, data, parameters["layers"] + jnp.eye(parameters["layers"].shape[-1]))


def _moment_loss(parameters: Parameters, data: dict[str, Any], layers: Any) -> Any:
    """The chain's whole map W = readout [P_{L:1}, J_L] by (T2), then the loss from the moments."""
    depth, d, m = parameters["injections"].shape
    state = jnp.concatenate([jnp.eye(d), jnp.zeros((d, m))], axis=1)
    for layer in range(depth):
        state = (layers[layer] @ state).at[:, d:].add(parameters["injections"][layer])
    whole = parameters["readout"] @ state
    # Labels have mean square 1 an entry, so tr(Y Y^T) / N = d.
    return (jnp.sum((whole @ data["second"] - 2 * data["cross"]) * whole) + d) / d


def _sample_loss(parameters: Parameters, data: dict[str, Any]) -> Any:
    d = parameters["readout"].shape[0]
    h, c = data["inputs"][:, :d], data["inputs"][:, d:]
    for layer in range(parameters["layers"].shape[0]):
        h = h + _hidden(parameters, layer, h, c) @ parameters["outer"][layer].T
    return jnp.mean((h @ parameters["readout"].T - data["labels"]) ** 2)


def _hidden(parameters: Parameters, layer: int, h: Any, c: Any) -> Any:
    return jnp.tanh(h @ parameters["layers"][layer].T + c @ parameters["injections"][layer].T)


def propagators(network: str, parameters: Parameters, data: dict[str, Any]) -> Array:
    """A_l of chains as float64, shape (chains, points, L, d, d); points is 1 but for a nonlinear network.

    Args:
        network: its kind.
        parameters: with a leading axis of chains.
        data: what `seen` gives, "inputs" with a leading axis of chains.
    """
    layers = np.asarray(parameters["layers"], dtype=np.float64)
    if network == "linear":
        return layers[:, None]
    identity = np.eye(layers.shape[-1])
    if network == "residual":
        return identity + layers[:, None]
    hidden = np.asarray(_hidden_at_points(parameters, data["inputs"][:, :POINTS]), dtype=np.float64)
    outer = np.asarray(parameters["outer"], dtype=np.float64)
    slope = 1 - hidden**2  # of tanh, (chains, points, L, d)
    return identity + (outer[:, None] * slope[..., None, :]) @ layers[:, None]


@jax.jit
def _hidden_at_points(parameters: Parameters, inputs: Any) -> Any:
    """tanh of every layer at the points, shape (chains, points, L, d)."""

    def one(parameters: Parameters, inputs: Any) -> Any:
        d = parameters["readout"].shape[0]
        h, c = inputs[:, :d], inputs[:, d:]
        hidden = []
        for layer in range(parameters["layers"].shape[0]):
            hidden.append(_hidden(parameters, layer, h, c))
            h = h + hidden[-1] @ parameters["outer"][layer].T
        return jnp.stack(hidden, axis=1)

    return jax.vmap(one)(parameters, inputs)
