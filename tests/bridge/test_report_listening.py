"""The report of a run that only listened, under conditions of any name, of many clips."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bridge.commands import describe
from bridge.comparison.achieved import achieved_values, stressed_samples
from bridge.comparison.analysis import analyse
from bridge.comparison.compare import COLUMNS, compare
from bridge.comparison.conditions import in_order
from bridge.comparison.identity import identify
from bridge.comparison.records import RunTables, load_run
from bridge.errors import ConfigError
from bridge.ledger import theory_claims
from bridge.reporting import bookkeeping_tables, condition_wording, drawing, stress_tables
from bridge.reporting.report import render, write_report
from bridge.reporting.results import results
from bridge.reporting.wording import Table, capped, header_width
from tests.helpers.records import clip_row, layer_rows, null_rows, run_tables, write_run

CONDITIONS = ("clean", "noise:snr_db=10", "reverberation+noise:snr_db=5", "silence")
MODEL = "organism-a"


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A run of --states none: clips and activations, no layers, no nulls, no sweep.

    The simulations of C3 and C5 are left out: they take twice as long as all the rest, know nothing of a run, and
    stand in the report of `test_report`.
    """
    frames = run_tables({MODEL: "dispersive growth"}, clips=5, conditions=CONDITIONS, depth=2)
    directory = write_run(
        tmp_path_factory.mktemp("heard") / "run", {name: frames[name] for name in ("clips", "activations")}
    )
    (directory / "records" / "sweep.nc").unlink()
    quarantined = {
        "path": "c9.flac",
        "condition": "mix",
        "type": "StressError",
        "code": "short_pool",
        "detail": "alone",
    }
    (directory / "quarantine.jsonl").write_text(json.dumps(quarantined | {"stage": "stress"}) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory_claims, "THEORY_CLAIMS", ("C1", "C2", "C4"))
        patch.setattr(drawing, "_training", lambda easel: None)
        write_report(directory)
    return directory


