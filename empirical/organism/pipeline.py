"""Training of an organism from nothing to a finished checkpoint directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from empirical.organism import tokens
from empirical.organism.batches import Batches
from empirical.organism.bundle import CARD_FILE, OrganismInfo, read_organism
from empirical.organism.card import make_card, write_card
from empirical.organism.corpus import TEST_SETS, held_out_clips, training_data
from empirical.organism.evaluate import evaluate
from empirical.organism.export import write_checkpoint
from empirical.organism.features import LogMel, make_feature_extractor, white_noise_power
from empirical.organism.files import write_directory
from empirical.organism.recipe import Recipe, find_recipe
from empirical.organism.render import Espeak, Renderer
from empirical.organism.training import Trainer


def train(
    name_or_recipe: str | Recipe,
    out_dir: str | Path,
    *,
    seed: int | None = None,
    work_dir: str | Path,
    resume: bool = True,
    progress: bool = True,
    limit_steps: int | None = None,
    renderer: Callable[[], Renderer] = Espeak,
) -> OrganismInfo:
    """Render the corpus, train, evaluate, and write a checkpoint directory with its model card.

    An interrupted training goes on from its last checkpoint and ends with the weights an unbroken one would have had.
    The same recipe on the same machine gives the same weights.

    Args:
        name_or_recipe: name of a bundled recipe, or a recipe.
        out_dir: becomes the checkpoint directory; must be new, empty or an organism, which is then replaced.
        seed: seed of weights, batches and augmentation instead of the recipe's; the corpus has its own.
        work_dir: caches and checkpoints; about 350 MB for a bundled recipe.
        resume: go on from a checkpoint of the same recipe in `work_dir`.
        progress: show bars when on a terminal.
        limit_steps: shorten the schedule to this many steps, for a trial.
        renderer: makes what speaks; espeak-ng by default.

    Returns:
        What was made, as its card says.

    Raises:
        ValueError: on an unknown name, a non-positive `limit_steps` or an `out_dir` that holds something else.
        RenderError: if espeak-ng is missing or fails.
    """
    recipe, target, work = _settle(find_recipe(name_or_recipe), seed, limit_steps), Path(out_dir), Path(work_dir)
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / CARD_FILE).is_file())):
        raise ValueError(f"out_dir must be new, empty or an organism's directory; got {target}")
    trainer, sentences = prepare(recipe, work, resume=resume, progress=progress, renderer=renderer)
    trainer.run(progress=progress)
    test_sets = {
        name: held_out_clips(recipe.corpus, split, group, recipe.corpus.test_clips, renderer, work, progress=progress)
        for name, (split, group) in TEST_SETS.items()
    }

    def write(directory: Path) -> None:
        write_checkpoint(trainer.model, recipe, sentences, directory)
        results = evaluate(directory, test_sets, recipe.corpus.seed, progress=progress)
        version = getattr(renderer(), "version", "a test renderer")
        parameters = trainer.model.num_parameters()
        write_card(directory, make_card(directory, recipe, parameters, trainer.progress, results, version))

    write_directory(target, write)
    return read_organism(target)


def prepare(
    recipe: Recipe,
    work_dir: Path,
    *,
    resume: bool = True,
    progress: bool = False,
    renderer: Callable[[], Renderer] = Espeak,
) -> tuple[Trainer, tuple[str, ...]]:
    """A trainer ready to run, at its last checkpoint if there is one, and the sentences of its corpus.

    The trainer's files lie in `work_dir/<name>-<identity of the recipe>`, so recipes never mix.
    """
    data = training_data(recipe.corpus, recipe.shape, renderer, work_dir, progress=progress)
    own = work_dir / f"{recipe.name}-{recipe.identity}"
    own.mkdir(parents=True, exist_ok=True)
    tokenizer = tokens.build_tokenizer(data.texts, recipe.shape.bpe_pieces, own)
    log_mel = LogMel(make_feature_extractor(recipe.shape))
    batches = Batches(
        data,
        [tokens.text_ids(tokenizer, text) for text in data.texts],
        tokens.prompt_ids(tokenizer),
        tokens.token_id(tokenizer, tokens.END_OF_TEXT),
        white_noise_power(log_mel, np.random.default_rng(recipe.seed)),
        recipe.training,
        recipe.shape.window_frames,
        recipe.seed,
    )
    return Trainer(recipe, tokenizer, batches, own / "training.pt", resume=resume), data.texts


def _settle(recipe: Recipe, seed: int | None, limit_steps: int | None) -> Recipe:
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    if limit_steps is not None:
        if limit_steps < 1:
            raise ValueError(f"limit_steps must be at least 1; got {limit_steps}")
        recipe = replace(recipe, training=replace(recipe.training, steps=min(limit_steps, recipe.training.steps)))
    return recipe
