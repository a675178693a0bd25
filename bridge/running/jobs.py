"""What the workers do; every function here is called by name in a worker process, and imports torch or JAX there.

The parent process imports neither, so it starts at once and stays small.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bridge.running import provenance
from bridge.running.phasemap import write_sweep
from bridge.running.resident import peak_rss_bytes
from bridge.running.store import Part, write_part
from bridge.running.tasks import NullTask, Task

if TYPE_CHECKING:
    import torch

    from empirical.checkpoints.checkpoint import Checkpoint
    from empirical.jacobians.measurement import State
    from empirical.speech.clips import Clip

FIGURE_LAYERS = 12
"""Most decoder layers of a model whose null draws have J_l measured at every depth."""

NULLS_LEAVE_OUT = ("tokens", "transcript", "residual", "converged")
"""Columns that every draw of a null model repeats, or that nothing reads."""


def list_inputs(models: tuple[str, ...], audio: str | None) -> dict[str, Any]:
    """What a run is made of, before anything of it is opened.

    Args:
        models: references as the user gave them; empty means every bundled organism.
        audio: directory of audio; None means the bundled clips.

    Returns:
        models: references to load, a bundled organism's name replaced by its directory; clips: name, path, reference
        and speaker of every audio file, sorted by name; rejected: path, code and detail of files kept out.

    Raises:
        ClipError: if there is no such directory, or no audio in it.
    """
    from empirical.organism import list_organisms
    from empirical.speech.clips import bundled_clips, scan_clips

    bundled = {organism.name: str(organism.path) for organism in list_organisms()}
    # A shell that completes a name may leave a slash behind it.
    named = [name if Path(name).exists() else bundled.get(name.rstrip("/"), name) for name in models]
    references = named or list(bundled.values())
    scan = None if audio is None else scan_clips(audio)
    clips = bundled_clips() if scan is None else scan.clips
    rejected = () if scan is None else scan.rejected
    return {
        "models": references,
        "clips": [
            {"name": clip.name, "path": str(clip.path), "reference": clip.reference, "speaker": clip.speaker}
            for clip in clips
        ],
        "rejected": [{"path": str(bad.path), "code": bad.code, "detail": bad.detail} for bad in rejected],
    }


def import_libraries(device: str) -> dict[str, Any]:
    """Imports what measuring needs, so that it is there when the first task comes.

    Returns:
        type and name of the device that is to be used, and the memory that is free there, or None.

    Raises:
        DeviceError: if there is no such device, or nothing can be measured on it.
    """
    for name in ("empirical.task", "transformers.models.whisper.modeling_whisper"):
        importlib.import_module(name)
    from empirical.checkpoints.device import describe_device, resolve_device
    from empirical.jacobians.operators import available_bytes

    found = resolve_device(device)
    return {"type": found.type, "name": describe_device(found), "free": available_bytes(found)}


def inspect_model(reference: str, dtype: str, device: str, companion: str | None) -> dict[str, Any]:
    """Loads a checkpoint and says what it is.

    Returns:
        name, reference, sha256, d_model, encoder_layers, decoder_layers, heads, mels, vocabulary, positions,
        window_s, notes, decoder_positions, tokenizer_sha256, companion and parameters.

    Raises:
        CheckpointError: if it cannot be loaded; the message says why.
        TaskMemoryError: if there is not the memory for it.
    """
    with _memory_named("loading it"):
        checkpoint = _checkpoint(reference, dtype, device, companion)
    vocabulary = sorted(checkpoint.tokenizer.get_vocab().items())
    config = checkpoint.model.config
    return {
        "name": checkpoint.name,
        "reference": reference,
        "sha256": checkpoint.sha256,
        "d_model": int(config.d_model),
        "encoder_layers": int(config.encoder_layers),
        "decoder_layers": int(config.decoder_layers),
        "heads": int(config.decoder_attention_heads),
        "mels": int(config.num_mel_bins),
        "vocabulary": int(config.vocab_size),
        "positions": int(config.max_source_positions),
        "window_s": float(checkpoint.window_s),
        "notes": list(checkpoint.notes),
        "decoder_positions": int(config.max_target_positions),
        "tokenizer_sha256": hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest(),
        "companion": companion,
        "parameters": sum(weight.numel() for weight in checkpoint.model.parameters()),
    }


def gate_audio(paths: list[str]) -> list[dict[str, Any]]:
    """Decodes files as the measurement will, so that bad ones are known beforehand.

    Returns:
        one mapping per file: sha256 and duration_s, or code and detail.
    """
    from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError, load_audio

    results: list[dict[str, Any]] = []
    for path in paths:
        try:
            samples = load_audio(path)
            results.append({"sha256": provenance.file_sha256(path), "duration_s": len(samples) / SAMPLE_RATE_HZ})
        except AudioError as error:
            results.append({"code": error.code, "detail": error.detail})
        except OSError as error:
            results.append({"code": "unreadable", "detail": error.strerror or str(error)})
    return results


def measure(run_directory: str, settings: str, task: Task) -> Part:
    """Measures one task and writes its part.

    Args:
        run_directory: the run, whose inputs.json says where models and clips are.
        settings: digest of the run's settings.
        task: what to measure.

    Returns:
        the part that was written.
    """
    from empirical.task import measure_task

    start = time.perf_counter()
    inputs = _inputs(run_directory)
    entry = inputs["models_by_name"][task.model]
    clip = inputs["clips_by_name"][task.clip]
    with _memory_named(task.id):
        checkpoint = _model(inputs, entry)
        records = measure_task(
            checkpoint,
            _clip(clip),
            task.condition,
            cast("State", task.state),
            k=inputs["k"],
            seed=inputs["seed"],
            pool=_pool(run_directory),
            tokens=inputs["tokens"],
            max_tokens=inputs["max_tokens"],
            with_clip=task.state == inputs["states"][0],
            memory_bytes=_memory(checkpoint.device, inputs["workers"]),
        )
    tables = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
    tables = {name: [{**row, "model": task.model} for row in rows] for name, rows in tables.items()}
    seconds = time.perf_counter() - start
    return write_part(
        Path(run_directory) / "parts",
        task.id,
        tables,
        settings=settings,
        provenance=_stamp(inputs, entry, clip),
        seconds=seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )


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
    inputs = _inputs(run_directory)
    entry = inputs["models_by_name"][task.model]
    # A verdict reads the last depth alone; the figure's band over all of them is for decoders of which it is cheap.
    contexts = "all" if entry["decoder_layers"] <= FIGURE_LAYERS else "last"
    with _memory_named(task.id):
        found = measure_nulls(
            _model(inputs, entry),
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


def label_again(run_directory: str, seed: int) -> None:
    """Gives a merged clips table the labels that `spi rescore` gave the one before it."""
    from bridge.running.rescoring import rescore_records

    rescore_records(Path(run_directory), None, seed)


def write_report(run_directory: str) -> None:
    """Makes report.html, results.json and the figures from the records of a run."""
    from bridge.reporting.report import write_report as write

    write(run_directory)


class TaskMemoryError(RuntimeError):
    """A task for which the machine has not the memory, even one direction at a time; the others go on."""

    code = "out_of_memory"


@contextlib.contextmanager
def _memory_named(what: str) -> Iterator[None]:
    """What the allocators raise in their several ways, as one error with a code."""
    from empirical.jacobians.operators import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TaskMemoryError(f"{what} needs more memory than a worker has: {reason}") from None


def _memory(device: torch.device, workers: int) -> int | None:
    """A worker's share of the memory that is left now, less a tenth that is not for it; None where nothing tells."""
    from empirical.jacobians.operators import available_bytes

    left = available_bytes(device)
    return None if left is None else left * 9 // 10 // workers


