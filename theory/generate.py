"""Chains with prescribed parameters: random ones, and the twisted chains that attain the bounds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory._checks import natural, unit_interval
from theory.chain import Chain

__all__ = ["haar_orthogonal", "make_chain", "random_unit", "twisted_chain", "unit_across"]


def random_unit(rng: np.random.Generator, dimension: int) -> NDArray[np.float64]:
    """A uniform unit vector of R^d."""
    x = rng.standard_normal(dimension)
    return x / np.linalg.norm(x)


def haar_orthogonal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A Haar-random orthogonal matrix; the sign fix is what makes the QR factor Haar (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diagonal(r))


def unit_across(rng: np.random.Generator, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """A uniform unit vector orthogonal to a unit vector."""
    x = rng.standard_normal(axis.size)
    for _ in range(2):  # the second pass removes what rounding left of the axis
        x -= (x @ axis) * axis
        x /= np.linalg.norm(x)
    return x


def _complement(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis of the complement of a unit vector, shape (d, d - 1), by one Householder reflection."""
    normal = axis.copy()
    normal[0] += 1.0 if axis[0] >= 0 else -1.0
    return (np.eye(axis.size) - 2.0 * np.outer(normal, normal) / (normal @ normal))[:, 1:]


def make_chain(
    parameters: ChainParameters,
    dimension: int,
    rng: np.random.Generator,
    *,
    context_dimension: int | None = None,
) -> Chain:
    """A random dense chain with exactly these parameters in every layer, up to rounding.

    Directions: v_l = kappa_l u_{l-1} + s_l n_l with n_l uniform across u_{l-1}; u_l uniform. Residual: sigma_l xi_l
    times a Haar-random isometry from the complement of v_l to that of u_l (the flat residual of T23, xi_F = xi) or,
    where the parameters have a bulk_gap, one whose largest singular value is sigma_l xi_l and whose others are equal
    and give that xi_F. Injections: B_l = beta_l u_l w^T + b_l Q_l, w = e_1 for all layers and Q_l a Haar-random frame
    across u_l of min(m, d - 1) orthonormal columns; given injection_coherent c_l, the part along u_l has component c_l
    on w and the rest of its norm beta_l in a random direction across w.

    Args:
        parameters: of the chain, L layers; alignment[0] is never read (v_1 is uniform).
        dimension: d >= 1; d = 1 has no residual, no misalignment and no injection across.
        rng: source of randomness.
        context_dimension: m >= 1, by default d.

    Returns:
        An unbatched chain, NumPy float64.

    Raises:
        ValueError: if no chain of this dimension has these parameters.
    """
    d = int(natural(dimension, "dimension"))
    m = d if context_dimension is None else int(natural(context_dimension, "context_dimension"))
    depth = parameters.depth
    across = parameters.across
    if d == 1 and (
        parameters.gap.any() or parameters.injection_across.any() or (parameters.alignment[1:] != 1.0).any()
    ):
        raise ValueError("dimension must be at least 2 for a gap, an injection across or an alignment below 1; got 1")
    spectra = _residual_spectra(parameters, d)
    u, v = np.empty((depth, d)), np.empty((depth, d))
    residual, injection = np.zeros((depth, d, d)), np.zeros((depth, d, m))
    for layer in range(depth):
        u[layer] = random_unit(rng, d)
        if layer == 0:
            v[layer] = random_unit(rng, d)
        elif d == 1:
            v[layer] = u[layer - 1]
        else:
            n = unit_across(rng, u[layer - 1])
            v[layer] = parameters.alignment[layer] * u[layer - 1] + across[layer] * n
            v[layer] /= np.linalg.norm(v[layer])
        injection[layer] = np.outer(u[layer], _along(parameters, layer, m, rng))
        if d > 1:
            base = _complement(u[layer])
            turn = haar_orthogonal(rng, d - 1)
            residual[layer] = (base @ (turn * spectra[layer])) @ (haar_orthogonal(rng, d - 1) @ _complement(v[layer]).T)
            columns = min(m, d - 1)
            frame = base @ haar_orthogonal(rng, d - 1)[:, :columns]
            injection[layer, :, :columns] += parameters.injection_across[layer] * frame
    return Chain(sigma=parameters.sigma.copy(), u=u, v=v, residual=residual, injection=injection)


