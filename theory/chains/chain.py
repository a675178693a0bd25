"""Chains as pytrees of batched arrays, and the numbers measured back from them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from observables import ChainParameters

__all__ = ["Chain", "measure"]


class Chain(eqx.Module):
    """A chain of propagators A_l = sigma_l u_l v_l^T + R_l and injections B_l (T2), (T3), batched over leading axes.

    Leaves are NumPy float64 as `make_chain` builds them, or JAX arrays; the class computes with either and may cross
    jit, vmap and grad.

    Attributes:
        sigma: operator norms of the propagators, shape (..., L).
        u: leading left singular vectors, shape (..., L, d).
        v: leading right singular vectors, shape (..., L, d).
        residual: R_l with R_l v_l = 0 and R_l^T u_l = 0, shape (..., L, d, d).
        injection: B_l, shape (..., L, d, m).
    """

    sigma: Float[Any, "*batch layers"]
    u: Float[Any, "*batch layers d"]
    v: Float[Any, "*batch layers d"]
    residual: Float[Any, "*batch layers d d"]
    injection: Float[Any, "*batch layers d m"]

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return self.sigma.shape[-1]

    @property
    def dimension(self) -> int:
        """Size d of the hidden state."""
        return self.u.shape[-1]

    @property
    def context_dimension(self) -> int:
        """Size m of the context."""
        return self.injection.shape[-1]

    @property
    def propagators(self) -> Any:
        """A_l, shape (..., L, d, d)."""
        dominant = self.sigma[..., None, None] * self.u[..., :, None] * self.v[..., None, :]
        return dominant + self.residual

    @property
    def injections(self) -> Any:
        """B_l, shape (..., L, d, m)."""
        return self.injection


def measure(
    propagators: NDArray[np.float64] | Chain,
    injections: NDArray[np.float64] | None = None,
    direction: NDArray[np.float64] | None = None,
) -> ChainParameters:
    """The parameters of one chain, measured from its dense layers by SVD, in float64.

    The gauge is that of (T3): u_l and v_l are flipped together so that <v_l, u_{l-1}> >= 0. Where sigma_1 = sigma_2
    (gap 1) u and v are not determined, and neither are alignment and the injections' split.

    Args:
        propagators: A_l, shape (L, d, d), or an unbatched Chain (then injections are its own).
        injections: B_l, shape (L, d, m).
        direction: unit vector w of context space, shape (m,); gives injection_coherent.

    Returns:
        Parameters with misalignment, bulk_gap (0 for d = 1) and, given a direction, injection_coherent.

    Raises:
        ValueError: if the shapes disagree or an entry is not finite.
    """
    if isinstance(propagators, Chain):
        injections = np.asarray(propagators.injections)
        propagators = np.asarray(propagators.propagators)
    a = np.asarray(propagators, dtype=np.float64)
    if a.ndim != 3 or a.shape[1] != a.shape[2]:
        raise ValueError(f"propagators must have shape (L, d, d); got {a.shape}")
    if injections is None:
        raise ValueError("injections must be given with propagators; got None")
    b = np.asarray(injections, dtype=np.float64)
    if b.ndim != 3 or b.shape[:2] != a.shape[:2]:
        raise ValueError(f"injections must have shape {a.shape[:2]} + (m,); got {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("propagators and injections must be finite; got a non-finite entry")

    depth, d = a.shape[:2]
    left, s, right = np.linalg.svd(a)
    u, v = left[:, :, 0].copy(), right[:, 0, :].copy()
    for layer in range(1, depth):
        if v[layer] @ u[layer - 1] < 0:
            u[layer], v[layer] = -u[layer], -v[layer]
    overlap = np.einsum("li,li->l", v[1:], u[:-1])
    off = np.linalg.norm(v[1:] - overlap[:, None] * u[:-1], axis=1)
    sigma = s[:, 0]
    safe = np.where(sigma > 0, sigma, 1.0)
    gap = s[:, 1] / safe if d > 1 else np.zeros(depth)
    bulk = np.sqrt(np.sum(s[:, 1:] ** 2, axis=1) / max(d - 1, 1)) / safe
    along = np.einsum("ld,ldm->lm", u, b)
    across = b - u[:, :, None] * along[:, None, :]
    return ChainParameters(
        sigma=sigma,
        gap=gap,
        alignment=np.concatenate([[np.nan], np.minimum(overlap, 1.0)]),
        injection_along=np.linalg.norm(along, axis=1),
        injection_across=np.linalg.norm(across, ord=2, axis=(1, 2)),
        injection_coherent=None if direction is None else along @ np.asarray(direction, dtype=np.float64),
        misalignment=np.concatenate([[np.nan], np.minimum(off, 1.0)]),
        bulk_gap=bulk,
    )
