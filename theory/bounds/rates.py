"""Growth rates of one layer, as functions of its alignment kappa and gap xi alone.

NumPy arrays and Python numbers are computed in NumPy float64 whatever JAX's default precision, and give NumPy
results; JAX arrays and tracers stay in JAX, in their own precision, and may be jitted and differentiated.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from theory._checks import is_jax, natural, unit_interval

__all__ = ["critical_alignment", "first_order_error", "max_rate", "min_rate"]


def _both(alignment: Any, gap: Any) -> tuple[Any, Any, Any]:
    kappa, xi = unit_interval(alignment, "alignment"), unit_interval(gap, "gap")
    xp = jnp if is_jax(kappa, xi) else np
    kappa, xi = xp.broadcast_arrays(xp.asarray(kappa), xp.asarray(xi))
    return xp, kappa, xi


def _scalar(value: Any) -> Any:
    """NumPy gives a 0-d array back as a number."""
    return value[()] if isinstance(value, np.ndarray) else value


def max_rate(alignment: Any, gap: Any) -> Any:
    """Largest growth rate per unit sigma of any chain with this alignment and gap.

    Implements (T5). Attained by the twisted chain (T11), so it cannot be improved.

    Args:
        alignment: kappa = |<v_l, u_{l-1}>|, dimensionless, in [0, 1]; any shape.
        gap: xi = sigma_2 / sigma_1 of one propagator, dimensionless, in [0, 1]; broadcast against alignment.

    Returns:
        Rate, dimensionless, in [alignment, 1], of the broadcast shape.

    Raises:
        ValueError: if an argument leaves [0, 1].
    """
    xp, kappa, xi = _both(alignment, gap)
    along = kappa * (1 - xi)
    under = along * along + 4 * xi
    safe = xp.where(under > 0, under, 1)  # the root's slope at 0 would make gradients NaN
    rate = 0.5 * (along + xp.where(under > 0, xp.sqrt(safe), 0))
    return _scalar(xp.clip(rate, kappa, 1))


def critical_alignment(gap: Any) -> Any:
    """Least alignment at which a chain of this gap must keep an invariant cone.

    Implements (T7). Below it the slowest chain rotates, and the three numbers sigma, kappa, xi certify no growth.

    Args:
        gap: xi, dimensionless, in [0, 1]; any shape.

    Returns:
        kappa_c, dimensionless, in [0, 1].

    Raises:
        ValueError: if gap leaves [0, 1].
    """
    xi = unit_interval(gap, "gap")
    xp = jnp if is_jax(xi) else np
    return _scalar(xp.asarray(xp.minimum(2 * xp.sqrt(xi) / (1 + xi), 1)))


def min_rate(alignment: Any, gap: Any) -> Any:
    """Smallest growth rate per unit sigma of the dominant path, for any chain with this alignment and gap.

    Implements (T6). Attained by the twisted chain of the other sense (T11).

    Args:
        alignment: kappa, dimensionless, in [0, 1]; any shape.
        gap: xi, dimensionless, in [0, 1]; broadcast against alignment.

    Returns:
        Rate, dimensionless, in [sqrt(gap), alignment]; NaN where alignment < critical_alignment(gap). At
        alignment == critical_alignment(gap) it is sqrt(gap).

    Raises:
        ValueError: if an argument leaves [0, 1].
    """
    xp, kappa, xi = _both(alignment, gap)
    critical = xp.minimum(2 * xp.sqrt(xi) / (1 + xi), 1)
    # kappa^2 (1 + xi)^2 - 4 xi, factored so that the difference that vanishes is taken exactly: about kappa_c
    # below kappa = 0.7, about s = 0 above.
    s = xp.sqrt((1 - kappa) * (1 + kappa)) if xp is np else xp.sqrt(xp.maximum((1 - kappa) * (1 + kappa), 0))
    near_critical = (1 + xi) ** 2 * (kappa - critical) * (kappa + critical)
    near_one = ((1 - xi) - s * (1 + xi)) * ((1 - xi) + s * (1 + xi))
    under = xp.maximum(xp.where(kappa < 0.7, near_critical, near_one), 0)
    safe = xp.where(under > 0, under, 1)
    rate = 0.5 * (kappa * (1 + xi) + xp.where(under > 0, xp.sqrt(safe), 0))
    root = xp.sqrt(xi)
    rate = xp.where(kappa == critical, root, xp.clip(rate, root, xp.maximum(kappa, root)))
    return _scalar(xp.where(kappa >= critical, rate, xp.nan))


def first_order_error(depth: Any, alignment: Any, gap: Any) -> Any:
    """The paper's first-order bound L xi / kappa on the relative error of the dominant path.

    Implements (P1), Lemma 1 of the paper. It drops a second-order term and is not a bound in general; see
    `perturbation_error` for one.

    Args:
        depth: L, a positive integer or an array of them.
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].

    Returns:
        L xi / kappa, dimensionless, of the broadcast shape; inf at alignment 0.

    Raises:
        ValueError: if depth is not a positive integer or another argument leaves [0, 1].
    """
    layers = natural(depth, "depth")
    xp, kappa, xi = _both(alignment, gap)
    positive = kappa > 0
    return _scalar(xp.where(positive, layers * xi / xp.where(positive, kappa, 1), xp.inf))
