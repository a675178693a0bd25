"""The twisted chains that attain the sharp rates."""

from __future__ import annotations

from typing import Literal

import numpy as np

from theory._checks import natural, unit_interval
from theory.chains.chain import Chain

__all__ = ["twisted_chain"]


def twisted_chain(
    alignment: float,
    gap: float,
    depth: int,
    *,
    sigma: float = 1.0,
    sense: Literal["fastest", "slowest"] = "fastest",
    dimension: int = 2,
) -> Chain:
    """The chain that attains a bound: the same 2 x 2 layer, repeated.

    Implements (T11). "fastest" repeats [[kappa, s], [xi s, -xi kappa]] and grows like max_rate^L; "slowest" repeats
    [[kappa, -s], [xi s, xi kappa]] and grows like min_rate^L, or rotates below the critical alignment. Injections are
    u_l e_1^T, so that the context's first direction is injected along u_l in every layer.

    Args:
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        depth: L >= 1.
        sigma: operator norm of every layer, >= 0.
        sense: which bound.
        dimension: d >= 2; the layer acts on the first two coordinates and is 0 on the others.

    Returns:
        An unbatched chain, NumPy float64, with context dimension d.

    Raises:
        ValueError: if an argument leaves its range.
    """
    kappa, xi = float(unit_interval(alignment, "alignment")), float(unit_interval(gap, "gap"))
    layers, d = int(natural(depth, "depth")), int(natural(dimension, "dimension", least=2))
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be finite and not negative; got {sigma!r}")
    if sense not in ("fastest", "slowest"):
        raise ValueError(f"sense must be 'fastest' or 'slowest'; got {sense!r}")
    sign = 1.0 if sense == "fastest" else -1.0
    s = float(np.sqrt((1 - kappa) * (1 + kappa)))
    u, v, residual, injection = np.zeros(d), np.zeros(d), np.zeros((d, d)), np.zeros((d, d))
    u[0] = 1.0
    v[0], v[1] = kappa, sign * s
    residual[1, 0], residual[1, 1] = sigma * xi * s, -sign * sigma * xi * kappa
    injection[0, 0] = 1.0
    return Chain(
        sigma=np.full(layers, float(sigma)),
        u=np.tile(u, (layers, 1)),
        v=np.tile(v, (layers, 1)),
        residual=np.tile(residual, (layers, 1, 1)),
        injection=np.tile(injection, (layers, 1, 1)),
    )
