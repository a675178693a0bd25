"""The typical counterexample to Regime I: residual pinning (T26)."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from observables import ChainParameters
from theory._checks import natural
from theory.bounds.published import published_bounds
from theory.chains.chain import Chain
from theory.chains.directions import random_unit
from theory.chains.residual import residual_chain
from theory.counterexamples.published import DECAY
from theory.counterexamples.record import Counterexample
from theory.counterexamples.residual import residual_mean_square, residual_run

__all__ = ["against_decay_typically", "gain_tail", "residual_gains"]

DIMENSION, DEPTH, STRENGTH, SEED = 256, 128, 1.5, 26
"""The chain of theory's own example, at its greatest depth."""


def residual_gains(chain: Chain) -> np.ndarray:
    """rho_l = sigma_l |<v_l, u_{l-1}>| for l = 2..L, shape (..., L - 1)."""
    u, v = np.asarray(chain.u), np.asarray(chain.v)
    return np.asarray(chain.sigma)[..., 1:] * np.abs(np.sum(v[..., 1:, :] * u[..., :-1, :], axis=-1))


def gain_tail(depth: int, dimension: int, strength: float) -> float:
    """Bound on the probability that sup rho >= 1 in a chain I + strength a c^T with independent random unit a, c.

    v_l is uniform given the layers before, because (a, c) looks the same from every direction; sigma <= 1 + strength.
    So rho_l >= 1 has at most the probability that two uniform directions align by 1 / (1 + strength), a tail of the
    beta law, about exp(-d / (2 (1 + strength)^2)); L - 1 layers at most add.

    Returns:
        Probability, at most 1.
    """
    layers, d = int(natural(depth, "depth")), int(natural(dimension, "dimension", least=2))
    square = (1.0 / (1.0 + strength)) ** 2
    return min(1.0, (layers - 1) * float(stats.beta.sf(square, 0.5, (d - 1) / 2)))


def against_decay_typically() -> Counterexample:
    """(P2) on residual layers I + 1.5 a c^T with random unit a and c in d = 256, constant injections of norm 1."""
    rng = np.random.default_rng(SEED)
    chain = residual_chain(DEPTH, DIMENSION, rng, strength=STRENGTH)
    b = random_unit(rng, DIMENSION)
    sigma, u = np.asarray(chain.sigma), np.asarray(chain.u)
    gains = residual_gains(chain)
    along = np.abs(u @ b)
    parameters = ChainParameters(
        sigma=sigma,
        gap=1.0
        / sigma,  # a layer is the identity off the plane of a and c, and 1 lies between its singular values there
        alignment=np.concatenate([[np.nan], gains / sigma[1:]]),
        injection_along=along,
        injection_across=np.sqrt(np.maximum(0.0, 1.0 - along**2)),
    )
    injected = Chain(
        sigma=chain.sigma,
        u=chain.u,
        v=chain.v,
        residual=chain.residual,
        injection=np.broadcast_to(b[:, None], (DEPTH, DIMENSION, 1)).copy(),
    )
    claim = next(one for one in published_bounds(parameters) if one.tag == "P2" and one.quantity == "context_norm")
    arrival, norm = residual_run(injected, b)
    expected = residual_mean_square(DEPTH, DIMENSION, STRENGTH)

    def refutes() -> bool:
        again, total = residual_run(injected, b)
        return bool(total[-1] > math.exp(claim.log_value) and again[-1] > 1.0 and float(np.max(gains)) < 1.0)

    return Counterexample(
        name="decay-residual-pinning",
        claim="P2",
        statement=DECAY,
        chain=injected,
        parameters=parameters,
        hypotheses=claim.hypotheses,
        quantity="||J_L||, which grows like L; the first injection arrives with norm "
        f"{arrival[-1]:.3g} (r.m.s. over such chains {math.sqrt(expected.arrival[-1]):.3g})",
        claimed=math.exp(claim.log_value),
        measured=float(norm[-1]),
        line="np.linalg.norm([h for h in [np.eye(256)[0]] for l in range(127) "
        "for a, c in [np.random.default_rng(l).standard_normal((2, 256))] "
        "for h in [h + 1.5 * a * (c @ h) / np.linalg.norm(a) / np.linalg.norm(c) + np.eye(256)[0]]][-1]) > 100",
        found=f"typical, not searched for: sup rho < 1 on all but {gain_tail(DEPTH, DIMENSION, STRENGTH):.1g} of such "
        f"chains, and E ||J_L||^2 = {expected.norm[-1]:.5g} exactly; the line draws another such chain",
        layers=None,
        refutes=refutes,
    )
