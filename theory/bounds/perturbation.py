"""The corrected Lemma 1: how far a product may stray from its dominant path."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from observables import ChainParameters
from theory._checks import is_jax, unit_interval
from theory.bounds._layers import wide_layers
from theory.bounds._wide import ONE, ZERO, Wide, wide_hypot

__all__ = ["log_perturbation_error", "log_perturbation_error_by_columns", "perturbation_error"]


def perturbation_error(alignment: Any, gap: Any, misalignment: Any | None = None) -> Any:
    """Bound on ||P - P*|| / ||P*||, P* = (prod sigma)(prod kappa) u_L v_1^T the dominant path.

    Implements (T12) exactly, layer by layer:
    a_1 = 0, b_1 = xi_1, a_l = a_{l-1} + (s_l / kappa_l) b_{l-1}, b_l = xi_l (s_l (1 + a_{l-1}) + b_{l-1}) / kappa_l.

    Args:
        alignment: kappa_l, dimensionless, in [0, 1], shape (L,), L >= 1; entry 0 is never read.
        gap: xi_l, dimensionless, in [0, 1], shape (L,).
        misalignment: s_l = sqrt(1 - kappa_l^2), shape (L,), where it is known; near kappa = 1 the bound varies
            by orders of magnitude within the rounding of kappa_l. Entry 0 is never read.

    Returns:
        hypot(a_L, b_L), dimensionless; inf where an alignment is 0 or the bound exceeds the float range. A
        Python float, or a 0-d JAX array if an argument is one.

    Raises:
        ValueError: if an argument leaves [0, 1] or is not 1-D, or the lengths differ.
    """
    kappa = unit_interval(alignment, "alignment", first_unread=True)
    xi = unit_interval(gap, "gap")
    across = None if misalignment is None else unit_interval(misalignment, "misalignment", first_unread=True)
    for name, value in (("alignment", kappa), ("gap", xi), ("misalignment", across)):
        if value is not None and (value.ndim != 1 or value.shape != kappa.shape or value.size == 0):
            raise ValueError(
                f"{name} must be one-dimensional over the same layers as alignment; got shape {value.shape}"
            )
    if is_jax(kappa, xi, across):
        return _bound_jax(jnp.asarray(kappa), jnp.asarray(xi), None if across is None else jnp.asarray(across))
    s = np.sqrt((1 - kappa) * (1 + kappa)) if across is None else across
    return _bound(kappa.tolist(), xi.tolist(), s.tolist())


def log_perturbation_error(parameters: ChainParameters) -> float:
    """ln of `perturbation_error` of a chain, which may leave float64; implements (T12).

    Returns:
        Natural logarithm; inf where an alignment is 0, -inf where the path is exact.
    """
    layers = wide_layers(parameters)
    a, b = ZERO, layers[0].xi
    for layer in layers[1:]:
        if layer.kappa.fraction == 0:
            return math.inf
        a, b = a + layer.s / layer.kappa * b, layer.xi * (layer.s * (ONE + a) + b) / layer.kappa
    return wide_hypot(a, b).log()


def log_perturbation_error_by_columns(parameters: ChainParameters) -> float:
    """ln of a bound on ||P - P*|| / ||P*|| that follows v_1 and what lies across it apart; never above (T12).

    Implements (T31).

    Returns:
        Natural logarithm; inf where an alignment is 0, -inf where the path is exact.
    """
    layers = wide_layers(parameters)
    a = b = c = ZERO
    e = layers[0].xi
    for layer in layers[1:]:
        if layer.kappa.fraction == 0:
            return math.inf
        turn = layer.s / layer.kappa
        a, b = a + turn * b, layer.xi * (layer.s * (ONE + a) + b) / layer.kappa
        c, e = c + turn * e, layer.xi * (layer.s * c + e) / layer.kappa
    # the norm of [[a, c], [b, e]], whose entries bound the norms of the four blocks
    return ((wide_hypot(a + e, c - b) + wide_hypot(a - e, c + b)) * Wide(0.5, 0)).log()


def _bound(kappa: list[float], xi: list[float], s: list[float]) -> float:
    a, b = 0.0, xi[0]
    for layer in range(1, len(kappa)):
        if kappa[layer] == 0.0:
            return math.inf
        # s_l = 0 times an infinite b would be NaN; once the bound is infinite it stays so.
        a, b = (
            a + s[layer] / kappa[layer] * b,
            xi[layer] * (s[layer] * (1.0 + a) + b) / kappa[layer],
        )
        if not (math.isfinite(a) and math.isfinite(b)):
            return math.inf
    return math.hypot(a, b)


def _bound_jax(kappa: jax.Array, xi: jax.Array, across: jax.Array | None) -> jax.Array:
    positive = kappa > 0
    inverse = jnp.where(positive, 1 / jnp.where(positive, kappa, 1), jnp.inf)
    if across is None:
        square = (1 - kappa) * (1 + kappa)
        across = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def layer(carry: tuple[jax.Array, jax.Array], row: tuple[jax.Array, ...]) -> tuple[Any, None]:
        a, b = carry
        inverse_l, xi_l, s_l = row
        a_next = a + s_l * inverse_l * b
        b_next = xi_l * (s_l * (1 + a) + b) * inverse_l
        bad = ~(jnp.isfinite(a_next) & jnp.isfinite(b_next)) | ~jnp.isfinite(inverse_l)
        return (jnp.where(bad, jnp.inf, a_next), jnp.where(bad, jnp.inf, b_next)), None

    start = (jnp.zeros_like(xi[0]), xi[0])
    (a, b), _ = jax.lax.scan(layer, start, (inverse[1:], xi[1:], across[1:]))
    return jnp.hypot(a, b)
