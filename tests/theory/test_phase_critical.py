"""Critical gains: exact for aligned chains, against independent dense chains, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats

import theory
from tests.helpers.chains import EPS
from theory.phase._crossing import CROSSING_CODES, crossings, median_ranks, order_values


def test_median_ranks_cover_the_median_with_at_least_the_level() -> None:
    """P(low-th order statistic < median < high-th) is a binomial sum, and one rank less would fall short."""
    for n in (6, 7, 20, 256):
        low, high = median_ranks(n, 0.95)
        assert high == n - 1 - low
        covered = stats.binom.cdf(high, n, 0.5) - stats.binom.cdf(low, n, 0.5)
        inner = stats.binom.cdf(high - 1, n, 0.5) - stats.binom.cdf(low + 1, n, 0.5)
        assert covered >= 0.95 > inner
    with pytest.raises(ValueError, match="chains must be more for an interval of level"):
        median_ranks(5, 0.95)


def test_order_values_pass_a_nan_on() -> None:
    values = np.array([[3.0, 1.0, 2.0, 5.0, 4.0, 0.0], [np.nan, 1.0, 2.0, 5.0, 4.0, 0.0]])
    found = order_values(values, 0.95)
    np.testing.assert_array_equal(found[:, 0], [2.5, 0.0, 5.0])
    assert np.isnan(found[:, 1]).all()


def test_crossings_find_roots_and_say_where_there_are_none() -> None:
    """Curves with known roots; the interval's ends are the roots of the order statistics, outward."""
    functions = [
        lambda x: x - 0.3,
        lambda x: -1 + 0 * x,
        lambda x: 1 + 0 * x,
        lambda x: x - 0.95,
        lambda x: np.sin(2 * np.pi * (x - 0.1)),
        lambda x: np.where(x > 0.5, np.nan, -1.0),
        lambda x: 0.5 - x,
    ]
    shift = np.array([0.0, -0.1, 0.1])
    grid = np.linspace(0, 1, 11) + 0.001
    curves = np.array([[f(grid) + s for f in functions] for s in shift])

    def refine(x, kinds, cells):
        return np.array([functions[c](a) + shift[k] for a, k, c in zip(x, kinds, cells, strict=True)])

    found, code = crossings(curves, grid, refine, 30)
    np.testing.assert_array_equal(code, [0, 1, 2, 3, 4, 5, 6])
    assert set(code.tolist()) == set(CROSSING_CODES)
    np.testing.assert_allclose(found[:, 0], [0.3, 0.2, 0.4], atol=1e-9)
    np.testing.assert_allclose(found[:, 3], [0.95, 0.85, np.inf], atol=1e-9)
    np.testing.assert_allclose(found[0, 4], 0.1, atol=1e-9)
    assert np.isnan(found[0, [1, 2]]).all() and np.isnan(found[:, [5, 6]]).all()
    coarse, _ = crossings(curves, grid, refine, 2)
    assert coarse[1, 0] < 0.2 < coarse[1, 0] + 0.05 and coarse[2, 0] - 0.05 < 0.4 < coarse[2, 0]


def test_aligned_chains_turn_at_gain_one_exactly() -> None:
    """kappa = 1: ||P_L|| = sigma^L; J w = beta u sum sigma^i, so that share 1 / L^2 and growth ln 2 mean sigma = 1."""
    product = theory.critical_product_gain(1.0, [0.0, 0.5, 1.0], [1, 30], dimension=50, chains=8, seed=0)
    for edge in (product.gain, product.low, product.high):
        np.testing.assert_allclose(edge, 1, atol=64 * EPS)
    # 2^-30 of a step of the scan is 1.6e-10 in ln gain.
    found = theory.critical_context_gain(
        1.0, [0.0, 0.5], [4, 30], dimension=50, chains=8, seed=0, gains=(0.3, 3.1), steps=30, context_dimension=1
    )
    assert set(found) == {"share", "growth"}
    for name in found:
        assert (found[name].code == 0).all()
        np.testing.assert_allclose(found[name].gain, 1, atol=1e-9)
        assert (found[name].low <= 1 + 1e-12).all() and (found[name].high >= 1 - 1e-12).all()


def test_the_collapse_of_aligned_chains_is_where_the_sum_says() -> None:
    """kappa = 1, xi = 0: sigma_2 / sigma_1 = b / hypot(beta sum sigma^i, b); at L = 2 the gain is by hand."""
    b, ratio = 0.3, 0.1
    expected = np.sqrt((b / ratio) ** 2 - b**2) - 1
    found = theory.critical_context_gain(
        1.0,
        0.0,
        [2],
        dimension=9,
        chains=8,
        seed=0,
        injected=b,
        steps=30,
        thresholds=theory.PhaseThresholds(ratio=ratio),
    )["ratio"]
    np.testing.assert_allclose(found.gain, expected, rtol=1e-9)


def test_at_the_critical_gain_half_of_independent_dense_chains_grow() -> None:
    """A sign test on 400 dense chains: 400 -> 200 +- 10; 4 sigma, and the interval's own width adds 4 sigma of 400."""
    d, depth = 12, 6
    critical = theory.critical_product_gain(0.5, 0.6, [depth], dimension=d, chains=4000, seed=1)
    sigma = float(critical.gain[0, 0]) / 0.5
    chain = theory.flat_chain(depth, d, np.random.default_rng(2), sigma=sigma, gap=0.6, alignment=0.5, batch=(400,))
    grown = int((theory.products(chain, last_only=True).log_norm() > 0).sum())
    assert abs(grown - 200) < 4 * 10 * np.sqrt(1 + 400 / 4000)
    # The paper's rule, rho = 1, puts nearly all of them on one side.
    assert float(critical.high[0, 0]) < 0.75


