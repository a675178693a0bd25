"""Exact oracles (T22) and the typical case (T18)-(T21), each with a tolerance from its variance."""

import jax
import numpy as np
import pytest
from scipy.special import polygamma

import theory
from tests.helpers.chains import EPS
from theory.propagation.reduction import direction_coordinates, log_singular_values


def test_T22_gaussian_layers_have_newmans_exponents() -> None:
    """ln|R_ii| along depth is half ln chi^2_{d-i+1} / d, independent by layer: variance psi'((d-i+1)/2) / 4 a layer.

    The log-singular values of the product differ from these sums by O(1) in all, which 200 layers make 1 / 200.
    """
    d, depth, chains = 5, 200, 60
    chain = theory.gaussian_chain(depth, d, np.random.default_rng(1), scale=1.5, batch=(chains,))
    found = theory.lyapunov_exponents(chain)
    exact = theory.newman_exponents(d, scale=1.5)
    error = np.sqrt(polygamma(1, (d + 1 - np.arange(1, d + 1)) / 2) / 4 / depth / chains)
    assert (np.abs(found.mean(axis=0) - exact) < 4 * error + 1.0 / depth).all()
    # The sum is ln |det| / L, with no such remainder: the independent variances add.
    total = np.sqrt(np.sum(error**2))
    assert abs(found.sum(axis=1).mean() - exact.sum()) < 4 * total
    assert found.sum(axis=1).std(ddof=1) == pytest.approx(total * np.sqrt(chains), rel=4 / np.sqrt(2 * chains))


def test_T22_newmans_exponents_have_their_closed_forms() -> None:
    # d = 1: E ln |g| = -(gamma + ln 2) / 2; for large d the first tends to 0 from below like -1 / (2 d).
    assert theory.newman_exponents(1)[0] == pytest.approx(-(np.euler_gamma + np.log(2)) / 2, rel=4 * EPS)
    assert theory.newman_exponents(10**5, 1)[0] == pytest.approx(-0.5e-5, rel=1e-4)
    np.testing.assert_allclose(theory.newman_exponents(7, 3, 2.0), theory.newman_exponents(7)[:3] + np.log(2))
    for arguments, message in (((3, 4), "k must be at most the dimension 3; got 4"), ((0,), "dimension must be")):
        with pytest.raises(ValueError, match=message):
            theory.newman_exponents(*arguments)
    with pytest.raises(ValueError, match="scale must be positive and finite; got 0"):
        theory.newman_exponents(3, scale=0.0)


def test_T22_random_directions_have_the_exact_mean_and_root_mean_square() -> None:
    """n kappa^2 has mean n / d, and d kappa^2 variance 2 (d - 1) / (d + 2): the tolerances are 4 standard errors."""
    n = 20000
    for d in (1, 2, 3, 64):
        sample = theory.measured_random_alignment(d, n, np.random.default_rng(d))
        mean = theory.mean_random_alignment(d)
        assert abs(sample.mean() - mean) <= 4 * np.sqrt(max(0.0, 1 / d - mean**2) / n) + 4 * EPS
        assert abs(np.mean(sample**2) * d - 1) <= 4 * np.sqrt(2 * (d - 1) / (d + 2) / n) + 4 * EPS


def grown(alignment: float, gap: float, d: int, depths: tuple[int, int], n: int) -> np.ndarray:
    """ln sigma_1 and ln sigma_2 / sigma_1 of flat random chains, a layer between two depths, shape (2, n)."""
    w = direction_coordinates(np.array([alignment]), d, np.random.default_rng(d), n, depths[1])[0]
    two = [log_singular_values(w[:, :depth], np.full((n, depth), gap), np.ones((n, depth))) for depth in depths]
    first, second = (np.subtract(two[1][i], two[0][i]) / (depths[1] - depths[0]) for i in (0, 1))
    return np.stack([first, second - first])


