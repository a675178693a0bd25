"""The organisms that come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CARD_FILE = "card.json"
STRESSES = ("stretch", "mix", "noise")
"""Conditions of the evaluation besides clean speech, by their names in `empirical.stress`."""

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
_ORGANISMS = BUNDLED / "organisms"


@dataclass(frozen=True, slots=True)
class OrganismInfo:
    """One bundled organism, as its card describes it.

    Attributes:
        name: its name.
        path: its checkpoint directory, absolute.
        parameters: number of distinct parameters.
        encoder_layers: encoder layers.
        layers: decoder layers.
        d_model: width.
        wer_clean: WER on held-out sentences in trained voices.
        wer_unseen_accents: WER on accents never trained on.
        wer_unseen_voices: WER on voice variants never trained on.
        wer_stressed: WER by stress: "stretch", "mix", "noise".
        sha256: SHA-256 of model.safetensors, hexadecimal.
    """

    name: str
    path: Path
    parameters: int
    encoder_layers: int
    layers: int
    d_model: int
    wer_clean: float
    wer_unseen_accents: float
    wer_unseen_voices: float
    wer_stressed: dict[str, float]
    sha256: str


def read_organism(directory: Path) -> OrganismInfo:
    """Describe one organism from the card in its directory.

    Raises:
        ValueError: if the directory holds no readable card.
    """
    path = directory / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        wer = card["wer"]
        return OrganismInfo(
            name=card["name"],
            path=directory.resolve(),
            parameters=card["parameters"],
            encoder_layers=card["encoder_layers"],
            layers=card["decoder_layers"],
            d_model=card["d_model"],
            wer_clean=wer["sentences"],
            wer_unseen_accents=wer["accents"],
            wer_unseen_voices=wer["voices"],
            wer_stressed={stress: wer[stress] for stress in STRESSES},
            sha256=card["weights"]["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"an organism's directory must hold a readable {CARD_FILE}; got {directory}") from error


def list_organisms() -> list[OrganismInfo]:
    """The bundled organisms, sorted by name."""
    return [read_organism(path.parent) for path in sorted(_ORGANISMS.glob(f"*/{CARD_FILE}"))]


def organism_path(name: str) -> Path:
    """Checkpoint directory of a bundled organism, absolute.

    Raises:
        ValueError: if there is no such organism.
    """
    known = {organism.name: organism.path for organism in list_organisms()}
    if name not in known:
        raise ValueError(f"organism must be one of {', '.join(known) or '(none bundled)'}; got {name!r}")
    return known[name]
