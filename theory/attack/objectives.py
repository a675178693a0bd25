"""What a search maximises: smooth, free of LAPACK, natural logarithms of a measured number over a claimed one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from theory.attack.frames import Box, Free, Numbers, layers, numbers, unit
from theory.bounds.perturbation import perturbation_error
from theory.bounds.rates import max_rate, min_rate

__all__ = ["ACROSS", "ALONG", "injections", "log_excess", "second_compound"]

ALONG, ACROSS = 1.0, 0.5
"""||u_l^T B_l|| and ||(I - u_l u_l^T) B_l|| of the chains that attack (T15) and (T16), in the injections' unit."""

SQUARINGS = 5
"""The norm is smoothed to (tr (M^T M)^k)^(1/2k) with k = 2^5: above it by ln(d) / 64 nats at most."""


def log_excess(free: Free, box: Box, bound: str, depth: int) -> Any:
    """What one start maximises: ln measured / claimed for an upper bound, ln claimed / measured for a lower one."""
    chain = numbers(free, box, bound, depth)
    rows, lower = layers(free, chain)
    a = jnp.concatenate([rows[:, None, :], lower], axis=1)
    return _OBJECTIVES[bound](a, chain, free)


def injections(free: Free, bound: str) -> Any:
    """B_l in the moving frames, shape (L, d, 2): ALONG u_l r_l^T plus a part of operator norm ACROSS across u_l.

    For (T16) and (T27) r_l = e_1 in every layer, which makes c_l = ALONG for w = e_1.
    """
    left, right = free.across
    r = jax.vmap(unit)(free.along)
    if bound in ("T16", "T27"):
        r = jnp.zeros_like(r).at[:, 0].set(1.0)
    across = jax.vmap(lambda y, z: unit(y)[:, None] * unit(z)[None, :])(left, right)
    return jnp.concatenate([ALONG * r[:, None, :], ACROSS * across], axis=1)


def second_compound(a: Any) -> Any:
    """Matrix of the 2 x 2 minors of a, whose largest singular value is sigma_1 sigma_2; compounds multiply."""
    i, j = np.triu_indices(a.shape[-1], 1)
    rows_i, rows_j = a[..., i, :], a[..., j, :]
    return rows_i[..., i] * rows_j[..., j] - rows_i[..., j] * rows_j[..., i]


def _log_norm(matrix: Any) -> Any:
    """Smoothed ln of the operator norm."""
    log_scale = jnp.log(jnp.sum(matrix * matrix)) / 2
    gram = matrix.T @ matrix / jnp.exp(2 * log_scale)
    total, power = 0.0, 1
    for _ in range(SQUARINGS):
        gram, power = gram @ gram, 2 * power
        size = jnp.trace(gram)
        gram, total = gram / size, total + jnp.log(size) / power
    return log_scale + total / 2


def _log_product_norm(a: Any) -> Any:
    """Smoothed ln ||A_L ... A_1|| of unit-sigma layers (L, d, d)."""

    def layer(carry: Any, matrix: Any) -> tuple[Any, None]:
        product, log_scale = carry
        product = matrix @ product
        size = jnp.sqrt(jnp.sum(product * product))
        return (product / size, log_scale + jnp.log(size)), None

    (product, log_scale), _ = jax.lax.scan(layer, (a[0], jnp.zeros(())), a[1:])
    return _log_norm(product) + log_scale


def _growth(a: Any, chain: Numbers, free: Free) -> Any:
    return _log_product_norm(a)


def _decay(a: Any, chain: Numbers, free: Free) -> Any:
    return -_log_product_norm(a)


def _gain_below_one(a: Any, chain: Numbers, free: Free) -> Any:
    """(P2): growth after the first layer, a layer."""
    return (_log_product_norm(a) + jnp.sum(jnp.log(chain.sigma[1:]))) / (chain.gap.size - 1)


def _over_upper(a: Any, chain: Numbers, free: Free) -> Any:
    return _log_product_norm(a) - jnp.sum(jnp.log(max_rate(chain.alignment[1:], jnp.max(chain.gap))))


def _under_lower(a: Any, chain: Numbers, free: Free) -> Any:
    return _log_cone(chain) - _log_product_norm(a)


def _under_product(a: Any, chain: Numbers, free: Free) -> Any:
    return jnp.sum(jnp.log(min_rate(chain.alignment[1:], jnp.max(chain.gap)))) - _log_product_norm(a)


def _over_local_rates(a: Any, chain: Numbers, free: Free) -> Any:
    return _log_product_norm(a) - jnp.sum(jnp.log(max_rate(chain.alignment[1:], chain.gap[1:])))