def test_what_was_not_measured_is_left_out_and_said(heard):
    page = (heard / "report.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'<section id="(\w+)"', page))
    assert {"short", "stress", "paper", "transcripts", "ledger", "limits", "provenance"} <= ids
    assert not {"map", "layers", "hypotheses", "regimes"} & ids
    assert set(re.findall(r'<a href="#(\w+)"', page)) == ids
    assert "measured no Jacobian" in page
    for condition in CONDITIONS:
        assert condition in page
    assert {"wer", "figure-2", f"figure-1-{MODEL}"} <= {path.stem for path in (heard / "figures").glob("*.svg")}


def test_claims_about_jacobians_are_not_tested_and_say_why(heard):
    found = {line["id"]: line for line in json.loads((heard / "results.json").read_text(encoding="utf-8"))["claims"]}
    for identity in ("C12", "C13", "C14"):
        assert found[identity]["verdict"] == "not tested"
        assert "--states none" in found[identity]["why"]
        assert found[identity]["organisms"] == []
    assert "--states none" not in found["C11"]["why"] + found["C6"]["why"]


def test_results_hold_what_was_heard(heard):
    found = json.loads((heard / "results.json").read_text(encoding="utf-8"))
    assert found["measured"] is False
    assert found["regimes"] == [] and found["agreement"] == []
    (model,) = found["models"]
    assert (model["d_model"], model["decoder_layers"]) == (60, 2)
    assert model["heard"] == {"clips": 5, "samples": 20}
    assert {row["condition"] for row in found["stressed"]["samples"]} == set(CONDITIONS)


def test_quarantine_says_stage_condition_and_code(heard):
    analysis = analyse(heard)
    (row,) = bookkeeping_tables.quarantine(analysis, {"short_pool": 1}).rows
    assert list(row[:5]) == ["short_pool", "1", "100 %", "stress", "mix"]
    assert "c9" in row[5] and "alone" in row[5]


def test_a_listening_model_is_identified_by_settings_vocabulary_and_what_it_heard():
    clips = pd.DataFrame.from_records([clip_row("w", f"c{i}", "clean", wer=0.1, tokens=[50258]) for i in range(5)])
    activations = pd.DataFrame({"model": ["w"] * 4, "layer": [1, 2, 3, 4], "d_model": 384})
    tables = RunTables(Path("none"), {}, clips, layer_rows().iloc[:0], activations)
    assert identify(tables, "w").paper_family == "tiny"
    unheard = replace(tables, activations=activations.iloc[:0])
    assert unheard.dimensions("w") == (None, None)
    assert identify(unheard, "w").family is None


def test_no_layers_compare_to_the_columns_of_some():
    """What a run without Jacobians has in place of a comparison is a comparison without rows."""
    rows = layer_rows()
    some = compare(rows, pd.DataFrame([clip_row("toy", "clip-0", "clean", wer=0.0)]), null_rows(0.3))
    none = compare(rows.iloc[:0])
    assert set(none.columns) == set(some.columns) == set(COLUMNS)
    assert none.empty


def test_achieved_numbers_are_medians_over_samples_not_over_models():
    rows = [
        clip_row(model, f"c{i}", "noise", wer=0.0, achieved=json.dumps({"snr_db": snr, "parts": {"rate": 2}}))
        for model in ("a", "b")
        for i, snr in enumerate((-1.0, 0.5, 4.0))
    ]
    rows += [clip_row("a", "c0", "clean", wer=0.0, achieved="", truncated=True)]
    clips = pd.DataFrame.from_records(rows)
    table = {(row["condition"], row["quantity"]): row for row in achieved_values(clips).to_dict("records")}
    snr = table["noise", "snr_db"]
    assert (snr["n"], snr["median"], snr["least"], snr["most"]) == (3, 0.5, -1.0, 4.0)
    assert table["noise", "parts.rate"]["median"] == 2.0
    samples = {row["condition"]: row for row in stressed_samples(clips).to_dict("records")}
    assert samples["noise"]["samples"] == 3 and samples["clean"]["truncated_most"] == 1
    assert np.isnan(samples["noise"]["short_pool"])
    noted = clips.assign(stress_notes=pd.Series([["short_pool"]] * 2 + [[]] * 5))
    assert {row["condition"]: row["short_pool"] for row in stressed_samples(noted).to_dict("records")}["noise"] == 2


def test_the_stress_table_says_what_was_achieved(heard):
    table = stress_tables.stressed(analyse(heard))
    cells = {row[0]: row for row in table.rows}
    assert list(cells) == in_order(CONDITIONS) and set(cells) == set(CONDITIONS)
    assert all(len(row) == len(table.headers) == len(table.numeric) for row in table.rows)
    assert cells["clean"][1] == "5" and cells["clean"][2] == "2"


def test_without_speech_the_table_says_what_stands_in_its_place(heard):
    """Zeros have no level in decibels, and noise as loud as the utterance none of an SNR."""
    analysis = analyse(heard)
    levels = {"clean": -20.0, "silence": None, "non_speech": -20.0, "noise": -17.0}
    rows = [
        clip_row(MODEL, f"c{i}", condition, wer=0.0)
        | {"achieved": json.dumps({"source_level_dbfs": -20.0, "level_dbfs": level, "scale": 1.0 - 0.1 * i})}
        for condition, level in levels.items()
        for i in range(3)
    ]
    one = replace(analysis, tables=replace(analysis.tables, clips=pd.DataFrame.from_records(rows)))
    table = stress_tables.stressed(one)
    cells = {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    told = "achieved, median (range)"
    assert (cells["silence"]["level (dBFS)"], cells["silence"][told]) == ("−∞", "no speech left; digital zeros")
    assert cells["non_speech"][told] == "no speech left; level against the utterance (dB) 0"
    assert cells["noise"]["level (dBFS)"] == "−17" and cells["noise"][told] == cells["clean"][told] == "–"
    assert cells["noise"]["scaled by"] == "0.9 (0.8 to 1)"
    changes = achieved_values(one.tables.clips).query("quantity == 'level_change_db'").set_index("condition")["median"]
    assert dict(changes) == {"clean": 0.0, "non_speech": 0.0, "noise": 3.0}


def test_a_sentence_names_a_ladder_once_with_its_range():
    names = [*(f"noise:snr_db={value}" for value in (-10, 5, 20)), "noise", "clean", "mix", "stretch:rate=2", "stretch"]
    assert condition_wording.named(names) == "clean, stretch:rate=2, stretch, mix, noise (snr_db −10 to 20, 4 steps)"
    assert condition_wording.defaults(names) == ["clean", "stretch:rate=2", "stretch", "mix", "noise"]
    rates = dict.fromkeys(names, 0.25) | {"noise:snr_db=-10": 0.9, "noise:snr_db=20": 0.01}
    said = condition_wording.numbered(rates)
    assert said.endswith("mix 0.25, noise 0.25 (0.90 at snr_db=−10, 0.01 at 20)")
    between = condition_wording.numbered(rates | {"noise:snr_db=5": 1.5})
    assert between.endswith("noise 0.25 (0.90 at snr_db=−10, 1.50 at 5, 0.01 at 20)")
    del rates["noise"]
    assert condition_wording.numbered(rates).endswith("noise (0.90 at snr_db=−10, 0.01 at 20)")
    many = [f"mix:speakers={count}+{other}" for count in (3, 4) for other in ("clipping", "reverberation", "silence")]
    many += [f"noise:kind={kind}+{other}" for kind in ("pink", "babble") for other in ("clipping", "stretch", "mix")]
    assert condition_wording.named(many).endswith(" and 2 more")


def test_heads_of_columns_take_three_lines_at_most():
    text = "clean spectra that are power laws"
    width = header_width(text)
    assert len(textwrap.wrap(text, width)) <= 3 < len(textwrap.wrap(text, width - 2))
    assert header_width("clips") == 6


def test_lists_of_every_clip_are_capped_with_their_count(heard):
    analysis = analyse(heard)
    clip = [clip_row(MODEL, f"n{i:04d}", "noise:snr_db=10", wer=0.75, transcript=f" wrong {i}") for i in range(3000)]
    clip += [clip_row(MODEL, f"n{i:04d}", "silence", wer=0.75, transcript=f" other {i}") for i in range(7)]
    many = replace(analysis, tables=replace(analysis.tables, clips=pd.DataFrame.from_records(clip)))
    page = render(many, results(many, []), {})
    assert "60 of 3007" in page
    assert page.count(">wrong ") == 53 and page.count(">other ") == 7
    assert len(page) < 500_000


def test_a_capped_table_keeps_both_ends_and_says_so():
    table = Table("All.", ["n"], [[str(n)] for n in range(1000)], [True], frozenset({0, 3, 500}))
    short = capped(table, 100, "results.json")
    assert len(short.rows) == 100 and "100 of 1000" in short.caption
    assert [short.rows[i][0] for i in sorted(short.emphasised)] == ["0", "500"]
    assert capped(table, 1000, "x") is table


def test_a_run_without_layers_loads_with_their_columns(heard):
    tables = load_run(heard)
    assert not tables.measured and tables.models == [MODEL]
    assert "sigma" in tables.layers and "x" not in tables.activations
    assert tables.vectors is not None


def test_comparing_regimes_of_a_run_without_them_is_refused_in_one_line(heard):
    with pytest.raises(ConfigError, match="measured no Jacobian: it only listened"):
        describe.compare(heard)


def test_pooling_says_how_far_it_is(heard: Path) -> None:
    told: list[tuple[int, int]] = []
    analyse(heard, progress=lambda done, total: told.append((done, total)))
    total = told[0][1]
    assert told == [(done, total) for done in range(1, total + 1)]
