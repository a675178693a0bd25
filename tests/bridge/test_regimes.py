"""Observed regimes (O7) on dense chains whose regime is known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import regimes
from bridge.comparison.regimes import NullShare, Thresholds
from tests.helpers.records import KINDS, dense_chain, layer_rows, measured_layers, null_rows

NULL = NullShare(quantile=0.3, draws=20)


@pytest.mark.parametrize("kind", ["dispersive decay", "dispersive growth", "coherent decay", "attractor"])
@pytest.mark.parametrize("seed", range(5))
def test_chains_of_known_regime_are_seen_as_such(kind, seed):
    seen = regimes.observe(layer_rows(kind, depth=8, seed=seed), NULL)
    assert seen.regime == kind
    assert seen.reason == ""
    assert seen.margin > 0


def test_aligned_rank_one_chain_grows_exactly_by_its_gain():
    """kappa = 1, xi -> 0: ||P_{L:l+1} B_l|| = sigma^(L - l), so g = ln sigma and the share is 1 (T22)."""
    rows = layer_rows("attractor", depth=6, kappa=1.0, xi=1e-12, sigma=1.3)
    seen = regimes.observe(rows, NULL)
    # Six roundings of an SVD of size 12: far below 1e-9.
    assert seen.growth.slope == pytest.approx(np.log(1.3), abs=1e-9)
    assert seen.share == pytest.approx(1.0, abs=1e-9)
    assert seen.regime == "attractor"


def test_order_of_the_rows_does_not_matter_and_a_missing_layer_is_refused():
    rows = layer_rows(depth=5)
    shuffled = rows.sample(frac=1.0, random_state=3)
    assert regimes.observe(shuffled, NULL).growth == regimes.observe(rows, NULL).growth
    with pytest.raises(ValueError, match=r"layers 1\.\.L"):
        regimes.observe(rows.iloc[1:], NULL)


def test_growth_interval_is_the_t_interval_of_least_squares():
    from scipy import stats

    rng = np.random.default_rng(0)
    arrival = np.exp(rng.normal(size=7))
    found = regimes.growth(arrival)
    x = np.arange(6, -1, -1.0)
    fit = stats.linregress(x, np.log(arrival))
    half = stats.t.ppf(0.975, 5) * fit.stderr
    assert (found.slope, found.low, found.high) == pytest.approx((fit.slope, fit.slope - half, fit.slope + half))


def test_growth_across_zero_is_undecided():
    rows = layer_rows("pinned", depth=4)
    rows["arrival"] = [1.0, 1.2, 0.9, 1.05]
    seen = regimes.observe(rows, NULL)
    assert seen.regime == "undecided"
    assert seen.reason == "interval of the growth contains 0"
    assert seen.margin < 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"arrival_converged": [True, False, True, True]}, "arrival norm is not converged"),
        ({"arrival": [1.0, 0.0, 1.0, 1.0]}, "arrives with norm 0"),
        ({"arrival": [1.0, np.nan, 1.0, 1.0]}, "not converged"),
    ],
)
def test_an_unknown_arrival_is_undecided(change, word):
    rows = layer_rows(depth=4).assign(**change)
    seen = regimes.observe(rows, NULL)
    assert seen.regime == "undecided"
    assert word in seen.reason


def test_an_unconverged_first_triplet_is_undecided():
    rows = layer_rows("attractor", depth=4)
    rows.at[3, "context_s"] = [np.nan, 1.0, 0.5, 0.1]
    rows.at[3, "converged"] = [False, True, True, True]
    seen = regimes.observe(rows, NULL)
    assert seen.regime == "undecided"
    assert "triplet" in seen.reason
    assert np.isnan(seen.norm)


def test_a_share_within_its_error_of_the_threshold_is_undecided():
    rows = layer_rows("attractor", depth=4)
    rows.loc[3, "context_share"], rows.loc[3, "context_share_se"] = 0.91, 0.01
    assert "within its error" in regimes.observe(rows, NULL).reason
    rows.loc[3, "context_share_se"] = 0.001
    assert regimes.observe(rows, NULL).regime == "attractor"
    rows.loc[3, "context_share_se"] = np.nan  # an error that is not known is not an error of zero
    assert regimes.observe(rows, NULL).regime == "undecided"


def test_no_collapse_without_nulls_but_a_low_share_needs_none():
    high, low = layer_rows("attractor", depth=5), layer_rows("dispersive decay", depth=8)
    assert "no null" in regimes.observe(high, None).reason
    assert regimes.observe(low, None).regime == "dispersive decay"


def test_a_share_that_random_weights_reach_too_is_no_collapse():
    rows = layer_rows("attractor", depth=5)
    rows["context_share"] = 0.95
    assert regimes.observe(rows, NullShare(0.99, 20)).regime == "dispersive growth"
    assert regimes.observe(rows, NullShare(0.94, 20)).regime == "attractor"


def test_null_share_takes_the_larger_quantile_and_needs_draws():
    nulls = null_rows(0.5, draws=20).drop(columns="injection_norm")  # as in records that ship with a model
    nulls.loc[nulls["null"] == "shuffled_layers", "context_share"] *= 0.5
    found = regimes.null_share(nulls, model="toy", state="position")
    last = nulls[(nulls["layer"] == nulls["layers"]) & (nulls["null"] == "random_weights")]["context_share"]
    assert found is not None
    assert found.quantile == pytest.approx(np.quantile(last, 0.95))
    assert found.draws == 20
    assert regimes.null_share(null_rows(0.5, draws=19), model="toy", state="position") is None
    assert regimes.null_share(nulls, model="toy", state="sequence") is None
    assert regimes.null_share(None, model="toy") is None


def test_scale_free_growth_takes_out_the_growth_of_the_stream():
    """Propagators that grow like the residual stream itself are neutral once scaled (O8)."""
    rows = layer_rows("attractor", depth=6, kappa=1.0, xi=1e-12, sigma=1.1)
    seen = regimes.observe(rows, NULL)  # the helper's hidden_rms grows by 1.1 a layer
    assert seen.growth.slope == pytest.approx(np.log(1.1), abs=1e-9)
    assert seen.growth_scale_free.slope == pytest.approx(0.0, abs=1e-9)


def test_growth_is_the_sum_of_its_two_parts():
    """Least squares is linear: g = slope of the injections + slope of what the propagators make of them."""
    rows = layer_rows("dispersive decay", depth=7, seed=4)
    rows["injection_norm"] *= np.exp(0.3 * rows["layer"])
    rows["arrival"] *= np.exp(0.3 * rows["layer"])
    seen, before = regimes.observe(rows, NULL), regimes.observe(layer_rows("dispersive decay", depth=7, seed=4), NULL)
    # Slopes of seven logarithms of order one: a few eps.
    assert seen.growth.slope == pytest.approx(seen.growth_injection.slope + seen.growth_transmission.slope, abs=1e-12)
    assert seen.growth_transmission.slope == pytest.approx(before.growth_transmission.slope, abs=1e-12)
    assert seen.growth_injection.slope == pytest.approx(before.growth_injection.slope - 0.3, abs=1e-12)


def chain_of_known_split(size: float, passed: float, depth: int = 6, seed: int = 0) -> pd.DataFrame:
    """||B_l|| = size^l and A_l = passed times an orthogonal matrix, so ||P_{L:l+1} B_l|| = passed^(L - l) size^l.

    The injections are Gaussian: how far hypot(along, across) exceeds ||B_l|| differs from layer to layer.
    """
    rng = np.random.default_rng(seed)
    propagators, injections = dense_chain(depth, 12, 10, sigma=passed, kappa=0.3, xi=1.0, rank=6, rng=rng)
    gaussian = [rng.normal(size=b.shape) for b in injections]
    scaled = [size**layer * b / np.linalg.norm(b, 2) for layer, b in enumerate(gaussian, start=1)]
    return pd.DataFrame.from_records(measured_layers(propagators, scaled))


@pytest.mark.parametrize(("size", "passed"), [(1.5, 1.0), (1.5, 1.2), (0.8, 0.7)])
def test_the_parts_of_growth_are_the_chain_s_own(size, passed):
    rows = chain_of_known_split(size, passed)
    seen = regimes.observe(rows, NULL)
    # Norms of products of six 12 x 12 factors: relative rounding below 6 * 12 * 12 eps = 2e-13, and so are the logs'.
    assert seen.growth_transmission.slope == pytest.approx(np.log(passed), abs=1e-12)
    assert seen.growth_injection.slope == pytest.approx(-np.log(size), abs=1e-12)
    assert seen.growth.slope == pytest.approx(np.log(passed / size), abs=1e-12)
    # The two parts of the injection do not give its size: on this chain their hypot would be seen.
    together = np.hypot(np.asarray(rows["injection_along"]), np.asarray(rows["injection_across"]))
    assert abs(regimes.growth(together).slope + np.log(size)) > 1e-3


def test_nothing_lies_between_the_last_injection_and_the_output():
    for rows in (chain_of_known_split(1.5, 1.2), layer_rows("dispersive decay", depth=7), layer_rows("attractor")):
        seen = regimes.evidence(rows)
        assert regimes.transmission(seen.arrival, seen.injection)[-1] == 1.0


def test_later_layers_that_inject_more_look_like_decay_and_the_parts_tell():
    """Orthogonal propagators transmit everything; injections that grow with depth alone make g negative."""
    seen = regimes.observe(chain_of_known_split(1.5, 1.0), NULL)
    assert seen.regime == "dispersive decay"
    assert seen.growth_injection.slope == pytest.approx(seen.growth.slope, abs=1e-12)


def test_an_unknown_size_of_an_injection_leaves_the_rest_standing():
    rows = layer_rows("dispersive decay", depth=8)
    known = regimes.observe(rows, NULL)
    gap = rows.assign(injection_norm=rows["injection_norm"].where(rows["layer"] != 3))
    for incomplete in (gap, rows.drop(columns="injection_norm")):
        seen = regimes.observe(incomplete, NULL)
        assert (seen.regime, seen.growth) == (known.regime, known.growth)
        assert seen.growth_injection.code == seen.growth_transmission.code == "non_finite"
        assert np.isnan(seen.growth_transmission.slope)
    passed = regimes.transmission(*(getattr(regimes.evidence(gap), name) for name in ("arrival", "injection")))
    assert list(np.isnan(passed)) == [layer == 3 for layer in range(1, 9)]


def test_share_errors_are_the_t_quantile_of_the_probes_that_made_them():
    from scipy import stats

    from empirical.jacobians import krylov

    assert regimes.THRESHOLDS.share_errors == pytest.approx(stats.t.ppf(0.975, krylov._PROBES - 1), abs=0.005)


def test_every_threshold_is_moved_both_ways():
    moved = regimes.moved()
    assert moved["as fixed"] == regimes.THRESHOLDS
    assert moved["noise ratio halved"].share == pytest.approx(1 / (1 + 1 / 36))
    assert moved["noise ratio doubled"].share == pytest.approx(1 / (1 + 4 / 9))
    assert len({repr(limits) for limits in moved.values()}) == len(moved) == 13
    assert regimes.noise_ratio(0.9) == pytest.approx(1 / 3)


def test_thresholds_decide_and_nothing_else():
    rows = layer_rows("dispersive growth", depth=8)
    strict = Thresholds(growth=5.0)
    assert regimes.observe(rows, NULL, strict).regime == "dispersive decay"


def test_kinds_of_the_helper_are_those_of_the_definition():
    assert set(regimes.REGIMES) < set(KINDS)
