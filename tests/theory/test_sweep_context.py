"""The sweep's context Jacobians, earliest injection and critical gains: identities, and the simulators themselves."""

import numpy as np
import pytest

from tests.helpers.chains import EPS
from theory.phase._crossing import order_values
from theory.phase.critical_context import PhaseThresholds, critical_context_gain
from theory.simulators.cells import PhaseCells
from theory.simulators.spectra import context_spectra
from theory.sweeping import parts, products
from theory.sweeping._statistics import spread_and_error
from theory.sweeping.contexts import FILL, MARGIN, TOLERANCE, scan_grid
from theory.sweeping.spec import Injection, SweepSpec
from theory.sweeping.sweep import sweep

GRID = {"gain": [0.4, 1.0, 2.5], "alignment": [0.3, 0.8], "gap": [0.1, 0.6], "depth": [7, 2], "dimension": [5, 40]}
SPEC = SweepSpec(**GRID, seeds=40, seed=3, quantities=("product", "early"), injections=("coherent", "random", "mixed"))
POINT = {"gain": 2.5, "alignment": 0.8, "gap": 0.6, "depth": 7, "dimension": 40}


@pytest.fixture(scope="module")
def data():
    return sweep(SPEC)


@pytest.mark.parametrize(
    ("name", "along", "across", "frame"),
    [("coherent", 1.0, 0.3, "across"), ("random", 0.0, 1.0, "isotropic"), ("mixed", 1.0, 1.0, "isotropic")],
)
def test_medians_and_fractions_are_those_of_the_simulator(data, name, along, across, frame) -> None:
    cells = PhaseCells(2.5 / 0.8, 0.8, 0.6, along, across)
    found = context_spectra(cells, 40, [3, 7], chains=40, seed=3, frame=frame)
    growth = found.log_norm[1, 0] - found.log_norm[0, 0]
    expected = {
        "log_norm": found.log_norm[1, 0],
        "log_growth": growth,
        "log_share": found.log_share[1, 0],
        "log_ratio": found.log_ratio[1, 0],
        "log_noise": found.log_noise[1, 0],
    }
    cell = data.sel(POINT | {"injection": name})
    for key, values in expected.items():
        ends = [float(cell[f"context_{key}{end}"]) for end in ("", "_low", "_high")]
        np.testing.assert_array_equal(ends, order_values(values, 0.95))
    assert float(cell.context_shared) == np.mean(found.log_share[1, 0] > -2 * np.log(7))
    assert float(cell.context_grown) == np.mean(growth > np.log(7 / 3))
    assert float(cell.context_collapsed) == np.mean(found.log_ratio[1, 0] < np.log(0.1))
    assert int(cell.context_code) == 0


def test_a_cell_does_not_depend_on_its_grid(data) -> None:
    """Bit for bit: neither other cells nor other depths and dimensions beside it change a chain."""
    alone = SweepSpec([2.5], [0.8], [0.6], [7], [40], 40, 3, quantities=("product", "early"), injections=("mixed",))
    one = sweep(alone)
    part = data.sel({name: [value] for name, value in POINT.items()} | {"injection": ["mixed"]})
    for name in one:
        if name.startswith(("context_log", "early_")):
            np.testing.assert_array_equal(one[name], part[name], err_msg=name)
    # The enclosures start from another scan: they agree to the tolerance both keep.
    for name in ("context_gain", "context_gain_low", "context_gain_high"):
        np.testing.assert_allclose(np.log(one[name]), np.log(part[name]), atol=2 * TOLERANCE)


