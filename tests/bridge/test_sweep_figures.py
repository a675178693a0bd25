"""Figures of sweeps: what is drawn is what the records hold, in both layouts, degenerate cells and all."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh

import theory
from bridge.reporting import figures
from bridge.reporting.figures import style
from bridge.reporting.figures.boundary import threshold_of
from bridge.reporting.figures.collapse import width_table
from bridge.reporting.figures.phase import OPEN
from bridge.reporting.figures.ratio import bound_a_layer
from tests.helpers.figures import line as _line
from tests.helpers.figures import nothing_overlaps as _nothing_overlaps
from tests.helpers.figures import panels as _panels
from tests.helpers.figures import words as _words
from tests.helpers.records import run_tables
from theory.phase.areas import resolved_areas
from theory.phase.critical_context import PhaseThresholds
from theory.phase.finite_size import finite_size
from theory.sweeping.spec import SweepSpec
from theory.sweeping.sweep import sweep


@pytest.fixture(scope="module")
def flat() -> xr.Dataset:
    return sweep(
        SweepSpec(
            gain=(2.0, 0.5, 1.0, 4.0),
            alignment=(0.9, 0.2, 0.5),
            gap=(0.1, 0.4),
            depth=(3, 8),
            dimension=(12, 40),
            seeds=10,
            quantities=("product", "early"),
            injections=("coherent", "mixed"),
            thresholds=PhaseThresholds(ratio=0.2),
        )
    )


def test_every_figure_has_labels_n_and_both_layouts(flat: xr.Dataset) -> None:
    before = dict(matplotlib.rcParams)
    known = figures.sweep_figures(flat)
    assert {"phase_map", "singular_ratio", "injection_map", "boundary_depth_coherent", "boundary_dimension_mixed"} <= {
        *known
    }
    assert {"context_share_coherent", "context_growth_mixed", "context_ratio_mixed", "width_early"} <= {*known}
    for name, draw in known.items():
        for narrow in (False, True):
            figure = draw(narrow=narrow)
            assert figure.get_size_inches()[0] == (style.NARROW_INCHES if narrow else style.WIDE_INCHES)
            assert all(axes.get_xlabel() and axes.get_ylabel() for axes in _panels(figure)), name
            assert "n = 10 chains" in _words(figure), name
            if name in LAID_OUT:
                _nothing_overlaps(figure, name)
    assert dict(matplotlib.rcParams) == before


LAID_OUT = (
    "phase_map",
    "singular_ratio",
    "injection_map",
    "context_growth_mixed",
    "boundary_depth_mixed",
    "width_early",
)
"""One figure of each kind: laying out is what takes time."""


def test_the_map_shows_the_fractions_at_their_gains_in_any_order(flat: xr.Dataset) -> None:
    figure = figures.context_map(flat, "growth", injection="mixed", depth=3, dimension=12)
    for axes, gap in zip(_panels(figure), (0.1, 0.4), strict=True):
        mesh = next(one for one in axes.collections if isinstance(one, QuadMesh))
        drawn = np.asarray(mesh.get_array()).reshape(3, 4)
        cells = flat.sel(injection="mixed", gap=gap, depth=3, dimension=12)["context_grown"]
        expected = cells.sel(gain=[0.5, 1.0, 2.0, 4.0], alignment=[0.2, 0.5, 0.9]).transpose("alignment", "gain")
        np.testing.assert_array_equal(drawn, expected.values)
        corners = np.asarray(mesh.get_coordinates())
        assert np.allclose(corners[0, :, 0], np.sqrt(2.0) * np.array([0.25, 0.5, 1, 2, 4]))
    assert "mixed injections, L = 3, d = 12, n = 10 chains a cell" in _words(figure)


def test_the_measured_boundary_and_its_interval_are_those_of_the_records(flat: xr.Dataset) -> None:
    figure = figures.context_map(flat, "share")
    axes = _panels(figure)[0]
    cells = flat.sel(transition="share", injection="coherent", gap=0.1, depth=8, dimension=40).sortby("alignment")
    line = _line(axes, "measured")
    np.testing.assert_array_equal(line.get_xdata(), cells["context_gain"].values)
    band = next(one for one in axes.collections if not isinstance(one, QuadMesh))
    corners = band.get_paths()[0].vertices
    for kappa in cells["alignment"].values:
        ends = sorted(set(corners[corners[:, 1] == kappa, 0]))
        known = cells.sel(alignment=kappa)
        assert ends == pytest.approx(sorted({float(known["context_gain_low"]), float(known["context_gain_high"])}))
    paper = _line(axes, "the paper")
    assert set(paper.get_xdata()) == {1.0}


def test_the_threshold_is_what_was_asked_for(flat: xr.Dataset) -> None:
    assert threshold_of(flat, "ratio") == "0.2" and threshold_of(flat, "share") == "1 / L²"
    assert "below 0.2" in _words(figures.context_map(flat, "ratio"))
    with pytest.raises(ValueError, match="transition must be one of share, growth, ratio; got 'odd'"):
        figures.context_map(flat, "odd")


def test_boundary_along_depth_has_the_mean_field_and_the_paper_beside_it(flat: xr.Dataset) -> None:
    figure = figures.boundary_along(flat, "depth")
    first = _panels(figure)[1]  # the product's, gap 0.4
    assert first.get_title(loc="left") == "size of $P_L$, ξ = 0.4"
    levels = sorted(float(np.asarray(line.get_ydata())[0]) for line in first.lines if len(set(line.get_ydata())) == 1)
    assert np.allclose(sorted({round(value, 9) for value in levels}), [0.5, 1.0])  # kappa 0.2 below, else 1
    shown = np.concatenate([np.asarray(line.get_ydata()) for line in first.lines if line.get_marker() == "o"])
    known = flat["product_gain"].sel(alignment=0.2, gap=0.4, dimension=40).sortby("depth").values
    np.testing.assert_array_equal(shown, known)
    with pytest.raises(ValueError, match="along must be"):
        figures.boundary_along(flat, "gap")


def test_the_ratio_stays_below_T10_and_the_bound_is_that_of_theory(flat: xr.Dataset) -> None:
    """Drawn from the same numbers: every chain's ratio obeys (T10), so every median does."""
    kappas, gap = np.array([0.7, 0.9, 1.0]), 0.1
    bound = bound_a_layer(kappas, gap, 8)
    assert np.allclose(8 * bound, np.log(gap**8 / theory.min_rate(kappas, np.full(3, gap)) ** 14))
    assert np.isnan(bound_a_layer(np.array([0.1]), gap, 8)).all()  # below kappa_c
    for axes, depth in zip(_panels(figures.singular_ratio(flat)), (3, 8), strict=True):
        for gap in (0.1, 0.4):
            cells = flat.sel(depth=depth, gap=gap, dimension=40).sortby("alignment")
            line = next(
                one
                for one in axes.lines
                if one.get_marker() not in ("None", None, "")
                and np.allclose(one.get_xdata(), [0.2 / gap, 0.5 / gap, 0.9 / gap])
            )
            np.testing.assert_allclose(line.get_ydata(), cells["log_ratio_median"].values / depth)
            most = bound_a_layer(cells["alignment"].values, gap, depth)
            assert (np.asarray(line.get_ydata())[np.isfinite(most)] <= most[np.isfinite(most)] + 1e-12).all()


