"""Simulations behind the ledger's claims C1 to C4: each builds chains, measures them, and says what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theory.alignment import mean_random_alignment, measured_random_alignment
from theory.chain import measure
from theory.collapse import CoherentLayers, FramePool, Spectrum, pulled_back_jacobian, spectrum
from theory.generate import random_unit, twisted_chain
from theory.perturbation import perturbation_error
from theory.predictions import paper_rule
from theory.propagate import context_jacobians, products
from theory.rates import first_order_error, max_rate

__all__ = ["ClaimCheck", "check_p1", "check_p2", "check_p3", "check_p4"]


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """What a simulation says of one claim.

    Attributes:
        claim: "C1" to "C4".
        effect_name: what effect is, with its unit and the side that the claim is on.
        effect: the measured effect.
        interval: 95 % interval of the effect; of no width where the simulation has no chance in it.
        n: number of chains (or pairs of directions) behind the effect.
        details: plain numbers and rows, by name.
    """

    claim: str
    effect_name: str
    effect: float
    interval: tuple[float, float]
    n: int
    details: dict[str, Any]


def _mean_interval(x: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % t interval."""
    mean, half = float(x.mean()), float(stats.t.ppf(0.975, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return mean, (mean - half, mean + half)


P1_TABLE = ((0.1, 0.001, 10), (0.3, 0.01, 20), (0.5, 0.01, 32), (0.9, 0.01, 32), (0.99, 0.01, 64), (0.9, 0.05, 64))
"""(alignment, gap, depth) of the chains that `check_p1` builds; docs/equations.md, (T12)."""


def dominant_path_error(alignment: float, gap: float, depth: int) -> float:
    """||P - P*|| / ||P*|| of the fastest twisted chain (T11), measured on its dense product."""
    chain = twisted_chain(alignment, gap, depth)
    # Each layer is divided by kappa, so that ||P*|| = 1 / kappa at any depth.
    layers = np.asarray(chain.propagators) / alignment
    product = np.linalg.multi_dot(layers[::-1]) if depth > 1 else layers[0]
    path = np.outer(chain.u[-1], chain.v[0]) / alignment
    return float(np.linalg.norm(product - path, 2) * alignment)


def check_p1() -> ClaimCheck:
    """Lemma 1 (P1), claim C1: is the error of the dominant path at most L xi / kappa?

    Twisted chains (T11) over a small table. The effect is the worst measured error / (L xi / kappa); the lemma says at
    most 1. Deterministic, so its interval has no width.
    """
    rows = []
    for kappa, xi, depth in P1_TABLE:
        error, claimed = dominant_path_error(kappa, xi, depth), float(first_order_error(depth, kappa, xi))
        bound = float(perturbation_error(np.full(depth, kappa), np.full(depth, xi)))
        rows.append(
            {
                "alignment": kappa,
                "gap": xi,
                "depth": depth,
                "measured": error,
                "first_order": claimed,
                "bound": bound,
                "ratio": error / claimed,
            }
        )
    worst = max(row["ratio"] for row in rows)
    return ClaimCheck(
        "C1",
        "worst measured error of the dominant path / (L xi / kappa); claimed: at most 1",
        worst,
        (worst, worst),
        len(rows),
        {"rows": rows, "within_corrected_bound": all(row["measured"] <= row["bound"] for row in rows)},
    )


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
        norm, interval = _mean_interval(np.array([draw["norm"] for draw in draws]))
        arrival, arrival_interval = _mean_interval(np.array([draw["arrival"] for draw in draws]))
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


P3_DIMENSIONS = (24, 96, 384)
"""Widths of the chains that `check_p3` builds; the last is that of Whisper tiny, the paper's narrowest model."""

P3_DEPTHS = (8, 16, 32)


def check_p3(seed: int = 3, chains: int = 64, dimensions: Sequence[int] = P3_DIMENSIONS) -> ClaimCheck:
    """Regime II (P3), claim C3: do the paper's four conditions give rank-1 collapse of J_L?

    Random chains (L = 8, 16, 32) with rho in [1, 1.2], kappa in [0.75, 0.99], L xi / kappa in [0.02, 0.28] and coherent
    injections of norm 1 along u_l. Their part across u_l, which the conditions leave free, is b times a frame of d - 1
    orthonormal columns, b in [0, 1]: operator norm b, Frobenius norm b sqrt(d - 1). The same parameters are used at
    every dimension, with directions of their own. The effect is the mean share of ||J_L||_F^2 in its first direction at
    the dimension where it is least; collapse is a share of at least 0.9 (O7).

    In details, by dimension: that share, the share of the same chains with the part across of Frobenius norm b instead,
    and sigma_2 / sigma_1, the weaker reading that has noise in the operator norm.

    Args:
        seed: of the parameters and chains.
        chains: number of chains at each dimension, at least 2.
        dimensions: d of the chains, each at least 3.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for index in range(chains):
        depth = P3_DEPTHS[index % len(P3_DEPTHS)]
        kappa, gain, across = rng.uniform(0.75, 0.99), rng.uniform(1.0, 1.2), rng.uniform(0.0, 1.0)
        drawn.append(CoherentLayers(depth, kappa, rng.uniform(0.02, 0.28) * kappa / depth, gain, across))
    rows, by_dimension = [], []
    for d in dimensions:
        pool = FramePool(d, max(P3_DEPTHS), rng)
        free, bounded = [], []
        for layers in drawn:
            y, noise = pulled_back_jacobian(layers, pool.draw(layers.depth, rng), rng)
            free.append(spectrum(y, noise, layers.across))
            bounded.append(spectrum(y, noise, layers.across / math.sqrt(d - 1)))
            rows.append({"dimension": d, **asdict(layers), "share": free[-1].share, "ratio": free[-1].ratio})
        by_dimension.append(_collapse_row(d, free, bounded))
    least = min(by_dimension, key=lambda row: row["share"])
    return ClaimCheck(
        "C3",
        "mean share of ||J_L||_F^2 in its first direction, at the dimension where it is least; claimed: at least 0.9",
        least["share"],
        least["share_interval"],
        chains,
        {"dimension": least["dimension"], "by_dimension": by_dimension, "rows": rows},
    )


def _collapse_row(dimension: int, free: list[Spectrum], bounded: list[Spectrum]) -> dict[str, Any]:
    """Means over the chains of one dimension, with intervals."""
    row: dict[str, Any] = {"dimension": dimension, "n": len(free)}
    for name, values in (
        ("share", [one.share for one in free]),
        ("ratio", [one.ratio for one in free]),
        ("share_fixed_frobenius", [one.share for one in bounded]),
        ("ratio_fixed_frobenius", [one.ratio for one in bounded]),
    ):
        row[name], row[f"{name}_interval"] = _mean_interval(np.array(values))
    row["collapsed"] = sum(one.share >= 0.9 for one in free)
    row["ratio_largest"] = max(one.ratio for one in free)
    return row


def check_p4(seed: int = 4, pairs: int = 2000) -> ClaimCheck:
    """Random directions (P4), claim C4: does the mean alignment fall like d^{-1/2}?

    Pairs of random directions at d = 16, 64, 256, 1280. The effect is the slope of ln mean alignment on ln d, weighted
    by the standard errors; claimed: -1/2. In details, each mean against the exact formula (T22) and the share of pairs
    whose alignment exceeds 0.7, the least that Regime II is taken to need.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for d in (16, 64, 256, 1280):
        sample = measured_random_alignment(d, pairs, rng)
        mean, interval = _mean_interval(sample)
        rows.append(
            {
                "dimension": d,
                "mean": mean,
                "interval": interval,
                "exact": mean_random_alignment(d),
                "rms_times_sqrt_d": float(np.sqrt(np.mean(sample**2) * d)),
                "largest": float(sample.max()),
                "share_above_0.7": float(np.mean(sample > 0.7)),
                "se": float(sample.std(ddof=1) / math.sqrt(pairs)),
            }
        )
    x = np.log([row["dimension"] for row in rows])
    y = np.log([row["mean"] for row in rows])
    weight = np.array([(row["mean"] / row["se"]) ** 2 for row in rows])  # 1 / var(ln mean), by the delta method
    centred = x - np.sum(weight * x) / weight.sum()
    spread = float(np.sum(weight * centred**2))
    slope = float(np.sum(weight * centred * y)) / spread
    half = float(stats.norm.ppf(0.975)) / math.sqrt(spread)
    return ClaimCheck(
        "C4",
        "slope of ln mean alignment of random directions on ln d; claimed: -1/2",
        slope,
        (slope - half, slope + half),
        pairs * len(rows),
        {"rows": rows, "largest": max(row["largest"] for row in rows)},
    )
