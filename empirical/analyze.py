"""From audio to measured chains: one call for a table, one call for a task.

`analyze` is the whole of it for a reader with a checkpoint and some clips; `measure_task` is the unit of work of a
run: one model x clip x condition x state, deterministic, with the rows of three tables.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from empirical.activations import capture
from empirical.audio import AudioError, load_audio
from empirical.checkpoint import DTYPES, Checkpoint, from_model, load_checkpoint
from empirical.clips import Clip, find_clips
from empirical.manifest import samples_sha256
from empirical.measurement import STATES, State, measure_decoder
from empirical.stress import PoolClip, StressError, StressResult, apply, stressor
from empirical.transcribe import Transcript, encode, encoder_states, transcribe, word_errors
from observables import covariance_eigenvalues, effective_rank, kirchhoff_index, spectral_alpha

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

LAYER_COLUMNS = (
    *("model", "clip", "condition", "state", "layer", "layers", "d_model", "tokens", "n_tokens", "transcript"),
    *("truncated", "dtype", "sigma", "gap", "bulk_gap", "bulk_gap_se", "alignment", "misalignment", "gain"),
    *("injection_along", "injection_across", "injection_norm"),
    *("propagator_residual", "propagator_converged", "injection_converged"),
    *("context_s", "residual", "converged", "context_frobenius", "context_frobenius_se", "context_share"),
    *("context_share_se", "context_effective_rank", "chain_error", "arrival", "arrival_converged"),
    *("hidden_rms_before", "hidden_rms", "products", "seconds"),
)
"""Columns of the layers table, in order."""

_MODES_PER_CLIP = 10


@dataclass(frozen=True, slots=True)
class TaskRecords:
    """Rows of the three tables that one task writes; `clips` and `activations` are empty in the sequence state."""

    clips: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    activations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One clip under one condition, as the model hears and transcribes it.

    Attributes:
        clip: the clip.
        condition: name of the stress.
        seed: of the stress.
        stressed: samples and what was done to them.
        transcript: the model's own greedy transcript, along which everything is measured.
        features: log-mel, (1, mels, frames).
        states: encoder states E, (1, S, d).
    """

    clip: Clip
    condition: str
    seed: int
    stressed: StressResult
    transcript: Transcript
    features: Tensor
    states: Tensor


def prepare(
    checkpoint: Checkpoint, clip: Clip, condition: str, *, seed: int = 0, pool: Sequence[PoolClip] = ()
) -> Prepared:
    """Load, stress, encode and transcribe one clip.

    Raises:
        AudioError: if the file is not usable audio.
        StressError: if the condition is unknown or cannot be applied.
    """
    kind = stressor(condition)
    samples = load_audio(clip.path)
    stressed = apply(kind, samples, utterance=clip.name, seed=seed, pool=pool, speaker=clip.speaker)
    features, _ = encode(checkpoint, stressed.samples)
    return Prepared(
        clip=clip,
        condition=condition,
        seed=seed,
        stressed=stressed,
        transcript=transcribe(checkpoint, stressed.samples),
        features=features,
        states=encoder_states(checkpoint, features),
    )


def measure_task(
    checkpoint: Checkpoint,
    clip: Clip,
    condition: str,
    state: State,
    *,
    k: int = 8,
    seed: int = 0,
    pool: Sequence[PoolClip] = (),
) -> TaskRecords:
    """Measure one model x clip x condition x state.

    Args:
        checkpoint: the model, whose dtype the measurement has.
        clip: the utterance; longer than the model's window it is cut there, and marked truncated.
        condition: one of `STRESSORS`.
        state: "position" (also writes the clip's and the activations' rows) or "sequence" (layers only).
        k: leading singular values of each context Jacobian.
        seed: of the stress and of the iterations' starts.
        pool: utterances that a mix may take from.

    Raises:
        AudioError, StressError: if the clip cannot be used, or the stress not be put on it.
        ValueError: if state or k is out of range.
        NonFiniteError: if the model gives anything that is not finite.
    """
    prepared = prepare(checkpoint, clip, condition, seed=seed, pool=pool)
    layers = layer_rows(checkpoint, prepared, state, k=k)
    if state == "sequence":
        return TaskRecords(clips=[], layers=layers, activations=[])
    return TaskRecords(
        clips=[clip_row(checkpoint, prepared)], layers=layers, activations=activation_rows(checkpoint, prepared)
    )


