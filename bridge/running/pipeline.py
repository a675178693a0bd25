"""The main job: gate, listen, measure, merge, label and report, task by task and resumable (`spi run`, `spi measure`).

Samples are heard first, in shards; Jacobians are then measured along what was heard, and nothing is transcribed twice.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bridge.errors import ExitCode, NoUsableAudioError, OtherSettingsError, RunInterruptedError, reason
from bridge.running import provenance
from bridge.running.config import RunConfig
from bridge.running.estimate import Estimate, duration, estimate
from bridge.running.inputs import Inputs, default_directory, make_settings, prepare, worker_job
from bridge.running.nulls import null_tasks, unused_nulls
from bridge.running.pool import Job, Reply, WorkerPool
from bridge.running.recording import Outcomes, write_inputs, write_log, write_records, write_timings
from bridge.running.store import Part, RunStore, UnwritableError, settings_digest
from bridge.running.tasks import AnyTask, ListenTask, NullTask, Task, make_shards, make_tasks, working_order
from bridge.running.timing import Stopwatch

_SWEEP, _LABELS, _REPORT = "sweep", "labels", "report"
_QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What came of a run.

    Attributes:
        directory: where its files are.
        tasks: how many tasks (shards heard, Jacobians, null draws) are "ok", "quarantined" and "failed".
        heard: samples that were heard, by all models together.
        quarantined: samples that could not be measured, each with its reason in quarantine.jsonl.
        seconds: wall time of this call.
        report: report.html, if it was asked for.
        results: results.json, if it was asked for.
        exit_code: of the command.
    """

    directory: Path
    tasks: dict[str, int]
    heard: int
    quarantined: int
    seconds: float
    report: Path | None
    results: Path | None
    exit_code: ExitCode

    def as_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        values = asdict(self)
        for name in ("directory", "report", "results"):
            values[name] = None if values[name] is None else str(values[name])
        return {**values, "exit_code": int(self.exit_code)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is going to do.

    Attributes:
        directory: where to.
        inputs: what it measures.
        shards: samples to be heard, in the order of the tables.
        tasks: Jacobians to be measured of them, likewise.
        nulls: draws of null models.
        finished: parts of an earlier session, by task id.
        estimate: of what is left.
    """

    directory: Path
    inputs: Inputs
    shards: tuple[ListenTask, ...]
    tasks: tuple[Task, ...]
    nulls: tuple[NullTask, ...]
    finished: dict[str, Part]
    estimate: Estimate

    @property
    def everything(self) -> list[AnyTask]:
        """Shards, Jacobians and null draws."""
        return [*self.shards, *self.tasks, *self.nulls]

    @property
    def waiting(self) -> list[AnyTask]:
        """Those of `everything` that an earlier session has not finished."""
        return [task for task in self.everything if task.id not in self.finished]


def run(
    config: RunConfig,
    *,
    sweep: bool = True,
    report: bool = True,
    resume: bool = True,
    quiet: bool = True,
    command: Sequence[str] = (),
) -> RunSummary:
    """Measures what the settings ask for and reports it; goes on where an earlier call of the same settings stopped.

    Args:
        config: the settings.
        sweep: compute the theory's phase map as well.
        report: write report.html, results.json and the figures.
        resume: take up what is there; else a directory that holds a run is refused.
        quiet: say nothing on stderr.
        command: the command line, for provenance and for the hint how to go on.

    Returns:
        Where everything is, and how many tasks came to what.

    Raises:
        ModelError, NoUsableAudioError, OtherSettingsError: see `bridge.errors`; the last also where nothing more can
            be written.
        RunInterruptedError: after Ctrl-C or SIGTERM; only whole parts are left.
    """
    watch = Stopwatch()
    say: Callable[[str], None] = (lambda _: None) if quiet else _say
    outcomes = Outcomes()
    try:
        with _terminable(), worker_pool(config) as pool:
            with watch.stage("prepare"):
                inputs = prepare(pool, config, quiet=quiet)
            store = _store(config, inputs)
            store.check(resume=resume)
            with store.lock(), _written(store.root, outcomes):
                store.open(resume=resume)
                store.sweep()
                write_inputs(store, config, inputs, command, pool.workers)
                with watch.stage("plan"):
                    plan = _plan(pool, store, config, inputs)
                outcomes.parts.update(plan.finished)
                say(f"{_described(inputs)} -> {store.root}")
                say(str(plan.estimate))
                if plan.estimate.warning is not None:
                    say(f"warning: {plan.estimate.warning}")
                for path in unused_nulls(inputs):
                    say(f"{path} is unreadable or of other weights, and is not used; spi nulls makes it anew")
                with watch.stage("listen"):
                    _listen(pool, store, plan, outcomes, sweep=sweep, quiet=quiet)
                with watch.stage("measure"):
                    _measure(pool, store, plan, outcomes, quiet=quiet)
                tasks = plan.everything
                with watch.stage("merge"):
                    write_records(store, inputs, plan.shards, plan.tasks, plan.nulls, outcomes)
                with watch.stage("label"):
                    _label(pool, store, outcomes)
                quarantine = write_log(store, inputs, outcomes)
                write_timings(store, watch, tasks, outcomes, pool)
                counts = outcomes.counts(tasks)
                if report and outcomes.heard():
                    say("pooling the activations and writing the report")
                    with watch.stage("report"):
                        _report(pool, store, outcomes)
                    counts = outcomes.counts(tasks)
                    write_log(store, inputs, outcomes)
                    write_timings(store, watch, tasks, outcomes, pool)
    except KeyboardInterrupt:
        raise RunInterruptedError(_how_to_resume(outcomes, command)) from None
    if not outcomes.heard() and not counts["failed"]:
        codes = Counter(entry["code"] for entry in quarantine)
        reasons = ", ".join(f"{code} {count}" for code, count in codes.items())
        raise NoUsableAudioError(f"no sample could be measured ({reasons}); see {store.root / 'quarantine.jsonl'}")
    reported = report and outcomes.heard() > 0 and _REPORT not in outcomes.failures
    summary = RunSummary(
        directory=store.root,
        tasks=counts,
        heard=outcomes.heard(),
        quarantined=len(quarantine),
        seconds=watch.total,
        report=store.root / "report.html" if reported else None,
        results=store.root / "results.json" if reported else None,
        exit_code=ExitCode.SOME_FAILED if counts["failed"] else ExitCode.OK,
    )
    for line in _closing(summary, outcomes):
        say(line)
    return summary


def make_plan(config: RunConfig, *, resume: bool = True, quiet: bool = True) -> Plan:
    """What `run` would do and what it is expected to cost, without doing it; writes nothing.

    Raises:
        ModelError, NoUsableAudioError, OtherSettingsError: as `run` would.
    """
    try:
        with _terminable(), worker_pool(config) as pool:
            inputs = prepare(pool, config, quiet=quiet)
            store = _store(config, inputs)
            store.check(resume=resume)
            return _plan(pool, store, config, inputs)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; nothing was written") from None


def worker_count(config: RunConfig) -> int:
    """Workers asked for, else two, or one on a single core."""
    return config.workers or min(2, provenance.usable_cores())


def worker_pool(config: RunConfig) -> WorkerPool:
    """The workers a run of these settings has; offline where every model is a path or bundled."""
    environment = {name: os.environ.get(name, value) for name, value in _QUIET_LIBRARIES.items()}
    if all(Path(reference).exists() for reference in config.model):
        environment["HF_HUB_OFFLINE"] = "1"
    return WorkerPool(worker_count(config), environment)


def _store(config: RunConfig, inputs: Inputs) -> RunStore:
    settings = make_settings(config, inputs)
    root = Path(config.out) if config.out else default_directory(config, settings_digest(settings))
    return RunStore(root, settings)


def _plan(pool: WorkerPool, store: RunStore, config: RunConfig, inputs: Inputs) -> Plan:
    models = [model.name for model in inputs.models]
    shards = make_shards(models, inputs.conditions)
    tasks = make_tasks(models, inputs.conditions, config)
    nulls = null_tasks(inputs, config)
    everything = [*shards, *tasks, *nulls]
    found = {task.id: store.finished(task.id) for task in everything}
    finished = {identity: part for identity, part in found.items() if part is not None}
    speed = next(pool.run([Job("speed", "bridge.running.estimate:matrix_speed")])).value
    asked = {"k": config.k, "dtype": config.dtype, "batch": config.batch}
    cost = estimate(inputs, everything, finished, pool.workers, speed, **asked)
    return Plan(store.root, inputs, tuple(shards), tuple(tasks), tuple(nulls), finished, cost)


def _listen(pool: WorkerPool, store: RunStore, plan: Plan, outcomes: Outcomes, *, sweep: bool, quiet: bool) -> None:
    """Hears what is left to be heard; then files what could not be, of every session."""
    waiting = {task.id: task for task in plan.shards if task.id not in plan.finished}
    jobs = [_job(store, "listen", task) for task in waiting.values()]
    if sweep:  # the longest job, so it goes first
        jobs.insert(0, worker_job(_SWEEP, "sweep", {"path": str(store.records / "sweep.nc")}))
    samples = sum(len(task.samples) for task in waiting.values())
    paths = _paths(plan)
    with _bar(samples, "listening", "sample", quiet=quiet) as bar:
        for reply in pool.run(jobs):
            _file(reply, waiting.get(reply.key), paths, outcomes)
            bar.update(len(waiting[reply.key].samples) if reply.key in waiting else 0)
    for shard in plan.shards:
        part = outcomes.parts.get(shard.id)
        if part is not None and part.rows.get("refused"):
            outcomes.refuse(shard, store.read_part(shard.id, "refused").to_pylist(), paths)


def _measure(pool: WorkerPool, store: RunStore, plan: Plan, outcomes: Outcomes, *, quiet: bool) -> None:
    """Measures the Jacobians of what was heard; a sample that was not, because its shard failed, waits for it."""
    homes = {
        (shard.model, *sample): shard.id
        for shard in plan.shards
        if shard.id in outcomes.parts
        for sample in shard.samples
    }
    heard = {
        task.id: homes[key]
        for task in plan.tasks
        if (key := (task.model, task.clip, task.condition)) in homes and key not in outcomes.refused
    }
    order = [task for task in [*plan.nulls, *working_order(plan.tasks)] if task.id not in plan.finished]
    jobs = [
        _job(store, "measure", task, heard=heard[task.id])
        if isinstance(task, Task)
        else _job(store, "measure_null", task)
        for task in order
        if isinstance(task, NullTask) or task.id in heard
    ]
    by_id, paths = {task.id: task for task in order}, _paths(plan)
    with _bar(len(jobs), "measuring", "task", quiet=quiet or not jobs) as bar:
        for reply in pool.run(jobs):
            _file(reply, by_id[reply.key], paths, outcomes)
            bar.update()


def _job(store: RunStore, function: str, task: AnyTask, **more: Any) -> Job:
    arguments = {"run_directory": str(store.root), "settings": store.digest, "task": task, **more}
    return worker_job(task.id, function, arguments)


def _file(reply: Reply, task: AnyTask | None, paths: dict[str, str], outcomes: Outcomes) -> None:
    if reply.failure is not None and reply.failure.code == UnwritableError.code:
        # The tasks after it would be measured for nothing.
        raise OtherSettingsError(f"{reply.failure.message}; {_kept(outcomes)}")
    outcomes.note(reply, task, paths)


def _paths(plan: Plan) -> dict[str, str]:
    return {clip.name: clip.path for clip in plan.inputs.clips}


def _bar(total: int, what: str, unit: str, *, quiet: bool) -> tqdm[Any]:
    return tqdm(total=total, desc=what, unit=unit, file=sys.stderr, disable=True if quiet else None)


def _label(pool: WorkerPool, store: RunStore, outcomes: Outcomes) -> None:
    """Labels the clips: merging takes their table from the parts, which have no labels."""
    if not (store.records / "clips.parquet").is_file():
        return
    arguments = {"run_directory": str(store.root), "seed": store.settings["seed"]}
    _finish(pool, worker_job(_LABELS, "label", arguments), outcomes)


def _report(pool: WorkerPool, store: RunStore, outcomes: Outcomes) -> None:
    """Writes the report in a worker, where every library has one thread: many small matrices are slower with two."""
    _finish(pool, worker_job(_REPORT, "write_report", {"run_directory": str(store.root)}), outcomes)


def _finish(pool: WorkerPool, job: Job, outcomes: Outcomes) -> None:
    """What comes after the records: where it fails they are whole nevertheless, and the failure is told as a task's."""
    (reply,) = pool.run([job])
    if reply.failure is not None:
        outcomes.note(reply, None, {})


@contextlib.contextmanager
def _written(root: Path, outcomes: Outcomes) -> Iterator[None]:
    """What the run writes itself: a disk that is full, or gone, ends it in one line."""
    try:
        yield
    except BrokenPipeError:  # of the terminal, not of the directory
        raise
    except OSError as error:
        raise OtherSettingsError(f"{root} cannot be written: {reason(error)}; {_kept(outcomes)}") from error


def _kept(outcomes: Outcomes) -> str:
    return f"{_finished(outcomes)}, and the same command goes on"


def _finished(outcomes: Outcomes) -> str:
    """How many tasks are; before that is known, no number, lest it be taken for a loss."""
    return f"{len(outcomes.parts)} finished tasks are kept" if outcomes.parts else "what is finished is kept"


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: workers stopped, whole parts kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _how_to_resume(outcomes: Outcomes, command: Sequence[str]) -> str:
    again = shlex.join(command) if command else "the same call"
    return f"interrupted; {_finished(outcomes)}; to go on: {again}"


def _described(inputs: Inputs) -> str:
    names = ", ".join(model.name for model in inputs.models)
    refused = f" ({len(inputs.quarantine)} refused)" if inputs.quarantine else ""
    samples = sum(len(labels) for labels in inputs.conditions.values())
    return f"{names}; {len(inputs.clips)} clips, {samples} samples{refused}"


def _closing(summary: RunSummary, outcomes: Outcomes) -> Iterator[str]:
    counts = ", ".join(f"{count} {status}" for status, count in summary.tasks.items() if count)
    yield f"{summary.heard} samples heard; tasks: {counts} in {duration(summary.seconds)}"
    for identity, failure in sorted(outcomes.failures.items())[:5]:
        yield f"failed: {identity}: {failure['type']}: {' '.join(failure['message'].split())}"
    if outcomes.failures:
        yield f"{len(outcomes.failures)} failed: {summary.directory / 'failures.jsonl'}"
    if summary.quarantined:
        yield f"{summary.quarantined} samples refused: {summary.directory / 'quarantine.jsonl'}"
    if summary.report is not None:
        yield f"report: {summary.report}"


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who reads no further (`2>&1 | head`) has not stopped the run
        sys.stderr.write(f"spi: {text}\n")
        sys.stderr.flush()
