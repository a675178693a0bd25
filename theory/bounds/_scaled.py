"""Dense matrices with an exponent of their own, and a chain's layers as such: the host side of (T17) and (T25)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import numpy as np
from numpy.typing import NDArray

from theory.bounds._wide import ZERO, Wide, wide
from theory.chains.chain import Chain

__all__ = ["ScaledMatrix", "dense_layers", "scaled", "shifted", "sum_of"]


@dataclass(frozen=True, slots=True)
class ScaledMatrix:
    """matrix * 2**exponent; the largest entry of `matrix` lies in [1/2, 1), or the matrix is 0 with exponent 0."""

    matrix: NDArray[np.float64]
    exponent: int

    @property
    def T(self) -> ScaledMatrix:
        """Transpose."""
        return ScaledMatrix(self.matrix.T, self.exponent)

    def __matmul__(self, other: ScaledMatrix) -> ScaledMatrix:
        return scaled(self.matrix @ other.matrix, self.exponent + other.exponent)

    def __add__(self, other: ScaledMatrix) -> ScaledMatrix:
        return sum_of(self, other)

    def __sub__(self, other: ScaledMatrix) -> ScaledMatrix:
        return sum_of(self, ScaledMatrix(-other.matrix, other.exponent))

    def singular_values(self) -> list[Wide]:
        """Descending."""
        values = np.linalg.svd(self.matrix, compute_uv=False)
        return [shifted(float(value), self.exponent) for value in values]

    def norm(self) -> Wide:
        """Operator norm."""
        if not self.matrix.size or not self.matrix.any():
            return ZERO
        if 1 in self.matrix.shape:
            return shifted(float(np.linalg.norm(self.matrix)), self.exponent)
        return self.singular_values()[0]


def scaled(matrix: NDArray[np.float64], exponent: int = 0) -> ScaledMatrix:
    """A finite matrix times 2**exponent, exactly."""
    shift = math.frexp(float(np.max(np.abs(matrix), initial=0.0)))[1]
    if shift == 0 and not matrix.any():
        return ScaledMatrix(matrix, 0)
    return ScaledMatrix(np.ldexp(matrix, -shift), exponent + shift)


def sum_of(first: ScaledMatrix, second: ScaledMatrix) -> ScaledMatrix:
    """first + second; what of the smaller underflows is below the larger one's rounding."""
    if not first.matrix.any():
        return second
    if not second.matrix.any():
        return first
    top = max(first.exponent, second.exponent)
    total = np.ldexp(first.matrix, first.exponent - top) + np.ldexp(second.matrix, second.exponent - top)
    return scaled(total, top)


def shifted(value: float, exponent: int) -> Wide:
    """value * 2**exponent."""
    number = wide(value)
    return Wide(number.fraction, number.exponent + exponent) if number.fraction else ZERO


def dense_layers(
    chain: Chain | NDArray[np.float64], injections: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The A_l, shape (L, d, d), and B_l, shape (L, d, m), of one chain, as float64 on the host.

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if the shapes disagree, the chain is batched or empty, or an entry is not finite.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((chain, injections))):
        raise TypeError("chain must hold concrete arrays: these bounds are computed on the host; got a tracer")
    a: Any = chain.propagators if isinstance(chain, Chain) else chain
    b: Any = chain.injections if isinstance(chain, Chain) else injections
    if b is None:
        raise ValueError("injections must be given with propagators; got None")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 3 or a.shape[1] != a.shape[2] or 0 in a.shape:
        raise ValueError(f"chain must be one chain with propagators of shape (L, d, d), L and d >= 1; got {a.shape}")
    if b.ndim != 3 or b.shape[:2] != a.shape[:2] or b.shape[2] == 0:
        raise ValueError(f"injections must have shape {a.shape[:2]} + (m,), m >= 1; got {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("propagators and injections must be finite; got a non-finite entry")
    return a, b
