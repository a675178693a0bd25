"""(T34): the exact moments of the first direction's norm, and the width they give, against random chains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from theory.phase.early_moments import dispersive_excess, dispersive_width, early_moments
from theory.propagation.reduction import direction_coordinates
from theory.regimes.typical import crossover_width


def squared_norms(alignment, gap, depth, dimension, draws, seed):
    """||P_{L:2} u_1||^2 from the pulled-back directions themselves, layer by layer: no (p, q) recursion."""
    w = direction_coordinates(np.array([alignment]), dimension, np.random.default_rng(seed), draws, depth)[0]
    x = w[:, 0].copy()  # u_1 pulled back is w_1
    for layer in range(1, depth):
        along = np.sum(w[:, layer] * x, axis=1, keepdims=True)
        x = gap * x + (1 - gap) * along * w[:, layer]
    return np.sum(x * x, axis=1)


@pytest.mark.parametrize(
    ("alignment", "gap", "depth", "dimension"),
    [(0.7, 0.4, 6, 5), (0.3, 0.6, 9, 12), (0.2, 0.5, 4, 2), (0.4, 0.4, 8, 3)],
)
def test_moments_of_the_squared_norm_are_exact(alignment, gap, depth, dimension):
    n = 40_000
    values = squared_norms(alignment, gap, depth, dimension, n, seed=5)
    found = early_moments(alignment, gap, [depth], dimension)
    mean = np.exp(2 * found.log_root_mean_square[0])
    error = values.std(ddof=1) / np.sqrt(n)
    assert abs(values.mean() - mean) < 4 * error  # 6e-5 a case if the formula is right
    # The variance's own error from the fourth central moment; a Var 5 % off would be caught at all four points.
    centred = (values - mean) ** 2
    variance = mean**2 * found.relative_variance[0]
    assert abs(centred.mean() - variance) < 4 * centred.std(ddof=1) / np.sqrt(n)


def test_second_moment_after_two_layers_is_the_integral_over_one_direction():
    kappa, xi, d = 0.6, 0.3, 7
    s = np.sqrt(1 - kappa**2)
    # x after layer 2 is (kappa, xi s); layer 3 sees a with density (1 - a^2)^((d - 4) / 2).
    p, q = kappa, xi * s

    def square(a):
        m = kappa * p + s * q * a
        return m**2 + xi**2 * (p**2 + q**2 - m**2)

    weight = stats.beta(0.5, (d - 2) / 2)
    mean = integrate.quad(lambda b: weight.pdf(b) * (square(np.sqrt(b)) + square(-np.sqrt(b))) / 2, 0, 1)[0]
    fourth = integrate.quad(lambda b: weight.pdf(b) * (square(np.sqrt(b)) ** 2 + square(-np.sqrt(b)) ** 2) / 2, 0, 1)[0]
    found = early_moments(kappa, xi, [3], d)
    np.testing.assert_allclose(np.exp(2 * found.log_root_mean_square[0]), mean, rtol=1e-8)
    np.testing.assert_allclose(found.relative_variance[0], fourth / mean**2 - 1, rtol=1e-6)


@pytest.mark.parametrize("alignment", [0.9, 0.7, 0.4, 0.3])
def test_width_of_T34_meets_chains_on_both_sides_of_the_split(alignment):
    gap, depth, dimension, n = 0.4, 12, 4096, 4000
    logs = np.log(squared_norms(alignment, gap, depth, dimension, n, seed=8)) / 2
    predicted = early_moments(alignment, gap, [depth], dimension)
    # ln of a sample standard deviation errs by 1 / sqrt(2 n) = 1.1 %; 5 % is 4.5 of that.
    assert abs(np.log(logs.std(ddof=1) / predicted.log_deviation[0])) < 0.05
    assert abs(logs.mean() - predicted.log_mean[0]) < 4 * logs.std() / np.sqrt(n) + 1e-6


def test_T34_becomes_T21_where_the_start_is_forgotten():
    depth, dimension = 100_000, 10**6
    found = early_moments(0.7, 0.4, [1000, depth], dimension).log_deviation
    # The start from q / p = 0 adds a constant to a variance that grows with L: their difference has none.
    slope = np.sqrt((found[1] ** 2 - found[0] ** 2) / (depth - 1000))
    predicted = crossover_width(0.7, 0.4, 1, dimension)
    assert slope == pytest.approx(predicted, rel=1e-3)


def test_T34_becomes_the_dispersive_width_and_excess():
    kappa, xi, dimension = 0.3, 0.6, 10**5
    found = early_moments(kappa, xi, [10_000, 20_000], dimension)
    slope = np.sqrt((found.log_deviation[1] ** 2 - found.log_deviation[0] ** 2) / 10_000)
    assert slope == pytest.approx(float(dispersive_width(kappa, xi, 1, dimension)), rel=1e-3)
    rate = (found.log_mean[1] - found.log_mean[0]) / 10_000
    assert rate - np.log(xi) == pytest.approx(float(dispersive_excess(kappa, xi, dimension)), rel=1e-3)
    tenfold = dispersive_width(kappa, xi, 1, 10 * dimension) / dispersive_width(kappa, xi, 1, dimension)
    assert tenfold == pytest.approx(0.1, rel=1e-4)


def test_edges():
    aligned = early_moments(1.0, 0.5, [1, 7], 16)
    np.testing.assert_array_equal(aligned.log_deviation, 0)
    np.testing.assert_array_equal(aligned.log_mean, 0)
    dead = early_moments(0.0, 0.0, [3], 16)
    assert np.isneginf(dead.log_root_mean_square[0])
    assert np.isnan(dead.log_deviation[0])
    assert np.isnan(dispersive_width(0.5, 0.4, 8, 64))
    assert early_moments([0.2, 0.4], 0.5, [3, 4, 5], [[16], [32], [64]]).log_mean.shape == (3, 3, 2)
    with pytest.raises(ValueError, match="dimension must"):
        early_moments(0.5, 0.5, [3], 1)
