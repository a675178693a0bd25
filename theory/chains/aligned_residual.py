"""Residual chains I + F whose updates read and write along linked frames: the dense oracle of the residual family."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.chains._requests import Request, layer_values, misalignment, one
from theory.chains.chain import Chain, in_gauge
from theory.chains.factored import Factored, leading_triples
from theory.chains.injections import with_injection

__all__ = ["aligned_residual_chain", "inject_written", "write_frames"]


def aligned_residual_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    strength: ArrayLike,
    alignment: ArrayLike,
    persistence: ArrayLike = 0.0,
    rank: int = 1,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains A_l = I + tau_l X_l C_l^T with C_l = kappa_l X_{l-1} + s N_l and X_l = omega_l X_{l-1} + s_w M_l.

    The family of (T32): X_l, C_l have r orthonormal columns, N_l and M_l are independent Haar frames across X_{l-1},
    X_0 is a Haar frame. ||F_l|| = tau_l, r times. sigma, u and v come from the SVD on the span of X_l and C_l; with
    strength 0 every singular value is equal, and u and v are two of many.

    Args:
        depth: L >= 1.
        dimension: d >= 2 rank.
        rng: source of randomness.
        strength: tau_l, a number or shape (L,), finite, >= 0.
        alignment: kappa_l, a number or shape (L,), in [0, 1]; this is not that of (T3), see `residual_rates`.
        persistence: omega_l, a number or shape (L,), in [0, 1].
        rank: r, the columns of the frames.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Chains in the gauge of (T3), factored with r + 1 columns, the first r of `left` being X_l, with injection 0 and
        context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype)
    terms, d = one(rank, "rank"), request.dimension
    if d < 2 * terms:
        raise ValueError(f"dimension must be at least 2 rank = {2 * terms}; got {d}")
    tau = layer_values(strength, "strength", request.depth)
    kappa, omega = request.fraction(alignment, "alignment"), request.fraction(persistence, "persistence")
    s, turned = misalignment(kappa), misalignment(omega)
    request.afford(d * (2 * terms + 6), f"a residual of rank {terms + 1}")
    left = np.empty((*request.layers, d, terms + 1))
    right = np.empty_like(left)
    sigma, u, v = np.empty(request.layers), np.empty((*request.layers, d)), np.empty((*request.layers, d))
    before = np.linalg.qr(rng.standard_normal((*request.batch, d, terms)))[0]  # turned by a rotation of no account
    for layer in range(request.depth):
        read = kappa[layer] * before + s[layer] * _haar_across(rng, before, terms)
        write = omega[layer] * before + turned[layer] * _haar_across(rng, before, terms)
        triples = leading_triples(np.ones(request.batch), write, tau[layer] * read)
        sigma[..., layer], u[..., layer, :], v[..., layer, :] = triples[0][..., 0], triples[1], triples[2]
        left[..., layer, :, :terms], right[..., layer, :, :terms] = write, tau[layer] * read
        before = write
    left[..., terms], right[..., terms] = -sigma[..., None] * u, v
    return request.chain(sigma, *in_gauge(u, v), Factored(np.ones(request.layers), left, right))


def write_frames(chain: Chain) -> NDArray[Any]:
    """X_l of a chain of this family, shape (..., L, d, r).

    Raises:
        ValueError: if the chain is not factored.
    """
    if not isinstance(chain.residual, Factored):
        raise ValueError("chain must be one of aligned_residual_chain; got a dense residual")
    return np.asarray(chain.residual.left)[..., :-1]


def inject_written(
    chain: Chain,
    rng: np.random.Generator,
    *,
    along: float,
    injected: float = 0.0,
    frame: Literal["across", "isotropic"] = "across",
    context_dimension: int,
) -> Chain:
    """The chain with B_l = along x_l w^T + injected Q_l, x_l the first column of X_l and w = e_1.

    Args:
        chain: of `aligned_residual_chain`, batched over any leading axes.
        rng: source of randomness.
        along: finite, >= 0.
        injected: finite, >= 0.
        frame: "across": Q_l is a Haar frame across X_l. "isotropic": a Haar frame of R^d.
        context_dimension: m, at most d - r across and d isotropic.

    Raises:
        ValueError: if an argument breaks its rule.
    """
    x, m = write_frames(chain), one(context_dimension, "context_dimension")
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    beta, b = (float(layer_values(value, name, 1)[0]) for value, name in ((along, "along"), (injected, "injected")))
    avoided = x if frame == "across" else x[..., :0]
    if m > chain.dimension - avoided.shape[-1]:
        raise ValueError(f"context_dimension must be at most {chain.dimension - avoided.shape[-1]}; got {m}")
    injection = b * _haar_across(rng, np.asarray(avoided, dtype=np.float64), m)
    injection[..., 0] += beta * x[..., 0]
    return with_injection(chain, injection)


def _haar_across(rng: np.random.Generator, frame: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Haar-random frames of orthonormal columns across given ones, shape (..., d, columns)."""
    x = rng.standard_normal((*frame.shape[:-1], columns))
    q, r = np.linalg.qr(np.concatenate([frame, x], axis=-1))
    signs = np.copysign(1.0, np.diagonal(r, axis1=-2, axis2=-1))[..., None, frame.shape[-1] :]
    return q[..., :, frame.shape[-1] :] * signs
