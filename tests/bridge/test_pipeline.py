"""The run: whatever stops it, what was measured stays, and going on gives what an unbroken run gives."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge.errors import (
    ConfigError,
    ExitCode,
    ModelError,
    NoUsableAudioError,
    OtherSettingsError,
    RunInterruptedError,
)
from bridge.running import pipeline
from bridge.running.config import CONDITIONS, RunConfig, make_config
from bridge.running.pipeline import RunSummary, make_plan
from bridge.running.pool import Job, WorkerPool
from bridge.running.store import read_provenance

CLIPS = ("a1", "a2", "b1", "b2", "c1", "c2")
SHARDS = 2
TASKS = 2 * (6 * 4 + 6 * 2)
ALL = SHARDS + TASKS


@pytest.fixture(autouse=True)
def _without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.running.inputs.JOBS", "tests.bridge.fake_jobs")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return _audio(tmp_path / "audio", CLIPS)


def _audio(directory: Path, names: tuple[str, ...]) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.clip").write_text(name, encoding="utf-8")
    return directory


def _config(audio: Path, out: Path, **options: Any) -> RunConfig:
    return make_config(None, {"audio": str(audio), "out": str(out), "workers": 1, **options})


def _run(audio: Path, out: Path, **options: Any) -> RunSummary:
    return pipeline.run(_config(audio, out, **options), report=False)


def _tables(root: Path) -> dict[str, pa.Table]:
    """The records of a run, without the columns that time it."""
    tables = {path.stem: pq.read_table(path) for path in sorted((root / "records").glob("*.parquet"))}
    return {
        name: table.drop_columns([c for c in ("seconds", "peak_rss_bytes") if c in table.column_names])
        for name, table in tables.items()
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_measures_every_task_and_merges_in_their_order(audio: Path, tmp_path: Path) -> None:
    summary = _run(audio, tmp_path / "run")
    assert summary.tasks == {"ok": ALL, "quarantined": 0, "failed": 0} and summary.heard == 2 * 24
    assert summary.exit_code is ExitCode.OK and summary.report is None
    tables = _tables(tmp_path / "run")
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
    config = _config(audio, tmp_path / "run", seed=3)
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
    config = _config(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    summary = pipeline.run(config)
    assert summary.report is not None and summary.report == tmp_path / "run" / "report.html" and summary.report.exists()
    assert summary.results is not None and summary.results.exists()
    timings = json.loads((tmp_path / "run" / "timings.json").read_text(encoding="utf-8"))
    assert timings["stages"]["report"] > 0


def test_a_report_that_fails_leaves_the_records_and_says_why(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    (tmp_path / "run" / "no-report").touch()
    summary = pipeline.run(_config(audio, tmp_path / "run", limit=1, conditions="clean", states="position"))
    assert summary.exit_code is ExitCode.SOME_FAILED and summary.report is None and summary.results is None
    (failure,) = _lines(tmp_path / "run" / "failures.jsonl")
    assert failure["task"] == "report" and "no report today" in failure["message"]
    assert _tables(tmp_path / "run")["layers"].num_rows == 6
    (tmp_path / "run" / "no-report").unlink()
    again = pipeline.run(_config(audio, tmp_path / "run", limit=1, conditions="clean", states="position"))
    assert again.exit_code is ExitCode.OK and again.report is not None
    assert _lines(tmp_path / "run" / "failures.jsonl") == []


def test_a_full_disk_ends_the_run_in_one_line_and_what_was_measured_stays(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "whole", conditions="clean", states="position")
    (tmp_path / "disk-full").touch()  # after the fifth part
    with pytest.raises(OtherSettingsError, match=r"parts cannot be written: No space left on device; 5 finished"):
        _run(audio, tmp_path / "run", conditions="clean", states="position")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert len(kept) == 5 and not any(path.name.startswith(".partial-") for path in kept)
    (tmp_path / "disk-full").unlink()
    _run(audio, tmp_path / "run", conditions="clean", states="position")
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert _tables(tmp_path / "run") == _tables(tmp_path / "whole")


@pytest.mark.parametrize("name", ["write_inputs", "write_records", "write_log", "write_timings"])
def test_a_disk_that_is_full_when_the_run_itself_writes_is_one_line_too(
    name: str, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "wherever that was")

    monkeypatch.setattr(f"bridge.running.pipeline.{name}", full)
    with pytest.raises(
        OtherSettingsError,
        match=r"run cannot be written: No space left on device; .*(finished tasks are|what is finished is) kept",
    ):
        _run(audio, tmp_path / "run", limit=1, conditions="clean", states="position")


def test_the_number_of_workers_changes_no_number(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "one", workers=1)
    _run(audio, tmp_path / "three", workers=3)
    assert _tables(tmp_path / "one") == _tables(tmp_path / "three")
    stamps = [read_provenance(tmp_path / name / "records" / "layers.parquet") for name in ("one", "three")]
    assert stamps[0] == stamps[1]


@pytest.mark.parametrize("after", [2, 3, 17])  # in the first phase, between the two, and in the second
def test_an_interrupted_run_goes_on_and_gives_the_same_tables(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    _run(audio, tmp_path / "whole")
    note, done = pipeline.Outcomes.note, []

    def interrupted(self: Any, *arguments: Any) -> None:
        note(self, *arguments)
        done.append(1)
        if len(done) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Outcomes, "note", interrupted)
        with pytest.raises(RunInterruptedError, match="finished tasks are kept; to go on: spi run --out") as caught:
            pipeline.run(_config(audio, tmp_path / "run"), report=False, command=["spi", "run", "--out", "run"])
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (tmp_path / "run" / "records" / "layers.parquet").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert 0 < len([name for name in before if not name.startswith(".")]) < ALL
    summary = _run(audio, tmp_path / "run")
    assert summary.tasks["ok"] == ALL
    kept = {name: (tmp_path / "run" / "parts" / name).stat().st_mtime_ns for name in before if name[0] != "."}
    assert kept == {name: time for name, time in before.items() if name[0] != "."}
    assert _tables(tmp_path / "run") == _tables(tmp_path / "whole")
    assert len(json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))["sessions"]) == 2


def test_a_finished_run_measures_nothing_again_but_what_was_damaged(audio: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    _run(audio, root)
    parts = sorted((root / "parts").iterdir())
    (parts[5] / "layers.parquet").write_bytes(b"PAR1")
    (shard,) = [part for part in parts if part.name.startswith("listen--fake-b--")]
    (shard / "vectors.parquet").write_bytes(b"PAR1")
    (root / "parts" / ".partial-stale").mkdir()
    before = {part: (part / "part.json").stat().st_mtime_ns for part in parts}
    tables = _tables(root)
    _run(audio, root)
    changed = [part for part in parts if (part / "part.json").stat().st_mtime_ns != before[part]]
    assert changed == [parts[5], shard]
    assert _tables(root) == tables
    assert not (root / "parts" / ".partial-stale").exists()


def test_other_settings_in_the_same_directory_are_refused(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "run", conditions="clean", states="position")
    for options, said in (
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"limit": 2}, "limit is null there and 2 here"),
    ):
        with pytest.raises(OtherSettingsError, match=said):
            _run(audio, tmp_path / "run", conditions="clean", states="position", **options)
    (audio / "a1.clip").write_text("said differently", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match=r"clips\[1\]\.sha256"):
        _run(audio, tmp_path / "run", conditions="clean", states="position")


def test_a_moved_data_set_is_the_same_run(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "run", conditions="clean", states="position")
    moved = audio.rename(tmp_path / "elsewhere")
    assert _run(moved, tmp_path / "run", conditions="clean", states="position").tasks["ok"] == 12 + SHARDS


def test_bad_samples_are_quarantined_and_the_good_ones_measured(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a1", "b-nopool", "c-silent", "d1"))
    summary = _run(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 12, "quarantined": 1, "failed": 0} and summary.heard == 11
    assert summary.exit_code is ExitCode.OK and summary.quarantined == 2
    silent, nopool = _lines(tmp_path / "run" / "quarantine.jsonl")
    assert silent == {
        "path": str(audio / "c-silent.clip"),
        "code": "silent",
        "detail": "no variation",
        "stage": "load",
    }
    assert (nopool["path"], nopool["code"], nopool["stage"]) == (str(audio / "b-nopool.clip"), "pool_empty", "mix")
    rows = _tables(tmp_path / "run")["tasks"].to_pylist()
    assert [(row["clip"], row["status"], row["code"]) for row in rows if row["status"] != "ok"] == [
        ("b-nopool", "quarantined", "pool_empty")
    ]


def test_a_sample_and_reason_are_quarantined_once_for_all_models(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a1", "b-nopool"))
    summary = _run(audio, tmp_path / "run", conditions="mix", states="position")
    assert summary.tasks["quarantined"] == 2 and summary.quarantined == 1


def test_failing_tasks_are_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a-bug", "b-crash", "c1"))
    summary = _run(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 11, "quarantined": 0, "failed": 2}
    assert summary.exit_code is ExitCode.SOME_FAILED == 6
    bug, crash = _lines(tmp_path / "run" / "failures.jsonl")
    assert (bug["type"], bug["message"]) == ("ZeroDivisionError", "division by zero")
    assert crash["type"] == "WorkerDied"
    assert _tables(tmp_path / "run")["layers"].num_rows == 30


def test_a_sample_of_which_the_model_makes_no_numbers_failed_and_the_others_are_measured(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a-nan", "b1"))
    summary = _run(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 8, "quarantined": 0, "failed": 1} and summary.heard == 7
    assert summary.exit_code is ExitCode.SOME_FAILED
    (failure,) = _lines(tmp_path / "run" / "failures.jsonl")
    assert failure["type"] == "NonFiniteError" and failure["task"].endswith(": a-nan, noise")
    (row,) = [row for row in _tables(tmp_path / "run")["tasks"].to_pylist() if row["status"] != "ok"]
    assert (row["clip"], row["condition"], row["status"], row["code"]) == ("a-nan", "noise", "failed", "NonFiniteError")


def test_a_shard_that_fails_is_named_once_and_its_samples_wait_for_it(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", (*(f"a{number:02d}" for number in range(8)), "b-deaf"))
    summary = _run(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 1 + 8 * 4, "quarantined": 0, "failed": 1} and summary.heard == 8 * 4
    (failure,) = _lines(tmp_path / "run" / "failures.jsonl")
    assert failure["task"].startswith("listen--m--00001--") and failure["type"] == "ZeroDivisionError"
    rows = _tables(tmp_path / "run")["tasks"].to_pylist()
    assert {row["clip"] for row in rows if row["status"] == "waiting"} == {"b-deaf"}


def test_a_failed_task_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = _audio(tmp_path / "audio", ("a-bug", "c1"))
    assert _run(audio, tmp_path / "run", model=["m"]).exit_code is ExitCode.SOME_FAILED
    monkeypatch.setattr("bridge.running.inputs.JOBS", "tests.bridge.mended_jobs")
    summary = _run(audio, tmp_path / "run", model=["m"])
    assert summary.exit_code is ExitCode.OK and summary.tasks["failed"] == 0
    assert _lines(tmp_path / "run" / "failures.jsonl") == []


def test_a_file_that_kills_the_gate_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a1", "b-deadly", "c1"))
    summary = _run(audio, tmp_path / "run", model=["m"], conditions="clean", states="position")
    assert summary.heard == 2
    (bad,) = _lines(tmp_path / "run" / "quarantine.jsonl")
    assert (bad["code"], bad["path"]) == ("worker_died", str(audio / "b-deadly.clip"))


def test_without_states_clips_are_heard_labelled_and_reported(audio: Path, tmp_path: Path) -> None:
    summary = pipeline.run(_config(audio, tmp_path / "run", states="none"))
    assert summary.tasks == {"ok": SHARDS, "quarantined": 0, "failed": 0} and summary.heard == 2 * 24
    assert summary.report is not None and summary.report.exists()
    assert set(_tables(tmp_path / "run")) == {"activations", "clips", "tasks"}
    assert (tmp_path / "run" / "rescored.json").exists()
    assert all(path.name.startswith("listen--") for path in (tmp_path / "run" / "parts").iterdir())


def _manifest(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_manifest_says_which_samples_and_each_utterance_is_heard_clean_too(audio: Path, tmp_path: Path) -> None:
    lines = ("a1 noise", "b1 mix", "b1 stretch", "c2 noise", "zz mix")
    manifest = _manifest(tmp_path / "m.jsonl", *lines)
    summary = _run(audio, tmp_path / "run", model=["m"], manifest=str(manifest), sequence_clips=1)
    assert summary.heard == 3 + 4 and summary.quarantined == 1
    tables = _tables(tmp_path / "run")
    heard = [(row["clip"], row["condition"]) for row in tables["clips"].to_pylist()]
    assert heard == [
        *(("a1", "clean"), ("a1", "noise"), ("b1", "clean"), ("b1", "mix"), ("b1", "stretch")),
        *(("c2", "clean"), ("c2", "noise")),
    ]
    sequence = {(row["clip"], row["condition"]) for row in tables["layers"].to_pylist() if row["state"] == "sequence"}
    assert sequence == {("a1", "clean"), ("a1", "noise")}
    (absent,) = _lines(tmp_path / "run" / "quarantine.jsonl")
    assert (absent["utterance"], absent["code"]) == ("zz", "absent_audio")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert settings["manifest"]["lines"] == 5 and settings["manifest"]["versions"] == {"spi": "0"}
    assert settings["conditions"] == ["clean", "mix", "noise", "stretch"]
    assert (tmp_path / "run" / "manifest.jsonl").read_bytes() == manifest.read_bytes()


def test_a_limit_takes_the_first_utterances_of_a_manifest_and_another_manifest_is_another_run(
    audio: Path, tmp_path: Path
) -> None:
    manifest = _manifest(tmp_path / "m.jsonl", "b1 noise", "b2 mix", "c2 noise", "zz mix")
    options = {"model": ["m"], "manifest": str(manifest), "states": "none"}
    assert _run(audio, tmp_path / "run", limit=2, **options).heard == 4
    assert {row["clip"] for row in _tables(tmp_path / "run")["clips"].to_pylist()} == {"b1", "b2"}
    assert _lines(tmp_path / "run" / "quarantine.jsonl") == []
    manifest.rename(tmp_path / "moved.jsonl")
    options["manifest"] = str(tmp_path / "moved.jsonl")
    assert _run(audio, tmp_path / "run", limit=2, **options).tasks["ok"] == 1  # and is the same run
    _manifest(tmp_path / "moved.jsonl", "b1 noise", "b2 noise")
    with pytest.raises(OtherSettingsError, match=r"other settings: (conditions|manifest\.sha256)"):
        _run(audio, tmp_path / "run", limit=2, **options)


def test_a_manifest_that_cannot_be_read_is_one_line_and_nothing_is_written(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("a1 noise\nb1 mi", encoding="utf-8")
    with pytest.raises(ConfigError, match="breaks off"):
        _run(audio, tmp_path / "run", manifest=str(tmp_path / "m.jsonl"))
    assert not (tmp_path / "run").exists()


def test_other_sounds_are_another_run(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "rain.wav").write_text("rain", encoding="utf-8")
    options = {"noise_dir": str(tmp_path / "sounds"), "states": "none", "limit": 1}
    _run(audio, tmp_path / "run", **options)
    (tmp_path / "sounds" / "rain.wav").write_text("hail", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match="noises is"):
        _run(audio, tmp_path / "run", **options)


def test_no_usable_audio_is_said_with_its_reasons_and_writes_nothing(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a-silent", "b-silent"))
    with pytest.raises(NoUsableAudioError, match=r"2 files were refused \(silent 2\)") as caught:
        _run(audio, tmp_path / "run")
    assert caught.value.exit_code == 3
    with pytest.raises(NoUsableAudioError, match="no audio file in it"):
        _run(_audio(tmp_path / "none", ()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_every_task_is_refused_has_no_usable_audio(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a-nopool",))
    with pytest.raises(NoUsableAudioError, match=r"no sample could be measured \(pool_empty 1\)"):
        _run(audio, tmp_path / "run", conditions="mix")


def test_limit_takes_the_first_usable_clips_and_opens_no_more(tmp_path: Path) -> None:
    audio = _audio(tmp_path / "audio", ("a-silent", "b1", "c1", "d-silent", "e1"))
    _run(audio, tmp_path / "run", limit=2, conditions="clean", states="position")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert [clip["name"] for clip in settings["clips"]] == ["b1", "c1"]
    assert [line["path"] for line in _lines(tmp_path / "run" / "quarantine.jsonl")] == [str(audio / "a-silent.clip")]


def test_a_limited_run_mixes_with_clips_beyond_the_limit(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "run", limit=1, conditions="clean,mix", states="position")
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text(encoding="utf-8"))
    assert [clip["name"] for clip in inputs["clips"]] == ["a1"]
    assert [clip["name"] for clip in inputs["pool"]] == list(CLIPS)


def test_models_that_do_not_load_end_the_run_before_anything_is_written(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bad-model lacks a tensor") as caught:
        _run(audio, tmp_path / "run", model=["bad-model"])
    assert caught.value.exit_code == 4 and not caught.value.verbatim
    with pytest.raises(ModelError) as caught:
        _run(audio, tmp_path / "run", model=["hub/tiny"])
    assert str(caught.value) == "tried hub/tiny\npass a directory instead" and caught.value.verbatim
    assert not (tmp_path / "run").exists()


def test_a_model_that_takes_the_worker_with_it_is_one_that_does_not_load(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^deadly: the worker process ended .* run out of memory"):
        _run(audio, tmp_path / "run", model=("deadly",))
    assert not (tmp_path / "run").exists()


def test_more_singular_values_than_a_model_has_are_refused(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k must be at most 8, the width of fake-a; got 9"):
        _run(audio, tmp_path / "run", k=9)
    assert not (tmp_path / "run").exists()


def test_models_of_one_name_are_told_apart_and_the_same_model_is_refused(audio: Path, tmp_path: Path) -> None:
    _run(audio, tmp_path / "run", model=["x/m", "y/m"], conditions="clean", states="position", limit=1)
    names = set(_tables(tmp_path / "run")["layers"].column("model").to_pylist())
    assert len(names) == 2 and all(name.startswith("m@") for name in names)


def test_asked_for_null_models_are_measured_and_merged(audio: Path, tmp_path: Path) -> None:
    options = {"nulls": 3, "limit": 1, "conditions": "clean", "states": "position"}
    summary = _run(audio, tmp_path / "run", **options)
    assert summary.tasks["ok"] == SHARDS + 2 + 2 * 3
    nulls = _tables(tmp_path / "run")["nulls"]
    assert nulls.num_rows == 2 * 3 * 3
    assert set(nulls.column("draw").to_pylist()) == {0, 1, 2}


@pytest.mark.parametrize(("sha256", "used"), [(None, True), ("right", True), ("wrong", False)])
def test_shipped_nulls_are_used_if_they_are_of_these_weights(
    audio: Path, tmp_path: Path, sha256: str | None, used: bool
) -> None:
    from bridge.running.store import write_table
    from tests.bridge.fake_jobs import inspect_model

    model = tmp_path / "renamed"
    model.mkdir()
    right = inspect_model(str(model), "float32", "cpu", None)["sha256"]
    stamp = {} if sha256 is None else {"model": {"sha256": right if sha256 == "right" else "0"}}
    table = pa.table({"model": ["original"], "null": ["random_weights"], "draw": [0], "sigma": [1.5]})
    write_table(model / "nulls.parquet", table, stamp)
    options = {"limit": 1, "conditions": "clean", "states": "position"}
    summary = _run(audio, tmp_path / "run", model=[str(model)], nulls=2, **options)
    nulls = _tables(tmp_path / "run")["nulls"]
    if used:
        assert nulls.column("model").to_pylist() == ["renamed"] and summary.tasks["ok"] == 2
    else:
        assert set(nulls.column("draw").to_pylist()) == {0, 1} and summary.tasks["ok"] == 4


def test_a_plan_says_what_a_run_would_do_and_writes_nothing(audio: Path, tmp_path: Path) -> None:
    plan = make_plan(_config(audio, tmp_path / "run"))
    assert len(plan.tasks) == TASKS and plan.estimate.tasks == ALL and plan.estimate.seconds > 0
    assert len(plan.shards) == SHARDS and plan.estimate.samples == 2 * 24
    assert not (tmp_path / "run").exists()
    _run(audio, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = make_plan(_config(audio, tmp_path / "run"))
    assert (again.estimate.tasks, again.estimate.finished) == (0, ALL)
    with pytest.raises(OtherSettingsError):
        make_plan(_config(audio, tmp_path / "run", seed=1))
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


def test_local_models_are_measured_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for model, offline in (([], "1"), ([str(tmp_path)], "1"), (["someone/model"], None)):
        with pipeline.worker_pool(make_config(None, {"model": model or None, "workers": 1})) as pool:
            assert _asked(pool, "HF_HUB_OFFLINE") == offline
            assert _asked(pool, "TRANSFORMERS_VERBOSITY") == "error"
    assert "HF_HUB_OFFLINE" not in os.environ


def _asked(pool: WorkerPool, name: str) -> str | None:
    (reply,) = pool.run([Job("a", "tests.bridge.pool_jobs:environment", {"names": [name]})])
    return reply.value[name]


def test_summary_is_json(audio: Path, tmp_path: Path) -> None:
    summary = _run(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
    found = json.loads(json.dumps(summary.as_json()))
    assert found["directory"] == str(tmp_path / "run") and found["exit_code"] == 0 and found["report"] is None


def test_an_interrupt_before_anything_is_counted_names_no_number(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(audio, tmp_path / "run", limit=1, conditions="clean", states="position")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.running.pipeline.prepare", stop)
    with pytest.raises(RunInterruptedError, match=r"^interrupted; what is finished is kept; to go on: "):
        _run(audio, tmp_path / "run", limit=1, conditions="clean", states="position")


def test_a_reader_of_the_progress_who_leaves_does_not_end_the_run(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    broken = os.fdopen(write, "w")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", broken)
        config = _config(audio, tmp_path / "run", limit=1, conditions="clean", states="position")
        assert pipeline.run(config, report=False, quiet=False).tasks["ok"] == 4
    with pytest.raises(BrokenPipeError):  # it was broken indeed
        broken.close()
    assert _tables(tmp_path / "run")["tasks"].num_rows == 4
