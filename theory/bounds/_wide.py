"""Floats whose exponent has no limit, for scalar recursions over chains of any depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ONE", "ZERO", "Wide", "wide", "wide_hypot", "wide_max", "wide_min", "wide_sqrt"]

_LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Wide:
    """The number fraction * 2**exponent, rounded like a float64 that neither overflows nor underflows.

    Attributes:
        fraction: 0, or of a size in [1/2, 1); carries the sign.
        exponent: any integer; 0 where the fraction is 0.
    """

    fraction: float
    exponent: int

    def __add__(self, other: Wide) -> Wide:
        if self.fraction == 0.0:
            return other
        if other.fraction == 0.0:
            return self
        top = max(self.exponent, other.exponent)
        return _normal(self._at(top) + other._at(top), top)

    def __sub__(self, other: Wide) -> Wide:
        return self + Wide(-other.fraction, other.exponent)

    def __mul__(self, other: Wide) -> Wide:
        return _normal(self.fraction * other.fraction, self.exponent + other.exponent)

    def __truediv__(self, other: Wide) -> Wide:
        return _normal(self.fraction / other.fraction, self.exponent - other.exponent)

    def _at(self, exponent: int) -> float:
        """The number over 2**exponent, exponent at least its own; what underflows is below the other's rounding."""
        return math.ldexp(self.fraction, self.exponent - exponent)

    def __lt__(self, other: Wide) -> bool:
        return (self - other).fraction < 0

    def __neg__(self) -> Wide:
        return Wide(-self.fraction, self.exponent)

    def value(self) -> float:
        """The nearest float64: +-inf above its range, 0 below it."""
        try:
            return math.ldexp(self.fraction, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.fraction)

    def log(self) -> float:
        """Natural logarithm; -inf of 0, NaN of a negative number."""
        if self.fraction < 0.0:
            return math.nan
        return math.log(self.fraction) + self.exponent * _LN2 if self.fraction else -math.inf


ZERO = Wide(0.0, 0)
ONE = Wide(0.5, 1)


def wide(value: float) -> Wide:
    """A finite float as a `Wide`, exactly."""
    return _normal(value, 0)


def wide_hypot(first: Wide, second: Wide) -> Wide:
    """sqrt(first^2 + second^2)."""
    if first.fraction == 0.0:
        return Wide(abs(second.fraction), second.exponent)
    if second.fraction == 0.0:
        return Wide(abs(first.fraction), first.exponent)
    top = max(first.exponent, second.exponent)
    return _normal(math.hypot(first._at(top), second._at(top)), top)


def wide_sqrt(square: Wide) -> Wide:
    """Square root of a number that is not negative."""
    odd = square.exponent % 2
    return _normal(math.sqrt(math.ldexp(square.fraction, odd)), (square.exponent - odd) // 2)


def wide_max(first: Wide, *others: Wide) -> Wide:
    """The largest."""
    for other in others:
        first = other if first < other else first
    return first


def wide_min(first: Wide, *others: Wide) -> Wide:
    """The smallest."""
    for other in others:
        first = other if other < first else first
    return first


def _normal(value: float, exponent: int) -> Wide:
    fraction, shift = math.frexp(value)
    return Wide(fraction, exponent + shift) if fraction else ZERO
