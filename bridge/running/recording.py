"""What a run writes beside its parts: inputs, merged tables, provenance, timings, and what was not measured."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bridge.errors import OtherSettingsError
from bridge.running import provenance
from bridge.running.config import RunConfig
from bridge.running.files import replacing, write_json, write_lines, write_table
from bridge.running.holding import MANIFEST_FILE
from bridge.running.inputs import Inputs
from bridge.running.nulls import gather_nulls
from bridge.running.pool import Reply, WorkerPool
from bridge.running.resident import peak_rss_bytes
from bridge.running.store import Part, RunStore
from bridge.running.tasks import AnyTask, ListenTask, NullTask, Task, kind_of
from bridge.running.timing import Stopwatch

QUARANTINED = frozenset({"AudioError", "StressError", "ManifestError", "ListeningError", "ReferenceTokensError"})
"""Exceptions that speak of a sample, not of the software: its tasks are quarantined; with any other one they failed."""

_TASKS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "model", "clip", "condition", "state", "status", "code", "detail")),
        ("seconds", pa.float64()),
        ("peak_rss_bytes", pa.int64()),
    ]
)


@dataclass(slots=True)
class Outcomes:
    """What became of the tasks, by task id.

    Attributes:
        parts: heard or measured.
        refused: why a sample could not be heard, by model, clip and condition: type, code, detail, stage, and the
            key under which it is filed.
        quarantine: of a sample that cannot be measured: path, condition, code, detail, stage.
        failures: gone wrong: task, type, code where it has one ("out_of_memory", "worker_died"), message, trace.
        other_seconds: worker seconds of what is no task (the sweep), by name.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    refused: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    quarantine: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_seconds: dict[str, float] = field(default_factory=dict)

    def note(self, reply: Reply, task: AnyTask | None, paths: Mapping[str, str]) -> None:
        """Files one reply.

        Args:
            reply: of a worker; its value is the part of a measured task, else a mapping with its seconds.
            task: the one it answers; None if it was no task (the sweep).
            paths: audio file by clip name.
        """
        failure = reply.failure
        if failure is None:
            if task is None:
                self.other_seconds[reply.key] = reply.value["seconds"]
            else:
                self.parts[reply.key] = reply.value
        elif failure.type in QUARANTINED and isinstance(task, Task):
            stage = {"StressError": task.condition, "ReferenceTokensError": "tokens"}.get(failure.type, "load")
            self.quarantine[reply.key] = {
                "path": paths[task.clip],
                "condition": task.condition,
                "code": failure.code,
                "detail": failure.detail or failure.message,
                "stage": stage,
            }
        else:
            self.failures[reply.key] = {
                "task": reply.key,
                "type": failure.type,
                "code": failure.code,
                "message": failure.message,
                "trace": failure.trace,
            }

    def refuse(self, shard: ListenTask, rows: Sequence[Mapping[str, Any]], paths: Mapping[str, str]) -> None:
        """Files the samples of a finished shard that could not be heard.

        What speaks of the sample is quarantined; a model that gives no numbers for it (NonFiniteError) has failed.

        Args:
            shard: where they belong.
            rows: of its table of the refused.
            paths: audio file by clip name.
        """
        for row in rows:
            clip, condition = row["clip"], row["condition"]
            key = f"{shard.id}: {clip}, {condition}"
            self.refused[shard.model, clip, condition] = {**row, "key": key}
            if row["type"] in QUARANTINED:
                self.quarantine[key] = {
                    "path": paths[clip],
                    "condition": condition,
                    "code": row["code"],
                    "detail": row["detail"],
                    "stage": condition if row["type"] == "StressError" else row["stage"],
                }
            else:
                self.failures[key] = {
                    "task": key,
                    "type": row["type"],
                    "code": row["code"],
                    "message": row["detail"],
                    "trace": "",
                }

    def heard(self) -> int:
        """How many samples were heard, by all models together."""
        return sum(part.rows.get("clips", 0) for part in self.parts.values())

    def status(self, task: AnyTask) -> str:
        """ "ok", "quarantined", "failed", or "waiting" if it was not reached."""
        bad = self._refusal(task)
        if bad is not None:
            return "quarantined" if bad["type"] in QUARANTINED else "failed"
        for name, known in (("ok", self.parts), ("quarantined", self.quarantine), ("failed", self.failures)):
            if task.id in known:
                return name
        return "waiting"

    def reason(self, task: AnyTask) -> tuple[str | None, str | None]:
        """Code and words of why a task has no part; None where it has one."""
        bad = self._refusal(task)
        if bad is None:
            bad = self.quarantine.get(task.id) or self.failures.get(task.id) or {}
        return bad.get("code") or bad.get("type"), bad.get("detail") or bad.get("message")

    def counts(self, tasks: Sequence[AnyTask]) -> dict[str, int]:
        """How many of the tasks are "ok", "quarantined" and "failed"; whatever else failed counts as failed, a sample
        by its tasks where it has any."""
        found = Counter(self.status(task) for task in tasks)
        samples = {(task.model, task.clip, task.condition) for task in tasks if isinstance(task, Task)}
        told = {task.id for task in tasks} | {row["key"] for sample, row in self.refused.items() if sample in samples}
        others = len(self.failures.keys() - told)
        return {"ok": found["ok"], "quarantined": found["quarantined"], "failed": found["failed"] + others}

    def _refusal(self, task: AnyTask) -> dict[str, Any] | None:
        return self.refused.get((task.model, task.clip, task.condition)) if isinstance(task, Task) else None