def analyze(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    conditions: Sequence[str] = ("clean",),
    states: Sequence[State] = ("position",),
    k: int = 8,
    dtype: str = "float64",
    *,
    seed: int = 0,
    on_error: Literal["raise", "quarantine"] = "raise",
) -> pd.DataFrame:
    """Propagators, injections and context Jacobians of a Whisper decoder on clips, layer by layer.

    Args:
        model: what `load_checkpoint` takes (checkpoint directory, `.pt` file, hub id), a loaded `Checkpoint`, or a
            model that `from_pretrained` made from a directory (its feature extractor and tokenizer are read there).
        clips: audio files, directories of them, or `Clip`s. A mix takes its other voices from the other clips. One
            longer than the model's window is cut there and marked truncated.
        conditions: of `STRESSORS`.
        states: "position": the last position alone, with the exact Jacobian of that position beside it, and
            `chain_error` for how far the position chain is from it; "sequence": all positions, where (T2) is exact.
        k: leading singular values of each context Jacobian, at most d.
        dtype: "float32" or "float64", of the model and of all products.
        seed: of the stresses and of the iterations' starts.
        on_error: "quarantine" leaves out a clip whose audio or stress fails and lists it in `attrs["quarantine"]`.

    Returns:
        One row per clip x condition x state x layer, with `LAYER_COLUMNS`. A singular value that did not converge is
        NaN in `context_s` and False in `converged`. Where `gap` is 1, `alignment` is of one choice of u and v.
        `attrs["checkpoint"]` says which weights were measured, and what loading did: ref, sha256, commit, notes.

    Raises:
        AudioError, StressError: for the first clip that fails, unless on_error="quarantine".
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    if on_error not in ("raise", "quarantine"):
        raise ValueError(f"on_error must be 'raise' or 'quarantine'; got {on_error!r}")
    if isinstance(conditions, str) or isinstance(states, str):
        raise ValueError("conditions and states must be sequences of names; got a string")
    for condition in conditions:
        stressor(condition)
    for state in states:
        if state not in STATES:
            raise ValueError(f"states must be of {STATES}; got {state!r}")
    checkpoint = _checkpoint(model, dtype)
    width = checkpoint.model.config.d_model
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= width:
        raise ValueError(f"k must lie in [1, {width}], the state's dimension at one position; got {k!r}")
    chosen = _named(clips)
    pool = [PoolClip(name=clip.name, speaker=clip.speaker, load=_loader(clip.path)) for clip in chosen]
    rows: list[dict[str, Any]] = []
    quarantine: list[dict[str, str]] = []
    for clip in chosen:
        for condition in conditions:
            try:
                prepared = prepare(checkpoint, clip, condition, seed=seed, pool=pool)
            except (AudioError, StressError) as error:
                if on_error == "raise":
                    raise
                quarantine.append({"clip": clip.name, "condition": condition, "code": error.code, "detail": str(error)})
                continue
            for state in states:
                rows += layer_rows(checkpoint, prepared, state, k=k)
    table = pd.DataFrame(rows, columns=list(LAYER_COLUMNS))
    table.attrs["quarantine"] = quarantine
    table.attrs["checkpoint"] = {
        "ref": checkpoint.ref,
        "sha256": checkpoint.sha256,
        "commit": checkpoint.commit,
        "notes": list(checkpoint.notes),
    }
    return table


def layer_rows(checkpoint: Checkpoint, prepared: Prepared, state: State, *, k: int) -> list[dict[str, Any]]:
    """Rows of the layers table, one a layer."""
    transcript = prepared.transcript
    measured = measure_decoder(checkpoint.model, prepared.states, transcript.tokens, state, k, seed=prepared.seed)
    own = {
        "model": checkpoint.name,
        "clip": prepared.clip.name,
        "condition": prepared.condition,
        "transcript": transcript.text,
        "truncated": transcript.truncated,
    }
    return [{name: (own | row)[name] for name in LAYER_COLUMNS} for row in measured.rows()]


def clip_row(checkpoint: Checkpoint, prepared: Prepared) -> dict[str, Any]:
    """The clips table's row: transcript, word errors, what Whisper says of its confidence, and what was heard."""
    clip, stressed, transcript = prepared.clip, prepared.stressed, prepared.transcript
    errors = word_errors(clip.reference, transcript.text)
    return {
        "model": checkpoint.name,
        "clip": clip.name,
        "condition": prepared.condition,
        "speaker": clip.speaker,
        "reference": clip.reference,
        "transcript": transcript.text,
        "tokens": list(transcript.tokens),
        "n_tokens": len(transcript.tokens),
        "wer": errors.wer,
        "substitutions": errors.substitutions,
        "deletions": errors.deletions,
        "insertions": errors.insertions,
        "reference_words": errors.reference_words,
        "avg_logprob": transcript.avg_logprob,
        "no_speech_prob": transcript.no_speech_prob,
        "compression_ratio": transcript.compression_ratio,
        "truncated": transcript.truncated,
        "duration_s": transcript.duration_s,
        "achieved": json.dumps(stressed.achieved, sort_keys=True),
        "stress_parameters": json.dumps(stressed.parameters, sort_keys=True),
        "source_sha256": _file_sha256(clip.path),
        "result_sha256": samples_sha256(stressed.samples),
        "seed": prepared.seed,
    }


