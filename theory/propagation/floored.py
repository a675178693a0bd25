"""A number, or "below x": what arithmetic resolves, and the floor where it does not."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floored", "at_least"]


class Floored(NamedTuple):
    """Positive numbers by their logarithm, each either resolved by the arithmetic or only known to lie below a floor.

    A tuple of two arrays, so that `log_value, resolved = floored` works; `floored.at(index)` selects entries.

    Attributes:
        log_value: natural logarithm, any shape; where not resolved, that of the floor, an upper estimate. -inf is an
            exact 0, NaN an undefined number (a ratio to 0, a second singular value where there is one).
        resolved: whether `log_value` is the number itself, same shape.
    """

    log_value: NDArray[np.float64]
    resolved: NDArray[np.bool_]

    def at(self, index: Any) -> Floored:
        """The entries that NumPy indexing selects."""
        return Floored(np.asarray(self.log_value[index]), np.asarray(self.resolved[index]))

    def describe(self) -> NDArray[np.str_]:
        """Each entry in words: "1.2e-05", "below 3.6e-13", "0" or "undefined", an array of the same shape."""
        pairs = zip(np.ravel(self.log_value), np.ravel(self.resolved), strict=True)
        text = [_text(float(log_value), bool(resolved)) for log_value, resolved in pairs]
        return np.asarray(text, dtype=np.str_).reshape(np.shape(self.log_value))

    def __str__(self) -> str:
        text = self.describe()
        return str(text[()]) if text.ndim == 0 else np.array2string(text, separator=", ", threshold=20)


def at_least(log_value: Any, log_floor: Any) -> Floored:
    """The numbers above the floor as they are, the others as the floor. A NaN stays one, unresolved."""
    value, floor = np.broadcast_arrays(np.asarray(log_value, dtype=np.float64), np.asarray(log_floor, np.float64))
    with np.errstate(invalid="ignore"):
        return Floored(np.maximum(value, floor), np.asarray(value > floor) & ~np.isnan(value))


def _text(log_value: float, resolved: bool) -> str:
    if math.isnan(log_value):
        return "undefined"
    if log_value == -math.inf:
        return "0"
    # By powers of ten, as exp would overflow or vanish at the depths this is for.
    exponent = math.floor(log_value / math.log(10))
    mantissa = f"{math.exp(log_value - exponent * math.log(10)):.2g}"
    if mantissa == "10":
        mantissa, exponent = "1", exponent + 1
    number = f"{mantissa}e{exponent:+03d}" if exponent < -3 or exponent > 5 else f"{math.exp(log_value):.3g}"
    return number if resolved else f"below {number}"
