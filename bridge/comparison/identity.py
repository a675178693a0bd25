"""Whether a measured model may count as one of the Whisper checkpoints the paper speaks of.

Nothing can be proved from outside: a directory with the right dimensions may hold anything. So the ledger says "by
dimensions", and asks besides that the model transcribes the run's own clean clips (WER below 0.5), which random weights
do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridge.comparison.conditions import CLEAN
from bridge.comparison.records import RunTables

# (d_model, decoder layers) of the published checkpoints.
DIMENSIONS = {
    (384, 4): "tiny",
    (512, 6): "base",
    (768, 12): "small",
    (1024, 24): "medium",
    (1280, 32): "large",
    (1280, 4): "turbo",
}
WHISPER_VOCABULARY = 51_864
# <|startoftranscript|> of the English-only vocabulary, the smallest id a Whisper prompt starts with.
WHISPER_START_TOKEN = 50_257
CLEAN_WER = 0.5
# What the paper calls large is large-v3-turbo; the other large checkpoints are of its scale.
PAPER_FAMILIES = {"tiny": "tiny", "small": "small", "turbo": "large", "large": "large"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model counts as.

    Attributes:
        model: its name in the run.
        family: "tiny" .. "turbo" if it counts as that Whisper, else None.
        paper_family: "tiny", "small" or "large" if the paper speaks of it, else None.
        why: the evidence, in words.
    """

    model: str
    family: str | None
    paper_family: str | None
    why: str


def identify(tables: RunTables, model: str) -> Identity:
    """Identity of one model of a run, by dimensions, vocabulary and clean WER."""
    d_model, depth = tables.dimensions(model)
    if d_model is None or depth is None:
        return Identity(model, None, None, "no sample was heard, so that its dimensions are not in the records")
    family = DIMENSIONS.get((d_model, depth))
    size = f"d_model {d_model}, {depth} decoder layers"
    if family is None:
        return Identity(model, None, None, f"{size}: no published Whisper checkpoint has these dimensions")
    vocabulary = tables.model_settings(model).get("vocabulary") or tables.model_settings(model).get("vocab_size")
    clips = tables.clips[tables.clips["model"] == model]
    heard = clips if "tokens" in clips else tables.layers[tables.layers["model"] == model]
    largest = max((int(np.max(tokens)) for tokens in heard["tokens"] if len(tokens)), default=0)
    if vocabulary is not None and int(vocabulary) < WHISPER_VOCABULARY:
        return Identity(model, None, None, f"{size} of {family}, but a vocabulary of {int(vocabulary)}")
    if vocabulary is None and largest < WHISPER_START_TOKEN:
        return Identity(
            model, None, None, f"{size} of {family}, but no token above {largest}: not Whisper's vocabulary"
        )
    wer = clips.loc[clips["condition"] == CLEAN, "wer"].dropna()
    if wer.empty:
        return Identity(
            model, None, None, f"{size} of {family}, but no clean clip with a reference to show it can listen"
        )
    if float(wer.mean()) >= CLEAN_WER:
        return Identity(
            model, None, None, f"{size} of {family}, but a clean WER of {wer.mean():.2f}: it does not transcribe"
        )
    return Identity(
        model,
        family,
        PAPER_FAMILIES.get(family),
        f"{family} by dimensions ({size}), vocabulary and a clean WER of {wer.mean():.2f}; weights were not compared",
    )
