"""The laws of the context Jacobian: the certificate and what bounds it at every depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import theory
from observables import ChainParameters
from tests.properties.examples import EPS, Array, Example, pushed
from tests.properties.verdicts import LN2, Law, Verdict, above, below

__all__ = ["JACOBIAN_LAWS", "parts_of"]

Bound = Callable[..., Any]


def _frobenius(example: Example, parameters: ChainParameters) -> ChainParameters:
    """The same chain for the Frobenius form: the part of B_l across u_l by its Frobenius norm."""
    grown = parameters.injection_across - example.parameters.injection_across
    return replace(parameters, injection_across=example.across_frobenius + np.maximum(grown, 0.0))


def parts_of(example: Example) -> tuple[Array, Array, float, float]:
    """u_L^T J_L, (I - u_L u_L^T) J_L, their absolute rounding and ln of their unit."""
    jacobian = example.jacobian
    row = example.u[-1] @ jacobian.matrix
    rest = jacobian.matrix - np.outer(example.u[-1], row)
    return row, rest, 2 * example.rounding * jacobian.size, jacobian.exponent * LN2


def _floor_error(example: Example, across: Array) -> float:
    """Absolute rounding of p-_L and z_L, in the unit of the example's Jacobian.

    Both are differences, so their error is absolute: p+ and q+ are sums of positive terms, right to 8 l eps of their
    size after l layers, and in p-' = sigma (kappa p- - s q+) - beta, as in the other branch, all terms in absolute
    value add up to p+' at most. Hence E' = sigma kappa E + 16 (l + 1) eps p+'. Errors of kappa, s and of the measured
    injections enter like those of the operations.
    """
    jacobian, p, s = example.jacobian, example.parameters, example.parameters.across
    high = q = error = 0.0
    own = 16 * EPS + example.angle_error
    extra = 8 * max(example.dimension, example.injections.shape[2]) * EPS  # a layer's B_l is below 2 in its unit
    for layer in range(example.depth):
        kappa, turn = (0.0, 1.0) if layer == 0 else (float(p.alignment[layer]), float(s[layer]))
        sigma = float(jacobian.sigma[layer])
        # hypot is at least either branch of phi.
        spread = math.hypot(high, q)
        lost = sigma * example.angle_error * spread
        high, q = (
            sigma * (kappa * high + turn * q) + float(jacobian.along[layer]),
            float(p.gap[layer]) * sigma * spread + float(across[layer]),
        )
        error = sigma * kappa * error + (layer + 1) * own * high + lost * (layer + 1) + 2 * extra
    return error


def _margin(example: Example, name: str, frobenius: bool = False) -> float:
    """How far an upper bound of the certificate rises when its inputs do: it is a sum of positive terms."""
    plain, moved = example.parameters, pushed(example, up=True)
    if frobenius:
        plain, moved = _frobenius(example, plain), _frobenius(example, moved)
    exact, further = getattr(theory.certify(plain), name), getattr(theory.certify(moved), name)
    drift = further - exact if math.isfinite(exact) else 0.0
    return drift + 4 * EPS * (abs(exact) if math.isfinite(exact) else 1.0)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _lower_of(log_value: float, value: float) -> float:
    """The tighter of an upper bound's logarithm and its plain number, where that is inside float64."""
    return min(log_value, _log(value)) if 1e-300 < abs(value) < 1e300 else log_value


def _upper_of(log_value: float, value: float) -> float:
    """The tighter of a lower bound's logarithm and its plain number, where that is inside float64."""
    return max(log_value, _log(value)) if 1e-300 < value < 1e300 else log_value


def norm_upper(example: Example, bound: Bound) -> Verdict | None:
    """||J_L|| <= hypot(p+, q+)."""
    _, _, error, unit = parts_of(example)
    norm = float(np.linalg.norm(example.jacobian.matrix, 2))
    given = bound(example.parameters)
    log_bound = _lower_of(given.log_norm_upper, given.norm_upper)
    return above(log_bound, norm, error, unit, _margin(example, "log_norm_upper"))


def norm_upper_frobenius(example: Example, bound: Bound) -> Verdict | None:
    """||J_L||_F <= hypot(p+, q+) with Frobenius norms of the injections across."""
    _, _, error, unit = parts_of(example)
    log_bound = bound(_frobenius(example, example.parameters)).log_norm_upper
    norm, rank = float(np.linalg.norm(example.jacobian.matrix)), min(example.jacobian.matrix.shape)
    return above(log_bound, norm, error * math.sqrt(rank), unit, _margin(example, "log_norm_upper", True))


def second_upper(example: Example, bound: Bound) -> Verdict | None:
    """sigma_2(J_L) <= ||(I - u u^T) J_L|| <= q+."""
    _, rest, error, unit = parts_of(example)
    given = bound(example.parameters)
    log_bound = _lower_of(given.log_sigma2_upper, given.sigma2_upper)
    s = np.linalg.svd(example.jacobian.matrix, compute_uv=False)
    truth = max(float(np.linalg.norm(rest, 2)), float(s[1]) if s.size > 1 else 0.0)
    return above(log_bound, truth, error, unit, _margin(example, "log_sigma2_upper"))


