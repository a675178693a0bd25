"""Laws of ||P_L|| and sigma_2 / sigma_1 of products of flat random chains, many cells at once, at any dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory.propagation.reduction import direction_coordinates, log_singular_values
from theory.simulators.cells import PhaseCells

__all__ = ["coordinate_bytes", "reduced_products"]

LARGEST_COORDINATES = 2**28
"""Bytes of pulled-back directions held at once; more alignments than fit are run in turn, from the same draws."""


def coordinate_bytes(depth: int, dimension: int, chains: int) -> int:
    """Of the pulled-back directions of one alignment, and of as many coordinates the product is carried in."""
    return 8 * chains * depth * min(dimension, depth + 1)


def reduced_products(
    cells: PhaseCells, dimension: int, depths: NDArray[np.int64], *, chains: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln ||P_L|| and ln sigma_2 / sigma_1 of P_L, exact in law, by (T24); float64, with no floor under the ratio.

    ||P_L|| scales exactly with sigma, so that cells of one alignment and gap are simulated once: ln ||P_L|| = L ln
    sigma + f. The draws depend on (seed, depth, dimension) alone, as those of `theory.sweep`: chains of different
    alignment or gap share them, chains of different depth are independent.

    Args:
        cells: the numbers of each cell; injections are not read.
        dimension: d >= 2.
        depths: numbers of layers, each >= 1.
        chains: n for each cell.
        seed: >= 0.

    Returns:
        Two arrays of shape (depths, cells, chains). The ratio is -inf where sigma_2 is 0, both -inf and NaN where the
        product is 0.
    """
    pairs, owner = np.unique(np.stack([cells.gap, cells.alignment]), axis=1, return_inverse=True)
    owner = owner.ravel()
    alignments = np.unique(pairs[1])
    log_norm, log_ratio = np.empty((2, depths.size, len(cells), chains))
    for row, depth in enumerate(depths.tolist()):
        step = max(1, LARGEST_COORDINATES // coordinate_bytes(depth, dimension, chains))
        found = np.empty((2, pairs.shape[1], chains))
        for begin in range(0, alignments.size, step):
            here = alignments[begin : begin + step]
            w = direction_coordinates(here, dimension, np.random.default_rng([seed, depth, dimension]), chains, depth)
            for gap in np.unique(pairs[0]):
                wanted = np.flatnonzero((pairs[0] == gap) & (pairs[1] >= here[0]) & (pairs[1] <= here[-1]))
                found[:, wanted] = _spectra(w[np.searchsorted(here, pairs[1, wanted])], float(gap))
        log_norm[row] = found[0, owner] + depth * np.log(cells.sigma)[:, None]
        log_ratio[row] = found[1, owner]
    return log_norm, log_ratio


def _spectra(w: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """ln ||P|| and ln ratio at sigma = 1, shape (2, alignments, chains)."""
    shape, rows = w.shape[:2], w.shape[0] * w.shape[1]
    if rows == 0:
        return np.empty((2, *shape))
    layers = (rows, w.shape[2])
    first, second = log_singular_values(w.reshape(rows, *w.shape[2:]), np.full(layers, gap), np.ones(layers))
    with np.errstate(invalid="ignore"):  # NaN where the whole product is 0
        return np.stack([first, second - first]).reshape(2, *shape)
