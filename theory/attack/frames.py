"""Chains whose gap and alignment are exact for every value of the free parameters, smooth and free of LAPACK.

Write each layer from the orthonormal frame whose first vector is u_{l-1} to the one whose first vector is u_l:

    A_l = sigma_l [ kappa_l        s_l n_l^T     ]      n_l a unit vector of R^{d-1},
                  [ xi_l D_l O_l N_l^T           ]      N_l = [-s_l n_l^T; I - (1 - kappa_l) n_l n_l^T], d x (d-1).

The columns of N_l are orthonormal and orthogonal to v_l = (kappa_l, s_l n_l), O_l is a product of d - 1 Householder
reflections and D_l = diag(1, t_2, ...) with t in [0, 1]: so sigma_1(A_l) = sigma_l with directions e_1 and v_l, and
sigma_2 = sigma_l xi_l. Every chain is one of these, up to the frames: choose the rest of frame l as the left singular
vectors of R_l; what is left is n_l, the right ones (any orthogonal matrix, and d - 1 reflections reach all of them up
to a sign that the frame takes), and the relative singular values. Read in one fixed frame it is a chain with u_l = e_1
in every layer, which is how it is handed out.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory.attack.spec import CONE_BOUNDS, LARGEST_GAIN, AttackSpec
from theory.regimes.thresholds import PAPER_FIRST_ORDER_ERROR

__all__ = ["Box", "Free", "Numbers", "layers", "numbers", "start"]

CONE_MARGIN = 1e-3
"""Relative distance kept from kappa_c, where the cone of (T9) degenerates and gradients are infinite."""


class Free(eqx.Module):
    """What the search moves; any real values give a chain with the prescribed numbers. One start, or a batch.

    Attributes:
        normal: direction n_l before normalisation, shape (..., L, d - 1).
        mirrors: Householder vectors of O_l, shape (..., L, d - 1, d - 1).
        bulk: t_2.. of D_l through a sigmoid, shape (..., L, max(d - 2, 0)).
        gap, alignment, sigma: position in their ranges through a sigmoid, shape (..., L) or (..., 1).
        along: direction of u_l^T B_l in context space, before normalisation, shape (..., L, 2).
        across: left and right directions of the injections' part across u_l, shapes (..., L, d - 1) and (..., L, 2).
    """

    normal: Float[Array, "*batch layers n"]
    mirrors: Float[Array, "*batch layers n n"]
    bulk: Float[Array, "*batch layers k"]
    gap: Float[Array, "*batch positions"]
    alignment: Float[Array, "*batch positions"]
    sigma: Float[Array, "*batch positions"]
    along: Float[Array, "*batch layers 2"]
    across: tuple[Float[Array, "*batch layers n"], Float[Array, "*batch layers 2"]]


class Box(eqx.Module):
    """Ranges of gap, alignment and sigma as arrays (low, high), so that one compilation serves every grid point."""

    gap: Float[Array, " ends"]
    alignment: Float[Array, " ends"]
    sigma: Float[Array, " ends"]


class Numbers(eqx.Module):
    """kappa_l, s_l, xi_l and sigma_l of one chain, each of shape (L,); entry 0 of the first two is not read."""

    alignment: Float[Array, " layers"]
    misalignment: Float[Array, " layers"]
    gap: Float[Array, " layers"]
    sigma: Float[Array, " layers"]


def start(spec: AttackSpec, shared: bool) -> Free:
    """Random starts, one a restart: isotropic directions and reflections, positions about the middle of the ranges.

    NumPy arrays, so that the starts are the same bits on every machine.
    """
    n, depth, count = spec.dimension - 1, spec.depth, spec.restarts
    positions = 1 if shared else depth
    shapes = [
        (depth, n),
        (depth, n, n),
        (depth, max(n - 1, 0)),
        (positions,),
        (positions,),
        (positions,),
        (depth, 2),
        (depth, n),
        (depth, 2),
    ]
    rng = np.random.default_rng(spec.seed)
    drawn: list[Any] = [rng.standard_normal((count, *shape)) for shape in shapes]
    return Free(*drawn[:7], across=(drawn[7], drawn[8]))


def numbers(free: Free, box: Box, bound: str, depth: int) -> Numbers:
    """The chain's numbers, inside the ranges and the hypotheses of the attacked bound."""
    sigma = _within(free.sigma, box.sigma[0], box.sigma[1])
    low, high = box.alignment[0], box.alignment[1]
    if bound == "P2":
        fixed = low == high
        sigma_high = jnp.where(
            fixed & (low > 0), jnp.minimum(box.sigma[1], LARGEST_GAIN / jnp.where(low > 0, low, 1)), box.sigma[1]
        )
        sigma = _within(free.sigma, jnp.minimum(box.sigma[0], sigma_high), sigma_high)
        high = jnp.where(fixed, high, jnp.minimum(high, LARGEST_GAIN / sigma))
    gap: Any = _within(free.gap, box.gap[0], box.gap[1])
    if bound == "P1":
        # A free alignment must leave room for a fixed gap, a free gap for the alignment.
        fixed_gap = box.gap[0] == box.gap[1]
        room = jnp.where(fixed_gap, depth * box.gap[0] / PAPER_FIRST_ORDER_ERROR, 0.0)
        low = jnp.where(low == high, low, jnp.maximum(low, room))
    if bound in CONE_BOUNDS:
        widest: Any = jnp.max(gap)
        critical = 2 * jnp.sqrt(widest) / (1 + widest) * (1 + CONE_MARGIN)
        low = jnp.where(low == high, low, jnp.clip(critical, low, high))
    kappa = _within(free.alignment, low, high)
    if bound == "P1":
        limit = PAPER_FIRST_ORDER_ERROR * kappa / depth
        gap = jnp.where(box.gap[0] == box.gap[1], gap, _within(free.gap, 0.0, jnp.minimum(box.gap[1], limit)))
    square = (1 - kappa) * (1 + kappa)
    safe: Any = jnp.where(square > 0, square, 1)
    s = jnp.where(square > 0, jnp.sqrt(safe), 0)  # the root has no slope at 0
    kappa, s, gap, sigma = (jnp.broadcast_to(x, (depth,)) for x in (kappa, s, gap, sigma))
    return Numbers(kappa, s, gap, sigma)