def norm_lower(example: Example, bound: Bound) -> Verdict | None:
    """||u_L^T J_L|| >= p-, and so ||J_L|| is."""
    row, _, error, unit = parts_of(example)
    given = bound(example.parameters)
    log_bound = _upper_of(given.log_norm_lower, given.norm_lower)
    error += _floor_error(example, example.jacobian.across)
    return below(log_bound, float(np.linalg.norm(row)), error, unit, 4 * EPS * (1 + abs(unit)))


def noise_ratio(frobenius: bool) -> Callable[[Example, Bound], Verdict | None]:
    """||(I - u u^T) J_L|| <= (q+ / p-) ||u^T J_L||, in either norm."""

    def check(example: Example, bound: Bound) -> Verdict | None:
        parameters = _frobenius(example, example.parameters) if frobenius else example.parameters
        ratio = float(bound(parameters).noise_ratio_upper)
        if not math.isfinite(ratio):
            return None
        row, rest, error, unit = parts_of(example)
        reference = theory.certify(parameters)
        across = example.jacobian.across
        if frobenius:
            across = np.ldexp(example.across_frobenius, -example.jacobian.exponents)
            error *= math.sqrt(min(rest.shape))
        floor = math.exp(reference.log_norm_lower - unit) if reference.log_norm_lower > -math.inf else 0.0
        lost = _floor_error(example, across)
        along, truth = float(np.linalg.norm(row)), float(np.linalg.norm(rest, None if frobenius else 2))
        if floor <= 2 * lost or along <= 2 * error:
            return Verdict(math.inf, 0.0, resolved=False)
        margin = _margin(example, "log_sigma2_upper", frobenius) - math.log1p(-lost / floor) + math.log1p(error / along)
        log_bound = math.log(ratio) if ratio > 0 else -math.inf
        return above(log_bound, truth / along, error / along, 0.0, margin)

    return check


def coherent(example: Example, bound: Bound) -> Verdict | None:
    """u_L^T J_L w >= z_L for the direction w = e_1 of context space, where z_L is positive."""
    row, _, error, unit = parts_of(example)
    given = bound(example.parameters)
    if given.log_coherent_lower is None:
        return None
    log_bound = _upper_of(given.log_coherent_lower, given.coherent_lower)
    error += _floor_error(example, example.jacobian.across)
    return below(log_bound, float(row[0]), error, unit, 4 * EPS * (1 + abs(unit)))


def bounded(example: Example, bound: Bound) -> Verdict | None:
    """T13, linear in the injections; it rises with sigma, kappa, xi and beta."""
    exact = theory.context_norm_bound(example.parameters)
    further = theory.context_norm_bound(pushed(example, up=True))
    if math.isfinite(exact) and not math.isfinite(further):
        return None
    value = float(bound(example.parameters))
    _, _, error, unit = parts_of(example)
    log_bound = math.log(value) if value > 0 else -math.inf
    margin = math.log(further / exact) if math.isfinite(exact) and exact > 0 else 0.0
    norm = float(np.linalg.norm(example.jacobian.matrix, 2))
    return above(log_bound, norm, error, unit, margin + 8 * EPS * (1 + abs(unit)))


def regime(example: Example, bound: Bound) -> Verdict | None:
    """The label: u_1 does not grow through layers 2..L in regime "I", nor shrink in "II"."""
    if example.depth < 2:
        return None
    label = bound(example.parameters).regime
    if label == "coexistence":
        return None
    x = example.u[0]
    for layer in example.layers[1:]:
        x = layer @ x
    truth, unit = float(np.linalg.norm(x)), LN2 * float(np.sum(example.layer_exponents[1:]))
    error = example.rounding * float(np.prod(example.unit_sigma[1:]))
    # V_1(u_1) = 1 and ||y|| <= V_L(y), so the growth of V bounds that of u_1 with no constant; the label is strict,
    # and its two rates are right to 16 eps each.
    if label == "I":
        return above(0.0, truth, error, unit, 2 * example.log_rounding)
    return below(0.0, truth, error, unit, 2 * example.log_rounding)


JACOBIAN_LAWS = (
    Law("T13", "||J_L|| <= beta (1 + sup sigma / (1 - sup sigma Lambda_max))", theory.context_norm_bound, bounded),
    Law("T14 label", "u_1 never grows in regime I, never shrinks in II", theory.certify, regime),
    Law("T15 upper", "||J_L|| <= hypot(p+, q+)", theory.certify, norm_upper),
    Law(
        "T15 upper, Frobenius",
        "||J_L||_F <= hypot(p+, q+), Frobenius norms across",
        theory.certify,
        norm_upper_frobenius,
    ),
    Law("T15 second", "sigma_2(J_L) and ||(I - u u^T) J_L|| <= q+", theory.certify, second_upper),
    Law("T15 lower", "||u^T J_L|| >= p-", theory.certify, norm_lower),
    Law("T15 noise", "||(I - u u^T) J_L|| <= (q+ / p-) ||u^T J_L||", theory.certify, noise_ratio(False)),
    Law("T15 noise, Frobenius", "the same, all norms across Frobenius", theory.certify, noise_ratio(True)),
    Law("T16", "u^T J_L w >= z_L", theory.certify, coherent),
)
