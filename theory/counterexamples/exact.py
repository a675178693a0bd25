"""Exact arithmetic on small rational layers whose u_l is e_1: the numbers of a chain and the norm of a product."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["Matrix", "alignment_squared", "gap_squared", "matrix", "norm_exceeds", "product", "sigma_squared"]

Matrix = tuple[tuple[Fraction, ...], ...]
"""A rational matrix, by rows."""


def matrix(rows: tuple[tuple[int, ...], ...], divisor: int = 1) -> Matrix:
    """Integer rows over one divisor."""
    return tuple(tuple(Fraction(entry, divisor) for entry in row) for row in rows)


def product(layers: tuple[Matrix, ...]) -> Matrix:
    """A_L ... A_1 of layers given from the first to the last."""
    total = layers[0]
    for layer in layers[1:]:
        columns = list(zip(*total, strict=True))
        total = tuple(
            tuple(sum((x * y for x, y in zip(row, c, strict=True)), Fraction(0)) for c in columns) for row in layer
        )
    return total


def sigma_squared(layer: Matrix) -> Fraction:
    """sigma^2 of a 2 x 2 layer with orthogonal rows, the first the longer: then u = e_1 and v is along the first row.

    Raises:
        ValueError: if the layer is not of that form.
    """
    first, second = layer
    if sum(x * y for x, y in zip(first, second, strict=True)) != 0 or _square(second) > _square(first):
        raise ValueError(f"layer must have orthogonal rows, the first the longer; got {layer}")
    return _square(first)


def gap_squared(layer: Matrix) -> Fraction:
    """xi^2 of such a layer."""
    return _square(layer[1]) / sigma_squared(layer)


def alignment_squared(layer: Matrix) -> Fraction:
    """kappa^2 of such a layer behind another: v's first component, u of the layer before being e_1."""
    return layer[0][0] ** 2 / sigma_squared(layer)


def norm_exceeds(two_by_two: Matrix, limit_squared: Fraction) -> bool:
    """Whether the operator norm of a 2 x 2 matrix exceeds the root of limit_squared, exactly.

    The largest eigenvalue of the Gram matrix G exceeds t unless t I - G is positive semidefinite.
    """
    (a, b), (c, d) = two_by_two
    first, second, cross = limit_squared - a * a - c * c, limit_squared - b * b - d * d, -(a * b + c * d)
    return first < 0 or second < 0 or first * second < cross * cross


def _square(row: tuple[Fraction, ...]) -> Fraction:
    return sum((x * x for x in row), Fraction(0))
