"""The plain NumPy loop that the simulators are timed against, and what it is given."""

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from theory.chains.directions import haar_orthogonal

DEPTH = 32


def isometries(d: int, chains: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the loop is given: orthogonal O_l and unit v_l, O_l v_l = u_l. At d = 1280 four serve all layers."""
    distinct = DEPTH if d <= 256 else 4
    turns = np.stack([haar_orthogonal(rng, d, (chains,)) for _ in range(distinct)], axis=1)
    v = np.empty((chains, DEPTH, d))
    before = np.zeros((chains, d))
    before[:, 0] = 1.0
    for layer in range(DEPTH):
        across = rng.standard_normal((chains, d))
        across -= np.sum(across * before, axis=1, keepdims=True) * before
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        v[:, layer] = 0.8 * before + 0.6 * across
        before = np.einsum("nij,nj->ni", turns[:, layer % distinct], v[:, layer])
    return turns, v


def loop(turns: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ln of the two leading singular values of P_L, chain by chain; sigma = 1.1, kappa = 0.8, xi = 0.5.

    For each chain: form the L dense layers from given isometries, multiply them (d x d), take the singular values.
    """
    found = np.empty((len(turns), 2))
    for n, (turn, directions) in enumerate(zip(turns, v, strict=True)):
        product, log_scale = np.eye(turn.shape[-1]), 0.0
        for layer, direction in enumerate(directions):
            o = turn[layer % len(turn)]
            a = 0.55 * o + 0.55 * np.outer(o @ direction, direction)
            product = a @ product
            size = np.linalg.norm(product)
            product, log_scale = product / size, log_scale + np.log(size)
        found[n] = np.log(np.linalg.svd(product, compute_uv=False)[:2]) + log_scale
    return found


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def skip_unless_one_thread() -> None:
    """Skip the test where BLAS may use more: it reads the number when it is loaded, so that it is too late to set."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.skip("set OMP_NUM_THREADS=1, as `make bench` does: the comparison is of one thread each")
