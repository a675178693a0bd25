"""The training loop: decoder cross-entropy with an auxiliary CTC loss on the encoder, resumable and deterministic."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.modeling_outputs import BaseModelOutput

from empirical.organism import tokens
from empirical.organism.batches import IGNORED_LABEL, Batch, Batches
from empirical.organism.recipe import MEL_BANDS, ModelShape, Recipe, TrainingSpec

_LOSS_MEMORY = 0.98
_FINAL_RATE = 1e-3


def build_model(shape: ModelShape, tokenizer: WhisperTokenizer, seed: int) -> WhisperForConditionalGeneration:
    """A Whisper of this shape with random weights, the same for the same seed, ready for `generate`.

    The global random state is left as it was.
    """
    end = tokens.token_id(tokenizer, tokens.END_OF_TEXT)
    start = tokens.token_id(tokenizer, tokens.START)
    space = tokens.token_id(tokenizer, tokens.SPACE)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MEL_BANDS,
        d_model=shape.d_model,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.attention_heads,
        decoder_attention_heads=shape.attention_heads,
        encoder_ffn_dim=4 * shape.d_model,
        decoder_ffn_dim=4 * shape.d_model,
        max_source_positions=shape.source_positions,
        max_target_positions=shape.max_target_positions,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=[space, end],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        begin_suppress_tokens=[space, end],
        is_multilingual=True,
        lang_to_id={tokens.LANGUAGE: tokens.token_id(tokenizer, tokens.LANGUAGE)},
        task_to_id={
            "transcribe": tokens.token_id(tokenizer, tokens.TRANSCRIBE),
            "translate": tokens.token_id(tokenizer, tokens.TRANSLATE),
        },
        language="en",
        task="transcribe",
        no_timestamps_token_id=tokens.token_id(tokenizer, tokens.NO_TIMESTAMPS),
        prev_sot_token_id=tokens.token_id(tokenizer, tokens.START_OF_PREVIOUS),
        return_timestamps=False,
        max_length=shape.max_target_positions,
    )
    return model


def encode_short(model: WhisperForConditionalGeneration, features: torch.Tensor) -> torch.Tensor:
    """The encoder on less than a window: the same convolutions, positions from 0 and layers.

    On a whole window it equals the model's own encoder. On a short one it spares the time spent on silence.

    Args:
        model: the model.
        features: shape (batch, 80, frames), frames even and at most the window's.

    Returns:
        Encoder states, shape (batch, frames / 2, d_model).
    """
    encoder = model.model.encoder
    hidden = nn.functional.gelu(encoder.conv1(features))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        result = layer(hidden, None)
        # transformers 4 wraps a layer's result in a tuple, 5 does not.
        hidden = result[0] if isinstance(result, tuple) else result
    return encoder.layer_norm(hidden)


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """One-cycle schedule: a linear climb, then a half cosine down to a thousandth of the peak."""
    warmup = max(1, round(spec.warmup_fraction * spec.steps))
    if step < warmup:
        return spec.peak_learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, spec.steps - warmup)
    low = _FINAL_RATE * spec.peak_learning_rate
    return low + (spec.peak_learning_rate - low) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(slots=True)
class Progress:
    """What a checkpoint remembers besides tensors.

    Attributes:
        step: optimiser steps done.
        loss: smoothed decoder loss, nats per token.
        augment_from: step at which augmentation began, None before.
        seconds: wall time of the steps done, summed over interruptions.
        history: (step, smoothed loss) at each checkpoint.
    """

    step: int = 0
    loss: float | None = None
    augment_from: int | None = None
    seconds: float = 0.0
    history: list[tuple[int, float]] = field(default_factory=list)


class Trainer:
    """One training, which picks up its own checkpoint.

    Args:
        recipe: the recipe; a checkpoint of another recipe is not touched.
        tokenizer: the organism's tokenizer.
        batches: source of batches.
        checkpoint: file that holds the state of the training.
        resume: go on from the checkpoint if there is one; otherwise begin anew.
    """

    def __init__(
        self, recipe: Recipe, tokenizer: WhisperTokenizer, batches: Batches, checkpoint: Path, *, resume: bool = True
    ) -> None:
        self.recipe = recipe
        self.model = build_model(recipe.shape, tokenizer, recipe.seed)
        self.progress = Progress()
        self._batches = batches
        self._checkpoint = checkpoint
        self._blank = len(tokenizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self._ctc_head = nn.Linear(recipe.shape.d_model, self._blank + 1)
        self._optimiser = self._make_optimiser()
        if resume and checkpoint.is_file():
            self._load()

    def run(self, until: int | None = None, *, progress: bool = False) -> None:
        """Train up to step `until` (the recipe's last step by default), writing checkpoints on the way.

        torch's thread count is the recipe's while this runs, and is put back afterwards.
        """
        spec = self.recipe.training
        last = spec.steps if until is None else min(until, spec.steps)
        threads = torch.get_num_threads()
        torch.set_num_threads(spec.threads)
        self.model.train()
        bar = tqdm(
            total=spec.steps, initial=self.progress.step, desc=self.recipe.name, disable=None if progress else True
        )
        try:
            while self.progress.step < last:
                self._step()
                bar.update()
                bar.set_postfix(loss=f"{self.progress.loss:.3f}", refresh=False)
                if self.progress.step % spec.checkpoint_every == 0 or self.progress.step == last:
                    self._save()
        finally:
            bar.close()
            torch.set_num_threads(threads)
            self.model.eval()

    def _step(self) -> None:
        began = time.perf_counter()
        spec, state = self.recipe.training, self.progress
        batch = self._batches.at(state.step, self._strength())
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(spec, state.step)
        decoder_loss, ctc_loss = self._losses(batch)
        self._optimiser.zero_grad(set_to_none=True)
        (decoder_loss + spec.ctc_weight * ctc_loss).backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self._ctc_head.parameters()], spec.gradient_clip)
        self._optimiser.step()
        value = float(decoder_loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss of {self.recipe.name} is {value} at step {state.step}")
        state.loss = value if state.loss is None else _LOSS_MEMORY * state.loss + (1.0 - _LOSS_MEMORY) * value
        state.step += 1
        if state.augment_from is None and state.loss < spec.augment_below_loss:
            state.augment_from = state.step
        state.seconds += time.perf_counter() - began

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = encode_short(self.model, batch.features)
        logits = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=batch.inputs,
            use_cache=False,
        ).logits
        decoder_loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED_LABEL
        )
        log_probs = self._ctc_head(encoded).log_softmax(-1).transpose(0, 1)
        targets = torch.tensor([token for text in batch.texts for token in text])
        target_lengths = torch.tensor([len(text) for text in batch.texts])
        ctc_loss = nn.functional.ctc_loss(
            log_probs, targets, batch.lengths, target_lengths, blank=self._blank, zero_infinity=True
        )
        return decoder_loss, ctc_loss

    def _strength(self) -> float:
        began = self.progress.augment_from
        if began is None:
            return 0.0
        return min(1.0, (self.progress.step - began) / max(1, self.recipe.training.augment_ramp_steps))

    def _make_optimiser(self) -> torch.optim.AdamW:
        trained = [p for p in (*self.model.parameters(), *self._ctc_head.parameters()) if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": self.recipe.training.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.recipe.training.peak_learning_rate, betas=(0.9, 0.98), fused=True)

    def _save(self) -> None:
        state = self.progress
        state.history.append((state.step, float(state.loss if state.loss is not None else math.nan)))
        values: dict[str, Any] = {
            "recipe": self.recipe.identity,
            "model": self.model.state_dict(),
            "ctc_head": self._ctc_head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": state.step,
            "loss": state.loss,
            "augment_from": state.augment_from,
            "seconds": state.seconds,
            "history": state.history,
        }
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(values, partial)
        os.replace(partial, self._checkpoint)

    def _load(self) -> None:
        values = torch.load(self._checkpoint, weights_only=True)
        if values["recipe"] != self.recipe.identity:
            raise ValueError(f"{self._checkpoint.name} must be of recipe {self.recipe.identity}; got another's")
        self.model.load_state_dict(values["model"])
        self._ctc_head.load_state_dict(values["ctc_head"])
        self._optimiser.load_state_dict(values["optimiser"])
        self.progress = Progress(
            step=values["step"],
            loss=values["loss"],
            augment_from=values["augment_from"],
            seconds=values["seconds"],
            history=[(int(step), float(loss)) for step, loss in values["history"]],
        )
