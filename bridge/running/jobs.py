"""What the workers do; every function here is called by name in a worker process, and imports torch or JAX there.

The parent process imports neither, so it starts at once and stays small.
"""

from __future__ import annotations

import dataclasses
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bridge.running import provenance
from bridge.running.holding import (
    clip_of,
    forward_error,
    memory_named,
    memory_share,
    model_of,
    noises_of,
    run_inputs,
    sample_of,
    sound_pool_of,
    told,
)
from bridge.running.looking import gate_audio as gate_audio
from bridge.running.looking import import_libraries as import_libraries
from bridge.running.looking import inspect_model as inspect_model
from bridge.running.looking import list_inputs as list_inputs
from bridge.running.looking import list_noises as list_noises
from bridge.running.phasemap import write_sweep
from bridge.running.resident import peak_rss_bytes
from bridge.running.store import Part, write_part
from bridge.running.tasks import ListenTask, NullTask, Task

if TYPE_CHECKING:
    from empirical.jacobians.measurement import State

FIGURE_LAYERS = 12
"""Most decoder layers of a model whose null draws have J_l measured at every depth."""

NULLS_LEAVE_OUT = ("tokens", "transcript", "residual", "converged")
"""Columns that every draw of a null model repeats, or that nothing reads."""


def listen(run_directory: str, settings: str, task: ListenTask) -> Part:
    """Hears a shard of samples and writes its part: transcripts, word errors, activations, and what was refused.

    Args:
        run_directory: the run, whose inputs.json says where models and clips are.
        settings: digest of the run's settings.
        task: what to hear.

    Returns:
        the part that was written.
    """
    from empirical.listening import listen as hear

    start = time.perf_counter()
    inputs = run_inputs(run_directory)
    entry = inputs["models_by_name"][task.model]
    with memory_named(task.id):
        checkpoint = model_of(inputs, entry)
        records = hear(
            checkpoint,
            [sample_of(run_directory, clip, condition) for clip, condition in task.samples],
            pool=sound_pool_of(run_directory),
            noises=noises_of(run_directory),
            batch=inputs["batch"],
            tokens=inputs["tokens"],
            max_tokens=inputs["max_tokens"],
            long=inputs["long"],
            memory_bytes=memory_share(checkpoint.device, inputs["workers"]),
        )
    return _written(run_directory, settings, task, records, start, clip=None)


def measure(run_directory: str, settings: str, task: Task, heard: str) -> Part:
    """Measures the Jacobians of one sample in one state, along what was heard of it, and writes the part.

    Args:
        run_directory: the run.
        settings: digest of the run's settings.
        task: what to measure.
        heard: id of the shard in which the sample was heard.

    Returns:
        the part that was written.
    """
    from empirical.task import measure_task

    start = time.perf_counter()
    inputs = run_inputs(run_directory)
    with memory_named(task.id):
        checkpoint = model_of(inputs, inputs["models_by_name"][task.model])
        records = measure_task(
            checkpoint,
            sample_of(run_directory, task.clip, task.condition),
            cast("State", task.state),
            told=told(run_directory, settings, heard)[task.clip, task.condition],
            k=inputs["k"],
            seed=inputs["seed"],
            pool=sound_pool_of(run_directory),
            noises=noises_of(run_directory),
            tokens=inputs["tokens"],
            max_tokens=inputs["max_tokens"],
            long=inputs["long"],
            memory_bytes=memory_share(checkpoint.device, inputs["workers"]),
        )
    return _written(run_directory, settings, task, records, start, clip=inputs["clips_by_name"][task.clip])


def measure_null(run_directory: str, settings: str, task: NullTask) -> Part:
    """Measures one draw of a model's null models, along the model's own transcripts of the run's first clips.

    Args:
        run_directory: the run.
        settings: digest of the run's settings.
        task: which model, and which draw.

    Returns:
        the part that was written.
    """
    from empirical.nulls import measure_nulls

    start = time.perf_counter()
    inputs = run_inputs(run_directory)
    entry = inputs["models_by_name"][task.model]
    # A verdict reads the last depth alone; the figure's band over all of them is for decoders of which it is cheap.
    contexts = "all" if entry["decoder_layers"] <= FIGURE_LAYERS else "last"
    with memory_named(task.id):
        found = measure_nulls(
            model_of(inputs, entry),
            _null_inputs(run_directory, task.model),
            [task.draw],
            inputs["seed"],
            contexts=contexts,
        )
    rows = [{**row, "model": task.model} for row in found.drop(columns=list(NULLS_LEAVE_OUT)).to_dict("records")]
    return write_part(
        Path(run_directory) / "parts",
        task.id,
        {"nulls": rows},
        settings=settings,
        provenance=_stamp(inputs, entry, None),
        seconds=time.perf_counter() - start,
        peak_rss_bytes=peak_rss_bytes(),
    )


def sweep(path: str) -> dict[str, Any]:
    """The theory's default sweep, written as NetCDF unless it is there already.

    Returns:
        seconds, and whether it was computed.
    """
    from theory import default_sweep

    start = time.perf_counter()
    computed = write_sweep(default_sweep(), Path(path))
    return {"seconds": time.perf_counter() - start, "computed": computed}


def label(run_directory: str, seed: int) -> None:
    """Scores and labels a merged clips table, by the rules of an earlier `spi rescore` where there was one."""
    from bridge.running.rescoring import rescore_records

    rescore_records(Path(run_directory), None, seed)


def write_report(run_directory: str) -> None:
    """Makes report.html, results.json and the figures from the records of a run."""
    from bridge.reporting.report import write_report as write

    write(run_directory)


def _written(
    run_directory: str,
    settings: str,
    task: ListenTask | Task,
    records: Any,
    start: float,
    *,
    clip: dict[str, Any] | None,
) -> Part:
    """Writes the tables of a record, each row under the run's name of the model."""
    inputs = run_inputs(run_directory)
    tables = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
    return write_part(
        Path(run_directory) / "parts",
        task.id,
        {name: [{**row, "model": task.model} for row in rows] for name, rows in tables.items()},
        settings=settings,
        provenance=_stamp(inputs, inputs["models_by_name"][task.model], clip),
        seconds=time.perf_counter() - start,
        peak_rss_bytes=peak_rss_bytes(),
    )


@lru_cache(maxsize=1)
def _null_inputs(run_directory: str, model: str) -> list[Any]:
    from empirical.nulls import CLIPS, CONDITIONS, null_inputs

    inputs = run_inputs(run_directory)
    clips = [clip_of(clip) for clip in inputs["clips"][:CLIPS]]
    checkpoint = model_of(inputs, inputs["models_by_name"][model])
    return null_inputs(
        checkpoint, clips, CONDITIONS, seed=inputs["seed"], tokens=inputs["tokens"], max_tokens=inputs["max_tokens"]
    )


def _stamp(inputs: dict[str, Any], model: dict[str, Any], clip: dict[str, Any] | None) -> dict[str, Any]:
    import torch

    from empirical.recognition.words import normaliser_identity

    return {
        "versions": provenance.versions(),
        "model": {"name": model["name"], "sha256": model["sha256"]},
        "clip": None if clip is None else {"name": clip["name"], "sha256": clip["sha256"]},
        "seed": inputs["seed"],
        "normaliser": normaliser_identity(),
        "device": inputs["device_name"],
        "forward_error": forward_error(model["reference"], inputs["dtype"], inputs["device"], model["companion"]),
        "threads": torch.get_num_threads(),
        "blas": provenance.blas(),
    }
