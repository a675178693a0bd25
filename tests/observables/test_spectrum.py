"""Proxies of a spectrum (O2), (O5), (O6) against their oracles, in every array library."""

import math
from typing import Any

import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import observables
from tests.helpers.chains import EPS

torch.set_num_threads(1)

HARMONIC = 1.0 / np.arange(1, 101)

LIBRARIES = {
    "numpy": np.asarray,
    "torch": torch.tensor,
    "jax": lambda x: jnp.asarray(x),
    "strict": array_api_strict.asarray,
    "list": list,
}


def test_O2_entropy_ranks_of_the_harmonic_singular_values() -> None:
    assert observables.effective_rank(HARMONIC, 100) == pytest.approx(39.677, abs=5e-4)
    assert observables.effective_rank(HARMONIC**2, 100) == pytest.approx(4.808, abs=5e-4)


@settings(deadline=None)
@given(k=st.integers(1, 60), scale=st.floats(1e-150, 1e150))
def test_equal_eigenvalues_have_every_rank_k(k: int, scale: float) -> None:
    values = np.full(60, scale)
    for rank in (observables.effective_rank, observables.participation_ratio, observables.stable_rank):
        assert rank(values, k) == pytest.approx(k, rel=4 * k * EPS)


@settings(deadline=None)
@given(values=st.lists(st.floats(1e-8, 1e8), min_size=3, max_size=30), scale=st.floats(1e-3, 1e3))
def test_ranks_are_ordered_scale_free_and_within_k(values: list[float], scale: float) -> None:
    spectrum = np.sort(np.array(values))[::-1]
    k = spectrum.size
    slack = 1 + 16 * k * EPS
    entropy, participation, stable = (
        f(spectrum, k) for f in (observables.effective_rank, observables.participation_ratio, observables.stable_rank)
    )
    # Renyi entropies of order 1, 2 and infinity
    assert 1 / slack <= stable <= participation * slack
    assert participation <= entropy * slack and entropy <= k * slack
    assert observables.effective_rank(scale * spectrum, k) == pytest.approx(entropy, rel=64 * k * EPS)


def test_O5_identity_covariance_has_kirchhoff_index_k_squared() -> None:
    assert observables.kirchhoff_index(np.ones(80)) == 2500
    assert observables.kirchhoff_index(np.ones(80), 10) == 100
    assert observables.kirchhoff_index([4.0, 2.0, 1.0], 3) == 3 * (0.25 + 0.5 + 1)


def test_O5_floor_replaces_what_lies_below_it() -> None:
    assert observables.kirchhoff_index([1.0, 0.5, 0.0], 3, floor=0.25) == 3 * (1 + 2 + 4)
    assert math.isnan(observables.kirchhoff_index([1.0, 0.5, 0.0], 3))
    assert math.isnan(observables.kirchhoff_index([1.0, np.nan, 0.0], 3, floor=0.25))
    with pytest.raises(ValueError, match="floor must be positive"):
        observables.kirchhoff_index([1.0], 1, floor=0.0)


def test_O6_tail_ratio() -> None:
    np.testing.assert_array_equal(observables.tail_ratio([4.0, 3.0, 2.0], [4.0, 2.0, 1.0], 3), [1.0, 1.5, 2.0])
    assert np.isnan(observables.tail_ratio([4.0, 3.0, 0.0], [4.0, 2.0, 1.0], 3)).all()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.ones(50), "ok"),
        (np.ones(49), "too_few_eigenvalues"),
        (np.concatenate([np.ones(49), [0.0]]), "too_few_eigenvalues"),
        (np.concatenate([np.ones(49), [-1e-18]]), "too_few_eigenvalues"),
        (np.concatenate([[np.inf], np.ones(60)]), "non_finite"),
        (np.concatenate([np.ones(60), [np.nan]]), "non_finite"),
        (np.array([]), "too_few_eigenvalues"),
    ],
)
def test_too_few_eigenvalues_give_nan_with_a_reason(values: np.ndarray, code: str) -> None:
    assert observables.reason(values, 50) == code
    for proxy in (
        observables.effective_rank,
        observables.participation_ratio,
        observables.stable_rank,
        observables.kirchhoff_index,
    ):
        assert math.isnan(proxy(values, 50)) == (code != "ok")


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_the_numpy_result(library: str) -> None:
    values = np.asarray(HARMONIC**2, dtype=np.float32).astype(np.float64)  # exact in float32, JAX's default
    array: Any = LIBRARIES[library](values)
    for proxy in (
        observables.effective_rank,
        observables.participation_ratio,
        observables.stable_rank,
        observables.kirchhoff_index,
    ):
        result = proxy(array)
        assert type(result) is float
        assert result == proxy(values)
    assert observables.spectral_alpha(array) == observables.spectral_alpha(values)
    assert observables.share_of_first(array, 10.0) == observables.share_of_first(values, 10.0)


def test_gradients_and_half_precision_pass_the_border() -> None:
    values = torch.tensor([4.0, 2.0, 1.0], requires_grad=True)
    assert observables.effective_rank(values, 3) == observables.effective_rank([4.0, 2.0, 1.0], 3)
    assert observables.effective_rank(values.bfloat16(), 3) == observables.effective_rank([4.0, 2.0, 1.0], 3)


@pytest.mark.parametrize(
    ("values", "k", "message"),
    [
        ([1.0, 2.0], 1, "eigenvalues must be descending"),
        ([[1.0]], 1, "eigenvalues must be one-dimensional"),
        ([1.0], 0, "k must be an integer of at least 1"),
        ([1.0], 1.5, "k must be an integer"),
        ([1j], 1, "eigenvalues must be real"),
        (["a"], 1, "could not convert"),
    ],
)
def test_bad_input_is_refused(values: list, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observables.effective_rank(values, k)


def test_share_of_first() -> None:
    assert observables.share_of_first([3.0, 1.0], math.sqrt(10.0)) == pytest.approx(0.9, rel=4 * EPS)
    assert observables.share_of_first(np.array([2.0]), 2.0 * (1 - 1e-7)) == 1.0
    assert math.isnan(observables.share_of_first([0.0], 0.0))
    assert math.isnan(observables.share_of_first([np.nan], 1.0))
    with pytest.raises(ValueError, match=r"frobenius must be at least s\[0\]"):
        observables.share_of_first([2.0], 1.0)
    with pytest.raises(ValueError, match="at least one singular value"):
        observables.share_of_first([], 1.0)
