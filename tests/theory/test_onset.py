"""Where collapse begins, and where J_L is of rank one: planted maps, bounds at their own thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from theory.bounds.rates import critical_alignment, min_rate
from theory.phase.onset import certified_onset, context_onset, product_onset, typical_onset
from theory.phase.rank_one import rank_one
from theory.regimes.typical import typical_log_ratio

ALIGNMENT, GAP, DEPTH = np.linspace(0.02, 0.98, 49), (0.05, 0.4), (4, 12, 32)


def product_map(alignment=ALIGNMENT, spread=0.0):
    """The median of ln sigma_2 / sigma_1 as (T19) has it, L typical_log_ratio."""
    kappa, xi, depth = np.meshgrid(alignment, GAP, DEPTH, indexing="ij")
    median = (depth * typical_log_ratio(kappa, xi))[..., None]
    dims = ("alignment", "gap", "depth", "dimension")
    return xr.Dataset(
        {
            "log_ratio_median": (dims, median),
            "log_ratio_median_low": (dims, median - spread),
            "log_ratio_median_high": (dims, median + spread),
        },
        coords={"alignment": alignment, "gap": list(GAP), "depth": list(DEPTH), "dimension": [64]},
        attrs={"seeds": 32},
    )


def test_onset_of_a_map_by_T19_is_that_of_T19():
    frame = product_onset(product_map(np.linspace(0.01, 1.0, 991)))
    assert len(frame) == 6
    typical = np.where(frame["typical"] <= 1, frame["typical"], np.inf)
    np.testing.assert_allclose(frame["onset"], typical, atol=1e-4)
    # xi 10^(1/L): 0.05 * 1.778 at L = 4.
    first = frame[(frame.gap == 0.05) & (frame.depth == 4)].iloc[0]
    assert first.onset == pytest.approx(0.05 * 10**0.25, abs=1e-4)
    assert first.chains == 32


def test_onset_has_an_interval_and_says_when_there_is_none():
    frame = product_onset(product_map(spread=0.2))
    assert (frame["low"] < frame["onset"]).all()
    assert (frame["onset"] < frame["high"]).all()
    none = product_onset(product_map(np.linspace(0.01, 0.04, 7)))
    assert np.isinf(none["onset"]).all()
    whole = product_onset(product_map(np.linspace(0.9, 0.98, 5)))
    assert (whole[whole.gap == 0.05]["onset"] == 0).all()


@pytest.mark.parametrize("depth", [2, 4, 12, 32])
@pytest.mark.parametrize("gap", [0.01, 0.1, 0.3])
def test_certified_onset_is_where_T10_meets_the_threshold(gap, depth):
    onset = float(certified_onset(gap, depth, 0.1))

    def bound(kappa):
        return depth * np.log(gap) - 2 * (depth - 1) * np.log(min_rate(kappa, gap))

    if np.isinf(onset):
        assert bound(1.0) > np.log(0.1)  # not even aligned chains: xi^L
        return
    assert onset >= critical_alignment(gap) - 1e-12
    if onset > critical_alignment(gap) + 1e-9:
        assert bound(onset) == pytest.approx(np.log(0.1), abs=1e-9)
    else:
        assert bound(onset) <= np.log(0.1) + 1e-9
    # No chain above it fails: the slowest twisted chain (T11) is the worst there is.
    kappa = min(1.0, onset * 1.001)
    s = np.linalg.svd(np.linalg.matrix_power(slowest_layer(kappa, gap), depth), compute_uv=False)
    assert s[1] / s[0] < 0.1
    assert onset >= float(typical_onset(gap, depth, 0.1)) - 1e-12


def slowest_layer(kappa, gap):
    """(T11): the layer whose powers grow like Lambda_min."""
    s = np.sqrt((1 - kappa) * (1 + kappa))
    return np.array([[kappa, -s], [gap * s, gap * kappa]])


GAIN = np.geomspace(0.5, 2.0, 9)


def context_map(noise, gain_of_collapse, alignment=(0.3, 0.8, 0.95), gap=0.01, depth=4, spread=0.01):
    """A map of J_L at one gap, depth and dimension with a given ln noise ratio and critical gain."""
    point = ("injection", "gain", "alignment", "gap", "depth", "dimension")
    line = ("transition", "injection", "alignment", "gap", "depth", "dimension")
    values = np.broadcast_to(noise, (GAIN.size, len(alignment)))[None, :, :, None, None, None]
    critical = np.broadcast_to(gain_of_collapse, len(alignment)).reshape(1, 1, -1, 1, 1, 1)
    with np.errstate(invalid="ignore"):
        collapsed = (GAIN[:, None] > np.asarray(gain_of_collapse)).astype(float)
    shape = (1, GAIN.size, len(alignment), 1, 1, 1)
    return xr.Dataset(
        {
            "context_log_noise": (point, values),
            "context_log_noise_low": (point, values - spread),
            "context_log_noise_high": (point, values + spread),
            "context_collapsed": (point, np.broadcast_to(collapsed, (GAIN.size, len(alignment))).reshape(shape)),
            "context_gain": (line, critical),
            "context_gain_low": (line, critical * 0.9),
            "context_gain_high": (line, critical * 1.1),
        },
        coords={
            "transition": ["ratio"],
            "injection": ["coherent"],
            "gain": GAIN,
            "alignment": list(alignment),
            "gap": [gap],
            "depth": [depth],
            "dimension": [64],
        },
        attrs={"seeds": 16},
    )


def test_onset_of_the_context_is_read_off_its_critical_gains():
    row = context_onset(context_map(0.0, [np.nan, 1.3, 0.9])).iloc[0]
    assert (row.least_alignment, row.gain_there) == (0.8, 1.3)
    assert (row.lowest_gain, row.at_alignment) == (0.9, 0.95)
    assert (row.low, row.high) == pytest.approx((0.81, 0.99))
    above = [(GAIN > 1.3).sum(), (GAIN > 0.9).sum()]
    assert row.collapsed == pytest.approx(sum(above) / (3 * GAIN.size))
    never = context_onset(context_map(0.0, [np.nan] * 3)).iloc[0]
    assert np.isnan(never.lowest_gain)
    assert never.collapsed == 0


def test_rank_one_counts_the_cells_of_the_papers_hypotheses_apart():
    # Noise 0.05 at alignment 0.95 alone; the hypotheses hold at 0.8 and 0.95 from gain 1 on: 5 of 9 gains.
    noise = np.log([0.5, 0.2, 0.05])
    row = rank_one(context_map(noise, [np.nan, 1.3, 0.9])).iloc[0]
    assert (row.cells, row.hypothesis_cells) == (27, 10)
    assert (row.holds, row.fails) == pytest.approx((1 / 3, 2 / 3))
    assert (row.hypothesis_holds, row.hypothesis_fails) == pytest.approx((0.5, 0.5))
    assert (row.noise_least, row.noise_greatest) == pytest.approx((0.05, 0.2))
    unresolved = rank_one(context_map(np.log(0.1), [np.nan] * 3)).iloc[0]
    assert unresolved.holds == unresolved.fails == 0
    deep = rank_one(context_map(noise, [np.nan] * 3, gap=0.2)).iloc[0]
    assert deep.hypothesis_cells == 0  # L xi / kappa is near 1
    assert np.isnan(deep.hypothesis_holds)


def test_refusals():
    with pytest.raises(ValueError, match="ratio must lie"):
        typical_onset(0.1, 4, 1.0)
    with pytest.raises(ValueError, match="noise must be positive"):
        rank_one(context_map(0.0, [1.0] * 3), noise=0.0)
    for function in (product_onset, context_onset, rank_one):
        with pytest.raises(ValueError, match="dataset must hold"):
            function(xr.Dataset())
