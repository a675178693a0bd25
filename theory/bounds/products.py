"""Bounds on products of propagators from sigma, kappa and xi, as natural logarithms."""

from __future__ import annotations

import math

import numpy as np

from observables import ChainParameters
from theory.bounds.rates import max_rate, min_rate

__all__ = [
    "cone_margins",
    "context_norm_bound",
    "log_context_norm_bound",
    "log_product_lower",
    "log_product_lower_closed",
    "log_product_lower_uniform",
    "log_product_ratio_upper",
    "log_product_upper",
    "regime_one_rate",
    "tempting_product_lower",
    "tempting_product_upper",
]


def log_product_upper(parameters: ChainParameters) -> float:
    """ln of sigma_1 prod_{l>=2} sigma_l Lambda_max(kappa_l, xi), xi = sup over all layers: above ln ||P_{L:1}||.

    Implements (T8). kappa may vary by layer but xi may not: the product of Lambda_max(kappa_l, xi_l) is no bound.

    Returns:
        Natural logarithm; -inf where a sigma is 0.
    """
    xi = float(np.max(parameters.gap))
    with np.errstate(divide="ignore"):
        rates = np.log(max_rate(parameters.alignment[1:], xi)) if parameters.depth > 1 else np.zeros(0)
        return float(np.sum(np.log(parameters.sigma)) + np.sum(rates))


def log_product_lower_uniform(parameters: ChainParameters) -> float:
    """ln of sigma_1 prod_{l>=2} sigma_l Lambda_min(kappa, xi), xi = sup, kappa = inf: below ln ||P_{L:1}||.

    Implements (T9) in its uniform form.

    Returns:
        Natural logarithm; NaN where kappa < kappa_c(xi), -inf where a sigma is 0.
    """
    with np.errstate(divide="ignore"):
        total = float(np.sum(np.log(parameters.sigma)))
        if parameters.depth == 1:
            return total
        rate = min_rate(float(np.min(parameters.alignment[1:])), float(np.max(parameters.gap)))
        return total + (parameters.depth - 1) * float(np.log(rate))


def log_product_lower_closed(parameters: ChainParameters) -> float:
    """ln of sigma_1 prod_{l>=2} sigma_l Lambda_min(kappa_l, xi), xi = sup: below ln ||P_{L:1}||.

    Implements (T9) in its closed form, the mirror of (T8): kappa may vary by layer, xi may not. Never below the uniform
    form.

    Returns:
        Natural logarithm; NaN where kappa_l < kappa_c(xi) for some l, -inf where a sigma is 0.
    """
    xi = float(np.max(parameters.gap))
    with np.errstate(divide="ignore"):
        rates = np.log(min_rate(parameters.alignment[1:], xi)) if parameters.depth > 1 else np.zeros(0)
        return float(np.sum(np.log(parameters.sigma)) + np.sum(rates))


def log_product_lower(parameters: ChainParameters) -> float:
    """ln of the lower bound on ||P_{L:1}|| by the cone that each layer needs.

    Implements (T9) layer by layer: tau_1 = 0, m_l = kappa_l - s_l tau_{l-1} > 0,
    tau_l = xi_l (s_l + kappa_l tau_{l-1}) / m_l, and ||P|| >= sigma_1 prod sigma_l m_l. Never below the uniform form.

    Returns:
        Natural logarithm; NaN where a layer leaves no cone, -inf where a sigma is 0.
    """
    cones = cone_margins(parameters)
    if not all(m > 0 for m in cones):
        return math.nan
    with np.errstate(divide="ignore"):
        return float(np.sum(np.log(parameters.sigma))) + math.fsum(math.log(m) for m in cones)


def cone_margins(parameters: ChainParameters) -> list[float]:
    """m_2 .. m_L of (T9), up to and including the first that is not positive, where the cone is lost."""
    tau, factors = 0.0, []
    across = parameters.across
    for layer in range(1, parameters.depth):
        kappa, s = float(parameters.alignment[layer]), float(across[layer])
        m = kappa - s * tau
        factors.append(m)
        if m <= 0:
            break
        tau = float(parameters.gap[layer]) * (s + kappa * tau) / m
    return factors


