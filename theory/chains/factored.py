"""Residuals that are a multiple of the identity plus low rank, kept as factors: depth 1,000 at d = 1,280 fits."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

__all__ = ["Factored", "leading_triples", "row"]


def row(leaf: Any, layer: Any, trailing: int) -> Any:
    """One layer of a leaf whose layer axis is followed by `trailing` axes; a traced layer may select it.

    A traced index beyond the depth gives NaN, as it cannot raise.
    """
    index = (..., layer, *[slice(None)] * trailing)
    if isinstance(layer, jax.Array):
        return jax.numpy.asarray(leaf).at[index].get(mode="fill")
    return leaf[index]


def _transposed(x: Any) -> Any:
    return x.swapaxes(-1, -2)


class Factored(eqx.Module):
    """R_l = shift_l I + left_l right_l^T, batched over leading axes.

    Attributes:
        shift: shape (..., L).
        left: shape (..., L, d, r).
        right: shape (..., L, d, r).
    """

    shift: Float[Any, "*batch layers"]
    left: Float[Any, "*batch layers d r"]
    right: Float[Any, "*batch layers d r"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (..., L, d, d) of the dense residual."""
        return (*self.left.shape[:-1], self.left.shape[-2])

    @property
    def dtype(self) -> np.dtype:
        """Of the factors."""
        return np.dtype(self.left.dtype)

    def dense(self) -> Any:
        """R_l, shape (..., L, d, d)."""
        eye = np.eye(self.left.shape[-2], dtype=self.dtype)
        return self.shift[..., None, None] * eye + self.left @ _transposed(self.right)

    def apply(self, layer: Any, x: Any) -> Any:
        """R_l x for one 0-based layer, x of shape (..., d, k), in O(d r k)."""
        left, right = row(self.left, layer, 2), row(self.right, layer, 2)
        return row(self.shift, layer, 0)[..., None, None] * x + left @ (_transposed(right) @ x)

    def apply_transpose(self, layer: Any, x: Any) -> Any:
        """R_l^T x for one 0-based layer, x of shape (..., d, k), in O(d r k)."""
        left, right = row(self.left, layer, 2), row(self.right, layer, 2)
        return row(self.shift, layer, 0)[..., None, None] * x + right @ (_transposed(left) @ x)


def leading_triples(
    shift: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular values, u and v of shift I + left right^T, from a matrix of 2 r rows at most.

    The basis Q has k = min(d, 2 r) columns and spans those of both factors, so that the matrix maps span Q to itself
    and is shift I off it. For k < d, k = 2 r exceeds the number of columns of `right`, so that span Q holds a unit
    vector which right^T sends to 0 and the matrix to shift times itself: the largest singular value is always found in
    span Q. Where several are the largest, the triple is one of them.

    Args:
        shift: shape (...).
        left: shape (..., d, r).
        right: shape (..., d, r).

    Returns:
        The singular values in span Q, descending, shape (..., min(d, 2 r)); the other d - 2 r, if any, are |shift|.
        u and v, shape (..., d).
    """
    basis = np.linalg.qr(np.concatenate([left, right], axis=-1))[0]
    core = (_transposed(basis) @ left) @ (_transposed(right) @ basis)
    core += shift[..., None, None] * np.eye(basis.shape[-1])
    first, s, second = np.linalg.svd(core)
    return s, (basis @ first[..., :, :1])[..., 0], (basis @ _transposed(second)[..., :, :1])[..., 0]
