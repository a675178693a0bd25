"""The cone certificate: what sigma, xi, kappa and the injections certify of J_L where the layers keep a cone.

Where (T15) subtracts what the across part may be at most, whatever the along part is, this one follows their ratio, and
so does not decay in deep chains of Regime II. Plain float64 with free exponents on the host, as the certificate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.bounds._cone_step import Cone, Injected, advance, noise_of
from theory.bounds._layers import WideLayer, wide_layers
from theory.bounds._wide import ZERO, Wide, wide, wide_hypot, wide_max, wide_min, wide_sqrt
from theory.bounds.growth import Growth, weights

__all__ = ["ConeCertificate", "certify_cone", "cone_recursion"]

Direction = Literal["coherent", "first", "none"]

Scale = tuple[tuple[Wide, ...], tuple[tuple[Wide, ...], ...]]


@dataclass(frozen=True, slots=True)
class ConeCertificate:
    """Rigorous bounds on the context Jacobian J_L of every chain with the given parameters, up to rounding.

    Logarithms are natural, of norms in the unit of the injections; -inf where a bound is 0, +inf where nothing is
    known. Never worse than (T15) and (T16).

    Attributes:
        log_norm_lower, log_norm_upper: bounds on ||J_L||; the lower one holds for ||u_L^T J_L|| too.
        log_sigma2_upper: bound on the second singular value of J_L.
        log_across_upper: bound on ||(I - u_L u_L^T) J_L||.
        log_noise_ratio_upper: bound on ||(I - u_L u_L^T) J_L|| / ||u_L^T J_L||.
        log_rank_one_error: bound on ||J_L - x g^T|| for x = J_L w, g = J_L^T u_L / <u_L, x>; +inf without a cone.
        log_tilt: bound on ||(I - u_L u_L^T) x|| / <u_L, x>; +inf without a cone.
        log_drift: bound on ||g - w||; +inf without a cone.
        direction: w of the cone that stands at layer L and has the larger lower bound: "coherent" (that of
            `injection_coherent`, or its opposite), "first" (that of u_k^T J_k in layer k = `since`), or "none".
        since: layer, from 1, from which that cone has stood without a break; 0 without one.
    """

    log_norm_lower: float
    log_norm_upper: float
    log_sigma2_upper: float
    log_across_upper: float
    log_noise_ratio_upper: float
    log_rank_one_error: float
    log_tilt: float
    log_drift: float
    direction: Direction
    since: int


def certify_cone(parameters: ChainParameters, *, injection_norm: NDArray[np.float64] | None = None) -> ConeCertificate:
    """Bound ||J_L||, its second singular value and its noise ratio by cones, beside (T15).

    Implements (T27) and (T28). Where `injection_coherent` is given, its direction w and -w are followed; in any case
    also the direction in which u_k^T J_k points where a cone opens, of which the later injections' part is known in
    size alone. Every bound is the best of these and of (T15), (T16).

    Args:
        parameters: of the chain, L layers; alignment[0] is never read. For a chain with J_0 != 0 pass the parameters
            with the first injection B_1 + A_1 J_0.
        injection_norm: ||B_l|| where it is known, (L,), which lies between the larger of its two parts' norms and
            their hypot; with it the norm is never above sum_k ||B_k|| prod_{l>k} sigma_l, the triangle inequality.

    Returns:
        The certificate.

    Raises:
        ValueError: if injection_coherent exceeds injection_along in size by more than rounding, or injection_norm is
            not one number >= 0 a layer.
    """
    layers = wide_layers(parameters)
    coherent = parameters.injection_coherent
    if coherent is not None:
        size = parameters.injection_along + parameters.injection_across
        # measured parts are rounded relative to the whole injection
        beyond = np.abs(coherent) > parameters.injection_along + 64 * np.finfo(np.float64).eps * size
        if beyond.any():
            layer = int(np.argmax(beyond))
            raise ValueError(
                "injection_coherent must not exceed injection_along in size; got "
                f"{float(coherent[layer])!r} with {float(parameters.injection_along[layer])!r} in layer {layer + 1}"
            )
    if injection_norm is not None:
        layers = _with_norms(layers, injection_norm)
    return cone_recursion(layers, coherent is not None)


def _with_norms(layers: Sequence[WideLayer], norms: NDArray[np.float64]) -> list[WideLayer]:
    norms = np.asarray(norms, dtype=np.float64)
    if norms.shape != (len(layers),) or not np.isfinite(norms).all() or (norms < 0).any():
        raise ValueError(f"injection_norm must be {len(layers)} finite numbers >= 0, one a layer; got {norms}")
    # a norm as measured may be below one of its parts by the error of either
    return [
        replace(layer, norm=wide_max(wide(float(norm)), wide_max(layer.beta, layer.b)))
        for layer, norm in zip(layers, norms, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Track:
    """One direction followed to the last layer."""

    direction: Direction
    cone: Cone | None
    since: int
    along: Growth
    others: Growth
    low: Wide


def cone_recursion(layers: Sequence[WideLayer], coherent: bool) -> ConeCertificate:
    """`certify_cone` of layers whose numbers may leave float64; `coherent`: whether their c has a meaning."""
    scale = weights(layers)
    whole = [Growth.start(len(scale[0]))]
    for layer, rates in zip(layers, scale[1], strict=True):
        whole.append(whole[-1].step(layer, layer.beta, layer.b, scale[0], rates))
    tracks = [_follow_first(layers, whole, scale)]
    if coherent:
        tracks += [_follow(layers, whole, scale, sign) for sign in (1, -1)]
    best = tracks[0]
    for track in tracks[1:]:
        if best.low < track.low:
            best = track

    last = whole[-1]
    low, upper, second, across = best.low, wide_hypot(last.along, last.across), last.across, last.across
    for grown in last.weighted:
        upper = wide_min(upper, grown)  # no weight exceeds 1, so that V is never below the norm
    noise = last.across / low if low.fraction > 0 else None
    for track in tracks:
        if track.cone is None:
            continue
        p, tilted = track.cone.high, wide_min(track.cone.tilt * track.cone.high, track.along.across)
        aside = wide_min(p * track.cone.drift, track.others.along)
        beside = wide_min(tilted * track.cone.drift + track.cone.rest, track.others.across)
        # ||J|| is at most the norm of the 2 x 2 matrix of its four blocks' norms
        total = wide_hypot(p + beside, aside - tilted) + wide_hypot(p - beside, aside + tilted)
        upper = wide_min(upper, Wide(total.fraction, total.exponent - 1) if total.fraction else ZERO)
        second = wide_min(second, track.cone.rest)
        across = wide_min(across, wide_hypot(tilted, beside))
        ratio = noise_of(track.cone)
        noise = ratio if noise is None else wide_min(noise, ratio)
    cone = best.cone
    return ConeCertificate(
        log_norm_lower=low.log(),
        log_norm_upper=upper.log(),
        log_sigma2_upper=second.log(),
        log_across_upper=across.log(),
        log_noise_ratio_upper=math.inf if noise is None else noise.log(),
        log_rank_one_error=math.inf if cone is None else cone.rest.log(),
        log_tilt=math.inf if cone is None else cone.tilt.log(),
        log_drift=math.inf if cone is None else cone.drift.log(),
        direction="none" if cone is None else best.direction,
        since=0 if cone is None else best.since,
    )


def _follow(layers: Sequence[WideLayer], whole: Sequence[Growth], scale: Scale, sign: int) -> _Track:
    """The direction w (sign 1) or -w of the coherent injections."""
    cone, signed, since = None, ZERO, 0
    along = others = Growth.start(len(scale[0]))
    for index, layer in enumerate(layers):
        c = layer.c if sign > 0 else -layer.c
        size = Wide(abs(c.fraction), c.exponent)
        before = along
        along = along.step(layer, size, layer.aside, scale[0], scale[1][index])
        others = others.step(layer, layer.beta_across, layer.b, scale[0], scale[1][index])
        had = cone is not None
        injected = Injected(c, c, layer.beta_across, layer.beta, layer.aside)
        cone, signed = advance(cone, signed, layer, injected, before, (whole[index + 1], along, others))
        since = 0 if cone is None else since if had else index + 1
    return _Track("coherent", cone, since, along, others, wide_max(signed, ZERO))


def _follow_first(layers: Sequence[WideLayer], whole: Sequence[Growth], scale: Scale) -> _Track:
    """The direction w of u_k^T J_k in the layer k where the cone opens; later injections along it have any sign.

    A new one opens where an injection surely exceeds what came before it by more than the cone holds.
    """
    cone, signed, since = None, ZERO, 0
    others = Growth.start(len(scale[0]))
    for index, layer in enumerate(layers):
        before, after = whole[index], whole[index + 1]
        others = others.step(layer, layer.beta, layer.b, scale[0], scale[1][index])
        injected = Injected(-layer.beta, layer.beta, layer.beta, layer.beta, layer.b)
        had = cone is not None
        if had:
            cone, signed = advance(cone, signed, layer, injected, before, (after, after, others))
        fresh = layer.beta - layer.sigma * (layer.kappa * before.along + layer.s * before.across)
        if fresh.fraction > 0 and (cone is None or cone.low < fresh):
            # u^T J has no part across this w; what lies across u is free
            cone = Cone(fresh, wide_max(fresh, after.along), after.across / fresh, ZERO, after.across)
            others = Growth(ZERO, after.across, tuple(after.across / wide_sqrt(weight) for weight in scale[0]))
            signed, had = fresh, False
        since = 0 if cone is None else since if had else index + 1
    return _Track("first", cone, since, whole[-1], others, ZERO if cone is None else cone.low)