def _under_local_rates(a: Any, chain: Numbers, free: Free) -> Any:
    return jnp.sum(jnp.log(min_rate(chain.alignment[1:], chain.gap[1:]))) - _log_product_norm(a)


def _collapse(a: Any, chain: Numbers, free: Free) -> Any:
    ratio = _log_product_norm(second_compound(a)) - 2 * _log_product_norm(a)
    return ratio - jnp.sum(jnp.log(chain.gap)) + 2 * _log_cone(chain)


def _log_cone(chain: Numbers) -> Any:
    """(T9) layer by layer, for unit sigma."""

    def layer(tau: Any, row: Any) -> tuple[Any, Any]:
        kappa, s, xi = row
        m = kappa - s * tau
        return xi * (s + kappa * tau) / m, jnp.log(m)

    rows = (chain.alignment[1:], chain.misalignment[1:], chain.gap[1:])
    _, factors = jax.lax.scan(layer, jnp.zeros(()), rows)
    return jnp.sum(factors)


def _log_path_error(a: Any, chain: Numbers) -> Any:
    """Smoothed ln ||P - P*|| / ||P*||; in the moving frames P* / ||P*|| is e_1 e_1^T."""

    def layer(product: Any, row: Any) -> tuple[Any, None]:
        matrix, kappa = row
        return (matrix @ product) / kappa, None

    product, _ = jax.lax.scan(layer, a[0], (a[1:], chain.alignment[1:]))
    return _log_norm(product.at[0, 0].add(-1.0))


def _over_first_order(a: Any, chain: Numbers, free: Free) -> Any:
    claimed = chain.gap.size * jnp.max(chain.gap) / jnp.min(chain.alignment[1:])
    return _log_path_error(a, chain) - jnp.log(claimed)


def _over_corrected(a: Any, chain: Numbers, free: Free) -> Any:
    return _log_path_error(a, chain) - jnp.log(perturbation_error(chain.alignment, chain.gap))


def _over_certificate(a: Any, chain: Numbers, free: Free) -> Any:
    jacobian = _jacobian(a, chain, injections(free, "T15"))
    p, q, _ = _envelope(chain)
    return _log_norm(jacobian) - jnp.log(p * p + q * q) / 2


def _under_coherent(a: Any, chain: Numbers, free: Free) -> Any:
    column = _jacobian(a, chain, injections(free, "T16"))[:, 0]
    _, _, z = _envelope(chain)
    # Where z <= 0 nothing is certified; the floor keeps the search finite and turns it away.
    return jnp.log(jnp.maximum(z, 1e-12)) - jnp.log(jnp.sum(column * column)) / 2


def _jacobian(a: Any, chain: Numbers, b: Any) -> Any:
    def layer(jacobian: Any, row: Any) -> tuple[Any, None]:
        matrix, sigma, injection = row
        return sigma * (matrix @ jacobian) + injection, None

    jacobian, _ = jax.lax.scan(layer, b[0], (a[1:], chain.sigma[1:], b[1:]))
    return jacobian


def _envelope(chain: Numbers) -> tuple[Any, Any, Any]:
    """p+, q+ (T15) and z (T16) at layer L."""

    def layer(carry: Any, row: Any) -> tuple[Any, None]:
        p, q, z = carry
        kappa, s, xi, sigma = row
        spread = jnp.where(kappa * p >= s * q, s * p + kappa * q, jnp.sqrt(p * p + q * q))
        up = sigma * (kappa * p + s * q) + ALONG
        return (up, xi * sigma * spread + ACROSS, sigma * (kappa * z - s * q) + ALONG), None

    rows = (chain.alignment[1:], chain.misalignment[1:], chain.gap[1:], chain.sigma[1:])
    out, _ = jax.lax.scan(layer, (jnp.asarray(ALONG), jnp.asarray(ACROSS), jnp.asarray(ALONG)), rows)
    return out


_OBJECTIVES: dict[str, Callable[[Any, Numbers, Free], Any]] = {
    "growth": _growth,
    "decay": _decay,
    "P1": _over_first_order,
    "P2": _gain_below_one,
    "T8": _over_upper,
    "T9": _under_lower,
    "T9-product": _under_product,
    "product-upper": _over_local_rates,
    "product-lower": _under_local_rates,
    "T10": _collapse,
    "T12": _over_corrected,
    "T15": _over_certificate,
    "T16": _under_coherent,
    "T27": _under_coherent,
}