def test_context_thresholds_are_met_by_independent_chains_at_the_critical_gain() -> None:
    """Share and growth at the gain found, on chains of another seed: half above, to 4 binomial deviations of both."""
    n, depth = 4096, 8
    options = {"dimension": 40, "chains": n, "injected": 0.5}
    found = theory.critical_context_gain(0.6, 0.5, [depth], seed=3, **options)
    for name, gain in ((name, critical.gain[0, 0]) for name, critical in found.items()):
        cells = theory.PhaseCells(gain / 0.6, 0.6, 0.5, 1.0, 0.5)
        other = theory.context_spectra(cells, 40, [depth // 2, depth], chains=n, seed=4)
        assert other.log_share is not None
        values = {
            "share": other.log_share[1, 0] + 2 * np.log(depth),
            "growth": other.log_norm[1, 0] - other.log_norm[0, 0] - np.log(2),
            "ratio": np.log(0.1) - other.log_ratio[1, 0],
        }
        assert abs(int((values[name] > 0).sum()) - n / 2) < 4 * np.sqrt(2) * np.sqrt(n) / 2


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """150 samples of 20 chains, level 0.8, where these ranks cover 0.885; 4 deviations of 150 below that."""
    truth = theory.critical_context_gain(
        0.6, 0.5, [6], dimension=30, chains=20480, seed=9, context_dimension=1, steps=10
    )["share"].gain[0, 0]
    low, high = median_ranks(20, 0.8)
    nominal = stats.binom.cdf(high, 20, 0.5) - stats.binom.cdf(low, 20, 0.5)
    inside = 0
    for seed in range(150):
        found = theory.critical_context_gain(
            0.6, 0.5, [6], dimension=30, chains=20, seed=seed, context_dimension=1, level=0.8, scan=9, steps=6
        )["share"]
        inside += bool(found.low[0, 0] <= truth <= found.high[0, 0])
    deviation = np.sqrt(nominal * (1 - nominal) / 150)
    assert inside / 150 > nominal - 4 * deviation
    assert inside < 150  # an interval that always covers would be too wide for its level


def test_predicted_gains_are_the_boundary_curves_cell_by_cell() -> None:
    kappa, xi = np.array([0.3, 0.9, 0.3, 0.99]), np.array([0.5, 0.5, 0.1, 0.1])
    found = theory.predicted_gain(kappa, xi)
    for cell in range(4):
        curves = theory.boundary_curves(float(xi[cell]), kappa[cell : cell + 1])
        for name, values in found.items():
            np.testing.assert_array_equal(values[cell], curves[name][0])


def test_cells_without_a_boundary_have_a_code_and_depth_one_too() -> None:
    product = theory.critical_product_gain([0.0, 0.5], 0.5, [3], dimension=9, chains=8, seed=0)
    np.testing.assert_array_equal(product.code, [[5, 0]])
    assert product.describe((0, 0)) == CROSSING_CODES[5]
    found = theory.critical_context_gain(0.5, [0.5, 1.0], [1, 3], dimension=9, chains=8, seed=0, injected=1.0)
    np.testing.assert_array_equal(found["growth"].code[0], 5)
    np.testing.assert_array_equal(found["share"].code[0], 1)  # at L = 1 the share is 1 = 1 / L^2 at any gain
    assert found["ratio"].code[0, 0] == 1  # sigma_2 / sigma_1 of B_1 is 1 / sqrt(2) at any gain
    assert "to" in found["share"].describe((1, 0))


def test_bad_requests_are_refused_by_name() -> None:
    good = {"alignment": 0.5, "gap": 0.5, "depths": [3], "dimension": 9, "chains": 8, "seed": 0}
    for change, message in (
        ({"alignment": 0.0}, "alignment must be positive"),
        ({"alignment": []}, "alignment and gap must lie on one axis, with at least one cell"),
        ({"alignment": [0.1, 0.2], "gap": [0.1, 0.2, 0.3]}, "alignment and gap must broadcast"),
        ({"gap": np.nan}, "gap must lie in .0, 1.; got nan"),
        ({"gains": (2.0, 1.0)}, "gains must be positive, finite and ascending"),
        ({"scan": 1}, "scan must be an integer of at least 2"),
        ({"level": 1.0}, "level must lie in .0, 1.; got 1.0"),
        ({"chains": 4}, "chains must be more for an interval of level 0.95; got 4"),
        ({"depths": []}, "depths must be a non-empty list"),
        ({"thresholds": theory.PhaseThresholds(ratio=1e-16)}, "thresholds.ratio must be above what float64 resolves"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.critical_context_gain(**(good | change))
    with pytest.raises(ValueError, match="depths must be a non-empty list"):
        theory.critical_product_gain(0.5, 0.5, [], dimension=9, chains=8, seed=0)
    for thresholds, message in (
        ({"share": 0.0}, "share"),
        ({"ratio": np.inf}, "ratio"),
        ({"growth": np.nan}, "growth"),
    ):
        with pytest.raises(ValueError, match=f"{message} must be"):
            theory.PhaseThresholds(**thresholds)