def test_widths_stand_over_their_prediction(flat: xr.Dataset) -> None:
    """What is drawn is width over (T21): a cell's own, at its own kappa / xi, where kappa > xi and nowhere else."""
    table = width_table(flat, "product")
    assert len(table) == 3 * 2 * 2 * 2
    upper = _panels(figures.width_collapse(flat, "product"))[1]
    points = np.concatenate(
        [line.get_xydata() for line in upper.lines if line.get_marker() == "o" and len(line.get_xdata())]
    )
    cells = flat.sel(alignment=0.5, gap=0.4, depth=8, dimension=12)
    predicted = 0.4 * 0.75 / (0.5 * np.sqrt(0.25 - 0.16)) / np.sqrt(8 * 11)
    mine = points[np.isclose(points[:, 0], 0.5 / 0.4)]
    assert len(mine) == 4 and np.isclose(mine[:, 1], float(cells["product_width"]) / predicted).any()
    assert points[:, 0].min() > 1


def test_the_decided_fraction_is_that_of_the_analysis(flat: xr.Dataset) -> None:
    figure = figures.resolved_coexistence(flat)
    _nothing_overlaps(figure, "coexistence")
    assert [axes.get_title(loc="left")[-5:] for axes in _panels(figure)][1:] == ["L = 3", "L = 8"]
    line = _line(_panels(figure)[2], "growth of J, mixed")
    table = resolved_areas(flat.sortby(["gain", "alignment"]))
    rows = table.query("quantity == 'growth' and injection == 'mixed' and depth == 8 and dimension == 40")
    np.testing.assert_array_equal(line.get_ydata(), rows["resolved"].to_numpy())
    assert 0 < min(line.get_ydata()) <= 1


