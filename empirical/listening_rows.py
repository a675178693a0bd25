"""Rows of the tables that listening writes: clips, activations, vectors, refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from empirical.activations import Captured
from empirical.checkpoints.checkpoint import Checkpoint
from empirical.recognition.loops import compression_ratio
from empirical.recognition.transcribe import Transcript
from empirical.recognition.words import word_errors
from empirical.speech.audio import SAMPLE_RATE_HZ
from empirical.speech.manifest_records import file_sha256, samples_sha256
from empirical.speech.samples import Sample
from empirical.stress import StressResult
from observables import covariance_eigenvalues, effective_rank, kirchhoff_index, spectral_alpha

MODES_PER_CLIP = 10

STAGES = {
    "AudioError": "load",
    "StressError": "stress",
    "ManifestError": "manifest",
    "ListeningError": "window",
    "ReferenceTokensError": "tokens",
    "NonFiniteError": "listen",
}
"""Where a sample is refused, by the type of the error."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One window of a sample, heard.

    Attributes:
        transcript: the model's own.
        along: decoder input ids along which the activations were captured.
        captured: the activations.
    """

    transcript: Transcript
    along: tuple[int, ...]
    captured: Captured


def made_columns(sample: Sample, stressed: StressResult, reference: str | None) -> dict[str, Any]:
    """Columns of the clips table that the samples tell, whatever the model."""
    return {
        "clip": sample.clip.name,
        "condition": sample.condition,
        "speaker": sample.clip.speaker,
        "reference": reference,
        "duration_s": len(stressed.samples) / SAMPLE_RATE_HZ,
        "achieved": json.dumps(stressed.achieved, sort_keys=True),
        "stress_notes": list(stressed.notes),
        "stress_parameters": json.dumps(stressed.parameters, sort_keys=True),
        "source_sha256": file_sha256(sample.clip.path),
        "result_sha256": samples_sha256(stressed.samples),
        "seed": sample.seed,
    }


def clip_row(checkpoint: Checkpoint, columns: dict[str, Any], windows: Sequence[Window]) -> dict[str, Any]:
    """The clips table's row: transcript, word errors, what Whisper says of its confidence, and what was heard.

    Of several windows `transcript` is the texts joined by spaces, `tokens` those of one window after the other with
    their prompts, `avg_logprob` the mean over all generated tokens, `no_speech_prob` the windows' mean, and
    `compression_ratio` that of the joined text: looping across windows counts.
    """
    said = [window.transcript for window in windows]
    text = " ".join(each.text for each in said if each.text)
    log_probs = [value for each in said for value in each.log_probs]
    errors = word_errors(columns["reference"], text)
    return {
        "model": checkpoint.name,
        **columns,
        "transcript": text,
        "tokens": [token for each in said for token in each.tokens],
        "n_tokens": sum(len(each.tokens) for each in said),
        "windows": len(said),
        "window_tokens": [len(each.tokens) for each in said],
        "prompt_tokens": said[0].prompt_tokens,
        "wer": errors.wer,
        "substitutions": errors.substitutions,
        "deletions": errors.deletions,
        "insertions": errors.insertions,
        "reference_words": errors.reference_words,
        "avg_logprob": math.fsum(log_probs) / len(log_probs),
        "no_speech_prob": math.fsum(each.no_speech_prob for each in said) / len(said),
        "compression_ratio": compression_ratio(text),
        "truncated": any(each.truncated for each in said),
    }


def vector_rows(checkpoint: Checkpoint, sample: Sample, windows: Sequence[Window]) -> list[dict[str, Any]]:
    """Rows of the vectors table: activations of each component of each layer, the windows' rows stacked."""
    rows = []
    for component, layer in windows[0].captured:
        x = np.concatenate([window.captured[component, layer] for window in windows])
        rows.append(
            {
                "model": checkpoint.name,
                "clip": sample.clip.name,
                "condition": sample.condition,
                "component": component,
                "layer": layer,
                "n_tokens": x.shape[0],
                "d_model": x.shape[1],
                "x": np.ascontiguousarray(x, dtype=np.float32).ravel(),
            }
        )
    return rows


def activation_rows(vectors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the activations table: those of the vectors without x, with each one's own proxies over ten modes."""
    rows = []
    for row in vectors:
        x = row["x"].reshape(row["n_tokens"], row["d_model"])
        eigenvalues = covariance_eigenvalues(x) if len(x) > 1 else np.zeros(0)
        index = kirchhoff_index(eigenvalues, MODES_PER_CLIP)
        rows.append(
            {
                **{name: value for name, value in row.items() if name != "x"},
                "effective_rank_10": effective_rank(eigenvalues, MODES_PER_CLIP),
                "kirchhoff_10": math.log10(index) if index > 0.0 else math.nan,
                "alpha_10": spectral_alpha(eigenvalues, first=1, last=MODES_PER_CLIP).slope,
            }
        )
    return rows


def refused_row(sample: Sample, error: Exception) -> dict[str, Any]:
    """Row of the refused table: which sample, and why; the words without the code, which has its own column."""
    said = getattr(error, "detail", None) or getattr(error, "message", None) or str(error)
    return {
        "clip": sample.clip.name,
        "condition": sample.condition,
        "type": type(error).__name__,
        "code": str(getattr(error, "code", "")),
        "detail": said,
        "stage": STAGES[type(error).__name__],
    }
