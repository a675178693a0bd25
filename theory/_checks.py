"""Input checks shared by the scalar theory, and the choice between NumPy float64 and JAX."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

__all__ = ["ROUNDING", "is_jax", "natural", "unit_interval", "unit_vector"]

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Excess over 1 that |<v, u>| of unit vectors owes to rounding in a quarter of cases; taken as 1."""


def is_jax(*values: Any) -> bool:
    """Whether any argument is a JAX array or tracer."""
    return any(isinstance(value, jax.Array) for value in values)


def unit_interval(value: Any, name: str, *, first_unread: bool = False) -> Any:
    """The argument with its range checked: float64 NumPy for NumPy and Python input, else the JAX array.

    Values above 1 by at most 8 eps of their precision become 1. A tracer's values are checked when the compiled
    function runs.

    Args:
        value: dimensionless, any shape.
        name: what to call it in an error.
        first_unread: entry 0 of a 1-D array has no meaning and is neither checked nor changed.

    Raises:
        ValueError: if a value leaves [0, 1] or is NaN.
        RuntimeError: if a tracer's does; JAX raises it from the compiled function.
    """
    if isinstance(value, jax.Array):
        array = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
        excess = 8 * float(jnp.finfo(array.dtype).eps)
        if isinstance(array, jax.core.Tracer):
            read = array[1:] if first_unread and array.ndim == 1 else array
            outside = ~((read >= 0) & (read <= 1 + excess))
            array = eqx.error_if(array, outside.any(), f"{name} must lie in [0, 1]; got something else under jit")
        else:
            _refuse_outside(np.asarray(array, dtype=np.float64), name, excess, first_unread)
        return jnp.minimum(array, 1)  # minimum keeps a NaN
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number or an array of them; got {value!r}") from error
    _refuse_outside(array, name, ROUNDING, first_unread)
    return np.minimum(array, 1.0)


def _refuse_outside(array: np.ndarray, name: str, excess: float, first_unread: bool) -> None:
    read = array[1:] if first_unread and array.ndim == 1 else array
    outside = ~((read >= 0.0) & (read <= 1.0 + excess))
    if outside.any():
        raise ValueError(f"{name} must lie in [0, 1]; got {float(read[outside].flat[0])!r}")


def natural(value: Any, name: str, *, least: int = 1) -> np.ndarray:
    """Integers of at least `least`, any shape, as int64.

    Raises:
        ValueError: if any is not.
    """
    rule = f"{name} must be an integer of at least {least}"
    array = np.asarray(value)
    if array.dtype == bool or not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"{rule}; got {value!r}")
    if not np.all((array == np.round(array)) & (array >= least)):
        raise ValueError(f"{rule}; got {value!r}")
    if (array >= 2.0**63).any():
        raise ValueError(f"{rule} and below 2^63; got {value!r}")
    return array.astype(np.int64)


def unit_vector(value: Any, name: str, size: int) -> np.ndarray:
    """A unit vector, float64.

    Raises:
        ValueError: if its shape is not (size,) or its norm is off 1 by more than 1e-12.
    """
    w = np.asarray(value, dtype=np.float64)
    if w.shape != (size,) or not abs(float(np.linalg.norm(w)) - 1) <= 1e-12:
        raise ValueError(f"{name} must be a unit vector of shape ({size},); got {value!r}")
    return w
