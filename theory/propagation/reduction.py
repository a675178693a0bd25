"""Products of flat-residual chains in as many coordinates as there are layers, with their own log-scales.

For A_l = sigma_l O_l (xi_l I + (1 - xi_l) v_l v_l^T), O_l orthogonal with O_l v_l = u_l, pulling back through
O_l ... O_1 turns P_{L:1} into prod_l sigma_l (xi_l I + (1 - xi_l) w_l w_l^T) with <w_l, w_{l-1}> = kappa_l (T24). The
w_l span at most L directions, so the singular values of P cost O(L^3) at any dimension, for this very chain.

The product is carried as P = y a^T + N with unit y orthogonal to the columns of N, each part with its own scale:
sigma_2 / sigma_1 then keeps its digits down to exp(-1e300), where a plain product loses them near 1e-16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from theory.chains.chain import Chain
from theory.chains.factored import Factored
from theory.propagation._host import flat_batch, host_chain, refuse_non_finite

__all__ = ["direction_coordinates", "log_singular_values", "pulled_back"]

PLAIN_RATIO = 1e-6
"""||N|| / ||a|| above which the two parts are added and decomposed plainly. Below it sigma_2 = ||N (I - a a^T/|a|^2)||
to a relative error of its square, 1e-12; above it the plain decomposition errs by eps / 1e-6 at most."""

FLAT_TOLERANCE = 1e-8
"""How far O^T O of a residual that counts as flat may stray from I, an entry: rounding reaches 1e-13 at depth 1,000."""

CHUNK_BYTES = 32 * 2**20
"""Memory of one batch of N, bytes."""


def direction_coordinates(
    alignment: NDArray[np.float64], dimension: int, rng: np.random.Generator, draws: int, depth: int
) -> NDArray[np.float64]:
    """Random pulled-back directions w_1..w_L with <w_l, w_{l-1}> = kappa, else isotropic, in a basis of their span.

    Implements the drawing of (T24): a uniform direction of R^d, seen from the span of its forerunners, is a Gaussian
    vector there and one chi-distributed length outside, so no vector of length d is made. The random numbers do not
    depend on alignment: chains of neighbouring alignments share them.

    Args:
        alignment: kappa, dimensionless, in [0, 1], shape (k,).
        dimension: d >= 2.
        rng: source of randomness.
        draws: number of chains for each alignment.
        depth: L.

    Returns:
        Unit vectors, shape (k, draws, L, min(d, L + 1)); the coordinate beyond the span, where there is one, is 0.
    """
    width = min(dimension, depth + 1)
    kappa = alignment[:, None, None]
    s = np.sqrt((1 - kappa) * (1 + kappa))
    w = np.zeros((alignment.size, draws, depth, width))
    w[..., 0, 0] = 1.0
    for layer in range(1, depth):
        span = min(layer, dimension)  # dimension of span(w_1..w_{l-1}), almost surely
        fresh = np.zeros((draws, width))
        fresh[:, :span] = rng.standard_normal((draws, span))
        if span < dimension:
            fresh[:, span] = np.sqrt(rng.chisquare(dimension - span, draws))
        before = w[..., layer - 1, :]
        normal = fresh - np.sum(fresh * before, axis=-1, keepdims=True) * before
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        # A second projection takes out what rounding left along w_{l-1}, so that kappa is exact.
        normal -= np.sum(normal * before, axis=-1, keepdims=True) * before
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        w[..., layer, :] = kappa * before + s * normal
    return w


def pulled_back(
    chain: Chain,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The directions w_l = (O_{l-1} ... O_1)^T v_l of a flat chain, what they decide, and the rotation they leave.

    Implements (T24) for a given chain: with O_l = u_l v_l^T + R_l / (sigma_l xi_l), orthogonal where the residual is
    flat, P_{L:1} = H prod_l sigma_l (xi_l I + (1 - xi_l) w_l w_l^T), H = O_L ... O_1. Cost O(L d^3), or O(L d^2) for a
    factored residual.

    Args:
        chain: unbatched, every gap above 0.

    Returns:
        w of shape (L, d); xi and sigma of shape (L,); H of shape (d, d). The first three, each given a leading axis,
        are what `log_singular_values` takes.

    Raises:
        ValueError: if the chain is batched, an entry is not finite, or a residual is not flat to 1e-8.
    """
    flat, batch = flat_batch(host_chain(chain, np.float64))
    if batch:
        raise ValueError(f"chain must be one chain; got a batch of shape {batch}")
    refuse_non_finite(flat)
    d, depth = flat.dimension, flat.depth
    eye = np.eye(d)[None]
    turn, w, gap = eye, np.empty((depth, d)), np.empty(depth)
    for layer in range(depth):
        u, v, sigma = flat.u[:, layer, :, None], flat.v[:, layer, :, None], float(flat.sigma[0, layer])
        w[layer] = (np.swapaxes(turn, 1, 2) @ v)[0, :, 0]
        # One column across v_l has length sigma xi in a flat residual; all of them together average rounding.
        residual = _without_dominant(flat, layer, turn)
        size = float(np.linalg.norm(residual)) / np.sqrt(max(d - 1, 1))
        gap[layer] = size / sigma if sigma > 0 else np.nan
        if not size > 0 and d > 1:
            raise ValueError(f"gap must be above 0 in every layer for a rotation to exist; got 0 in layer {layer + 1}")
        turn = u @ (np.swapaxes(v, 1, 2) @ turn) + (residual / size if size > 0 else 0.0)
        stray = float(np.abs(np.swapaxes(turn, 1, 2) @ turn - eye).max())
        if stray > FLAT_TOLERANCE:
            raise ValueError(f"residual must have d - 1 equal singular values; layer {layer + 1} strays by {stray:.2g}")
    return w, gap, flat.sigma[0].copy(), turn[0]


