"""Exact mean squares of what residual chains carry, at any depth and dimension: an oracle without random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators.cells import depth_list
from theory.simulators.residual_cells import ResidualCells

__all__ = ["ResidualMoments", "moment_matrix", "residual_moments"]


@dataclass(frozen=True, slots=True, eq=False)
class ResidualMoments:
    """Root mean squares over chains, natural logs, shape (depths, cells).

    Attributes:
        log_whole: ln sqrt(E ||J_L w||^2).
        log_early: ln sqrt(E ||P_{L:2} B_1 w||^2).
        log_noise: ln of the root mean square of (I - X X^T) J_L w over that of X^T J_L w.
        log_early_noise: the same of P_{L:2} B_1 w.
    """

    log_whole: NDArray[np.float64]
    log_early: NDArray[np.float64]
    log_noise: NDArray[np.float64]
    log_early_noise: NDArray[np.float64]


def moment_matrix(
    tau: Any, kappa: Any, omega: Any, bulk: Any = 0.0, *, rank: int, dimension: int | None
) -> NDArray[np.float64]:
    """What one layer does to (E ||X^T y||^2, E ||y - X X^T y||^2), shape (..., 2, 2) (T32); None is d -> infinity."""
    tau, kappa, omega, gamma = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(tau, kappa, omega, bulk))
    seen = 0.0 if dimension is None else rank / (dimension - rank)
    inside = 0.0 if dimension is None else rank / dimension
    read, turned = tau**2 * (1 - kappa) * (1 + kappa), (1 - omega) * (1 + omega)
    rows = [[(omega + tau * kappa) ** 2, (turned + read) * seen], [turned, 1 - turned * seen]]
    spread = np.stack([gamma**2 * inside, gamma**2 * (1 - inside)], axis=-1)  # of ||y||^2, over both
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2) + spread[..., None]


def residual_moments(
    cells: ResidualCells,
    dimension: int | None,
    depths: Sequence[int],
    *,
    rank: int,
    frame: Literal["across", "isotropic"] = "across",
) -> ResidualMoments:
    """Mean squares of J_L w and of the earliest injection, exact at every d; for d -> infinity they are the values.

    Implements (T32): the pair (E ||p||^2, E ||q||^2) of one column of J_l and E p_1 obey a linear recursion, as the new
    frames have mean 0 given the past.

    Args:
        cells: the numbers of each cell.
        dimension: d >= rank + max(rank, 1), or None for d -> infinity at fixed depth.
        depths: numbers of layers, each >= 1.
        rank: r.
        frame: of the injected part, as in `residual_spectra`.

    Raises:
        ValueError: if an argument leaves its range.
    """
    layers, r = depth_list(depths), int(natural(rank, "rank"))
    d = None if dimension is None else int(natural(dimension, "dimension", least=2 * r))
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    step = moment_matrix(cells.strength, cells.alignment, cells.persistence, cells.bulk, rank=r, dimension=d)
    outlier = cells.persistence + cells.strength * cells.alignment
    inside = 0.0 if d is None or frame == "across" else r / d
    size = cells.injected**2
    put = np.stack([cells.along**2 + inside * size, (1 - inside) * size], axis=-1)
    mean, whole, early = np.zeros(len(cells)), np.zeros_like(put), put.copy()
    # Powers of two taken out of the whole (its injections shrink with it) and of the earliest injection.
    power, early_power = np.zeros(len(cells)), np.zeros(len(cells))
    found = np.empty((4, layers.size, len(cells)))
    for layer in range(1, int(layers.max()) + 1):
        if layer > 1:
            whole, early = ((step @ x[..., None])[..., 0] for x in (whole, early))
            mean = outlier * mean
        with np.errstate(under="ignore"):
            shrunk = np.exp2(-power)
            whole = whole + shrunk[:, None] ** 2 * put
            whole[:, 0] += 2 * mean * shrunk * cells.along
            mean = mean + shrunk * cells.along
        for where in np.flatnonzero(layers == layer):
            for row, (x, taken) in enumerate(((whole, power), (early, early_power))):
                with np.errstate(divide="ignore"):
                    found[row, where] = np.log(x.sum(axis=-1)) / 2 + np.log(2) * taken
                    found[2 + row, where] = (np.log(x[:, 1]) - np.log(x[:, 0])) / 2
        half = np.frexp(whole.sum(axis=-1))[1] // 2
        whole, mean, power = np.ldexp(whole, -2 * half[:, None]), np.ldexp(mean, -half), power + half
        half = np.frexp(early.sum(axis=-1))[1] // 2
        early, early_power = np.ldexp(early, -2 * half[:, None]), early_power + half
    return ResidualMoments(found[0], found[1], found[2], found[3])
