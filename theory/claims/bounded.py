"""Claim C2, Regime I (P2): whether sup rho < 1 bounds the context Jacobian."""

from __future__ import annotations

import math

import numpy as np

from theory.bounds.rates import max_rate
from theory.chains.chain import measure
from theory.chains.directions import random_unit
from theory.chains.twisted import twisted_chain
from theory.claims.check import ClaimCheck, mean_interval
from theory.propagation.recurrence import context_jacobians, products
from theory.regimes.predictions import paper_rule

__all__ = ["check_p2", "residual_pinning"]


def residual_pinning(dimension: int, depth: int, rng: np.random.Generator) -> dict[str, float]:
    """One chain A_l = I + 1.5 a_l c_l^T with random unit a_l, c_l and one injection b w^T, ||b|| = 1, in every layer.

    Implements the example of (T26). A_l differs from the identity on span(a_l, c_l) alone, so its singular vectors come
    from a 2 x 2 matrix and J_l w is one vector.

    Returns:
        sup_gain over l >= 2, arrival = ||P_{L:2} B_1||, norm = ||J_L||, sigma_min and sigma_max, gap_max.
    """
    b = random_unit(rng, dimension)
    first, total = b.copy(), b.copy()
    before = np.zeros(dimension)
    sigmas, gains, gaps = [], [], []
    for layer in range(depth):
        a, c = random_unit(rng, dimension), random_unit(rng, dimension)
        along = float(a @ c)
        off = a - along * c
        height = float(np.linalg.norm(off))
        basis = np.stack([c, off / height], axis=1)
        left, s, right = np.linalg.svd(np.array([[1 + 1.5 * along, 0.0], [1.5 * height, 1.0]]))
        u, v = basis @ left[:, 0], basis @ right[0]
        sigmas.append(float(s[0]))
        gaps.append(1.0 / float(s[0]))  # A_l is the identity off the plane
        if layer:
            gains.append(float(s[0] * abs(v @ before)))
            first = first + 1.5 * a * (c @ first)
            total = total + 1.5 * a * (c @ total) + b
        before = u
    return {
        "sup_gain": max(gains, default=math.nan),
        "arrival": float(np.linalg.norm(first)),
        "norm": float(np.linalg.norm(total)),
        "sigma_min": min(sigmas),
        "sigma_max": max(sigmas),
        "gap_max": max(gaps),
    }


def check_p2(seed: int = 2) -> ClaimCheck:
    """Regime I (P2), claim C2: does sup rho < 1 bound the context Jacobian?

    The twisted chain with kappa = 0.5, xi = 0.1, sigma = 1.9 has rho = 0.95 in every layer. The effect is the growth of
    its ln ||J_L|| a layer, between depths 40 and 80; the claim says at most 0. Deterministic. In details, typical
    chains with rho < 1: residual layers whose bulk is pinned (T26), several of each depth.
    """
    kappa, xi, sigma = 0.5, 0.1, 1.9
    chain = twisted_chain(kappa, xi, 80, sigma=sigma)
    parameters = measure(chain)
    jacobian, product = context_jacobians(chain).log_norm(), products(chain).log_norm()
    growth = float(jacobian[79] - jacobian[39]) / 40
    rng = np.random.default_rng(seed)
    pinned = []
    for depth in (8, 32, 128):
        draws = [residual_pinning(256, depth, rng) for _ in range(16)]
        norm, interval = mean_interval(np.array([draw["norm"] for draw in draws]))
        arrival, arrival_interval = mean_interval(np.array([draw["arrival"] for draw in draws]))
        pinned.append(
            {
                "depth": depth,
                "dimension": 256,
                "n": len(draws),
                "sup_gain": max(draw["sup_gain"] for draw in draws),
                "sigma_max": max(draw["sigma_max"] for draw in draws),
                "norm": norm,
                "norm_interval": interval,
                "arrival": arrival,
                "arrival_interval": arrival_interval,
            }
        )
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
        },
    )
