"""Random dense chains with prescribed parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory._checks import natural
from theory.chains.chain import Chain
from theory.chains.directions import complement, haar_orthogonal, random_unit, unit_across

__all__ = ["make_chain"]


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
            base = complement(u[layer])
            turn = haar_orthogonal(rng, d - 1)
            residual[layer] = (base @ (turn * spectra[layer])) @ (haar_orthogonal(rng, d - 1) @ complement(v[layer]).T)
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
