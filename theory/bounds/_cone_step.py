"""One layer of the cone certificate (T27): what a direction of the context does, and what the others do beside it."""

from __future__ import annotations

from dataclasses import dataclass

from theory.bounds._layers import WideLayer
from theory.bounds._wide import ONE, ZERO, Wide, wide_hypot, wide_max, wide_min, wide_sqrt
from theory.bounds.growth import Growth

__all__ = ["Cone", "Injected", "advance", "noise_of"]

_TWO = ONE + ONE

# A cone amplifies what rounding does to kappa, s and tau, and more so the nearer it is to being lost: every layer gives
# way by 16 eps, so that the bounds hold for layers whose own numbers are rounded.
_ROOM = Wide(0.5, -47)
_OUT = ONE + _ROOM


@dataclass(frozen=True, slots=True)
class Cone:
    """J_l = x g^T + E for one unit direction w of the context: x = J_l w, g = J_l^T u_l / <u_l, x>, u_l^T E = 0 = E w.

    Attributes:
        low, high: <u_l, x> lies in [low, high]; low is positive.
        tilt: tau, with ||(I - u_l u_l^T) x|| <= tau <u_l, x>.
        drift: h, bound on ||g - w||.
        rest: bound on ||E||.
    """

    low: Wide
    high: Wide
    tilt: Wide
    drift: Wide
    rest: Wide


@dataclass(frozen=True, slots=True)
class Injected:
    """What is known of the injection: u_l^T B_l w lies in [low, high]; the rest of u_l^T B_l has at most norm `others`.

    `size` bounds ||u_l^T B_l||, `aside` ||(I - u_l u_l^T) B_l w||; `exact` is whether low = high.
    """

    low: Wide
    high: Wide
    others: Wide
    size: Wide
    aside: Wide

    @property
    def exact(self) -> bool:
        return self.low == self.high


def advance(
    cone: Cone | None,
    signed: Wide,
    layer: WideLayer,
    injected: Injected,
    before: Growth,
    after: tuple[Growth, Growth, Growth],
) -> tuple[Cone | None, Wide]:
    """Take a cone through one layer, or open one.

    Implements (T27). Wherever a bound of the layer's `Growth` is better than the cone's, it is taken.

    Args:
        cone: in front of the layer; None where <u, x> may be 0 or negative there.
        signed: lower bound on <u, x> in front of the layer, of any sign (z of T16).
        layer: its numbers.
        injected: its injection along u_l.
        before: growth of x = J w in front of the layer.
        after: growth behind the layer of J, of J w and of J (I - w w^T).

    Returns:
        The cone behind the layer, None where none is certain, and the signed bound there.
    """
    sigma, kappa, s = layer.sigma, layer.kappa, layer.s
    _, along, others = after
    lower = sigma * (kappa * signed - s * before.across) + injected.low
    margin = _margin(layer, cone.tilt) if cone is not None else ZERO
    grow = sigma * margin
    kept = cone is not None and margin.fraction > 0 and (grow * cone.low + injected.low).fraction > 0
    if cone is not None and kept:
        lower = wide_max(lower, grow * cone.low + injected.low)
    if lower.fraction <= 0:
        return None, lower
    high, tilt, drift = along.along, along.across / lower, others.along / lower
    if cone is None or not kept:
        high = wide_max(high, lower)  # rounding alone could set them the other way
        return Cone(lower, high, tilt, drift, _plain_rest(high, tilt, drift, after)), lower

    high = wide_max(lower, wide_min(high, _OUT * (sigma * (kappa + s * cone.tilt) * cone.high + injected.high)))
    # Both are Moebius in p, so their extremes over [low, high] lie at its ends.
    outward = _OUT * sigma * layer.xi * (s + kappa * cone.tilt)
    ends = (cone.low, cone.high)
    tilt = wide_min(tilt, wide_max(*((outward * p + injected.aside) / (grow * p + injected.low) for p in ends)))
    shrink = wide_max(*(p / (grow * p + injected.low) for p in ends))

    stray = _OUT * sigma * s * cone.rest + injected.others
    drift = wide_min(
        drift, wide_max(*((cone.drift * wide_max(p - injected.low, ZERO) + stray) / p for p in (lower, high)))
    )

    oblique = wide_hypot(ONE, drift)
    change = injected.low * cone.drift if injected.low.fraction > 0 else -injected.low * cone.drift
    change = change + injected.others if injected.exact else injected.size * wide_hypot(ONE, cone.drift)
    if injected.low.fraction >= 0:
        # a mean of R E and of R behind an oblique projection, with at most this weight on the latter
        weight = ONE - injected.low / high
        turned = (ONE - weight) + weight / margin
    else:
        weight = ONE - injected.low / lower
        turned = (weight - ONE) + weight / margin
    added = wide_min(layer.b * oblique, layer.b + injected.aside * drift)
    rest = _OUT * sigma * layer.xi * cone.rest * turned + outward * shrink * change + added
    return Cone(lower, high, tilt, drift, wide_min(rest, _plain_rest(high, tilt, drift, after))), lower


def _margin(layer: WideLayer, tilt: Wide) -> Wide:
    """kappa - s tau, less its room."""
    aligned, turned = layer.kappa, layer.s * tilt
    return aligned - turned - _ROOM * (aligned + turned + tilt)


def _plain_rest(high: Wide, tilt: Wide, drift: Wide, after: tuple[Growth, Growth, Growth]) -> Wide:
    """||E|| from E = (I - u u^T) J (I - w g^T) alone, the latter an oblique projection of norm sqrt(1 + h^2)."""
    whole, along, others = after
    across = wide_min(tilt * high, along.across)
    return wide_min(whole.across * wide_hypot(ONE, drift), others.across + across * drift)


def noise_of(cone: Cone) -> Wide:
    """Bound on ||(I - u u^T) J|| / ||u^T J||, by (T27).

    sqrt(tau^2 + e^2 + 2 tau e k / (1 + k^2)) with e = ||E|| / p and k = min(h, 1), at most tau + e.
    """
    rest = cone.rest / cone.low
    drift = wide_min(cone.drift, ONE)
    mixed = _TWO * cone.tilt * rest * drift / (ONE + drift * drift)
    return wide_hypot(wide_hypot(cone.tilt, rest), wide_sqrt(mixed))
