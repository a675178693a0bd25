"""Claim C2, Regime I (P2): whether sup rho < 1 bounds the context Jacobian."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from theory.bounds.rates import max_rate
from theory.chains.chain import measure
from theory.chains.directions import random_unit
from theory.chains.residual import residual_chain
from theory.chains.twisted import twisted_chain
from theory.claims.check import ClaimCheck, mean_interval
from theory.counterexamples.collection import counterexamples
from theory.counterexamples.residual import residual_mean_square, residual_run
from theory.counterexamples.typical import residual_gains
from theory.propagation.recurrence import context_jacobians, products
from theory.regimes.predictions import paper_rule

__all__ = ["check_p2"]


PINNED_DIMENSION, PINNED_STRENGTH, PINNED_DRAWS = 256, 1.5, 16
"""d, ||F||_F and number of the residual chains of each depth."""


def check_p2(seed: int = 2) -> ClaimCheck:
    """Regime I (P2), claim C2: does sup rho < 1 bound the context Jacobian?

    The twisted chain with kappa = 0.5, xi = 0.1, sigma = 1.9 has rho = 0.95 in every layer. The effect is the growth of
    its ln ||J_L|| a layer, between depths 40 and 80; the claim says at most 0. Deterministic. In details, typical
    chains with rho < 1: residual layers whose bulk is pinned (T26), several of each depth, and the smallest
    counterexamples.
    """
    kappa, xi, sigma = 0.5, 0.1, 1.9
    chain = twisted_chain(kappa, xi, 80, sigma=sigma)
    parameters = measure(chain)
    jacobian, product = context_jacobians(chain).log_norm(), products(chain).log_norm()
    growth = float(jacobian[79] - jacobian[39]) / 40
    rng = np.random.default_rng(seed)
    pinned = [_pinned(depth, rng) for depth in (8, 32, 128)]
    return ClaimCheck(
        "C2",
        "growth of ln ||J_L|| a layer of a chain with sup rho < 1, nat; claimed: at most 0",
        growth,
        (growth, growth),
        1,
        {
            "sup_gain": float(np.max(parameters.gain[1:])),
            "paper_rule": paper_rule(parameters).regime,
            "product_growth": float(product[79] - product[39]) / 40,
            "predicted_growth": math.log(sigma * float(max_rate(kappa, xi))),
            "pinned": pinned,
            "smallest": [
                {
                    "name": one.name,
                    "sup_gain": float(np.max(one.parameters.gain[1:])),
                    "measured": one.measured,
                    "verified": one.verify(),
                    "line": one.line,
                }
                for one in counterexamples("P2")
            ],
        },
    )


def _pinned(depth: int, rng: np.random.Generator) -> dict[str, Any]:
    """Chains I + 1.5 a c^T with random unit a and c, constant injections of norm 1, beside their exact r.m.s. (T26)."""
    chains = residual_chain(depth, PINNED_DIMENSION, rng, strength=PINNED_STRENGTH, batch=(PINNED_DRAWS,))
    arrivals, norms = residual_run(chains, random_unit(rng, PINNED_DIMENSION))
    norm, interval = mean_interval(norms[:, -1])
    arrival, arrival_interval = mean_interval(arrivals[:, -1])
    expected = residual_mean_square(depth, PINNED_DIMENSION, PINNED_STRENGTH)
    return {
        "depth": depth,
        "dimension": PINNED_DIMENSION,
        "n": PINNED_DRAWS,
        "sup_gain": float(np.max(residual_gains(chains))),
        "sigma_max": float(np.max(np.asarray(chains.sigma))),
        "norm": norm,
        "norm_interval": interval,
        "norm_root_mean_square": math.sqrt(expected.norm[-1]),
        "arrival": arrival,
        "arrival_interval": arrival_interval,
        "arrival_root_mean_square": math.sqrt(expected.arrival[-1]),
    }