def write_inputs(store: RunStore, config: RunConfig, inputs: Inputs, command: Sequence[str], workers: int) -> None:
    """Writes inputs.json, which the workers read, and provenance.json, which grows by one session each time."""
    models = [asdict(model) for model in inputs.models]
    clips = [asdict(clip) for clip in inputs.clips]
    if config.manifest is not None and inputs.manifest is not None:
        copy_manifest(Path(config.manifest), store.root / MANIFEST_FILE, inputs.manifest["sha256"])
    write_json(
        store.root / "inputs.json",
        {
            "models": models,
            "clips": clips,
            "pool": [asdict(clip) for clip in inputs.pool],
            "k": config.k,
            "seed": config.seed,
            "dtype": config.dtype,
            "states": list(config.states),
            "tokens": config.tokens,
            "max_tokens": config.max_tokens,
            "batch": config.batch,
            "long": config.long,
            "manifest": inputs.manifest,
            "noise_dir": config.noise_dir,
            "device": inputs.device,
            "device_name": inputs.device_name,
            "workers": workers,
        },
    )
    path = store.root / "provenance.json"
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
    except (OSError, ValueError, KeyError):
        sessions = []
    session = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "command": list(command)}
    write_json(
        path,
        {
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "device": inputs.device_name,
            "blas": provenance.blas(),
            "settings_digest": store.digest,
            "models": models,
            "audio": config.audio,
            "manifest": None if inputs.manifest is None else {"path": config.manifest, **inputs.manifest},
            "noise_dir": config.noise_dir,
            "seed": config.seed,
            "dtype": config.dtype,
            "sessions": [*sessions, session],
        },
    )


def copy_manifest(source: Path, target: Path, sha256: str) -> None:
    """A copy of the manifest beside the records, atomically.

    Raises:
        OtherSettingsError: if it is no longer the one that was read.
    """
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        if provenance.file_sha256(temporary) != sha256:
            raise OtherSettingsError(f"{source} changed while the run began")


def write_records(
    store: RunStore,
    inputs: Inputs,
    shards: Sequence[ListenTask],
    tasks: Sequence[Task],
    nulls: Sequence[NullTask],
    outcomes: Outcomes,
) -> dict[str, int]:
    """Merges the finished parts into records/*.parquet; returns rows by table."""
    stamp = {
        "versions": provenance.versions(),
        "models": store.settings["models"],
        "seed": store.settings["seed"],
    }
    counts = store.merge([task.id for task in [*shards, *tasks] if task.id in outcomes.parts], stamp)
    counts["nulls"] = gather_nulls(store, inputs, [null for null in nulls if null.id in outcomes.parts], stamp)
    rows = [_task_row(task, outcomes) for task in [*shards, *tasks]]
    write_table(store.records / "tasks.parquet", pa.Table.from_pylist(rows, schema=_TASKS), stamp)
    return counts


def write_log(store: RunStore, inputs: Inputs, outcomes: Outcomes) -> list[dict[str, Any]]:
    """Writes quarantine.jsonl (each sample and reason once) and failures.jsonl; returns the quarantine."""
    refused = [*inputs.quarantine, *(outcomes.quarantine[key] for key in sorted(outcomes.quarantine))]
    quarantine = list({json.dumps(entry, sort_keys=True): entry for entry in refused}.values())
    write_lines(store.root / "quarantine.jsonl", quarantine)
    write_lines(store.root / "failures.jsonl", [outcomes.failures[key] for key in sorted(outcomes.failures)])
    return quarantine


def write_timings(
    store: RunStore, watch: Stopwatch, tasks: Sequence[AnyTask], outcomes: Outcomes, pool: WorkerPool
) -> None:
    """Writes timings.json: wall seconds by stage of this session, worker seconds by model and state, peak memory.

    A resumed run's stages are of its last session alone; the worker seconds are of all parts, whenever measured.
    """
    by_kind: dict[str, dict[str, float]] = {
        name: {"tasks": 1, "seconds": seconds} for name, seconds in outcomes.other_seconds.items()
    }
    for task in tasks:
        part = outcomes.parts.get(task.id)
        if part is not None:
            entry = by_kind.setdefault(f"{task.model} {kind_of(task)}", {"tasks": 0, "seconds": 0.0})
            entry["tasks"] += 1
            entry["seconds"] += part.seconds
    write_json(
        store.root / "timings.json",
        {
            "total": watch.total,
            "stages": watch.stages,
            "worker_seconds": by_kind,
            "tasks": outcomes.counts(tasks),
            "peak_rss_bytes": {"parent": peak_rss_bytes(), "workers": sorted(pool.peak_rss_bytes.values())},
        },
    )


def _task_row(task: ListenTask | Task, outcomes: Outcomes) -> dict[str, Any]:
    part = outcomes.parts.get(task.id)
    code, detail = outcomes.reason(task)
    return {
        "id": task.id,
        "model": task.model,
        "clip": task.clip if isinstance(task, Task) else None,
        "condition": task.condition if isinstance(task, Task) else None,
        "state": kind_of(task),
        "status": outcomes.status(task),
        "code": code,
        "detail": detail,
        "seconds": None if part is None else part.seconds,
        "peak_rss_bytes": None if part is None else part.peak_rss_bytes,
    }
