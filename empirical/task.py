"""One task of a run: a model x clip x condition x state, deterministic, with the rows of the tables it writes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empirical.activations import capture
from empirical.blocks import block_rows
from empirical.checkpoints.checkpoint import Checkpoint
from empirical.hearing import Prepared, TokensFrom, heard_columns, prepare
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.measurement import ENCODER_STATES, ChainMeasurement, State, measure_linearised
from empirical.jacobians.positional import POSITIONAL_FIELDS
from empirical.recognition.transcribe import word_errors
from empirical.speech.clips import Clip
from empirical.speech.manifest import samples_sha256
from empirical.stress import PoolClip
from empirical.subspaces import subspace_rows
from observables import covariance_eigenvalues, effective_rank, kirchhoff_index, spectral_alpha

LAYER_COLUMNS = (
    *("model", "clip", "condition", "state", "layer", "layers", "d_model", "tokens", "n_tokens"),
    *("tokens_from", "positions", "position", "transcript"),
    *("truncated", "dtype", "sigma", "gap", "bulk_gap", "bulk_gap_se", "alignment", "misalignment", "gain"),
    *("injection_along", "injection_across", "injection_norm"),
    *("propagator_residual", "propagator_converged", "injection_converged"),
    *("context_s", "residual", "converged", "block", "refusals"),
    *("context_frobenius", "context_frobenius_se", "context_share"),
    *("context_share_se", "context_effective_rank", "chain_error", "arrival", "arrival_converged"),
    *POSITIONAL_FIELDS,
    *("hidden_rms_before", "hidden_rms", "products", "seconds"),
)
"""Columns of the layers table, in order."""

_MODES_PER_CLIP = 10


@dataclass(frozen=True, slots=True)
class TaskRecords:
    """Rows of the tables; `clips` and `activations` belong to no state, so one state's task writes them. The encoder's
    states have no rows of blocks and subspaces: they have one injection, hence no block to compose."""

    clips: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    subspaces: list[dict[str, Any]]
    activations: list[dict[str, Any]]


def measure_task(
    checkpoint: Checkpoint,
    clip: Clip,
    condition: str,
    state: State,
    *,
    k: int = 8,
    seed: int = 0,
    pool: Sequence[PoolClip] = (),
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    with_clip: bool | None = None,
    memory_bytes: int | None = None,
) -> TaskRecords:
    """Measure one model x clip x condition x state.

    Args:
        checkpoint: the model, whose dtype the measurement has.
        clip: the utterance; longer than the model's window it is cut there, and marked truncated.
        condition: one of `STRESSORS`.
        state: of `STATES`.
        k: leading singular values of each context Jacobian.
        seed: of the stress and of the iterations' starts.
        pool: utterances that a mix may take from.
        tokens: "own" measures along the model's own greedy transcript, "reference" along the clip's reference.
        max_tokens: most tokens that the transcript may have beside its prompt; by default as `transcribe`'s.
        with_clip: also write what belongs to the clip and not to a state; by default in the position state.
        memory_bytes: most that the vectors of one context Jacobian may take; by default most of what is left.

    Raises:
        AudioError, StressError: if the clip cannot be used, or the stress not be put on it.
        ReferenceTokensError: if it is to be measured along a reference that it does not have.
        ValueError: if another argument is out of range.
        NonFiniteError: if the model gives anything that is not finite.
        OutOfMemoryError: if there is no memory for one direction at a time.
    """
    prepared = prepare(checkpoint, clip, condition, seed=seed, pool=pool, tokens=tokens, max_tokens=max_tokens)
    chain = chain_of(checkpoint, prepared, state)
    measured = measure_state(chain, prepared, state, k=k, memory_bytes=memory_bytes)
    blocks, subspaces = [], []
    if state not in ENCODER_STATES:
        blocks = block_rows(checkpoint, prepared, chain, state, measured=measured, seed=prepared.seed)
        subspaces = subspace_rows(checkpoint, prepared, chain, state, seed=prepared.seed)
    whole = state == "position" if with_clip is None else with_clip
    return TaskRecords(
        clips=[clip_row(checkpoint, prepared)] if whole else [],
        layers=layer_rows(checkpoint, prepared, measured),
        blocks=blocks,
        subspaces=subspaces,
        activations=activation_rows(checkpoint, prepared) if whole else [],
    )


def chain_of(checkpoint: Checkpoint, prepared: Prepared, state: State) -> Any:
    """The chain that a state is of: the decoder's along the clip's tokens, or the encoder's on its log-mel."""
    if state not in ENCODER_STATES:
        return DecoderChain(checkpoint.model, prepared.states, prepared.tokens)
    from empirical.jacobians.encoder_chain import EncoderChain

    return EncoderChain(checkpoint.model, prepared.features)


def measure_state(
    chain: Any, prepared: Prepared, state: State, *, k: int, memory_bytes: int | None = None
) -> ChainMeasurement:
    """A chain measured in one state: the decoder's last position, or the middle frame of the clip's own audio."""
    return measure_linearised(
        chain,
        state,
        k,
        tokens=prepared.tokens,
        position=prepared.frame if state in ENCODER_STATES else None,
        seed=prepared.seed,
        memory_bytes=memory_bytes,
    )


def layer_rows(checkpoint: Checkpoint, prepared: Prepared, measured: ChainMeasurement) -> list[dict[str, Any]]:
    """Rows of the layers table, one a layer."""
    own = heard_columns(checkpoint, prepared)
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
    captured = capture(checkpoint, prepared.states, prepared.tokens)
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


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
