"""Injections put into a chain: none, random, and coherent as in conditions 3a-c of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.chains._requests import afford, host, layer_values, one
from theory.chains.chain import Chain, in_gauge
from theory.chains.directions import frame_across

__all__ = ["inject_coherent", "inject_none", "inject_random", "with_injection"]


def with_injection(chain: Chain, injection: NDArray[Any]) -> Chain:
    """The chain with other injections, in its precision.

    Raises:
        ValueError: if a value leaves that precision.
    """
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(injection, dtype=chain.dtype)
    if not np.isfinite(cast).all():
        raise ValueError(f"the injection's size must be finite in {chain.dtype}; got a value beyond it")
    return Chain(chain.sigma, chain.u, chain.v, chain.residual, cast)


def inject_none(chain: Chain, context_dimension: int = 1) -> Chain:
    """The chain with B_l = 0.

    Args:
        chain: batched over any leading axes.
        context_dimension: m >= 1.

    Raises:
        ValueError: if context_dimension is not an integer of at least 1.
    """
    shape = _shape(chain, context_dimension)
    return with_injection(chain, np.zeros(shape, dtype=chain.dtype))


def inject_random(chain: Chain, rng: np.random.Generator, *, norm: ArrayLike, context_dimension: int) -> Chain:
    """The chain with B_l = norm_l G_l / ||G_l||, G_l with independent Gaussian entries: isotropic, of exact norm.

    Args:
        chain: batched over any leading axes.
        rng: source of randomness.
        norm: ||B_l||, the operator norm, a number or shape (L,), finite, >= 0.
        context_dimension: m >= 1.

    Raises:
        ValueError: if an argument breaks its rule, or the injections would not fit in memory.
    """
    shape = _shape(chain, context_dimension)
    size = layer_values(norm, "norm", chain.depth)
    b = rng.standard_normal(shape)
    b *= (size / np.linalg.norm(b, ord=2, axis=(-2, -1)))[..., None, None]
    return with_injection(chain, b)


def inject_coherent(
    chain: Chain,
    rng: np.random.Generator,
    *,
    along: ArrayLike,
    across: ArrayLike = 0.0,
    context_dimension: int,
) -> Chain:
    """The chain with B_l = along_l u_l w^T + across_l Q_l, w = e_1 in every layer and u_l in the gauge of (T3).

    The paper's conditions 3a-c: u_l^T B_l w = along_l > 0 for one w. Q_l is a Haar-random frame across u_l of
    min(m, d - 1) orthonormal columns.

    Args:
        chain: batched over any leading axes.
        rng: source of randomness.
        along: a number or shape (L,), finite, > 0.
        across: ||(I - u_l u_l^T) B_l||, a number or shape (L,), finite, >= 0; 0 for d = 1.
        context_dimension: m >= 1.

    Raises:
        ValueError: if an argument breaks its rule, or the injections would not fit in memory.
    """
    shape = _shape(chain, context_dimension)
    beta, rest = layer_values(along, "along", chain.depth), layer_values(across, "across", chain.depth)
    if (beta == 0).any():
        raise ValueError("along must be positive, as the conditions 3a-c ask; got 0.0")
    if chain.dimension == 1 and rest.any():
        raise ValueError(f"across must be 0 in one dimension; got {float(rest[rest > 0][0])!r}")
    u, v = (np.asarray(leaf, dtype=np.float64) for leaf in (chain.u, chain.v))
    u = in_gauge(u, v)[0]
    b = np.zeros(shape)
    b[..., 0] = beta[:, None] * u
    columns = min(shape[-1], chain.dimension - 1)
    if columns and rest.any():
        b[..., :columns] += rest[:, None, None] * frame_across(rng, u, columns)
    return with_injection(chain, b)


def _shape(chain: Chain, context_dimension: int) -> tuple[int, ...]:
    """Shape of the injections, refused under tracing and where float64 work on them would not fit."""
    host(chain.u, "chain")
    shape = (*chain.u.shape, one(context_dimension, "context_dimension"))
    afford(3 * 8 * int(np.prod(shape)), f"an injection of shape {shape}")
    return shape
