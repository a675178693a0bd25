"""What a worker keeps between its jobs: the run's inputs, the model at work, and what was heard of its samples."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.running.files import read_table

if TYPE_CHECKING:
    import torch

    from empirical.checkpoints.checkpoint import Checkpoint
    from empirical.hearing import Told
    from empirical.speech.clips import Clip
    from empirical.speech.samples import Sample

MANIFEST_FILE = "manifest.jsonl"
"""A run's own copy of the manifest, so that what it measures does not change under it."""


class TaskMemoryError(RuntimeError):
    """A task for which the machine has not the memory, even one direction at a time; the others go on."""

    code = "out_of_memory"


@contextlib.contextmanager
def memory_named(what: str) -> Iterator[None]:
    """What the allocators raise in their several ways, as one error with a code."""
    from empirical.jacobians.operators import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TaskMemoryError(f"{what} needs more memory than a worker has: {reason}") from None


def memory_share(device: torch.device, workers: int) -> int | None:
    """A worker's share of the memory that is left now, less a tenth that is not for it; None where nothing tells."""
    from empirical.jacobians.operators import available_bytes

    left = available_bytes(device)
    return None if left is None else left * 9 // 10 // workers


@lru_cache(maxsize=1)
def run_inputs(run_directory: str) -> dict[str, Any]:
    inputs = json.loads((Path(run_directory) / "inputs.json").read_text(encoding="utf-8"))
    inputs["models_by_name"] = {model["name"]: model for model in inputs["models"]}
    inputs["clips_by_name"] = {clip["name"]: clip for clip in inputs["clips"]}
    return inputs


def model_of(inputs: dict[str, Any], entry: dict[str, Any]) -> Checkpoint:
    """A model of the run.

    Raises:
        ValueError: if its weights are no longer those that the run began with.
    """
    found = held_checkpoint(entry["reference"], inputs["dtype"], inputs["device"], entry["companion"])
    if found.sha256 != entry["sha256"]:
        raise ValueError(f"the weights of {entry['name']} changed while the run was at work")
    forward_error(entry["reference"], inputs["dtype"], inputs["device"], entry["companion"])
    return found


@lru_cache(maxsize=4)
def forward_error(reference: str, dtype: str, device: str, companion: str | None) -> float:
    """How far the pure function of the model at work is from the model, once a worker: before anything is measured."""
    from empirical.recognition.forward import WhisperFunction, check_determinism

    return check_determinism(WhisperFunction(held_checkpoint(reference, dtype, device, companion).model))


_held: dict[tuple[str, str, str, str | None], Checkpoint] = {}


def held_checkpoint(reference: str, dtype: str, device: str, companion: str | None) -> Checkpoint:
    """The model at work; the one before is let go first, so that a worker never holds two."""
    from empirical.checkpoints.checkpoint import load_checkpoint

    key = (reference, dtype, device, companion)
    if key not in _held:
        _held.clear()
        _held[key] = load_checkpoint(reference, dtype=dtype, device=device, companion=companion)
    return _held[key]


def clip_of(entry: dict[str, Any]) -> Clip:
    from empirical.speech.clips import Clip

    return Clip(entry["name"], Path(entry["path"]), entry["reference"], entry["speaker"])


@lru_cache(maxsize=1)
def sound_pool_of(run_directory: str) -> list[Any]:
    from empirical.speech.samples import sound_pool

    return sound_pool([clip_of(clip) for clip in run_inputs(run_directory)["pool"]])


@lru_cache(maxsize=1)
def noises_of(run_directory: str) -> list[Any]:
    from empirical.speech.samples import noise_pool

    directory = run_inputs(run_directory)["noise_dir"]
    return [] if directory is None else noise_pool(directory)


def sample_of(run_directory: str, clip: str, condition: str) -> Sample:
    """A sample of the run: as the manifest records it where there is one, else by the run's seed."""
    from empirical.speech.samples import Sample

    inputs = run_inputs(run_directory)
    if inputs["manifest"] is not None:
        return _recorded(run_directory)[clip, condition]
    return Sample(clip_of(inputs["clips_by_name"][clip]), condition, inputs["seed"])


@lru_cache(maxsize=1)
def _recorded(run_directory: str) -> dict[tuple[str, str], Sample]:
    """Every sample of the run's manifest, by clip and condition.

    Raises:
        ValueError: if its copy is not what the run began with.
    """
    from empirical.speech.manifest_reading import manifest_samples, read_manifest

    inputs = run_inputs(run_directory)
    manifest = read_manifest(Path(run_directory) / MANIFEST_FILE)
    if manifest.sha256 != inputs["manifest"]["sha256"]:
        raise ValueError(f"{MANIFEST_FILE} changed while the run was at work")
    samples, _ = manifest_samples(manifest, [clip_of(clip) for clip in inputs["clips"]])
    return {(sample.clip.name, sample.condition): sample for sample in samples}


@lru_cache(maxsize=4)
def told(run_directory: str, settings: str, shard: str) -> dict[tuple[str, str], Told]:
    """What was heard in a shard, by clip and condition."""
    from empirical.hearing import Told

    rows = read_table(Path(run_directory) / "parts" / shard / "clips.parquet", settings).to_pylist()
    return {(row["clip"], row["condition"]): Told.from_row(row) for row in rows}
