"""Residual chains A_l = I + F_l: what happens in mean square, exactly, and on the typical chain (T26).

Let the update be F_l = -mu I + G_l where, given the layers before it,

    (i)  E G_l = 0,        (ii)  E G_l^T G_l = (phi^2 / d) I.

Write m = 1 - mu, g = m^2 + phi^2 / d. For any vector x fixed by the layers before, E ||A x||^2 = m^2 ||x||^2 +
2 m <x, E[G] x> + <x, E[G^T G] x> = g ||x||^2: the cross term dies by (i), the last one is (ii). Hence
E ||P_{L:k+1} b||^2 = g^(L-k) ||b||^2 exactly. For h_l = A_l h_{l-1} + b, E h_l = (1 + m + ... + m^(l-1)) b, and so
E ||h_l||^2 = g E ||h_{l-1}||^2 + 2 m (1 + ... + m^(l-2)) ||b||^2 + ||b||^2. Neither sigma, nor kappa, nor rho enters.

(i) holds where G's left factor is symmetric and independent of the rest, (ii) where its right factor is uniform:
phi a c^T with random unit a and c; strength / sqrt(r) sum_i a_i c_i^T; O D O'^T with Haar O, O', where
phi^2 = E ||D||_F^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special

from theory._checks import natural
from theory.chains.chain import Chain

__all__ = [
    "ResidualMeanSquare",
    "residual_log_growth",
    "residual_log_growth_bounds",
    "residual_mean_square",
    "residual_run",
]

QUADRATURE = 200
"""Nodes a direction of the Gauss-Jacobi rule for `residual_log_growth`; exact to 1e-12 where phi < 1 or d > 8."""


@dataclass(frozen=True, slots=True, eq=False)
class ResidualMeanSquare:
    """Exact second moments of a residual chain, for injections b w^T with ||b|| = ||w|| = 1 in every layer (T26).

    Attributes:
        rate: g = (1 - drift)^2 + strength^2 / d, growth a layer of E ||P b||^2; early injections decay in mean square
            if and only if it is below 1, whatever rho is.
        arrival: E ||P_{l:2} b||^2 for l = 1..L, shape (L,).
        norm: E ||J_l||^2 for l = 1..L, shape (L,); with no drift it is sum_{j<=l} (2 j - 1) g^(l-j) >= l^2.
    """

    rate: float
    arrival: NDArray[np.float64]
    norm: NDArray[np.float64]


def residual_mean_square(depth: int, dimension: int, strength: float, drift: float = 0.0) -> ResidualMeanSquare:
    """Exact second moments of A_l = I + F_l, F_l = -drift I + an isotropic update of mean squared Frobenius size.

    Implements (T26); the hypotheses and the proof are in the module's docstring.

    Args:
        depth: L >= 1.
        dimension: d >= 1.
        strength: phi >= 0, root mean square of ||F_l + drift I||_F.
        drift: mu, finite.

    Returns:
        Rate, arrival and norm; inf where they exceed float64.

    Raises:
        ValueError: if an argument leaves its range.
    """
    layers, d = int(natural(depth, "depth")), int(natural(dimension, "dimension"))
    size, keep = _strength(strength), 1.0 - _drift(drift)
    rate = keep * keep + size * size / d
    arrival, norm = np.empty(layers), np.empty(layers)
    moved, total, mean = 1.0, 1.0, 1.0
    for layer in range(layers):
        if layer:
            moved, total, mean = rate * moved, rate * total + 2.0 * keep * mean + 1.0, keep * mean + 1.0
        arrival[layer], norm[layer] = moved, total
    return ResidualMeanSquare(rate, arrival, norm)


def residual_log_growth_bounds(dimension: int, strength: float, drift: float = 0.0) -> tuple[float, float]:
    """Bounds on the growth of ln ||P b|| a layer, almost surely, of any update G = phi a c^T with random unit a and c.

    Implements (T26), the typical form. The increments are independent and alike, since a and c look the same from every
    direction: the growth is E ln ||m x + G x||. Above by Jensen, ln(g) / 2. Below, since ln |y| is subharmonic for
    d >= 2: its mean over a sphere of radius r about y is at least ln max(|y|, r); hence E ln max(|m|, phi |c_1|), never
    below ln |m|. Without drift the growth is never negative: a pinned bulk does not decay.

    Args:
        dimension: d >= 2.
        strength: phi >= 0.
        drift: mu, finite.

    Returns:
        (low, high), natural logarithms a layer.

    Raises:
        ValueError: if an argument leaves its range.
    """
    d, size, keep = int(natural(dimension, "dimension", least=2)), _strength(strength), 1.0 - _drift(drift)
    with np.errstate(divide="ignore"):
        return _mean_log_larger(d, size, abs(keep)), 0.5 * float(np.log(keep * keep + size * size / d))


def residual_log_growth(dimension: int, strength: float, drift: float = 0.0) -> float:
    """Growth of ln ||P b|| a layer, almost surely, of A_l = (1 - drift) I + strength a_l c_l^T, random unit a_l, c_l.

    Implements (T26), the typical form, by quadrature: E ln |m^2 + 2 m phi alpha gamma + (phi gamma)^2| / 2 over the
    first coordinates alpha, gamma of two independent uniform unit vectors. By the law of large numbers early injections
    decay on almost every chain if it is negative and grow if it is positive.

    Returns:
        Natural logarithm a layer.

    Raises:
        ValueError: if an argument leaves its range.
    """
    d, size, keep = int(natural(dimension, "dimension", least=2)), _strength(strength), 1.0 - _drift(drift)
    node, weight = _coordinate(d)
    square = keep * keep + 2 * keep * size * node[:, None] * node[None, :] + (size * node[None, :]) ** 2
    with np.errstate(divide="ignore"):
        return 0.5 * float(weight @ np.log(square) @ weight)


def residual_run(chain: Chain, b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """||P_{l:2} b|| and ||J_l|| for every l, with the injection b w^T, ||w|| = 1, in every layer of a chain.

    Args:
        chain: batched over any leading axes; its own injections are not read.
        b: shape (d,).

    Returns:
        Two arrays of shape (..., L).
    """
    shape = (*np.shape(chain.sigma)[:-1], chain.dimension, 1)
    column = np.broadcast_to(np.asarray(b, dtype=np.float64)[:, None], shape)
    both = np.concatenate([column, column], axis=-1)
    arrival, norm = [], []
    for layer in range(chain.depth):
        if layer:
            both = np.array(chain.apply(layer, both))
            both[..., 1:] += column
        size = np.linalg.norm(both, axis=-2)
        arrival.append(size[..., 0])
        norm.append(size[..., 1])
    return np.stack(arrival, axis=-1), np.stack(norm, axis=-1)


def _mean_log_larger(dimension: int, size: float, keep: float) -> float:
    """E ln max(keep, size |c_1|), c a uniform unit vector; c_1^2 has the beta law of 1/2 and (d - 1) / 2.

    As ln keep + the integral of P(|c_1| > t) d ln t from keep / size to 1: no kink for a quadrature to miss.
    """
    if size <= keep:
        return math.log(keep) if keep > 0 else -math.inf
    half = (dimension - 1) / 2
    if keep == 0:
        return math.log(size) + 0.5 * float(special.digamma(0.5) - special.digamma(dimension / 2))
    start = math.log(keep / size)
    beyond = integrate.quad(
        lambda x: special.betainc(half, 0.5, -math.expm1(2 * x)), start, 0.0, epsabs=1e-13, epsrel=1e-13, limit=200
    )
    return math.log(keep) + float(beyond[0])


def _coordinate(dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of the mean over the first coordinate of a uniform unit vector: density (1 - t^2)^((d-3)/2)."""
    power = (dimension - 3) / 2
    node, weight = special.roots_jacobi(QUADRATURE, power, power)
    return node, weight / weight.sum()


def _strength(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"strength must be finite and not negative; got {value!r}")
    return float(value)


def _drift(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"drift must be finite; got {value!r}")
    return float(value)