def log_product_ratio_upper(parameters: ChainParameters) -> float:
    """ln of a bound on sigma_2 / sigma_1 of P_{L:1}: rank-1 collapse where it falls with depth.

    Implements (T10), with the layer-wise cone in place of Lambda_min^(L-1) where there is one: sigma_1 sigma_2 of the
    product is at most prod sigma_l^2 xi_l, divided by the lower bound squared. Never above 0.

    Returns:
        Natural logarithm; 0 where no cone exists and nothing is known, -inf where a gap is 0.
    """
    lower = cone_margins(parameters)
    with np.errstate(divide="ignore"):
        spread = float(np.sum(np.log(parameters.gap)))
    if not all(m > 0 for m in lower):
        # The second compound still vanishes with any gap, whatever the first does.
        return -math.inf if np.isneginf(spread) else 0.0
    return min(0.0, spread - 2.0 * math.fsum(math.log(m) for m in lower))


def context_norm_bound(parameters: ChainParameters) -> float:
    """Bound on ||J_L|| at any depth, beta (1 + sup sigma / (1 - sup sigma_l Lambda_max(kappa_l, xi))).

    Implements (T13), the right sufficient condition for Regime I: sup over l >= 2 of sigma_l Lambda_max < 1, with
    xi = sup over all layers and beta = sup ||B_l||, taken as hypot of its two parts, which is at least ||B_l||.

    Returns:
        The bound, in the unit of the injections; inf where the condition fails.
    """
    beta = float(np.max(np.hypot(parameters.injection_along, parameters.injection_across)))
    if parameters.depth == 1:
        return beta
    rate = regime_one_rate(parameters)
    if rate >= 1:
        return math.inf
    return beta * (1.0 + float(np.max(parameters.sigma)) / (1.0 - rate))


def log_context_norm_bound(parameters: ChainParameters) -> float:
    """ln of `context_norm_bound`, which may leave float64; implements (T13).

    Returns:
        Natural logarithm; inf where the condition fails, -inf where every injection is 0.
    """
    with np.errstate(divide="ignore"):
        beta = float(np.log(np.max(np.hypot(parameters.injection_along, parameters.injection_across))))
    rate = regime_one_rate(parameters)
    if rate >= 1:
        return math.inf
    return beta if parameters.depth == 1 else beta + math.log1p(float(np.max(parameters.sigma)) / (1.0 - rate))


def regime_one_rate(parameters: ChainParameters) -> float:
    """sup over l >= 2 of sigma_l Lambda_max(kappa_l, xi), xi = sup over all layers: what (T13) compares with 1.

    Returns:
        The rate, dimensionless; 0 for a chain of one layer.
    """
    if parameters.depth == 1:
        return 0.0
    xi = float(np.max(parameters.gap))
    return float(np.max(parameters.sigma[1:] * max_rate(parameters.alignment[1:], xi)))


def tempting_product_upper(parameters: ChainParameters) -> float:
    """ln of sigma_1 prod_{l>=2} sigma_l Lambda_max(kappa_l, xi_l). FALSE as a bound: kept for its counterexamples.

    (T8) with each layer's own gap in place of the largest. The layers' norms then differ, and chains exceed it.

    Returns:
        Natural logarithm of a number that ||P_{L:1}|| may exceed; -inf where a factor is 0.
    """
    with np.errstate(divide="ignore"):
        rates = np.log(max_rate(parameters.alignment[1:], parameters.gap[1:])) if parameters.depth > 1 else np.zeros(0)
        return float(np.sum(np.log(parameters.sigma)) + np.sum(rates))


def tempting_product_lower(parameters: ChainParameters) -> float:
    """ln of sigma_1 prod_{l>=2} sigma_l Lambda_min(kappa_l, xi_l). FALSE as a bound: kept for its counterexamples.

    (T9) in its closed form with each layer's own gap in place of the largest. The layers' cones then differ, and chains
    fall below.

    Returns:
        Natural logarithm of a number that ||P_{L:1}|| may fall below; NaN where kappa_l < kappa_c(xi_l) for some l.
    """
    with np.errstate(divide="ignore"):
        rates = np.log(min_rate(parameters.alignment[1:], parameters.gap[1:])) if parameters.depth > 1 else np.zeros(0)
        return float(np.sum(np.log(parameters.sigma)) + np.sum(rates))
