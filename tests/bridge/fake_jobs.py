"""What the workers do, without models or audio: made-up numbers that are a function of the task, for tests of the
machinery around them. What a clip's name says happens: "silent" is refused by the gate, "nopool" cannot be mixed,
"bug" raises, "crash" kills its worker."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from bridge.running.store import Part, UnwritableError, write_part
from bridge.running.tasks import NullTask, Task

LAYERS = 3


class CheckpointError(ValueError):
    """As the loader raises."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StressError(ValueError):
    """As the stresses raise."""

    code = "pool_empty"


class ClipError(ValueError):
    """As the search for clips raises."""

    code = "no_audio"


def list_inputs(models: tuple[str, ...], audio: str | None) -> dict[str, Any]:
    """Every `.clip` file of the directory is a clip."""
    paths = sorted(Path(audio or ".").glob("*.clip"))
    if not paths:
        raise ClipError(f"{audio}: no audio file in it")
    clips = [{"name": p.stem, "path": str(p), "reference": None, "speaker": p.stem[0]} for p in paths]
    return {"models": list(models) or ["fake-a", "fake-b"], "clips": clips, "rejected": []}


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


def measure(run_directory: str, settings: str, task: Task) -> Part:
    """Numbers drawn from the task's name."""
    time.sleep(0.002)
    if "nopool" in task.clip and task.condition == "mix":
        raise StressError("no utterance of another speaker to mix in")
    if "bug" in task.clip and task.condition == "noise":
        raise ZeroDivisionError("division by zero")
    if "crash" in task.clip and task.condition == "clean":
        os.kill(os.getpid(), signal.SIGKILL)
    key = {"model": task.model, "clip": task.clip, "condition": task.condition}
    clips = [{**key, "wer": None, "transcript": task.clip}]
    layers = [{**row, "state": task.state} | key for row in _layers(task.id)]
    activations = [{**key, "component": "feed-forward", "layer": 1, "x": [0.5, 0.25]}]
    return _write(run_directory, settings, task.id, {"clips": clips, "layers": layers, "activations": activations})


def measure_null(run_directory: str, settings: str, task: NullTask) -> Part:
    """Numbers drawn from the draw's name."""
    rows = [{**row, "model": task.model, "null": "random_weights", "draw": task.draw} for row in _layers(task.id)]
    return _write(run_directory, settings, task.id, {"nulls": rows})


def sweep(path: str) -> dict[str, Any]:
    """A file in the sweep's place."""
    Path(path).write_text("sweep", encoding="utf-8")
    return {"seconds": 0.5, "computed": True}


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
    if (parts.parent.parent / "disk-full").exists() and sum(1 for _ in parts.iterdir()) >= 5:
        raise UnwritableError(f"{parts} cannot be written: {os.strerror(errno.ENOSPC)}")
    return write_part(
        parts, task, tables, settings=settings, provenance={"pid": os.getpid()}, seconds=0.1, peak_rss_bytes=1
    )