def _model(inputs: dict[str, Any], entry: dict[str, Any]) -> Checkpoint:
    """A model of the run.

    Raises:
        ValueError: if its weights are no longer those that the run began with.
    """
    found = _checkpoint(entry["reference"], inputs["dtype"], inputs["device"], entry["companion"])
    if found.sha256 != entry["sha256"]:
        raise ValueError(f"the weights of {entry['name']} changed while the run was at work")
    _forward_error(entry["reference"], inputs["dtype"], inputs["device"], entry["companion"])
    return found


@lru_cache(maxsize=4)
def _forward_error(reference: str, dtype: str, device: str, companion: str | None) -> float:
    """How far the pure function of the model at work is from the model, once a worker: before anything is measured."""
    from empirical.recognition.forward import WhisperFunction, check_determinism

    return check_determinism(WhisperFunction(_checkpoint(reference, dtype, device, companion).model))


_held: dict[tuple[str, str, str, str | None], Checkpoint] = {}


def _checkpoint(reference: str, dtype: str, device: str, companion: str | None) -> Checkpoint:
    """The model at work; the one before is let go first, so that a worker never holds two."""
    from empirical.checkpoints.checkpoint import load_checkpoint

    key = (reference, dtype, device, companion)
    if key not in _held:
        _held.clear()
        _held[key] = load_checkpoint(reference, dtype=dtype, device=device, companion=companion)
    return _held[key]


@lru_cache(maxsize=1)
def _inputs(run_directory: str) -> dict[str, Any]:
    inputs = json.loads((Path(run_directory) / "inputs.json").read_text(encoding="utf-8"))
    inputs["models_by_name"] = {model["name"]: model for model in inputs["models"]}
    inputs["clips_by_name"] = {clip["name"]: clip for clip in inputs["clips"]}
    return inputs


@lru_cache(maxsize=1)
def _null_inputs(run_directory: str, model: str) -> list[Any]:
    from empirical.nulls import CLIPS, CONDITIONS, null_inputs

    inputs = _inputs(run_directory)
    clips = [_clip(clip) for clip in inputs["clips"][:CLIPS]]
    checkpoint = _model(inputs, inputs["models_by_name"][model])
    return null_inputs(
        checkpoint, clips, CONDITIONS, seed=inputs["seed"], tokens=inputs["tokens"], max_tokens=inputs["max_tokens"]
    )


def _clip(entry: dict[str, Any]) -> Clip:
    from empirical.speech.clips import Clip

    return Clip(entry["name"], Path(entry["path"]), entry["reference"], entry["speaker"])


@lru_cache(maxsize=1)
def _pool(run_directory: str) -> tuple[Any, ...]:
    from empirical.speech.audio import load_audio
    from empirical.stress import PoolClip

    def loader(path: str) -> Any:
        return lambda: load_audio(path)

    return tuple(
        PoolClip(name=clip["name"], speaker=clip["speaker"], load=loader(clip["path"]))
        for clip in _inputs(run_directory)["pool"]
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
        "forward_error": _forward_error(model["reference"], inputs["dtype"], inputs["device"], model["companion"]),
        "threads": torch.get_num_threads(),
        "blas": provenance.blas(),
    }
