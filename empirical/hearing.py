"""Clips as a checkpoint hears and transcribes them, one after the other: what the tables of chains are made along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empirical.analyze import Prepared, _checkpoint, _loader, _named, prepare
from empirical.checkpoint import Checkpoint
from empirical.clips import Clip
from empirical.measurement import STATES, State
from empirical.stress import PoolClip, stressor

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


def hear(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    conditions: Sequence[str],
    states: Sequence[State],
    dtype: str,
    *,
    seed: int = 0,
) -> Iterator[tuple[Checkpoint, Prepared]]:
    """The checkpoint with each clip under each condition, in order; arguments as of `analyze`.

    Raises:
        AudioError, StressError: for the first clip that fails.
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    if isinstance(conditions, str) or isinstance(states, str):
        raise ValueError("conditions and states must be sequences of names; got a string")
    for condition in conditions:
        stressor(condition)
    for state in states:
        if state not in STATES:
            raise ValueError(f"states must be of {STATES}; got {state!r}")
    chosen = _named(clips)
    if not chosen:
        raise ValueError("clips must hold at least one clip; got none")
    checkpoint = _checkpoint(model, dtype)
    pool = [PoolClip(name=clip.name, speaker=clip.speaker, load=_loader(clip.path)) for clip in chosen]
    for clip in chosen:
        for condition in conditions:
            yield checkpoint, prepare(checkpoint, clip, condition, seed=seed, pool=pool)


def heard_columns(checkpoint: Checkpoint, prepared: Prepared) -> dict[str, Any]:
    """What names a row: model, clip, condition, and the transcript along which everything is measured."""
    transcript = prepared.transcript
    return {
        "model": checkpoint.name,
        "clip": prepared.clip.name,
        "condition": prepared.condition,
        "transcript": transcript.text,
        "truncated": transcript.truncated,
        "tokens": [int(token) for token in transcript.tokens],
        "n_tokens": len(transcript.tokens),
        "dtype": checkpoint.dtype,
    }
