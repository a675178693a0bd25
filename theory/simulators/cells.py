"""Cells of a phase map: chains with the same numbers in every layer, one set of numbers a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval

__all__ = ["PhaseCells", "depth_list", "real_sizes", "settle_on_one_axis"]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseCells:
    """The numbers of C cells, each broadcast to shape (C,), float64.

    B_l = along u_l w^T + injected Q_l, w the first context direction and Q_l a Haar frame, the same in every layer.

    Attributes:
        sigma: operator norm of every layer, > 0, finite. Units of the chain.
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1]; the residual is flat.
        along: beta, >= 0, finite; the coherent part of the injections.
        injected: b, >= 0, finite; the size of the random frame. along and injected are not both 0.

    Raises:
        ValueError: if a value leaves its range or the shapes do not broadcast to one axis.
    """

    sigma: NDArray[np.float64]
    alignment: NDArray[np.float64]
    gap: NDArray[np.float64]
    along: NDArray[np.float64]
    injected: NDArray[np.float64]

    def __init__(
        self,
        sigma: ArrayLike,
        alignment: ArrayLike,
        gap: ArrayLike,
        along: ArrayLike = 1.0,
        injected: ArrayLike = 0.0,
    ) -> None:
        values = {
            "sigma": real_sizes(sigma, "sigma", positive=True),
            "alignment": unit_interval(alignment, "alignment"),
            "gap": unit_interval(gap, "gap"),
            "along": real_sizes(along, "along"),
            "injected": real_sizes(injected, "injected"),
        }
        settle_on_one_axis(self, values)

    def __len__(self) -> int:
        return self.sigma.size

    def at(self, index: slice | NDArray[np.intp]) -> PhaseCells:
        """Some of the cells."""
        return PhaseCells(*(getattr(self, field.name)[index] for field in fields(self)))


def settle_on_one_axis(cells: Any, values: dict[str, NDArray[np.float64]]) -> None:
    """Puts checked values into frozen cells, each broadcast to shape (C,).

    Raises:
        ValueError: if the shapes do not broadcast to one axis, or a cell has no injection at all.
    """
    try:
        shape = np.broadcast_shapes((1,), *(value.shape for value in values.values()))
    except ValueError as error:
        raise ValueError(f"cells must broadcast together; got {[v.shape for v in values.values()]}") from error
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"cells must lie on one axis and be at least one; got shape {shape}")
    for name, value in values.items():
        object.__setattr__(cells, name, np.broadcast_to(value, shape).copy())
    if ((cells.along == 0) & (cells.injected == 0)).any():
        raise ValueError("along and injected must not both be 0: J_L would be 0; got such a cell")


def depth_list(depths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Depths as one axis of integers.

    Raises:
        ValueError: if there is none, or one is not an integer of at least 1.
    """
    layers = natural(depths, "depths")
    if layers.ndim != 1 or layers.size == 0:
        raise ValueError(f"depths must be a non-empty list of depths; got {depths!r}")
    return layers


def real_sizes(value: ArrayLike, name: str, *, positive: bool = False) -> NDArray[np.float64]:
    """Finite numbers that are not negative, or positive, float64, any shape.

    Raises:
        ValueError: if any is not.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number or an array of them; got {value!r}") from error
    bad = ~(np.isfinite(array) & ((array > 0) if positive else (array >= 0)))
    if bad.any():
        rule = "positive" if positive else "not negative"
        raise ValueError(f"{name} must be finite and {rule}; got {float(array[bad].flat[0])!r}")
    return array
