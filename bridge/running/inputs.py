"""What goes into a run: models that load, clips that pass the audio gate, the conditions each is to be heard under, and
the settings they make together."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bridge.errors import ConfigError, ModelError, NoUsableAudioError
from bridge.running.config import RESULT_KEYS, RunConfig, check_folder
from bridge.running.pool import Failure, Job, Reply, WorkerPool
from bridge.running.provenance import versions
from bridge.running.store import SETTINGS_SCHEMA

POOL_FILES = 256
"""Files that are at least gated where speech is mixed, so that a small `--limit` still has voices to mix with."""

JOBS = "bridge.running.jobs"
"""Module whose functions the workers call."""

PROMPT_ROOM = 4
"""Positions that a transcript leaves to its prompt (empirical.recognition.transcribe)."""

_GATE_BATCH = 8
_FROM_POOL = ("mix", "babble")
_IDENTITY = ("name", "sha256", "d_model", "encoder_layers", "decoder_layers", "vocabulary", "tokenizer_sha256")


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A checkpoint that was loaded once to see that it can be.

    Attributes:
        name: unique in the run.
        reference: directory, .pt file or hub id it is loaded from.
        sha256: of its weights.
        d_model, encoder_layers, decoder_layers, heads, mels, vocabulary: its dimensions.
        positions: encoder positions of the full window.
        window_s: longest audio it takes, seconds.
        notes: codes of what was done on loading (empirical.checkpoints), "upcast:float16" or "commit:HASH" say.
        decoder_positions: most tokens that its decoder takes, prompt included.
        tokenizer_sha256: of its vocabulary.
        companion: directory given for a .pt file's tokenizer.
        parameters: how many numbers its weights are.
    """

    name: str
    reference: str
    sha256: str
    d_model: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mels: int
    vocabulary: int
    positions: int
    window_s: float
    notes: tuple[str, ...] = ()
    decoder_positions: int = 448
    tokenizer_sha256: str = ""
    companion: str | None = None
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class ClipInput:
    """An audio file; its hash and duration are known once it has passed the gate.

    Attributes:
        name: unique in the run.
        path: the file.
        reference: what is said in it, if known.
        speaker: who says it, if known.
        sha256: of the file.
        duration_s: of its samples.
    """

    name: str
    path: str
    reference: str | None
    speaker: str | None
    sha256: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a run measures.

    Attributes:
        models: in the order given.
        clips: the usable ones that are measured, sorted by name.
        pool: those that may be mixed into another: the usable ones, or all there are where a manifest names them.
        quarantine: files that did not pass the gate, and samples of a manifest without audio: path, code,
            detail, stage, and of samples the condition.
        labels: of the stresses, in canonical order.
        conditions: those of each of `clips`, by its name.
        manifest: sha256, versions and number of lines of the manifest; None where there is none.
        noises: name and sha256 of each sound of the folder that noise is taken from.
        device: type of the device that they are measured on.
        device_name: the device in words.
        free_bytes: memory that was left there, where the system tells.
    """

    models: tuple[ModelInput, ...]
    clips: tuple[ClipInput, ...]
    pool: tuple[ClipInput, ...]
    quarantine: tuple[dict[str, Any], ...]
    labels: tuple[str, ...] = ()
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    noises: tuple[Mapping[str, str], ...] = ()
    device: str = "cpu"
    device_name: str = "cpu"
    free_bytes: int | None = None


def worker_job(key: str, function: str, arguments: Mapping[str, Any]) -> Job:
    """A job that calls a function of `JOBS` in a worker."""
    return Job(key, f"{JOBS}:{function}", arguments)


def prepare(pool: WorkerPool, config: RunConfig, *, quiet: bool = True) -> Inputs:
    """Finds, loads and gates what the run is to measure; every file is decoded once, which thousands take minutes for.

    Raises:
        ModelError: if a checkpoint cannot be loaded.
        ConfigError: if there is no such device or folder of sounds, a manifest cannot be used, or a model is too narrow
            for the singular values asked for, or too short for the tokens.
        NoUsableAudioError: if no file passes the gate.
    """
    arguments = {"models": config.model, "audio": config.audio, "manifest": config.manifest}
    # A second worker gets its libraries ready meanwhile: importing them takes seconds.
    loading = {"dtype": config.dtype, "device": config.device}
    first = [
        worker_job("list", "list_inputs", arguments),
        worker_job("import", "import_libraries", {"device": config.device}),
    ]
    if config.noise_dir is not None:
        first.append(worker_job("noises", "list_noises", {"directory": config.noise_dir}))
    replies = {reply.key: _value(reply) for reply in pool.run(first)}
    listed, place = replies["list"], replies["import"]
    if place["type"] != "cpu" and config.workers is None:
        pool.workers = 1  # a second worker would only share the GPU's time, and take its memory
    clips = [ClipInput(**clip) for clip in listed["clips"]]
    if not listed["models"]:
        raise ModelError("no organism is bundled with this installation; pass --model with a checkpoint directory")
    companions = _companions(listed["models"], config.companion)
    jobs = [
        worker_job(reference, "inspect_model", {"reference": reference, "companion": companions[reference], **loading})
        for reference in listed["models"]
    ]
    found = {reply.key: ModelInput(**_value(reply)) for reply in pool.run(jobs)}
    models = _unique_models([found[reference] for reference in listed["models"]])
    narrow = min(models, key=lambda model: model.d_model)
    if config.k > narrow.d_model:
        raise ConfigError(f"k must be at most {narrow.d_model}, the width of {narrow.name}; got {config.k}")
    shortest = min(models, key=lambda model: model.decoder_positions)
    most = shortest.decoder_positions - PROMPT_ROOM
    if config.max_tokens is not None and config.max_tokens > most:
        raise ConfigError(f"max-tokens must be at most {most}, the room in {shortest.name}; got {config.max_tokens}")
    recorded = listed["manifest"]
    if recorded is not None:
        check_folder(recorded["labels"], config.noise_dir)
    asked = None if recorded is None else _by_clip(recorded["samples"])
    wanted = clips if asked is None else [clip for clip in clips if clip.name in asked]
    usable, refused = _gate(pool, wanted, config, quiet=quiet)
    quarantine = [{**bad, "stage": "scan"} for bad in listed["rejected"]] + refused
    if recorded is not None:
        last = usable[config.limit - 1].name if config.limit is not None and len(usable) >= config.limit else None
        quarantine += [bad for bad in recorded["refused"] if last is None or bad["utterance"] <= last]
    if not usable:
        where = "the bundled clips" if config.audio is None else config.audio
        codes = ", ".join(f"{code} {count}" for code, count in Counter(bad["code"] for bad in quarantine).items())
        raise NoUsableAudioError(f"no usable audio in {where}: {len(quarantine)} files were refused ({codes})")
    chosen = tuple(usable[: config.limit])
    conditions = {clip.name: config.conditions if asked is None else asked[clip.name] for clip in chosen}
    heard = {label for labels in conditions.values() for label in labels}
    return Inputs(
        models=models,
        clips=chosen,
        pool=tuple(usable if asked is None else clips),
        quarantine=tuple(quarantine),
        labels=tuple(
            label for label in (config.conditions if recorded is None else recorded["labels"]) if label in heard
        ),
        conditions=conditions,
        manifest=None if recorded is None else {name: recorded[name] for name in ("sha256", "versions", "lines")},
        noises=tuple(replies.get("noises", ())),
        device=place["type"],
        device_name=place["name"],
        free_bytes=place["free"],
    )


def _by_clip(samples: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Conditions by clip, in the order of the samples."""
    found: dict[str, list[str]] = {}
    for clip, condition in samples:
        found.setdefault(clip, []).append(condition)
    return {clip: tuple(conditions) for clip, conditions in found.items()}


