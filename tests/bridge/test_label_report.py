"""What the report says of labels and detectors: the numbers of the records, and a reason where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.labelling import agreement_of_labels, composition, label_clips, label_shares
from bridge.reporting import detector_tables, label_tables
from bridge.reporting.figures import detectors as detector_figures
from bridge.reporting.figures import labels as label_figures
from bridge.reporting.figures import style
from bridge.reporting.wording import NOTHING, Table
from bridge.running.rescoring import rescore
from empirical.recognition.labels import LABELS
from tests.bridge.test_labelling import table
from tests.helpers.figures import nothing_overlaps, panels, words
from tests.helpers.records import COMPONENTS, write_run

LONG = ("reverberation+noise:snr_db=5", "noise:kind=pink:snr_db=-10", "stretch:rate=2", "clipping", "silence")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """A run of 12 clips that only listened; noise is another sentence, stretch a loop, mix empty."""
    clips = table()
    clips = clips.assign(
        avg_logprob=np.where(clips["condition"] == "clean", -0.1, -0.4) - 0.001 * np.arange(len(clips))
    )
    clips["condition"] = clips["condition"].replace({"mix": LONG[0]})
    keys = clips[["model", "clip", "condition"]]
    layers = [
        keys.assign(component=component, layer=layer, d_model=4, n_tokens=9, alpha_10=1.0, kirchhoff_10=2.0)
        .assign(effective_rank_10=np.random.default_rng(layer).random(len(keys)))
        for component in COMPONENTS
        for layer in (1, 2)
    ]  # fmt: skip
    tables = {
        "clips": clips.drop(columns=["wer"]).assign(wer=np.nan),
        "activations": pd.concat(layers, ignore_index=True),
    }
    run = write_run(tmp_path_factory.mktemp("run") / "run", tables)
    rescore(run)
    return analyse(run)


def cell(table: Table, column: str, *keys: str) -> str:
    """The cell of the row that begins with these keys."""
    (row,) = (row for row in table.rows if tuple(row[: len(keys)]) == keys)
    return row[list(table.headers).index(column)]


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def said(axes: Axes) -> dict[tuple[float, float], str]:
    """Texts of a map by their place."""
    places = ((text, *text.get_position()) for text in axes.texts)
    return {(round(x, 9), round(y, 9)): text.get_text() for text, x, y in places}


def test_what_the_filter_keeps_is_said_label_by_label(analysis: Analysis) -> None:
    made, held = label_tables.shown(analysis)
    assert cell(made, "WER > 0.5", "toy", "clean") == "0" and cell(made, "looping", "toy", "clean") == NOTHING
    assert cell(made, "fluent, unrelated", "toy", "noise").startswith("100.0 [")
    assert cell(made, "none of these", "toy", LONG[0]).startswith("100.0 [")
    assert cell(made, "left out", "toy", LONG[0]) == "100" and cell(made, "WER > 0.5", "toy", "all conditions") == "36"
    assert cell(made, "looping", "toy", "all but clean").startswith("33.3 [")
    assert cell(held, "WER > 0.5", "toy", "all conditions").startswith("75.0 [")
    # Labels without any answer have no column, and the head of the section says why.
    assert not {"listed phrase", "text on non-speech"} & {*made.headers, *held.headers}
    assert "no list of phrases was given" in label_tables.sentences(analysis)[1]
    assert [list(held.rows[index])[1] for index in sorted(held.emphasised)] == ["all but clean", "all conditions"]


def test_rules_calibration_and_agreement_are_folded_away(analysis: Analysis) -> None:
    rules, calibration, agreement = (table for _, table in label_tables.folded(analysis))
    assert [row[0] for row in rules.rows] == [label_tables.TITLES[name] for name in LABELS]
    kept = analysis.tables.rescored["models"]["toy"]["calibration"]
    assert cell(calibration, "chosen on pairs", "toy") == str(kept["pairs"])
    assert cell(calibration, "of pairs", "toy") == str(kept["missed"]["n"])
    assert cell(agreement, "both", "toy", "WER > 0.5", "looping") == "12"
    assert all(NOTHING not in row[7] for row in agreement.rows)


def test_the_baseline_names_the_best_and_marks_what_is_circular(analysis: Analysis) -> None:
    overall, stressed = detector_tables.shown(analysis)
    assert "all conditions" in overall.caption and "stressed only" in stressed.caption
    assert cell(overall, "with / without", "toy", "WER > 0.5") == "18 / 6"
    assert cell(overall, "clips", "toy", "WER > 0.5") == "6"
    assert cell(overall, "best confidence", "toy", "WER > 0.5") == "low log-probability"
    assert cell(overall, "AUROC", "toy", "WER > 0.5").startswith("1.00 [")
    for one in (overall, stressed):
        assert all(len(row) == len(one.headers) == len(one.numeric) for row in one.rows)
        assert "log-probability" not in cell(one, "best confidence", "toy", "fluent, unrelated")
    (_, every), *_ = detector_tables.folded(analysis)
    heads = list(every.headers)
    log_prob = next(row for row in every.rows if row[0] == "low log-probability")
    assert log_prob[heads.index("fluent, unrelated (12 / 36)")] == "circular"
    assert log_prob[heads.index("WER > 0.5 (36 / 12)")].startswith("1.00 [")
    assert sum(row[0] == "low N_eff" for row in every.rows) == len(COMPONENTS) * 3
    assert "circular" in " ".join(detector_tables.sentences(analysis))


@pytest.mark.parametrize("narrow", [False, True])
def test_figures_say_the_numbers_and_nothing_overlaps(analysis: Analysis, narrow: bool) -> None:
    drawn = {
        one.name: one.draw(narrow) for one in [*label_figures.drawings(analysis), *detector_figures.drawings(analysis)]
    }
    assert list(drawn) == [
        "failures-composition", "failures-shares", "failures-agreement", "detectors-all", "detectors-stressed",
    ]  # fmt: skip
    for name, figure in drawn.items():
        nothing_overlaps(figure, name)
        assert figure.get_size_inches()[0] == (style.NARROW_INCHES if narrow else style.WIDE_INCHES)
    assert "76–100" in words(drawn["failures-composition"])  # Wilson of 12 in 12
    titled = panels(drawn["detectors-all"])
    assert [one.get_title(loc="left") for one in titled] == [
        "WER > 0.5",
        "insertion-heavy",
        "looping",
        "fluent, unrelated",
    ]
    ticks = [text.get_text() for text in titled[0].get_yticklabels()]
    places = [np.asarray(line.get_xydata()) for line in titled[0].lines if line.get_marker() != "None"]
    marks = {(round(float(y)), float(x)) for line in places for x, y in line}
    assert (ticks.index("low log-probability"), 1.0) in marks
    assert any(text.get_text() == "circular" for text in titled[3].texts)
    assert any(text.get_text() == "36 of 48 have it" for text in titled[0].texts)


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """Three models under nine conditions, five of them with long labels."""
    parts = []
    for model in ("a", "b", "an-organism-with-a-name"):
        rows = table(6).assign(model=model)
        parts += [rows[rows["condition"] == "noise"].assign(condition=one) for one in LONG]
        parts.append(rows)
    return label_clips(pd.concat(parts, ignore_index=True)).clips


@pytest.mark.parametrize("narrow", [False, True])
def test_many_conditions_and_three_models_stay_legible(many: pd.DataFrame, narrow: bool) -> None:
    figure = label_figures.label_map(rows_of(label_shares(many)), LABELS, narrow=narrow)
    nothing_overlaps(figure, "shares")
    rows = [text.get_text().replace("\n", "") for text in figure.axes[0].get_yticklabels()]
    assert len(figure.axes) == 3 and len(rows) == 11
    assert rows[0] == "clean (6)" and rows[-1].startswith("all conditions")
    drawn, silent = said(figure.axes[0]), rows.index("silence (6)")
    # Nothing was said: text on non-speech has an answer, WER and insertions have none.
    assert [drawn.get((column + 0.5, silent + 0.36)) for column in range(5)].count("100") == 1
    assert [drawn.get((column + 0.5, silent + 0.5)) for column in range(5)].count("–") == 2


def test_kappas_of_three_models_stay_legible(many: pd.DataFrame) -> None:
    nothing_overlaps(label_figures.kappa_map(rows_of(agreement_of_labels(many, seed=0, resamples=50))), "kappa")
    nothing_overlaps(label_figures.label_map(rows_of(composition(many)), label_tables.COMPOSED), "made")


def test_kappa_stands_on_both_sides_of_the_diagonal_with_its_sign() -> None:
    rows = [
        {"model": "a", "first": "looping", "second": "truncated", "n": 9, "clips": 5, "code": "ok"}
        | {"kappa": -0.25, "low": -0.5, "high": 0.1},
        {"model": "a", "first": "looping", "second": "wer_above_half", "n": 9, "clips": 5, "code": "constant"}
        | {"kappa": None, "low": None, "high": None},
    ]
    axes = label_figures.kappa_map(rows).axes[0]
    drawn = said(axes)
    assert drawn[1.5, 0.36] == drawn[0.5, 1.36] == "−0.25" and drawn[1.5, 0.74] == "−0.50 to 0.10"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["looping", "cut at the\nwindow"]


def test_without_labels_there_is_nothing_to_show(analysis: Analysis, tmp_path: Path) -> None:
    bare = replace(analysis, tables=replace(analysis.tables, rescored={}, detectors=None))
    for made in (label_tables, detector_tables):
        assert made.sentences(bare) == [] and made.shown(bare) == [] and made.folded(bare) == []
    assert label_figures.drawings(bare) == [] and detector_figures.drawings(bare) == []
