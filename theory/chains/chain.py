"""Chains as pytrees of batched arrays, and the numbers measured back from them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from observables import ChainParameters
from theory._checks import unit_vector
from theory.chains.factored import Factored, leading_triples, row

__all__ = ["Chain", "in_gauge", "measure"]


class Chain(eqx.Module):
    """A chain of propagators A_l = sigma_l u_l v_l^T + R_l and injections B_l (T2), (T3), batched over leading axes.

    Leaves are NumPy arrays of one dtype as the constructors build them, or JAX arrays; the class computes with either
    and may cross jit, vmap and grad. The constructors put u and v in the gauge of (T3): <v_l, u_{l-1}> >= 0.

    Attributes:
        sigma: operator norms of the propagators, shape (..., L).
        u: leading left singular vectors, shape (..., L, d).
        v: leading right singular vectors, shape (..., L, d).
        residual: R_l with R_l v_l = 0 and R_l^T u_l = 0, dense of shape (..., L, d, d) or `Factored`.
        injection: B_l, shape (..., L, d, m).

    Raises:
        ValueError: if a chain is built with no layer or from shapes that disagree.
    """

    sigma: Float[Any, "*batch layers"]
    u: Float[Any, "*batch layers d"]
    v: Float[Any, "*batch layers d"]
    residual: Float[Any, "*batch layers d d"] | Factored
    injection: Float[Any, "*batch layers d m"]

    def __check_init__(self) -> None:
        layers = tuple(self.sigma.shape)
        if not layers or layers[-1] == 0:
            raise ValueError(f"sigma must hold at least one layer; got shape {layers}")
        vector = (*layers, self.u.shape[-1])
        for name, expected in (("u", vector), ("v", vector), ("residual", (*vector, vector[-1]))):
            if tuple(getattr(self, name).shape) != expected:
                raise ValueError(f"{name} must have shape {expected}; got {tuple(getattr(self, name).shape)}")
        if self.injection.ndim < 1 or tuple(self.injection.shape[:-1]) != vector or self.injection.shape[-1] < 1:
            raise ValueError(f"injection must have shape {vector} + (m,), m >= 1; got {tuple(self.injection.shape)}")

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
    def dtype(self) -> np.dtype:
        """Precision the chain is held in."""
        return np.dtype(self.sigma.dtype)

    @property
    def propagators(self) -> Any:
        """A_l, dense, shape (..., L, d, d)."""
        residual = self.residual.dense() if isinstance(self.residual, Factored) else self.residual
        return (self.sigma[..., None] * self.u)[..., :, None] * self.v[..., None, :] + residual

    @property
    def injections(self) -> Any:
        """B_l, shape (..., L, d, m)."""
        return self.injection

    def apply(self, layer: Any, x: Any) -> Any:
        """A_l x for one layer, without a d x d matrix where the residual is factored.

        Args:
            layer: 0-based, an int or a traced index.
            x: shape (..., d, k), the leading axes those of the chain.

        Returns:
            Shape (..., d, k).

        Raises:
            IndexError: if an int lies outside the chain.
        """
        return _applied(self, layer, x, transpose=False)

    def apply_transpose(self, layer: Any, x: Any) -> Any:
        """A_l^T x for one layer; arguments and errors as for `apply`."""
        return _applied(self, layer, x, transpose=True)


# A function, as equinox takes 20 us to bind a method and a pass through the layers calls this for every one.
def _applied(chain: Chain, layer: Any, x: Any, *, transpose: bool) -> Any:
    sigma, residual = chain.sigma, chain.residual
    to, along = (chain.v, chain.u) if transpose else (chain.u, chain.v)
    if not isinstance(layer, jax.Array) and not 0 <= layer < sigma.shape[-1]:
        raise IndexError(f"layer must lie in 0..{sigma.shape[-1] - 1}; got {layer!r}")
    target = (row(sigma, layer, 0)[..., None] * row(to, layer, 1))[..., :, None]
    against = row(along, layer, 1)[..., None, :]
    if isinstance(residual, Factored):
        factors = (residual.right, residual.left) if transpose else (residual.left, residual.right)
        left, right = (row(factor, layer, 2) for factor in factors)
        shifted = row(residual.shift, layer, 0)[..., None, None] * x
        # One product of r + 1 columns instead of two: beyond small d the time goes with the passes over x.
        xp = jnp if any(isinstance(leaf, jax.Array) for leaf in (left, target)) else np
        coefficients = xp.concatenate([right.swapaxes(-1, -2), against], axis=-2) @ x
        return shifted + xp.concatenate([left, target], axis=-1) @ coefficients
    matrix = row(residual, layer, 2)
    return target * (against @ x) + (matrix.swapaxes(-1, -2) if transpose else matrix) @ x


def measure(
    propagators: NDArray[np.float64] | Chain,
    injections: NDArray[np.float64] | None = None,
    direction: NDArray[np.float64] | None = None,
) -> ChainParameters:
    """The parameters of one chain, measured from its layers by SVD, in float64.

    The gauge is that of (T3): u_l and v_l are flipped together so that <v_l, u_{l-1}> >= 0, which leaves one sign for
    the whole chain; the coherent parts fix it by having a sum that is not negative. Where sigma_1 = sigma_2 (gap 1) u
    and v are not determined, and neither are alignment and the injections' split.

    Args:
        propagators: A_l, shape (L, d, d), or an unbatched Chain (then injections are its own).
        injections: B_l, shape (L, d, m).
        direction: unit vector w of context space, shape (m,); gives injection_coherent.

    Returns:
        Parameters with misalignment, bulk_gap (0 for d = 1) and, given a direction, injection_coherent.

    Raises:
        ValueError: if the shapes disagree, an entry is not finite, or direction is no unit vector.
    """
    if isinstance(propagators, Chain):
        chain, injections = propagators, np.asarray(propagators.injections)
        if chain.sigma.ndim != 1:
            raise ValueError(f"propagators must be one chain, not a batch; got sigma of shape {chain.sigma.shape}")
        b = _finite(injections, "injections")
        if isinstance(chain.residual, Factored):
            s, bulk, u, v = _factored_triples(chain, chain.residual)
        else:
            s, bulk, u, v = _dense_triples(_finite(chain.propagators, "propagators"))
    else:
        a = _finite(propagators, "propagators")
        if a.ndim != 3 or a.shape[1] != a.shape[2] or a.shape[0] == 0 or a.shape[1] == 0:
            raise ValueError(f"propagators must have shape (L, d, d), L and d at least 1; got {a.shape}")
        if injections is None:
            raise ValueError("injections must be given with propagators; got None")
        b = _finite(injections, "injections")
        if b.ndim != 3 or b.shape[:2] != a.shape[:2]:
            raise ValueError(f"injections must have shape {a.shape[:2]} + (m,); got {b.shape}")
        s, bulk, u, v = _dense_triples(a)

    depth, d = u.shape
    u, v = in_gauge(u, v)
    overlap = np.abs(np.einsum("li,li->l", v[1:], u[:-1]))  # of another rounding than the gauge's own sum near 0
    off = np.linalg.norm(v[1:] - overlap[:, None] * u[:-1], axis=1)
    sigma = s[:, 0]
    safe = np.where(sigma > 0, sigma, 1.0)
    along = np.einsum("ld,ldm->lm", u, b)
    coherent = None if direction is None else along @ unit_vector(direction, "direction", b.shape[2])
    if coherent is not None and coherent.sum() < 0:
        coherent = -coherent  # (T3) leaves one sign for all layers free
    across = b - u[:, :, None] * along[:, None, :]
    return ChainParameters(
        sigma=sigma,
        gap=s[:, 1] / safe if d > 1 else np.zeros(depth),
        alignment=np.concatenate([[np.nan], np.minimum(overlap, 1.0)]),
        injection_along=_lengths(along),
        injection_across=np.linalg.norm(across, ord=2, axis=(1, 2)),
        injection_coherent=coherent,
        misalignment=np.concatenate([[np.nan], np.minimum(off, 1.0)]),
        bulk_gap=bulk / safe / np.sqrt(max(d - 1, 1)),
    )


def in_gauge(u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """u and v, shape (..., L, d), flipped together so that <v_l, u_{l-1}> >= 0 (T3)."""
    overlap = np.sum(v[..., 1:, :] * u[..., :-1, :], axis=-1)
    signs = np.cumprod(np.where(overlap < 0, -1.0, 1.0), axis=-1)[..., None]
    first = np.ones_like(u[..., :1, :1])
    signs = np.concatenate([first, signs], axis=-2)
    return u * signs, v * signs


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms over the last axis, also of entries whose squares leave float64."""
    largest = np.max(np.abs(vectors), axis=-1)
    return largest * np.linalg.norm(vectors / np.where(largest > 0, largest, 1.0)[..., None], axis=-1)


