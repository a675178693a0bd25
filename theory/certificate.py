"""Measured numbers in, rigorous interval out: what sigma, xi, kappa and the injections certify of J_L.

Plain float64 on the host: the recursion is scalar, and in float32 it was wrong for one chain in 400.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from observables import ChainParameters
from theory.rates import critical_alignment, max_rate, min_rate

__all__ = ["Certificate", "CertifiedRegime", "certify"]

CertifiedRegime = Literal["I", "II", "coexistence"]

_LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Rigorous bounds on the context Jacobian J_L of every chain with the given parameters.

    All norms are in the unit of the injections and hold up to rounding.

    Attributes:
        norm_lower, norm_upper: bounds on ||J_L||; norm_upper is inf where it exceeds float64.
        sigma2_upper: bound on the second singular value of J_L.
        noise_ratio_upper: bound on ||(I - u_L u_L^T) J_L|| / ||u_L^T J_L||; inf where the lower bound is 0.
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
    injection B_1 + A_1 J_0.

    Args:
        parameters: of the chain, L layers; alignment[0] is never read.

    Returns:
        The certificate. Bounds that do not depend on chance: they hold for any chain with these numbers.
    """
    across = parameters.across
    coherent = parameters.injection_coherent
    # (p+, q+, p-, z) = mantissas * 2**exponent, so that deep chains neither overflow nor vanish.
    p_high = q_high = p_low = z = 0.0
    exponent = 0
    for layer in range(parameters.depth):
        fraction, shift = math.frexp(float(parameters.sigma[layer]))
        beta, b = float(parameters.injection_along[layer]), float(parameters.injection_across[layer])
        c = 0.0 if coherent is None else float(coherent[layer])
        kappa = 0.0 if layer == 0 else float(parameters.alignment[layer])
        s = 1.0 if layer == 0 else float(across[layer])
        xi = float(parameters.gap[layer])

        carried = fraction * (kappa * p_high + s * q_high)
        spread = s * p_high + kappa * q_high if kappa * p_high >= s * q_high else math.hypot(p_high, q_high)
        kept = fraction * (kappa * p_low - s * q_high)
        coherent_kept = fraction * (kappa * z - s * q_high)
        leaked = xi * fraction * spread

        common = _common_exponent(max(carried, leaked), exponent + shift, max(beta, b, abs(c)))
        old, new = exponent + shift - common, -common
        beta, b, c = (_scale(value, new) for value in (beta, b, c))
        carried, kept, leaked, coherent_kept = (_scale(value, old) for value in (carried, kept, leaked, coherent_kept))
        p_high, q_high, p_low, z = (
            carried + beta,
            leaked + b,
            max(0.0, kept - beta, beta - carried),
            coherent_kept + c,
        )
        exponent = common
    upper = math.hypot(p_high, q_high)
    return Certificate(
        norm_lower=_scale(p_low, exponent),
        norm_upper=_scale(upper, exponent),
        sigma2_upper=_scale(q_high, exponent),
        noise_ratio_upper=q_high / p_low if p_low > 0 else math.inf,
        log_norm_lower=_log(p_low, exponent),
        log_norm_upper=_log(upper, exponent),
        log_sigma2_upper=_log(q_high, exponent),
        coherent_lower=None if coherent is None else _scale(z, exponent),
        log_coherent_lower=None if coherent is None else _log(z, exponent) if z >= 0 else math.nan,
        regime=_regime(parameters),
    )


def _common_exponent(carried: float, exponent: int, injected: float) -> int:
    """Power of two that brings the larger of the two terms near 1; 0 where both vanish."""
    candidates = []
    if carried > 0:
        candidates.append(math.frexp(carried)[1] + exponent)
    if injected > 0:
        candidates.append(math.frexp(injected)[1])
    return max(candidates, default=0)


def _scale(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _log(value: float, exponent: int) -> float:
    return math.log(value) + exponent * _LN2 if value > 0 else -math.inf


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