def _without_dominant(chain: Chain, layer: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    residual: Any = chain.residual
    return residual.apply(layer, x) if isinstance(residual, Factored) else residual[:, layer] @ x


def _normalised(x: Float[Array, ...], log_scale: Float[Array, ""]) -> tuple[Any, Any]:
    size: Any = jnp.sqrt(jnp.sum(x * x))
    safe: Any = jnp.where(size > 0, size, 1.0)
    return x / safe, jnp.where(size > 0, log_scale + jnp.log(safe), -jnp.inf)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0))
def _accumulate(w: Any, gap: Any, sigma: Any) -> Any:
    """y, a, ln |a|, N, ln |N| after all layers of one chain: w (L, r), gap (L,), sigma (L,)."""

    def apply(xi: Any, direction: Any, x: Any) -> Any:
        along = direction @ x
        return xi * x + (1 - xi) * (direction[:, None] * along[None, :] if x.ndim == 2 else direction * along)

    def layer(carry: Any, row: Any) -> tuple[Any, None]:
        y, a, log_a, n, log_n = carry
        direction, xi, gain = row
        moved = apply(xi, direction, y)
        length: Any = jnp.sqrt(jnp.sum(moved * moved))
        # A layer that sends y to 0 (xi = 0, kappa = 0) leaves any direction as good: keep the layer's own.
        y_next = jnp.where(length > 0, moved / jnp.where(length > 0, length, 1.0), direction)
        spread = apply(xi, direction, n)
        row_part = y_next @ spread
        common = jnp.maximum(log_a, log_n)
        common = jnp.where(jnp.isfinite(common), common, 0.0)
        a_next: Any = length * jnp.exp(log_a - common) * a + jnp.exp(log_n - common) * row_part
        n_next = spread - y_next[:, None] * row_part[None, :]
        log_gain = jnp.log(gain)
        a_next, log_a_next = _normalised(a_next, common + log_gain)
        log_n_before: Any = jnp.where(jnp.isfinite(log_n), log_n, 0.0)
        n_next, log_n_next = _normalised(n_next, log_n_before + log_gain)
        log_n_next = jnp.where(jnp.isfinite(log_n), log_n_next, -jnp.inf)
        return (y_next, a_next, log_a_next, n_next, log_n_next), None

    first, xi, gain = w[0], gap[0], sigma[0]
    rest: Any = jnp.eye(w.shape[1], dtype=w.dtype) - first[:, None] * first[None, :]
    n, log_n = _normalised(xi * rest, jnp.log(gain))
    start = (first, first, jnp.log(gain), n, log_n)
    carry, _ = jax.lax.scan(layer, start, (w[1:], gap[1:], sigma[1:]))
    return carry


