"""Products of layers in mpmath, from a chain's stored numbers: the oracle at depth 1,000."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

from theory.chains.chain import Chain
from theory.chains.factored import Factored


def _matrix(values: NDArray[Any]) -> Any:
    return mp.matrix([[mp.mpf(float(x)) for x in row] for row in values])


def exact_layer(chain: Chain, layer: int) -> Any:
    """sigma u v^T + R of one layer of an unbatched chain, with no rounding beyond the working precision."""
    u, v = _matrix(np.asarray(chain.u[layer])[:, None]), _matrix(np.asarray(chain.v[layer])[:, None])
    dominant = mp.mpf(float(chain.sigma[layer])) * u * v.T
    residual = chain.residual
    if isinstance(residual, Factored):
        low_rank = _matrix(np.asarray(residual.left[layer])) * _matrix(np.asarray(residual.right[layer])).T
        return dominant + low_rank + mp.mpf(float(residual.shift[layer])) * mp.eye(chain.dimension)
    return dominant + _matrix(np.asarray(residual[layer]))


def exact_log_singular_values(chain: Chain, digits: int, *, first: int = 1) -> NDArray[np.float64]:
    """ln of all singular values of A_L ... A_first, with `digits` decimal digits (more than they span)."""
    with mp.workdps(digits):
        product = mp.eye(chain.dimension)
        for layer in range(first - 1, chain.depth):
            product = exact_layer(chain, layer) * product
        return np.array([float(mp.log(s)) for s in mp.svd_r(product, compute_uv=False)])


def exact_log_jacobian(chain: Chain, digits: int) -> NDArray[np.float64]:
    """ln of the singular values of J_L (T2), descending."""
    with mp.workdps(digits):
        jacobian = _matrix(np.asarray(chain.injection[0]))
        for layer in range(1, chain.depth):
            jacobian = exact_layer(chain, layer) * jacobian + _matrix(np.asarray(chain.injection[layer]))
        if jacobian.rows < jacobian.cols:
            jacobian = jacobian.T
        return np.array([float(mp.log(s)) for s in mp.svd_r(jacobian, compute_uv=False)])
