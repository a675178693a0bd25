"""What a bound says, of what, and under which hypotheses: records that carry what failed and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["BoundResult", "Hypothesis", "Quantity", "Side", "at_least", "below"]

Side = Literal["upper", "lower"]

Quantity = str
"""What is bounded:

    path_error         ||P - P*|| / ||P*||, P = A_L ... A_1, P* = (prod sigma)(prod kappa) u_L v_1^T
    product_norm       ||P||
    product_ratio      sigma_2 / sigma_1 of P
    first_injection    ||P_{L:2} B_1||
    context_norm       ||J_L||
    context_sigma_i    the i-th singular value of J_L, i >= 2
    noise_ratio        ||(I - u_L u_L^T) J_L|| / ||u_L^T J_L||
"""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One condition of a statement, evaluated.

    Attributes:
        name: the comparison in symbols, such as "sup rho < 1".
        statement: the condition in words.
        holds: whether it does; None where the chain's numbers do not say.
        value: what was compared.
        threshold: what it was compared with.
        margin: by how much it holds (positive) or fails (negative), in natural-log units where both sides are positive
            scales, else as a plain difference; NaN where unknown.
    """

    name: str
    statement: str
    holds: bool | None
    value: float
    threshold: float
    margin: float


@dataclass(frozen=True, slots=True)
class BoundResult:
    """One bound on one quantity of a chain.

    Attributes:
        tag: source, such as "T8" or "P1", with the variant where there is more than one: "T9 uniform", "T17 m=4".
        quantity: what is bounded (`Quantity`).
        side: "upper" or "lower".
        log_value: natural logarithm of the bound; -inf for 0; +inf for an upper bound that says nothing; NaN where the
            bound is not defined because a hypothesis fails.
        hypotheses: each one evaluated; none for a bound that holds for any chain.
        rigorous: whether the bound is proved under its hypotheses. The published ones are not.
        note: what a reader should know, such as how to read it or why it is no prediction.
        log_true: natural logarithm of the true value, where the chain was given; else None.
        log_rounding: natural logarithm of what rounding may have added to the true value, in the quantity's own unit.
    """

    tag: str
    quantity: Quantity
    side: Side
    log_value: float
    hypotheses: tuple[Hypothesis, ...] = ()
    rigorous: bool = True
    note: str = ""
    log_true: float | None = None
    log_rounding: float = -math.inf

    @property
    def applies(self) -> bool:
        """Whether every hypothesis is known to hold."""
        return all(hypothesis.holds is True for hypothesis in self.hypotheses)

    @property
    def failed(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that fail; `margin` says by how much."""
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.holds is False)

    @property
    def unknown(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that the chain's numbers do not decide."""
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.holds is None)

    @property
    def log_slack(self) -> float | None:
        """How far the true value lies inside the bound, in natural-log units; negative where the bound is broken.

        None without a true value or a defined bound; 0 where both are exactly 0 or both infinite.
        """
        if self.log_true is None or math.isnan(self.log_value) or math.isnan(self.log_true):
            return None
        if self.log_value == self.log_true:
            return 0.0
        slack = self.log_value - self.log_true
        return slack if self.side == "upper" else -slack

    @property
    def violated(self) -> bool | None:
        """Whether the true value lies outside the bound by more than rounding; None where that is not known."""
        if self.log_slack is None or self.log_true is None:
            return None
        if self.log_slack >= 0:
            return False
        inner, outer = (self.log_value, self.log_true) if self.side == "upper" else (self.log_true, self.log_value)
        # ln(outer - inner): how much lies beyond the bound, in the quantity's own unit
        beyond = outer + math.log(-math.expm1(inner - outer)) if inner > -math.inf else outer
        return beyond > self.log_rounding

    def __str__(self) -> str:
        """One line: "T8: ln product_norm <= 1.71; true 0.398"."""
        text = f"{self.tag}: ln {self.quantity} {'<=' if self.side == 'upper' else '>='} {self.log_value:.4g}"
        if self.log_true is not None:
            text += f"; true {self.log_true:.4g}" + (", violated" if self.violated else "")
        for hypothesis in self.failed:
            text += f"; not {hypothesis.name}, by {abs(hypothesis.margin):.2g}"
        return text + "".join(f"; unknown: {hypothesis.name}" for hypothesis in self.unknown)

    def against(self, log_true: float, log_rounding: float) -> BoundResult:
        """The same bound with the true value beside it."""
        return replace(self, log_true=log_true, log_rounding=log_rounding)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _log_margin(larger: float, smaller: float) -> float:
    """ln larger / smaller, 0 where they are equal."""
    return 0.0 if larger == smaller else _log(larger) - _log(smaller)


def below(name: str, statement: str, value: float, threshold: float) -> Hypothesis:
    """value < threshold, both >= 0; the margin is ln(threshold / value)."""
    return Hypothesis(name, statement, value < threshold, value, threshold, _log_margin(threshold, value))


def at_least(name: str, statement: str, value: float, threshold: float, *, strict: bool = False) -> Hypothesis:
    """value >= threshold (or > where `strict`), both >= 0; the margin is ln(value / threshold)."""
    holds = value > threshold if strict else value >= threshold
    return Hypothesis(name, statement, holds, value, threshold, _log_margin(value, threshold))