def test_the_open_area_is_the_closed_form(flat: xr.Dataset) -> None:
    """Over the sweep's box, at the sweep's gaps; a sum over its 4 x 3 nodes is far from it."""
    line = next(one for one in _panels(figures.resolved_coexistence(flat))[0].lines if one.get_marker() == "o")
    exact = [theory.certified_areas(gap, (0.5, 4.0), (0.2, 0.9)).coexistence for gap in (0.1, 0.4)]
    np.testing.assert_allclose(line.get_ydata(), exact)
    table = resolved_areas(flat.sortby(["gain", "alignment"])).drop_duplicates("gap")
    assert np.abs(table["coexistence"].to_numpy() - exact).max() > 0.05


def test_open_intervals_have_marks_and_no_band(flat: xr.Dataset) -> None:
    """An end at infinity, or at 0, is no length on paper; what is closed beside it stays a band."""
    opened = flat.copy(deep=True)
    first = {"transition": "growth", "injection": "coherent", "alignment": 0.5, "gap": 0.1, "depth": 8, "dimension": 40}
    opened["context_gain_high"].loc[first] = np.inf
    opened["context_gain_low"].loc[first | {"alignment": 0.9}] = 0.0
    figure = figures.context_map(opened, "growth")
    axes = _panels(figure)[0]
    marks = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines if line.get_gid() == OPEN}
    gain = {kappa: float(opened["context_gain"].sel(first | {"alignment": kappa})) for kappa in (0.5, 0.9)}
    assert marks == {">": [[gain[0.5], 0.5]], "<": [[gain[0.9], 0.9]]}
    highs = opened["context_gain_high"].sel({key: first[key] for key in first if key != "alignment"}).values
    bands = [one for one in axes.collections if not isinstance(one, QuadMesh)]
    corners = np.concatenate([path.vertices for one in bands for path in one.get_paths()] or [np.zeros((1, 2))])
    assert corners[:, 0].max() <= highs[np.isfinite(highs)].max()
    assert "open triangles" in _words(figure)
    assert "open triangles" not in _words(figures.context_map(flat, "growth"))
    along = figures.boundary_along(opened, "depth")
    arrows = [text for one in along.axes for text in one.texts if text.get_gid() == OPEN]
    assert [text.xy[1] for text in arrows] == [gain[0.5], gain[0.9]]
    assert [np.sign(text.xyann[1]) for text in arrows] == [1, -1]
    assert "arrows:" in _words(along) and "arrows:" not in _words(figures.boundary_along(flat, "depth"))


def test_missing_crossings_are_counted(flat: xr.Dataset) -> None:
    lacking = flat.copy(deep=True)
    lacking["product_gain"].loc[{"gap": 0.4, "dimension": 40, "depth": 3, "alignment": 0.5}] = np.nan
    figure = figures.boundary_along(lacking, "depth")
    assert _panels(figure)[1].get_title(loc="left") == "size of $P_L$, ξ = 0.4 (5 of 6 points)"
    assert "no point: no crossing within the gains searched" in _words(figure)


