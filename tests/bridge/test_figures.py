"""Figures are pure functions of records: no global state, every layout, and a reason where there is nothing to draw."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bridge.comparison.compare import compare
from bridge.comparison.pooled import pool
from bridge.comparison.tables import wer_table
from bridge.ledger.activation_claims import final_points
from bridge.reporting import figures
from bridge.reporting.figures import style
from bridge.reporting.figures.phase import _extended, measured_points
from tests.helpers.records import clip_row, run_tables, sweep_dataset

MODEL = "organism-a"


@pytest.fixture(scope="module")
def run():
    frames = run_tables({MODEL: "dispersive growth"}, clips=5, conditions=("clean", "noise"), depth=3)
    frames["comparison"] = compare(frames["layers"], frames["clips"], frames["nulls"])
    return frames | {"pooled": pool(frames["activations"], resamples=10)}


def every(run) -> dict:
    layers, nulls, pooled = run["layers"], run["nulls"], run["pooled"]
    return {
        "phase": lambda narrow: figures.phase_map(sweep_dataset(), layers, narrow=narrow),
        "layers": lambda narrow: figures.layer_profiles(layers, nulls, MODEL, "position", narrow=narrow),
        "context": lambda narrow: figures.context_spectra(layers, nulls, MODEL, "position", narrow=narrow),
        "arrival": lambda narrow: figures.arrival(layers, MODEL, ["position", "sequence"], narrow=narrow),
        "plane": lambda narrow: figures.regime_plane(run["comparison"], narrow=narrow),
        "certificate": lambda narrow: figures.certificate_gap(run["comparison"], narrow=narrow),
        "changes": lambda narrow: figures.changes_by_layer(pooled, MODEL, narrow=narrow),
        "clouds": lambda narrow: figures.clouds(pooled, final_points(run["activations"]), [MODEL], narrow=narrow),
        "tails": lambda narrow: figures.tail_ratios(pooled, MODEL, narrow=narrow),
        "wer": lambda narrow: figures.error_rates(wer_table(run["clips"], seed=0), run["clips"], narrow=narrow),
    }


NAMES = ("phase", "layers", "context", "arrival", "plane", "certificate", "changes", "clouds", "tails", "wer")


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_labelled_axes_in_both_layouts(run, name):
    before = dict(matplotlib.rcParams)
    for narrow in (False, True):
        figure = every(run)[name](narrow)
        assert isinstance(figure, Figure)
        assert figure.get_size_inches()[0] == (style.NARROW_INCHES if narrow else style.WIDE_INCHES)
        titled = [axes for axes in figure.axes if axes.get_title(loc="left")]
        assert titled
        assert all(axes.get_ylabel() for axes in titled)
        assert any(axes.lines or axes.collections for axes in titled)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize("name", NAMES)
def test_figures_say_how_many_clips(run, name):
    figure = every(run)[name](False)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    words += " ".join(label.get_text() for axes in figure.axes for label in axes.get_xticklabels())
    assert "n = " in words or name == "phase"


def test_far_error_rates_are_counted_at_the_edge_and_crush_nothing(run):
    """Two loops among two hundred clips end the axis at 2; without it all are shown."""
    wer = np.tile([0.0, 0.25, 0.5, 1.0], 50)
    clips = pd.DataFrame.from_records(
        [clip_row(MODEL, f"c{i}", "noise", wer=rate, truncated=i == 0) for i, rate in enumerate(wer)]
    )

    def drawn(rates):
        rows = clips.assign(wer=rates)
        return figures.error_rates(wer_table(rows, seed=0), rows).axes[0]

    plain = drawn(wer)
    assert plain.get_ylim()[1] < 1.2 and not plain.texts
    far = wer.copy()
    far[[0, 3]] = 10.0, 7.0
    cut = drawn(far)
    assert cut.get_ylim()[1] == 2.0
    assert [text.get_text() for text in cut.texts] == ["2 of 200 above 2, at the upper edge: up to 10"]
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in cut.lines]
    assert sum(int((line == 2.0).sum()) for line in heights) == 2  # one hollow, of cut audio, and one filled
    assert max(float(line.max()) for line in heights if line.size) == 2.0
    often = wer.copy()
    often[:20] = 6.0  # a tenth of the clips: these are no exceptions
    assert drawn(often).get_ylim()[1] > 6.0


def test_saved_files_are_the_same_for_the_same_records(run, tmp_path):
    first = style.save(every(run)["arrival"](False), tmp_path, "one")
    again = style.svg_of(every(run)["arrival"](False), salt="one")
    assert first == again
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "one.svg").read_text(encoding="utf-8") == first
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_nothing_to_draw_is_said(run):
    figure = figures.layer_profiles(run["layers"], None, "other", "position")
    assert "not measured" in figure.axes[0].texts[0].get_text()
    assert "fewer than 50" in figures.tail_ratios(run["pooled"], "other").axes[0].texts[0].get_text()


def test_measured_layers_stand_where_their_medians_are(run):
    points = measured_points(run["layers"])
    rows = run["layers"].query("state == 'position' and condition == 'clean' and layer == 2")
    mine = points[(points["layer"] == 2) & ~points["stressed"]].iloc[0]
    assert mine["gain"] == pytest.approx(rows["gain"].median())
    assert mine["alignment"] == pytest.approx(rows["alignment"].median())
    assert 1 not in set(points["layer"])
    drawn = [
        line.get_xydata()
        for axes in figures.phase_map(sweep_dataset(), run["layers"]).axes
        for line in axes.lines
        if str(line.get_label()).startswith(MODEL)
    ]
    assert len(np.concatenate(drawn)) == len(points)


def test_the_map_is_carried_on_exactly():
    """ln ||P_L|| / L moves by ln gain and nothing else."""
    gain = np.geomspace(0.5, 2.0, 5)
    growth = np.log(gain)[None] + np.array([[0.3], [-0.2]])
    more, extended = _extended(gain, growth, 0.1)
    assert more[0] <= 0.1 < more[1] * 1.001
    assert np.allclose(extended, np.log(more)[None] + np.array([[0.3], [-0.2]]), atol=1e-12)
    assert np.allclose(np.diff(np.log(more)), np.log(gain[1] / gain[0]))
