"""The whole way with real models: audio in, report out; stopped by Ctrl-C and gone on with; any number of workers.

Two Whispers with random weights, three layers of width 16 and a window of two seconds, hear generated sounds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io.wavfile

from bridge.cli import run_command
from bridge.ledger.theory_claims import THEORY_CLAIMS
from bridge.running import jobs
from bridge.running.schema import TIMING_COLUMNS
from bridge.running.tasks import ListenTask, NullTask
from tests.helpers.tiny_whisper import write_random_whisper_tiny, write_tiny_whisper

RATE_HZ = 16_000
OPTIONS = ("--sequence-clips", "1", "--k", "4", "--conditions", "clean,mix,noise")
TASKS = 2 * (2 * 3 + 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two sounds and an empty file."""
    root = tmp_path_factory.mktemp("end-to-end")
    write_tiny_whisper(root / "first")
    write_tiny_whisper(root / "second", seed=1)
    (root / "audio").mkdir()
    time_s = np.arange(RATE_HZ) / RATE_HZ
    for number, pitch_hz in enumerate((180.0, 260.0)):
        sound = 0.3 * np.sin(2 * np.pi * pitch_hz * time_s * (1 + 0.3 * time_s)) * (1 + np.sin(2 * np.pi * 4 * time_s))
        scipy.io.wavfile.write(root / "audio" / f"sound-{number}.wav", RATE_HZ, sound.astype(np.float32))
        (root / "audio" / f"sound-{number}.txt").write_text("low tone", encoding="utf-8")
    (root / "audio" / "empty.wav").touch()
    return root


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """An uninterrupted run with its report, by two workers."""
    assert run_command(_command("run", place, "whole", "--workers", "2", "--quiet")) == 0
    return place / "whole"


def _command(name: str, place: Path, out: str, *more: str) -> list[str]:
    models = ["--model", str(place / "first"), "--model", str(place / "second")]
    return [name, *models, "--audio", str(place / "audio"), "--out", str(place / out), *OPTIONS, *more]


def _untimed(path: Path) -> pa.Table:
    """A table without its timing columns."""
    table = pq.read_table(path)
    return table.drop_columns([name for name in (*TIMING_COLUMNS, "peak_rss_bytes") if name in table.column_names])


