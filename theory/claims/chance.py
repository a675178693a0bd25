"""Claim C4, random directions (P4): whether layers can align by chance."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from theory.chains.alignment import mean_random_alignment, measured_random_alignment
from theory.claims.check import ClaimCheck, mean_interval

__all__ = ["check_p4"]


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
        mean, interval = mean_interval(sample)
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
