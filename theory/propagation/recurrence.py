"""The recurrence of the context Jacobian and the product of propagators, with a running log-scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from theory.chains.chain import Chain

__all__ = ["Scaled", "context_jacobians", "products"]


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Matrices too large or too small for floats: value = matrix * exp(log_scale), batched.

    Attributes:
        matrix: Frobenius norm 1 (0 for the zero matrix), shape (..., p, q), float64.
        log_scale: natural logarithm of the Frobenius norm, shape (...); -inf for the zero matrix.
        steps: number of matrix products behind it, which sets what rounding can have made.
    """

    matrix: NDArray[np.float64]
    log_scale: NDArray[np.float64]
    steps: int

    def dense(self) -> NDArray[np.float64]:
        """The matrices themselves; inf or 0 where they leave float64."""
        with np.errstate(over="ignore"):
            return self.matrix * np.exp(self.log_scale)[..., None, None]

    def singular_values(self) -> NDArray[np.float64]:
        """Singular values of `matrix`, descending, shape (..., min(p, q))."""
        return np.asarray(np.linalg.svd(self.matrix, compute_uv=False), dtype=np.float64)

    def log_norm(self) -> NDArray[np.float64]:
        """ln of the operator norm, shape (...); -inf for the zero matrix."""
        with np.errstate(divide="ignore"):
            return np.log(self.singular_values()[..., 0]) + self.log_scale

    def log_ratio(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """ln sigma_2 / sigma_1, and whether arithmetic resolves it.

        A product of n matrices of size p carries an error of about n p eps of its norm, so a smaller ratio is rounding:
        it comes out as the floor itself, an upper bound, with False. `theory.propagation.reduction` has no such floor.

        Returns:
            Two arrays of shape (...): the ratio (NaN for the zero matrix or a single singular value) and the flag.
        """
        s = self.singular_values()
        if s.shape[-1] < 2:
            return np.full(s.shape[:-1], np.nan), np.zeros(s.shape[:-1], dtype=bool)
        floor = max(1, self.steps) * max(self.matrix.shape[-2:]) * float(np.finfo(np.float64).eps)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = s[..., 1] / s[..., 0]
            return np.where(np.isnan(ratio), np.nan, np.log(np.maximum(ratio, floor))), ratio > floor


def _rescaled(matrix: Any, log_scale: Any) -> tuple[Any, Any]:
    size = jnp.sqrt(jnp.sum(matrix * matrix))
    safe = jnp.where(size > 0, size, 1)
    return matrix / safe, jnp.where(size > 0, log_scale + jnp.log(safe), -jnp.inf)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None))
def _run(propagators: Any, injections: Any, start: Any) -> tuple[Any, Any]:
    """J_l = A_l J_{l-1} + B_l for every l, each as (unit matrix, log scale); a batch of chains."""

    def layer(carry: Any, row: Any) -> tuple[Any, Any]:
        matrix, log_scale = carry
        a, b = row
        moved, moved_scale = _rescaled(a @ matrix, log_scale)
        added, added_scale = _rescaled(b, 0.0)
        common = jnp.maximum(moved_scale, added_scale)
        common = jnp.where(jnp.isfinite(common), common, 0.0)
        total = moved * jnp.exp(moved_scale - common) + added * jnp.exp(added_scale - common)
        carry = _rescaled(total, common)
        return carry, carry

    matrix, log_scale = _rescaled(start, 0.0)
    _, out = jax.lax.scan(layer, (matrix, log_scale), (propagators, injections))
    return out


def _batched(propagators: Any, injections: Any, start: Any) -> Scaled:
    batch, depth = propagators.shape[:-3], propagators.shape[-3]
    rows = int(np.prod(batch))
    a = propagators.reshape(rows, *propagators.shape[-3:])
    b = injections.reshape(rows, *injections.shape[-3:])
    with jax.enable_x64(True):
        matrix, log_scale = (np.asarray(x) for x in _run(a, b, start))
    return Scaled(matrix.reshape(*batch, depth, *matrix.shape[-2:]), log_scale.reshape(*batch, depth), depth)


def context_jacobians(chain: Chain) -> Scaled:
    """J_1 .. J_L by the recurrence J_l = A_l J_{l-1} + B_l from J_0 = 0, in float64.

    Implements (T2), paper eq. 2. A chain with J_0 != 0 is the same chain with B_1 replaced by B_1 + A_1 J_0.

    Args:
        chain: batched over any leading axes.

    Returns:
        Scaled matrices of shape (..., L, d, m).
    """
    a = np.asarray(chain.propagators, dtype=np.float64)
    b = np.asarray(chain.injections, dtype=np.float64)
    return _batched(a, b, np.zeros(b.shape[-2:]))


def products(chain: Chain) -> Scaled:
    """P_{1:1} .. P_{L:1}, products A_l ... A_1 of the propagators, in float64.

    Implements (T2).

    Args:
        chain: batched over any leading axes.

    Returns:
        Scaled matrices of shape (..., L, d, d).
    """
    a = np.asarray(chain.propagators, dtype=np.float64)
    return _batched(a, np.zeros_like(a), np.eye(a.shape[-1]))
