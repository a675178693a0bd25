"""Whatever stops a run, what was measured stays, and going on gives what an unbroken run gives."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ExitCode, OtherSettingsError, RunInterruptedError
from bridge.running import pipeline
from tests.helpers.fake_runs import ALL, SHARDS, config_of, lines_of, run_fake, tables_of, write_audio

pytestmark = pytest.mark.usefixtures("without_models")


def test_a_full_disk_ends_the_run_in_one_line_and_what_was_measured_stays(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "whole", conditions="clean", states="position")
    (tmp_path / "disk-full").touch()  # after the fifth part
    with pytest.raises(OtherSettingsError, match=r"parts cannot be written: No space left on device; 5 finished"):
        run_fake(audio, tmp_path / "run", conditions="clean", states="position")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert len(kept) == 5 and not any(path.name.startswith(".partial-") for path in kept)
    (tmp_path / "disk-full").unlink()
    run_fake(audio, tmp_path / "run", conditions="clean", states="position")
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert tables_of(tmp_path / "run") == tables_of(tmp_path / "whole")


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
        run_fake(audio, tmp_path / "run", limit=1, conditions="clean", states="position")


@pytest.mark.parametrize("after", [2, 3, 17])  # in the first phase, between the two, and in the second
def test_an_interrupted_run_goes_on_and_gives_the_same_tables(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run_fake(audio, tmp_path / "whole")
    note, done = pipeline.Outcomes.note, []

    def interrupted(self: Any, *arguments: Any) -> None:
        note(self, *arguments)
        done.append(1)
        if len(done) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Outcomes, "note", interrupted)
        with pytest.raises(RunInterruptedError, match="finished tasks are kept; to go on: spi run --out") as caught:
            pipeline.run(config_of(audio, tmp_path / "run"), report=False, command=["spi", "run", "--out", "run"])
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (tmp_path / "run" / "records" / "layers.parquet").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert 0 < len([name for name in before if not name.startswith(".")]) < ALL
    summary = run_fake(audio, tmp_path / "run")
    assert summary.tasks["ok"] == ALL
    kept = {name: (tmp_path / "run" / "parts" / name).stat().st_mtime_ns for name in before if name[0] != "."}
    assert kept == {name: time for name, time in before.items() if name[0] != "."}
    assert tables_of(tmp_path / "run") == tables_of(tmp_path / "whole")
    assert len(json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))["sessions"]) == 2


def test_an_interrupt_before_anything_is_counted_names_no_number(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_fake(audio, tmp_path / "run", limit=1, conditions="clean", states="position")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.running.pipeline.prepare", stop)
    with pytest.raises(RunInterruptedError, match=r"^interrupted; what is finished is kept; to go on: "):
        run_fake(audio, tmp_path / "run", limit=1, conditions="clean", states="position")


def test_a_finished_run_measures_nothing_again_but_what_was_damaged(audio: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    run_fake(audio, root)
    parts = sorted((root / "parts").iterdir())
    (parts[5] / "layers.parquet").write_bytes(b"PAR1")
    (shard,) = [part for part in parts if part.name.startswith("listen--fake-b--")]
    (shard / "vectors.parquet").write_bytes(b"PAR1")
    (root / "parts" / ".partial-stale").mkdir()
    before = {part: (part / "part.json").stat().st_mtime_ns for part in parts}
    tables = tables_of(root)
    run_fake(audio, root)
    changed = [part for part in parts if (part / "part.json").stat().st_mtime_ns != before[part]]
    assert changed == [parts[5], shard]
    assert tables_of(root) == tables
    assert not (root / "parts" / ".partial-stale").exists()


def test_other_settings_in_the_same_directory_are_refused(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "run", conditions="clean", states="position")
    for options, said in (
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"limit": 2}, "limit is null there and 2 here"),
    ):
        with pytest.raises(OtherSettingsError, match=said):
            run_fake(audio, tmp_path / "run", conditions="clean", states="position", **options)
    (audio / "a1.clip").write_text("said differently", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match=r"clips\[1\]\.sha256"):
        run_fake(audio, tmp_path / "run", conditions="clean", states="position")


def test_other_sounds_are_another_run(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "rain.wav").write_text("rain", encoding="utf-8")
    options = {"noise_dir": str(tmp_path / "sounds"), "states": "none", "limit": 1}
    run_fake(audio, tmp_path / "run", **options)
    (tmp_path / "sounds" / "rain.wav").write_text("hail", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match="noises is"):
        run_fake(audio, tmp_path / "run", **options)


def test_a_moved_data_set_is_the_same_run(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "run", conditions="clean", states="position")
    moved = audio.rename(tmp_path / "elsewhere")
    assert run_fake(moved, tmp_path / "run", conditions="clean", states="position").tasks["ok"] == 12 + SHARDS


def test_a_failed_task_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = write_audio(tmp_path / "audio", ("a-bug", "c1"))
    assert run_fake(audio, tmp_path / "run", model=["m"]).exit_code is ExitCode.SOME_FAILED
    monkeypatch.setattr("bridge.running.inputs.JOBS", "tests.bridge.mended_jobs")
    summary = run_fake(audio, tmp_path / "run", model=["m"])
    assert summary.exit_code is ExitCode.OK and summary.tasks["failed"] == 0
    assert lines_of(tmp_path / "run" / "failures.jsonl") == []
