"""Regimes predicted from ChainParameters alone: the paper's rule, the certificate, the mean field.

Suprema, infima and means run over layers l >= 2, where alignment and gain have a meaning. Every margin is the
distance in natural-log units by which the binding inequality holds (0: on the boundary), never negative; it is
inf where a factor is exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from observables import ChainParameters
from theory.bounds.certificate import regime_rates
from theory.bounds.rates import critical_alignment, first_order_error
from theory.regimes.thresholds import PAPER_ALIGNMENT, PAPER_FIRST_ORDER_ERROR, PAPER_GAIN, PINNED_LOG_GROWTH

__all__ = ["RegimePrediction", "certified_regime", "mean_field", "paper_rule"]

_ONE_LAYER = "a chain of one layer has no alignment and no gain"


@dataclass(frozen=True, slots=True)
class RegimePrediction:
    """A predicted regime.

    Attributes:
        regime: its name; the function that made it lists the names.
        margin: distance of the binding inequality in natural-log units, >= 0; NaN where nothing was compared.
        reason: the comparison that decided, in words and numbers.
    """

    regime: str
    margin: float
    reason: str


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def paper_rule(parameters: ChainParameters) -> RegimePrediction:
    """The paper's rule: sup rho < 1 is Regime I; rho >= 1, L xi / kappa small and kappa near 1 is Regime II.

    Implements (P2) and (P3) with the thresholds of `theory.regimes.thresholds`, xi = sup and kappa = inf over l >= 2.

    Returns:
        regime in {"I", "II", "outside the theorem"}; outside, the margin is the distance to the nearer regime.
    """
    if parameters.depth < 2:
        return RegimePrediction("outside the theorem", math.nan, _ONE_LAYER)
    gain = parameters.gain[1:]
    largest, least = float(np.max(gain)), float(np.min(gain))
    kappa, xi = float(np.min(parameters.alignment[1:])), float(np.max(parameters.gap[1:]))
    below = _log(PAPER_GAIN) - _log(largest)
    if below > 0:
        return RegimePrediction("I", below, f"sup rho = {largest:.3g} < {PAPER_GAIN:g}")
    error = float(first_order_error(parameters.depth, kappa, xi))
    conditions = {
        f"inf rho = {least:.3g} >= {PAPER_GAIN:g}": _log(least) - _log(PAPER_GAIN),
        f"L xi / kappa = {error:.3g} < {PAPER_FIRST_ORDER_ERROR:g}": _log(PAPER_FIRST_ORDER_ERROR) - _log(error),
        f"inf kappa = {kappa:.3g} > {PAPER_ALIGNMENT:g}": _log(kappa) - _log(PAPER_ALIGNMENT),
    }
    gain_ok = least >= PAPER_GAIN
    if gain_ok and error < PAPER_FIRST_ORDER_ERROR and kappa > PAPER_ALIGNMENT:
        return RegimePrediction("II", min(conditions.values()), "; ".join(conditions))
    worst = min(conditions, key=lambda name: conditions[name])
    failed = [name for name, slack in conditions.items() if slack < 0 or (slack == 0 and "rho" not in name)]
    return RegimePrediction(
        "outside the theorem",
        min(-below, max(0.0, -conditions[worst])),
        f"sup rho = {largest:.3g} >= {PAPER_GAIN:g}, and not: " + "; ".join(failed),
    )


def certified_regime(parameters: ChainParameters) -> RegimePrediction:
    """The regime that sigma, kappa and xi certify for every chain with these numbers.

    Implements (T14): the same verdict as `certify(parameters).regime`, with its margin.

    Returns:
        regime in {"I", "II", "coexistence"}; for coexistence the margin is the distance to the nearer regime.
    """
    if parameters.depth < 2:
        return RegimePrediction("coexistence", math.nan, _ONE_LAYER)
    low, high = regime_rates(parameters)
    kappa = float(np.min(parameters.alignment[1:]))
    critical = float(critical_alignment(float(np.max(parameters.gap[1:]))))
    cone = _log(kappa) - _log(critical) if critical > 0 else math.inf
    if high < 0:
        return RegimePrediction("I", -high, f"sup sigma Lambda_max = {math.exp(high):.3g} < 1")
    if low > 0:
        return RegimePrediction(
            "II",
            min(low, cone),
            f"inf sigma Lambda_min = {math.exp(low):.3g} > 1 with inf kappa = {kappa:.3g} > kappa_c = {critical:.3g}",
        )
    if math.isnan(low):
        return RegimePrediction(
            "coexistence",
            min(high, -cone),
            f"sup sigma Lambda_max = {math.exp(high):.3g} >= 1, inf kappa = {kappa:.3g} <= kappa_c = {critical:.3g}",
        )
    return RegimePrediction(
        "coexistence",
        min(high, -low),
        f"sup sigma Lambda_max = {math.exp(high):.3g} >= 1 >= inf sigma Lambda_min = {math.exp(low):.3g}",
    )


def mean_field(parameters: ChainParameters) -> RegimePrediction:
    """The phase of a typical chain with these numbers: isotropic directions, large dimension.

    Implements (T18) and (T26). Rates per layer are geometric means over l >= 2: sigma kappa along the dominant path
    and sigma xi_F in the bulk; the larger one decides. The bulk is "pinned" where it is the larger and
    L |mean ln sigma xi_F| < 1/2, as residual layers make it.

    Returns:
        regime in {"attractor", "coherent decay", "dispersive decay", "dispersive growth", "pinned"}. The margin is
        per layer: the smaller of |ln growth| (for pinned: what is left to the threshold) and |ln kappa / xi_F|.

    Raises:
        ValueError: if the parameters have no bulk_gap.
    """
    if parameters.bulk_gap is None:
        raise ValueError("bulk_gap must be given for the mean field; got None")
    if parameters.depth < 2:
        return RegimePrediction("pinned", math.nan, _ONE_LAYER)
    with np.errstate(divide="ignore"):
        coherent = float(np.mean(np.log(parameters.gain[1:])))
        bulk = float(np.mean(np.log(parameters.sigma[1:] * parameters.bulk_gap[1:])))
    split = 0.0 if coherent == bulk else coherent - bulk  # -inf less -inf would be NaN
    numbers = f"mean sigma kappa = {math.exp(coherent):.3g}, mean sigma xi_F = {math.exp(bulk):.3g}"
    if split > 0:
        regime = "attractor" if coherent >= 0 else "coherent decay"
        return RegimePrediction(regime, min(abs(coherent), split), f"{numbers}: kappa > xi_F")
    total = parameters.depth * abs(bulk)
    if split < 0 and total < PINNED_LOG_GROWTH:
        left = (PINNED_LOG_GROWTH - total) / parameters.depth
        reason = f"{numbers}: kappa < xi_F and L |mean ln sigma xi_F| = {total:.3g} < {PINNED_LOG_GROWTH:g}"
        return RegimePrediction("pinned", min(left, -split), reason)
    regime = "dispersive growth" if bulk >= 0 else "dispersive decay"
    beyond = abs(bulk) if split == 0 else (total - PINNED_LOG_GROWTH) / parameters.depth
    return RegimePrediction(regime, min(max(beyond, 0.0), -split), f"{numbers}: kappa <= xi_F")
