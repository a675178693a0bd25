"""Injections chosen against the chain: the ones that add up to the most, and the ones that undo what arrives."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.chains._requests import host, layer_values
from theory.chains.chain import Chain, in_gauge
from theory.chains.injections import with_injection

__all__ = ["growing_directions", "inject_adversarial"]

TOLERANCE = 1e-12
"""Gain of ln ||J_L|| in one round below which the ascent stops."""
ROUNDS = 200


def inject_adversarial(chain: Chain, *, norm: ArrayLike, aim: Literal["grow", "cancel"] = "grow") -> Chain:
    """The chain with B_l = norm_l x_l w^T, unit x_l chosen against the chain and w = e_1.

    "grow" takes the x_l of `growing_directions`, so that ||J_L|| is at least that of coherent injections of the same
    norms. "cancel" starts with B_1 = norm_1 u_1 w^T and then opposes greedily: B_l = -min(norm_l, ||A_l J_{l-1} w||)
    times the direction of A_l J_{l-1} w. Context dimension and zero columns are those of the chain's injections.

    Args:
        chain: batched over any leading axes; its own injections are replaced.
        norm: bound of ||B_l||, attained in every layer by "grow", a number or shape (L,), finite, >= 0.
        aim: what the injections are for.

    Returns:
        The chain, of the same precision and context dimension.

    Raises:
        ValueError: if an argument breaks its rule.
    """
    if aim not in ("grow", "cancel"):
        raise ValueError(f"aim must be 'grow' or 'cancel'; got {aim!r}")
    host(chain.u, "chain")
    size = layer_values(norm, "norm", chain.depth)
    injection = np.zeros(chain.injection.shape)
    if aim == "grow":
        injection[..., 0] = size[:, None] * growing_directions(chain, norm)[0]
    else:
        injection[..., 0] = _cancelling(chain, size)
    return with_injection(chain, injection)


def growing_directions(chain: Chain, norm: ArrayLike) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Unit x_l that make || sum_l norm_l P_{L:l+1} x_l || large, by alternating maximisation.

    For a fixed unit y the best x_l is the direction of P_{L:l+1}^T y; for fixed x_l the best y is the direction of the
    sum. Neither step lowers the norm, so that the ascent is monotone and ends no lower than it starts. It starts from
    two places, the sum of the coherent x_l = u_l and the leading left direction of [norm_l P_{L:l+1}]_l, and the
    better end is taken, for each chain of a batch. It is an ascent, not a proof of the maximum; the norm never exceeds
    sum_l norm_l ||P_{L:l+1}||.

    Args:
        chain: batched over any leading axes.
        norm: a number or shape (L,), finite, >= 0.

    Returns:
        x, shape (..., L, d), float64, and the ln of the norm after every round of the ascent that starts from the
        coherent sum, each of the chain's batch shape.

    Raises:
        ValueError: if norm breaks its rule.
    """
    host(chain.u, "chain")
    size = layer_values(norm, "norm", chain.depth)
    u = in_gauge(np.asarray(chain.u, dtype=np.float64), np.asarray(chain.v, dtype=np.float64))[0]
    y, start = _arrival(chain, u, np.broadcast_to(size, u.shape[:-1]))
    x, history = _ascend(chain, size, u, y, start)
    for _ in range(3):
        pulled, log_length = _pulled_back(chain, y, u)
        weights = np.exp(log_length - np.max(log_length, axis=-1, keepdims=True))
        y, _ = _arrival(chain, pulled, size**2 * weights)
    other, other_history = _ascend(chain, size, u, y, np.full(u.shape[:-2], -np.inf))
    better = other_history[-1] > history[-1]
    return np.where(better[..., None, None], other, x), history


def _ascend(
    chain: Chain, size: NDArray[np.float64], u: NDArray[np.float64], y: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    history, x = [start], u
    for _ in range(ROUNDS):
        x, _ = _pulled_back(chain, y, u)
        y, value = _arrival(chain, x, np.broadcast_to(size, u.shape[:-1]))
        history.append(value)
        with np.errstate(invalid="ignore"):  # -inf - -inf: a chain through which nothing arrives has converged
            if not (value - history[-2] > TOLERANCE).any():
                break
    return x, history


def _unit(x: NDArray[np.float64], otherwise: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions and lengths of vectors (..., d); a zero vector gets the other direction."""
    peak = np.max(np.abs(x), axis=-1, keepdims=True)
    scaled = x / np.where(peak > 0, peak, 1.0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    there = length > 0
    return np.where(there, scaled / np.where(there, length, 1.0), otherwise), (length * peak)[..., 0]


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(x)


def _applied(apply: Any, layer: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(apply(layer, x[..., None]), dtype=np.float64)[..., 0]


def _pulled_back(
    chain: Chain, y: NDArray[np.float64], u: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of P_{L:l+1}^T y and ln of their lengths; u_l where nothing is left of y."""
    x, log_length = np.empty(u.shape), np.empty(u.shape[:-1])
    x[..., -1, :], log_length[..., -1] = y, 0.0
    for layer in range(chain.depth - 1, 0, -1):
        moved = _applied(chain.apply_transpose, layer, x[..., layer, :])
        x[..., layer - 1, :], length = _unit(moved, u[..., layer - 1, :])
        log_length[..., layer - 1] = log_length[..., layer] + _log(length)
    return x, log_length


def _arrival(
    chain: Chain, x: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction of sum_l size_l P_{L:l+1} x_l and ln of its length; u_L where it is 0."""
    last = np.asarray(chain.u, dtype=np.float64)
    y, log_length = np.zeros(x[..., 0, :].shape), np.full(x.shape[:-2], -np.inf)
    for layer in range(chain.depth):
        moved = _applied(chain.apply, layer, y)
        log_size = _log(size[..., layer])
        common = np.maximum(log_length, log_size)
        common = np.where(np.isfinite(common), common, 0.0)
        total = np.exp(log_length - common)[..., None] * moved
        total += np.exp(log_size - common)[..., None] * x[..., layer, :]
        y, length = _unit(total, last[..., layer, :])
        log_length = common + _log(length)
    return y, log_length


def _cancelling(chain: Chain, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """b_l of the greedy opposition, shape (..., L, d)."""
    u = np.asarray(chain.u, dtype=np.float64)
    b = np.zeros(u.shape)
    b[..., 0, :] = size[0] * u[..., 0, :]
    y, log_length = u[..., 0, :], np.broadcast_to(_log(size[0]), u.shape[:-2])
    for layer in range(1, chain.depth):
        y, growth = _unit(_applied(chain.apply, layer, y), u[..., layer, :])
        log_arrived = log_length + _log(growth)
        with np.errstate(over="ignore"):
            arrived = np.exp(log_arrived)
        spent = np.minimum(size[layer], arrived)
        b[..., layer, :] = -spent[..., None] * y
        with np.errstate(invalid="ignore", divide="ignore"):
            left = np.where(spent < arrived, log_arrived + np.log1p(-np.exp(_log(spent) - log_arrived)), -np.inf)
        log_length = left
    return b