def _same_bits(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables hold the same, NaN where the other has NaN; repr gives every bit of a double."""
    return one.schema.equals(other.schema) and repr(one.to_pylist()) == repr(other.to_pylist())


def test_a_run_ends_in_records_results_and_a_report(whole: Path) -> None:
    rows = {name: pq.read_table(whole / "records" / f"{name}.parquet") for name in ("layers", "clips", "activations")}
    assert rows["layers"].num_rows == 3 * TASKS
    assert rows["clips"].num_rows == 2 * 2 * 3
    assert {"wer_above_half", "looping"} & set(rows["clips"].column_names)
    assert rows["activations"].num_rows == 2 * 2 * 3 * 3 * 3
    assert "x" not in rows["activations"].column_names
    vectors = [pq.read_table(path) for path in sorted((whole / "parts").glob("listen--*/vectors.parquet"))]
    assert sum(table.num_rows for table in vectors) == rows["activations"].num_rows
    assert set(rows["layers"].column("model").to_pylist()) == {"first", "second"}
    results = json.loads((whole / "results.json").read_text(encoding="utf-8"))
    assert [claim["id"] for claim in results["claims"]] == [f"C{number}" for number in range(1, 16)]
    report = (whole / "report.html").read_text(encoding="utf-8")
    assert "first" in report and "second" in report and "http-equiv" not in report
    assert list((whole / "figures").glob("*.png")) and list((whole / "figures").glob("*.svg"))
    assert (whole / "records" / "sweep.nc").stat().st_size > 10_000


def test_the_bad_file_is_quarantined_and_the_report_counts_it(whole: Path) -> None:
    (bad,) = [json.loads(line) for line in (whole / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (Path(bad["path"]).name, bad["code"], bad["stage"]) == ("empty.wav", "empty", "load")
    results = json.loads((whole / "results.json").read_text(encoding="utf-8"))
    assert results["quarantine"]["count"] == 1


def test_provenance_names_weights_audio_threads_and_versions(whole: Path) -> None:
    from bridge.running.files import read_provenance

    settings = json.loads((whole / "settings.json").read_text(encoding="utf-8"))
    part = next((whole / "parts").glob("first--sound-0--clean--position--*"))
    stamp = read_provenance(part / "layers.parquet")
    assert stamp["model"] == {"name": "first", "sha256": settings["models"][0]["sha256"]}
    assert stamp["clip"] == {"name": "sound-0", "sha256": settings["clips"][0]["sha256"]}
    assert stamp["threads"] == 1 and stamp["settings"] == settings["digest"]
    assert stamp["versions"]["torch"] and stamp["seconds"] > 0 and stamp["peak_rss_bytes"] > 100_000_000
    assert all(library["threads"] == 1 for library in stamp["blas"])


def test_killed_while_it_listens_stopped_while_it_measures_and_gone_on_with_gives_the_same_bits(
    place: Path, whole: Path
) -> None:
    out = place / "stopped"
    command = [sys.executable, "-m", "bridge", *_command("measure", place, "stopped", "--workers", "1")]
    for pattern, count, stop in (("listen--*", 1, signal.SIGKILL), ("[fs]*", 3, signal.SIGINT)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        limit = time.monotonic() + 120
        while len(list(out.glob(f"parts/{pattern}"))) < count and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        os.killpg(process.pid, stop)  # as the terminal does, to the whole group
        said = process.communicate(timeout=60)[1]
        assert not (out / "records" / "clips.parquet").exists()
        if stop == signal.SIGKILL:
            assert process.returncode == -stop
            assert len(list(out.glob("parts/[a-z]*"))) < TASKS
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("spi: error: interrupted; ")
    assert f"to go on: spi measure --model {place / 'first'}" in said and "Traceback" not in said
    assert 3 <= len(list(out.glob("parts/[fs]*"))) < TASKS
    assert run_command(_command("measure", place, "stopped", "--workers", "1", "--quiet")) == 0
    names = [path.relative_to(whole) for path in whole.glob("records/*.parquet")]
    names += [path.relative_to(whole) for path in whole.glob("parts/*/vectors.parquet")]
    assert len(names) == 7 + 2
    for name in names:
        assert _same_bits(_untimed(whole / name), _untimed(out / name)), name


def test_claims_and_comparison_are_read_from_a_run(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["claims", "--json", str(whole)]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert {"id", "verdict", "effect", "interval", "n", "command"} <= set(claims[0]) and len(claims) == 15
    assert run_command(["compare", "--json", str(whole)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == TASKS and {"predicted_paper", "observed", "reason"} <= set(rows[0])
    assert run_command(["compare", str(whole)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == TASKS + 1


def test_without_states_the_clips_are_heard_as_with_them(place: Path, whole: Path) -> None:
    assert run_command([*_command("measure", place, "heard", "--workers", "1", "--quiet"), "--states", "none"]) == 0
    out = place / "heard"
    assert not (out / "records" / "layers.parquet").exists()
    for name in ("clips", "activations"):
        one, two = (_untimed(root / "records" / f"{name}.parquet") for root in (whole, out))
        assert _same_bits(one, two), name


def test_a_run_of_a_manifest_is_made_of_its_samples(place: Path, whole: Path, tmp_path: Path) -> None:
    manifest, audio = tmp_path / "m.jsonl", str(place / "audio")
    assert run_command(["stress", "--audio", audio, "--out", str(manifest), "--conditions", "mix,noise"]) == 0
    models = ["--model", str(place / "first"), "--audio", audio, "--manifest", str(manifest)]
    options = ["--states", "none", "--workers", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert run_command(["measure", *models, *options]) == 0
    rows = pq.read_table(tmp_path / "run" / "records" / "clips.parquet").to_pylist()
    expected = [
        row for row in pq.read_table(whole / "records" / "clips.parquet").to_pylist() if row["model"] == "first"
    ]
    assert [(row["clip"], row["condition"]) for row in rows] == [(row["clip"], row["condition"]) for row in expected]
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    recorded = {(line["utterance"], line["condition"]): line["result_sha256"] for line in lines}
    found = {(row["clip"], row["condition"]): row["result_sha256"] for row in rows if row["condition"] != "clean"}
    assert found == recorded
    for row, other in zip(rows, expected, strict=True):  # but for mixes, whose pool was another
        if row["condition"] != "mix":
            assert row["tokens"] == other["tokens"] and row["result_sha256"] == other["result_sha256"]
    (place / "audio" / "sound-1.wav").rename(tmp_path / "sound-1.wav")
    try:
        command = ["measure", *models, *options[:-1], str(tmp_path / "other")]
        assert run_command(command) == 0
    finally:
        (tmp_path / "sound-1.wav").rename(place / "audio" / "sound-1.wav")
    lines = [json.loads(line) for line in (tmp_path / "other" / "quarantine.jsonl").read_text().splitlines()]
    assert {(line.get("utterance"), line["code"]) for line in lines} >= {("sound-1", "absent_audio")}


def test_weights_that_change_during_a_run_are_noticed(whole: Path, tmp_path: Path) -> None:
    inputs = json.loads((whole / "inputs.json").read_text(encoding="utf-8"))
    inputs["models"][0]["sha256"] = "0" * 64
    (tmp_path / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
    with pytest.raises(ValueError, match="the weights of first changed while the run was at work"):
        jobs.listen(str(tmp_path), "digest", ListenTask("first", 0, (("sound-0", "clean"),)))
    assert not (tmp_path / "parts").exists()


def test_a_manifest_of_stressed_audio_is_the_same_every_time(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        out = str(tmp_path / f"{name}.jsonl")
        assert run_command(["stress", "--audio", str(place / "audio"), "--out", out, "--seed", "3", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["lines"], said["quarantined"]) == (2, 1)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    line = json.loads((tmp_path / "one.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["utterance"] == "sound-0" and line["seed"] == 3 and isinstance(line["achieved"], dict)


def test_null_models_are_written_once_along_the_usable_clips(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nulls.parquet"
    arguments = ["nulls", "--model", str(place / "first"), "--out", str(out), "--draws", "1", "--quiet", "--audio"]
    assert run_command([*arguments, str(place / "audio" / "empty.wav")]) == 3
    assert "no usable audio" in capsys.readouterr().err
    assert run_command([*arguments, str(place / "audio")]) == 0
    table = pq.read_table(out)
    assert set(table.column("null").to_pylist()) == {"random_weights", "shuffled_layers", "random_singular_vectors"}
    assert set(table.column("clip").to_pylist()) == {"sound-0", "sound-1"}
    assert run_command([*arguments, str(place / "audio")]) == 5
    assert "exists" in capsys.readouterr().err


def test_null_draws_of_a_run_are_those_of_the_function(whole: Path, tmp_path: Path) -> None:
    from empirical.checkpoints.checkpoint import load_checkpoint
    from empirical.nulls import measure_nulls, null_inputs
    from empirical.speech.clips import find_clips

    inputs = json.loads((whole / "inputs.json").read_text(encoding="utf-8"))
    (tmp_path / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
    part = jobs.measure_null(str(tmp_path), "digest", NullTask("first", 1))
    table = pq.read_table(tmp_path / "parts" / part.task / "nulls.parquet")
    checkpoint = load_checkpoint(inputs["models"][0]["reference"])
    heard = null_inputs(checkpoint, [find_clips(clip["path"])[0] for clip in inputs["clips"]])
    expected = measure_nulls(checkpoint, heard, [1])
    assert table.column("sigma").to_pylist() == expected["sigma"].tolist()
    assert table.column("draw").to_pylist() == [1] * len(expected)


def test_random_weights_of_whisper_tinys_true_dimensions_go_the_whole_way(place: Path, tmp_path: Path) -> None:
    model = write_random_whisper_tiny(tmp_path / "whisper-tiny")
    options = ("--conditions", "clean", "--states", "position", "--k", "2", "--limit", "1", "--workers", "1", "--quiet")
    command = ["run", "--model", str(model), "--audio", str(place / "audio"), "--out", str(tmp_path / "run"), *options]
    assert run_command(command) == 0
    layers = pq.read_table(tmp_path / "run" / "records" / "layers.parquet").to_pylist()
    assert [(row["layer"], row["d_model"]) for row in layers] == [(number, 384) for number in (1, 2, 3, 4)]
    assert all(all(row["converged"]) for row in layers)
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    # Whisper's dimensions alone make no Whisper: without hearing the clips it gets no verdict.
    assert {line["verdict"] for line in results["claims"] if line["id"] not in THEORY_CLAIMS} == {"not tested"}
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
