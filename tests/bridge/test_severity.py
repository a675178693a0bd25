"""Ladders of one stress, what was measured along them, and their figure."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.pooled import Pooled, pool
from bridge.comparison.severity import ladders, severity_table
from bridge.reporting import paper_tables
from bridge.reporting.figures import style
from bridge.reporting.figures.severity import drawings, severity
from tests.helpers.records import activation_rows, clip_row

STEPS = {"noise:snr_db=20": (20.0, 1.1, 0.1), "noise": (0.0, 1.4, 0.5), "noise:snr_db=-10": (-10.0, 1.8, 0.9)}


@pytest.fixture(scope="module")
def run():
    clips, activations = [], []
    for index in range(12):
        for condition, (snr, decay, wer) in {"clean": (None, 1.0, 0.0), **STEPS, "mix": (None, 1.3, 0.7)}.items():
            achieved = {} if snr is None else {"snr_db": snr + 0.01 * (index - 4)}
            clips.append(clip_row("toy", f"c{index}", condition, wer=wer, achieved=json.dumps(achieved)))
            activations += activation_rows("toy", f"c{index}", condition, layers=1, n_tokens=14, decay=decay)
    clips = pd.DataFrame(clips)
    pooled = pool(pd.DataFrame(activations), clips, resamples=40)
    return clips, pooled, severity_table(clips, pooled, seed=0)


def test_a_ladder_differs_in_one_number_alone():
    found = ladders(
        [
            "clean",
            "mix",
            "noise",
            "noise:snr_db=10",
            "noise:snr_db=-10",
            "noise:snr_db=10:kind=pink",
            "noise:kind=pink",
            "stretch",
            "stretch:rate=2",
            "reverberation+noise",
            "reverberation+noise:snr_db=5",
            "unknown",
            "reverberation+noise:snr_db=10",
            "stretch:rate=0.5",
        ]
    )
    assert [(one.name, one.parameter, [value for value, _ in one.steps]) for one in found] == [
        ("noise", "snr_db", [-10.0, 0.0, 10.0]),
        ("reverberation+noise", "snr_db", [0.0, 5.0, 10.0]),
        ("stretch", "rate", [0.5, 2.0, 3.5]),
    ]
    assert found[0].steps[1] == (0.0, "noise")
    assert found[0].axis == "SNR (dB)"
    assert ladders(["clean", "stretch", "mix", "noise", "noise:snr_db=5"]) == []


def test_the_table_is_what_clips_and_pooling_say(run):
    _, pooled, table = run
    assert table["condition"].tolist() == ["noise:snr_db=-10", "noise", "noise:snr_db=20"]
    assert table["value"].tolist() == [-10.0, 0.0, 20.0]
    # The median of 0.01 (n - 4), n = 0..11, is 0.015.
    assert table["achieved"].tolist() == pytest.approx([-9.985, 0.015, 20.015])
    assert table["wer"].tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert set(table["clean_wer"]) == {0.0}
    summary = pooled.summary.query(
        "component == 'cross-attention' and length == 'matched' and k == 50 and kept == 'all'"
    )
    for row in table.to_dict("records"):
        mine = summary[summary["stress"] == row["condition"]].squeeze()
        assert row["d_n_eff_50"] == mine["d_n_eff_pct"]
        assert row["d_n_eff_50_low"] == mine["d_n_eff_pct_low"]
        pairs = pooled.pairs.query("component == 'cross-attention' and length == 'matched'")
        mean = pairs.loc[pairs["stress"] == row["condition"], "d_n_eff_pct"].mean()
        assert row["d_n_eff_10"] == pytest.approx(mean)
        assert row["d_n_eff_10_low"] < mean < row["d_n_eff_10_high"]
    assert (np.diff(table["d_n_eff_50"]) > 0).all()  # a steeper spectrum has less rank, and here noise makes it steeper


def test_no_ladder_no_rows(run):
    clips, pooled, _ = run
    few = clips[clips["condition"].isin(["clean", "mix", "noise"])]
    assert severity_table(few, pooled, seed=0).empty
    assert severity_table(clips, Pooled(*[pd.DataFrame()] * 3), seed=0)["d_n_eff_50"].isna().all()


def test_the_figure_draws_every_step_and_the_table_names_it(run):
    table = run[2]
    for narrow in (False, True):
        figure = severity(table, narrow=narrow)
        assert figure.get_size_inches()[0] == (style.NARROW_INCHES if narrow else style.WIDE_INCHES)
        assert len(figure.axes) == 3
        for axes, column in zip(figure.axes, ("wer", "d_n_eff_50", "d_n_eff_10"), strict=True):
            line = cast(Any, axes.containers[0]).lines[0]
            assert line.get_ydata() == pytest.approx(table[column].to_numpy())
            assert axes.get_xlabel() == "SNR (dB)"
            left, right = axes.get_xlim()
            assert left > right  # towards the right it gets worse
            # The note is in the corner that is farther from the lines' beginning.
            bars = ("low", "high") if column == "wer" else (f"{column}_low", f"{column}_high")
            ends = np.concatenate([table[["value", end]].to_numpy(dtype=float) for end in bars])
            inside = axes.transAxes.inverted().transform(axes.transData.transform(ends))
            heights = inside[inside[:, 0] < 0.5, 1]
            below, above = heights.min(), 1 - heights.max()
            assert (axes.texts[0].get_position()[1] > 0.5) == (above >= below)
        assert "n = 12 clips" in figure.axes[0].texts[0].get_text()
    assert "No stress" in severity(pd.DataFrame(), narrow=False).axes[0].texts[0].get_text()
    analysis = cast(Any, SimpleNamespace(tables=SimpleNamespace(clips=run[0], seed=0), pooled=run[1]))
    assert [one.name for one in drawings(analysis)] == ["severity"]
    shown = paper_tables.severity_steps(analysis)
    assert shown is not None
    assert [row[1] for row in shown.rows] == table["condition"].tolist()
    assert all(len(row) == len(shown.headers) == len(shown.numeric) for row in shown.rows)
