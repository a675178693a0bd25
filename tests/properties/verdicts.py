"""What a law says of one example, in log units, with the rounding margin kept apart from the slack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.properties.examples import Example

__all__ = ["Law", "Verdict", "above", "below"]

LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of one law on one example that meets its hypotheses.

    Attributes:
        slack: ln of the bound over the truth for an upper bound, of the truth over the bound for a lower one.
        margin: what rounding may have made of it, >= 0.
        resolved: whether the truth stands out of its rounding, so that the slack means something.
    """

    slack: float
    margin: float
    resolved: bool = True

    @property
    def violated(self) -> bool:
        """Whether the bound is broken by more than the margin."""
        return self.slack < -self.margin


@dataclass(frozen=True)
class Law:
    """A rigorous statement about chains.

    Attributes:
        tag: of the statement in docs/equations.md, with what it is applied to.
        sentence: what is claimed.
        function: the function of the package that computes the bound.
        check: (example, function) -> Verdict, or None where the hypotheses do not hold; the margin never depends on
            the function given, only on the example, so that a mutated bound gets no room of its own.
    """

    tag: str
    sentence: str
    function: Callable[..., Any]
    check: Callable[[Example, Callable[..., Any]], Verdict | None]

    def slack(self, example: Example, bound: Callable[..., Any] | None = None) -> Verdict | None:
        """The law's verdict on an example, by the package's bound or by another in its place."""
        return self.check(example, self.function if bound is None else bound)


def above(log_bound: float, truth: float, error: float, log_unit: float, margin: float) -> Verdict | None:
    """An upper bound on `truth`, known to an absolute `error` in units of exp(log_unit).

    Violated where even truth - error exceeds the bound. None where nothing is claimed: a bound of inf or NaN.
    """
    if math.isnan(log_bound) or log_bound == math.inf:
        return None
    if truth <= error:
        return Verdict(math.inf, margin, resolved=False)
    return Verdict(log_bound - math.log(truth) - log_unit, margin - math.log1p(-error / truth))


def below(log_bound: float, truth: float, error: float, log_unit: float, margin: float) -> Verdict | None:
    """A lower bound on `truth`, known to an absolute `error` in units of exp(log_unit).

    Violated where the bound exceeds even truth + error. None where nothing is claimed: a bound of 0 or NaN.
    """
    if math.isnan(log_bound) or log_bound == -math.inf:
        return None
    if truth <= error:
        return Verdict(_log(truth + error) + log_unit - log_bound, margin, resolved=False)
    return Verdict(math.log(truth) + log_unit - log_bound, margin + math.log1p(error / truth))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
