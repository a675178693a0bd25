"""The simulations behind the ledger's claims C1 to C4 say what theory.md's exact results say."""

import itertools
import math

import numpy as np
import pytest

import theory


def test_C1_lemma_1_fails_at_small_alignment_and_the_corrected_bound_holds() -> None:
    check = theory.check_p1()
    rows = check.details["rows"]
    # (T12), the error reached by the twisted chain, to the four decimals of the reference
    reached = [1.0170, 3.9002, 1.3527, 0.0723, 0.0127, 0.9803]
    np.testing.assert_allclose([row["measured"] for row in rows], reached, atol=5.1e-5)
    assert check.details["within_corrected_bound"]
    assert check.effect == max(row["ratio"] for row in rows) > 10
    assert check.n == len(rows) and check.interval == (check.effect, check.effect)


def test_C2_gain_below_one_does_not_bound_the_jacobian() -> None:
    check = theory.check_p2()
    assert check.details["sup_gain"] == pytest.approx(0.95, rel=1e-12)
    assert check.details["paper_rule"] == "I"
    assert check.details["product_growth"] == pytest.approx(check.details["predicted_growth"], rel=1e-9)
    assert check.effect == pytest.approx(math.log(1.165), abs=1e-3)
    pinned = check.details["pinned"]
    assert [row["depth"] for row in pinned] == [8, 32, 128]
    assert all(row["sup_gain"] < 1 for row in pinned)
    assert all(low["norm_interval"][1] < high["norm_interval"][0] for low, high in itertools.pairwise(pinned))
    assert all(row["arrival_interval"][0] > 1 for row in pinned)


def test_C3_collapse_inside_the_four_conditions() -> None:
    check = theory.check_p3()
    low, high = check.interval
    assert low < check.effect < high <= 1
    assert check.n == len(check.details["rows"]) == 64
    for row in check.details["rows"]:
        assert row["gain"] >= 1 and row["alignment"] > 0.7
        assert row["depth"] * row["gap"] / row["alignment"] < 0.3
        assert 0 < row["share"] <= 1
    assert check.details["least_share"] == min(row["share"] for row in check.details["rows"])
    assert theory.check_p3(seed=9, chains=8).effect != check.effect


def test_C4_random_alignment_falls_like_the_root_of_the_dimension() -> None:
    check = theory.check_p4()
    assert check.interval[0] < check.effect < check.interval[1]
    assert abs(check.effect + 0.5) < 0.03  # 4 standard errors of 0.005, and the formula's own 1 / (4 d) at d = 16
    for row in check.details["rows"]:
        assert abs(row["mean"] - row["exact"]) < 4 * row["se"]


def test_checks_are_reproducible() -> None:
    assert theory.check_p4() == theory.check_p4()
    assert theory.check_p4(seed=5) != theory.check_p4()
