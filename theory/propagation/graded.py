"""Singular values of graded triangular products, each row with a log-scale of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["GradedRows", "orthogonalised"]

LOWEST_SHIFT = -4000
"""Beyond any float64 exponent: a row so far below another adds nothing to it."""

MAX_JACOBI_SWEEPS = 30
"""One-sided Jacobi converges quadratically: graded rows need two or three sweeps, arbitrary ones about eight."""


class GradedRows:
    """A product T = R_n ... R_1 of k x k upper triangular matrices as rows with powers of two beside them, a batch.

    Row i of R T is a sum over rows j >= i, so a row never mixes with larger ones above it and small rows keep their
    relative precision at any distance: the whole may span e^{-100000}. The powers are exact: logarithms summed along
    the depth would lose an eps of their sum at every layer.

    Attributes:
        rows: largest entry of a row in [1/2, 1), or a zero row; shape (n, k, k).
        exponent: powers of two, integers, shape (n, k).
    """

    __slots__ = ("exponent", "rows")

    def __init__(self, batch: int, size: int) -> None:
        self.rows = np.broadcast_to(np.eye(size), (batch, size, size)).copy()
        self.exponent = np.zeros((batch, size), dtype=np.int64)

    def multiply(self, r: NDArray[np.float64]) -> None:
        """T <- R T for upper triangular R, shape (n, k, k)."""
        # Row i takes the largest scale among the rows j >= i that it reads.
        common = np.maximum.accumulate(self.exponent[:, ::-1], axis=1)[:, ::-1]
        shift = np.clip(self.exponent[:, None, :] - common[:, :, None], LOWEST_SHIFT, 0)
        rows = np.ldexp(r, shift) @ self.rows
        _, power = np.frexp(np.abs(rows).max(axis=-1))
        self.rows = np.ldexp(rows, -power[..., None])
        zero = ~self.rows.any(axis=-1)
        # A zero row stays zero; a scale below every other's keeps it from setting theirs.
        self.exponent = np.where(zero, np.minimum(common, self.exponent.min(axis=1, keepdims=True)), common + power)


def unit_rows(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of length 1 and the logarithms of what they had; a zero row stays 0 with -inf."""
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.sum(scaled * scaled, axis=-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return scaled / np.where(length > 0, length, 1.0), (np.log(length) + np.log(largest))[..., 0]


def orthogonalised(graded: GradedRows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """ln of the singular values of T, descending, and W and V of T = W S V^T, by one-sided Jacobi on rows.

    Jacobi on rows D U, D diagonal and U of unit rows, finds every singular value to a relative error of eps cond(U)
    whatever D is (Demmel and others 1999); here D is kept as logarithms. k / 2 pairs are turned at a time (a round
    robin).

    Returns:
        Shapes (n, k), (n, k, k) and (n, k, k), columns of W and V in the order of the values; a column of V is 0 where
        the value is.
    """
    rows, log_size = unit_rows(graded.rows)
    log_scale = graded.exponent * np.log(2.0) + log_size
    n, k = log_scale.shape
    turn = np.broadcast_to(np.eye(k), (n, k, k)).copy()  # W^T
    tolerance = k * float(np.finfo(np.float64).eps)
    order = np.arange(k + k % 2)
    for _ in range(MAX_JACOBI_SWEEPS if k > 1 else 0):
        worst = 0.0
        for _ in range(order.size - 1):
            half = order.size // 2
            first, second = order[:half], order[: half - 1 : -1]
            real = (first < k) & (second < k)  # an odd k sits one row out
            worst = max(worst, _rotate(rows, log_scale, turn, first[real], second[real]))
            order = np.concatenate([order[:1], order[-1:], order[1:-1]])
        if worst <= tolerance:
            break
    down = np.argsort(-log_scale, axis=1, kind="stable")
    log_values = np.take_along_axis(log_scale, down, axis=1)
    left, right = (np.swapaxes(np.take_along_axis(x, down[:, :, None], axis=1), 1, 2) for x in (turn, rows))
    return log_values, left, right


def _rotate(
    rows: NDArray[np.float64],
    log_scale: NDArray[np.float64],
    turn: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> float:
    """Make disjoint pairs of rows orthogonal, in place; the largest cosine there was."""
    swap = log_scale[:, first] < log_scale[:, second]
    big, small = np.where(swap, second, first), np.where(swap, first, second)
    at = np.arange(rows.shape[0])[:, None]
    a, b, t_a, t_b = rows[at, big], rows[at, small], log_scale[at, big], log_scale[at, small]
    cosine = np.sum(a * b, axis=-1)
    # x_a = e^{t_a} a, x_b = e^{t_b} b, ratio = e^{t_b - t_a} <= 1: the rotation by tan = ratio g makes them orthogonal.
    finite = np.isfinite(t_b)  # else b is a zero row, and a may be one
    ratio = np.where(finite, np.exp(np.where(finite, t_b, 0.0) - np.where(finite, t_a, 0.0)), 0.0)
    spread = (1 - ratio) * (1 + ratio)
    below = spread + np.sqrt(spread * spread + (2 * ratio * cosine) ** 2)
    g = np.where(cosine == 0, 0.0, 2 * cosine / np.where(below > 0, below, 1.0))
    tangent = ratio * g
    cos = 1 / np.sqrt(1 + tangent * tangent)
    new_a, log_a = unit_rows(a + (ratio * tangent)[..., None] * b)
    new_b, log_b = unit_rows(b - g[..., None] * a)
    rows[at, big], rows[at, small] = new_a, new_b
    log_scale[at, big], log_scale[at, small] = t_a + log_a + np.log(cos), t_b + log_b + np.log(cos)
    w_a, w_b = turn[at, big], turn[at, small]
    turn[at, big] = cos[..., None] * (w_a + tangent[..., None] * w_b)
    turn[at, small] = cos[..., None] * (w_b - tangent[..., None] * w_a)
    return float(np.abs(cosine).max(initial=0.0))