def _finite(value: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got a non-finite entry")
    return array


def _dense_triples(a: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
    """Singular values, ||R||_F, u and v of each layer."""
    left, s, right = np.linalg.svd(a)
    return s, _lengths(s[:, 1:]) if s.shape[1] > 1 else np.zeros(len(s)), left[:, :, 0], right[:, 0, :]


def _factored_triples(chain: Chain, residual: Factored) -> tuple[Any, Any, Any, Any]:
    """Leading singular values, ||R||_F, u and v of each layer, with no d x d matrix made."""
    shift, left, right, sigma, u, v = (
        _finite(leaf, "propagators")
        for leaf in (residual.shift, residual.left, residual.right, chain.sigma, chain.u, chain.v)
    )
    left = np.concatenate([left, (sigma[:, None] * u)[:, :, None]], axis=-1)
    right = np.concatenate([right, v[:, :, None]], axis=-1)
    s, first, second = leading_triples(shift, left, right)
    # The other singular values are |shift|, and none exceeds s[:, 1]: `right` has at least 2 columns, so that span Q
    # holds a plane of vectors it sends to 0.
    unseen = chain.dimension - s.shape[1]
    rest = np.concatenate([s[:, 1:], np.abs(shift)[:, None] * np.sqrt(unseen)], axis=1)
    return s, np.linalg.norm(rest, axis=1), first, second
