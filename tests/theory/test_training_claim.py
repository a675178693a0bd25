"""C5: the rule that was fixed beforehand, on made-up experiments, and the summary of a real one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import theory
from theory.claims.training import FITTED_LOSS, LEAST_ALIGNMENT_GAIN, side, summary
from theory.training.conditions import Condition, contrasts, deciding_conditions, further_conditions
from theory.training.spec import TrainingSpec
from theory.training.trajectory import train


def made_up(rises: dict[str, float], *, spread: float = 0.01, loss: float = 0.0):
    """Experiments whose rise scatters by `spread` about the value given for the condition's name, else 0.5."""

    def run(condition: Condition) -> dict:
        change = rises.get(condition.name, 0.5) + spread * np.linspace(-1, 1, condition.spec.seeds)
        half = stats.t.ppf(0.975, change.size - 1) * change.std(ddof=1) / np.sqrt(change.size)
        return {
            "name": condition.name,
            "decides": condition.decides,
            "n": condition.spec.seeds,
            "fitted": loss <= FITTED_LOSS,
            "change": float(change.mean()),
            "change_interval": (float(change.mean() - half), float(change.mean() + half)),
            "differences": {"change": change.tolist()},
        }

    return run


NAMES = [condition.name for condition in deciding_conditions()]


def test_each_network_decides_with_a_teacher_of_rank_one_and_of_full_rank_from_the_usual_start():
    specs = [condition.spec for condition in deciding_conditions(seeds=4)]
    assert {(spec.network, spec.rank) for spec in specs} == {
        (network, rank) for network in ("linear", "residual", "nonlinear") for rank in (1, 16)
    }
    assert {(spec.initial, spec.optimiser, spec.weight_decay, spec.seeds) for spec in specs} == {
        ("standard", "adam", 0.0, 4)
    }


def test_further_conditions_never_decide_and_each_is_another():
    further = further_conditions(seeds=4, seed=7)
    names = [*NAMES, *(condition.name for condition in further)]
    assert len(set(names)) == len(names)
    assert not any(condition.decides for condition in (*further, *contrasts()))
    assert {condition.name for condition in contrasts()} <= set(names)
    assert {condition.spec.seed for condition in further} == {7}


def test_all_above_carry_it_one_below_refutes_it_and_one_across_leaves_it_open():
    assert theory.check_c5(run=made_up({})).details["carries"] == "above"
    across = theory.check_c5(run=made_up({NAMES[2]: LEAST_ALIGNMENT_GAIN}))
    assert (across.details["carries"], across.details["condition"]) == ("across", NAMES[2])
    below = theory.check_c5(run=made_up({NAMES[2]: LEAST_ALIGNMENT_GAIN, NAMES[4]: 0.05, NAMES[5]: 0.0}))
    assert (below.details["carries"], below.details["condition"]) == ("below", NAMES[5])
    assert below.effect == pytest.approx(0.0, abs=1e-15)
    assert side(below.interval) == "below"


def test_a_network_that_did_not_learn_decides_nothing():
    check = theory.check_c5(run=made_up({}, loss=2 * FITTED_LOSS))
    assert {row["side"] for row in check.details["rows"]} == {"across"}


def test_further_conditions_do_not_move_the_verdict():
    others = {condition.name: -0.5 for condition in contrasts()}
    check = theory.check_c5(run=made_up(others))
    assert check.details["carries"] == "above"
    assert [row["side"] for row in check.details["rows"]].count("below") == len(others)


def test_deciding_intervals_hold_together():
    """Bonferroni: wider than each alone by the ratio of the t quantiles at 1 - 0.05 / 12 and 0.975."""
    check = theory.check_c5(seeds=8, run=made_up({}))
    ratio = stats.t.ppf(1 - 0.05 / 12, 7) / stats.t.ppf(0.975, 7)
    for row in check.details["rows"]:
        if row["decides"]:
            (low, high), (inner_low, inner_high) = row["simultaneous"], row["change_interval"]
            assert high - low == pytest.approx(ratio * (inner_high - inner_low), rel=1e-12)
        else:
            assert "simultaneous" not in row


def test_a_summary_pairs_by_seed_and_keeps_what_the_figure_needs():
    spec = TrainingSpec(depth=3, width=4, context=2, seeds=4, steps=30, snapshots=4)
    found = train(spec)
    row = summary(Condition("toy", spec, decides=False), found)
    kappa = found.alignment
    assert row["differences"]["change"] == (kappa[0, -1] - kappa[0, 0]).tolist()
    assert row["differences"]["against_shuffled"] == (kappa[0, -1] - kappa[1, -1]).tolist()
    assert row["change"] == pytest.approx(row["alignment"]["end"] - row["alignment"]["start"], abs=1e-12)
    assert row["chance"] == float(theory.mean_random_alignment(4))
    assert row["regime_one"] + row["regime_two"] <= 1.0
    low, median, high = (np.array(one) for one in row["curves"]["gain"]["shuffled"])
    assert (low <= median).all() and (median <= high).all() and len(low) == len(row["curves"]["steps"])
