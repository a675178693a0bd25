"""Intervals, tests and the verdict rule against identities and independent oracles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bridge.comparison import statistics as st


@pytest.mark.parametrize(
    ("interval", "direction", "expected"),
    [
        ((0.3, 0.5), "greater", "supported"),
        ((0.0, 0.1), "greater", "refuted"),
        ((0.1, 0.3), "greater", "unresolved"),
        ((0.2, 0.3), "greater", "unresolved"),  # touches the least effect
        ((0.1, 0.2), "greater", "unresolved"),
        ((-0.5, -0.3), "less", "supported"),
        ((0.3, 0.5), "less", "refuted"),
        ((0.1, 0.3), "less", "unresolved"),
        ((float("nan"), 0.3), "greater", "unresolved"),
        ((0.25, 0.25), "greater", "supported"),
        ((0.2, 0.2), "less", "unresolved"),
    ],
)
def test_verdict_is_where_the_whole_interval_lies(interval, direction, expected):
    assert st.verdict(interval, 0.2, direction) == expected


def test_verdict_refuses_nonsense():
    with pytest.raises(ValueError, match="low <= high"):
        st.verdict((1.0, 0.0), 0.0, "greater")
    with pytest.raises(ValueError, match="direction"):
        st.verdict((0.0, 1.0), 0.0, "upwards")  # type: ignore[arg-type]


def test_together_needs_every_part():
    assert st.together(["supported", "supported"]) == "supported"
    assert st.together(["supported", "unresolved"]) == "unresolved"
    assert st.together(["supported", "refuted", "unresolved"]) == "refuted"
    assert st.together(["not tested"]) == "not tested"
    assert st.together([]) == "not tested"


def test_bootstrap_of_a_mean_matches_the_normal_interval_for_many_clips():
    rng = np.random.default_rng(3)
    values = rng.normal(1.0, 2.0, size=400)
    found = st.bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / 20
    # The end of a bootstrap interval has its own error, about 0.06 of the half-width at 2000 resamples: allow 5 of it.
    assert found.effect == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - half, abs=0.3 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.3 * half)
    assert found.n == 400


def test_bootstrap_resamples_clips_not_rows():
    """Ten copies of each clip carry no more information than one: the interval must not shrink by sqrt(10)."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=30)
    alone = st.bootstrap_mean(values, list(range(30)), seed=1)
    copied = st.bootstrap_mean(np.repeat(values, 10), list(np.repeat(np.arange(30), 10)), seed=1)
    assert copied.n == 30
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    rows = st.bootstrap_mean(np.repeat(values, 10), seed=1)
    assert rows.high - rows.low < 0.5 * (alone.high - alone.low)


def test_bootstrap_gives_no_interval_for_few_clips_or_none():
    few = st.bootstrap_mean([1.0, 2.0, 3.0], ["a", "b", "c"], seed=1)
    assert few.code == "too_few_clusters"
    assert not few.known
    assert few.effect == pytest.approx(2.0)
    assert st.bootstrap_mean([np.nan], seed=1).code == "no_data"


def test_bootstrap_is_its_seed():
    values = np.random.default_rng(0).normal(size=20)
    assert st.bootstrap_mean(values, seed=5) == st.bootstrap_mean(values, seed=5)
    assert st.bootstrap_mean(values, seed=5) != st.bootstrap_mean(values, seed=6)


def test_bootstrap_statistic_reports_what_it_cannot_define():
    found = st.bootstrap_statistic(st.spearman, [np.ones(10), np.arange(10.0)], seed=1, resamples=50)
    assert found.code == "undefined"
    good = st.bootstrap_statistic(st.spearman, [np.arange(20.0), np.arange(20.0) ** 3], seed=1, resamples=50)
    assert good.effect == pytest.approx(1.0)
    assert (good.low, good.high) == pytest.approx((1.0, 1.0))


def test_auroc_is_the_pairwise_probability():
    rng = np.random.default_rng(7)
    scores, labels = np.round(rng.normal(size=60), 1), (rng.random(60) < 0.4).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels == 1] for b in scores[labels == 0]]
    assert st.auroc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert np.isnan(st.auroc(scores, np.zeros(60)))


def test_spearman_is_scipys_and_partial_removes_a_common_cause():
    rng = np.random.default_rng(8)
    cause = rng.normal(size=800)
    x, y = cause + 0.3 * rng.normal(size=800), cause + 0.3 * rng.normal(size=800)
    assert st.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    # Given the cause the two are independent; the error of a correlation at n = 800 is 0.035: allow 4 of it.
    assert abs(st.partial_spearman(x, y, cause)) < 0.2 < st.spearman(x, y)
    assert np.isnan(st.partial_spearman(x, y, x))


def test_benjamini_hochberg_on_the_textbook_case():
    # m p_(i) / i from the largest down, running minimum: 0.05 * 4/4, 0.04 * 4/3, 0.03 * 4/2, 0.01 * 4/1.
    q = st.benjamini_hochberg([0.03, 0.01, np.nan, 0.05, 0.04])
    assert q[[0, 1, 3, 4]] == pytest.approx([0.05, 0.04, 0.05, 0.05])
    assert np.isnan(q[2])


def test_wilcoxon_and_effect_size():
    assert st.wilcoxon(np.arange(1.0, 11.0)) == pytest.approx(2 / 2**10)
    assert np.isnan(st.wilcoxon([1.0, 2.0, 3.0]))
    assert st.standardised_mean([1.0, 3.0]) == pytest.approx(2.0 / np.sqrt(2.0))
    assert np.isnan(st.standardised_mean([1.0, 1.0]))


@pytest.mark.parametrize("distinct", [1, 2, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 40, 257])
def test_midranks_are_scipys_to_the_bit(count, distinct):
    values = np.random.default_rng(count + distinct).integers(0, distinct, count) * 0.1 - 3.0
    assert np.array_equal(st.midranks(values), stats.rankdata(values))


def test_midranks_of_nothing_are_none():
    assert st.midranks(np.empty(0)).shape == (0,)
