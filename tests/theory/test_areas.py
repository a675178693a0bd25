"""Areas of the phase map: closed forms against quadrature, and sums over planted maps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import integrate

from theory.bounds.rates import critical_alignment, max_rate, min_rate
from theory.phase.areas import certified_areas, misjudged_areas, resolved_areas
from theory.phase.critical_context import critical_context_gain
from theory.phase.offsets import boundary_offsets, random_offset


def quadrature(gap, gains, alignments):
    """The three areas by adaptive quadrature of the clipped curves."""
    low, high = np.log(gains)
    critical = float(critical_alignment(gap))
    points = [x for x in (critical,) if alignments[0] < x < alignments[1]]

    def first(kappa):
        return np.clip(np.log(kappa / max_rate(kappa, gap)) if kappa > 0 else low, low, high) - low

    def second(kappa):
        return high - np.clip(np.log(kappa / min_rate(kappa, gap)), low, high) if kappa >= critical else 0.0

    def area(f):
        return integrate.quad(f, *alignments, points=points or None, limit=400)[0]

    return area(first), area(second), (high - low) * (alignments[1] - alignments[0])


@pytest.mark.parametrize("gap", [1e-6, 0.03, 0.4, 0.9, 1.0])
@pytest.mark.parametrize(
    ("gains", "alignments"),
    [((0.25, 4.0), (0.0, 1.0)), ((0.5, 1.2), (0.1, 0.95)), ((1.05, 3.0), (0.2, 1.0)), ((0.1, 0.8), (0.3, 0.6))],
)
def test_closed_areas_are_the_integrals_of_the_clipped_curves(gap, gains, alignments):
    found = certified_areas(gap, gains, alignments)
    one, two, total = quadrature(gap, gains, alignments)
    np.testing.assert_allclose([found.certified_I, found.certified_II, found.total], [one, two, total], atol=2e-7)
    assert found.coexistence == pytest.approx(total - one - two, abs=4e-7)


@pytest.mark.parametrize("gap", [0.01, 0.3, 0.8, 1.0])
def test_uncertified_part_of_the_papers_regime_I_in_closed_form(gap):
    # The box reaches so low that what lies below it, about 1e-9 of alignment, does not count.
    found = certified_areas(gap, (1e-9, 1.0))
    assert found.uncertified_decay == pytest.approx(2 * np.sqrt(gap) / (1 + np.sqrt(gap)), rel=1e-6)
    assert certified_areas(gap, (0.25, 4.0)).uncertified_decay < found.uncertified_decay
    assert certified_areas(gap, (1.0, 4.0)).uncertified_decay == 0


def test_limits_of_the_areas():
    # At xi = 0 the two curves are rho = 1: nothing coexists.
    none = certified_areas(0.0)
    assert none.coexistence == pytest.approx(0, abs=1e-12)
    assert none.certified_I == pytest.approx(np.log(4))
    # At xi = 1 nothing is certified to grow.
    assert certified_areas(1.0).certified_II == pytest.approx(0, abs=1e-12)
    for bad in [{"gains": (1.0, 0.5)}, {"gains": (0.0, 1.0)}, {"alignments": (0.5, 0.5)}]:
        with pytest.raises(ValueError, match="ascending"):
            certified_areas(0.5, **bad)


GAIN, ALIGNMENT, GAP = np.geomspace(0.02, 4.0, 241), np.linspace(0.005, 0.995, 199), 0.3


def planted(grown=None, gain_of_boundary=None, code=0, spread=0.0):
    """A dataset of one gap, depth and dimension, with a given fraction grown and product boundary."""
    one = {"gap": [GAP], "depth": [8], "dimension": [64]}
    dims = ("alignment", "gap", "depth", "dimension")
    data = {}
    if grown is not None:
        data["grown"] = (("gain", *dims), grown[:, :, None, None, None])
    if gain_of_boundary is not None:
        shape = (ALIGNMENT.size, 1, 1, 1)
        for name, factor in (("", 1.0), ("_low", np.exp(-spread)), ("_high", np.exp(spread))):
            data[f"product_gain{name}"] = (dims, (gain_of_boundary * factor).reshape(shape))
        data["product_gain_code"] = (dims, np.broadcast_to(code, ALIGNMENT.size).reshape(shape).copy())
    return xr.Dataset(data, coords={"gain": GAIN, "alignment": ALIGNMENT, **one}, attrs={"seeds": 32})


def test_resolved_area_counts_cells_on_either_side():
    above = GAIN[:, None] > 1 + 0 * ALIGNMENT
    frame = resolved_areas(planted(np.where(above, 1.0, 0.0)))
    row = frame.iloc[0]
    exact = certified_areas(GAP, (GAIN[0], GAIN[-1]), (ALIGNMENT[0], ALIGNMENT[-1]))
    # A grid step along the two curves, each at most 1 long in alignment and ln 200 in gain.
    step = np.log(GAIN[1] / GAIN[0]) + 0.005 * np.log(GAIN[-1] / GAIN[0])
    assert row.coexistence == pytest.approx(exact.coexistence, abs=step)
    assert row.resolved == pytest.approx(1)
    assert row.below * row.coexistence == pytest.approx(exact.uncertified_decay, abs=step)
    assert row.quantity == "product"
    assert row.chains == 32
    half = resolved_areas(planted(np.where(above, 0.94, 0.0))).iloc[0]
    assert half.resolved == pytest.approx(row.below)
    assert half.undecided == pytest.approx(row.above)
    lost = resolved_areas(planted(np.where(above, np.nan, 0.0))).iloc[0]
    assert lost.undefined == pytest.approx(row.above)
    assert lost.undecided == pytest.approx(0, abs=1e-12)


def test_misjudged_area_of_rho_1_is_that_above_the_mean_field():
    mean_field = ALIGNMENT / np.maximum(ALIGNMENT, GAP)
    frame = misjudged_areas(planted(gain_of_boundary=mean_field)).set_index("rule")
    assert frame.loc["mean_field", "area"] == pytest.approx(0, abs=1e-12)
    # ln(xi / kappa) from 0 to xi has the area xi; here from 0.005, less 0.005 (1 + ln(xi / 0.005)).
    exact = GAP - 0.005 * (1 + np.log(GAP / 0.005))
    assert frame.loc["paper", "area"] == pytest.approx(exact, rel=2e-3)
    assert frame.loc["paper", "missed_growth"] == pytest.approx(frame.loc["paper", "area"])
    assert frame.loc["paper", "missed_decay"] == pytest.approx(0, abs=1e-12)
    assert (frame["defined"] == 1).all()


def test_misjudged_area_has_an_interval_and_takes_boundaries_outside_at_the_edge():
    mean_field = ALIGNMENT / np.maximum(ALIGNMENT, GAP)
    wide = misjudged_areas(planted(gain_of_boundary=mean_field, spread=0.1)).set_index("rule")
    assert wide.loc["mean_field", "low"] == 0
    assert wide.loc["mean_field", "high"] == pytest.approx(0.1 * 0.99, rel=0.01)
    assert wide.loc["paper", "low"] < wide.loc["paper", "area"] < wide.loc["paper", "high"]
    nowhere = misjudged_areas(planted(gain_of_boundary=np.full(ALIGNMENT.size, np.nan), code=1)).set_index("rule")
    assert nowhere.loc["paper", "area"] == pytest.approx(np.log(4) * 0.99)
    assert nowhere.loc["paper", "missed_decay"] == pytest.approx(nowhere.loc["paper", "area"])
    undefined = misjudged_areas(planted(gain_of_boundary=np.full(ALIGNMENT.size, np.nan), code=5))
    assert (undefined["defined"] == 0).all()
    falling = misjudged_areas(planted(gain_of_boundary=np.full(ALIGNMENT.size, np.nan), code=6))
    assert (falling["defined"] == 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="level must lie"):
        resolved_areas(planted(np.zeros((GAIN.size, ALIGNMENT.size))), level=0.5)
    with pytest.raises(ValueError, match="dataset must hold"):
        resolved_areas(planted())
    with pytest.raises(ValueError, match="must ascend"):
        resolved_areas(planted(np.zeros((GAIN.size, ALIGNMENT.size))).isel(gain=slice(None, None, -1)))


def test_offsets_from_the_mean_field_are_what_was_planted():
    mean_field = ALIGNMENT / np.maximum(ALIGNMENT, GAP)
    frame = boundary_offsets(planted(gain_of_boundary=mean_field * np.exp(0.03), spread=0.01))
    assert len(frame) == ALIGNMENT.size
    np.testing.assert_allclose(frame["offset"], 0.03, atol=1e-12)
    np.testing.assert_allclose(frame["high"] - frame["low"], 0.02, atol=1e-12)
    np.testing.assert_allclose(frame["times_depth"], 0.24, atol=1e-11)
    with pytest.raises(ValueError, match="dataset must hold product_gain"):
        boundary_offsets(planted())


@pytest.mark.parametrize("dimension", [64, 4096])
def test_random_injections_put_the_boundary_off_by_half_ln_d_over_depth(dimension):
    """The gain where ||J_L|| begins to grow in proportion to L: within 30 % of the order of magnitude stated."""
    found = critical_context_gain(
        0.9, 0.1, [16, 32], dimension=dimension, chains=64, seed=3, along=0.0, injected=1.0, frame="isotropic", scan=9
    )["growth"]
    for row, depth in enumerate((16, 32)):
        assert np.log(found.gain[row, 0]) / random_offset(depth, dimension) == pytest.approx(1, abs=0.3)
    coherent = critical_context_gain(0.9, 0.1, [32], dimension=dimension, chains=64, seed=3, injected=0.3, scan=9)[
        "growth"
    ]
    assert abs(np.log(coherent.gain[0, 0])) < 0.1 * random_offset(32, dimension)
