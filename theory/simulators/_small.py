"""Matrices of one to three columns, written out entry by entry over arrays of chains, with no LAPACK."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["log_two_singular", "triangular"]

Column = list[Any]
"""The entries of one column, each an array over chains, or None where it is 0 for all."""


def triangular(columns: list[Column], xp: Any = np) -> list[Column]:
    """The columns of the upper triangular R with the same Gram matrix and a non-negative diagonal.

    By modified Gram-Schmidt, whose R is as accurate as that of Householder's QR (Bjorck 1967), column by column: a
    column's error is relative to that column. A column of 0 has a row of 0, and one whose square is not a normal number
    counts as 0: its direction has no digits left, and would take a part of the other columns with it.

    Args:
        columns: k of them, of one length.
        xp: the module whose arrays they are, numpy or jax.numpy.

    Returns:
        k columns, the j-th of j + 1 entries.
    """
    columns = list(columns)
    found: list[Column] = [[] for _ in columns]
    for j, column in enumerate(columns):
        length = _length([x for x in column if x is not None], xp)
        found[j].append(length)
        inverse = 1.0 / (length + (length == 0))
        unit = [None if x is None else x * inverse for x in column]
        for k in range(j + 1, len(columns)):
            inner: Any = None
            for q, x in zip(unit, columns[k], strict=True):
                if q is not None and x is not None:
                    inner = q * x if inner is None else inner + q * x
            if inner is None:
                inner = xp.zeros_like(length)
            else:
                columns[k] = [_less(x, q, inner) for q, x in zip(unit, columns[k], strict=True)]
            found[k].append(inner)
    return found


def _length(entries: Column, xp: Any) -> Any:
    if len(entries) == 1:  # the same bits as the root of its square, and over the whole range
        return xp.abs(entries[0])
    square: Any = 0.0
    for x in entries:
        square = square + x * x
    return xp.sqrt(square * (square >= np.finfo(square.dtype).tiny))


def _less(x: Any, q: Any, inner: Any) -> Any:
    """x - q inner, where None is 0."""
    if q is None:
        return x
    return -(q * inner) if x is None else x - q * inner


def log_two_singular(columns: list[Column], xp: Any = np) -> tuple[Any, Any]:
    """ln sigma_1 and ln sigma_2 / sigma_1 of a matrix of one or two columns; NaN ratio for one column or a 0 matrix.

    For the triangular [[f, g], [0, h]] with f, h >= 0: sigma_1 = (hypot(f + h, g) + hypot(f - h, g)) / 2 and sigma_2 =
    f h / sigma_1, to a few roundings of the entries.
    """
    reduced = triangular(columns, xp)
    first = reduced[0][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(columns) == 1:
            return xp.log(first), xp.full_like(first, xp.nan)
        g, h = reduced[1]
        largest = (xp.sqrt((first + h) ** 2 + g * g) + xp.sqrt((first - h) ** 2 + g * g)) / 2
        return xp.log(largest), xp.log(first / largest) + xp.log(h / largest)