def layers(free: Free, chain: Numbers) -> tuple[Float[Array, "layers d"], Float[Array, "layers n d"]]:
    """v_l and the lower rows of A_l / sigma_l, in the moving frames; in layer 1 v_1 = e_1."""
    first = jnp.arange(chain.gap.size) == 0
    kappa, s = jnp.where(first, 1.0, chain.alignment), jnp.where(first, 0.0, chain.misalignment)
    return jax.vmap(_layer)(free.normal, free.mirrors, free.bulk, kappa, s, chain.gap)


def _layer(normal: Any, mirrors: Any, bulk: Any, kappa: Any, s: Any, xi: Any) -> tuple[Any, Any]:
    n = unit(normal)
    size = n.size
    basis = jnp.concatenate([-s * n[:, None], jnp.eye(size) - (1 - kappa) * n[:, None] * n[None, :]], axis=1)
    for index in range(size):
        w = unit(mirrors[index])
        basis = basis - 2 * w[:, None] * (w @ basis)[None, :]
    scale = jnp.concatenate([jnp.ones(1), jax.nn.sigmoid(bulk)])
    return jnp.concatenate([kappa[None], s * n]), xi * scale[:, None] * basis


def unit(x: Any) -> Any:
    """x / ||x||."""
    return x / jnp.sqrt(jnp.sum(x * x))


def _within(position: Any, low: Any, high: Any) -> Any:
    return low + (high - low) * jax.nn.sigmoid(position)