def log_singular_values(
    w: NDArray[np.float64], gap: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln sigma_1 and ln sigma_2 of prod_l sigma_l (xi_l I + (1 - xi_l) w_l w_l^T), for a batch of chains.

    Implements (T24), in float64 whatever JAX's default.

    Args:
        w: unit vectors, shape (n, L, r), r the dimension they are given in. If the chain lives in more dimensions than
            they span, r must exceed that span by one, so that sigma_2 of a single layer is seen.
        gap: xi_l, shape (n, L), in [0, 1].
        sigma: sigma_l, shape (n, L), > 0.

    Returns:
        Two arrays of shape (n,); -inf where a singular value is exactly 0. ln sigma_2 is NaN where r = 1.
    """
    n, _depth, width = w.shape
    log_first, log_second = np.empty(n), np.empty(n)
    chunk = max(1, min(n, CHUNK_BYTES // (8 * width * width)))
    for begin in range(0, n, chunk):
        rows = np.arange(begin, begin + chunk) % n  # the last chunk wraps round, so that one shape is compiled
        with jax.enable_x64(True):
            parts = _accumulate(w[rows], gap[rows], sigma[rows])
            y, a, log_a, rest, log_n = (np.asarray(part) for part in parts)
        first, second = _decompose(y, a, log_a, rest, log_n)
        keep = min(chunk, n - begin)
        log_first[begin : begin + keep], log_second[begin : begin + keep] = first[:keep], second[:keep]
    return log_first, log_second


def _log_two(s: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(s) + scale


def _decompose(
    y: NDArray[np.float64],
    a: NDArray[np.float64],
    log_a: NDArray[np.float64],
    rest: NDArray[np.float64],
    log_n: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two leading log singular values of exp(log_a) y a^T + exp(log_n) N, a batch; LAPACK kept out of jit."""
    width = y.shape[1]
    with np.errstate(invalid="ignore"):
        graded = log_n - log_a < np.log(PLAIN_RATIO)
    graded |= np.isneginf(log_n)
    first, second = np.empty(y.shape[0]), np.full(y.shape[0], np.nan)
    if width == 1:
        return log_a.copy(), second
    deflated = rest[graded] - (rest[graded] @ a[graded][:, :, None]) * a[graded][:, None, :]
    first[graded] = log_a[graded]
    if graded.any():
        second[graded] = _log_two(_first_singular(deflated), log_n[graded])
    plain = ~graded
    if plain.any():
        common = np.maximum(log_a[plain], log_n[plain])
        whole = np.exp(log_a[plain] - common)[:, None, None] * y[plain][:, :, None] * a[plain][:, None, :]
        whole += np.exp(log_n[plain] - common)[:, None, None] * rest[plain]
        s = np.asarray(np.linalg.svd(whole, compute_uv=False), dtype=np.float64)
        first[plain], second[plain] = _log_two(s[:, 0], common), _log_two(s[:, 1], common)
    return first, second


def _first_singular(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest singular values, shape (n,), from the Gram matrix: exact to rounding for the largest one alone."""
    gram = np.swapaxes(matrices, -1, -2) @ matrices
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0.0))
