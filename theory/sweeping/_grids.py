"""The axes of a sweep's grid, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from theory._checks import natural, unit_interval

__all__ = ["axis", "chosen", "whole"]


def axis(values: Any, name: str, kind: str) -> tuple[Any, ...]:
    """One axis as a tuple of Python numbers.

    Args:
        values: the grid, or one number.
        name: what to call it in an error.
        kind: "count" (integers of at least 1), "fraction" (of [0, 1]) or "size" (finite, not negative).

    Raises:
        ValueError: if the grid is empty, not one-dimensional, repeats a value, or leaves its range.
    """
    array = np.asarray(tuple(values) if isinstance(values, Iterable) else values)
    array = array.reshape(1) if array.ndim == 0 else array
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty one-dimensional grid; got {values!r}")
    if np.unique(array).size != array.size:
        raise ValueError(f"{name} must not repeat a value; got {values!r}")
    if kind == "count":
        array = natural(array, name)
    elif kind == "fraction":
        array = unit_interval(array, name)
    else:
        array = array.astype(np.float64)
        bad = ~(np.isfinite(array) & (array >= 0))
        if bad.any():
            raise ValueError(f"{name} must be finite and not negative; got {float(array[bad][0])!r}")
    return tuple(array.tolist())


def whole(value: Any, name: str, least: int) -> int:
    """One integer of at least `least`.

    Raises:
        ValueError: if it is not.
    """
    array = natural(value, name, least=least)
    if array.ndim:
        raise ValueError(f"{name} must be one integer; got {value!r}")
    return int(array)


def chosen(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """One of some words.

    Raises:
        ValueError: if it is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}; got {value!r}")
    return value
