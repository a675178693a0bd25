"""The published statements (P1), (P2), (P3) with each of their hypotheses evaluated; none of them is rigorous."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.bounds.hypotheses import BoundResult, Hypothesis, at_least, below

__all__ = ["PaperThresholds", "p2_log_transport", "published_bounds"]

_ONE_LAYER = "a chain of one layer has no alignment and no gain: its hypotheses are empty"


@dataclass(frozen=True, slots=True)
class PaperThresholds:
    """What stands for the paper's "near" and "much less than"; `theory.regimes.thresholds` reads the defaults.

    Attributes:
        gain: rho below which it speaks of Regime I, and from which of II.
        first_order_error: L xi / kappa below which it counts as << 1.
        alignment: kappa above which it counts as close to 1.
    """

    gain: float = 1.0
    first_order_error: float = 0.3
    alignment: float = 0.7


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _log_first_order(depth: int, kappa: float, xi: float) -> float:
    """ln(L xi / kappa), which may exceed float64; 0 / 0 is +inf, as at alignment 0 nothing is claimed."""
    return math.inf if kappa == 0 else _log(depth) + _log(xi) - math.log(kappa)


def _first_order(depth: int, kappa: float, xi: float, threshold: float) -> Hypothesis:
    log_value = _log_first_order(depth, kappa, xi)
    value = math.exp(log_value) if log_value < 709 else math.inf
    return Hypothesis(
        f"L xi / kappa < {threshold:g}",
        "the first-order error L xi / kappa is much less than 1",
        value < threshold,
        value,
        threshold,
        math.log(threshold) - log_value,
    )


def p2_log_transport(parameters: ChainParameters) -> NDArray[np.float64]:
    """ln of prod_{l > k} rho_l ||B_k||, what (P2)'s proof allows the injection of each layer k to have become.

    Entry k - 1 is claimed to be at least ln ||P_{L:k+1} B_k||. ||B_k|| is taken as hypot of its two parts, which is at
    least it, in the claim's favour.

    Returns:
        Shape (L,), natural logarithms; -inf where a gain or the injection is 0.
    """
    size = np.hypot(parameters.injection_along, parameters.injection_across)
    with np.errstate(divide="ignore"):
        gains = np.log(parameters.sigma[1:]) + np.log(parameters.alignment[1:])
        later = np.concatenate([np.cumsum(gains[::-1])[::-1], [0.0]])
        return later + np.log(size)


def published_bounds(parameters: ChainParameters, thresholds: PaperThresholds | None = None) -> tuple[BoundResult, ...]:
    """(P1), (P2) and (P3) as the paper's proofs make them, quantitatively, with every hypothesis by name.

    xi is the supremum over all layers, kappa the infimum and the gains run over l >= 2.

    * (P1), path_error: at most L xi / kappa, if kappa > 0 and L xi / kappa << 1.
    * (P2), first_injection and context_norm: ||P_{L:k+1} B_k|| <= prod_{l > k} rho_l ||B_k|| (here k = 1, all k by
      `p2_log_transport`), hence ||J_L|| <= beta / (1 - sup rho), if sup rho < 1 and ||B_l|| <= beta.
    * (P3), noise_ratio: "small", which is read as its proof has it, at most L xi / kappa, if rho >= 1, kappa is close
      to 1, the injections are coherent (3a-c) and L xi / kappa << 1.

    Returns:
        Four results, `rigorous` False: each is broken by some chain inside its own hypotheses.
    """
    limits = PaperThresholds() if thresholds is None else thresholds
    depth = parameters.depth
    single = depth == 1
    note = _ONE_LAYER if single else ""
    kappa = 1.0 if single else float(np.min(parameters.alignment[1:]))
    xi = float(np.max(parameters.gap))
    first_order = _log_first_order(depth, kappa, xi)
    small = _first_order(depth, kappa, xi, limits.first_order_error)
    with np.errstate(over="ignore"):
        gain = parameters.gain[1:]
    largest, least = (0.0, math.inf) if single else (float(np.max(gain)), float(np.min(gain)))

    path = at_least("kappa > 0", "every alignment is positive", kappa, 0.0, strict=True)
    p1 = BoundResult("P1", "path_error", "upper", first_order, (path, small), False, note)

    with np.errstate(over="ignore"):
        beta = float(np.max(np.hypot(parameters.injection_along, parameters.injection_across)))
    decay = below(f"sup rho < {limits.gain:g}", "the effective gain stays below 1", largest, limits.gain)
    bounded = below("beta < inf", "the injections are bounded", beta, math.inf)
    total = _log(beta) - math.log1p(-largest) if largest < 1 else math.inf
    p2 = (decay, bounded)
    claims = (
        BoundResult("P2", "first_injection", "upper", float(p2_log_transport(parameters)[0]), p2, False, note),
        BoundResult("P2", "context_norm", "upper", total, p2, False, note),
    )

    growth = at_least(f"inf rho >= {limits.gain:g}", "the effective gain is at least 1", least, limits.gain)
    close = at_least(
        f"inf kappa > {limits.alignment:g}", "alignment is close to 1", kappa, limits.alignment, strict=True
    )
    p3 = (growth, close, _coherence(parameters), small)
    collapse = BoundResult(
        "P3",
        "noise_ratio",
        "upper",
        first_order,
        p3,
        False,
        note or "the paper says that the relative noise is small; L xi / kappa is what its proof calls small",
    )
    return (p1, *claims, collapse)


def _coherence(parameters: ChainParameters) -> Hypothesis:
    """Conditions 3a-c: u_l^T B_l w > 0 in the gauge, for one w and all l (or, with -w, < 0)."""
    name, statement = "inf c > 0", "the injections are coherent: u_l^T B_l w >= c > 0 for one direction w (3a-c)"
    coherent = parameters.injection_coherent
    if coherent is None:
        unknown = f"{statement}; injection_coherent was not given"
        return Hypothesis(name, unknown, None, math.nan, 0.0, math.nan)
    least = max(float(np.min(coherent)), float(np.min(-coherent)))
    return Hypothesis(name, statement, least > 0, least, 0.0, least)
