"""Samples heard in batches: transcripts, word errors, activations. What a run finds before any Jacobian.

A batch shares one pass of the encoder, one call of `generate` and one teacher-forced pass along what came of it. Rows
do not see each other, so a sample's numbers depend on the batch only by the rounding of matrix products of another
shape, far below `forward.rounding_bound` of states and logits (relative; 4e-4 in float32 for four layers of width 384),
and another token is chosen only where two were as likely to within that. The same samples in the same order with the
same `batch` give the same bits, unless memory was short for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.activations import Captured, capture_batch
from empirical.checkpoints.checkpoint import Checkpoint
from empirical.hearing import TokensFrom, check_tokens_from, pieces_of, reference_of
from empirical.jacobians.decompositions import NonFiniteError
from empirical.jacobians.operators import available_bytes, is_out_of_memory
from empirical.listening_rows import Window, activation_rows, clip_row, made_columns, refused_row, vector_rows
from empirical.loading import prefetch
from empirical.recognition.reference import ReferenceTokensError, reference_tokens
from empirical.recognition.transcribe import Transcript, encoder_states, log_mel, transcribe_batch
from empirical.recognition.transcribe_windows import ListeningError, Long, check_long
from empirical.speech.audio import AudioError
from empirical.speech.manifest_records import ManifestError
from empirical.speech.samples import Sample, make_sample
from empirical.stress import PoolClip, StressError

_ENCODER_WIDTHS = 16
"""Numbers that a frame takes in an encoder layer, in widths d: the feed-forward part's eight, and attention's."""

_SHARE = 0.5
"""Of the memory that is left, what a batch may take by that estimate."""


@dataclass(frozen=True, slots=True)
class ListenRecords:
    """Rows of the tables of samples that were listened to.

    Attributes:
        clips: one row a sample that was heard.
        activations: one row a sample, component and layer: sizes, and proxies of this sample alone over ten modes.
        vectors: one row a sample, component and layer, sorted by (component, layer): the activations themselves,
            row-major float32.
        refused: one row a sample that was not heard: clip, condition, type of the error, code, detail, and stage
            ("load", "stress", "manifest", "window", "tokens" or "listen").
    """

    clips: list[dict[str, Any]]
    activations: list[dict[str, Any]]
    vectors: list[dict[str, Any]]
    refused: list[dict[str, Any]]


def listen(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    *,
    pool: Sequence[PoolClip] = (),
    noises: Sequence[PoolClip] = (),
    batch: int = 8,
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    long: Long = "cut",
    memory_bytes: int | None = None,
) -> ListenRecords:
    """Hear, transcribe and record samples; one that cannot be used is refused and the others go on.

    While the model is at work on a batch, a thread loads, stresses and analyses the next one's audio.

    Args:
        checkpoint: the model.
        samples: clips under conditions; rows come in this order.
        pool: utterances that a mix may take from.
        noises: recordings that a noise from a folder is taken from.
        batch: windows that the model hears at a time. It is less where the memory left is too little for them by an
            estimate of the encoder's attention, and is halved, down to 1, where memory runs out all the same.
        tokens: activations are captured along the model's "own" greedy transcript or, teacher-forced, the "reference".
        max_tokens: most tokens that the transcript of a window may have beside its prompt; see `transcribe_batch`.
        long: of a clip longer than the window: "cut", its beginning alone, marked truncated; "chunk", consecutive
            windows (`windows_of`), whose texts are joined and whose activations are stacked; "refuse".
        memory_bytes: what may be taken; by default what the device has left.

    Raises:
        ValueError: if `batch`, `tokens`, `max_tokens` or `long` is out of range.
        RuntimeError, MemoryError: if there is no memory for one window: nothing is said of any sample then.
    """
    check_tokens_from(tokens)
    check_long(long)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch must be a whole number of at least 1; got {batch!r}")
    transcribe_batch(checkpoint, [], max_new_tokens=max_tokens)  # refuses a limit out of range before any audio
    size = _affordable(checkpoint, batch, memory_bytes)
    records = ListenRecords([], [], [], [])
    made = _made(checkpoint, samples, pool, noises, tokens, long)
    with prefetch(made, size) as ready:
        for sample in _heard(checkpoint, ready, size, tokens, max_tokens):
            _record(checkpoint, sample, records)
    records.vectors.sort(key=lambda row: (row["component"], row["layer"]))
    return records


@dataclass(slots=True, eq=False)
class _Listened:
    """A sample on its way: what is known of it, and its windows as they are heard.

    Attributes:
        sample: clip, condition, seed.
        columns: of the clips table, as far as the samples alone tell.
        reference: what is said in it; None where that is unknown.
        left: windows of it that the model has not come to.
        heard: those that were heard.
        error: why it is refused.
    """

    sample: Sample
    columns: dict[str, Any]
    reference: str | None
    left: int
    heard: list[Window]
    error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """One window of a sample, ready for the encoder: its samples and its log-mel, (1, mels, frames) float32."""

    owner: _Listened
    samples: np.ndarray
    features: Tensor


def _made(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    pool: Sequence[PoolClip],
    noises: Sequence[PoolClip],
    tokens: TokensFrom,
    long: Long,
) -> Iterator[_Piece | _Listened]:
    """The windows of each sample, one by one, or the sample where there are none because it is refused."""
    for sample in samples:
        try:
            stressed = make_sample(sample, pool=pool, noises=noises)
            pieces = pieces_of(checkpoint, stressed.samples, long, tokens)
        except (AudioError, StressError, ManifestError, ListeningError) as error:
            yield _Listened(sample, {}, None, 0, [], error)
            continue
        reference = reference_of(sample, stressed)
        owner = _Listened(sample, made_columns(sample, stressed, reference), reference, len(pieces), [])
        for piece in pieces:
            yield _Piece(owner, piece, log_mel(checkpoint, piece))


def _heard(
    checkpoint: Checkpoint,
    ready: Iterator[_Piece | _Listened],
    size: int,
    tokens: TokensFrom,
    max_tokens: int | None,
) -> Iterator[_Listened]:
    """Samples in order, complete or refused, whose windows were heard `size` at a time."""
    waiting: list[_Listened] = []
    pieces: list[_Piece] = []
    while True:
        while len(pieces) < size and (item := next(ready, None)) is not None:
            owner = item.owner if isinstance(item, _Piece) else item
            if not waiting or waiting[-1] is not owner:
                waiting.append(owner)
            if isinstance(item, _Piece):
                pieces.append(item)
        if not pieces:
            break
        now = pieces[:size]
        try:
            _hear(checkpoint, now, tokens, max_tokens)
        except (RuntimeError, MemoryError) as error:
            if len(now) == 1 or not is_out_of_memory(error):
                raise
            size = len(now) // 2
            now = []
        if not now:  # behind the handler, where what the exception held is free
            _let_go(checkpoint)
        del pieces[: len(now)]
        while waiting and waiting[0].left == 0:
            yield waiting.pop(0)
    yield from waiting


def _hear(checkpoint: Checkpoint, pieces: Sequence[_Piece], tokens: TokensFrom, max_tokens: int | None) -> None:
    """Hears windows together and gives each to its owner, or the reason why not; nothing where memory runs out."""
    model = checkpoint.model
    features = torch.cat([piece.features for piece in pieces]).to(device=checkpoint.device, dtype=model.dtype)
    states = encoder_states(checkpoint, features)
    finite = torch.isfinite(states).flatten(1).all(dim=1).tolist()
    results: list[Window | Exception] = [_not_finite("encoder states")] * len(pieces)
    rows = [row for row, fine in enumerate(finite) if fine]
    said: list[Transcript] = []
    if rows:
        states = states[rows]
        said = transcribe_batch(
            checkpoint, [pieces[row].samples for row in rows], max_new_tokens=max_tokens, states=states
        )
    along: list[tuple[int, ...]] = []
    kept: list[int] = []
    for place, (row, transcript) in enumerate(zip(rows, said, strict=True)):
        try:
            found = _along(checkpoint, pieces[row].owner, transcript, tokens)
        except (ReferenceTokensError, NonFiniteError) as error:
            results[row] = error
            continue
        kept.append(place)
        along.append(found)
    captured = capture_batch(checkpoint, states[kept], along) if kept else []
    for place, found, x in zip(kept, along, captured, strict=True):
        results[rows[place]] = _window(said[place], found, x)
    for piece, result in zip(pieces, results, strict=True):
        piece.owner.left -= 1
        if isinstance(result, Exception):
            piece.owner.error = piece.owner.error or result
        else:
            piece.owner.heard.append(result)


def _along(checkpoint: Checkpoint, listened: _Listened, transcript: Transcript, tokens: TokensFrom) -> tuple[int, ...]:
    if not np.isfinite(transcript.avg_logprob):
        raise _not_finite("log-probabilities")
    if tokens == "own":
        return transcript.tokens
    return reference_tokens(checkpoint, listened.reference, transcript.tokens[: transcript.prompt_tokens])


def _window(transcript: Transcript, along: tuple[int, ...], captured: Captured) -> Window | Exception:
    for (component, layer), x in captured.items():
        if not np.isfinite(x).all():
            return _not_finite(f"activations of {component}, layer {layer},")
    return Window(transcript, along, captured)


def _not_finite(what: str) -> NonFiniteError:
    return NonFiniteError(f"the model's {what} must be finite; got some that are not")


def _record(checkpoint: Checkpoint, listened: _Listened, records: ListenRecords) -> None:
    if listened.error is not None:
        records.refused.append(refused_row(listened.sample, listened.error))
        return
    records.clips.append(clip_row(checkpoint, listened.columns, listened.heard))
    vectors = vector_rows(checkpoint, listened.sample, listened.heard)
    records.activations.extend(activation_rows(vectors))
    records.vectors.extend(vectors)


def _affordable(checkpoint: Checkpoint, batch: int, memory_bytes: int | None) -> int:
    """Windows for which there is memory, 1 to `batch`: Linux promises what it has not, so it is asked beforehand.

    A window needs its keys and values in each layer of the decoder, and one layer of the encoder at a time.
    """
    left = available_bytes(checkpoint.device) if memory_bytes is None else memory_bytes
    if left is None:
        return batch
    config = checkpoint.model.config
    widths = 2 * config.decoder_layers + _ENCODER_WIDTHS
    need = widths * config.max_source_positions * config.d_model * checkpoint.model.dtype.itemsize
    return max(1, min(batch, int(_SHARE * left) // need))


def _let_go(checkpoint: Checkpoint) -> None:
    if checkpoint.device.type == "cuda":
        torch.cuda.empty_cache()
