"""Data collapse: planted widths give back their exponents and verdicts, and real chains obey T34."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from theory.phase.early_moments import early_moments
from theory.phase.finite_size import crossover_widths, finite_size, fit_exponents
from theory.phase.judging import judge
from theory.regimes.typical import crossover_width
from theory.simulators.cells import PhaseCells
from theory.simulators.spectra import context_spectra
from theory.sweeping.spec import SweepSpec
from theory.sweeping.sweep import sweep

DEPTHS, DIMENSIONS = (4, 16, 64, 256), (16, 256, 4096, 65536)


def planted(law, alignment=(0.7,), gap=(0.4,), chains=1000, noise=None):
    """A dataset of early widths from law(kappa, xi, L, d), with sampling errors of sample deviations."""
    shape = (len(alignment), len(gap), len(DEPTHS), len(DIMENSIONS))
    kappa, xi, depth, d = np.meshgrid(alignment, gap, DEPTHS, DIMENSIONS, indexing="ij")
    width = np.broadcast_to(law(kappa, xi, depth, d), shape).copy()
    error = width / np.sqrt(2 * chains)
    if noise is not None:
        width = width * np.exp(noise.standard_normal(shape) / np.sqrt(2 * chains))
    scale = depth / (depth - 1)
    dims = ("alignment", "gap", "depth", "dimension")
    return xr.Dataset(
        {"early_width": (dims, width * scale), "early_width_se": (dims, error * scale)},
        coords={"alignment": list(alignment), "gap": list(gap), "depth": list(DEPTHS), "dimension": list(DIMENSIONS)},
        attrs={"seeds": chains},
    )


def test_planted_T21_is_found_and_supported():
    row = finite_size(planted(crossover_width, chains=20_000)).iloc[0]
    assert row.exponent_depth == pytest.approx(-0.5, abs=1e-9)
    assert row.exponent_dimension == pytest.approx(-0.5, abs=1e-9)
    assert row.factor_t21_min == pytest.approx(1) == row.factor_t21_max
    assert row.spread_t21 == pytest.approx(0, abs=1e-9)
    assert (row.verdict_exponents, row.verdict_t21, row.verdict_t34) == ("supported", "supported", "refuted")


def test_planted_T34_supports_itself_and_refutes_T21_at_small_depth():
    def law(kappa, xi, depth, d):
        moments = early_moments(kappa[:, :, 0], xi[:, :, 0], DEPTHS, d[:, :, 0])
        return np.moveaxis(moments.log_deviation, 0, 2) / depth

    frame = finite_size(planted(law, alignment=(0.3, 0.4, 0.7), chains=20_000)).set_index("alignment")
    assert list(frame["phase"]) == ["dispersive", "critical", "attractor"]
    # The widths are T34's, so that their exponents are those of T34 at the same points; -1/2 is asked of one side.
    for name in ("exponent_depth", "exponent_dimension"):
        np.testing.assert_allclose(frame[name], frame[f"{name}_t34"], atol=1e-9)
    assert list(frame["verdict_exponents"] == "not tested") == [True, True, False]
    assert frame.loc[0.3, "exponent_dimension"] < -0.55
    assert (frame["lack_of_fit"] > 10).all()
    assert (frame["verdict_t34"] == "supported").all()
    assert frame.loc[0.7, "verdict_t21"] == "refuted"
    assert frame.loc[0.3, "verdict_t21"] == "not tested"  # T21 is infinite there
    deep = finite_size(planted(law, chains=20_000), least_depth=64, least_dimension=1000).iloc[0]
    assert deep.verdict_t21 == "supported"


@pytest.mark.parametrize("exponents", [(-0.5, -1.0), (-1.0, -0.5), (-0.5, -0.6)])
def test_another_power_law_is_refuted_with_its_exponents(exponents):
    def law(kappa, xi, depth, d):
        return 0.3 * depth ** exponents[0] * (d - 1.0) ** exponents[1]

    row = finite_size(planted(law)).iloc[0]
    assert (row.exponent_depth, row.exponent_dimension) == pytest.approx(exponents, abs=1e-9)
    assert row.verdict_exponents == "refuted"


@pytest.mark.parametrize("shared", [True, False])
def test_intervals_of_the_exponents_cover_as_stated(shared):
    """1,000 fits of errors made as the method says: nested sums of independent steps, or each depth anew."""
    rng = np.random.default_rng(3)
    depth, dimension = (x.ravel() for x in np.meshgrid(DEPTHS, DIMENSIONS, indexing="ij"))
    width, trials, chains = crossover_width(0.7, 0.4, depth, dimension), 1000, 400
    covered, lack = np.zeros(2), 0.0
    steps = np.diff((0, *DEPTHS)) if shared else np.array(DEPTHS)
    for _ in range(trials):
        sums = rng.standard_normal((len(DEPTHS), len(DIMENSIONS), chains)) * np.sqrt(steps)[:, None, None]
        if shared:
            sums = np.cumsum(sums, axis=0)
        measured = width * sums.std(axis=-1, ddof=1).ravel() / np.sqrt(depth)
        fit = fit_exponents(depth, dimension, measured, measured / np.sqrt(2 * chains), shared=shared)
        covered += [fit.depth_low <= -0.5 <= fit.depth_high, fit.dimension_low <= -0.5 <= fit.dimension_high]
        lack += fit.lack_of_fit / trials
    # 95 % within 4 standard errors of a binomial; the lack of fit has mean 1, and a spread of 0.5 at most a fit.
    np.testing.assert_allclose(covered / trials, 0.95, atol=4 * np.sqrt(0.95 * 0.05 / trials))
    assert lack == pytest.approx(1, abs=4 * 0.5 / np.sqrt(trials))


def test_curvature_is_said_and_does_not_widen_the_intervals():
    depth, dimension = (x.ravel() for x in np.meshgrid(DEPTHS, DIMENSIONS, indexing="ij"))
    straight = crossover_width(0.7, 0.4, depth, dimension)
    bent = straight * np.exp(0.2 * np.log(depth / 32) ** 2)
    one, other = (fit_exponents(depth, dimension, width, 0.01 * width) for width in (straight, bent))
    assert other.lack_of_fit > 100 > 1e-9 > one.lack_of_fit
    assert (other.depth_se, other.dimension_se) == pytest.approx((one.depth_se, one.dimension_se))
    assert other.depth_high - other.depth_low == pytest.approx(2 * 1.959964 * other.depth_se)


def test_chains_collapse_on_T34_in_both_phases():
    """The reduced recurrence, which knows nothing of T34: 2,048 chains a cell, ln width errs by 1.6 %."""
    kappa, gap, depths, n = np.array([0.3, 0.7]), 0.4, (4, 12, 40), 2048
    width = np.empty((2, 1, 3, 2))
    for column, dimension in enumerate((1024, 65536)):
        found = context_spectra(PhaseCells(1.0, kappa, gap), dimension, depths, chains=n, seed=2, context_dimension=1)
        width[:, 0, :, column] = np.asarray(found.log_early).std(axis=-1, ddof=1).T / (np.array(depths) - 1)
    dims = ("alignment", "gap", "depth", "dimension")
    dataset = xr.Dataset(
        {"early_width": (dims, width), "early_width_se": (dims, width / np.sqrt(2 * n))},
        coords={"alignment": kappa, "gap": [gap], "depth": list(depths), "dimension": [1024, 65536]},
        attrs={"seeds": n},
    )
    table = crossover_widths(dataset)
    # 12 cells within 4.5 standard errors and the second-order term, 3 % at d = 1024.
    assert (np.abs(table["log_t34"]) < 4.5 * table["log_se"] + 0.03).all()
    for _, cell in table.groupby("alignment"):
        found, law = (
            fit_exponents(*(cell[name].to_numpy() for name in ("depth", "dimension", width, "width_se")))
            for width in ("width", "t34")
        )
        assert found.depth == pytest.approx(law.depth, abs=0.03)
        assert found.dimension == pytest.approx(law.dimension, abs=0.03)


def test_a_norm_that_is_not_random_has_no_width():
    """After one layer from u_1 its length is sqrt(kappa^2 + xi^2 s^2) in every chain."""
    depths = (2, 4, 16)
    data = sweep(SweepSpec((1.0,), (0.7,), (0.4,), depths, (64, 1280), seeds=64, quantities=("early",)))
    assert sorted(set(crossover_widths(data)["depth"])) == [4, 16]
    row = finite_size(data).iloc[0]
    assert row.exponent_depth == pytest.approx(row.exponent_depth_t34, abs=4 * row.exponent_depth_se)


def test_judge_needs_every_cell_within_and_one_outside_to_refute():
    def verdict(deviation, error, **more):
        return judge("T0", "", "", deviation, error, tolerance=0.1, unit="nat", chains=9, **more)

    assert verdict([0.0, 0.05], [0.01, 0.01]).verdict == "supported"
    assert verdict([0.0, 0.09], [0.01, 0.01]).verdict == "unresolved"
    bad = verdict([0.0, -0.2], [0.01, 0.01])
    assert (bad.verdict, bad.effect, bad.agree, bad.disagree, bad.cells) == ("refuted", -0.2, 1, 1, 2)
    assert verdict([np.nan], [0.1]).verdict == "not tested"
    assert verdict([-5.0], [0.1], one_sided=True).verdict == "supported"
    assert verdict([5.0], [0.1], one_sided=True).verdict == "refuted"
    # Wide intervals decide nothing, however far the estimate.
    assert verdict([0.3], [1.0]).verdict == "unresolved"
    assert verdict([0.3], [np.inf]).verdict == "unresolved"


def test_judge_names_the_cell_that_decides():
    def verdict(deviation, error, **more):
        return judge("T0", "", "", deviation, error, tolerance=0.01, unit="nat", chains=9, **more)

    # The larger estimate is too uncertain to refute; the other one does.
    refuted = verdict([0.05, 0.03], [0.02, 0.001])
    assert (refuted.verdict, refuted.effect) == ("refuted", 0.03)
    assert refuted.low > 0.01
    below = verdict([0.05, -0.03], [0.02, 0.001])
    assert (below.verdict, below.effect) == ("refuted", -0.03)
    # Nothing refutes: the interval that reaches furthest is what keeps it open.
    open_ = verdict([0.005, 0.001], [0.0001, 0.02])
    assert (open_.verdict, open_.effect) == ("unresolved", 0.001)
    assert open_.high > 0.01
    assert verdict([-0.5, 0.02], [0.001, 0.001], one_sided=True).effect == 0.02


def test_infinite_deviations_are_the_largest_there_are():
    def verdict(deviation, error, **more):
        return judge("T0", "", "", deviation, error, tolerance=0.01, unit="nat", chains=9, **more)

    bad = verdict([np.inf, 0.0], [0.02, 0.001])
    assert (bad.verdict, bad.effect, bad.cells, bad.disagree) == ("refuted", np.inf, 2, 1)
    assert verdict([-np.inf], [np.nan]).verdict == "refuted"
    assert verdict([np.inf], [0.02], one_sided=True).verdict == "refuted"
    assert verdict([-np.inf], [0.02], one_sided=True).verdict == "supported"
    lost = verdict([np.nan, 0.0, 0.0], [0.1, np.nan, 0.001])
    assert (lost.verdict, lost.cells, lost.unmeasured) == ("supported", 1, 2)


def test_refusals():
    with pytest.raises(ValueError, match="dataset must hold product_width"):
        crossover_widths(planted(crossover_width), "product")
    with pytest.raises(ValueError, match="points must be"):
        fit_exponents(np.array([4, 4]), np.array([8, 8]), np.ones(2), np.ones(2))
