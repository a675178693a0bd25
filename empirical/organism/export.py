"""Writes an organism as an ordinary Hugging Face checkpoint directory."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import WhisperForConditionalGeneration
from transformers.utils import logging

from empirical.organism.features import make_feature_extractor
from empirical.organism.recipe import Recipe
from empirical.organism.tokens import build_tokenizer

WEIGHTS_FILE = "model.safetensors"


def write_checkpoint(
    model: WhisperForConditionalGeneration, recipe: Recipe, sentences: tuple[str, ...], directory: Path
) -> None:
    """Write config, float16 weights, generation config, tokenizer and feature extractor into a directory.

    Args:
        model: trained model, float32; it is left as it is.
        recipe: its recipe.
        sentences: text the tokenizer was learnt from; learning it again gives the same files.
        directory: existing directory.
    """
    build_tokenizer(sentences, recipe.shape.bpe_pieces, directory)
    # transformers 5 saves a processor as processor_config.json alone; 4.57 reads preprocessor_config.json.
    make_feature_extractor(recipe.shape).save_pretrained(directory)
    with quiet_transformers():
        copy.deepcopy(model).half().save_pretrained(directory)
    # safetensors writes for the owner alone; a checkpoint is for every reader.
    (directory / WEIGHTS_FILE).chmod(0o644)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal, where they would break ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def weights_sha256(directory: Path) -> str:
    """SHA-256 of the weights file of a checkpoint directory, hexadecimal."""
    return hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