def test_lines_for_the_size_of_products_stay_off_the_ratio(flat: xr.Dataset) -> None:
    """(T5), (T6) and (T18) speak of ||P_L||: no such line on maps and rows of sigma_2 / sigma_1."""
    for transition, expected in (("growth", True), ("share", True), ("ratio", False)):
        words = _words(figures.context_map(flat, transition))
        assert [tag in words for tag in ("(T5)", "(T6)", "(T18)")] == [expected] * 3
        assert ("(T19)" in words) != expected and "Regime I certain" not in words
    panels = {
        axes.get_title(loc="left").split(" (")[0]: axes for axes in _panels(figures.boundary_along(flat, "depth"))
    }
    level = {
        name: {
            float(line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() == "--" and len(line.get_ydata())
        }
        for name, axes in panels.items()
    }
    assert level["growth of $J_L$, ξ = 0.4"] >= {0.5, 1.0} and not level["$\\sigma_2/\\sigma_1$ of $J_L$, ξ = 0.4"]


def test_the_boundary_of_the_chains_is_not_drawn_among_models(flat: xr.Dataset) -> None:
    layers = run_tables({"organism-a": "dispersive growth"}, clips=3, conditions=("clean",), depth=3)["layers"]
    alone, beside = figures.phase_map(flat), figures.phase_map(flat, layers)
    assert "measured: median" in _words(alone) and "measured: median" not in _words(beside)
    assert "flat residual" in _words(alone) and "flat residual" in _panels(beside)[0].get_title(loc="left")
    assert "L = 3, d = 40" in _words(beside)


def test_rounding_is_no_width() -> None:
    """Two layers from u_1, and xi = 1: every chain is the same, and what is measured is rounding."""
    data = sweep(SweepSpec((1.0,), (0.3, 0.8), (0.4, 1.0), (2, 3, 6, 9), (16, 40), seeds=12, quantities=("early",)))
    assert float(data["early_width"].sel(gap=0.4, depth=2).max()) < 1e-12
    table = width_table(data, "early")
    assert set(table["gap"]) == {0.4} and set(table["depth"]) == {3, 6, 9}
    figure = figures.width_collapse(data, "early")
    fits = finite_size(data.sel(depth=[3, 6, 9], gap=[0.4]), "early")
    bars = [one for one in _panels(figure)[3].containers if one.get_label() == "fitted exponent of L"]
    np.testing.assert_allclose(bars[0].lines[0].get_ydata(), fits["exponent_depth"])
    assert "12 cells, L = 3 to 9" in _words(figure)


def test_a_single_dimension_is_coloured_by_depth(flat: xr.Dataset) -> None:
    words = _words(figures.width_collapse(flat.sel(dimension=[40]), "product"))
    assert "L = 3" in words and "L = 8" in words and "d = 40;" in words


def test_ticks_between_powers_of_ten_are_of_one_kind() -> None:
    _, (axes,) = style.grid_of_panels(1, columns=1, height=2.0, narrow=False)
    axes.plot([5e3, 4e4], [1, 2])
    style.log_axis(axes.xaxis)
    axes.figure.draw_without_rendering()
    texts = [tick.get_text() for tick in axes.get_xticklabels()]
    assert "10000" in texts and "20000" in texts


def test_degenerate_cells_are_left_out_and_everything_is_drawn() -> None:
    """Gap 0 and 1, alignment 0 and 1, depth 1, gain 0, dimension 3: codes in the records, no failure in the figures."""
    data = sweep(
        SweepSpec(
            gain=(0.0, 0.5, 2.0),
            alignment=(0.0, 0.5, 1.0),
            gap=(0.0, 0.5, 1.0),
            depth=(1, 3),
            dimension=(3, 9),
            seeds=8,
            quantities=("product", "early"),
            injections=("coherent",),
        )
    )
    for name, draw in figures.sweep_figures(data).items():
        figure = draw(narrow=False)
        assert _panels(figure) or figure.axes[0].texts, name
        figure.draw_without_rendering()


def test_too_few_chains_for_an_interval_are_drawn_without_one() -> None:
    data = sweep(SweepSpec((0.5, 1.0), (0.3, 0.8), (0.2,), (2, 4), (9,), seeds=3, injections=("random",)))
    for name in ("context_growth_random", "boundary_depth_random", "phase_map"):
        figures.sweep_figures(data)[name](narrow=True).draw_without_rendering()


def test_what_a_sweep_lacks_is_said(flat: xr.Dataset) -> None:
    bare = flat.drop_vars([name for name in flat.data_vars if str(name).startswith("context")])
    assert "no injections" in figures.context_map(bare).axes[0].texts[0].get_text()
    assert "no injections" in figures.injection_map(bare).axes[0].texts[0].get_text()
    one = flat.isel(depth=[0])
    assert "one depth" in figures.boundary_along(one, "depth").axes[0].texts[0].get_text()
    assert "boundary_depth_coherent" not in figures.sweep_figures(one)
    assert "boundary_dimension_coherent" in figures.sweep_figures(one)
