"""What the workers do, without models or audio: made-up numbers that are a function of the task, for tests of the
machinery around them. What a clip's name says happens: "silent" is refused by the gate, "nopool" cannot be mixed,
"nan" gives no numbers, "deaf" fails when it is heard, "bug" when it is measured, "crash" kills its worker then."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bridge.running.store import Part, UnwritableError, write_part
from bridge.running.tasks import ListenTask, NullTask, Task

LAYERS = 3


class CheckpointError(ValueError):
    """As the loader raises."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ManifestError(ValueError):
    """As the reader of manifests raises."""

    code = "cut"


class ClipError(ValueError):
    """As the search for clips raises."""

    code = "no_audio"


def list_inputs(models: tuple[str, ...], audio: str | None, manifest: str | None) -> dict[str, Any]:
    """Every `.clip` file of the directory is a clip; a manifest has lines of a clip and a condition."""
    paths = sorted(Path(audio or ".").glob("*.clip"))
    if not paths:
        raise ClipError(f"{audio}: no audio file in it")
    clips = [{"name": p.stem, "path": str(p), "reference": None, "speaker": p.stem[0]} for p in paths]
    listed = None if manifest is None else _listed(Path(manifest), {clip["name"] for clip in clips})
    return {"models": list(models) or ["fake-a", "fake-b"], "clips": clips, "rejected": [], "manifest": listed}


def _listed(path: Path, clips: set[str]) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ManifestError(f"{path} breaks off")
    lines = sorted(tuple(line.split()) for line in text.splitlines())
    there = [(clip, condition) for clip, condition in lines if clip in clips]
    samples = {name for clip, condition in there for name in ((clip, "clean"), (clip, condition))}
    return {
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "versions": {"spi": "0"},
        "lines": len(lines),
        "samples": sorted(samples),
        "labels": sorted({condition for _, condition in samples}),
        "refused": [
            {"path": str(path), "utterance": clip, "code": "absent_audio", "detail": clip, "stage": condition}
            for clip, condition in lines
            if clip not in clips
        ],
    }


def list_noises(directory: str) -> list[dict[str, str]]:
    """Every file is a sound."""
    return [{"name": path.name, "sha256": path.read_text(encoding="utf-8")} for path in Path(directory).iterdir()]


def import_libraries(device: str) -> dict[str, Any]:
    """There are none."""
    return {"type": "cpu", "name": "cpu", "free": None}


def inspect_model(reference: str, dtype: str, device: str, companion: str | None) -> dict[str, Any]:
    """A model of the name of its directory."""
    if reference.startswith("hub/"):
        raise CheckpointError("unreachable", f"tried {reference}\npass a directory instead")
    if reference.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    if reference.startswith("bad"):
        raise CheckpointError("missing_tensor", f"{reference} lacks a tensor")
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": LAYERS, "heads": 2, "mels": 80, "vocabulary": 9}
    name = Path(reference).name
    digest = hashlib.sha256(reference.encode()).hexdigest()
    return {"name": name, "reference": reference, "sha256": digest, **sizes, "positions": 10, "window_s": 10.0}


def gate_audio(paths: list[str]) -> list[dict[str, Any]]:
    """Refuses what is called silent, and dies of what is called deadly."""
    if any("deadly" in path for path in paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return [
        {"code": "silent", "detail": "no variation"}
        if "silent" in path
        else {"sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(), "duration_s": 2.0}
        for path in paths
    ]


def listen(run_directory: str, settings: str, task: ListenTask) -> Part:
    """Transcripts that are the clips' names."""
    time.sleep(0.002)
    rows: dict[str, list[dict[str, Any]]] = {"clips": [], "activations": [], "vectors": [], "refused": []}
    for clip, condition in task.samples:
        if "deaf" in clip:
            raise ZeroDivisionError("float division by zero")
        key = {"model": task.model, "clip": clip, "condition": condition}
        if "nopool" in clip and condition == "mix":
            why = {"type": "StressError", "code": "pool_empty", "detail": "nobody to mix in", "stage": "stress"}
            rows["refused"].append(key | why)
            continue
        if "nan" in clip and condition == "noise":
            why = {"type": "NonFiniteError", "code": None, "detail": "states must be finite", "stage": "listen"}
            rows["refused"].append(key | why)
            continue
        group = {**key, "component": "feed-forward", "layer": 1, "n_tokens": 1, "d_model": 2}
        rows["clips"].append({**key, "wer": None, "transcript": f"{clip} {condition}"})
        rows["activations"].append({**group, "effective_rank_10": 0.5})
        rows["vectors"].append({**group, "x": np.array([0.5, len(clip)], np.float32)})
    return _write(run_directory, settings, task.id, rows)


def measure(run_directory: str, settings: str, task: Task, heard: str) -> Part:
    """Numbers drawn from the task's name, along what was heard."""
    time.sleep(0.002)
    if "bug" in task.clip and task.condition == "noise":
        raise ZeroDivisionError("division by zero")
    if "crash" in task.clip and task.condition == "clean":
        os.kill(os.getpid(), signal.SIGKILL)
    return measure_soundly(run_directory, settings, task, heard)


def measure_soundly(run_directory: str, settings: str, task: Task, heard: str) -> Part:
    """As `measure`, whatever the clip's name says."""
    told = pq.read_table(Path(run_directory) / "parts" / heard / "clips.parquet").to_pylist()
    (text,) = [row["transcript"] for row in told if (row["clip"], row["condition"]) == (task.clip, task.condition)]
    key = {"model": task.model, "clip": task.clip, "condition": task.condition, "state": task.state}
    layers = [row | key | {"transcript": text} for row in _layers(task.id)]
    return _write(run_directory, settings, task.id, {"layers": layers})


def measure_null(run_directory: str, settings: str, task: NullTask) -> Part:
    """Numbers drawn from the draw's name."""
    rows = [{**row, "model": task.model, "null": "random_weights", "draw": task.draw} for row in _layers(task.id)]
    return _write(run_directory, settings, task.id, {"nulls": rows})


def sweep(path: str) -> dict[str, Any]:
    """A file in the sweep's place."""
    Path(path).write_text("sweep", encoding="utf-8")
    return {"seconds": 0.5, "computed": True}


def label(run_directory: str, seed: int) -> None:
    """A note that it was asked for."""
    (Path(run_directory) / "rescored.json").write_text(json.dumps({"seed": seed}), encoding="utf-8")


def write_report(run_directory: str) -> None:
    """A file in the report's place, unless there is reason to fail."""
    if (Path(run_directory) / "no-report").exists():
        raise KeyError("no report today")
    for name in ("report.html", "results.json"):
        (Path(run_directory) / name).write_text(name, encoding="utf-8")


def _layers(name: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(list(name.encode()))
    return [
        {
            "layer": layer,
            "layers": LAYERS,
            "sigma": rng.random(),
            "context_s": list(rng.random(2)),
            "seconds": rng.random(),
        }
        | {"seconds": time.perf_counter()}
        for layer in range(1, LAYERS + 1)
    ]


def _write(run_directory: str, settings: str, task: str, tables: dict[str, list[dict[str, Any]]]) -> Part:
    parts = Path(run_directory) / "parts"
    if (parts.parent.parent / "slow").exists():
        time.sleep(0.1)
    if (parts.parent.parent / "disk-full").exists() and sum(1 for _ in parts.iterdir()) >= 5:
        raise UnwritableError(f"{parts} cannot be written: {os.strerror(errno.ENOSPC)}")
    return write_part(
        parts, task, tables, settings=settings, provenance={"pid": os.getpid()}, seconds=0.1, peak_rss_bytes=1
    )
