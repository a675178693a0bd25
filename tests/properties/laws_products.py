"""The laws of products of propagators: one layer's rates, growth, collapse, the dominant path, the pull-back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import theory
from tests.properties.examples import EPS, Example, pushed
from tests.properties.verdicts import LN2, Law, Verdict, above, below
from theory.bounds.certificate import regime_rates
from theory.bounds.perturbation import log_perturbation_error_by_columns
from theory.propagation.reduction import log_singular_values

__all__ = ["PRODUCT_LAWS"]

Bound = Callable[..., Any]


def _drift(exact: float, moved: float) -> float:
    """How far a bound moves when its inputs are pushed by their rounding; NaN where it then says nothing."""
    if exact == moved:
        return 0.0
    return abs(exact - moved) if math.isfinite(exact) and math.isfinite(moved) else math.nan


def one_layer_upper(example: Example, bound: Bound) -> Verdict | None:
    """Every layer l >= 2 in the norms V_{l-1}, V_l: the operator norm of D_l A_l D_{l-1}^{-1}."""
    p = example.parameters
    picks = np.flatnonzero((p.gap > 0) & (p.sigma > 0))
    picks = picks[picks > 0]
    if picks.size == 0:
        return None
    eye = np.eye(example.dimension)
    root = np.sqrt(p.gap[picks])[:, None, None]
    now, before = example.u[picks], example.u[picks - 1]
    along_now, along_before = now[:, :, None] * now[:, None, :], before[:, :, None] * before[:, None, :]
    layers = example.layers[picks] / example.unit_sigma[picks][:, None, None]
    # D_l = u u^T + (I - u u^T) / sqrt(xi): the error of a layer grows by 1 / sqrt(xi) at most.
    moved = (along_now + (eye - along_now) / root) @ layers @ (along_before + (eye - along_before) * root)
    norms = np.linalg.norm(moved, 2, axis=(1, 2))
    rates = np.asarray(bound(p.alignment[picks], p.gap[picks]))
    # Lambda_max >= sqrt(xi); its slopes are at most 1 / (2 Lambda_max - kappa (1 - xi)) <= 1 / (2 sqrt(xi)).
    margin = 16 * EPS + example.angle_error * (1 / np.sqrt(p.gap[picks]) + 0.5 / p.gap[picks])
    verdicts = [
        above(math.log(rate) if rate > 0 else -math.inf, norm, 3 * example.per_layer / r, 0.0, extra)
        for rate, norm, r, extra in zip(
            rates.tolist(), norms.tolist(), root.ravel().tolist(), margin.tolist(), strict=True
        )
    ]
    return _worst(verdicts)


def one_layer_lower(example: Example, bound: Bound) -> Verdict | None:
    """The cone q <= tau p with tau = (kappa - Lambda_min) / s is mapped into itself by every layer l >= 2."""
    p = example.parameters
    across = p.across
    verdicts = []
    for layer in range(1, example.depth):
        kappa, xi, s = float(p.alignment[layer]), float(p.gap[layer]), float(across[layer])
        reference = float(theory.min_rate(kappa, xi))
        if p.sigma[layer] == 0:
            continue
        rate = float(bound(kappa, xi))
        if s == 0 or xi == 0:
            # The cone is the axis u_{l-1} alone.
            along = float(example.u[layer] @ example.layers[layer] @ example.u[layer - 1]) / example.unit_sigma[layer]
            log_rate = math.log(rate) if rate > 0 else math.nan if math.isnan(rate) else -math.inf
            verdicts.append(below(log_rate, along, example.per_layer + example.angle_error, 0.0, 8 * EPS))
            continue
        if kappa <= reference:
            continue
        if math.isnan(reference):
            # Below kappa_c no cone is kept; what is claimed there all the same is held to its own slope.
            reference = rate
        slope = 2 * reference - kappa * (
            1 + xi
        )  # dLambda/dkappa = (1 + xi) Lambda / slope, dLambda/dxi = (kappa Lambda - 1) / slope
        error = (8 * EPS * reference + (2 * reference + 1) * (8 * EPS * kappa + example.angle_error)) / max(slope, EPS)
        tau = (kappa - rate) / s
        if math.isnan(rate) or tau <= 0:
            # A rate at or above kappa leaves no cone at all, though there is one.
            verdicts.append(None if math.isnan(rate) else Verdict(-math.inf, 0.0))
            continue
        before = example.u[layer - 1]
        away = example.v[layer] - (example.v[layer] @ before) * before
        size = float(np.linalg.norm(away))
        if size == 0:
            continue
        x = before - tau * away / size
        y = example.layers[layer] @ x / example.unit_sigma[layer]
        along = float(example.u[layer] @ y)
        q = float(np.linalg.norm(y - along * example.u[layer]))
        noise = 3 * example.per_layer * math.hypot(1.0, tau)
        # The cone's slope is known to error / (kappa - Lambda); what it is mapped to moves by less than twice that.
        margin = 3 * (error + 8 * EPS + example.angle_error) / (kappa - reference) + 3 * example.angle_error / s
        margin += noise / max(along - noise, EPS)
        if margin < 0.1:
            verdicts.append(above(math.log(tau) + math.log(along), q, noise, 0.0, margin) if along > 0 else None)
    return _worst(verdicts)


def _worst(verdicts: list[Verdict | None]) -> Verdict | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return min(known, key=lambda verdict: verdict.slack + verdict.margin, default=None)


def product_upper(example: Example, bound: Bound) -> Verdict | None:
    """T8. The bound rises with sigma, kappa and xi."""
    drift = _drift(theory.log_product_upper(example.parameters), theory.log_product_upper(pushed(example, up=True)))
    _, exponent, error = example.product
    margin = example.log_rounding + (0.0 if math.isnan(drift) else drift)
    return above(bound(example.parameters), float(example.singular_values[0]), error, exponent * LN2, margin)


def product_lower(reference: Callable[..., float]) -> Callable[[Example, Bound], Verdict | None]:
    """T9 in either form: both rise with sigma and kappa and fall with s and xi."""

    def check(example: Example, bound: Bound) -> Verdict | None:
        exact = reference(example.parameters)
        if math.isnan(exact):
            return None
        p = example.parameters
        drift = _drift(exact, reference(pushed(example, up=False)))
        if math.isnan(drift) and exact > -math.inf:
            # At kappa_c itself the form is a plain power of sqrt(xi), which a chain within the truth's error obeys.
            least = float(np.min(p.alignment[1:], initial=1.0))
            at_edge = example.angle_error == 0 and least == float(theory.critical_alignment(float(np.max(p.gap))))
            if not (at_edge and reference is theory.log_product_lower_uniform):
                return None
            drift = 0.0
        _, exponent, error = example.product
        margin = example.log_rounding + (0.0 if math.isnan(drift) else drift)
        return below(bound(p), float(example.singular_values[0]), error, exponent * LN2, margin)

    return check


def collapse(example: Example, bound: Bound) -> Verdict | None:
    """T10: sigma_2 / sigma_1 as sigma_1 sigma_2 by compounds over sigma_1 squared."""
    p = example.parameters
    if example.dimension < 2 or (p.sigma == 0).any():
        return None
    exact = theory.log_product_ratio_upper(p)
    if exact == -math.inf or (p.gap == 0).any():
        return above(bound(p), float(example.singular_values[1]), example.product[2], 0.0, 0.0)
    drift = _drift(exact, theory.log_product_ratio_upper(pushed(example, up=False)))
    if math.isnan(drift):
        return None
    both, relative = example.second_compound
    norm, error = float(example.singular_values[0]), example.product[2]
    scale = float(np.prod(example.unit_sigma))
    if norm <= 2 * error or relative > 0.5 or both <= relative:
        return Verdict(math.inf, 0.0, resolved=False)
    truth = both * (scale / norm) ** 2
    margin = example.log_rounding + drift - 2 * math.log1p(-error / norm)
    return above(bound(p), truth, relative * truth / both, float(np.sum(np.log(p.gap))), margin)


def dominant_path(example: Example, bound: Bound) -> Verdict | None:
    """T12: ||P - P*|| against the bound times ||P*||. The bound falls with kappa and rises with s and xi."""
    p = example.parameters
    misalignment = None if p.misalignment is None else p.misalignment
    exact = float(theory.perturbation_error(p.alignment, p.gap, misalignment))
    if not math.isfinite(exact):
        return None
    moved = pushed(example, up=False)
    further = float(theory.perturbation_error(moved.alignment, moved.gap, moved.misalignment))
    path = float(np.prod(example.unit_sigma) * np.prod(p.alignment[1:]))
    matrix, _, error = example.product
    distance = float(np.linalg.norm(matrix - path * np.outer(example.u[-1], example.v[0]), 2))
    value = float(bound(p.alignment, p.gap, misalignment))
    log_path = float(np.sum(np.log(p.alignment[1:]))) + math.log(float(np.prod(example.unit_sigma))) if path else 0.0
    # The rest of a pushed bound that was 0 is rounding of the layers, which `error` has.
    drift = math.log(further / exact) if exact > 0 and math.isfinite(further) else 0.0
    log_bound = math.log(value * math.exp(log_path)) if value > 0 and path > 0 else -math.inf
    return above(log_bound, distance, 2 * error, 0.0, drift + 8 * EPS * example.depth)


def path_by_columns(example: Example, bound: Bound) -> Verdict | None:
    """T31: the same distance. The bound falls with kappa and rises with s and xi."""
    p = example.parameters
    exact = log_perturbation_error_by_columns(p)
    if exact == math.inf:
        return None
    drift = _drift(exact, log_perturbation_error_by_columns(pushed(example, up=False)))
    path = float(np.prod(example.unit_sigma) * np.prod(p.alignment[1:]))
    if path <= 0:
        return None
    matrix, _, error = example.product
    distance = float(np.linalg.norm(matrix - path * np.outer(example.u[-1], example.v[0]), 2))
    # The rest of a pushed bound that was 0 is rounding of the layers, which `error` has.
    margin = (drift if math.isfinite(drift) else 0.0) + 8 * EPS * example.depth
    return above(bound(p) + math.log(path), distance, 2 * error, 0.0, margin)


def rates_of_growth(index: int) -> Callable[[Example, Bound], Verdict | None]:
    """T14: ||P_{L:2} u_1|| between exp((L - 1) low) and exp((L - 1) high)."""

    def check(example: Example, bound: Bound) -> Verdict | None:
        if example.depth < 2:
            return None
        exact = regime_rates(example.parameters)[index]
        if math.isnan(exact):
            return None
        drift = _drift(exact, regime_rates(pushed(example, up=index == 1))[index])
        if math.isnan(drift) and math.isfinite(exact):
            return None
        x = example.u[0]
        for layer in example.layers[1:]:
            x = layer @ x
        error = example.rounding * float(np.prod(example.unit_sigma[1:]))
        unit = LN2 * float(np.sum(example.layer_exponents[1:]))
        rate = float(bound(example.parameters)[index])
        margin = (example.depth - 1) * (0.0 if math.isnan(drift) else drift) + 2 * example.log_rounding
        compare = above if index == 1 else below
        return compare((example.depth - 1) * rate, float(np.linalg.norm(x)), error, unit, margin)

    return check


PADDED_DEPTH, PADDED_WIDTH = 12, 9


def pull_back(example: Example, bound: Bound) -> Verdict | None:
    """T24: both leading singular values of the pulled-back product are those of P_{L:1}, an identity.

    Chains are padded to one shape, by identity layers and by dimensions in which the product is prod sigma_l xi_l and
    so below every other singular value, because the reduction is compiled for each shape.
    """
    p, isometries = example.parameters, example.isometries
    if isometries is None or example.depth > PADDED_DEPTH or (p.sigma == 0).any():
        return None
    w = np.zeros((1, PADDED_DEPTH, PADDED_WIDTH))
    w[:, :, 0] = 1.0
    turned = np.eye(example.dimension)
    for layer in range(example.depth):
        w[0, layer, : example.dimension] = turned.T @ example.v[layer]
        turned = isometries[layer] @ turned
    gap, sigma = np.ones((1, PADDED_DEPTH)), np.ones((1, PADDED_DEPTH))
    gap[0, : example.depth], sigma[0, : example.depth] = p.gap, p.sigma
    first, second = (float(x[0]) for x in bound(w, gap, sigma))
    _, exponent, error = example.product
    truth = float(example.singular_values[0])
    if truth <= 4 * error:
        return Verdict(math.inf, 0.0, resolved=False)
    margin = 2 * example.log_rounding - 2 * math.log1p(-2 * error / truth)
    verdicts = [Verdict(-abs(math.log(truth) + exponent * LN2 - first), margin)]
    both, relative = example.second_compound
    if relative < 0.1 and both > 2 * relative:
        total = math.log(both) + float(np.sum(np.log(p.gap)) + 2 * np.sum(np.log(p.sigma)))
        # sigma_2 is split off where it is below 1e-6 of sigma_1, to 1e-12; above that a plain SVD errs by eps / 1e-6.
        own = 1e-12 + EPS * PADDED_DEPTH * PADDED_WIDTH**2 * 1e6
        verdicts.append(Verdict(-abs(total - first - second), 2 * margin + own - math.log1p(-relative / both)))
    return _worst(list(verdicts))


PRODUCT_LAWS = (
    Law("T5", "one layer grows no vector faster than sigma Lambda_max in the norm V", theory.max_rate, one_layer_upper),
    Law(
        "T6", "one layer maps the cone of slope (kappa - Lambda_min) / s into itself", theory.min_rate, one_layer_lower
    ),
    Law("T8", "||P|| <= sigma_1 prod sigma Lambda_max", theory.log_product_upper, product_upper),
    Law(
        "T9 uniform",
        "||P|| >= sigma_1 prod sigma Lambda_min",
        theory.log_product_lower_uniform,
        product_lower(theory.log_product_lower_uniform),
    ),
    Law(
        "T9 closed",
        "||P|| >= sigma_1 prod sigma Lambda_min(kappa_l)",
        theory.log_product_lower_closed,
        product_lower(theory.log_product_lower_closed),
    ),
    Law(
        "T9 by layer",
        "||P|| >= sigma_1 prod sigma m_l",
        theory.log_product_lower,
        product_lower(theory.log_product_lower),
    ),
    Law("T10", "sigma_2 / sigma_1 of P <= prod xi / prod m_l^2", theory.log_product_ratio_upper, collapse),
    Law("T12", "||P - P*|| <= hypot(a_L, b_L) ||P*||", theory.perturbation_error, dominant_path),
    Law(
        "T31",
        "||P - P*|| <= ||[[a, c], [b, e]]|| ||P*||",
        log_perturbation_error_by_columns,
        path_by_columns,
    ),
    Law("T14 slow", "||P_{L:2} u_1|| >= exp((L - 1) inf ln sigma Lambda_min)", regime_rates, rates_of_growth(0)),
    Law("T14 fast", "||P_{L:2} u_1|| <= exp((L - 1) sup ln sigma Lambda_max)", regime_rates, rates_of_growth(1)),
    Law("T24", "the pulled-back product has the singular values of P", log_singular_values, pull_back),
)
