"""What the residual family I + F does in a large dimension, and what the paper's numbers of its layers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval
from theory.chains.alignment import mean_random_alignment
from theory.regimes.residual_moments import moment_matrix

__all__ = ["ResidualRates", "residual_rates"]


@dataclass(frozen=True, slots=True, eq=False)
class ResidualRates:
    """Predictions (T33) for layers I + tau X C^T + gamma G, in the arguments' broadcast shape; rates are per layer.

    The paper's numbers (sigma, gap, bulk_gap, paper_*) are given where gamma = 0, and NaN elsewhere.

    Attributes:
        outlier_rate: omega + tau kappa, of what lies along the write frame.
        pinned_rate: sigma xi_F, the root mean square of the singular values of a layer but the first (T26), where gamma
            is 0; sqrt(1 + gamma^2), its limit for d -> infinity, elsewhere.
        typical_rate: max(outlier_rate, sqrt(1 + gamma^2)), of ||P_L|| for d -> infinity.
        mean_square_rate: of the root mean square of ||P_L b||, exact at the dimension given (T32); typical_rate for
            d -> infinity.
        sigma: operator norm of a layer.
        gap: xi, 1 / sigma for rank 1; for a higher rank all r outliers are equal and xi -> 1.
        bulk_gap: xi_F = pinned_rate / sigma.
        paper_alignment: the paper's kappa = |<v_l, u_{l-1}>|. For rank r > 1 its mean: u and v choose one of r equal
            planes anew in every layer. NaN where they choose none (r > 1 and s or s_w is 0), and at strength 0.
        paper_gain: the paper's rho = sigma kappa.
        critical_strength: (sqrt(1 + gamma^2) - omega) / kappa, where the outlier's rate is the bulk's; inf at kappa =
            0, unless omega = 1 and gamma = 0.
        paper_strength: where paper_gain is 1; inf at kappa = 0.
        early_width: standard deviation of ln ||P_{L:2} x|| over sqrt(L), x in the write frame, where the outlier's rate
            exceeds the bulk's, to leading order in 1 / d and 1 / L; NaN where it does not, 0 for d -> infinity.
    """

    outlier_rate: NDArray[np.float64]
    pinned_rate: NDArray[np.float64]
    typical_rate: NDArray[np.float64]
    mean_square_rate: NDArray[np.float64]
    sigma: NDArray[np.float64]
    gap: NDArray[np.float64]
    bulk_gap: NDArray[np.float64]
    paper_alignment: NDArray[np.float64]
    paper_gain: NDArray[np.float64]
    critical_strength: NDArray[np.float64]
    paper_strength: NDArray[np.float64]
    early_width: NDArray[np.float64]


def residual_rates(
    strength: ArrayLike,
    alignment: ArrayLike,
    persistence: ArrayLike = 0.0,
    *,
    rank: int = 1,
    dimension: int | None = None,
    bulk: ArrayLike = 0.0,
) -> ResidualRates:
    """Rates, the paper's numbers and the critical strength of the family (T32), in closed form.

    Implements (T33). sigma, gap, paper_alignment and paper_gain are limits for d -> infinity, where <x_l, c_l> = kappa
    omega; at finite d they scatter by about d^{-1/2}.

    Args:
        strength: tau = ||F||, >= 0, finite, any shape.
        alignment: kappa, of C_l with X_{l-1}, in [0, 1].
        persistence: omega, of X_l with X_{l-1}, in [0, 1].
        rank: r >= 1.
        dimension: d >= 2 rank, or None for d -> infinity.
        bulk: gamma, >= 0, finite, broadcast against the others.

    Raises:
        ValueError: if an argument leaves its range.
    """
    tau, gamma = np.asarray(strength, dtype=np.float64), np.asarray(bulk, dtype=np.float64)
    for name, value in (("strength", tau), ("bulk", gamma)):
        bad = ~(np.isfinite(value) & (value >= 0))
        if bad.any():
            raise ValueError(f"{name} must be finite and not negative; got {float(value[bad].flat[0])!r}")
    kappa, omega = unit_interval(alignment, "alignment"), unit_interval(persistence, "persistence")
    tau, kappa, omega, gamma = (np.array(x, dtype=np.float64) for x in np.broadcast_arrays(tau, kappa, omega, gamma))
    r = int(natural(rank, "rank"))
    d = None if dimension is None else int(natural(dimension, "dimension", least=2 * r))
    s, turned = np.sqrt((1 - kappa) * (1 + kappa)), np.sqrt((1 - omega) * (1 + omega))
    outlier, overlap = omega + tau * kappa, kappa * omega
    free, square = gamma == 0, 1 + gamma**2
    sigma = np.where(free, (np.sqrt(tau**2 + 4 * (1 + tau * overlap)) + tau) / 2, np.nan)
    pinned = np.sqrt(square)
    if d is not None:
        layer = np.sqrt(np.maximum(d + r * tau * (2 * overlap + tau) - sigma**2, 0) / (d - 1))
        pinned = np.where(free, layer, pinned)
    chosen = mean_random_alignment(r)
    paper = chosen * (sigma + overlap) * (omega + sigma * kappa) / (1 + sigma**2 + 2 * sigma * overlap)
    one_plane = np.ones_like(tau, dtype=bool) if r == 1 else s * turned > 0
    paper = np.where(one_plane & (tau > 0), paper, np.nan)
    gap = 1 / sigma if r == 1 and d != 2 else sigma / sigma
    if d == 2:  # no third direction: the second singular value is that of the plane
        gap = (1 + tau * overlap) / sigma**2
    with np.errstate(divide="ignore", invalid="ignore"):
        critical = np.where((omega == 1) & free, 0.0, (np.sqrt(square) - omega) / kappa)
        across = (turned**2 + gamma**2) / (outlier**2 - square)  # (q / p)^2
        noise = (turned**2 + (tau * s) ** 2) * across + gamma**2 * (1 + across)
        width = np.sqrt(noise) / outlier / np.sqrt(np.inf if d is None else d - r)
    typical = np.maximum(outlier, np.sqrt(square))
    mean_square = (
        typical if d is None else np.sqrt(_radius(moment_matrix(tau, kappa, omega, gamma, rank=r, dimension=d)))
    )
    return ResidualRates(
        outlier_rate=outlier,
        pinned_rate=pinned,
        typical_rate=typical,
        mean_square_rate=mean_square,
        sigma=sigma,
        gap=gap,
        bulk_gap=pinned / sigma,
        paper_alignment=paper,
        paper_gain=sigma * paper,
        critical_strength=critical,
        paper_strength=np.where(one_plane & free, _paper_strength(kappa, omega, chosen), np.nan),
        early_width=np.where(outlier**2 > square, width, np.nan),
    )


def _paper_strength(kappa: Any, omega: Any, chosen: float) -> NDArray[np.float64]:
    """tau where the paper's rho is 1: the one positive root of a cubic in sigma, by bisection; then tau = (sigma^2 -
    1) / (sigma + kappa omega).

    The cubic's coefficients +, ?, -, - change sign once, and it is at most 0 at sigma = 1.
    """
    a = kappa * omega

    def excess(sigma: Any) -> Any:
        return chosen * sigma * (sigma + a) * (omega + sigma * kappa) - (1 + sigma**2 + 2 * sigma * a)

    with np.errstate(divide="ignore"):
        low, high = np.ones_like(kappa), 4 / (chosen * np.where(kappa > 0, kappa, 1))  # sigma^2 (4 - 1) >= 1 + 2 sigma
        for _ in range(64):
            middle = (low + high) / 2
            past = excess(middle) > 0
            low, high = np.where(past, low, middle), np.where(past, middle, high)
    return np.where(kappa > 0, (high**2 - 1) / (high + a), np.inf)


def _radius(matrix: Any) -> NDArray[np.float64]:
    """The larger eigenvalue of 2 x 2 matrices with entries that are not negative, shape (..., 2, 2)."""
    a, b, c, d = (matrix[..., i, j] for i in range(2) for j in range(2))
    return (a + d + np.sqrt((a - d) ** 2 + 4 * b * c)) / 2
