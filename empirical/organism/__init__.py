"""Model organisms: small Whisper models trained on synthetic speech by a recipe that lives here.

Nothing that measures a model imports this package: an organism is an ordinary checkpoint directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from empirical.organism.bundle import OrganismInfo, list_organisms, organism_path, read_organism
from empirical.organism.grammar import Grammar
from empirical.organism.heldout import write_held_out_clips
from empirical.organism.recipe import RECIPES, CorpusSpec, ModelShape, Recipe, TrainingSpec, find_recipe
from empirical.organism.render import RenderError
from empirical.organism.voices import Voice, VoiceSet

if TYPE_CHECKING:
    from empirical.organism.pipeline import train

__all__ = [
    "RECIPES",
    "CorpusSpec",
    "Grammar",
    "ModelShape",
    "OrganismInfo",
    "Recipe",
    "RenderError",
    "TrainingSpec",
    "Voice",
    "VoiceSet",
    "find_recipe",
    "list_organisms",
    "organism_path",
    "read_organism",
    "train",
    "write_held_out_clips",
]


def __getattr__(name: str) -> Any:
    # Training imports torch and transformers, which takes seconds; listing the organisms should not.
    if name == "train":
        from empirical.organism.pipeline import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
