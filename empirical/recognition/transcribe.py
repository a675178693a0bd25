"""Audio samples to tokens and text, greedily, by the model's own `generate`, with what it says about its confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from empirical.checkpoints.checkpoint import Checkpoint, quiet_transformers
from empirical.recognition.loops import compression_ratio
from empirical.recognition.words import WordErrors, normaliser_identity, word_errors
from empirical.speech.audio import SAMPLE_RATE_HZ

__all__ = [
    "Transcript",
    "WordErrors",
    "encode",
    "encoder_states",
    "normaliser_identity",
    "transcribe",
    "word_errors",
]

MAX_NEW_TOKENS = 128
"""Default limit of generated tokens: a model that loops is cut there."""

PROMPT_ROOM = 4
"""Positions kept free for the prompt: start, language, task, no timestamps."""

_NO_SPEECH_TOKENS = ("<|nospeech|>", "<|nocaptions|>")


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


def encode(checkpoint: Checkpoint, samples: np.ndarray) -> tuple[torch.Tensor, bool]:
    """Log-mel features of the model's whole window, padded with silence or cut.

    The feature extractor computes in float32 whatever the model's dtype, and cuts what is too long without a word.

    Args:
        checkpoint: whose feature extractor and dtype are used.
        samples: (n,) float at 16 kHz, finite.

    Returns:
        Features (1, mels, frames) in the model's dtype, and whether samples were cut off.

    Raises:
        ValueError: if samples are not (n,) finite floats; the feature extractor itself would take integers or stereo.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be (n,) floats, n >= 1; got {samples.dtype} of shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite")
    output = checkpoint.feature_extractor(samples.astype(np.float32), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    features = output["input_features"].to(device=checkpoint.device, dtype=checkpoint.model.dtype)
    return features, len(samples) > checkpoint.window_samples


def encoder_states(checkpoint: Checkpoint, features: torch.Tensor) -> torch.Tensor:
    """Final encoder states E (1, S, d) of features (1, mels, frames): the context of the decoder chain (T1)."""
    with torch.no_grad():
        return checkpoint.model.model.encoder(features).last_hidden_state


def transcribe(
    checkpoint: Checkpoint,
    samples: np.ndarray,
    *,
    max_new_tokens: int | None = None,
    language: str | None = None,
    states: torch.Tensor | None = None,
) -> Transcript:
    """Transcribe the first window of a clip, greedily and without timestamps.

    The prompt (language, task) is what `generate` makes of the checkpoint's generation config: an English-only model
    gets none, a multilingual one without a fixed language detects it.

    Args:
        checkpoint: the model.
        samples: (n,) float at 16 kHz, finite.
        max_new_tokens: most tokens to generate; by default 128, or as many as the model has positions for.
        language: overrides the checkpoint's own choice ("en").
        states: encoder states of these samples where they are there already, (1, S, d), as `encoder_states` gives them.

    Raises:
        ValueError: as `encode`, or if `max_new_tokens` is not between 1 and the model's positions less the prompt's 4.
    """
    limit = _limit(checkpoint, max_new_tokens)
    if states is None:
        states = encoder_states(checkpoint, encode(checkpoint, samples)[0])
    sequence, scores = _generate(checkpoint, states, limit, language)
    generated = sequence[len(sequence) - len(scores) :]
    log_probs = tuple(float(F.log_softmax(row, dim=-1)[token]) for row, token in zip(scores, generated, strict=True))
    ended = generated[-1] in _end_tokens(checkpoint)
    text_tokens = generated[:-1] if ended else generated
    text = checkpoint.tokenizer.decode(text_tokens, skip_special_tokens=True).strip()
    return Transcript(
        text=text,
        tokens=tuple(sequence[: len(sequence) - len(scores)]) + tuple(text_tokens),
        prompt_tokens=len(sequence) - len(scores),
        avg_logprob=math.fsum(log_probs) / len(log_probs),
        no_speech_prob=_no_speech(checkpoint, states),
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


def _generate(
    checkpoint: Checkpoint, states: torch.Tensor, limit: int, language: str | None
) -> tuple[list[int], list[torch.Tensor]]:
    """The whole sequence, prompt and end token included, and the processed logits (V,) of each generated token."""
    from transformers.modeling_outputs import BaseModelOutput

    with torch.no_grad(), quiet_transformers():
        out: Any = checkpoint.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            language=language,
            num_beams=1,
            do_sample=False,
            return_timestamps=False,
            max_new_tokens=limit,
            return_dict_in_generate=True,
            output_scores=True,
            force_unique_generate_call=True,  # gives sequence and scores as they are, prompt included
        )
    return out.sequences[0].tolist(), [row[0] for row in out.scores]


def _end_tokens(checkpoint: Checkpoint) -> set[int]:
    end = checkpoint.model.generation_config.eos_token_id
    return set(end) if isinstance(end, (list, tuple)) else {end}


def _no_speech(checkpoint: Checkpoint, states: torch.Tensor) -> float:
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    token = next((tokenizer.get_vocab()[name] for name in _NO_SPEECH_TOKENS if name in tokenizer.get_vocab()), None)
    if token is None:
        return math.nan
    start = torch.tensor([[model.generation_config.decoder_start_token_id]], device=checkpoint.device)
    with torch.no_grad():
        hidden = model.model.decoder(input_ids=start, encoder_hidden_states=states, use_cache=False).last_hidden_state
        return float(torch.softmax(model.proj_out(hidden)[0, 0], dim=-1)[token])
