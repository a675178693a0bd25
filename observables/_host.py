"""Bringing any array-API array to the host as float64.

The observables are scalars of a spectrum, so each is computed once, in NumPy float64, whatever library and
precision the spectrum came in: an entropy or a log-log slope taken in float32 would differ between libraries.
"""

from __future__ import annotations

from typing import Any, cast

import array_api_compat
import numpy as np
from numpy.typing import NDArray

__all__ = ["host_float64", "spectrum"]


def host_float64(values: Any, name: str) -> NDArray[np.float64]:
    """Copy of `values` as a NumPy float64 array on the host.

    Args:
        values: array of NumPy, JAX, torch or any other array-API library; or a sequence of numbers.
        name: what to call it in an error.

    Raises:
        ValueError: if it is complex or not numeric.
    """
    if not isinstance(values, (np.ndarray, list, tuple, float, int)) and array_api_compat.is_array_api_obj(values):
        if array_api_compat.is_torch_array(values):
            values = values.detach().cpu()
            values = values.double() if not values.is_complex() else values  # NumPy has no bfloat16
        elif not array_api_compat.is_jax_array(values) and not array_api_compat.is_numpy_array(values):
            values = np.from_dlpack(cast(Any, values))
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise ValueError(f"{name} must be real; got dtype {array.dtype}")
        return array.astype(np.float64)
    except TypeError as error:
        raise ValueError(f"{name} must be an array of real numbers; got {type(values).__name__}") from error


def spectrum(values: Any, name: str = "eigenvalues") -> NDArray[np.float64]:
    """One descending spectrum, shape (n,), as float64.

    Non-finite entries pass (the caller answers NaN with a reason); the order of finite ones is checked.

    Raises:
        ValueError: if it is not one-dimensional, or not in descending order.
    """
    array = host_float64(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional; got shape {array.shape}")
    if np.isfinite(array).all() and array.size > 1:
        rise = np.diff(array)
        worst = int(np.argmax(rise))
        if rise[worst] > 0:
            raise ValueError(
                f"{name} must be descending; got {array[worst]!r} before {array[worst + 1]!r} at index {worst}"
            )
    return array
