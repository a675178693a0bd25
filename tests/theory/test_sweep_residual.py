"""Sweeps of the residual family I + F: exact cells, the simulator itself, and what is predicted beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.chains import EPS
from theory.phase._crossing import order_values
from theory.phase.critical_context import PhaseThresholds
from theory.phase.critical_residual import critical_strength
from theory.regimes.residual_rates import residual_rates
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells
from theory.sweeping.contexts import TOLERANCE
from theory.sweeping.plan import plan_sweep
from theory.sweeping.spec import ResidualSweepSpec
from theory.sweeping.sweep import sweep

SPEC = ResidualSweepSpec(
    strength=(0.0, 0.5, 2.0),
    alignment=(0.0, 0.6),
    persistence=(0.0, 0.5),
    rank=(1, 3),
    depth=(6, 2),
    dimension=(4, 40),
    injections=("coherent", "random"),
    seeds=24,
    seed=5,
)
PAIR = {"alignment": 0.6, "persistence": 0.5, "rank": 3, "depth": 6, "dimension": 40}


@pytest.fixture(scope="module")
def data():
    return sweep(SPEC)


@pytest.mark.parametrize(
    ("name", "along", "across", "frame"), [("coherent", 1.0, 0.3, "across"), ("random", 0.0, 1.0, "isotropic")]
)
def test_medians_are_those_of_the_simulator(data, name, along, across, frame) -> None:
    cells = ResidualCells(2.0, 0.6, 0.5, along, across)
    found = residual_spectra(cells, 40, [1, 3, 6], rank=3, chains=24, seed=5, frame=frame)
    cell = data.sel(PAIR | {"strength": 2.0, "injection": name})
    for key, values in (
        ("context_log_norm", found.log_norm[2, 0]),
        ("context_log_growth", found.log_norm[2, 0] - found.log_norm[1, 0]),
        ("context_log_share", found.log_share[2, 0]),
        ("context_log_ratio", found.log_ratio[2, 0]),
        ("context_log_noise", found.log_noise[2, 0]),
        ("early_log", found.log_early[2, 0]),
    ):
        ends = [float(cell[f"{key}{end}"]) for end in ("", "_low", "_high")]
        np.testing.assert_array_equal(ends, order_values(values, 0.95))
    rates = (found.log_early[2, 0] - found.log_early[0, 0]) / 5
    assert float(cell.early_rate) == pytest.approx(rates.mean(), rel=1e-14)
    assert float(cell.early_width) == pytest.approx(rates.std(ddof=1), rel=1e-12)
    assert int(cell.context_code) == 0


def test_without_strength_nothing_is_moved(data) -> None:
    """A = I: the earliest injection keeps its length, whatever the rest does."""
    still = data.sel(strength=0.0, dimension=40)
    np.testing.assert_allclose(still.early_rate, 0, atol=64 * EPS)
    np.testing.assert_allclose(still.early_width, 0, atol=64 * EPS)
    assert (still.context_code == 0).all()


def test_predictions_stand_beside_the_map(data) -> None:
    rates = residual_rates(2.0, 0.6, 0.5, rank=3, dimension=40)
    cell = data.sel(strength=2.0, alignment=0.6, persistence=0.5, rank=3, dimension=40)
    for name, value in (
        ("outlier_rate", rates.outlier_rate),
        ("pinned_rate", rates.pinned_rate),
        ("mean_square_rate", rates.mean_square_rate),
        ("paper_gain", rates.paper_gain),
        ("paper_alignment", rates.paper_alignment),
        ("paper_sigma", rates.sigma),
        ("predicted_strength", rates.critical_strength),
        ("paper_strength", rates.paper_strength),
    ):
        assert float(cell[name]) == float(value), name
    assert data.predicted_strength.dims == ("alignment", "persistence")
    assert float(data.predicted_strength.sel(alignment=0.0, persistence=0.5)) == np.inf


def test_critical_strengths_agree_with_a_search_of_its_own(data) -> None:
    found = critical_strength(
        0.6, 0.5, [6, 2], rank=3, dimension=40, chains=24, seed=5, injected=0.3, strengths=(0.02, 40.0), steps=14
    )
    compared = 0
    for name in ("growth", "ratio"):
        mine = data.sel(PAIR | {"injection": "coherent", "transition": name, "depth": [6, 2]})
        for row in range(2):
            if int(mine.critical_strength_code[row]) == 0 == int(found[name].code[row, 0]):
                compared += 1
                for end, theirs in (("", "strength"), ("_low", "low"), ("_high", "high")):
                    value = float(mine[f"critical_strength{end}"][row])
                    expected = float(getattr(found[name], theirs)[row, 0])
                    assert np.log(value) == pytest.approx(np.log(expected), abs=2 * TOLERANCE + 5e-4)
    assert compared >= 2


def test_the_share_has_a_critical_strength_only_at_a_threshold_that_can_be_crossed(data) -> None:
    """At 1 / L^2 no chain of the limit is below (T33); at 0.3 coherent ones start near 1 / L and the outlier lifts
    them."""
    assert list(data.transition.values) == ["growth", "ratio"]
    strength = np.geomspace(0.1, 10, 9)
    grids = ResidualSweepSpec(strength, (0.1, 0.8), (0.0,), (1,), (8,), (4096,), ("coherent", "random"), seeds=8)
    share = sweep(grids).context_shared
    assert (share == 1).all()
    other = sweep(replace(grids, injections=("coherent",), thresholds=PhaseThresholds(share=0.3)))
    assert list(other.transition.values) == ["share", "growth", "ratio"]
    turned = other.sel(transition="share", alignment=0.8)
    assert int(turned.critical_strength_code.squeeze()) == 0
    assert 1 < float(turned.critical_strength.squeeze()) < 10


def test_a_rank_that_does_not_fit_has_a_code(data) -> None:
    """d = 4 holds no rank 3 beside two frames; rank 1 it does."""
    small = data.sel(dimension=4)
    assert (small.context_code.sel(rank=3) == 3).all() and (small.context_code.sel(rank=1) == 0).all()
    assert (small.critical_strength_code.sel(rank=3) == 5).all()
    assert small.outlier_rate.sel(rank=3).isnull().all()


def test_it_is_written_in_parts_and_goes_on(data, tmp_path: Path) -> None:
    plan = plan_sweep(SPEC)
    some = sweep(SPEC, directory=tmp_path, limit=1)
    assert (some.context_code == 7).any() and not (some.context_code == 7).all()
    assert sweep(SPEC, directory=tmp_path).identical(data)
    assert len(list((tmp_path / "parts").glob("*.nc"))) == plan.parts
    assert plan.jacobians == data.context_code.size * 24
    assert plan.distinct_chains == 24 * 2 * 2 * 2  # dimensions, ranks, frames


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": (-1.0,)}, r"strength must be finite and not negative; got -1\.0"),
        ({"alignment": (1.5,)}, r"alignment must lie in \[0, 1\]; got 1\.5"),
        ({"persistence": (np.nan,)}, r"persistence must lie in \[0, 1\]; got nan"),
        ({"rank": (0,)}, "rank must be an integer of at least 1"),
        ({"injections": ()}, "injections must be at least one"),
        ({"strength": ()}, "strength must be a non-empty"),
    ],
)
def test_bad_specifications_are_refused(change: dict, message: str) -> None:
    grids = {
        name: getattr(SPEC, name) for name in ("strength", "alignment", "persistence", "rank", "depth", "dimension")
    }
    with pytest.raises(ValueError, match=message):
        ResidualSweepSpec(**(grids | change))
