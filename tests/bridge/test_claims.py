"""The ledger: complete, honest about organisms, and a verdict only for models that count as the paper's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import paper, pooled_spectra
from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.identity import identify
from bridge.comparison.records import RunTables
from bridge.comparison.statistics import Interval
from bridge.ledger import claims
from bridge.ledger.activation_claims import centre_silhouette, disintegration, rank_loss
from bridge.ledger.confidence_claim import confidence
from bridge.ledger.settling import Reading, Test, settle
from bridge.reporting.results import strict
from tests.helpers.records import layer_rows, run_tables

VERDICTS = {"supported", "refuted", "unresolved", "not tested"}


def tables(**changed) -> RunTables:
    frames = run_tables(clips=6, depth=3, **changed)
    return RunTables(
        Path("runs/toy"),
        {"config": {"seed": 3}},
        frames["clips"],
        frames["layers"],
        frames["activations"],
        frames["nulls"],
    )


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(tables())


@pytest.fixture(scope="module")
def lines(analysis) -> list[dict]:
    return claims(analysis)


def test_ledger_has_every_claim_once_in_order(lines):
    assert [line["id"] for line in lines] == [f"C{i}" for i in range(1, 16)] == [one.id for one in paper.CLAIMS]
    for line in lines:
        assert line["verdict"] in VERDICTS
        for key in ("title", "statement", "test", "command", "why", "least_effect", "organisms", "n"):
            assert line[key] is not None and line[key] != "", (line["id"], key)
        assert line["command"].startswith("spi ")


def test_tested_claims_have_effect_and_interval_and_untested_ones_have_none(lines):
    for line in lines:
        if line["verdict"] == "not tested":
            assert line["effect"] is None
            assert line["interval"] is None
        else:
            low, high = line["interval"]
            assert low <= line["effect"] <= high
            assert line["n"] > 0


def test_the_mathematics_is_judged_and_the_rest_is_not_on_organisms(lines):
    verdicts = {line["id"]: line["verdict"] for line in lines}
    assert verdicts["C1"] == verdicts["C2"] == "refuted"  # T12's table and the counterexample to (P2)
    assert verdicts["C3"] == "refuted"  # as a share of energy at d = 384; see theory.check_p3
    assert verdicts["C4"] == "supported"
    assert verdicts["C5"] == "refuted"  # as stated: from the usual start linear chains do not align at all
    assert {verdicts[f"C{i}"] for i in range(6, 16)} == {"not tested"}


def test_training_aligns_from_a_small_start_and_shuffled_labels_align_as_well(lines):
    c5 = next(line for line in lines if line["id"] == "C5")
    holds, fails = c5["scope"].split(" Not for: ")
    for name in ("linear, rank 1, small start", "residual, rank 1, small start"):
        assert name in holds and name not in fails
    assert "linear, rank 1;" in fails
    assert "the task makes it in 0" in c5["why"]


def test_organisms_are_heard_beside_the_claim(lines):
    by_id = {line["id"]: line["organisms"] for line in lines}
    for name in ("C6", "C8", "C11", "C12", "C13", "C14"):
        assert {one["model"] for one in by_id[name]} == {"organism-a", "organism-b"}, name
        assert all("verdict" not in one for one in by_id[name])
    assert len(by_id["C9"]) == 1
    assert by_id["C15"] == []
    c13 = {one["model"]: one for one in by_id["C13"] if one["what"].startswith("growth") and "position" in one["note"]}
    assert c13["organism-a"]["side"] == "on the other side"  # its chains grow
    assert c13["organism-b"]["side"] == "on the claimed side"  # its chains decay


def test_ledger_is_strict_json(lines):
    text = json.dumps(strict(lines), allow_nan=False)
    assert json.loads(text)[0]["id"] == "C1"


def test_strict_turns_what_json_has_no_word_for_into_null():
    value = {
        "a": np.float64("nan"),
        "b": [np.int64(3), float("inf"), pd.NA],
        "c": np.array([1.0, np.nan]),
        "d": Path("x"),
    }
    assert strict(value) == {"a": None, "b": [3, None, None], "c": [1.0, None], "d": "x"}
    with pytest.raises(TypeError, match="no JSON form"):
        strict(object())


def whisper(tokens: list[int], wer: float, d_model: int = 384, depth: int = 4) -> RunTables:
    layers = layer_rows(model="w", depth=depth)
    layers["d_model"] = d_model
    layers["tokens"] = [tokens] * depth
    clips = pd.DataFrame({"model": ["w"], "clip": ["c"], "condition": ["clean"], "wer": [wer]})
    return RunTables(Path("r"), {}, clips, layers, pd.DataFrame())


@pytest.mark.parametrize(
    ("run", "family", "word"),
    [
        (whisper([50258, 50259, 7], 0.05), "tiny", "by dimensions"),
        (whisper([50258, 7], 1.3), None, "does not transcribe"),
        (whisper([3, 7], 0.05), None, "not Whisper's vocabulary"),
        (whisper([50258, 7], 0.05, d_model=96), None, "no published Whisper"),
        (whisper([50258, 7], float("nan")), None, "no clean clip"),
        (whisper([50258, 7], 0.05, d_model=1280, depth=4), "turbo", "by dimensions"),
    ],
)
def test_a_model_counts_as_whisper_by_dimensions_vocabulary_and_listening(run, family, word):
    found = identify(run, "w")
    assert found.family == family
    assert word in found.why


def test_a_stated_vocabulary_is_believed():
    run = whisper([50258, 7], 0.05)
    run.settings["models"] = [{"name": "w", "vocabulary": 51_863}]
    assert identify(run, "w").family is None
    run.settings["models"] = [{"name": "w", "vocabulary": 51_865}]
    assert identify(run, "w").family == "tiny"


def test_turbo_is_what_the_paper_calls_large():
    assert identify(whisper([50258], 0.1, d_model=1280, depth=4), "w").paper_family == "large"
    assert identify(whisper([50258], 0.1, d_model=512, depth=6), "w").paper_family is None


def test_a_model_that_counts_gets_a_verdict(analysis):
    counted = replace(analysis.identities["organism-a"], family="tiny", paper_family="tiny")
    judged = replace(analysis, identities={**analysis.identities, "organism-a": counted})
    line = settle(rank_loss(judged), "spi claims --json DIR")
    # The helper's stressed spectra are steeper by 0.2, so ranks fall far beyond the 5 % asked for; but C6 speaks of
    # small too, which nobody measured.
    assert line["interval"][1] < -5.0 and line["interval"][0] <= line["effect"] <= line["interval"][1]
    assert line["verdict"] == "unresolved"
    # Beside the verdict: the other model, and of this one what does not decide (all stresses as one, failed pairs).
    beside = line["organisms"]
    assert {one["model"] for one in beside} == {"organism-a", "organism-b"}
    assert line["effect"] not in [one["effect"] for one in beside if one["model"] == "organism-a"]
    assert "as tiny" in line["why"]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(-9, -7)], "supported"),
        ([(-9, -7), (-8, -1)], "unresolved"),
        ([(-9, -7), (-3, -1)], "refuted"),
        ([], "not tested"),
    ],
)
def test_settle_needs_all_deciding_readings(intervals, expected):
    readings = [
        Reading(f"m{i}", "tiny", "effect", Interval(np.mean(ends), *ends, 9), -5.0, "less")
        for i, ends in enumerate(intervals)
    ]
    readings.append(Reading("organism", None, "effect", Interval(3.0, 2.0, 4.0, 9), -5.0, "less"))
    line = settle(Test("C6", "t", ("tiny",), -5.0, "less", readings), "spi x")
    assert line["verdict"] == expected
    assert [one["model"] for one in line["organisms"]] == ["organism"]


def test_confidence_reads_an_auroc(analysis):
    test = confidence(analysis)
    # The helper's log-probability falls with WER, so failures are seen perfectly.
    assert all(reading.interval.effect == pytest.approx(1.0) for reading in test.readings)
    assert all(reading.verdict == "refuted" for reading in test.readings)


def test_silhouette_of_clear_and_of_mixed_groups():
    rng = np.random.default_rng(0)
    codes = np.repeat([0.0, 1.0], 50)
    x, y = rng.normal(size=100), rng.normal(size=100)
    assert centre_silhouette(x + 50 * codes, y + 50 * codes, codes) > 0.9
    assert abs(centre_silhouette(x, y, codes)) < 0.2
    assert np.isnan(centre_silhouette(x, y, np.zeros(100)))


@pytest.mark.parametrize(("low", "high", "expected"), [(-20.0, -10.0, "unresolved"), (-1.0, 3.0, "refuted")])
def test_one_model_can_refute_a_claim_about_two_but_not_carry_it(low, high, expected):
    reading = Reading("mine", "tiny", "change", Interval((low + high) / 2, low, high, 24), -5.0, "less")
    line = settle(Test("C6", "t", ("tiny", "small"), -5.0, "less", [reading]), "spi x")
    assert line["verdict"] == expected
    assert "small too, not measured" in line["why"]


def test_few_clips_leave_what_hangs_on_small_eigenvalues_unresolved(analysis):
    counted = replace(analysis.identities["organism-a"], family="small", paper_family="small")
    judged = replace(analysis, identities={**analysis.identities, "organism-a": counted})
    rows = judged.pooled.summary
    assert (rows["n_clips"] < pooled_spectra.CLIPS_A_MODE * 50).all()
    line = settle(disintegration(judged), "spi claims --json DIR")
    assert line["verdict"] == "unresolved"
    assert "too_few_clips" in line["why"]
