"""What a run cannot use or measure: named with its reason, and everything else is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ExitCode, NoUsableAudioError
from tests.helpers.fake_runs import lines_of, run_fake, tables_of, write_audio

pytestmark = pytest.mark.usefixtures("without_models")


def test_bad_samples_are_quarantined_and_the_good_ones_measured(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a1", "b-nopool", "c-silent", "d1"))
    summary = run_fake(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 12, "quarantined": 1, "failed": 0} and summary.heard == 11
    assert summary.exit_code is ExitCode.OK and summary.quarantined == 2
    silent, nopool = lines_of(tmp_path / "run" / "quarantine.jsonl")
    assert silent == {
        "path": str(audio / "c-silent.clip"),
        "code": "silent",
        "detail": "no variation",
        "stage": "load",
    }
    assert (nopool["path"], nopool["code"], nopool["stage"]) == (str(audio / "b-nopool.clip"), "pool_empty", "mix")
    rows = tables_of(tmp_path / "run")["tasks"].to_pylist()
    assert [(row["clip"], row["status"], row["code"]) for row in rows if row["status"] != "ok"] == [
        ("b-nopool", "quarantined", "pool_empty")
    ]


def test_a_sample_and_reason_are_quarantined_once_for_all_models(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a1", "b-nopool"))
    summary = run_fake(audio, tmp_path / "run", conditions="mix", states="position")
    assert summary.tasks["quarantined"] == 2 and summary.quarantined == 1


def test_failing_tasks_are_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a-bug", "b-crash", "c1"))
    summary = run_fake(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 11, "quarantined": 0, "failed": 2}
    assert summary.exit_code is ExitCode.SOME_FAILED == 6
    bug, crash = lines_of(tmp_path / "run" / "failures.jsonl")
    assert (bug["type"], bug["message"]) == ("ZeroDivisionError", "division by zero")
    assert crash["type"] == "WorkerDied"
    assert tables_of(tmp_path / "run")["layers"].num_rows == 30


def test_a_sample_of_which_the_model_makes_no_numbers_failed_and_the_others_are_measured(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a-nan", "b1"))
    summary = run_fake(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 8, "quarantined": 0, "failed": 1} and summary.heard == 7
    assert summary.exit_code is ExitCode.SOME_FAILED
    (failure,) = lines_of(tmp_path / "run" / "failures.jsonl")
    assert failure["type"] == "NonFiniteError" and failure["task"].endswith(": a-nan, noise")
    (row,) = [row for row in tables_of(tmp_path / "run")["tasks"].to_pylist() if row["status"] != "ok"]
    assert (row["clip"], row["condition"], row["status"], row["code"]) == ("a-nan", "noise", "failed", "NonFiniteError")


def test_a_shard_that_fails_is_named_once_and_its_samples_wait_for_it(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", (*(f"a{number:02d}" for number in range(8)), "b-deaf"))
    summary = run_fake(audio, tmp_path / "run", model=["m"], states="position")
    assert summary.tasks == {"ok": 1 + 8 * 4, "quarantined": 0, "failed": 1} and summary.heard == 8 * 4
    (failure,) = lines_of(tmp_path / "run" / "failures.jsonl")
    assert failure["task"].startswith("listen--m--00001--") and failure["type"] == "ZeroDivisionError"
    rows = tables_of(tmp_path / "run")["tasks"].to_pylist()
    assert {row["clip"] for row in rows if row["status"] == "waiting"} == {"b-deaf"}


def test_a_file_that_kills_the_gate_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a1", "b-deadly", "c1"))
    summary = run_fake(audio, tmp_path / "run", model=["m"], conditions="clean", states="position")
    assert summary.heard == 2
    (bad,) = lines_of(tmp_path / "run" / "quarantine.jsonl")
    assert (bad["code"], bad["path"]) == ("worker_died", str(audio / "b-deadly.clip"))


def test_no_usable_audio_is_said_with_its_reasons_and_writes_nothing(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a-silent", "b-silent"))
    with pytest.raises(NoUsableAudioError, match=r"2 files were refused \(silent 2\)") as caught:
        run_fake(audio, tmp_path / "run")
    assert caught.value.exit_code == 3
    with pytest.raises(NoUsableAudioError, match="no audio file in it"):
        run_fake(write_audio(tmp_path / "none", ()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_every_task_is_refused_has_no_usable_audio(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a-nopool",))
    with pytest.raises(NoUsableAudioError, match=r"no sample could be measured \(pool_empty 1\)"):
        run_fake(audio, tmp_path / "run", conditions="mix")
