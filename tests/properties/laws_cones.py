"""The laws of what goes beyond (T15): cones, weighted norms, blocks of layers and frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

import theory
from tests.properties.examples import EPS, Array, Example, pushed
from tests.properties.laws_jacobian import parts_of
from tests.properties.verdicts import LN2, Law, Verdict, above, below
from theory.bounds.cone import ConeCertificate
from theory.bounds.frames import FRAMES
from theory.bounds.growth import log_product_growth

__all__ = ["CONE_LAWS"]

Bound = Callable[..., Any]

DEEPEST = 12
"""Layers above which (T17) and (T25) are not tried: their rounding is known to a factor of 2 a layer only."""


def weighted_growth(example: Example, bound: Bound) -> Verdict | None:
    """T28 for the product; it rises with sigma, kappa, s and xi as (T8) does."""
    exact, moved = log_product_growth(example.parameters), log_product_growth(pushed(example, up=True))
    drift = moved - exact if math.isfinite(exact) and math.isfinite(moved) else 0.0
    _, exponent, error = example.product
    # Its 2 x 2 norms are hypots of sums, right to 8 eps a layer.
    margin = example.log_rounding + 2 * abs(drift) + 16 * EPS * example.depth
    return above(bound(example.parameters), float(example.singular_values[0]), error, exponent * LN2, margin)


_PUSHED: WeakKeyDictionary[Example, tuple[ConeCertificate, ...]] = WeakKeyDictionary()


def _certificates(example: Example) -> tuple[ConeCertificate, ...]:
    """Of the example's parameters as they are, pushed up and pushed down: each law reads one field of them."""
    if example not in _PUSHED:
        sides = (example.parameters, pushed(example, up=True), pushed(example, up=False))
        _PUSHED[example] = tuple(theory.certify_cone(side) for side in sides)
    return _PUSHED[example]


def _drift(example: Example, name: str) -> float:
    """What rounding may do to a field of the cone certificate; NaN where it decides whether there is a cone.

    A cone's slope is a quotient of differences, so its rounding is that of its inputs magnified; pushing all inputs by
    16 eps both ways measures how much, and a factor of 4 allows for inputs that were pushed against each other.
    """
    exact, *sides = (getattr(certificate, name) for certificate in _certificates(example))
    if not math.isfinite(exact):
        return math.nan
    if not all(math.isfinite(side) for side in sides):
        return math.nan
    return 4 * max(abs(side - exact) for side in sides) + 16 * EPS * (example.depth + abs(exact))


def _across(example: Example) -> tuple[float, float]:
    """||(I - u u^T) J_L|| and ||u^T J_L||."""
    row, rest, _, _ = parts_of(example)
    return float(np.linalg.norm(rest, 2)), float(np.linalg.norm(row))


def _second(example: Example) -> float:
    s = np.linalg.svd(example.jacobian.matrix, compute_uv=False)
    return float(s[1]) if s.size > 1 else 0.0


def cone_field(
    name: str, truth_of: Callable[[Example], float], compare: Callable[..., Verdict | None]
) -> Callable[[Example, Bound], Verdict | None]:
    """One bound of (T27) on a norm of J_L."""

    def check(example: Example, bound: Bound) -> Verdict | None:
        margin = _drift(example, name)
        if math.isnan(margin):
            return None
        _, _, error, unit = parts_of(example)
        value = getattr(bound(example.parameters), name)
        # A lower bound of a difference is right to the rounding of what it was taken from, which the truth's error is.
        error *= 2 if compare is above else 8
        return compare(value, truth_of(example), error, unit, margin + 8 * EPS * abs(unit))

    return check


def cone_noise(example: Example, bound: Bound) -> Verdict | None:
    """||(I - u u^T) J_L|| / ||u^T J_L||."""
    margin = _drift(example, "log_noise_ratio_upper")
    if math.isnan(margin):
        return None
    _, _, error, _ = parts_of(example)
    across, along = _across(example)
    if along <= 4 * error:
        return Verdict(math.inf, 0.0, resolved=False)
    margin += math.log1p(error / along)
    return above(bound(example.parameters).log_noise_ratio_upper, across / along, 2 * error / along, 0.0, margin)


def _direction(example: Example, certificate: ConeCertificate) -> tuple[Array, float] | None:
    """The direction w of the certificate's cone, and its rounding."""
    jacobian = example.jacobian
    if certificate.direction == "coherent":
        return np.eye(example.injections.shape[2])[0], 0.0
    row = jacobian.rows[certificate.since - 1]
    size = float(np.linalg.norm(row))
    error = 2 * example.rounding * 2.0  # J_l is below 2 in its own unit
    return (row / size, error / size) if size > 4 * error else None


def rank_one(name: str) -> Callable[[Example, Bound], Verdict | None]:
    """||J - x g^T||, the tilt of x or the drift of g, x = J w and g = J^T u / <u, x>."""

    def check(example: Example, bound: Bound) -> Verdict | None:
        certificate = _certificates(example)[0]
        if certificate.direction == "none":
            return None
        margin, known = _drift(example, name), _direction(example, certificate)
        if math.isnan(margin) or known is None:
            return None
        (w, turned), (row, rest, error, unit) = known, parts_of(example)
        matrix = example.jacobian.matrix
        noise = error + 2 * turned * example.jacobian.size
        p = float(row @ w)
        w, p = (w, p) if p > 0 else (-w, -p)
        if p <= 4 * noise:
            return Verdict(math.inf, 0.0, resolved=False)
        x, g = matrix @ w, row / p
        tilt, drift = float(np.linalg.norm(rest @ w)) / p, float(np.linalg.norm(g - w))
        spread = math.hypot(1.0, tilt) * (1 + float(np.linalg.norm(g)))
        truth, error, unit = {
            "log_rank_one_error": (float(np.linalg.norm(matrix - np.outer(x, g), 2)), 4 * noise * spread, unit),
            "log_tilt": (tilt, 4 * noise * spread / p, 0.0),
            "log_drift": (drift, 4 * noise * spread / p, 0.0),
        }[name]
        return above(getattr(bound(example.parameters), name), truth, error, unit, margin + 8 * EPS * abs(unit))

    return check


