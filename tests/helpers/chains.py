"""Chains with prescribed spectra for the tests of theory, and Hypothesis strategies over their numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from observables import ChainParameters

EPS = float(np.finfo(np.float64).eps)


def unit_floats(low: float = 0.0, high: float = 1.0) -> st.SearchStrategy[float]:
    """Numbers of [low, high], with no subnormals (JAX on CPU flushes them)."""
    return st.floats(low, high, allow_subnormal=False)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of a NumPy generator."""
    return st.integers(0, 2**32 - 1)


def uniform_parameters(
    depth: int,
    *,
    sigma: float = 1.0,
    gap: float = 0.0,
    alignment: float = 1.0,
    along: float = 1.0,
    across: float = 0.0,
    bulk_gap: float | None = None,
) -> ChainParameters:
    """The same numbers in every layer."""
    return ChainParameters(
        sigma=np.full(depth, sigma),
        gap=np.full(depth, gap),
        alignment=np.concatenate([[np.nan], np.full(depth - 1, alignment)]),
        injection_along=np.full(depth, along),
        injection_across=np.full(depth, across),
        bulk_gap=None if bulk_gap is None else np.full(depth, bulk_gap),
    )


def random_parameters(rng: np.random.Generator, depth: int) -> ChainParameters:
    """Numbers that vary by layer; half of the draws have some near the ends of their ranges."""
    kappa = rng.uniform(0, 1, depth)
    xi = rng.uniform(0, 1, depth)
    if rng.random() < 0.5:
        kappa, xi = 1 - kappa**4, xi**4
    return ChainParameters(
        sigma=rng.uniform(0.3, 2.5, depth),
        gap=xi,
        alignment=kappa,
        injection_along=rng.uniform(0, 2, depth) * (rng.random(depth) < 0.8),
        injection_across=rng.uniform(0, 1, depth) * (rng.random(depth) < 0.8),
    )


def dense_product(propagators: NDArray[np.float64]) -> NDArray[np.float64]:
    """A_L ... A_1, by plain multiplication: the oracle for short chains."""
    product = np.eye(propagators.shape[-1])
    for a in propagators:
        product = a @ product
    return product


def dense_jacobian(propagators: NDArray[np.float64], injections: NDArray[np.float64]) -> NDArray[np.float64]:
    """J_L by the sum over layers of P_{L:k+1} B_k: another route than the recurrence."""
    total = np.zeros_like(injections[0])
    for k in range(len(propagators)):
        term = injections[k]
        for a in propagators[k + 1 :]:
            term = a @ term
        total = total + term
    return total


def rounding(depth: int, dimension: int) -> float:
    """Relative error that rounding makes of a product of `depth` square matrices, in units of prod ||A_l||.

    Each product errs by at most d eps of the product of the norms; 4 covers the SVD and the generator besides.
    """
    return 4 * depth * dimension * EPS
