"""Samples as a checkpoint hears and transcribes them, one after the other: what Jacobians are measured along."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from empirical.checkpoints.checkpoint import DTYPES, Checkpoint, from_model, load_checkpoint
from empirical.checkpoints.device import resolve_device
from empirical.jacobians.measurement import STATES, State
from empirical.recognition.reference import ReferenceTokensError, reference_tokens
from empirical.recognition.transcribe import encode, encoder_states, text_of, transcribe
from empirical.recognition.transcribe_windows import ListeningError, Long, check_long, windows_of
from empirical.speech.audio import AudioError
from empirical.speech.clips import Clip, find_clips
from empirical.speech.samples import Sample, make_sample, noise_pool, sound_pool
from empirical.stress import PoolClip, StressError, StressResult, expand

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

FRAME_SAMPLES = 320
"""Samples at 16 kHz between two positions of the encoder: a hop of 160, twice, by the second convolution's stride."""

TokensFrom = Literal["own", "reference"]
TOKENS_FROM: tuple[TokensFrom, ...] = ("own", "reference")
"""Tokens along which everything is measured: the model's own greedy transcript, or the reference, teacher-forced."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a model was found to say of the first window of a sample, so that it need not be asked again.

    Attributes:
        text: of that window; None where it is not at hand and is to be read from the tokens.
        tokens: decoder input ids, prompt included, end token excluded.
        prompt_tokens: how many of them are the prompt.
        truncated: the audio was longer than the model's window and was cut.
    """

    text: str | None
    tokens: tuple[int, ...]
    prompt_tokens: int
    truncated: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Told:
        """The first window of a row of the clips table, as `listen` writes it: Python values, lists or arrays.

        A row's tokens are those of its windows one after the other, its text that of all of them.
        """
        counts = [int(count) for count in row["window_tokens"]]
        return cls(
            text=str(row["transcript"]) if len(counts) == 1 else None,
            tokens=tuple(int(token) for token in row["tokens"][: counts[0]]),
            prompt_tokens=int(row["prompt_tokens"]),
            truncated=bool(row["truncated"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The first window of one sample, as a model hears and transcribes it: what Jacobians are measured along.

    Attributes:
        sample: clip, condition and seed.
        length: samples heard at 16 kHz, the padding to the window left out.
        transcript: what the model says of it, greedily.
        tokens: decoder input ids along which everything is measured, prompt included.
        tokens_from: "own", those of the transcript, or "reference", the prompt and the reference's.
        features: log-mel, (1, mels, frames).
        states: encoder states E, (1, S, d).
    """

    sample: Sample
    length: int
    transcript: Told
    tokens: tuple[int, ...]
    tokens_from: TokensFrom
    features: Tensor
    states: Tensor

    @property
    def clip(self) -> Clip:
        return self.sample.clip

    @property
    def condition(self) -> str:
        return self.sample.condition

    @property
    def seed(self) -> int:
        return self.sample.seed

    @property
    def frame(self) -> int:
        """The encoder position in the middle of the clip's own audio, the padding behind it left out."""
        frames = self.states.shape[1]
        heard = min(frames, -(-self.length // FRAME_SAMPLES))
        return min(heard // 2, frames - 1)


def prepare(
    checkpoint: Checkpoint,
    sample: Sample,
    *,
    pool: Sequence[PoolClip] = (),
    noises: Sequence[PoolClip] = (),
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    long: Long = "cut",
    told: Told | None = None,
) -> Prepared:
    """Load, stress and encode one sample, and transcribe it unless that was done.

    Args:
        checkpoint: the model.
        sample: the utterance and its condition.
        pool: utterances that a mix may take from.
        noises: recordings that a noise from a folder is taken from.
        tokens: of `TOKENS_FROM`, along which it is to be measured.
        max_tokens: most tokens that the transcript may have beside its prompt; see `transcribe`.
        long: of `LONG`, what a clip longer than the window is: of its "chunk"s the first one is taken.
        told: what `listen` found the model to say of it; None transcribes it here.

    Raises:
        AudioError: if the file is not usable audio.
        StressError: if the condition is unknown or cannot be applied.
        ManifestError: if the sample is not what a manifest recorded.
        ListeningError: if it is longer than the window and that is refused, or a reference would have to be cut.
        ReferenceTokensError: if it is to be forced along a reference that it does not have, or that has no tokens.
        ValueError: if `tokens`, `max_tokens` or `long` is out of range.
    """
    check_tokens_from(tokens)
    check_long(long)
    stressed = make_sample(sample, pool=pool, noises=noises)
    heard = pieces_of(checkpoint, stressed.samples, long, tokens)[0]
    features, cut = encode(checkpoint, heard)
    states = encoder_states(checkpoint, features)
    if told is None:
        said = transcribe(checkpoint, heard, max_new_tokens=max_tokens, states=states)
        told = Told(said.text, said.tokens, said.prompt_tokens, cut)
    elif told.text is None:
        told = replace(told, text=text_of(checkpoint, told.tokens[told.prompt_tokens :]))
    along = told.tokens
    if tokens == "reference":
        along = reference_tokens(checkpoint, reference_of(sample, stressed), along[: told.prompt_tokens])
    return Prepared(
        sample=sample,
        length=len(heard),
        transcript=told,
        tokens=along,
        tokens_from=tokens,
        features=features,
        states=states,
    )


def pieces_of(checkpoint: Checkpoint, samples: np.ndarray, long: Long, tokens: TokensFrom) -> list[np.ndarray]:
    """The windows of a sample, as `windows_of`.

    Raises:
        ListeningError: "too_long", if there are several to be forced along one reference, which says not where to cut.
    """
    pieces = windows_of(samples, checkpoint.window_samples, long)
    if tokens == "reference" and len(pieces) > 1:
        raise ListeningError(
            "too_long", f"a clip must fit into one window to be forced along its reference; got {len(pieces)} windows"
        )
    return pieces


def reference_of(sample: Sample, stressed: StressResult) -> str | None:
    """What is said in a sample: the clip's reference, "" where the stress left nothing of it, None if it is unknown."""
    return sample.clip.reference if stressed.speech else ""


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
        expand(condition)
    for state in states:
        if state not in STATES:
            raise ValueError(f"states must be of {STATES}; got {state!r}")


def canonical(conditions: Iterable[str]) -> list[str]:
    """Canonical labels of conditions, ladders expanded, each once, in the order asked for.

    Raises:
        StressError: "unknown_stressor" or "bad_parameter".
    """
    return list(dict.fromkeys(label for condition in conditions for label in expand(condition)))


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
    noise_dir: str | Path | None = None,
    quarantine: list[dict[str, str]] | None = None,
) -> Iterator[tuple[Checkpoint, Prepared]]:
    """The checkpoint with each clip under each condition, in order; arguments as of `analyze`.

    Args:
        noise_dir: recordings that a noise from a folder is taken from.
        quarantine: takes what cannot be heard, by clip and condition, with its reason; None raises it.

    Raises:
        AudioError, StressError, ReferenceTokensError: for the first clip that fails, unless there is a quarantine.
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    chosen = named_clips(clips)
    checkpoint = as_checkpoint(model, dtype, device)
    pool = sound_pool(chosen)
    noises = noise_pool(noise_dir) if noise_dir is not None else ()
    labels = canonical(conditions)
    for clip in chosen:
        for condition in labels:
            try:
                prepared = prepare(
                    checkpoint,
                    Sample(clip, condition, seed),
                    pool=pool,
                    noises=noises,
                    tokens=tokens,
                    max_tokens=max_tokens,
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
