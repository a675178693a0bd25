"""The command line: exit codes, one-line errors, clean stdout, and a start that imports nothing heavy."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge.cli import app, run_command
from bridge.errors import EXIT_CODES, ExitCode

HEAVY = ("torch", "jax", "pandas", "numpy", "scipy", "matplotlib", "transformers", "pyarrow", "xarray", "librosa")
COMMANDS = (
    *("run", "measure", "sweep", "attack", "check", "stress", "nulls", "organism", "compare", "claims", "report"),
    *("data", "rescore", "doctor"),
)


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bridge.running.inputs.JOBS", "tests.bridge.fake_jobs")
    directory = tmp_path / "audio"
    directory.mkdir()
    for name in ("a1", "b1"):
        (directory / f"{name}.clip").write_text(name, encoding="utf-8")
    return directory


def _measure(audio: Path, out: Path, *more: str) -> int:
    return run_command(["measure", "--audio", str(audio), "--out", str(out), "--workers", "1", *more])


def test_the_command_line_starts_without_the_libraries_it_will_need() -> None:
    code = f"import sys, bridge.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_package_is_there_and_an_unknown_one_is_not() -> None:
    assert {name for name in bridge.__all__ if not callable(getattr(bridge, name))} == set()
    with pytest.raises(AttributeError, match="no attribute 'attack'"):
        bridge.attack  # noqa: B018


def test_python_m_bridge_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "bridge", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: spi ")
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    assert done.stderr == ""


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{int(code)} {meaning}" in said
    assert set(EXIT_CODES) == set(ExitCode)


def test_only_commands_that_exist_are_offered() -> None:
    offered = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert offered == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--sede", "1"], "No such option"),
        (["fly"], "No such command"),
        (["run", "--limit", "ten"], "Invalid value"),
        (["run", "--limit", "0"], "limit must be a whole number of at least 1; got 0"),
        (["run", "--conditions", "rain"], "conditions: a stressor must be one of"),
        (["run", "--manifest", "m.jsonl"], "manifest must come with audio"),
        (["run", "--states", "none,position"], "states must be among position"),
        (["run", "--config", "absent.yaml"], "config file absent.yaml cannot be read"),
        (["compare"], "Missing argument"),
        (["compare", "nowhere"], "nowhere is not a run directory: it has no settings.json"),
        (["claims", "nowhere"], "nowhere is not a run directory: it has no settings.json"),
        (["report", "nowhere"], "nowhere is not a run directory: it has no settings.json"),
    ],
)
def test_wrong_usage_is_exit_code_two_without_a_traceback(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_the_config_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("sede: 1\n", encoding="utf-8")
    assert run_command(["run", "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("spi: error: ") and err.count("\n") == 1 and "unknown key 'sede'; known: model, audio" in err


def test_the_command_line_wins_over_the_config(audio: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\nk: 2\nconditions: clean\nstates: [position]\n", encoding="utf-8")
    assert _measure(audio, tmp_path / "run", "--config", str(path), "--seed", "5", "--quiet") == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["seed"], settings["k"], settings["conditions"]) == (5, 2, ["clean"])


def test_measure_makes_records_and_neither_sweep_nor_report(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _measure(audio, tmp_path / "run", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["tasks"] == {"ok": 2 * (1 + 8 + 4), "quarantined": 0, "failed": 0} and found["report"] is None
    assert found["heard"] == 2 * 8
    assert (tmp_path / "run" / "records" / "layers.parquet").exists()
    assert not (tmp_path / "run" / "records" / "sweep.nc").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    assert "estimated" in err and all(line.startswith("spi: ") for line in err.splitlines())


def test_quiet_says_nothing(audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _measure(audio, tmp_path / "run", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_dry_run_lists_the_tasks_and_writes_nothing(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _measure(audio, tmp_path / "run", "--dry-run", "--conditions", "clean", "--states", "position") == 0
    *tasks, last = capsys.readouterr().out.splitlines()
    assert len(tasks) == 2 + 4 and all("--clean--position--" in task for task in tasks[2:])
    assert all(task.startswith("listen--") for task in tasks[:2])
    assert "4 samples to hear, 6 tasks in all" in last and "estimated" in last
    assert _measure(audio, tmp_path / "run", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        len(found["tasks"]) == 26
        and found["samples"] == 16
        and found["estimated_seconds"] > 0
        and found["estimated_disk_bytes"] > 0
    )
    assert not (tmp_path / "run").exists()


def test_states_none_hears_and_measures_nothing_more(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _measure(audio, tmp_path / "run", "--states", "none", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"]["ok"] == 2 and found["heard"] == 16
    assert not (tmp_path / "run" / "records" / "layers.parquet").exists()


def test_failed_tasks_are_exit_code_six(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (audio / "c-bug.clip").write_text("c", encoding="utf-8")
    assert _measure(audio, tmp_path / "run", "--json") == 6
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 6
    assert "ZeroDivisionError: division by zero" in err and "Traceback" not in err


def test_no_audio_is_exit_code_three(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert _measure(tmp_path / "empty", tmp_path / "run") == 3
    err = capsys.readouterr().err
    assert err.startswith("spi: error: ") and err.count("\n") == 1


def test_a_checkpoint_that_does_not_load_is_exit_code_four(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _measure(audio, tmp_path / "run", "--model", "bad") == 4
    assert capsys.readouterr().err == "spi: error: bad lacks a tensor\n"
    assert _measure(audio, tmp_path / "run", "--model", "hub/tiny") == 4
    assert capsys.readouterr().err == "tried hub/tiny\npass a directory instead\n"


def test_other_settings_are_exit_code_five(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _measure(audio, tmp_path / "run", "--quiet") == 0
    assert _measure(audio, tmp_path / "run", "--quiet", "--seed", "1") == 5
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "seed is 0 there and 1 here" in err
    assert _measure(audio, tmp_path / "run", "--quiet", "--no-resume") == 5


def test_an_interrupt_is_exit_code_130_and_says_how_to_go_on(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.running.pipeline._measure", interrupt)
    monkeypatch.setattr(sys, "argv", ["spi", "measure", "--out", "my run"])
    assert _measure(audio, tmp_path / "run") == 130
    assert "to go on: spi measure --out 'my run'" in capsys.readouterr().err.splitlines()[-1]


def test_claims_are_read_from_results_or_made_from_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    assert run_command(["claims", "--json", str(tmp_path)]) == 2
    assert "is missing" in capsys.readouterr().err
    claim = {"id": "C1", "verdict": "supported", "effect": 1.0, "title": "κ"}
    (tmp_path / "results.json").write_text(json.dumps({"claims": [claim]}), encoding="utf-8")
    assert run_command(["claims", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == [claim]
    assert run_command(["claims", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "C1   supported    κ\n"


def test_doctor_says_what_is_there_as_text_and_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_command(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checks"]["torch"]["ok"] and found["checks"]["hub"]["ok"] is False
    assert run_command(["doctor"]) == 0
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().out


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    claims = [{"id": f"C{n}", "verdict": "unresolved", "title": "t" * 1000} for n in range(500)]
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps({"claims": claims}), encoding="utf-8")
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "claims", str(tmp_path)], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    os.close(reading)
    assert process.communicate(timeout=60)[1] == ""


def test_a_manifest_replaces_only_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    config = tmp_path / "run.yaml"
    config.write_text("limit: 1\n")
    assert run_command(["stress", "--audio", str(audio), "--out", str(config)]) == 5
    assert config.read_text() == "limit: 1\n"
    capsys.readouterr()


def test_stressed_audio_is_never_written_among_the_clips(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, inside = tmp_path / "m.jsonl", audio / "stressed"
    assert run_command(["stress", "--audio", str(audio), "--out", str(out), "--write-audio", str(inside)]) == 2
    assert "--write-audio must not lie inside --audio" in capsys.readouterr().err
    assert not inside.exists() and not out.exists()


def test_nulls_finds_out_that_it_cannot_write_before_it_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "nulls.parquet"
    assert run_command(["nulls", "--model", "organism-wide", "--out", str(out)]) == 5
    assert f"cannot be written: {out.parent} is not a directory" in capsys.readouterr().err
    (tmp_path / "a").symlink_to(tmp_path / "nowhere" / "b")  # which exists for no one, and cannot be made
    assert run_command(["nulls", "--model", "organism-wide", "--out", str(tmp_path / "a")]) == 5
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_lists_of_nulls_may_have_spaces_and_no_model_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def fake(*_: object, **options: object) -> int:
        asked.update(options)
        raise OSError(errno.ENOSPC, "wherever that was")

    monkeypatch.setattr("empirical.nulls.write_nulls", fake)
    command = ["nulls", "--model", "organism-wide", "--out", str(tmp_path / "n.parquet"), "--quiet"]
    assert run_command([*command, "--states", "position, sequence", "--conditions", "clean, noise"]) == 5
    assert "n.parquet cannot be written: No space left on device" in capsys.readouterr().err
    assert asked["states"] == ("position", "sequence") and asked["conditions"] == ("clean", "noise")
    assert run_command(["nulls", "--model", " ", "--out", str(tmp_path / "n.parquet")]) == 2
    assert "model must not be empty; got ' '" in capsys.readouterr().err


def test_a_report_that_finds_no_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Path, **__: object) -> None:
        raise OSError(errno.ENOSPC, "wherever that was")

    monkeypatch.setattr("bridge.commands.describe._load", lambda _: None)
    monkeypatch.setattr("bridge.write_report", full, raising=False)
    assert run_command(["report", str(tmp_path)]) == 5
    assert capsys.readouterr().err == f"spi: error: {tmp_path} cannot be written: No space left on device\n"