def _residual_spectra(parameters: ChainParameters, d: int) -> NDArray[np.float64]:
    """Singular values of R_l, shape (L, d - 1)."""
    size = parameters.sigma * parameters.gap
    spectra = np.repeat(size[:, None], max(d - 1, 0), axis=1)
    if parameters.bulk_gap is None or d < 2:
        return spectra
    total = (parameters.sigma * parameters.bulk_gap) ** 2 * (d - 1)
    rest = total - size**2
    # Rounding of two equal squares is all that may separate xi_F = xi from what d - 1 values can make.
    slack = 8 * np.finfo(np.float64).eps * size**2 * (d - 1)
    wrong = (rest < -slack) | (rest > size**2 * (d - 2) + slack)
    if wrong.any():
        layer = int(np.argmax(wrong))
        raise ValueError(
            f"bulk_gap must lie in [gap / sqrt(d - 1), gap]; got {parameters.bulk_gap[layer]!r} "
            f"with gap {parameters.gap[layer]!r} at d = {d}"
        )
    if d > 2:
        spectra[:, 1:] = np.sqrt(np.clip(rest / (d - 2), 0.0, size**2))[:, None]
    return spectra


def _along(parameters: ChainParameters, layer: int, m: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """u_l^T B_l, shape (m,)."""
    beta = float(parameters.injection_along[layer])
    row = np.zeros(m)
    if parameters.injection_coherent is None:
        row[0] = beta
        return row
    c = float(parameters.injection_coherent[layer])
    if abs(c) > beta * (1 + 8 * np.finfo(np.float64).eps) or (m == 1 and abs(c) != beta):
        raise ValueError(
            f"injection_coherent must not exceed injection_along in size (and equals it for one context "
            f"direction); got {c!r} with {beta!r}"
        )
    row[0] = c
    if m > 1:
        row[1:] = np.sqrt(max(0.0, (beta - c) * (beta + c))) * random_unit(rng, m - 1)
    return row


def twisted_chain(
    alignment: float,
    gap: float,
    depth: int,
    *,
    sigma: float = 1.0,
    sense: Literal["fastest", "slowest"] = "fastest",
    dimension: int = 2,
) -> Chain:
    """The chain that attains a bound: the same 2 x 2 layer, repeated.

    Implements (T11). "fastest" repeats [[kappa, s], [xi s, -xi kappa]] and grows like max_rate^L; "slowest" repeats
    [[kappa, -s], [xi s, xi kappa]] and grows like min_rate^L, or rotates below the critical alignment. Injections are
    u_l e_1^T, so that the context's first direction is injected along u_l in every layer.

    Args:
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        depth: L >= 1.
        sigma: operator norm of every layer, >= 0.
        sense: which bound.
        dimension: d >= 2; the layer acts on the first two coordinates and is 0 on the others.

    Returns:
        An unbatched chain, NumPy float64, with context dimension d.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, xi = float(unit_interval(alignment, "alignment")), float(unit_interval(gap, "gap"))
    layers, d = int(natural(depth, "depth")), int(natural(dimension, "dimension", least=2))
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be finite and not negative; got {sigma!r}")
    if sense not in ("fastest", "slowest"):
        raise ValueError(f"sense must be 'fastest' or 'slowest'; got {sense!r}")
    sign = 1.0 if sense == "fastest" else -1.0
    s = float(np.sqrt((1 - kappa) * (1 + kappa)))
    u, v, residual, injection = np.zeros(d), np.zeros(d), np.zeros((d, d)), np.zeros((d, d))
    u[0] = 1.0
    v[0], v[1] = kappa, sign * s
    residual[1, 0], residual[1, 1] = sigma * xi * s, -sign * sigma * xi * kappa
    injection[0, 0] = 1.0
    return Chain(
        sigma=np.full(layers, float(sigma)),
        u=np.tile(u, (layers, 1)),
        v=np.tile(v, (layers, 1)),
        residual=np.tile(residual, (layers, 1, 1)),
        injection=np.tile(injection, (layers, 1, 1)),
    )
