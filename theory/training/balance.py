"""Balance: what gradient descent leaves as it was between consecutive layers, and what that says of their alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._checks import is_jax

__all__ = ["imbalance", "misalignment_bound"]


def imbalance(propagators: Any, injections: Any) -> Any:
    """D_l = A_{l+1}^T A_{l+1} - A_l A_l^T - B_l B_l^T for l = 1..L-1, shape (..., L - 1, d, d).

    Implements (T29). Gradient flow of any loss of h_L conserves every D_l, in chains h_l = A_l h_{l-1} + B_l c with A_l
    or F_l = A_l - I as parameters, whatever readout follows and whatever data are used; with decay lambda of every A_l
    and B_l it shrinks as exp(-2 lambda t). Without context it is the balancedness of Arora et al. (2018).

    Args:
        propagators: A_l, shape (..., L, d, d), NumPy or JAX.
        injections: B_l, shape (..., L, d, m).

    Raises:
        ValueError: if the shapes disagree or there is one layer only.
    """
    if not is_jax(propagators, injections):
        propagators, injections = np.asarray(propagators), np.asarray(injections)
    if propagators.ndim < 3 or propagators.shape[-2] != propagators.shape[-1] or propagators.shape[-3] < 2:
        raise ValueError(f"propagators must have shape (..., L, d, d) with L at least 2; got {propagators.shape}")
    if injections.shape[:-1] != propagators.shape[:-1]:
        raise ValueError(f"injections must have shape {propagators.shape[:-1]} + (m,); got {injections.shape}")
    after, before, added = propagators[..., 1:, :, :], propagators[..., :-1, :, :], injections[..., :-1, :, :]
    return after.swapaxes(-1, -2) @ after - before @ before.swapaxes(-1, -2) - added @ added.swapaxes(-1, -2)


def misalignment_bound(
    propagators: NDArray[np.floating[Any]], injections: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Upper bound of s_{l+1} = sqrt(1 - kappa_{l+1}^2) for l = 1..L-1 from the imbalance, shape (..., L - 1).

    Implements (T30): s_{l+1} <= (||D_l|| + b_l ||B_l||) / (sigma_{l+1}^2 - sigma_l^2 xi_l^2) where the denominator is
    positive, b_l the norm of the part of B_l across u_l; 1 where that says nothing. Balanced layers whose context comes
    in along u_l are exactly aligned. Attained by two-dimensional layers. Computed in float64.

    Args:
        propagators: A_l, shape (..., L, d, d).
        injections: B_l, shape (..., L, d, m).

    Raises:
        ValueError: if the shapes disagree, there is one layer only, or an entry is not finite.
    """
    a, b = np.asarray(propagators, dtype=np.float64), np.asarray(injections, dtype=np.float64)
    d = imbalance(a, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("propagators and injections must be finite; got a non-finite entry")
    left, s, _ = np.linalg.svd(a)
    u, b = left[..., :-1, :, :1], b[..., :-1, :, :]
    second = s[..., :-1, 1] if s.shape[-1] > 1 else np.zeros_like(s[..., :-1, 0])
    across = b - u @ (u.swapaxes(-1, -2) @ b)
    spread = _norm(d) + _norm(across) * _norm(b)
    room = s[..., 1:, 0] ** 2 - second**2
    return np.where(room > 0, np.minimum(spread / np.where(room > 0, room, 1.0), 1.0), 1.0)


def _norm(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(a, ord=2, axis=(-2, -1))
