"""What a run is to be made of, looked at in a worker before anything is measured: models, clips, manifest, sounds."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.running import provenance
from bridge.running.holding import held_checkpoint, memory_named

if TYPE_CHECKING:
    from empirical.speech.clips import Clip


def list_inputs(models: tuple[str, ...], audio: str | None, manifest: str | None) -> dict[str, Any]:
    """What a run is made of, before anything of it is opened.

    Args:
        models: references as the user gave them; empty means every bundled organism.
        audio: directory of audio; None means the bundled clips.
        manifest: file that says which samples; None means every clip under every condition.

    Returns:
        models: references to load, a bundled organism's name replaced by its directory; clips: name, path, reference
        and speaker of every audio file, sorted by name; rejected: path, code and detail of files kept out; manifest:
        None, or its sha256, versions, number of lines, samples (clip and condition, sorted), labels of the conditions
        in canonical order, and what was refused of it (path, utterance, condition, code, detail, stage).

    Raises:
        ClipError: if there is no such directory, or no audio in it.
        ManifestError: if the manifest cannot be used.
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
        "manifest": None if manifest is None else _listed(Path(manifest), clips),
    }


def _listed(path: Path, clips: Sequence[Clip]) -> dict[str, Any]:
    from empirical.speech.manifest_reading import manifest_samples, read_manifest
    from empirical.stress import order_key

    manifest = read_manifest(path)
    samples, refused = manifest_samples(manifest, clips)
    labels = sorted({sample.condition for sample in samples}, key=order_key)
    place = {label: number for number, label in enumerate(labels)}
    pairs = sorted(((sample.clip.name, sample.condition) for sample in samples), key=lambda it: (it[0], place[it[1]]))
    return {
        "sha256": manifest.sha256,
        "versions": dict(manifest.versions),
        "lines": len(manifest.lines),
        "samples": pairs,
        "labels": labels,
        "refused": [
            {
                "path": str(path),
                "utterance": bad.utterance,
                "condition": bad.condition,
                "code": bad.code,
                "detail": bad.detail,
                "stage": "manifest",
            }
            for bad in refused
        ],
    }


def list_noises(directory: str) -> list[dict[str, str]]:
    """Name and sha256 of every sound of a folder that noise is taken from.

    Raises:
        ClipError: if there is no such directory, or no audio in it.
    """
    from empirical.speech.samples import noise_pool

    return [
        {"name": sound.name, "sha256": provenance.file_sha256(Path(directory) / sound.name)}
        for sound in noise_pool(directory)
    ]


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
    with memory_named("loading it"):
        checkpoint = held_checkpoint(reference, dtype, device, companion)
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