def activation_rows(checkpoint: Checkpoint, prepared: Prepared) -> list[dict[str, Any]]:
    """Rows of the activations table: each component of each layer, with this clip's own proxies over ten modes."""
    captured = capture(checkpoint, prepared.states, prepared.transcript.tokens)
    rows = []
    for (component, layer), x in captured.items():
        eigenvalues = covariance_eigenvalues(x) if len(x) > 1 else np.zeros(0)
        index = kirchhoff_index(eigenvalues, _MODES_PER_CLIP)
        rows.append(
            {
                "model": checkpoint.name,
                "clip": prepared.clip.name,
                "condition": prepared.condition,
                "component": component,
                "layer": layer,
                "n_tokens": x.shape[0],
                "d_model": x.shape[1],
                "x": np.ascontiguousarray(x, dtype=np.float32).ravel(),
                "effective_rank_10": effective_rank(eigenvalues, _MODES_PER_CLIP),
                "kirchhoff_10": math.log10(index) if index > 0.0 else math.nan,
                "alpha_10": spectral_alpha(eigenvalues, first=1, last=_MODES_PER_CLIP).slope,
            }
        )
    return rows


def _checkpoint(model: Any, dtype: str) -> Checkpoint:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if isinstance(model, (str, Path)):
        return load_checkpoint(model, dtype=dtype)
    if isinstance(model, Checkpoint):
        if model.dtype == dtype:
            return model
        return dataclasses.replace(model.with_model(_cast(model.model, dtype)), dtype=dtype)
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    if not isinstance(model, WhisperForConditionalGeneration):
        kind = type(model).__name__
        raise ValueError(f"model must be a directory, a hub id, a Checkpoint or a Whisper model; got {kind}")
    directory = Path(model.name_or_path or "")
    if not model.name_or_path or not directory.is_dir():
        raise ValueError(
            "a bare model must know the directory it was loaded from, where its feature extractor and tokenizer are; "
            f"got {model.name_or_path!r}: pass the directory or a Checkpoint"
        )
    return from_model(
        _cast(model, dtype),
        WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True),
        WhisperTokenizer.from_pretrained(directory, local_files_only=True),
        name=directory.name,
        ref=str(directory),
        notes=[f"upcast:{stored}"] if (stored := str(model.dtype).removeprefix("torch.")) not in DTYPES else [],
    )


def _cast(model: Any, dtype: str) -> WhisperForConditionalGeneration:
    """A copy: what the caller passed in stays as it was."""
    return copy.deepcopy(model).to(dtype=DTYPES[dtype])


def _named(clips: Iterable[str | Path | Clip]) -> list[Clip]:
    """Clips of paths, with references where a transcript file lies beside them; a name that occurs twice becomes
    the path, for rows are told apart by it."""
    if isinstance(clips, (str, Path, Clip)):
        raise ValueError(f"clips must be a sequence of paths or Clips; got one {type(clips).__name__}")
    found: list[Clip] = []
    for clip in clips:
        if isinstance(clip, Clip):
            found.append(clip)
        elif Path(clip).exists():
            found += find_clips(clip)
        else:  # its loading says what is wrong, as for any other file that is not audio
            found.append(Clip(name=Path(clip).stem, path=Path(clip), reference=None, speaker=None))
    count = Counter(clip.name for clip in found)
    return [clip if count[clip.name] == 1 else dataclasses.replace(clip, name=str(clip.path)) for clip in found]


def _loader(path: Path) -> Any:
    return lambda: load_audio(path)


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
