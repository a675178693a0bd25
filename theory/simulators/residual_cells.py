"""Cells of a map of the residual family: chains I + F with the same numbers in every layer, one set a cell."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import unit_interval
from theory.simulators.cells import real_sizes, settle_on_one_axis

__all__ = ["ResidualCells"]


@dataclass(frozen=True, slots=True, eq=False)
class ResidualCells:
    """The numbers of C cells of the family (T32), each broadcast to shape (C,), float64.

    A_l = I + tau X_l C_l^T + gamma G_l with frames of r orthonormal columns, C_l = kappa X_{l-1} + s N_l and X_l =
    omega X_{l-1} + s_w M_l, and G_l of independent normal entries of variance 1 / d. B_l = along x_l w^T + injected
    Q_l, x_l the first column of X_l, w the first context direction and Q_l a Haar frame.

    Attributes:
        strength: tau, >= 0, finite; all r singular values of the update's linked part are equal to it.
        alignment: kappa, what the layer reads of what the layer before wrote, dimensionless, in [0, 1].
        persistence: omega, what of the layer before it writes again, dimensionless, in [0, 1].
        along: beta, >= 0, finite; the coherent part of the injections.
        injected: b, >= 0, finite; the size of the random frame. along and injected are not both 0.
        bulk: gamma, >= 0, finite; size of the update's unlinked part; the bulk grows by sqrt(1 + gamma^2).

    Raises:
        ValueError: if a value leaves its range or the shapes do not broadcast to one axis.
    """

    strength: NDArray[np.float64]
    alignment: NDArray[np.float64]
    persistence: NDArray[np.float64]
    along: NDArray[np.float64]
    injected: NDArray[np.float64]
    bulk: NDArray[np.float64]

    def __init__(
        self,
        strength: ArrayLike,
        alignment: ArrayLike,
        persistence: ArrayLike = 0.0,
        along: ArrayLike = 1.0,
        injected: ArrayLike = 0.0,
        bulk: ArrayLike = 0.0,
    ) -> None:
        values = {
            "strength": real_sizes(strength, "strength"),
            "alignment": unit_interval(alignment, "alignment"),
            "persistence": unit_interval(persistence, "persistence"),
            "along": real_sizes(along, "along"),
            "injected": real_sizes(injected, "injected"),
            "bulk": real_sizes(bulk, "bulk"),
        }
        settle_on_one_axis(self, values)

    def __len__(self) -> int:
        return self.strength.size

    def at(self, index: slice | NDArray[np.intp]) -> ResidualCells:
        """Some of the cells."""
        return ResidualCells(*(getattr(self, field.name)[index] for field in fields(self)))
