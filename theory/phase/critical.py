"""The gain at which products of typical chains turn, in closed form, and the gains predicted for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval
from theory.phase._crossing import CROSSING_CODES, median_ranks, order_values
from theory.propagation.reduction import direction_coordinates, log_singular_values
from theory.regimes.boundaries import boundary_curves
from theory.simulators.cells import depth_list

__all__ = ["CriticalGain", "cell_pairs", "critical_product_gain", "predicted_gain", "refuse_level"]

PREDICTED = ("paper", "certified_I", "certified_II", "mean_field")


@dataclass(frozen=True, slots=True, eq=False)
class CriticalGain:
    """Gains rho = sigma kappa, dimensionless, where a median crosses its threshold. Arrays of shape (depths, cells).

    Attributes:
        gain: the crossing; NaN where there is none.
        low: lower end of its confidence interval; 0 where it lies below the range of gains searched.
        high: upper end; inf where it lies above.
        code: what `CROSSING_CODES` says.
        level: of the interval, for one cell; those of different cells are correlated.
    """

    gain: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    code: NDArray[np.int64]
    level: float

    def describe(self, index: tuple[int, int]) -> str:
        """One cell in words."""
        if np.isnan(self.gain[index]):
            return CROSSING_CODES[int(self.code[index])]
        return f"{self.gain[index]:.4g} ({self.low[index]:.4g} to {self.high[index]:.4g})"


def predicted_gain(alignment: ArrayLike, gap: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Gain on each predicted boundary, cell by cell: "paper", "certified_I", "certified_II", "mean_field".

    As `boundary_curves`, for pairs of alignment and gap, shape (cells,).

    Raises:
        ValueError: if an argument leaves [0, 1] or the shapes do not broadcast to one axis.
    """
    kappa, xi = cell_pairs(alignment, gap)
    found = {name: np.empty(kappa.size) for name in PREDICTED}
    for value in np.unique(xi):
        here = np.flatnonzero(xi == value)
        curves = boundary_curves(float(value), kappa[here])
        for name in PREDICTED:
            found[name][here] = curves[name]
    return found


def critical_product_gain(
    alignment: ArrayLike,
    gap: ArrayLike,
    depths: Sequence[int],
    *,
    dimension: int,
    chains: int,
    seed: int,
    level: float = 0.95,
) -> CriticalGain:
    """The gain where the median of ln ||P_L|| is 0: closed-form from one set of chains, as ln ||P_L|| = L ln sigma + f.

    sigma_c = exp(-median f / L), by (T24); its interval is that of the median's order statistics. All cells of one
    depth share their random numbers.

    Args:
        alignment: kappa of each cell, in [0, 1].
        gap: xi of each cell, in [0, 1], broadcast against it.
        depths: numbers of layers, each >= 1.
        dimension: d >= 2.
        chains: number for each cell, enough for the level: 6 at 0.95.
        seed: >= 0.
        level: of the interval, in (0, 1).

    Returns:
        Shape (depths, cells). Code 5 (undefined) where kappa = 0, as the gain is 0 whatever sigma is.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, xi = cell_pairs(alignment, gap)
    layers = depth_list(depths)
    d, n = int(natural(dimension, "dimension", least=2)), int(natural(chains, "chains"))
    root = int(natural(seed, "seed", least=0))
    refuse_level(n, level)
    found = np.full((3, layers.size, kappa.size), np.nan)
    alignments, index = np.unique(kappa, return_inverse=True)
    for row, depth in enumerate(layers.tolist()):
        w = direction_coordinates(alignments, d, np.random.default_rng([root, depth, d]), n, depth)
        for cell in np.flatnonzero(kappa > 0):
            size = np.full((n, depth), xi[cell])
            f = log_singular_values(w[index[cell]], size, np.ones((n, depth)))[0]
            median, low, high = order_values(f, level)
            found[:, row, cell] = kappa[cell] * np.exp(-np.array([median, high, low]) / depth)
    code = np.where(np.isnan(found[0]), 5, 0)
    return CriticalGain(found[0], found[1], found[2], code, level)


def cell_pairs(alignment: ArrayLike, gap: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both broadcast to one axis of cells.

    Raises:
        ValueError: if an argument leaves [0, 1] or the shapes do not broadcast to one axis.
    """
    kappa, xi = unit_interval(alignment, "alignment"), unit_interval(gap, "gap")
    try:
        kappa, xi = np.broadcast_arrays(np.atleast_1d(kappa), np.atleast_1d(xi))
    except ValueError as error:
        raise ValueError(f"alignment and gap must broadcast; got {np.shape(kappa)} and {np.shape(xi)}") from error
    if kappa.ndim != 1 or kappa.size == 0:
        raise ValueError(f"alignment and gap must lie on one axis, with at least one cell; got {kappa.shape}")
    return kappa, xi


def refuse_level(n: int, level: float) -> None:
    """Refuses a confidence level outside (0, 1), or one that n chains cannot give.

    Raises:
        ValueError: in either case.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1); got {level!r}")
    median_ranks(n, level)
