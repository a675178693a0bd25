"""Counterexamples check themselves; residual chains follow their exact second moments and typical growth."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp
from scipy import stats

import theory
from tests.helpers.chains import EPS, dense_product
from theory.counterexamples.exact import matrix, norm_exceeds, product, sigma_squared
from theory.counterexamples.residual import residual_run
from theory.counterexamples.typical import gain_tail, residual_gains

EVERYTHING = theory.counterexamples()


@pytest.mark.parametrize("one", EVERYTHING, ids=lambda one: one.name)
def test_a_counterexample_meets_every_hypothesis_and_refutes_its_statement(one):
    assert one.holds_paper_hypotheses
    assert one.verify()
    assert eval(one.line, {"np": np}), one.line
    # verify() is about the hypotheses too: with one that fails it says no.
    failing = tuple(replace(hypothesis, holds=False) for hypothesis in one.hypotheses)
    if failing:
        assert not replace(one, hypotheses=failing).verify()


@pytest.mark.parametrize("one", [one for one in EVERYTHING if one.layers is not None], ids=lambda one: one.name)
def test_its_chain_is_its_exact_layers_and_has_the_numbers_it_says(one):
    a = np.array([[[float(x) for x in row] for row in layer] for layer in one.layers])
    np.testing.assert_allclose(one.chain.propagators, a, atol=4 * EPS * np.abs(a).max())
    measured = theory.measure(one.chain)
    # a 2 x 2 SVD errs by a few eps of its norm
    np.testing.assert_allclose(measured.sigma, one.parameters.sigma, rtol=16 * EPS)
    np.testing.assert_allclose(measured.gap, one.parameters.gap, atol=16 * EPS)
    np.testing.assert_allclose(measured.alignment[1:], one.parameters.alignment[1:], atol=16 * EPS)


@pytest.mark.parametrize("one", theory.counterexamples("P1"), ids=lambda one: one.name)
def test_the_lemma_fails_there_by_the_measured_ratio_and_T12_holds(one):
    parameters = one.parameters
    claimed = float(theory.first_order_error(parameters.depth, parameters.alignment[1], parameters.gap[0]))
    assert one.claimed == pytest.approx(claimed, rel=16 * EPS)
    a = np.asarray(one.chain.propagators)
    path = np.prod(parameters.gain[1:]) * parameters.sigma[0] * np.outer(one.chain.u[-1], one.chain.v[0])
    error = np.linalg.norm(dense_product(a) - path, 2) / np.linalg.norm(path, 2)
    # a product of L 2 x 2 matrices, L - 1 cancelling subtractions
    assert one.measured == pytest.approx(error, rel=64 * EPS * parameters.depth / claimed)
    assert claimed < one.measured <= theory.perturbation_error(parameters.alignment, parameters.gap)


def test_two_layers_cannot_break_the_lemma():
    # sup over chains of ||P - P*|| / ||P*|| over 2 xi / kappa is (xi + sqrt(xi^2 + 4 s^2)) / 4 <= (1 + sqrt 5) / 4.
    rng = np.random.default_rng(0)
    for _ in range(300):
        kappa, xi, d = rng.uniform(0.01, 1), rng.uniform(0, 1), int(rng.integers(2, 5))
        chain = theory.flat_chain(2, d, rng, sigma=1.0, gap=xi, alignment=kappa)
        path = kappa * np.outer(chain.u[1], chain.v[0])
        error = np.linalg.norm(dense_product(np.asarray(chain.propagators)) - path, 2)
        s = math.sqrt((1 - kappa) * (1 + kappa))
        limit = xi * (xi + math.sqrt(xi * xi + 4 * s * s)) / 2
        assert error <= limit + 64 * EPS
        assert limit <= (1 + math.sqrt(5)) / 4 * 2 * xi + EPS


def test_the_lemma_fails_without_limit_as_alignment_falls_and_saturates_in_depth():
    def ratio(t: int, depth: int) -> float:
        x = 1e-9  # first order in the gap: the ratio is that of the derivatives to within 1e-6
        layer = np.array([[1.0, t], [x * t, -x]])
        error = np.linalg.matrix_power(layer, depth) - np.array([[1.0, t], [0.0, 0.0]])
        return float(np.linalg.norm(error, 2) / np.hypot(1, t) / (depth * x * np.hypot(1, t)))

    def formula(t: int, depth: int) -> float:
        s, long = t / math.hypot(1, t), (depth - 2) * t
        return s * (long + math.sqrt(long * long + 4)) / (2 * depth)

    for t, depth in ((1, 3), (2, 3), (3, 3), (10, 3), (3, 100)):
        assert ratio(t, depth) == pytest.approx(formula(t, depth), rel=1e-5)
    assert formula(2, 3) < 1 < formula(3, 3)
    # s^2 / kappa is the limit in depth: above 1 exactly below kappa = (sqrt 5 - 1) / 2.
    golden = (math.sqrt(5) - 1) / 2
    assert (1 - golden**2) / golden == pytest.approx(1)
    assert formula(3, 10**6) == pytest.approx(9 / math.sqrt(10), rel=1e-5)


def test_the_product_of_smallest_rates_at_the_largest_gap_is_a_bound():
    # The mirror of (T8), docs: theory.md calls it no bound; with the gap's supremum in every factor it is one.
    rng = np.random.default_rng(1)
    for _ in range(300):
        depth, d = int(rng.integers(2, 9)), int(rng.integers(2, 5))
        xi = rng.uniform(0, 1) ** 2
        critical = float(theory.critical_alignment(xi))
        kappa = critical + (1 - critical) * rng.uniform(0, 1, depth) ** 3
        gap = np.where(rng.random(depth) < 0.7, xi, xi * rng.random(depth))
        chain = theory.flat_chain(depth, d, rng, sigma=1.0, gap=gap, alignment=kappa)
        norm = np.linalg.norm(dense_product(np.asarray(chain.propagators)), 2)
        bound = np.prod(theory.min_rate(kappa[1:], xi))
        assert norm >= bound - 4 * depth * d * EPS


def test_exact_arithmetic_agrees_with_floats_and_refuses_what_it_cannot_read():
    rng = np.random.default_rng(2)
    for _ in range(100):
        rows = tuple(tuple(int(x) for x in row) for row in rng.integers(-9, 10, (2, 2)))
        one = matrix(rows, 7)
        norm = float(np.linalg.norm(np.array(rows) / 7, 2))
        assert not norm_exceeds(one, Fraction(norm**2 * (1 + 1e-9)))
        assert norm == 0 or norm_exceeds(one, Fraction(norm**2 * (1 - 1e-9)))
    assert product((matrix(((1, 2), (3, 4))), matrix(((0, 1), (1, 0))))) == matrix(((3, 4), (1, 2)))
    with pytest.raises(ValueError, match="orthogonal rows"):
        sigma_squared(matrix(((1, 1), (1, 0))))


def test_counterexamples_are_chosen_by_claim():
    assert {one.claim for one in theory.counterexamples("P2")} == {"P2"}
    assert {one.claim for one in EVERYTHING} == {"P1", "P2", "P3", "T8 by layer", "T9 by layer"}
    with pytest.raises(ValueError, match="claim must be one of P1, P2, P3"):
        theory.counterexamples("P7")


@pytest.mark.parametrize(
    ("depth", "dimension", "strength", "rank", "drift"),
    [(8, 16, 1.5, 1, 0.0), (24, 16, 0.5, 1, 0.0), (16, 64, 3.0, 4, 0.0), (16, 8, 1.0, 2, 0.1), (12, 4, 0.7, 1, 1.5)],
)
def test_residual_chains_have_exactly_these_second_moments(depth, dimension, strength, rank, drift):
    draws = 4000
    rng = np.random.default_rng([depth, dimension, rank])
    chains = theory.residual_chain(depth, dimension, rng, strength=strength, rank=rank, drift=drift, batch=(draws,))
    b = np.zeros(dimension)
    b[0] = 1.0
    arrival, norm = residual_run(chains, b)
    expected = theory.residual_mean_square(depth, dimension, strength, drift)
    for sample, mean in ((arrival**2, expected.arrival), (norm**2, expected.norm)):
        error = sample.std(axis=0, ddof=1) / math.sqrt(draws)
        # Five standard errors of the mean: 1 in 2 million for each of about 150 comparisons. Layer 1 is not random.
        assert np.all(np.abs(sample.mean(axis=0) - mean) <= 5 * error + 1e-12)


def test_without_drift_the_mean_square_is_the_closed_sum():
    g = 1 + 1.5**2 / 256
    moments = theory.residual_mean_square(128, 256, 1.5)
    assert moments.rate == pytest.approx(g, rel=EPS)
    closed = sum((2 * j - 1) * g ** (128 - j) for j in range(1, 129))
    assert moments.norm[-1] == pytest.approx(closed, rel=256 * EPS)
    assert moments.arrival[-1] == pytest.approx(g**127, rel=256 * EPS)
    # No update at all: J_L = L b. And with drift alone the geometric sum.
    assert theory.residual_mean_square(9, 5, 0.0).norm[-1] == pytest.approx(81)
    assert theory.residual_mean_square(9, 5, 0.0, 0.5).norm[-1] == pytest.approx((2 - 0.5**8) ** 2)


@pytest.mark.parametrize(
    ("dimension", "strength", "drift"), [(2, 0.8, 0.0), (3, 1.5, 0.0), (8, 1.0, 0.1), (64, 2.0, 0.02), (64, 2.0, 0.05)]
)
def test_typical_growth_is_the_mean_of_independent_increments(dimension, strength, drift):
    depth, draws = 50, 400
    rng = np.random.default_rng([dimension, 7])
    chains = theory.residual_chain(depth, dimension, rng, strength=strength, drift=drift, batch=(draws,))
    b = np.zeros(dimension)
    b[0] = 1.0
    arrival, _ = residual_run(chains, b)
    increments = np.diff(np.log(arrival), axis=-1)
    error = increments.std(ddof=1) / math.sqrt(increments.size)
    growth = theory.residual_log_growth(dimension, strength, drift)
    low, high = theory.residual_log_growth_bounds(dimension, strength, drift)
    assert abs(increments.mean() - growth) <= 5 * error  # five standard errors
    assert low - 1e-12 <= growth <= high + 1e-12
    # Independent: neighbours are uncorrelated, to five standard deviations of a sample correlation.
    x = increments - increments.mean()
    assert abs(np.mean(x[:, 1:] * x[:, :-1]) / np.mean(x * x)) <= 5 / math.sqrt(x[:, 1:].size)
    if drift == 0.0:
        assert low >= -1e-12


@pytest.mark.parametrize(("dimension", "strength", "drift"), [(256, 20.0, 0.0), (9, 3.0, 0.3), (3, 2.0, 0.0)])
def test_the_lower_growth_is_its_mean_to_rounding(dimension, strength, drift):
    keep, power = abs(1 - drift), (dimension - 3) / 2
    with mp.workdps(30):
        weight = [
            mp.quad(lambda t: (1 - t * t) ** power, ends) for ends in ((0, keep / strength), (keep / strength, 1))
        ]
        beyond = mp.quad(lambda t: (1 - t * t) ** power * mp.log(strength * t), [keep / strength, 1])
        exact = (weight[0] * mp.log(keep) + beyond) / (weight[0] + weight[1])
    low, _ = theory.residual_log_growth_bounds(dimension, strength, drift)
    assert low == pytest.approx(float(exact), rel=1e-11)  # what the quadrature is asked for, and a digit or two


def test_the_lower_growth_has_its_limits():
    assert theory.residual_log_growth_bounds(7, 0.5, 0.0)[0] == 0.0
    # No part that stays: E ln |c_1| of a uniform unit vector in three dimensions, where |c_1| is uniform on [0, 1].
    assert theory.residual_log_growth_bounds(3, 2.0, 1.0)[0] == pytest.approx(math.log(2) - 1, rel=4 * EPS)
    # In two dimensions ln is harmonic and the bound is the growth; the latter's quadrature is the coarser one.
    assert theory.residual_log_growth_bounds(2, 1.5)[0] == pytest.approx(theory.residual_log_growth(2, 1.5), abs=1e-5)


def test_the_second_moment_decides_decay_where_the_gain_does_not():
    # Same rho, opposite fates: the gain hardly moves with a drift of 5 %, the second moment crosses 1.
    rng = np.random.default_rng(5)
    still = theory.residual_chain(40, 64, rng, strength=2.0, batch=(50,))
    drifting = theory.residual_chain(40, 64, rng, strength=2.0, drift=0.05, batch=(50,))
    assert theory.residual_mean_square(2, 64, 2.0).rate > 1 > theory.residual_mean_square(2, 64, 2.0, 0.05).rate
    assert np.median(residual_gains(still)) == pytest.approx(np.median(residual_gains(drifting)), rel=0.1)
    b = np.eye(64)[0]
    assert np.median(residual_run(still, b)[0][:, -1]) > 1 > np.median(residual_run(drifting, b)[0][:, -1])


def test_the_chance_of_a_gain_of_one_is_bounded_by_its_tail():
    draws, depth, d, strength = 400, 8, 16, 1.0
    chains = theory.residual_chain(depth, d, np.random.default_rng(3), strength=strength, batch=(draws,))
    reached = np.mean(residual_gains(chains).max(axis=-1) >= 1)
    bound = gain_tail(depth, d, strength)
    assert 0 < bound < 1
    # binomial, five standard deviations at the bound itself
    assert reached <= bound + 5 * math.sqrt(bound * (1 - bound) / draws)
    # The tail of |<u, v>|^2, Beta(1/2, (d - 1)/2), at d = 3, where |<u, v>| is uniform: P(|<u, v>| >= 1/2) = 1/2.
    assert gain_tail(2, 3, 1.0) == pytest.approx(0.5)
    assert stats.beta.sf(0.25, 0.5, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 4, 1.0), "depth must be an integer of at least 1; got 0"),
        ((3, 0, 1.0), "dimension must be an integer of at least 1; got 0"),
        ((3, 4, -1.0), r"strength must be finite and not negative; got -1\.0"),
        ((3, 4, 1.0, math.inf), "drift must be finite; got inf"),
    ],
)
def test_bad_residual_requests_name_the_argument(arguments, said):
    with pytest.raises(ValueError, match=said):
        theory.residual_mean_square(*arguments)