def _dense(example: Example) -> tuple[Array, Array]:
    """A_l and B_l at their true scale."""
    return (
        np.ldexp(example.layers, example.layer_exponents[:, None, None]),
        np.ldexp(example.injections, example.injection_exponents[:, None, None]),
    )


def _least(verdicts: list[Verdict | None]) -> Verdict | None:
    known = [verdict for verdict in verdicts if verdict is not None]
    return min(known, key=lambda verdict: verdict.slack + verdict.margin, default=None)


def block_bounds(example: Example, bound: Bound) -> Verdict | None:
    """T17: (T15) of the blocks of 1, 2, L/2 and L layers, all of its bounds.

    The blocks' numbers are exact for blocks within rounding of the true ones, whose J_L is within the truth's error;
    what their frames lack of orthonormality enters p+ and q+ like a turn by 16 d eps a block, which at most sqrt(2) a
    block carries on.
    """
    if example.depth > DEEPEST:
        return None
    sizes = sorted({1, min(2, example.depth), max(1, example.depth // 2), example.depth})
    a, b = _dense(example)
    table = bound(a, b, blocks=sizes)
    _, _, error, unit = parts_of(example)
    s = np.linalg.svd(example.jacobian.matrix, compute_uv=False)
    second = float(s[1]) if s.size > 1 else 0.0
    margin = 16 * EPS * (example.depth + abs(unit)) + example.log_rounding
    verdicts = []
    for row in table.rows:
        noise = error * 2 ** (1 + row.count / 2)
        verdicts += [
            above(row.log_norm_upper, float(s[0]), noise, unit, margin),
            above(row.log_sigma2_upper, second, noise, unit, margin),
            below(row.log_norm_lower, float(s[0]), noise, unit, margin),
        ]
    return _least(verdicts)


def frame_bounds(example: Example, bound: Bound) -> Verdict | None:
    """T25: sigma_1 .. sigma_r of J_L from both sides and sigma_{r+1}, for one choice of frames and rank and for u_l.

    An error of a layer's four blocks is at most d eps sigma_l; e + y carries it on by at most 2 sigma a layer.
    """
    if example.depth > DEEPEST:
        return None
    d, context = example.dimension, example.injections.shape[2]
    choice = FRAMES[(example.depth + d) % len(FRAMES)]
    a, b = _dense(example)
    certificates = [
        bound(a, choice, 1 + (example.depth + context) % d, b),
        bound(a, example.u[:, :, None], None, b),
    ]
    _, _, error, unit = parts_of(example)
    s = np.concatenate([np.linalg.svd(example.jacobian.matrix, compute_uv=False), np.zeros(d + 1)])
    noise = error * 2**example.depth
    margin = 16 * EPS * (example.depth + abs(unit)) + example.log_rounding
    verdicts = []
    for certificate in certificates:
        rank = certificate.rank
        verdicts.append(above(float(certificate.log_next_upper), float(s[rank]), noise, unit, margin))
        for index in range(rank):
            verdicts.append(above(float(certificate.log_upper[index]), float(s[index]), noise, unit, margin))
            verdicts.append(below(float(certificate.log_lower[index]), float(s[index]), noise, unit, margin))
    return _least(verdicts)


def _norm(example: Example) -> float:
    return float(np.linalg.norm(example.jacobian.matrix, 2))


CONE_LAWS = (
    Law("T28", "||P|| <= sigma_1 max(1, xi_1 / r) prod sigma N(r)", log_product_growth, weighted_growth),
    Law(
        "T27 lower",
        "||u^T J_L|| is at least the cone's bound",
        theory.certify_cone,
        cone_field("log_norm_lower", lambda example: _across(example)[1], below),
    ),
    Law("T27 upper", "||J_L|| <= its bound", theory.certify_cone, cone_field("log_norm_upper", _norm, above)),
    Law("T27 second", "sigma_2(J_L) <= its bound", theory.certify_cone, cone_field("log_sigma2_upper", _second, above)),
    Law(
        "T27 across",
        "||(I - u u^T) J_L|| <= its bound",
        theory.certify_cone,
        cone_field("log_across_upper", lambda example: _across(example)[0], above),
    ),
    Law("T27 noise", "||(I - u u^T) J_L|| <= its ratio ||u^T J_L||", theory.certify_cone, cone_noise),
    Law("T27 rank one", "||J_L - x g^T|| <= its bound", theory.certify_cone, rank_one("log_rank_one_error")),
    Law("T27 tilt", "x = J_L w leans away from u_L by at most its tilt", theory.certify_cone, rank_one("log_tilt")),
    Law("T27 drift", "||g - w|| <= its drift", theory.certify_cone, rank_one("log_drift")),
    Law("T17", "(T15) of the blocks brackets J_L", theory.certify_blocks, block_bounds),
    Law("T25", "the frames' bounds bracket the singular values of J_L", theory.certify_frames, frame_bounds),
)
