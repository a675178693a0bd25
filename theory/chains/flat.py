"""Chains whose residual has equal singular values, or any given ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from theory.chains._requests import Request, host, misalignment, refuse_without_room
from theory.chains.chain import Chain
from theory.chains.directions import linked_directions
from theory.chains.isometries import flat_residual, profile_residual, reflection_residual

__all__ = ["flat_chain", "profile_chain"]


def flat_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    gap: ArrayLike,
    alignment: ArrayLike,
    sigma: ArrayLike = 1.0,
    isometry: Literal["haar", "reflection"] = "haar",
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains with residual sigma_l xi_l times an isometry from the complement of v_l to that of u_l.

    Implements the family of (T23) and (T24). u_l is uniform and v_l = kappa_l u_{l-1} + s_l n_l, n_l uniform across.
    "haar" draws the isometry uniformly, dense. "reflection" takes +-(a Householder reflection): factored, O(d) memory
    a layer, and the same law of the spectrum of every product (T24), but not of the matrices themselves.

    Args:
        depth: L >= 1.
        dimension: d >= 1; for d = 1 the gap is 0 and the alignment 1.
        rng: source of randomness.
        gap: xi_l, a number or shape (L,), in [0, 1]. At 1 every singular value is equal, and u and v are two of many.
        alignment: kappa_l, a number or shape (L,), in [0, 1]; entry 0 of an array is never read.
        sigma: operator norms, a number or shape (L,), finite, >= 0.
        isometry: how the isometry is drawn.
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Chains with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or dense chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype)
    if isometry not in ("haar", "reflection"):
        raise ValueError(f"isometry must be 'haar' or 'reflection'; got {isometry!r}")
    norms, xi = request.sigma(sigma), request.fraction(gap, "gap")
    kappa = request.fraction(alignment, "alignment", first_unread=True)
    refuse_without_room({"gap": xi, "alignment": kappa}, request.dimension)
    if isometry == "reflection" or request.dimension == 1:
        request.afford(6 * request.dimension, "a chain of reflections")
        u, v = linked_directions(rng, kappa, misalignment(kappa), request.dimension, request.batch)
        return request.chain(norms, u, v, reflection_residual(norms * xi, u, v))
    request.afford_dense()
    u, v = linked_directions(rng, kappa, misalignment(kappa), request.dimension, request.batch)
    return request.chain(norms, u, v, flat_residual(rng, request, norms * xi, u, v))


def profile_chain(
    depth: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    residual_values: ArrayLike,
    alignment: ArrayLike,
    sigma: ArrayLike = 1.0,
    gap: ArrayLike | None = None,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Chains whose residuals have any given singular values, and Haar-random singular vectors.

    Args:
        depth: L >= 1.
        dimension: d >= 2.
        rng: source of randomness.
        residual_values: singular values of R_l relative to sigma_l, largest first, shape (d - 1,) or (L, d - 1), in
            [0, 1]. The first is the gap.
        alignment: kappa_l, a number or shape (L,), in [0, 1]; entry 0 of an array is never read.
        sigma: operator norms, a number or shape (L,), finite, >= 0.
        gap: xi_l, if it is to be checked against the first of the values; a number or shape (L,).
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Dense chains with injection 0 and context dimension 1.

    Raises:
        ValueError: if an argument breaks its rule, or the chains would not fit in memory (stating the bytes).
    """
    request = Request.of(depth, dimension, batch, dtype, least_dimension=2)
    norms = request.sigma(sigma)
    kappa = request.fraction(alignment, "alignment", first_unread=True)
    values = _spectra(request, residual_values)
    if gap is not None:
        xi = request.fraction(gap, "gap")
        if (values[:, 0] != xi).any():
            layer = int(np.argmax(values[:, 0] != xi))
            pair = f"{float(values[layer, 0])!r} with gap {float(xi[layer])!r}"
            raise ValueError(f"residual_values must begin with the gap; got {pair}")
    request.afford_dense()
    u, v = linked_directions(rng, kappa, misalignment(kappa), request.dimension, request.batch)
    return request.chain(norms, u, v, profile_residual(rng, request, norms[:, None] * values, u, v))


def _spectra(request: Request, residual_values: ArrayLike) -> np.ndarray:
    name, n = "residual_values", request.dimension - 1
    host(residual_values, name)
    try:
        values = np.array(residual_values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be real numbers; got {residual_values!r}") from error
    if values.shape not in ((n,), (request.depth, n)):
        raise ValueError(f"{name} must have shape ({n},) or ({request.depth}, {n}); got {values.shape}")
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        raise ValueError(f"{name} must lie in [0, 1]; got {float(values[outside][0])!r}")
    rises = np.diff(values, axis=-1) > 0
    if rises.any():
        where = tuple(np.argwhere(rises)[0])
        pair = (float(values[where]), float(values[(*where[:-1], where[-1] + 1)]))
        raise ValueError(f"{name} must be descending; got {pair[0]!r} before {pair[1]!r}")
    return np.broadcast_to(values, (request.depth, n))
