"""The residual family's map: growth is counted, and chains bear out T33 and T26, not the paper."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from theory.phase.residual_map import residual_phases, residual_verdicts
from theory.sweeping.spec import ResidualSweepSpec
from theory.sweeping.sweep import sweep


@pytest.fixture(scope="module")
def swept():
    return sweep(
        ResidualSweepSpec(
            strength=(0.1, 0.3, 0.6, 2.0, 4.0),
            alignment=(0.1, 0.9),
            persistence=(0.0,),
            rank=(1, 4),
            depth=(8, 24),
            dimension=(65536,),
            seeds=64,
        )
    )


def test_outliers_take_over_where_T33_says_and_the_rest_is_pinned(swept):
    frame = residual_verdicts(swept)
    t33 = frame[frame.tag == "T33"].set_index("scope")
    assert set(t33["verdict"]) <= {"supported", "unresolved"}
    pinned = frame[(frame.tag == "T26") & frame.scope.str.contains("same")].iloc[0]
    assert pinned.verdict == "supported"
    # kappa tau = 1.8 and 3.6 of rank 4: the paper's kappa is that of one of four equal planes, and its rho far less.
    published = frame[(frame.tag == "P2") & frame.scope.str.contains("above")].iloc[0]
    assert published.verdict == "refuted"
    assert published.effect > 0.3


def test_phases_are_counted_from_the_early_injection(swept):
    frame = residual_phases(swept)
    assert len(frame) == 4  # two ranks, two depths
    deep = frame[frame.depth == 24].set_index("rank")
    # Above 1: tau kappa = 0.9 * 2 and 0.9 * 4 alone, of 10 cells; 0.1 * 4 is not.
    np.testing.assert_allclose(deep["grown"], 0.2, atol=1e-12)
    np.testing.assert_allclose(deep["pinned"] + deep["grown"] + deep["shrunk"], 1)
    assert (deep["outlier_wrong"] == 0).all()
    assert deep.loc[4, "paper_I_grown"] > deep.loc[1, "paper_I_grown"]
    assert (deep["rate_rms_t33"] < deep["rate_rms_paper"]).all()
    # Where early injections are pinned J_L is a sum of L independent ones: sqrt(L).
    assert deep["growth_exponent"].to_numpy() == pytest.approx(np.full(2, 0.5), abs=0.12)
    assert frame[frame.depth == 8]["growth_exponent"].isna().all()


def test_a_wrong_rate_is_refuted(swept):
    wrong = swept.assign(early_rate=swept["early_rate"] + 0.1)
    frame = residual_verdicts(wrong)
    assert (frame[frame.tag == "T33"]["verdict"] == "refuted").all()
    # All cells grown by hand: nothing is pinned.
    grown = residual_phases(swept.assign(early_log=swept["early_log"] + 2 * (swept["strength"] > 0.1)))
    assert (grown["pinned"] <= 0.2 + 1e-12).all()


def test_a_dataset_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="dataset must hold outlier_rate"):
        residual_phases(xr.Dataset())
