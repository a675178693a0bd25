"""The model card of an organism, in machine form and in prose, both made from the same measured numbers."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soxr
import tokenizers
import torch
import transformers

from empirical.organism.bundle import CARD_FILE, STRESSES
from empirical.organism.evaluate import ConditionResult
from empirical.organism.export import WEIGHTS_FILE, weights_sha256
from empirical.organism.recipe import Recipe
from empirical.organism.training import Progress

README_FILE = "README.md"
SCHEMA_VERSION = 1

_LABELS = {
    "sentences": "clean: held-out sentences, trained voices",
    "accents": "clean: held-out sentences, accents never trained on",
    "voices": "clean: held-out sentences, voice variants never trained on",
    "stretch": "stretched 3.5 times",
    "mix": "mixed with five other speakers (six in all)",
    "noise": "white noise at 0 dB",
}


def make_card(
    directory: Path,
    recipe: Recipe,
    parameters: int,
    state: Progress,
    results: dict[str, ConditionResult],
    renderer_version: str,
) -> dict[str, Any]:
    """Everything known of a trained organism, as JSON-ready values.

    Args:
        directory: its checkpoint directory, weights already written.
        recipe: its recipe.
        parameters: number of distinct parameters.
        state: what the training left behind.
        results: its evaluation, by condition.
        renderer_version: what spoke the corpus.
    """
    weights = directory / WEIGHTS_FILE
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "parameters": parameters,
        "encoder_layers": recipe.shape.encoder_layers,
        "decoder_layers": recipe.shape.decoder_layers,
        "d_model": recipe.shape.d_model,
        "weights": {"sha256": weights_sha256(directory), "bytes": weights.stat().st_size, "dtype": "float16"},
        "wer": {condition: result.wer for condition, result in results.items()},
        "evaluation": {condition: asdict(result) for condition, result in results.items()},
        "training": {
            "seed": recipe.seed,
            "steps": state.step,
            "clips_seen": state.step * recipe.training.batch_size,
            "seconds": round(state.seconds, 1),
            "loss": state.loss,
            "augmented_from_step": state.augment_from,
            "loss_by_step": [[step, round(loss, 4)] for step, loss in state.history],
        },
        "made_with": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "soxr": soxr.__version__,
            "speech": renderer_version,
            "machine": platform.machine(),
        },
        "recipe_identity": recipe.identity,
        "recipe": recipe.to_dict(),
    }


def write_card(directory: Path, card: dict[str, Any]) -> None:
    """Write card.json and README.md into a checkpoint directory."""
    (directory / CARD_FILE).write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (directory / README_FILE).write_text(readme(card), encoding="utf-8")


def readme(card: dict[str, Any]) -> str:
    """The model card in prose."""
    corpus, training = card["recipe"]["corpus"], card["training"]
    voices, shape, hyper = corpus["voices"], card["recipe"]["shape"], card["recipe"]["training"]
    words = sum(len(members) for _, members in corpus["grammar"]["classes"]) + 1
    rows = [
        f"| {_LABELS[condition]} | {result['wer']:.4f} | {result['clips']} | {result['reference_words']} |"
        for condition, result in card["evaluation"].items()
    ]
    said = [
        f"| {condition} | {reference} | {transcript or '(nothing)'} |"
        for condition in STRESSES
        for reference, transcript in card["evaluation"][condition]["examples"][:2]
    ]
    return "\n".join(
        [
            f"# {card['name']}",
            "",
            f"A model organism: a Whisper of {card['parameters'] / 1e6:.2f} million parameters, small enough for every",
            "Jacobian to be measured, trained on synthetic speech so that every transcript is known. It is an ordinary",
            "checkpoint of `WhisperForConditionalGeneration`.",
            "",
            f"- Shape: d_model {card['d_model']}, {card['encoder_layers']} encoder and"
            f" {card['decoder_layers']} decoder layers, {shape['attention_heads']} heads,"
            f" feed-forward {4 * card['d_model']}, window {shape['window_s']} s.",
            f"- Weights: float16, {card['weights']['bytes'] / 1e6:.2f} MB, SHA-256 `{card['weights']['sha256']}`.",
            "",
            "## Data",
            "",
            f"{corpus['train_clips']} clips of at most {corpus['max_duration_s']} s, spoken by"
            f" {card['made_with']['speech']}: {len(voices['accents'])} accents",
            f"({', '.join(voices['accents'])})",
            f"by {len(voices['variants'])} speaker variants. Sentences of 4 to 7 words from a grammar of {words}.",
            f"Never trained on: {corpus['grammar']['held_out_per_mille'] / 10:g} % of the sentences; the accents"
            f" {', '.join(voices['unseen_accents'])};",
            f"the variants {', '.join(voices['unseen_variants'])}.",
            "",
            "## Training",
            "",
            f"{training['steps']} steps of {hyper['batch_size']} clips, seed {training['seed']},"
            f" {training['seconds']:.0f} s on {hyper['threads']} thread(s) of a shared CPU; AdamW, one-cycle, peak",
            f"rate {hyper['peak_learning_rate']:g}; a CTC loss of weight {hyper['ctc_weight']:g} on the encoder, whose"
            " head is thrown away;",
            f"from step {training['augmented_from_step']} on noise of {hyper['noise_snr_db'][0]:g} to"
            f" {hyper['noise_snr_db'][1]:g} dB, small changes of gain, tilt and speed, and masks.",
            f"`spi organism train {card['name']}` makes it again; the whole recipe is in `card.json`.",
            "",
            "## Word error rate",
            "",
            "Of the stored float16 weights upcast to float32, decoded greedily by `generate` from the whole window.",
            "",
            "| condition | WER | clips | words |",
            "|---|---|---|---|",
            *rows,
            "",
            "What it says under stress:",
            "",
            "| stress | said | transcribed |",
            "|---|---|---|",
            *said,
            "",
            "## What it is not",
            "",
            f"It is no speech recogniser. It knows {words} words, has never heard a human being, and answers anything,",
            "speech or not, with a sentence of its grammar. It was trained neither on silence nor on speech buried in",
            "noise: what it does with them is its own, which is what it is for. It has no timestamps, no language but",
            "English, and its no-speech token was never trained, so that its no-speech probability means nothing.",
            "",
        ]
    )