@pytest.mark.parametrize("d", [500, 5000])
def test_T18_T19_T21_coherent_growth_collapse_and_width(d: int) -> None:
    kappa, xi, n = 0.7, 0.4, 64
    growth, collapse = grown(kappa, xi, d, (20, 40), n)
    width = float(theory.crossover_width(kappa, xi, 20, d))
    # The mean of ln p drifts by minus half its variance a layer, 20 width^2.
    assert abs(growth.mean() - np.log(theory.typical_growth(kappa, xi))) < 4 * width / np.sqrt(n) + 10 * width**2
    # The width itself: a sample standard deviation errs by 1 / sqrt(2 n); q / p is at its limit only to xi^2 / kappa^2.
    assert growth.std(ddof=1) == pytest.approx(width, rel=4 / np.sqrt(2 * n))
    # sigma_2 belongs to the bulk, whose largest value stands out by sqrt(L / d) in all: that over 20 layers.
    edge = np.sqrt(20 / d) / 20
    error = collapse.std(ddof=1) / np.sqrt(n)
    assert abs(collapse.mean() - float(theory.typical_log_ratio(kappa, xi))) < 4 * error + edge


@pytest.mark.parametrize("d", [500, 5000])
def test_T18_T19_dispersive_growth_has_the_rate_of_the_bulk_and_no_collapse(d: int) -> None:
    kappa, xi, n = 0.3, 0.5, 32
    growth, collapse = grown(kappa, xi, d, (20, 40), n)
    edge = np.sqrt(20 / d) / 20
    for sample, expected in (
        (growth, np.log(theory.typical_growth(kappa, xi))),
        (collapse, theory.typical_log_ratio(kappa, xi)),
    ):
        assert abs(sample.mean() - float(expected)) < 4 * sample.std(ddof=1) / np.sqrt(n) + 2 * edge


def test_T20_the_turn_of_the_image_settles_at_its_fixed_point() -> None:
    """Chains give independent means over depth; their spread is the tolerance, with 1 / d for the mean of a ratio."""
    kappa, xi, d, chains = 0.7, 0.4, 100, 24
    chain = theory.flat_chain(
        30, d, np.random.default_rng(5), gap=xi, alignment=kappa, isometry="reflection", batch=(chains,)
    )
    turn = np.exp(theory.dominant_path(chain).across_over_along.log_value[:, 12:]).mean(axis=1)
    expected = float(theory.typical_across_over_along(kappa, xi))
    assert abs(turn.mean() - expected) < 4 * turn.std(ddof=1) / np.sqrt(chains) + 1 / d
    assert turn.std(ddof=1) / np.sqrt(chains) < 0.015


def test_typical_rates_at_their_edges() -> None:
    np.testing.assert_array_equal(theory.typical_growth([0.2, 0.8], 0.5), [0.5, 0.8])
    assert theory.typical_log_ratio(0.5, 0.5) == 0 and theory.typical_log_ratio(0.5, 0.0) == -np.inf
    assert theory.typical_log_ratio(0.0, 0.0) == 0
    assert theory.typical_across_over_along(0.3, 0.5) == np.inf and theory.typical_across_over_along(1.0, 0.5) == 0
    assert theory.typical_across_over_along(1.0, 1.0) == 0
    r = float(theory.typical_across_over_along(0.8, 0.3))
    assert 0.3 * np.sqrt(0.36 + r * r) / 0.8 == pytest.approx(r, rel=8 * EPS)
    assert theory.crossover_width(0.3, 0.5, 10, 10) == np.inf and theory.crossover_width(1.0, 0.5, 10, 10) == 0
    quarter = theory.crossover_width(0.8, 0.3, [10, 40], 101)
    assert quarter[0] == pytest.approx(2 * quarter[1], rel=4 * EPS)
    for call, message in (
        (lambda: theory.typical_growth(1.1, 0.5), r"alignment must lie in \[0, 1\]; got 1.1"),
        (lambda: theory.typical_log_ratio(0.5, -0.1), r"bulk_gap must lie in \[0, 1\]; got -0.1"),
        (lambda: theory.typical_across_over_along(np.nan, 0.5), r"alignment must lie in \[0, 1\]; got nan"),
        (lambda: theory.crossover_width(0.5, 0.5, 0, 10), "depth must be an integer of at least 1; got 0"),
        (lambda: theory.crossover_width(0.5, 0.5, 1, 1), "dimension must be an integer of at least 2; got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_jax_defaults_are_left_alone() -> None:
    theory.lyapunov_exponents(theory.twisted_chain(0.5, 0.5, 3))
    assert not jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
