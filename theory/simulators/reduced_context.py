"""Context Jacobians of any number of context directions, by the reduction with a QR a layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.propagation._powers import log_of
from theory.propagation.reduction_in_law import reduced_states
from theory.simulators.cells import PhaseCells
from theory.simulators.engine_step import rescale_every
from theory.simulators.spectra import ContextSpectra

__all__ = ["reduced_contexts"]

CHAINS = 256
"""Chains of one stream of random numbers, always drawn in full: how many are asked for changes none of them."""


def reduced_contexts(
    cells: PhaseCells, dimension: int, depths: NDArray[np.int64], *, chains: int, seed: int, context_dimension: int
) -> ContextSpectra:
    """||J_L||, sigma_2 / sigma_1 and the noise ratio of flat random chains, exact in law, any m, at any dimension.

    Implements (T23) by the recurrence of `reduced_jacobians`, in float64: injected frames across u_l, and the earliest
    injection not carried. A chain depends on (seed, its number, dimension, context_dimension) and its cell alone; cells
    with random injections share their random numbers, and so do those without.

    Args:
        cells: the numbers of each cell.
        dimension: d >= m + 1.
        depths: numbers of layers, each >= 1.
        chains: n for each cell.
        seed: >= 0.
        context_dimension: m >= 1.

    Raises:
        ValueError: if one layer would leave float64's range.
    """
    m, deepest = context_dimension, int(depths.max())
    rescale_every(cells, dimension, "float64")  # refuses what one layer would move out of range
    norm, ratio, noise = np.empty((3, depths.size, len(cells), chains))
    for cell in range(len(cells)):
        parameters = _parameters(cells, cell, deepest)
        for block, begin in enumerate(range(0, chains, CHAINS)):
            rng = np.random.default_rng([seed, dimension, m, block])
            states = reduced_states(parameters, dimension, rng, n=CHAINS, context_dimension=m)
            at = slice(begin, min(begin + CHAINS, chains))
            for layer, (state, power) in enumerate(states):
                where = np.flatnonzero(depths == layer + 1)
                if where.size:
                    kept = at.stop - at.start
                    whole = np.linalg.svd(state[:kept], compute_uv=False)
                    with np.errstate(divide="ignore", invalid="ignore"):  # a part that is 0 exactly
                        across = np.log(np.linalg.norm(state[:kept, 1:], ord=2, axis=(1, 2)))
                        noise[where, cell, at] = across - np.log(np.linalg.norm(state[:kept, 0], axis=1))
                        second = np.log(whole[:, 1]) if m > 1 else np.full(kept, np.nan)
                        ratio[where, cell, at] = second - np.log(whole[:, 0])
                    norm[where, cell, at] = log_of(whole[:, 0], power[:kept])
    floor = np.log(4.0 * (m + 1) * float(np.finfo(np.float64).eps) * depths)
    return ContextSpectra(norm, ratio, floor, None, noise)


def _parameters(cells: PhaseCells, cell: int, depth: int) -> ChainParameters:
    """The same numbers in every layer."""
    sigma, alignment, gap, along, injected = (
        np.full(depth, x[cell]) for x in (cells.sigma, cells.alignment, cells.gap, cells.along, cells.injected)
    )
    return ChainParameters(sigma=sigma, gap=gap, alignment=alignment, injection_along=along, injection_across=injected)
