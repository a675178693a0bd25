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
    exact = frame[(frame.tag == "T32") & frame.scope.str.contains("above")]
    assert len(exact) == 2 and (exact["verdict"] == "supported").all()
    # kappa tau = 1.8 and 3.6 of rank 4: the paper's kappa is that of one of four equal planes, and its rho far less.
    mean_field = frame[(frame.tag == "T18") & frame.scope.str.contains("above")].iloc[0]
    assert mean_field.verdict == "refuted"
    assert mean_field.effect > 0.3


def test_the_papers_decay_is_not_supported_by_pinned_chains():
    """rho from 0 to 0.56, nothing decays: a rate of 0 must not count as one below it, nor rho = 0 as unmeasured."""
    data = sweep(
        ResidualSweepSpec((0.1, 0.3), (0.0, 0.4), (0.0, 0.5), (1,), (12, 32), (1280,), ("coherent", "random"), seeds=64)
    )
    assert float(data.paper_gain.max()) < 1
    frame = residual_verdicts(data)
    published = frame[frame.tag == "P2"].set_index("statement")
    weak = published[published.index.str.contains("decays") & published["scope"].str.contains("all cells")]
    strong = published[published.index.str.contains("ln rho")]
    assert len(weak) == 2 and (weak["verdict"] != "supported").all()
    assert (weak["cells"] == 8).all()
    assert not strong.empty and (strong["verdict"] == "refuted").all()
    assert (strong["effect"] > 0.5).all()
    assert (frame[frame.tag.isin(["T26", "T33", "T32"])]["verdict"] == "supported").all()
    phases = residual_phases(data)
    assert (phases["paper_I_not_decayed"] == 1).all() and (phases["pinned"] == 1).all()
    assert (phases["rate_rms_paper"] > 10 * phases["rate_rms_t33"]).all()
    # Were they to decay by 0.1 a layer, that would be seen.
    falling = data.assign(early_rate=-0.1 + 0 * data["early_rate"])
    frame = residual_verdicts(falling)
    assert (frame[(frame.tag == "P2") & frame.statement.str.contains("decays")]["verdict"] == "supported").all()


def test_T33_is_judged_by_its_own_bulk_and_T32_by_the_exact_one():
    """kappa = omega = 0, tau = 10: (T33) says 0, the fed bulk grows by ln mean_square_rate, 0.035 to 0.273 nats."""
    data = sweep(ResidualSweepSpec((10.0,), (0.0,), (0.0,), (1, 16), (12, 32), (1280,), seeds=256))
    frame = residual_verdicts(data).set_index("tag")
    t33, t32 = (frame.loc[[tag]] for tag in ("T33", "T32"))
    assert (t33["verdict"] == "refuted").all()
    assert t33["effect"].iloc[0] == pytest.approx(0.273, abs=0.01)
    assert (t32["verdict"] == "supported").all()


def test_the_mean_square_between_two_depths_holds_a_random_injections_start():
    """At d = 10^6 an isotropic injection of g = 1.8 has not met the outlier: its rate is 0 still, not ln 1.8."""
    data = sweep(ResidualSweepSpec((2.0,), (0.9,), (0.0,), (1,), (4, 8), (1_000_000,), ("random",), seeds=64))
    frame = residual_verdicts(data)
    rows = frame[(frame.tag == "T32") & frame.scope.str.contains("all cells")].set_index("statement")["verdict"]
    assert list(rows) == ["refuted", "supported"]
    assert rows.index[1].endswith("between these depths")


def test_growth_counts_from_the_injections_size_not_from_the_weakest_strength():
    """g = 2.4 and 3.0: both have grown, though one is the weakest of the grid."""
    data = sweep(ResidualSweepSpec((4.0, 5.0), (0.6,), (0.0,), (1,), (4,), (1280,), ("coherent", "random"), seeds=16))
    row = residual_phases(data).set_index("injection").loc["coherent"]
    assert (row.grown, row.pinned, row.outlier_wrong) == (1, 0, 0)


def test_phases_are_counted_from_the_early_injection(swept):
    frame = residual_phases(swept)
    assert len(frame) == 4  # two ranks, two depths
    deep = frame[frame.depth == 24].set_index("rank")
    # Above 1: tau kappa = 0.9 * 2 and 0.9 * 4 alone, of 10 cells; 0.1 * 4 is not.
    np.testing.assert_allclose(deep["grown"], 0.2, atol=1e-12)
    np.testing.assert_allclose(deep["pinned"] + deep["grown"] + deep["shrunk"], 1)
    assert (deep["outlier_wrong"] == 0).all()
    assert deep.loc[4, "paper_I_grown"] > deep.loc[1, "paper_I_grown"]
    assert (deep["rate_rms_t33"] < deep["rate_rms_mean_field"]).all()
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