def test_how_a_sweep_is_cut_changes_no_bit(data, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair a part: the critical gains of a pair do not depend on the pairs searched beside it."""
    context = SweepSpec(**GRID, seeds=40, seed=3, quantities=("early",), injections=("coherent", "random"))
    monkeypatch.setattr(parts, "PART_S", 0.0)
    monkeypatch.setattr(parts, "SHARING", 1)
    assert len(list(parts.parts_of(context))) == 3 * 4 * 2
    found = sweep(context)
    for name in found.data_vars:
        expected = data[name].sel(injection=found.injection) if "injection" in found[name].dims else data[name]
        np.testing.assert_array_equal(found[name], expected, err_msg=str(name))


def test_critical_gains_agree_with_a_search_of_its_own(data) -> None:
    """`critical_context_gain` scans and halves on its own; both enclosures are narrower than they are apart."""
    for item, along, injected, frame in (("coherent", 1.0, 0.3, "across"), ("random", 0.0, 1.0, "isotropic")):
        found = critical_context_gain(
            [0.3, 0.3, 0.8, 0.8],
            [0.1, 0.6, 0.1, 0.6],
            [7, 2],
            dimension=40,
            chains=40,
            seed=3,
            along=along,
            injected=injected,
            frame=frame,
            gains=(0.05, 12.0),
            scan=23,
            steps=12,
        )
        for name, critical in found.items():
            mine = data.sel(injection=item, transition=name, dimension=40)
            code = mine.context_gain_code.values.reshape(4, 2).T
            both = (code == 0) & (critical.code == 0)
            assert both.any()
            for mine_name, theirs in (("", critical.gain), ("_low", critical.low), ("_high", critical.high)):
                values = mine[f"context_gain{mine_name}"].values.reshape(4, 2).T
                np.testing.assert_allclose(np.log(values[both]), np.log(theirs[both]), atol=2 * TOLERANCE + 1e-4)


def test_the_earliest_injection_alone_in_its_exact_cases() -> None:
    """kappa = 1 keeps it; xi = 1 keeps every length; xi = 0 leaves p' = kappa p: rates 0, 0 and ln kappa exactly."""
    found = sweep(SweepSpec([1.0], [0.0, 0.4, 1.0], [0.0, 0.3, 1.0], [1, 9], [2, 30], 8, quantities=("early",))).sel(
        depth=9
    )
    np.testing.assert_allclose(found.early_rate.sel(alignment=1.0), 0, atol=64 * EPS)
    np.testing.assert_allclose(found.early_rate.sel(gap=1.0), 0, atol=64 * EPS)
    np.testing.assert_allclose(found.early_rate.sel(alignment=0.4, gap=0.0), np.log(0.4), rtol=64 * EPS)
    np.testing.assert_allclose(found.early_width.sel(alignment=1.0), 0, atol=64 * EPS)
    np.testing.assert_allclose(found.early_gain.sel(alignment=1.0), 1, rtol=64 * EPS)
    np.testing.assert_allclose(found.early_gain.sel(alignment=0.4, gap=1.0), 0.4, rtol=64 * EPS)
    np.testing.assert_allclose(found.early_gain.sel(alignment=0.4, gap=0.0), 1.0, rtol=64 * EPS)
    assert (found.early_log_noise.sel(alignment=1.0) == -np.inf).all()
    assert (found.early_gain_code.sel(alignment=0.0) == 5).all() and found.early_gain.sel(alignment=0.0).isnull().all()


def test_one_layer_has_no_rate_and_no_growth() -> None:
    found = sweep(SweepSpec([1.0], [0.5], [0.3], [1], [9], 8, quantities=("early",), injections=("coherent",)))
    assert found.early_rate.isnull().all() and found.early_gain.isnull().all() and (found.early_gain_code == 5).all()
    assert found.context_log_growth.isnull().all() and found.context_grown.isnull().all()
    assert (found.context_code == 0).all() and np.isfinite(found.context_log_norm).all()
    assert (found.context_gain_code.sel(transition="growth") == 5).all()


def test_products_turn_where_their_own_norm_says(data) -> None:
    """grown is 0 well below product_gain and 1 well above; log_norm at product_gain's end points brackets 0."""
    at = data.sel(alignment=0.3, gap=0.6, depth=7, dimension=40)
    critical = float(at.product_gain)
    assert float(at.product_gain_low) <= critical <= float(at.product_gain_high)
    below, above = at.sel(gain=0.4), at.sel(gain=1.0)
    assert 0.4 < critical < 1.0 and float(below.grown) == 0 and float(above.grown) == 1
    again = sweep(SweepSpec([critical], [0.3], [0.6], [7], [40], 40, 3))
    assert abs(float(again.grown.squeeze()) - 0.5) <= 1 / 40


def test_the_standard_error_of_a_spread_is_the_spread_of_spreads() -> None:
    """Exponential samples, kurtosis 9: 4,000 spreads of 400. Their own deviation is known to 1 / sqrt(8000) = 1.1 %
    and the mean of the estimates to less; 8 % leaves the bias of order 1 / n of both and 4 deviations."""
    samples = np.random.default_rng(0).exponential(size=(4000, 400))
    spread, error = spread_and_error(samples)
    assert float(error.mean()) == pytest.approx(float(spread.std()), rel=0.08)
    assert float(spread.mean()) == pytest.approx(1.0, abs=0.02)
    # A normal law's formula, s / sqrt(2 n), would be half of it.
    assert float(error.mean()) > 1.5 / np.sqrt(800)
    constant, none = spread_and_error(np.full((2, 5), 3.0))
    np.testing.assert_array_equal([constant, none], 0)
    assert np.isnan(spread_and_error(np.ones((2, 1)))).all()


def test_the_scan_holds_the_map_and_reaches_beyond_it_and_the_prediction() -> None:
    gains, predicted = np.array([2.0, 0.5, 1.0]), np.array([-5.0, 0.0])
    grid = scan_grid(gains, predicted, np.maximum(predicted, 0))
    assert (np.diff(grid, axis=1) >= 0).all() and np.diff(grid, axis=1).max() <= FILL + 1e-12
    np.testing.assert_array_equal(np.unique(grid[1]), np.unique(scan_grid(gains, predicted[1:], np.zeros(1))))
    for pair in range(2):
        assert set(np.log(gains)) <= set(grid[pair])
    assert grid[0, 0] == -5 - MARGIN and grid[1, 0] == np.log(0.5) - MARGIN
    assert (grid[:, -1] == np.log(2.0) + MARGIN).all()


def test_boundaries_are_found_from_a_map_of_one_gain_and_beyond_it() -> None:
    """kappa = 0.05, xi = 0.9: the chains turn near kappa / xi = 0.056, far below the only gain of the map."""
    one = sweep(SweepSpec([3.0], [0.05], [0.9], [24], [400], 24, injections=("random",), quantities=("early",)))
    growth = one.sel(transition="growth").squeeze()
    assert int(growth.context_gain_code) == 0
    assert float(growth.context_gain) == pytest.approx(0.05 / 0.9, rel=0.1)
    assert float(growth.early_gain) == pytest.approx(0.05 / 0.9, rel=0.02)


def test_a_ratio_below_the_floor_is_called_so() -> None:
    """Coherent injections with a tiny frame at kappa = 1, xi = 0: sigma_2 / sigma_1 of some 1e-13 of b / beta."""
    tiny = Injection("tiny", 1.0, 1e-13)
    found = sweep(SweepSpec([2.0], [1.0], [0.0], [20], [9], 8, injections=(tiny,), quantities=())).squeeze()
    assert int(found.context_code) == 4 and float(found.context_log_ratio) == -np.inf
    assert float(found.context_collapsed) == 1
    assert np.isfinite(float(found.context_log_norm))


def test_few_chains_have_medians_and_no_intervals() -> None:
    found = sweep(SweepSpec([1.0, 2.0], [0.7], [0.3], [4], [9], 3, injections=("coherent",)))
    for name in ("product_gain", "context_log_norm", "log_ratio_median"):
        assert np.isfinite(found[name]).all() and found[f"{name}_low"].isnull().all()
    share = found.sel(transition="share")
    assert np.isfinite(share.context_gain).all() and share.context_gain_low.isnull().all()
    assert (share.context_gain_code == 0).all()


def test_degenerate_cells_have_codes_and_spoil_no_other() -> None:
    spec = SweepSpec(
        [0.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [3], [1, 2, 5], 8, quantities=(), injections=("mixed",)
    )
    found = sweep(spec).sel(depth=3, injection="mixed")
    code = found.context_code
    assert (code.sel(dimension=[1, 2]) == 3).all()
    whole = code.sel(dimension=5)
    assert (whole.sel(alignment=0.0, gain=1.0) == 1).all() and (whole.sel(gain=0.0, alignment=0.5) == 2).all()
    assert (whole.sel(gain=1.0, alignment=[0.5, 1.0]) == 0).all()
    good = found.sel(dimension=5, gain=1.0, alignment=[0.5, 1.0])
    for name in ("log_norm", "log_share", "log_noise", "log_growth", "log_ratio"):
        assert np.isfinite(good[f"context_{name}"]).all(), name
    assert (found.context_gain_code.sel(dimension=[1, 2]) == 5).all()
    assert found.context_gain.sel(dimension=5, alignment=0.0).isnull().all()


def test_a_cell_that_cannot_be_simulated_costs_itself_alone() -> None:
    """A gain of 1e40 leaves float32; the same sweep without it has the same numbers."""
    options = {"dtype": "float32", "injections": ("coherent",), "quantities": ()}
    with_it = sweep(SweepSpec([1.0, 1e40, 2.0], [0.6], [0.3], [6], [9], 8, **options)).squeeze()
    without = sweep(SweepSpec([1.0, 2.0], [0.6], [0.3], [6], [9], 8, **options)).squeeze()
    assert with_it.context_code.values.tolist() == [0, 8, 0]
    assert np.isnan(float(with_it.context_log_norm[1]))
    np.testing.assert_array_equal(with_it.context_log_norm[[0, 2]], without.context_log_norm)


def test_errors_of_a_simulator_become_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cell the simulator refuses, alone or among others."""
    whole = products.simulate

    def refuses(cells, *arguments, **options):
        if (cells.alignment == 0.8).any():
            raise ValueError("not this one")
        return whole(cells, *arguments, **options)

    expected = sweep(SPEC)
    monkeypatch.setattr(products, "simulate", refuses)
    found = sweep(SPEC)
    assert (found.code.sel(alignment=0.8) == 8).all() and (found.context_code.sel(alignment=0.8) == 8).all()
    assert (found.context_gain_code.sel(alignment=0.8) == 8).all() and (
        found.early_gain_code.sel(alignment=0.8) == 8
    ).all()
    for name in ("log_norm", "context_log_norm", "early_rate", "product_gain"):
        assert found[name].sel(alignment=0.8).isnull().all()
        np.testing.assert_array_equal(found[name].sel(alignment=0.3), expected[name].sel(alignment=0.3))


@pytest.mark.parametrize(("residual", "rank", "other"), [("low_rank", 2, "structured"), ("flat", None, "reduced")])
def test_other_simulators_serve_a_sweep(residual, rank, other) -> None:
    """Structured chains are the dense ones, to rounding; reduced ones agree in law: means within 4 errors."""
    grid = ([0.8, 1.5, 2.0], [0.7], [0.4], [4], [9], 64)
    options = {"residual": residual, "rank": rank}
    dense = sweep(SweepSpec(*grid, **options, simulator="dense"))
    found = sweep(SweepSpec(*grid, **options, simulator=other))
    assert (dense.code == 0).all() and (found.code == 0).all()
    apart = np.abs(found.log_norm - dense.log_norm)
    error = 1e-10 if other == "structured" else 4 * np.hypot(found.log_norm_se, dense.log_norm_se)
    assert (apart < error).all()


def test_context_jacobians_of_another_family_have_a_map_and_boundaries() -> None:
    """The Gaussian-like bulk of a quarter circle; three cells are run as four, which changes none of the three."""
    options = {"quantities": (), "residual": "quarter_circle", "injections": ("random",), "context_dimension": 1}
    found = sweep(SweepSpec([0.8, 1.5, 2.0], [0.7], [0.4], [1], [6], 64, **options)).squeeze()
    assert (found.context_code == 0).all() and np.isfinite(found.context_log_norm).all()
    single = sweep(SweepSpec([1.5], [0.7], [0.4], [1], [6], 64, **options)).squeeze()
    np.testing.assert_allclose(found.context_log_norm.sel(gain=1.5), single.context_log_norm, rtol=1e-12)


def test_thresholds_move_the_fractions_and_the_boundary(data) -> None:
    strict = sweep(
        SweepSpec(
            **GRID,
            seeds=40,
            seed=3,
            quantities=(),
            injections=("coherent",),
            thresholds=PhaseThresholds(0.9, 3.0, 0.01),
        )
    )
    loose = data.sel(injection=["coherent"])
    for name in ("shared", "grown", "collapsed"):
        assert (strict[f"context_{name}"] <= loose[f"context_{name}"]).all()
    both = (strict.context_gain_code == 0) & (loose.context_gain_code == 0)
    assert both.any() and (strict.context_gain.where(both, 1) >= loose.context_gain.where(both, 0)).all()
