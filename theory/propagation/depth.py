"""What a chain does at every depth: its Jacobians' spectra, which layer's injection arrives, and the dominant path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from observables import effective_rank
from theory._checks import natural
from theory.chains.chain import Chain
from theory.chains.factored import Factored
from theory.propagation._host import flat_batch, frobenius, host_chain, refuse_non_finite
from theory.propagation._powers import log_of
from theory.propagation.floored import Floored, at_least
from theory.propagation.recurrence import propagate
from theory.propagation.scaled import leading_value, ratio_of

__all__ = ["JacobianProfile", "depth_profile", "jacobian_profile"]


@dataclass(frozen=True, slots=True, eq=False)
class JacobianProfile:
    """The context Jacobians J_1 .. J_L by their spectra.

    Attributes:
        log_norm: ln ||J_l||, shape (..., L); -inf for a zero matrix.
        singular: ln of the k leading singular values, each a number or below the rounding, shape (..., L, k).
        ratio: ln sigma_2 / sigma_1, a number or below what rounding makes, shape (..., L).
        effective_rank: exp of the entropy of the squared singular values above the rounding (O2), shape (..., L);
            NaN for a zero matrix.
    """

    log_norm: NDArray[np.float64]
    singular: Floored
    ratio: Floored
    effective_rank: NDArray[np.float64]


def jacobian_profile(chain: Chain, k: int = 2) -> JacobianProfile:
    """Norm, leading singular values, sigma_2 / sigma_1 and effective rank of J_l at every depth, with none kept.

    Implements (T2). Memory is that of one layer, whatever the depth; cost O(L d^2 m) and L decompositions of d x m.

    Args:
        chain: batched over any leading axes.
        k: number of leading singular values, at most min(d, m) of which exist.

    Raises:
        ValueError: if k is not a positive integer or exceeds min(d, m) where that is above 2, or an entry is not
            finite.
    """
    flat, batch = flat_batch(host_chain(chain))
    rows, depth = flat.sigma.shape
    count = min(flat.dimension, flat.context_dimension)
    wanted = int(natural(k, "k"))
    if wanted > max(count, 2):
        raise ValueError(f"k must be at most min(d, m) = {count}; got {wanted}")
    s = np.empty((rows, depth, count))

    def visit(at: slice, layer: int, x: NDArray[Any]) -> None:
        if np.isfinite(x).all():  # else `propagate` says what is wrong, after the last layer
            s[at, layer] = np.linalg.svd(x, compute_uv=False)

    (track,) = propagate(flat, product=False, jacobian=True, visit=visit)
    with np.errstate(invalid="ignore"):  # J_l = 0 by cancellation: what rounding left out is not known, and so NaN
        powers, noise = track.powers, track.rounding * track.norms
    singular = at_least(
        log_of(s[..., :wanted], powers[..., None]), log_of(np.minimum(noise, s[..., 0]), powers)[..., None]
    )
    # The largest is a number wherever there is one: 0 is exact.
    first = np.arange(singular.log_value.shape[-1]) == 0
    singular = Floored(singular.log_value, singular.resolved | first)
    rank = np.full((rows, depth), np.nan)
    for at in np.ndindex(rows, depth):
        kept = int(np.count_nonzero(s[at] > noise[at]))
        if s[at][0] > 0:
            rank[at] = effective_rank((s[at] / s[at][0]) ** 2, max(kept, 1))

    def shaped(found: Floored) -> Floored:
        shape = (*batch, *found.log_value.shape[1:])
        return Floored(found.log_value.reshape(shape), found.resolved.reshape(shape))

    log_norm = log_of(s[..., 0], powers)
    ratio = ratio_of(s, noise)
    return JacobianProfile(
        log_norm.reshape(*batch, depth), shaped(singular), shaped(ratio), rank.reshape(*batch, depth)
    )


def _reversed_transpose(chain: Chain) -> Chain:
    """The chain of A_L^T, ..., A_1^T: its products are the transposes of P_{L:k}."""
    residual: Any = chain.residual
    if isinstance(residual, Factored):
        residual = Factored(residual.shift, residual.right, residual.left)
    else:
        residual = residual.swapaxes(-1, -2)
    turned = Chain(chain.sigma, chain.v, chain.u, residual, chain.injection)
    return jax.tree.map(lambda leaf: leaf[:, ::-1], turned)


def depth_profile(chain: Chain) -> Floored:
    """ln ||P_{L:k+1} B_k|| for k = 1..L: what arrives at the output of each layer's injection, shape (..., L).

    Implements (T2): J_L is the sum of these terms. One backward product, O(L d^3); an injection that the later layers
    forget faster than rounding forgets it comes out as "below x".

    Args:
        chain: batched over any leading axes.

    Raises:
        ValueError: if an entry is not finite.
    """
    flat, batch = flat_batch(host_chain(chain))
    refuse_non_finite(flat)
    rows, depth = flat.sigma.shape
    size = np.empty((rows, depth))
    injection = flat.injection
    b = np.asarray(frobenius(injection))
    unit = (injection / np.where(b > 0, b, 1.0)[..., None, None]).astype(flat.dtype)
    size[:, -1] = leading_value(unit[:, -1])

    def visit(at: slice, layer: int, x: NDArray[Any]) -> None:
        if layer < depth - 1:
            target = depth - 2 - layer
            size[at, target] = leading_value(np.swapaxes(x, -1, -2) @ unit[at, target])

    (track,) = propagate(_reversed_transpose(flat), product=True, jacobian=False, visit=visit)
    # Entry k of what follows belongs to P_{L:k+1}, the identity for k = L.
    after = slice(depth - 2, None, -1) if depth > 1 else slice(0, 0)
    ones = np.ones((rows, 1))
    powers = np.concatenate([track.powers[:, after], 0 * ones.astype(np.int64)], axis=1)
    noise = np.concatenate([(track.rounding * track.norms)[:, after], 0 * ones], axis=1)
    log_b = log_of(b, 0)
    found = at_least(log_of(size, powers) + log_b, log_of(noise, powers) + log_b)
    exact = np.isneginf(log_b) | np.isneginf(found.log_value)  # no injection, or a zero product: exactly 0
    return Floored(
        np.where(exact, -np.inf, found.log_value).reshape(*batch, depth),
        (found.resolved | exact).reshape(*batch, depth),
    )
