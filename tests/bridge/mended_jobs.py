"""The fake jobs without the bug: nothing is done differently but that nothing fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bridge.running.store import Part
from bridge.running.tasks import Task
from tests.bridge import fake_jobs
from tests.bridge.fake_jobs import gate_audio, import_libraries, inspect_model, list_inputs, sweep

__all__ = ["gate_audio", "import_libraries", "inspect_model", "list_inputs", "measure", "sweep"]


def measure(run_directory: str, settings: str, task: Task) -> Part:
    """As `fake_jobs.measure` for a clip of a harmless name, filed under the task's own id."""
    part = fake_jobs.measure(run_directory, settings, replace(task, clip="mended"))
    source = Path(run_directory) / "parts" / part.task
    target = source.with_name(task.id)
    source.rename(target)
    note = target / "part.json"
    note.write_text(note.read_text(encoding="utf-8").replace(part.task, task.id), encoding="utf-8")
    return replace(part, task=task.id)
