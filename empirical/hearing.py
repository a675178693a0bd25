"""Clips as a checkpoint hears and transcribes them, one after the other: what every table is made along."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from empirical.checkpoints.checkpoint import DTYPES, Checkpoint, from_model, load_checkpoint
from empirical.checkpoints.device import resolve_device
from empirical.jacobians.measurement import STATES, State
from empirical.recognition.reference import ReferenceTokensError, reference_tokens
from empirical.recognition.transcribe import Transcript, encode, encoder_states, transcribe
from empirical.speech.audio import AudioError, load_audio
from empirical.speech.clips import Clip, find_clips
from empirical.stress import PoolClip, StressError, StressResult, apply, stressor

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

FRAME_SAMPLES = 320
"""Samples at 16 kHz between two positions of the encoder: a hop of 160, twice, by the second convolution's stride."""

TokensFrom = Literal["own", "reference"]
TOKENS_FROM: tuple[TokensFrom, ...] = ("own", "reference")
"""Tokens along which everything is measured: the model's own greedy transcript, or the reference, teacher-forced."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One clip under one condition, as the model hears and transcribes it.

    Attributes:
        clip: the clip.
        condition: name of the stress.
        seed: of the stress.
        stressed: samples and what was done to them.
        transcript: the model's own greedy transcript.
        tokens: decoder input ids along which everything is measured, prompt included.
        tokens_from: "own", those of the transcript, or "reference", the prompt and the reference's.
        features: log-mel, (1, mels, frames).
        states: encoder states E, (1, S, d).
    """

    clip: Clip
    condition: str
    seed: int
    stressed: StressResult
    transcript: Transcript
    tokens: tuple[int, ...]
    tokens_from: TokensFrom
    features: Tensor
    states: Tensor

    @property
    def frame(self) -> int:
        """The encoder position in the middle of the clip's own audio, the padding behind it left out."""
        frames = self.states.shape[1]
        heard = min(frames, -(-len(self.stressed.samples) // FRAME_SAMPLES))
        return min(heard // 2, frames - 1)


def prepare(
    checkpoint: Checkpoint,
    clip: Clip,
    condition: str,
    *,
    seed: int = 0,
    pool: Sequence[PoolClip] = (),
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
) -> Prepared:
    """Load, stress, encode and transcribe one clip.

    Args:
        checkpoint: the model.
        clip: the utterance.
        condition: one of `STRESSORS`.
        seed: of the stress.
        pool: utterances that a mix may take from.
        tokens: of `TOKENS_FROM`, along which it is to be measured.
        max_tokens: most tokens that the transcript may have beside its prompt; see `transcribe`.

    Raises:
        AudioError: if the file is not usable audio.
        StressError: if the condition is unknown or cannot be applied.
        ReferenceTokensError: if it is to be forced along a reference that it does not have, or that has no tokens.
        ValueError: if `tokens` or `max_tokens` is out of range.
    """
    check_tokens_from(tokens)
    kind = stressor(condition)
    samples = load_audio(clip.path)
    stressed = apply(kind, samples, utterance=clip.name, seed=seed, pool=pool, speaker=clip.speaker)
    features, _ = encode(checkpoint, stressed.samples)
    states = encoder_states(checkpoint, features)
    transcript = transcribe(checkpoint, stressed.samples, max_new_tokens=max_tokens, states=states)
    along = transcript.tokens
    if tokens == "reference":
        along = reference_tokens(checkpoint, clip.reference, along[: transcript.prompt_tokens])
    return Prepared(
        clip=clip,
        condition=condition,
        seed=seed,
        stressed=stressed,
        transcript=transcript,
        tokens=along,
        tokens_from=tokens,
        features=features,
        states=states,
    )


def check_tokens_from(tokens: str) -> None:
    """Refuse an unknown choice of tokens.

    Raises:
        ValueError: naming the argument.
    """
    if tokens not in TOKENS_FROM:
        raise ValueError(f"tokens must be one of {', '.join(TOKENS_FROM)}; got {tokens!r}")


def check_request(conditions: Sequence[str], states: Sequence[State]) -> None:
    """Refuse unknown names before anything is loaded.

    Raises:
        ValueError: naming the argument.
    """
    if isinstance(conditions, str) or isinstance(states, str):
        raise ValueError("conditions and states must be sequences of names; got a string")
    for condition in conditions:
        stressor(condition)
    for state in states:
        if state not in STATES:
            raise ValueError(f"states must be of {STATES}; got {state!r}")


def hear(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    conditions: Sequence[str],
    dtype: str,
    *,
    seed: int = 0,
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    device: str = "auto",
    quarantine: list[dict[str, str]] | None = None,
) -> Iterator[tuple[Checkpoint, Prepared]]:
    """The checkpoint with each clip under each condition, in order; arguments as of `analyze`.

    Args:
        quarantine: takes what cannot be heard, by clip and condition, with its reason; None raises it.

    Raises:
        AudioError, StressError, ReferenceTokensError: for the first clip that fails, unless there is a quarantine.
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    chosen = named_clips(clips)
    checkpoint = as_checkpoint(model, dtype, device)
    pool = [PoolClip(name=clip.name, speaker=clip.speaker, load=samples_of(clip.path)) for clip in chosen]
    for clip in chosen:
        for condition in conditions:
            try:
                prepared = prepare(
                    checkpoint, clip, condition, seed=seed, pool=pool, tokens=tokens, max_tokens=max_tokens
                )
            except (AudioError, StressError, ReferenceTokensError) as error:
                if quarantine is None:
                    raise
                quarantine.append({"clip": clip.name, "condition": condition, "code": error.code, "detail": str(error)})
                continue
            yield checkpoint, prepared


def heard_columns(checkpoint: Checkpoint, prepared: Prepared) -> dict[str, Any]:
    """What names a row: model, clip, condition, what the model said, and the tokens along which it is measured."""
    transcript = prepared.transcript
    return {
        "model": checkpoint.name,
        "clip": prepared.clip.name,
        "condition": prepared.condition,
        "transcript": transcript.text,
        "truncated": transcript.truncated,
        "tokens": [int(token) for token in prepared.tokens],
        "n_tokens": len(prepared.tokens),
        "tokens_from": prepared.tokens_from,
        "dtype": checkpoint.dtype,
    }


def as_checkpoint(model: Any, dtype: str, device: str = "auto") -> Checkpoint:
    """What `analyze` takes for a model, as a `Checkpoint` of this dtype; what the caller passed in stays as it was.

    A loaded model that is to be measured on device "auto" is measured where it is.

    Raises:
        CheckpointError: if the model cannot be loaded.
        ValueError: if it is nothing of the kind, or dtype is unknown.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if isinstance(model, (str, Path)):
        return load_checkpoint(model, dtype=dtype, device=device)
    if isinstance(model, Checkpoint):
        place = model.device if device == "auto" else resolve_device(device)
        if model.dtype == dtype and model.device == place:
            return model
        return dataclasses.replace(model.with_model(_cast(model.model, dtype, place)), dtype=dtype)
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
        _cast(model, dtype, model.device if device == "auto" else resolve_device(device)),
        WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True),
        WhisperTokenizer.from_pretrained(directory, local_files_only=True),
        name=directory.name,
        ref=str(directory),
        notes=[f"upcast:{stored}"] if (stored := str(model.dtype).removeprefix("torch.")) not in DTYPES else [],
    )


def _cast(model: Any, dtype: str, device: torch.device) -> WhisperForConditionalGeneration:
    return copy.deepcopy(model).to(device=device, dtype=DTYPES[dtype])


def named_clips(clips: Iterable[str | Path | Clip]) -> list[Clip]:
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


def samples_of(path: Path) -> Any:
    return lambda: load_audio(path)
