"""The twisted chains that attain the sharp rates, and their embeddings in more dimensions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from theory.chains._requests import Request, misalignment
from theory.chains.chain import Chain
from theory.chains.factored import Factored

__all__ = ["twisted_chain"]


def twisted_chain(
    alignment: ArrayLike,
    gap: ArrayLike,
    depth: int,
    *,
    sigma: ArrayLike = 1.0,
    sense: Literal["fastest", "slowest"] = "fastest",
    dimension: int = 2,
    rng: np.random.Generator | None = None,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """The chain that attains a bound: the same 2 x 2 layer, repeated, in a plane of R^d; 0 across the plane.

    Implements (T11). "fastest" repeats [[kappa, s], [xi s, -xi kappa]] and grows like max_rate^L; "slowest" repeats
    [[kappa, -s], [xi s, xi kappa]] and grows like min_rate^L, or rotates below the critical alignment. Every u_l is
    the plane's first axis. Injections are u_l, with context dimension 1.

    Args:
        alignment: kappa_l, a number or shape (L,), in [0, 1]. Entry 0 of an array is never read: v_1 is then v_2, and
            u for L = 1.
        gap: xi_l, a number or shape (L,), in [0, 1].
        depth: L >= 1.
        sigma: operator norms, a number or shape (L,), finite, >= 0.
        sense: which bound.
        dimension: d >= 2.
        rng: draws a uniform plane with uniform axes for each chain; None is the plane of the first two coordinates.
        batch: leading axes.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Chains whose residual is factored, of rank 1: O(d) memory a layer.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype, least_dimension=2)
    norms, xi = request.sigma(sigma), request.fraction(gap, "gap")
    kappa = request.fraction(alignment, "alignment", first_unread=True)
    if sense not in ("fastest", "slowest"):
        raise ValueError(f"sense must be 'fastest' or 'slowest'; got {sense!r}")
    if np.ndim(alignment) > 0:
        kappa = np.concatenate([kappa[1:2] if request.depth > 1 else [1.0], kappa[1:]])
    request.afford(6 * request.dimension, "a twisted chain")
    sign = 1.0 if sense == "fastest" else -1.0
    s = misalignment(kappa)
    if rng is None:
        plane = np.broadcast_to(np.eye(request.dimension)[:, :2], (*request.batch, request.dimension, 2))
    else:
        q, r = np.linalg.qr(rng.standard_normal((*request.batch, request.dimension, 2)))
        plane = q * np.copysign(1.0, np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    first, second = plane[..., None, :, 0], plane[..., None, :, 1]
    u = np.broadcast_to(first, (*request.layers, request.dimension))
    v = kappa[:, None] * first + sign * s[:, None] * second
    left = (norms * xi)[:, None] * np.broadcast_to(second, u.shape)
    right = s[:, None] * first - sign * kappa[:, None] * second
    residual = Factored(np.zeros(request.layers), left[..., None], right[..., None])
    return request.chain(norms, u, v, residual, u[..., None])
