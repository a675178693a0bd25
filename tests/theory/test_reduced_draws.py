"""Coordinates of uniform vectors and blocks of Haar frames made of normal variables alone, at any dimension."""

import numpy as np
import pytest
from scipy import stats

from tests.helpers.chains import EPS
from theory.chains.directions import haar_orthogonal
from theory.simulators.draws import coordinates, draw_layers, haar_columns

# Two samples of 4000: Kolmogorov-Smirnov at level 1e-4 refuses a difference of distribution functions of 0.05, and
# finds one of 0.08 with probability above 0.99 (2.7 deviations of at most 0.0112). Seeds are fixed;
# 1e-4 is what a change of seed may cost.
N, LEVEL = 4000, 1e-4


@pytest.mark.parametrize(("ambient", "count"), [(1, 2), (2, 3), (3, 3), (4, 3), (7, 1), (40, 3)])
def test_coordinates_are_those_of_a_uniform_unit_vector(ambient: int, count: int) -> None:
    rng = np.random.default_rng(ambient)
    found, rest = coordinates(rng.standard_normal((2 * -(-count // 2), N)), ambient, count)
    np.testing.assert_allclose(sum(x * x for x in found) + rest**2, 1, atol=16 * EPS)
    whole = rng.standard_normal((max(ambient, count), N))
    whole[ambient:] = 0
    whole /= np.linalg.norm(whole, axis=0)
    for statistic in (lambda x: x[0], lambda x: x[-1], lambda x: np.round(np.sum(x[:2] ** 2, axis=0), 12)):
        got, expected = statistic(np.stack(found)), statistic(whole[:count])
        assert stats.ks_2samp(got, expected, method="asymp").pvalue > LEVEL


@pytest.mark.parametrize("ambient", [10**6, 10**9])
def test_coordinates_are_nearly_normal_in_a_large_dimension(ambient: int) -> None:
    """They and their rest keep their digits there: sqrt(D) x is normal to 1 / D."""
    found, rest = coordinates(np.random.default_rng(0).standard_normal((2, N)), ambient, 2)
    assert stats.kstest(np.sqrt(ambient) * found[1], "norm").pvalue > LEVEL
    np.testing.assert_allclose(1 - rest, (found[0] ** 2 + found[1] ** 2) / 2, atol=4 * EPS, rtol=1e-3)


@pytest.mark.parametrize(("ambient", "seen"), [(2, 2), (2, 3), (3, 2), (4, 3), (5, 4), (30, 3)])
def test_haar_columns_are_orthonormal_with_the_law_of_haar_matrices(ambient: int, seen: int) -> None:
    rng = np.random.default_rng(10 * ambient + seen)
    top, rest = haar_columns(rng.standard_normal((4 * -(-seen // 2), N)), ambient, seen, 2)
    frame = np.array([*top, *rest]).transpose(2, 0, 1)
    np.testing.assert_allclose(frame.swapaxes(1, 2) @ frame, np.broadcast_to(np.eye(2), (N, 2, 2)), atol=32 * EPS)
    shown = frame[:, : min(seen, ambient)]
    dense = haar_orthogonal(rng, ambient, (N,))[:, : min(seen, ambient), :2]
    for statistic in (
        lambda x: x[:, 0, 0],
        lambda x: x[:, 1, 1],
        lambda x: x[:, 0, 0] + x[:, 1, 1],  # the trace tells a frame whose signs are not free
        lambda x: x[:, 0, 0] * x[:, 1, 1] - x[:, 0, 1] * x[:, 1, 0],
        lambda x: x[:, 0, 1] * x[:, 1, 1],
    ):
        # Rounded, as a determinant or trace in two dimensions may be one value up to rounding.
        assert stats.ks_2samp(statistic(shown).round(9), statistic(dense).round(9)).pvalue > LEVEL


def test_draws_of_a_shallower_chain_begin_those_of_a_deeper_one() -> None:
    def draws(depth: int, seed: int = 3):
        return list(
            draw_layers(seed, range(2), depth, 50, shown=3, context_dimension=2, isotropic=True, dtype="float64")
        )

    for shallow, deep in zip(draws(2), draws(4), strict=False):
        np.testing.assert_array_equal(shallow.new, deep.new)
        np.testing.assert_array_equal(shallow.top, deep.top)
    assert not np.array_equal(draws(1)[0].new, draws(1, seed=4)[0].new)
    first, second = np.split(np.asarray(draws(1)[0].new), 2, axis=1)
    assert not np.array_equal(first, second)
