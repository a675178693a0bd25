"""A corpus small enough for tests, spoken by a renderer that needs no espeak-ng: every word is a chord of its own."""

from __future__ import annotations

import hashlib

import numpy as np

from empirical.organism.grammar import Grammar
from empirical.organism.recipe import SAMPLE_RATE_HZ, CorpusSpec, ModelShape, Recipe, TrainingSpec
from empirical.organism.render import finish
from empirical.organism.voices import Voice, VoiceSet

WORD_S = 0.12

GRAMMAR = Grammar(
    classes=(("D", ("the", "my")), ("N", ("dog", "cat", "king", "ship", "tree")), ("V", ("runs", "sings", "falls"))),
    patterns=("D N V", "D N and D N V"),
    held_out_per_mille=300,
    dev_per_mille=100,
)
VOICES = VoiceSet(
    accents=("north", "south"),
    variants=("a", "b", "c", "d", "e", "f", "g", "h"),
    unseen_accents=("east",),
    unseen_variants=("x", "y"),
)
CORPUS = CorpusSpec(grammar=GRAMMAR, voices=VOICES, train_clips=40, test_clips=8, max_duration_s=1.0, seed=5)
SHAPE = ModelShape(
    d_model=16,
    encoder_layers=1,
    decoder_layers=2,
    attention_heads=2,
    window_s=4,
    max_target_positions=24,
    bpe_pieces=40,
)
TRAINING = TrainingSpec(
    steps=12,
    batch_size=4,
    full_window_fraction=0.25,
    augment_below_loss=100.0,
    augment_ramp_steps=4,
    bucket=16,
    checkpoint_every=5,
)
RECIPE = Recipe(name="tiny", shape=SHAPE, corpus=CORPUS, training=TRAINING, seed=3)


class ToneRenderer:
    """Speaks chords; a voice shifts their pitch. Counts what it was asked for."""

    version = "tones"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, sentence: str, voice: Voice) -> np.ndarray:
        self.calls += 1
        shift = 1.0 + (int(hashlib.sha256(voice.name.encode()).hexdigest(), 16) % 100) / 500.0
        time_s = np.arange(int(WORD_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        words = []
        for word in sentence.split():
            code = int(hashlib.sha256(word.encode()).hexdigest(), 16)
            tones = [200.0 + (code >> (11 * k)) % 3000 for k in range(3)]
            words.append(sum(np.sin(2 * np.pi * shift * tone * time_s) for tone in tones) * np.hanning(len(time_s)))
        return finish(np.concatenate(words).astype(np.float32), SAMPLE_RATE_HZ)
