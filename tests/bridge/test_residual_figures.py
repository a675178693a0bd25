"""Figures of the residual family: maps over strength and alignment, and growth with depth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

from bridge.reporting import figures
from bridge.reporting.figures import style
from tests.helpers.figures import line, nothing_overlaps, panels, words
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec
from theory.sweeping.sweep import sweep


@pytest.fixture(scope="module")
def residual() -> xr.Dataset:
    return sweep(
        ResidualSweepSpec(
            strength=(0.2, 1.0, 4.0),
            alignment=(0.0, 0.8),
            persistence=(0.0, 0.5),
            rank=(1, 2),
            depth=(4, 9),
            dimension=(48,),
            injections=("coherent", "random"),
            seeds=8,
        )
    )


def test_the_residual_map_shows_growth_and_the_strengths_where_it_turns(residual: xr.Dataset) -> None:
    known = figures.sweep_figures(residual)
    assert set(known) == {"residual_map_coherent", "residual_map_random", "residual_growth"}
    for narrow in (True, False):
        figure = known["residual_map_coherent"](narrow=narrow)
        nothing_overlaps(figure, "residual_map")
    shown = panels(figure)
    assert [axes.get_title(loc="left") for axes in shown][1] == "rank 1, persistence ω = 0.5"
    cells = residual.sel(injection="coherent", depth=9, dimension=48, rank=1, persistence=0.5)
    mesh = next(one for one in shown[1].collections if isinstance(one, QuadMesh))
    expected = cells["early_rate"].transpose("alignment", "strength").values
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(2, 3), expected)
    turns = line(shown[1], "measured: growth")
    np.testing.assert_array_equal(turns.get_xdata(), cells["critical_strength"].sel(transition="growth").values)
    codes = cells["critical_strength_code"].sel(transition="ratio").values
    said = [text.get_text() for text in shown[1].texts]
    assert (f"J never collapses: {(codes == 1).sum()} of 2 κ" in "".join(said)) == bool((codes == 1).any())
    outlier = line(shown[1], "outlier's predicted rate")
    assert outlier.get_xdata()[1] == pytest.approx((1 - 0.5) / 0.8)  # omega + tau kappa = 1


def test_the_residual_growth_is_that_of_the_records(residual: xr.Dataset) -> None:
    figure = figures.residual_growth(residual, rank=2)
    nothing_overlaps(figure, "residual_growth")
    cell = residual.sel(injection="random", alignment=0.8, strength=1.0, rank=2, persistence=0.0, dimension=48)
    last = panels(figure)[3]
    curve = next(one for one in last.lines if one.get_marker() == style.MODEL_MARKERS[1])
    np.testing.assert_allclose(curve.get_ydata(), np.exp(cell["context_log_norm"].values))
    assert "n = 8 chains a cell" in words(figure)


def test_the_residual_figures_refuse_other_sweeps() -> None:
    flat = sweep(SweepSpec((0.5, 1.0), (0.3, 0.8), (0.2,), (2, 4), (9,), seeds=3))
    for draw in (figures.residual_map, figures.residual_growth):
        assert "residual family" in draw(flat).axes[0].texts[0].get_text()
