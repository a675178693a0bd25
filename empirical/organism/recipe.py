"""What an organism is made of: sentences, voices, shape, hyperparameters and seed, all of it in one frozen record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from empirical.organism.grammar import ENGLISH_66, Grammar
from empirical.organism.voices import ESPEAK_ENGLISH, VoiceSet

SAMPLE_RATE_HZ = 16_000
HOP_LENGTH = 160
MEL_BANDS = 80


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """The speech an organism learns from and is tested on.

    Attributes:
        grammar: the sentences.
        voices: the voices.
        train_clips: clips rendered for training.
        test_clips: clips of each test set.
        max_duration_s: longest clip kept, in seconds; chosen so that 3.5 times as long still fits the window.
        seed: seed of sentences and voices.
    """

    grammar: Grammar = ENGLISH_66
    voices: VoiceSet = ESPEAK_ENGLISH
    train_clips: int = 12_000
    test_clips: int = 300
    max_duration_s: float = 2.2
    seed: int = 20261120

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with anything in the corpus; the name of its cache."""
        return _digest(asdict(self))


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of the Whisper model. The feed-forward width is four times `d_model`, as in every Whisper."""

    d_model: int
    encoder_layers: int
    decoder_layers: int
    attention_heads: int = 4
    window_s: int = 8
    max_target_positions: int = 64
    bpe_pieces: int = 200

    @property
    def window_frames(self) -> int:
        """Log-mel frames in the window."""
        return self.window_s * SAMPLE_RATE_HZ // HOP_LENGTH

    @property
    def source_positions(self) -> int:
        """Encoder positions in the window; the encoder halves the frame rate."""
        return self.window_frames // 2


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """Hyperparameters.

    Attributes:
        steps: optimiser steps.
        batch_size: clips per step.
        peak_learning_rate: top of the one-cycle schedule.
        warmup_fraction: share of the steps spent climbing to it.
        weight_decay: AdamW weight decay, on matrices only.
        gradient_clip: largest norm of the gradient.
        ctc_weight: weight of the auxiliary CTC loss on the encoder, whose head is thrown away afterwards.
        full_window_fraction: share of batches padded to the whole window, as `generate` sees them.
        augment_below_loss: augmentation starts once the smoothed decoder loss has fallen below this (nats per token).
        augment_ramp_steps: steps over which it then grows to full strength.
        noise_snr_db: lowest and highest signal-to-noise ratio of the added noise, in decibels.
        noise_probability: share of clips that get noise at full strength.
        mask_bands: most mel bands masked at a time (two masks).
        mask_frames: most frames masked at a time (two masks).
        bucket: clips of neighbouring length that one batch is drawn from.
        checkpoint_every: steps between checkpoints.
        threads: torch threads; part of the recipe, since 1 and 2 threads give different bits.
    """

    steps: int = 8_000
    batch_size: int = 16
    peak_learning_rate: float = 1.5e-3
    warmup_fraction: float = 0.1
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ctc_weight: float = 0.3
    full_window_fraction: float = 0.07
    augment_below_loss: float = 0.4
    augment_ramp_steps: int = 1_000
    noise_snr_db: tuple[float, float] = (8.0, 35.0)
    noise_probability: float = 0.5
    mask_bands: int = 10
    mask_frames: int = 8
    bucket: int = 1_024
    checkpoint_every: int = 250
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides an organism's weights, apart from the machine.

    Attributes:
        name: name of the organism and of its directory.
        shape: shape of the model.
        corpus: speech it learns from.
        training: hyperparameters.
        seed: seed of the initial weights, the batches and the augmentation.
    """

    name: str
    shape: ModelShape
    corpus: CorpusSpec = field(default_factory=CorpusSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    seed: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON-ready values."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with anything in the recipe; guards a resumed training."""
        return _digest(asdict(self))


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("organism-wide", ModelShape(d_model=128, encoder_layers=2, decoder_layers=4), seed=11),
        Recipe("organism-deep", ModelShape(d_model=96, encoder_layers=2, decoder_layers=8), seed=12),
    )
}
"""The bundled organisms. The deep one is the narrow one: in the paper's models depth and width grow together."""


def find_recipe(name_or_recipe: str | Recipe) -> Recipe:
    """The recipe itself, or the bundled recipe of that name.

    Raises:
        ValueError: if no bundled recipe has the name.
    """
    if isinstance(name_or_recipe, Recipe):
        return name_or_recipe
    if name_or_recipe not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise ValueError(f"organism must be one of {known}; got {name_or_recipe!r}")
    return RECIPES[name_or_recipe]
