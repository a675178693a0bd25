"""Measured numbers in, rigorous interval out: what sigma, xi, kappa and the injections certify of J_L.

Plain float64 on the host: the recursion is scalar, and in float32 it was wrong for one chain in 400. Each quantity has
an exponent of its own: q+ may fall below p+ by more than float64 spans, and 0 would be no bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from observables import ChainParameters
from theory.bounds._layers import WideLayer, wide_layers
from theory.bounds._wide import ZERO, Wide, wide_hypot
from theory.bounds.rates import critical_alignment, max_rate, min_rate

__all__ = ["Certificate", "CertifiedRegime", "certificate_recursion", "certify"]

CertifiedRegime = Literal["I", "II", "coexistence"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Rigorous bounds on the context Jacobian J_L of every chain with the given parameters.

    All norms are in the unit of the injections and hold up to rounding. An upper bound that is positive but below what
    float64 can hold is given as its least positive number, so that it stays a bound; the logarithms have no such limit.

    Attributes:
        norm_lower, norm_upper: bounds on ||J_L||; norm_upper is inf where it exceeds float64.
        sigma2_upper: bound on the second singular value of J_L.
        noise_ratio_upper: bound on ||(I - u_L u_L^T) J_L|| / ||u_L^T J_L||; inf where the lower bound is 0
            or the ratio exceeds float64.
        log_norm_lower, log_norm_upper: natural logarithms of the same bounds, finite for chains of any depth;
            -inf where a bound is 0.
        log_sigma2_upper: natural logarithm of sigma2_upper.
        coherent_lower: lower bound z_L on ||J_L w|| along the direction w of `injection_coherent` (T16), as
            value; None where no coherent injection was given. Negative values certify nothing.
        log_coherent_lower: natural logarithm of coherent_lower; NaN where it is negative, None where not given.
        regime: "I", "II" or "coexistence" (T14).
    """

    norm_lower: float
    norm_upper: float
    sigma2_upper: float
    noise_ratio_upper: float
    log_norm_lower: float
    log_norm_upper: float
    log_sigma2_upper: float
    coherent_lower: float | None
    log_coherent_lower: float | None
    regime: CertifiedRegime


def certify(parameters: ChainParameters) -> Certificate:
    """Bound ||J_L||, its second singular value and its noise ratio by the layer recursion.

    Implements (T15), (T16) where `injection_coherent` is given, and (T14) for the regime: with xi = sup xi_l and
    kappa = inf kappa_l over l >= 2, "I" if sigma_l Lambda_max(kappa_l, xi) < 1 in every layer l >= 2, "II" if
    kappa > kappa_c(xi) and sigma_l Lambda_min(kappa, xi) > 1 in every layer l >= 2, else "coexistence" (also for
    a chain of one layer, which has no rate). For a chain with J_0 != 0 pass the parameters with the first
    injection B_1 + A_1 J_0. `certify_cone` says at least as much of J_L.

    Args:
        parameters: of the chain, L layers; alignment[0] is never read.

    Returns:
        The certificate. Bounds that do not depend on chance: they hold for any chain with these numbers.
    """
    p_high, q_high, p_low, z = certificate_recursion(wide_layers(parameters))
    coherent = parameters.injection_coherent
    upper = wide_hypot(p_high, q_high)
    return Certificate(
        norm_lower=p_low.value(),
        norm_upper=_upper(upper),
        sigma2_upper=_upper(q_high),
        noise_ratio_upper=_upper(q_high / p_low) if p_low.fraction > 0 else math.inf,
        log_norm_lower=p_low.log(),
        log_norm_upper=upper.log(),
        log_sigma2_upper=q_high.log(),
        coherent_lower=None if coherent is None else z.value(),
        log_coherent_lower=None if coherent is None else z.log(),
        regime=_regime(parameters),
    )


def certificate_recursion(layers: Sequence[WideLayer]) -> tuple[Wide, Wide, Wide, Wide]:
    """p+, q+, p- of (T15) and z of (T16) behind the last layer; z is meaningless without coherent injections."""
    p_high = q_high = p_low = z = ZERO
    for layer in layers:
        sigma, xi, kappa, s = layer.sigma, layer.xi, layer.kappa, layer.s
        beta, b, c = layer.beta, layer.b, layer.c
        aligned, turned = kappa * p_high, s * q_high
        carried = sigma * (aligned + turned)
        spread = wide_hypot(p_high, q_high) if (aligned - turned).fraction < 0 else s * p_high + kappa * q_high
        p_low = _largest(sigma * (kappa * p_low - turned) - beta, beta - carried)
        z = sigma * (kappa * z - turned) + c
        p_high = carried + beta
        q_high = xi * sigma * spread + b
    return p_high, q_high, p_low, z


def _largest(first: Wide, second: Wide) -> Wide:
    """max(0, first, second)."""
    best = first if (first - second).fraction > 0 else second
    return best if best.fraction > 0 else ZERO


def _upper(bound: Wide) -> float:
    """An upper bound as a float; a positive one never becomes 0."""
    return max(bound.value(), math.ulp(0.0)) if bound.fraction > 0 else 0.0


def _regime(parameters: ChainParameters) -> CertifiedRegime:
    low, high = regime_rates(parameters)
    if high < 0:
        return "I"
    if low > 0:
        return "II"
    return "coexistence"


def regime_rates(parameters: ChainParameters) -> tuple[float, float]:
    """Certified least and largest growth per layer in log units, over layers l >= 2 (T14).

    Returns:
        (inf ln sigma_l Lambda_min(kappa, xi), sup ln sigma_l Lambda_max(kappa_l, xi)); the first is NaN at or below
        the critical alignment, both are NaN for a chain of one layer.
    """
    if parameters.depth < 2:
        return math.nan, math.nan
    sigma, kappa = parameters.sigma[1:], parameters.alignment[1:]
    xi = float(np.max(parameters.gap[1:]))
    least = float(np.min(kappa))
    with np.errstate(divide="ignore"):
        high = float(np.max(np.log(sigma * max_rate(kappa, xi))))
        low = float(np.min(np.log(sigma * min_rate(least, xi)))) if least > float(critical_alignment(xi)) else math.nan
    return low, high
