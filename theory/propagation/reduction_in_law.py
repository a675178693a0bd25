"""Context Jacobians of flat random chains, drawn in law in as many coordinates as the context has, at any dimension."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory._checks import natural
from theory.propagation._powers import halved, log_of, plus
from theory.propagation.floored import Floored
from theory.propagation.scaled import ratio_of

__all__ = ["ReducedJacobians", "haar_block", "reduced_jacobians", "reduced_states"]


@dataclass(frozen=True, slots=True, eq=False)
class ReducedJacobians:
    """Spectra of J_l of n chains drawn in law.

    Attributes:
        log_norm: ln ||J_l||, shape (n, L), or (n,) for the last depth alone; -inf for a zero matrix.
        log_ratio: ln sigma_2 / sigma_1 of J_l, same shape; NaN for one context direction.
    """

    log_norm: NDArray[np.float64]
    log_ratio: Floored


def reduced_jacobians(
    parameters: ChainParameters,
    dimension: int,
    rng: np.random.Generator,
    *,
    n: int,
    context_dimension: int,
    last_only: bool = False,
) -> ReducedJacobians:
    """||J_l|| and sigma_2 / sigma_1 of n random flat chains with these numbers, exact in law, in O(L m^3) at any d.

    Implements (T23) for the chains of `make_chain`: residual sigma xi times a Haar isometry, uniform directions,
    B_l = beta u_l w^T + b Q_l with Q_l a Haar frame of m columns across u_l. As built it carries not the Gram matrix of
    the part across but a square root F of it (J^T J = r r^T + F^T F), so that the floor of sigma_2 / sigma_1 is near
    eps and not near its root, 1e-8. With M = [r^T; F] and v = (kappa, s a) as seen from it,

        t = M^T v,   F' = sigma xi (I - v v^T / (1 + sqrt(1 - |v|^2))) M,   r' = sigma t + beta w,
        F = [F' + b Z; b Y],   [Z; Y] the top m rows of a Haar frame and a square root of the Gram matrix of the rest,

    each F brought back to m rows by a QR. The first factor is the root of I - v v^T, where v has lost what lies outside
    the span of J.

    Args:
        parameters: sigma, gap, alignment, injection_along (beta) and injection_across (b) of every layer. A bulk_gap
            other than the gap, or an injection_coherent other than the injection along, has no such reduction.
        dimension: d >= m + 1.
        rng: source of randomness.
        n: number of chains.
        context_dimension: m >= 1.
        last_only: keep the last depth alone.

    Raises:
        ValueError: if an argument leaves its range or the parameters have no reduction.
    """
    d, chains, m = (
        int(natural(value, name))
        for value, name in ((dimension, "dimension"), (n, "n"), (context_dimension, "context_dimension"))
    )
    if d < m + 1:
        raise ValueError(f"dimension must be at least context_dimension + 1 = {m + 1}; got {d}")
    if parameters.bulk_gap is not None and not np.allclose(parameters.bulk_gap, parameters.gap, rtol=1e-12, atol=0.0):
        raise ValueError("bulk_gap must equal gap: only the flat residual reduces; got another")
    coherent = parameters.injection_coherent
    if coherent is not None and not np.allclose(coherent, parameters.injection_along, rtol=1e-12, atol=0.0):
        raise ValueError("injection_coherent must equal injection_along: one direction reduces; got another")
    depth = parameters.depth
    kept = slice(depth - 1, None) if last_only else slice(None)
    norms, spectra = np.zeros((chains, depth)), np.zeros((chains, depth, min(m, 2)))
    powers = np.zeros((chains, depth), dtype=np.int64)
    for layer, (state, power) in enumerate(reduced_states(parameters, d, rng, n=chains, context_dimension=m)):
        if not last_only or layer == depth - 1:
            s = np.linalg.svd(state, compute_uv=False)
            norms[:, layer], spectra[:, layer], powers[:, layer] = s[:, 0], s[:, :2], power
    noise = 4.0 * (m + 1) * float(np.finfo(np.float64).eps) * np.arange(1, depth + 1) * norms
    log_norm, ratio = log_of(norms[:, kept], powers[:, kept]), ratio_of(spectra[:, kept], noise[:, kept])
    if last_only:
        return ReducedJacobians(log_norm[:, 0], ratio.at((slice(None), 0)))
    return ReducedJacobians(log_norm, ratio)


def reduced_states(
    parameters: ChainParameters, dimension: int, rng: np.random.Generator, *, n: int, context_dimension: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """The states M = [r^T; F] of `reduced_jacobians` layer by layer, shape (n, m + 1, m), and powers of two, (n,).

    The arguments are taken as checked. M 2^power has the singular values of J_l, and F those of its part across u_l.
    """
    m = context_dimension
    state, power = np.zeros((n, m + 1, m)), np.zeros(n, dtype=np.int64)
    for layer in range(parameters.depth):
        if layer:
            state, power = halved(_propagated(parameters, layer, state, dimension, rng), power)
        state, power = _injected(parameters, layer, state, power, dimension, rng)
        yield state, power


def _triangular(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square matrix with the same Gram matrix, (..., k, m) -> (..., m, m)."""
    return np.asarray(np.linalg.qr(rows, mode="r"))


def _propagated(
    parameters: ChainParameters, layer: int, state: NDArray[np.float64], d: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    n, _, m = state.shape
    kappa, s = float(parameters.alignment[layer]), float(parameters.across[layer])
    sigma, xi = float(parameters.sigma[layer]), float(parameters.gap[layer])
    fresh = rng.standard_normal((n, m))
    beyond = rng.chisquare(d - 1 - m, n) if d - 1 > m else np.zeros(n)
    whole = np.einsum("nm,nm->n", fresh, fresh) + beyond
    v = np.concatenate([np.full((n, 1), kappa), s * fresh / np.sqrt(whole)[:, None]], axis=1)
    along = np.einsum("nk,nkm->nm", v, state)
    rest = s * np.sqrt(beyond / whole)  # sqrt(1 - |v|^2), with no difference of near-equal numbers
    across = state - (v / (1 + rest)[:, None])[:, :, None] * along[:, None, :]
    return np.concatenate([sigma * along[:, None, :], sigma * xi * _triangular(across)], axis=1)


def _injected(
    parameters: ChainParameters,
    layer: int,
    state: NDArray[np.float64],
    power: NDArray[np.int64],
    d: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n, _, m = state.shape
    beta, b = float(parameters.injection_along[layer]), float(parameters.injection_across[layer])
    frame = haar_block(rng, n, d - 1, m) if b else np.zeros((n, m, m))
    added = np.concatenate([np.zeros((n, 1, m)), b * frame], axis=1)
    added[:, 0, 0] = beta
    padded = np.concatenate([state, np.zeros((n, added.shape[1] - m - 1, m))], axis=1)
    total, power = plus(padded, power, added, 0)
    if total.shape[1] > m + 1:
        total = np.concatenate([total[:, :1], _triangular(total[:, 1:])], axis=1)
    return total, power


def haar_block(rng: np.random.Generator, n: int, size: int, columns: int) -> NDArray[np.float64]:
    """The first `columns` columns of a Haar-random orthogonal matrix, up to a rotation of its rows after these many.

    Implements the draw of (T23) in O(m^3) at any size: a Haar frame is N R^-1 for a Gaussian N (size x m) and the
    triangular R of its QR with positive diagonal, so R^T R = N^T N. The rows of N beyond the first m enter through
    their Gram matrix alone, which is Wishart; Bartlett's triangular root of it, chi variables on the diagonal and
    normal ones beside it, stands in for them.

    Args:
        rng: source of randomness.
        n: number of frames.
        size: of the orthogonal matrix, >= columns.
        columns: m.

    Returns:
        Shape (n, m + min(m, size - m), m), orthonormal columns; the first m rows are those of the Haar matrix.
    """
    m, beyond = columns, size - columns
    top = rng.standard_normal((n, m, m))
    if beyond >= m:
        rest = np.triu(rng.standard_normal((n, m, m)), 1)
        rest[:, np.arange(m), np.arange(m)] = np.sqrt(rng.chisquare(beyond - np.arange(m), (n, m)))
    else:
        rest = rng.standard_normal((n, beyond, m))
    q, r = np.linalg.qr(np.concatenate([top, rest], axis=1))
    return q * np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, None, :]
