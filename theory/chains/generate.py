"""Random dense chains with prescribed parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.chains._requests import Request, one, refuse_without_room
from theory.chains.chain import Chain
from theory.chains.directions import frame_across, linked_directions, random_unit
from theory.chains.isometries import flat_residual, profile_residual

__all__ = ["make_chain"]


def make_chain(
    parameters: ChainParameters,
    dimension: int,
    rng: np.random.Generator,
    *,
    context_dimension: int | None = None,
    batch: tuple[int, ...] = (),
    dtype: str = "float64",
) -> Chain:
    """Random dense chains with exactly these parameters in every layer, up to rounding.

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
        batch: leading axes; the chains are independent.
        dtype: "float64" or "float32"; the arithmetic is float64, then cast.

    Returns:
        Dense chains.

    Raises:
        ValueError: if no chain of this dimension has these parameters, an argument breaks its rule, or the chains
            would not fit in memory (stating the bytes).
    """
    request = Request.of(parameters.depth, dimension, batch, dtype)
    d = request.dimension
    m = d if context_dimension is None else one(context_dimension, "context_dimension")
    refuse_without_room(
        {
            "gap": parameters.gap,
            "injection_across": parameters.injection_across,
            "alignment": parameters.alignment,
        },
        d,
    )
    sigma = request.sigma(parameters.sigma)
    spectra = _residual_spectra(parameters, d)
    request.afford(d * (d + m), f"{request.rows} layers of {d} x {d} with injections of {d} x {m}")
    u, v = linked_directions(rng, parameters.alignment, parameters.across, d, request.batch)
    if d == 1:
        residual = np.zeros((*request.layers, 1, 1))
    elif parameters.bulk_gap is None:
        residual = flat_residual(rng, request, parameters.sigma * parameters.gap, u, v)
    else:
        residual = profile_residual(rng, request, spectra, u, v)
    injection = u[..., :, None] * _along(parameters, m, request.batch, rng)[..., None, :]
    if d > 1:
        columns = min(m, d - 1)
        injection[..., :columns] += parameters.injection_across[:, None, None] * frame_across(rng, u, columns)
    return request.chain(sigma, u, v, residual, injection)


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


def _along(
    parameters: ChainParameters, m: int, batch: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """u_l^T B_l, shape (*batch, L, m)."""
    beta = parameters.injection_along
    rows = np.zeros((*batch, parameters.depth, m))
    if parameters.injection_coherent is None:
        rows[..., 0] = beta
        return rows
    c = parameters.injection_coherent
    wrong = np.abs(c) > beta * (1 + 8 * np.finfo(np.float64).eps)
    if m == 1:
        wrong |= np.abs(c) != beta
    if wrong.any():
        layer = int(np.argmax(wrong))
        raise ValueError(
            f"injection_coherent must not exceed injection_along in size (and equals it for one context "
            f"direction); got {float(c[layer])!r} with {float(beta[layer])!r}"
        )
    rows[..., 0] = c
    if m > 1:
        rest = np.sqrt(np.maximum(0.0, (beta - c) * (beta + c)))
        rows[..., 1:] = rest[:, None] * random_unit(rng, m - 1, (*batch, parameters.depth))
    return rows
