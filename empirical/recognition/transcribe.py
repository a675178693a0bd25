"""Audio samples to tokens and text, greedily, by the model's own `generate`, with what it says about its confidence.

A batch is one call of `generate`: every row has its own prompt (a language that is detected is detected row by row)
and ends at its own end token, and what is written behind that is thrown away. No row sees another: their numbers differ
from those of a batch of one only by the rounding of matrix products of another shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.recognition.loops import compression_ratio
from empirical.recognition.transcribe_greedy import end_tokens, greedy, no_speech
from empirical.recognition.words import WordErrors, normaliser_identity, word_errors
from empirical.speech.audio import SAMPLE_RATE_HZ

__all__ = [
    "Transcript",
    "WordErrors",
    "encode",
    "encoder_states",
    "log_mel",
    "normaliser_identity",
    "text_of",
    "transcribe",
    "transcribe_batch",
    "word_errors",
]

MAX_NEW_TOKENS = 128
"""Default limit of generated tokens: a model that loops is cut there."""

PROMPT_ROOM = 4
"""Positions kept free for the prompt: start, language, task, no timestamps."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model said of a clip.

    Attributes:
        text: the generated text, special tokens and outer spaces removed.
        tokens: decoder input ids, prompt included, end token excluded.
        prompt_tokens: how many of them are the prompt.
        avg_logprob: mean log-probability (natural) over the generated tokens, the end token included where it came,
            under the model's choice among the tokens that it may choose (suppressed ones excluded), as Whisper's.
        no_speech_prob: probability of the no-speech token right after the start token, as Whisper's; NaN if the
            tokenizer has none.
        compression_ratio: bytes of the text over bytes of it compressed by zlib, as Whisper's; 0 for no text.
        truncated: the audio was longer than the model's window and was cut.
        duration_s: of the whole audio, seconds.
        log_probs: of each generated token, the end token's last where `ended`.
        ended: the model stopped by itself, not at the limit of tokens.
        max_new_tokens: that limit.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    truncated: bool
    duration_s: float
    log_probs: tuple[float, ...]
    ended: bool
    max_new_tokens: int


def log_mel(checkpoint: Checkpoint, samples: np.ndarray) -> torch.Tensor:
    """Log-mel features of the model's whole window, padded with silence or cut: (1, mels, frames) float32 on the CPU.

    The feature extractor computes in float32 whatever the model's dtype, and cuts what is too long without a word.

    Args:
        checkpoint: whose feature extractor is used.
        samples: (n,) float at 16 kHz, finite.

    Raises:
        ValueError: if samples are not (n,) finite floats; the feature extractor itself would take integers or stereo.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be (n,) floats, n >= 1; got {samples.dtype} of shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite")
    output = checkpoint.feature_extractor(samples.astype(np.float32), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    return output["input_features"]


def encode(checkpoint: Checkpoint, samples: np.ndarray) -> tuple[torch.Tensor, bool]:
    """Features as of `log_mel` on the model's device and in its dtype, and whether samples were cut off.

    Raises:
        ValueError: as `log_mel`.
    """
    features = log_mel(checkpoint, samples).to(device=checkpoint.device, dtype=checkpoint.model.dtype)
    return features, len(samples) > checkpoint.window_samples


def encoder_states(checkpoint: Checkpoint, features: torch.Tensor) -> torch.Tensor:
    """Final encoder states E (b, S, d) of features (b, mels, frames): the context of the decoder chain (T1).

    By fused attention, which keeps no scores of all frames against all: 1.7 times as fast on a CPU at the dimensions of
    tiny, and the states of the eager formula to 2e-7 (float32, relative). Derivatives are taken of the eager one.
    """
    model, before = checkpoint.model, checkpoint.model.config._attn_implementation or "eager"
    try:
        model.set_attn_implementation("sdpa")
        with torch.no_grad():
            return model.model.encoder(features).last_hidden_state
    finally:
        model.set_attn_implementation(before)


def transcribe(
    checkpoint: Checkpoint,
    samples: np.ndarray,
    *,
    max_new_tokens: int | None = None,
    language: str | None = None,
    states: torch.Tensor | None = None,
) -> Transcript:
    """Transcribe the first window of a clip: `transcribe_batch` of one, with its arguments and errors."""
    return transcribe_batch(checkpoint, [samples], max_new_tokens=max_new_tokens, language=language, states=states)[0]


def transcribe_batch(
    checkpoint: Checkpoint,
    samples: Sequence[np.ndarray],
    *,
    max_new_tokens: int | None = None,
    language: str | None = None,
    states: torch.Tensor | None = None,
) -> list[Transcript]:
    """Transcribe the first window of each of several clips together, greedily and without timestamps.

    The prompt (language, task) is what `generate` makes of the checkpoint's generation config: an English-only model
    gets none, a multilingual one without a fixed language detects it, each clip's its own. Where two tokens are as
    likely to within rounding (`forward.rounding_bound` of the logits), the batch may choose the other one.

    Args:
        checkpoint: the model.
        samples: of each clip (n,) float at 16 kHz, finite.
        max_new_tokens: most tokens to generate; by default 128, or as many as the model has positions for.
        language: overrides the checkpoint's own choice ("en").
        states: encoder states of these samples where they are there already, (b, S, d), as `encoder_states` gives them.

    Returns:
        One for each clip. A model that gives numbers which are not finite has NaN for their log-probabilities.

    Raises:
        ValueError: as `log_mel`; if `states` has another number of rows; or if `max_new_tokens` is not between 1 and
            the model's positions less the prompt's 4.
    """
    limit = _limit(checkpoint, max_new_tokens)
    if not samples:
        return []
    if states is None:
        states = encoder_states(checkpoint, torch.cat([encode(checkpoint, each)[0] for each in samples]))
    if len(states) != len(samples):
        raise ValueError(f"states must have a row for each of {len(samples)} clips; got {len(states)}")
    rows = greedy(checkpoint, states, limit, language)
    silence = no_speech(checkpoint, states)
    return [
        _transcript(checkpoint, each, *row, no_speech_prob, limit)
        for each, row, no_speech_prob in zip(samples, rows, silence, strict=True)
    ]


def text_of(checkpoint: Checkpoint, tokens: Sequence[int]) -> str:
    """Text of generated tokens, special tokens and outer spaces removed."""
    return checkpoint.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()


def _transcript(
    checkpoint: Checkpoint,
    samples: np.ndarray,
    prompt: tuple[int, ...],
    generated: tuple[int, ...],
    log_probs: tuple[float, ...],
    no_speech_prob: float,
    limit: int,
) -> Transcript:
    ended = generated[-1] in end_tokens(checkpoint)
    text_tokens = generated[:-1] if ended else generated
    text = text_of(checkpoint, text_tokens)
    return Transcript(
        text=text,
        tokens=prompt + text_tokens,
        prompt_tokens=len(prompt),
        avg_logprob=math.fsum(log_probs) / len(log_probs),
        no_speech_prob=no_speech_prob,
        compression_ratio=compression_ratio(text),
        truncated=len(samples) > checkpoint.window_samples,
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        log_probs=log_probs,
        ended=ended,
        max_new_tokens=limit,
    )


def _limit(checkpoint: Checkpoint, asked: int | None) -> int:
    room = checkpoint.model.config.max_target_positions - PROMPT_ROOM
    if asked is None:
        return min(MAX_NEW_TOKENS, room)
    if not 1 <= asked <= room:
        raise ValueError(f"max_new_tokens must lie in [1, {room}]; got {asked}")
    return asked
