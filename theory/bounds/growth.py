"""Upper bounds along and across the dominant direction, layer by layer: (T15) and the weighted norm (T28) together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from observables import ChainParameters
from theory.bounds._layers import WideLayer
from theory.bounds._wide import ZERO, Wide, wide, wide_hypot, wide_min, wide_sqrt

__all__ = ["Growth", "log_product_growth", "weighted_rate", "weights"]


@dataclass(frozen=True, slots=True)
class Growth:
    """What an operator X_l with X_l = A_l X_{l-1} + C_l may have grown to.

    Attributes:
        along: bound on ||u_l^T X_l||.
        across: bound on ||(I - u_l u_l^T) X_l||.
        weighted: bounds v_i on sup_x V_i(X_l x), V_i(y)^2 = <u_l, y>^2 + ||y_perp||^2 / weight_i; one for each weight.
    """

    along: Wide
    across: Wide
    weighted: tuple[Wide, ...]

    @classmethod
    def start(cls, count: int) -> Growth:
        """X_0 = 0, followed with `count` weights."""
        return cls(ZERO, ZERO, (ZERO,) * count)

    def step(
        self, layer: WideLayer, along: Wide, across: Wide, weights: Sequence[Wide], rates: Sequence[Wide]
    ) -> Growth:
        """Behind one more layer, C_l having norms `along` and `across`, and as a whole at most the layer's `norm`.

        Implements (T15)'s p+ and q+ and (T28), each capped by the other: ||u^T X|| <= v and
        ||(I - u u^T) X|| <= sqrt(weight) v.
        """
        aligned, turned = layer.kappa * self.along, layer.s * self.across
        if aligned < turned:
            spread = wide_hypot(self.along, self.across)
        else:
            spread = layer.s * self.along + layer.kappa * self.across
        p = layer.sigma * (aligned + turned) + along
        q = layer.xi * layer.sigma * spread + across
        weighted = []
        for v, weight, rate in zip(self.weighted, weights, rates, strict=True):
            root = wide_sqrt(weight)
            added = wide_hypot(along, across / root)
            if layer.norm is not None:
                added = wide_min(added, layer.norm / root)  # V(y) <= ||y|| / r
            # p and q bound V too, and are the better of the two in a chain's first layers
            grown = wide_min(layer.sigma * rate * v + added, wide_hypot(p, q / root))
            weighted.append(grown)
            p, q = wide_min(p, grown), wide_min(q, root * grown)
        return Growth(p, q, tuple(weighted))


def weighted_rate(kappa: float, s: float, gap: float, weight: float) -> float:
    """Norm of [[kappa, s r], [gap s / r, -gap kappa]], r = sqrt(weight): growth of V a layer, per unit sigma (T28).

    At gap = weight it is Lambda_max(kappa, gap) (T5); it increases with the gap.
    """
    root = math.sqrt(weight)
    turned, back = s * root, gap * s / root
    # the norm of [[a, b], [c, d]] is (hypot(a + d, b - c) + hypot(a - d, b + c)) / 2
    return 0.5 * (math.hypot(kappa - gap * kappa, turned - back) + math.hypot(kappa + gap * kappa, turned + back))


def weights(layers: Sequence[WideLayer]) -> tuple[tuple[Wide, ...], tuple[tuple[Wide, ...], ...]]:
    """The weights a chain is followed with, and the rate of each in every layer.

    The largest gap of the layers l >= 2, which makes (T8), and the geometric mean of those that are positive, which is
    better where a few layers stand out; and 1, with which (T28) is the triangle inequality, sigma ||X|| + ||C||: (T15)
    takes the along and the across part at their worst apart, and exceeds it where gap and alignment say little.
    """
    positive = [gap for gap in (layer.xi.value() for layer in layers[1:]) if gap > 0]
    chosen = [1.0]
    if positive:
        mean = math.exp(math.fsum(math.log(gap) for gap in positive) / len(positive))
        chosen = [max(positive), *([mean] if mean < 0.9 * max(positive) else []), *chosen]
    rates = []
    for layer in layers:
        kappa, s, gap = layer.kappa.value(), layer.s.value(), layer.xi.value()
        rates.append(tuple(wide(weighted_rate(kappa, s, gap, weight)) for weight in chosen))
    return tuple(wide(weight) for weight in chosen), tuple(rates)


def log_product_growth(parameters: ChainParameters) -> float:
    """ln of an upper bound on ||P_{L:1}|| that lets the gap vary by layer; never above `log_product_upper`.

    Implements (T28) for the product: sigma_1 max(1, xi_1 / r) prod_{l>=2} sigma_l N_l(r), with N_l the norm of
    [[kappa_l, s_l r], [xi_l s_l / r, -xi_l kappa_l]], the least over a few r. r^2 = sup xi gives (T8) where all gaps
    are equal.

    Returns:
        Natural logarithm; -inf where a sigma is 0.
    """
    gaps = parameters.gap
    positive = gaps[gaps > 0]
    with np.errstate(divide="ignore"):
        total = float(np.sum(np.log(parameters.sigma)))
    if parameters.depth == 1 or total == -math.inf:
        return total
    if not positive.size:
        with np.errstate(divide="ignore"):
            return total + float(np.sum(np.log(parameters.alignment[1:])))
    across = parameters.across
    candidates = {float(np.max(gaps)), float(np.max(gaps[1:])), math.exp(float(np.mean(np.log(positive))))}
    best = math.inf
    for weight in sorted(candidates - {0.0}):
        start = max(0.0, math.log(gaps[0]) - 0.5 * math.log(weight)) if gaps[0] > 0 else 0.0
        rates = [
            weighted_rate(float(parameters.alignment[layer]), float(across[layer]), float(gaps[layer]), weight)
            for layer in range(1, parameters.depth)
        ]
        best = min(best, start + math.fsum(math.log(rate) for rate in rates))
    return total + best
