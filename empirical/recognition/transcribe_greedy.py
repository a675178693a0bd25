"""Greedy tokens of a batch and the log-probability of each, read where `generate` itself chooses them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from empirical.checkpoints.checkpoint import Checkpoint, quiet_transformers

_NO_SPEECH_TOKENS = ("<|nospeech|>", "<|nocaptions|>")

Greedy = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]
"""Of one row: the prompt, the generated tokens (the end token last where it came), and their log-probabilities."""


class _Recorder:
    """A logits processor that changes nothing and stands last: it sees what the next token is chosen by.

    `generate` could return those scores itself, but as a tensor of all tokens for each step (200 MB for eight looping
    rows of Whisper's vocabulary), and with them a copy of every key and value.
    """

    def __init__(self) -> None:
        self.prompt: torch.Tensor | None = None
        self.tokens: list[torch.Tensor] = []
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.prompt is None:
            self.prompt = input_ids.clone()
        chosen = scores.argmax(dim=-1, keepdim=True)
        self.tokens.append(chosen)
        self.log_probs.append(F.log_softmax(scores, dim=-1).gather(1, chosen))
        return scores


def greedy(checkpoint: Checkpoint, states: torch.Tensor, limit: int, language: str | None) -> list[Greedy]:
    """Greedy decoding of encoder states (b, S, d), each row up to its own end token or `limit` tokens.

    Log-probabilities are natural, under the model's choice among the tokens that it may choose (suppressed ones
    excluded), in float32 as `generate` has them.
    """
    from transformers.modeling_outputs import BaseModelOutput

    recorder = _Recorder()
    model: Any = checkpoint.model
    with torch.no_grad(), quiet_transformers():
        model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),  # type: ignore[arg-type]
            language=language,
            num_beams=1,
            do_sample=False,
            return_timestamps=False,
            max_new_tokens=limit,
            logits_processor=[recorder],
            force_unique_generate_call=True,  # one window, one call: no second pass by timestamps or thresholds
        )
    if recorder.prompt is None:
        raise RuntimeError("generate must ask its logits processors for each token; it never called them")
    prompts = recorder.prompt.tolist()
    tokens = torch.cat(recorder.tokens, dim=1).tolist()
    log_probs = torch.cat(recorder.log_probs, dim=1).tolist()
    ends = end_tokens(checkpoint)
    found: list[Greedy] = []
    for prompt, row, scores in zip(prompts, tokens, log_probs, strict=True):
        # Behind a row's end token `generate` goes on with padding until the longest row has ended.
        length = next((step for step, token in enumerate(row, start=1) if token in ends), len(row))
        found.append((tuple(prompt), tuple(row[:length]), tuple(scores[:length])))
    return found


def end_tokens(checkpoint: Checkpoint) -> set[int]:
    """Tokens at which the model stops."""
    end = checkpoint.model.generation_config.eos_token_id
    return set(end) if isinstance(end, (list, tuple)) else {end}


def no_speech(checkpoint: Checkpoint, states: torch.Tensor) -> list[float]:
    """Probability of the no-speech token right after the start token, of each row; NaN without such a token."""
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    token = next((tokenizer.get_vocab()[name] for name in _NO_SPEECH_TOKENS if name in tokenizer.get_vocab()), None)
    if token is None:
        return [math.nan] * len(states)
    start = torch.full((len(states), 1), model.generation_config.decoder_start_token_id, device=checkpoint.device)
    with torch.no_grad():
        hidden = model.model.decoder(input_ids=start, encoder_hidden_states=states, use_cache=False).last_hidden_state
        return torch.softmax(model.proj_out(hidden)[:, 0], dim=-1)[:, token].tolist()
