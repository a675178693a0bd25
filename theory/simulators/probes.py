"""What products of layers make of random vectors: growth without singular values, many vectors at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.choose import MOST_COLUMNS, Residual, choose
from theory.simulators.engine_step import rescale_every
from theory.simulators.runs import Request
from theory.simulators.structured import structured_runs

__all__ = ["probe_growth"]


def probe_growth(
    cells: PhaseCells,
    dimension: int,
    depths: Sequence[int],
    *,
    chains: int,
    seed: int,
    probes: int = MOST_COLUMNS,
    residual: Residual = "flat",
    rank: int | None = None,
    dtype: Literal["float64", "float32"] = "float64",
) -> NDArray[np.float64]:
    """ln ||P_L x|| of random unit vectors x, uniform and independent, by the structured simulator.

    d times the mean square of ||P x|| over x is ||P||_F^2, so that probes estimate the bulk where `simulate` gives the
    two leading values. On one seed the chains are those of `simulate(..., simulator="structured")`.

    Args:
        cells: the numbers of each cell; injections are not read.
        dimension: d >= 2.
        depths: numbers of layers, each >= 1.
        chains: n for each cell.
        seed: >= 0.
        probes: vectors a chain, 1 to 64; a chain's are the same for every cell.
        residual: "flat" or "low_rank".
        rank: of the low-rank residual.
        dtype: of the draws and the recurrence; results are float64.

    Returns:
        Shape (depths, cells, chains, probes); -inf where P x = 0.

    Raises:
        ValueError: if an argument leaves its range, one layer would leave that of dtype, or the family is not
            structured.
    """
    d, n = int(natural(dimension, "dimension", least=2)), int(natural(chains, "chains"))
    root, count = int(natural(seed, "seed", least=0)), int(natural(probes, "probes"))
    layers = depth_list(depths)
    if count > MOST_COLUMNS:
        raise ValueError(f"probes must be at most {MOST_COLUMNS}; got {probes!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    choose("product", d, int(layers.max()), residual=residual, rank=rank, simulator="structured")
    rescale_every(cells, d, dtype)
    distinct = np.unique(layers)
    request = Request(
        dimension=d,
        depths=tuple(distinct.tolist()),
        chains=n,
        seed=root,
        rank=int(rank or 0),
        columns=count,
        probes=True,
        dtype=dtype,
    )
    found = np.empty((layers.size, len(cells), n, count))
    for run in structured_runs(cells, request):
        lengths, power = run.leaves
        with np.errstate(divide="ignore"):
            values = np.log(lengths) + np.log(2.0) * power[..., None]
        found[:, run.cells, run.chains] = values[np.searchsorted(distinct, layers)]
    return found
