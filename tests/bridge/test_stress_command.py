"""`spi stress` as a script sees it: what it writes, says and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile

from bridge.cli import run_command

RATE = 16_000
SPEAKERS = 4


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers, one clip each, and a file that is no audio; nothing is written to it."""
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for speaker in range(1, SPEAKERS + 1):
        folder = root / str(speaker) / "9"
        folder.mkdir(parents=True)
        samples = 0.05 * rng.standard_normal(RATE // 4)
        scipy.io.wavfile.write(folder / f"{speaker}-9-0000.wav", RATE, samples.astype(np.float32))
    (root / "junk.mp3").write_bytes(b"junk" * 100)
    return root


def spi(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_command(["stress", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_stress_each_by_default_and_all_when_asked(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = spi(capsys, "--audio", audio, "--out", tmp_path / "one.jsonl", "--seed", 0, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "manifest": str(tmp_path / "one.jsonl"),
        "lines": SPEAKERS,
        "quarantined": 1,
        "quarantine": str(tmp_path / "one.jsonl.quarantine.jsonl"),
    }
    assert spi(capsys, "--audio", audio, "--out", tmp_path / "all.jsonl", "--stresses", "all")[0] == 0
    assert len(lines(tmp_path / "all.jsonl")) == 3 * SPEAKERS
    one = {(line["utterance"], line["condition"], line["result_sha256"]) for line in lines(tmp_path / "one.jsonl")}
    every = {(line["utterance"], line["condition"], line["result_sha256"]) for line in lines(tmp_path / "all.jsonl")}
    assert len(one) == SPEAKERS and one < every


def test_conditions_take_the_grammar_and_ladders(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "noise:snr_db=10/0, silence,clean , noise"
    assert spi(capsys, "--audio", audio, "--out", tmp_path / "m.jsonl", "--conditions", asked)[0] == 0
    made = [line["condition"] for line in lines(tmp_path / "m.jsonl")[:4]]
    assert made == ["clean", "noise", "noise:snr_db=10", "silence"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--conditions", "echo"), 2, "echo"),
        (("--conditions", "noise:snr_db=loud"), 2, "loud"),
        (("--conditions", "noise,,mix"), 2, "''"),
        (("--stresses", "two"), 2, "stresses must be one or all; got 'two'"),
        (("--noise-dir", "absent", "--conditions", "noise:kind=folder"), 3, "absent: no such directory"),
        (("--conditions", "mix,noise:kind=folder"), 2, "got 'noise:kind=folder' without it"),
        (("--conditions", "mix,noise:kind=folder", "--dry-run"), 2, "got 'noise:kind=folder' without it"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Any, code: int, said: str
) -> None:
    found, _, err = spi(capsys, "--audio", audio, "--out", tmp_path / "m.jsonl", *arguments)
    assert found == code and said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_never_read_next_time(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noises = tmp_path / "noises"
    noises.mkdir()
    asked = ("--audio", audio, "--noise-dir", noises, "--out", tmp_path / "m.jsonl", "--write-audio", noises / "made")
    code, _, err = spi(capsys, *asked)
    assert code == 2 and "must not lie inside --noise-dir" in err and list(noises.iterdir()) == []


def test_the_window_decides_what_is_truncated(audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--audio", audio, "--out", tmp_path / "m.jsonl", "--conditions", "clean,stretch")
    assert spi(capsys, *asked, "--window", 0.5)[0] == 0
    assert {(line["condition"], line["truncated"], line["window_s"]) for line in lines(tmp_path / "m.jsonl")} == {
        ("clean", False, 0.5),
        ("stretch", True, 0.5),
    }
    code, _, err = spi(capsys, *asked, "--window", 0)
    assert code == 2 and "window_s must be positive" in err


def test_out_or_check_and_not_both(audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--out", tmp_path / "m.jsonl", "--check", tmp_path / "m.jsonl")):
        code, _, err = spi(capsys, "--audio", audio, *arguments)
        assert code == 2 and "--out or --check" in err


@pytest.mark.parametrize(
    "option", [("--conditions", "mix"), ("--stresses", "all"), ("--write-audio", "x"), ("--dry-run",)]
)
def test_a_check_takes_no_option_of_a_build(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    code, _, err = spi(capsys, "--audio", audio, "--check", tmp_path / "m.jsonl", *option)
    assert code == 2 and f"{option[0]} must not be given with --check" in err and err.count("\n") == 1


def test_a_dry_run_writes_nothing_and_counts_what_the_build_then_makes(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.jsonl"
    asked = ("--audio", audio, "--out", out, "--conditions", "clean,stretch:rate=2,noise", "--limit", 3)
    code, said, _ = spi(capsys, *asked, "--dry-run", "--json")
    plan = json.loads(said)
    assert code == 0 and list(tmp_path.iterdir()) == []
    assert spi(capsys, *asked, "--dry-run")[0] == 0
    assert spi(capsys, *asked, "--write-audio", tmp_path / "audio")[0] == 0
    made = lines(out)
    assert plan["lines"] == len(made) == 9 and plan["kept_out"] == 0
    assert plan["by_condition"] == {"clean": 3, "noise": 3, "stretch:rate=2": 3}
    assert plan["source_s"] == pytest.approx(0.75) and plan["time_s"] > 0
    assert plan["result_s"] == pytest.approx(sum(line["samples"] for line in made) / RATE, rel=1e-3)
    written = sum(path.stat().st_size for path in (tmp_path / "audio").glob("*.wav"))
    assert plan["audio_bytes"] == pytest.approx(written, rel=1e-3)
    # An upper bound by which to buy a disk: a mix's line is longer than these.
    assert out.stat().st_size < plan["manifest_bytes"] < 10 * out.stat().st_size


def test_another_manifest_is_kept_beside_and_said(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.jsonl"
    asked = ("--audio", audio, "--out", out, "--conditions", "noise")
    assert spi(capsys, *asked, "--seed", 0)[2] == ""
    first = out.read_bytes()
    assert spi(capsys, *asked, "--seed", 0)[2] == ""
    code, _, err = spi(capsys, *asked, "--seed", 1)
    assert code == 0 and "m.jsonl.previous" in err and err.count("\n") == 1
    assert (tmp_path / "m.jsonl.previous").read_bytes() == first


def test_check_makes_the_samples_again(audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.jsonl"
    assert spi(capsys, "--audio", audio, "--out", out, "--stresses", "all", "--seed", 4)[0] == 0
    code, said, _ = spi(capsys, "--check", out, "--audio", audio)
    assert code == 0 and f"{3 * SPEAKERS} of {3 * SPEAKERS} samples" in said
    code, said, _ = spi(capsys, "--check", out, "--audio", audio / "1", "--json")
    found = json.loads(said)
    assert code == 7 and found["same"] == 2  # the mix has lost its other speakers
    assert found["codes"]["absent_audio"] == 3 * (SPEAKERS - 1) and sum(found["codes"].values()) == 10
    code, said, _ = spi(capsys, "--check", out, "--audio", audio, "--limit", 2)
    assert code == 0 and "6 of 6 samples" in said
    code, said, _ = spi(capsys, "--check", out, "--audio", audio / "1")
    assert code == 7 and "absent_audio: 9" in said and "and 5 more" in said
    out.write_bytes(out.read_bytes()[:-30])
    code, _, err = spi(capsys, "--check", out, "--audio", audio)
    assert code == 2 and "breaks off" in err and err.count("\n") == 1


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rng = np.random.default_rng(1)
    for number in range(40):
        samples = 0.05 * rng.standard_normal(8 * RATE)
        scipy.io.wavfile.write(corpus / f"clip-{number:02d}.wav", RATE, samples.astype(np.float32))
    out = tmp_path / "out" / "m.jsonl"
    asked = ["--audio", str(corpus), "--conditions", "noise,mix"]
    command = [sys.executable, "-m", "bridge", "stress", *asked, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    part = out.with_name("m.jsonl.part")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    code, said, _ = spi(capsys, *asked, "--out", out, "--json")
    assert code == 0 and 3 <= json.loads(said)["kept_from_before"] < 40
    assert spi(capsys, *asked, "--out", tmp_path / "once.jsonl")[0] == 0
    assert out.read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["m.jsonl"]


def test_ctrl_c_ends_it_with_130_and_a_word(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from empirical.speech import manifest

    real = manifest.apply
    calls = iter(range(2))

    def apply(*arguments: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(manifest, "apply", apply)
    code, _, err = spi(capsys, "--audio", audio, "--out", tmp_path / "m.jsonl", "--conditions", "noise")
    assert code == 130 and "goes on where it was" in err
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl.part"]
    monkeypatch.setattr(manifest, "apply", real)
    code, said, _ = spi(capsys, "--audio", audio, "--out", tmp_path / "m.jsonl", "--conditions", "noise")
    assert code == 0 and "kept from before: 2" in said
