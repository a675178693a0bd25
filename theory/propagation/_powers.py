"""Arrays with a power of two beside each entry of a batch: exact scaling, and logarithms taken once at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["halved", "log_of", "plus"]

LEAST_POWER = -(2**40)
"""Stands for the exponent of 0: below that of any product."""

WIDEST_SHIFT = 10000
"""Shifts are cut to this, beyond any float's exponent: what is shifted so far down is 0 already."""


def _spread(power: Any, x: NDArray[Any]) -> NDArray[np.int64]:
    cut = np.clip(power, -WIDEST_SHIFT, WIDEST_SHIFT)
    return cut.reshape(cut.shape + (1,) * (x.ndim - cut.ndim))


def _exponent(x: NDArray[Any]) -> NDArray[np.int64]:
    # frexp gives int32, in which LEAST_POWER would wrap round to 0.
    return np.frexp(np.abs(x).max(axis=tuple(range(1, x.ndim)), initial=0))[1].astype(np.int64)


def halved(x: NDArray[Any], power: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The same batch x 2^power with the largest entry of each x in [1/2, 1); zeros keep their power."""
    exponent = _exponent(x)
    return np.ldexp(x, _spread(-exponent, x)), power + exponent


def plus(x: NDArray[Any], power_x: Any, y: NDArray[Any], power_y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """x 2^power_x + y 2^power_y on the larger one's scale, both of one shape (n, ...); 0 + 0 has power 0."""
    any_x, any_y = x.any(axis=tuple(range(1, x.ndim))), y.any(axis=tuple(range(1, y.ndim)))
    scale_x = np.where(any_x, _exponent(x) + power_x, LEAST_POWER)
    scale_y = np.where(any_y, _exponent(y) + power_y, LEAST_POWER)
    common = np.maximum(scale_x, scale_y)
    total = np.ldexp(x, _spread(power_x - common, x)) + np.ldexp(y, _spread(power_y - common, y))
    return total, np.where(common == LEAST_POWER, 0, common)


def log_of(mantissa: NDArray[Any], power: Any) -> NDArray[np.float64]:
    """ln (mantissa 2^power); -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(mantissa) + np.log(2.0) * power
