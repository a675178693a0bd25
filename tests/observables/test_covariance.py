"""Mergeable covariance sums: any grouping gives the covariance of all rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import observables
from observables import CovarianceSums
from tests.helpers.chains import EPS, seeds


@settings(deadline=None)
@given(seed=seeds(), cuts=st.lists(st.integers(0, 40), max_size=4), offset=st.floats(-1e3, 1e3))
def test_any_grouping_merges_to_the_covariance_of_all_rows(seed: int, cuts: list[int], offset: float) -> None:
    rows = offset + np.random.default_rng(seed).standard_normal((40, 5))
    parts = [CovarianceSums.from_rows(part) for part in np.split(rows, sorted(cuts))]
    left = parts[0]
    for part in parts[1:]:
        left = left.merge(part)
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part.merge(right)
    whole = np.cov(rows, rowvar=False)
    # Means err by eps |x|; their squares enter 40 times. Cancellation of the offset is what is left.
    tolerance = 40 * EPS * (1 + abs(offset)) * 10
    for sums in (left, right):
        assert sums.n == 40
        np.testing.assert_allclose(sums.covariance(), whole, atol=tolerance)
        np.testing.assert_allclose(sums.mean, rows.mean(axis=0), atol=40 * EPS * (1 + abs(offset)))


def test_merging_is_exact_where_arithmetic_is() -> None:
    """Rows of small integers whose means are dyadic: every step is exact in float64."""
    a, b = np.array([[0.0, 4.0], [2.0, 8.0]]), np.array([[8.0, -4.0], [2.0, 0.0]])
    merged = CovarianceSums.from_rows(a).merge(CovarianceSums.from_rows(b))
    whole = CovarianceSums.from_rows(np.concatenate([a, b]))
    np.testing.assert_array_equal(merged.mean, whole.mean)
    np.testing.assert_array_equal(merged.m2, whole.m2)


def test_no_rows_are_the_unit_of_merging() -> None:
    some = CovarianceSums.from_rows(np.arange(6.0).reshape(3, 2))
    none = CovarianceSums.from_rows(np.zeros((0, 2)))
    for merged in (some.merge(none), none.merge(some)):
        np.testing.assert_array_equal(merged.m2, some.m2)
        assert merged.n == 3


def test_twenty_tokens_have_nineteen_eigenvalues() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 96)).astype(np.float32)
    for values in (CovarianceSums.from_rows(rows).eigenvalues(), observables.covariance_eigenvalues(rows)):
        assert np.count_nonzero(values) == 19
        assert (values[:19] > 0).all() and (np.diff(values) <= 0).all()
        assert observables.reason(values, 19) == "ok"
        assert observables.reason(values, 20) == "too_few_eigenvalues"


def test_repeated_rows_add_no_rank() -> None:
    rows = np.repeat(np.random.default_rng(1).standard_normal((4, 9)), 6, axis=0)
    assert np.count_nonzero(CovarianceSums.from_rows(rows).eigenvalues()) == 3
    assert np.count_nonzero(observables.covariance_eigenvalues(rows)) == 3
    assert not observables.covariance_eigenvalues(np.ones((5, 3))).any()


def test_singular_values_see_what_the_covariance_cannot() -> None:
    rng = np.random.default_rng(2)
    q = np.linalg.qr(rng.standard_normal((40, 4)) - 0)[0]
    q -= q.mean(axis=0)
    q = np.linalg.qr(q)[0]
    rows = q * np.array([1.0, 1e-3, 1e-6, 1e-10])
    values = observables.covariance_eigenvalues(rows)
    np.testing.assert_allclose(values * 39, [1.0, 1e-6, 1e-12, 1e-20], rtol=1e-4)
    assert np.count_nonzero(CovarianceSums.from_rows(rows).eigenvalues()) < 4


def test_uncentred_moment_and_library_input() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    sums = CovarianceSums.from_rows(rows)
    np.testing.assert_allclose(sums.second_moment(), rows.numpy().T @ rows.numpy() / 2, rtol=4 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CovarianceSums.from_rows(np.ones(3)), "X must have shape"),
        (lambda: CovarianceSums.from_rows([[1.0, np.nan]]), "X must be finite; got 1 non-finite"),
        (lambda: CovarianceSums.from_rows([[1.0, 2.0]]).covariance(), "at least 2 rows; got 1"),
        (lambda: observables.covariance_eigenvalues([[1.0, 2.0]]), "at least 2 rows; got 1"),
        (lambda: CovarianceSums.from_rows(np.ones((0, 2))).second_moment(), "at least 1 row"),
        (
            lambda: CovarianceSums.from_rows(np.ones((2, 2))).merge(CovarianceSums.from_rows(np.ones((2, 3)))),
            "features must agree",
        ),
        (lambda: CovarianceSums(3, np.ones(2), np.ones((3, 3))), "n must not be negative"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
