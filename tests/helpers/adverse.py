"""Chains whose every direction is chosen against, or for, the response along the context's first direction."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.chains.chain import Chain
from theory.chains.directions import complement, haar_orthogonal, random_unit


def _clean(vector: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Unit vector of what of `vector` lies across `axis`; None where that is rounding."""
    size = np.linalg.norm(vector)
    for _ in range(2):
        vector = vector - axis * (axis @ vector)
    left = np.linalg.norm(vector)
    return vector / left if left > 1e-9 * size else None


def adverse_chain(
    parameters: ChainParameters,
    dimension: int,
    context_dimension: int,
    rng: np.random.Generator,
    sense: Literal["slow", "fast"] = "slow",
) -> Chain:
    """A chain with these parameters that turns J_l w, w = e_1, against ("slow") or along ("fast") the dominant path.

    v_l leans on the across part of J_{l-1} w; the injections' across part points along what the residual carries there,
    and the rest of their part along u_l along what u_l^T A_l J_{l-1} already holds beside w. Needs injection_coherent.
    """
    d, m, depth = dimension, context_dimension, parameters.depth
    coherent = parameters.injection_coherent
    assert coherent is not None
    u, v = np.zeros((depth, d)), np.zeros((depth, d))
    residual, injection = np.zeros((depth, d, d)), np.zeros((depth, d, m))
    sign = -1.0 if sense == "slow" else 1.0
    jacobian = np.zeros((d, m))
    for layer in range(depth):
        u[layer] = random_unit(rng, d)
        if layer == 0:
            v[layer] = random_unit(rng, d)
        else:
            lean = _clean(jacobian[:, 0], u[layer - 1])
            if lean is None:
                lean = _clean(rng.standard_normal(d), u[layer - 1])
            v[layer] = parameters.alignment[layer] * u[layer - 1] + sign * parameters.across[layer] * lean
            v[layer] /= np.linalg.norm(v[layer])
        size = parameters.sigma[layer] * parameters.gap[layer]
        residual[layer] = size * complement(u[layer]) @ haar_orthogonal(rng, d - 1) @ complement(v[layer]).T
        carried = (parameters.sigma[layer] * np.outer(u[layer], v[layer]) + residual[layer]) @ jacobian
        beside = (u[layer] @ carried)[1:]
        along = np.zeros(m)
        along[0] = coherent[layer]
        if m > 1:
            beside = beside if np.linalg.norm(beside) > 0 else rng.standard_normal(m - 1)
            spare = parameters.injection_along[layer] ** 2 - coherent[layer] ** 2
            along[1:] = np.sqrt(max(spare, 0.0)) * beside / np.linalg.norm(beside)
        columns = min(m, d - 1)
        frame = np.zeros((d, m))
        frame[:, :columns] = complement(u[layer]) @ haar_orthogonal(rng, d - 1)[:, :columns]
        target = _clean(carried[:, 0], u[layer])
        if target is not None:
            mirror = frame[:, 0] - target
            mirror -= u[layer] * (u[layer] @ mirror)
            if np.linalg.norm(mirror) > 1e-9:
                mirror /= np.linalg.norm(mirror)
                frame -= 2 * np.outer(mirror, mirror @ frame)
        injection[layer] = np.outer(u[layer], along) + parameters.injection_across[layer] * frame
        jacobian = carried + injection[layer]
    return Chain(sigma=parameters.sigma.copy(), u=u, v=v, residual=residual, injection=injection)
