"""Laws of ||J_L||, sigma_2 / sigma_1 and the earliest injection's share, by the million chains, at any dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.engine_jax import has_accelerator, run_jax
from theory.simulators.engine_numpy import run_numpy
from theory.simulators.engine_step import LOG_ROOM

__all__ = ["ContextSpectra", "context_spectra"]

LARGEST_RESULT = 4 * 2**30
"""Bytes of the result above which a request is refused."""


@dataclass(frozen=True, slots=True, eq=False)
class ContextSpectra:
    """Of J_L at some depths, for every cell and chain. Arrays of shape (depths, cells, chains), float64.

    Attributes:
        log_norm: ln ||J_L||.
        log_ratio: ln sigma_2 / sigma_1 of J_L; NaN for one context direction, -inf where sigma_2 is 0. Below
            `log_floor` it is rounding.
        log_floor: of log_ratio, shape (depths,): 4 (k + 1) eps L, as for `reduced_jacobians`.
        log_share: ln (||P_{L:2} B_1 w||^2 / ||J_L w||^2), the earliest injection's share in the direction w; above 0
            where later injections cancel it. None if it was not asked for.
        log_noise: ln (||(I - u u^T) J_L|| / ||u^T J_L||), u = u_L: the noise ratio of (P3), in the operator norm; -inf
            where nothing lies across u, inf where all does.
        log_early: ln ||P_{L:2} B_1 w||; -inf where it has died out exactly. None if the share was not asked for.
        log_early_noise: ln q / p of P_{L:2} B_1 w, across over along u_L; NaN where both are 0. None likewise.
    """

    log_norm: NDArray[np.float64]
    log_ratio: NDArray[np.float64]
    log_floor: NDArray[np.float64]
    log_share: NDArray[np.float64] | None
    log_noise: NDArray[np.float64]
    log_early: NDArray[np.float64] | None = None
    log_early_noise: NDArray[np.float64] | None = None


def context_spectra(
    cells: PhaseCells,
    dimension: int,
    depths: Sequence[int],
    *,
    chains: int,
    seed: int,
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    dtype: Literal["float64", "float32"] = "float64",
    share: bool = True,
    engine: Literal["auto", "numpy", "jax"] = "auto",
) -> ContextSpectra:
    """Spectra of the context Jacobians of flat random chains, exact in law, in O(L) a chain at any dimension.

    Implements (T23) with the state [r^T; F], F upper triangular, written out entry by entry over arrays of chains. The
    earliest injection in the direction w is one more column: with [P_{L:2} B_1 w, J] in place of J the reduction holds
    as it stands, with nothing injected into that column, which keeps a log-scale of its own. It comes first, so that
    its coordinates do not depend on J: on one seed it scales with sigma^(L - 1) exactly, chain by chain.

    All cells are run on the same random chains, so that n chains a cell are n distinct draws however many the cells:
    intervals within a cell are right, as its chains are independent; differences between cells are correlated, and
    that makes them smoother, not more certain. A chain depends on (seed, its number, dimension, context_dimension,
    frame, dtype, share) and the engine's stream alone: not on the other cells, the number of chains, nor on the depths
    asked for beside. The engines run one step on streams of their own: they agree in law, not chain by chain. What is
    said of the other cells holds to rounding in "jax", bit for bit in "numpy".

    Args:
        cells: the numbers of each cell.
        dimension: d >= context_dimension + 1.
        depths: numbers of layers, each >= 1.
        chains: n >= 1 for each cell.
        seed: >= 0.
        context_dimension: m, 1 or 2.
        frame: "across": Q_l has m orthonormal columns, Haar across u_l, as `inject_coherent`. "isotropic": Haar in R^d;
            with along = 0 the injections are random.
        dtype: of the draws and the recurrence; scales and results are float64.
        share: whether to carry the earliest injection.
        engine: "numpy": one core. "jax": all devices of JAX's default backend, compiled once for each dimension, m,
            frame, dtype, share and size of tile. "auto": "jax" where that backend is an accelerator, else "numpy",
            which is faster on a CPU.

    Raises:
        ValueError: if an argument leaves its range, one layer would leave that of dtype, or the result 4 GiB.
    """
    d, n, m = (
        int(natural(value, name))
        for value, name in ((dimension, "dimension"), (chains, "chains"), (context_dimension, "context_dimension"))
    )
    root = int(natural(seed, "seed", least=0))
    layers = depth_list(depths)
    if m > 2:
        raise ValueError(f"context_dimension must be 1 or 2 (reduced_jacobians takes any); got {m}")
    if d < m + 1:
        raise ValueError(f"dimension must be at least context_dimension + 1 = {m + 1}; got {d}")
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    if dtype not in LOG_ROOM:
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    if engine not in ("auto", "numpy", "jax"):
        raise ValueError(f"engine must be 'auto', 'numpy' or 'jax'; got {engine!r}")
    kept = 6 if share else 3
    bytes_needed = 8 * kept * layers.size * len(cells) * n
    if bytes_needed > LARGEST_RESULT:
        raise ValueError(f"cells x chains x depths must need at most 4 GiB; got {bytes_needed / 2**30:.3g} GiB")
    found = np.empty((kept, layers.size, len(cells), n))
    run = run_jax if engine == "jax" or (engine == "auto" and has_accelerator()) else run_numpy
    run(
        cells,
        d,
        layers,
        found,
        seed=root,
        context_dimension=m,
        isotropic=frame == "isotropic",
        dtype=dtype,
        share=share,
    )
    floor = np.log(4.0 * (m + share + 1) * float(np.finfo(dtype).eps) * layers)
    early = (found[3], found[4], found[5]) if share else (None, None, None)
    return ContextSpectra(found[0], found[1], floor, early[0], found[2], early[1], early[2])
