"""A run from beginning to end: its tables, what lies beside them, its report, its plan and its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.errors import ExitCode, OtherSettingsError
from bridge.running import pipeline
from bridge.running.config import CONDITIONS, RunConfig, make_config
from bridge.running.files import read_provenance
from bridge.running.pipeline import make_plan
from tests.helpers.fake_runs import ALL, CLIPS, SHARDS, TASKS, config_of, lines_of, run_fake, tables_of

pytestmark = pytest.mark.usefixtures("without_models")


def test_a_run_measures_every_task_and_merges_in_their_order(audio: Path, tmp_path: Path) -> None:
    summary = run_fake(audio, tmp_path / "run")
    assert summary.tasks == {"ok": ALL, "quarantined": 0, "failed": 0} and summary.heard == 2 * 24
    assert summary.exit_code is ExitCode.OK and summary.report is None
    tables = tables_of(tmp_path / "run")
    assert {name: table.num_rows for name, table in tables.items()} == {
        "activations": 2 * 24,
        "clips": 2 * 24,
        "layers": 3 * TASKS,
        "tasks": ALL,
    }
    order = list(zip(*(tables["layers"].column(n).to_pylist() for n in ("model", "clip", "layer")), strict=True))
    assert order[0] == ("fake-a", "a1", 1)
    assert [row[:2] for row in order] == sorted(row[:2] for row in order)
    assert tables["tasks"].column("status").to_pylist() == ["ok"] * ALL
    assert tables["clips"].column("transcript").to_pylist()[:3] == ["a1 clean", "a1 stretch", "a1 mix"]
    assert {row["transcript"] for row in tables["layers"].to_pylist() if row["clip"] == "b2"} == {
        f"b2 {condition}" for condition in CONDITIONS
    }
    assert not (tmp_path / "run" / "records" / "vectors.parquet").exists()
    assert json.loads((tmp_path / "run" / "rescored.json").read_text(encoding="utf-8")) == {"seed": 0}
    assert (tmp_path / "run" / "records" / "sweep.nc").exists()
    stamp = read_provenance(tmp_path / "run" / "records" / "layers.parquet")
    assert stamp["seed"] == 0 and stamp["models"][0]["name"] == "fake-a" and stamp["versions"]["python"]


def test_what_lies_beside_the_records_says_what_was_run(audio: Path, tmp_path: Path) -> None:
    config = config_of(audio, tmp_path / "run", seed=3)
    pipeline.run(config, report=False, command=["spi", "run", "--seed", "3"])
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert settings["seed"] == 3 and [clip["name"] for clip in settings["clips"]] == list(CLIPS)
    assert str(tmp_path) not in json.dumps(settings)
    found = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert found["sessions"][0]["command"] == ["spi", "run", "--seed", "3"]
    timings = json.loads((tmp_path / "run" / "timings.json").read_text(encoding="utf-8"))
    assert {"prepare", "plan", "listen", "measure", "merge", "label"} <= set(timings["stages"])
    assert timings["total"] >= sum(timings["stages"].values()) > 0
    assert timings["tasks"]["ok"] == ALL
    assert timings["worker_seconds"]["fake-a listen"] == {"tasks": 1, "seconds": 0.1}
    assert timings["worker_seconds"]["fake-a position"] == {"tasks": 24, "seconds": pytest.approx(2.4)}
    assert timings["worker_seconds"]["sweep"] == {"tasks": 1, "seconds": 0.5}
    assert timings["peak_rss_bytes"]["parent"] > 0 and len(timings["peak_rss_bytes"]["workers"]) == 1


def test_the_report_is_made_from_the_records_and_timed(audio: Path, tmp_path: Path) -> None:
    config = config_of(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    summary = pipeline.run(config)
    assert summary.report is not None and summary.report == tmp_path / "run" / "report.html" and summary.report.exists()
    assert summary.results is not None and summary.results.exists()
    timings = json.loads((tmp_path / "run" / "timings.json").read_text(encoding="utf-8"))
    assert timings["stages"]["report"] > 0


def test_a_report_that_fails_leaves_the_records_and_says_why(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    (tmp_path / "run" / "no-report").touch()
    summary = pipeline.run(config_of(audio, tmp_path / "run", limit=1, conditions="clean", states="position"))
    assert summary.exit_code is ExitCode.SOME_FAILED and summary.report is None and summary.results is None
    (failure,) = lines_of(tmp_path / "run" / "failures.jsonl")
    assert failure["task"] == "report" and "no report today" in failure["message"]
    assert tables_of(tmp_path / "run")["layers"].num_rows == 6
    (tmp_path / "run" / "no-report").unlink()
    again = pipeline.run(config_of(audio, tmp_path / "run", limit=1, conditions="clean", states="position"))
    assert again.exit_code is ExitCode.OK and again.report is not None
    assert lines_of(tmp_path / "run" / "failures.jsonl") == []


def test_the_number_of_workers_changes_no_number(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "one", workers=1)
    run_fake(audio, tmp_path / "three", workers=3)
    assert tables_of(tmp_path / "one") == tables_of(tmp_path / "three")
    stamps = [read_provenance(tmp_path / name / "records" / "layers.parquet") for name in ("one", "three")]
    assert stamps[0] == stamps[1]


def test_without_states_clips_are_heard_labelled_and_reported(audio: Path, tmp_path: Path) -> None:
    summary = pipeline.run(config_of(audio, tmp_path / "run", states="none"))
    assert summary.tasks == {"ok": SHARDS, "quarantined": 0, "failed": 0} and summary.heard == 2 * 24
    assert summary.report is not None and summary.report.exists()
    assert set(tables_of(tmp_path / "run")) == {"activations", "clips", "tasks"}
    assert (tmp_path / "run" / "rescored.json").exists()
    assert all(path.name.startswith("listen--") for path in (tmp_path / "run" / "parts").iterdir())


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(audio: Path, tmp_path: Path) -> None:
    plan = make_plan(config_of(audio, tmp_path / "run"))
    assert len(plan.tasks) == TASKS and plan.estimate.tasks == ALL and plan.estimate.seconds > 0
    assert len(plan.shards) == SHARDS and plan.estimate.samples == 2 * 24
    assert not (tmp_path / "run").exists()
    run_fake(audio, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = make_plan(config_of(audio, tmp_path / "run"))
    assert (again.estimate.tasks, again.estimate.finished) == (0, ALL)
    with pytest.raises(OtherSettingsError):
        make_plan(config_of(audio, tmp_path / "run", seed=1))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_a_run_without_a_place_has_one_by_its_settings(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [
        make_plan(make_config(None, {"audio": "audio", "workers": workers, "seed": seed})).directory
        for workers, seed in ((1, 0), (2, 0), (1, 1))
    ]
    assert places[0] == places[1] != places[2]
    assert all(place.parent == Path("runs") for place in places)
    (tmp_path / "x.clip").write_text("x", encoding="utf-8")
    assert make_plan(RunConfig()).directory == Path("runs/default")


def test_summary_is_json(audio: Path, tmp_path: Path) -> None:
    summary = run_fake(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    found = json.loads(json.dumps(summary.as_json()))
    assert found["directory"] == str(tmp_path / "run") and found["exit_code"] == 0 and found["report"] is None


def test_a_reader_of_the_progress_who_leaves_does_not_end_the_run(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    broken = os.fdopen(write, "w")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", broken)
        config = config_of(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
        assert pipeline.run(config, report=False, quiet=False).tasks["ok"] == 4
    with pytest.raises(BrokenPipeError):  # it was broken indeed
        broken.close()
    assert tables_of(tmp_path / "run")["tasks"].num_rows == 4