def _companions(references: Sequence[str], companion: str | None) -> dict[str, str | None]:
    """The companion directory of each model: the one given for those that are files, none for the others."""
    found = {one: companion if Path(one).is_file() else None for one in references}
    if companion is not None and not any(found.values()):
        raise ConfigError(
            f"companion belongs to a .pt file among the models; got {companion!r}, and none of them is one"
        )
    return found


def make_settings(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """What decides the numbers of a run, as JSON values: version, options, and hashes of models and clips.

    Where things lie is left out, so that a moved data set or another spelling of a path is the same run.
    """
    options = {name: getattr(config, name) for name in RESULT_KEYS}
    forced = config.tokens == "reference"
    mixed = [(clip.name, clip.speaker, clip.sha256) for clip in inputs.pool] if _mixes(config) else []
    settings = {
        "schema_version": SETTINGS_SCHEMA,
        "spi": versions()["spi"],
        "models": [{key: getattr(model, key) for key in _IDENTITY} for model in inputs.models],
        "device": inputs.device,
        **options,
        "conditions": inputs.labels,
        "manifest": inputs.manifest,
        "clips": [
            {"name": clip.name, "sha256": clip.sha256, "speaker": clip.speaker}
            | ({"reference": clip.reference} if forced else {})
            for clip in inputs.clips
        ],
        "pool": _digest(mixed),
        "noises": _digest(inputs.noises) if inputs.noises else None,
    }
    return json.loads(json.dumps(settings))


def _mixes(config: RunConfig) -> bool:
    """Whether a condition takes other clips at random; a manifest names those it takes."""
    return config.manifest is None and any(word in label for label in config.conditions for word in _FROM_POOL)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def default_directory(config: RunConfig, digest: str) -> Path:
    """Where a run goes that was given no place: its name follows from its settings, so the same command resumes it."""
    plain = replace(config, out=None, workers=None) == RunConfig()
    return Path("runs") / ("default" if plain else f"run-{digest[:10]}")


def _gate(
    pool: WorkerPool, clips: Sequence[ClipInput], config: RunConfig, *, quiet: bool
) -> tuple[list[ClipInput], list[dict[str, Any]]]:
    """Gates files by name until enough are usable; a file after the last one needed is left alone."""
    wanted = len(clips) if config.limit is None else config.limit
    least = POOL_FILES if _mixes(config) else 0
    usable: list[ClipInput] = []
    quarantine: list[dict[str, Any]] = []
    position = 0
    total = min(max(wanted, least), len(clips))
    with tqdm(total=total, desc="checking", unit="file", file=sys.stderr, disable=True if quiet else None) as bar:
        while position < len(clips) and (len(usable) < wanted or position < least):
            step = max(wanted - len(usable), least - position, 1)
            stretch = clips[position : position + step]
            for clip, outcome in zip(stretch, _gated(pool, stretch, bar.update), strict=True):
                if "code" in outcome:
                    quarantine.append({"path": clip.path, **outcome, "stage": "load"})
                else:
                    usable.append(replace(clip, **outcome))
            position += len(stretch)
    return usable, quarantine


def _gated(pool: WorkerPool, clips: Sequence[ClipInput], advance: Callable[[int], object]) -> Iterator[dict[str, Any]]:
    batches = [clips[start : start + _GATE_BATCH] for start in range(0, len(clips), _GATE_BATCH)]
    jobs = [
        worker_job(str(number), "gate_audio", {"paths": [clip.path for clip in batch]})
        for number, batch in enumerate(batches)
    ]
    replies = {}
    for reply in pool.run(jobs):
        replies[reply.key] = reply
        advance(len(batches[int(reply.key)]))
    for number, batch in enumerate(batches):
        reply = replies[str(number)]
        if reply.failure is None:
            yield from reply.value
        elif len(batch) == 1:  # it took the worker with it, or was not foreseen
            yield {"code": reply.failure.code or "unexpected", "detail": _described(reply.failure)}
        else:
            for clip in batch:
                yield from _gated(pool, [clip], lambda _: None)


def _value(reply: Reply) -> Any:
    if reply.failure is None:
        return reply.value
    if reply.failure.type == "CheckpointError":
        raise ModelError(reply.failure.message, verbatim="\n" in reply.failure.message)
    if reply.failure.code in ("out_of_memory", "worker_died"):  # while a model was loaded, or its libraries
        raise ModelError(f"{reply.key}: {reply.failure.message}")
    if reply.failure.type in ("DeviceError", "ManifestError"):
        raise ConfigError(reply.failure.message)
    if reply.failure.type == "ClipError" and reply.key == "noises":
        raise ConfigError(f"noise-dir: {reply.failure.message}")
    if reply.failure.type == "ClipError":
        raise NoUsableAudioError(reply.failure.message)
    raise RuntimeError(f"{_described(reply.failure)}\n{reply.failure.trace}")


def _described(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"


def _unique_models(models: list[ModelInput]) -> tuple[ModelInput, ...]:
    """Models of one name are told apart by their weights."""
    counts = Counter(model.name for model in models)
    named = [
        model if counts[model.name] == 1 else replace(model, name=f"{model.name}@{model.sha256[:8]}")
        for model in models
    ]
    names = [model.name for model in named]
    repeated = next((model for model in named if names.count(model.name) > 1), None)
    if repeated is not None:
        raise ModelError(f"the same model is given twice: {repeated.reference}")
    return tuple(named)
