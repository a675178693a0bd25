"""The axes of a sweep's grid, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural, unit_interval

__all__ = ["axis", "chosen", "items", "whole"]


def axis(values: Any, name: str, kind: str) -> tuple[Any, ...]:
    """One axis as a tuple of Python numbers.

    Args:
        values: the grid, or one number.
        name: what to call it in an error.
        kind: "count" (integers of at least 1), "fraction" (of [0, 1]) or "size" (finite, not negative).

    Raises:
        ValueError: if the grid is empty, not one-dimensional, repeats a value, leaves its range, or holds what is no
            real number: text, bytes, truth values, dates, complex numbers.
    """
    array = _numbers(values, name)
    if kind == "count":
        array = natural(array, name)
    elif kind == "fraction":
        array = unit_interval(array, name)
    else:
        array = array.astype(np.float64)
        bad = ~(np.isfinite(array) & (array >= 0))
        if bad.any():
            raise ValueError(f"{name} must be finite and not negative; got {float(array[bad][0])!r}")
    if np.unique(array).size != array.size:
        raise ValueError(f"{name} must not repeat a value; got {values!r}")
    return tuple(array.tolist())


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """One number or a grid of them as a 1-D array of integers or floats; nothing is turned into a number in silence."""
    refusal = f"{name} must be a real number or a one-dimensional grid of them; got {values!r}"
    if isinstance(values, str | bytes | bytearray | Mapping):
        raise ValueError(refusal)
    several = isinstance(values, Iterable) and getattr(values, "ndim", 1) != 0
    found: list[Any] = list(values) if several else [values]
    if any(isinstance(item, bool | np.bool_) for item in found):  # beside floats NumPy would make them 0 and 1
        raise ValueError(refusal)
    try:
        array = np.asarray(found)
        if array.dtype == object and all(isinstance(item, Real) for item in found):  # fractions, integers of any size
            array = np.asarray([float(item) for item in found])
    except OverflowError as error:
        raise ValueError(f"{name} must hold numbers that float64 can; got an integer beyond them") from error
    except (TypeError, ValueError) as error:
        raise ValueError(refusal) from error
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty one-dimensional grid; got {values!r}")
    if array.dtype.kind not in "iuf":
        raise ValueError(refusal)
    return array


def items(values: Any, name: str, single: tuple[type, ...]) -> tuple[Any, ...]:
    """A list of things, where one alone stands for a list of one, and None for none.

    Raises:
        ValueError: if it is no list.
    """
    if values is None:
        return ()
    if isinstance(values, single):
        return (values,)
    if not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list; got {values!r}")
    return tuple(values)


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
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}; got {value!r}")
    return value
