"""Rules of the labels that a run was given: kept beside its records, for a resumed run is labelled anew.

rules.json in the run's directory holds what differs from the defaults: thresholds by name, and phrases and spellings
whole, so that the files they came from need not be there any more.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError
from bridge.running.files import write_json
from empirical.recognition.labels import Rules
from empirical.recognition.phrases import phrase_list
from empirical.recognition.words import Spellings

NAME = "rules.json"
SCHEMA_VERSION = 1
_PLAIN = tuple(one.name for one in fields(Rules) if one.name not in ("unrelated", "phrases", "spellings"))
"""Thresholds that are given; `unrelated` is calibrated on each run."""


def write_rules(root: Path, rules: Rules) -> None:
    """Keeps the rules, or forgets the ones kept before where these are the defaults.

    Args:
        root: the run.
        rules: those it was labelled by.
    """
    defaults = Rules()
    kept: dict[str, Any] = {
        name: getattr(rules, name) for name in _PLAIN if getattr(rules, name) != getattr(defaults, name)
    }
    if rules.phrases is not None:
        phrases = [" ".join(words) for words in rules.phrases.phrases]
        kept["phrases"] = {"source": rules.phrases.source, "phrases": phrases}
    if rules.spellings != defaults.spellings:
        kept["spellings"] = {"source": rules.spellings.source, "pairs": dict(rules.spellings.pairs)}
    if kept:
        write_json(root / NAME, {"schema_version": SCHEMA_VERSION, **kept})
    else:
        (root / NAME).unlink(missing_ok=True)


def read_rules(root: Path) -> Rules:
    """The rules that a run was given; the defaults where it was given none.

    Raises:
        ConfigError: if what was kept cannot be read.
    """
    path = root / NAME
    if not path.is_file():
        return Rules()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("schema_version", None) != SCHEMA_VERSION:
            raise ValueError(f"schema_version must be {SCHEMA_VERSION}")
        rules = Rules()
        if (phrases := kept.pop("phrases", None)) is not None:
            rules = replace(rules, phrases=phrase_list(phrases["phrases"], str(phrases["source"])))
        if (spellings := kept.pop("spellings", None)) is not None:
            pairs = tuple(sorted((str(one), str(other)) for one, other in spellings["pairs"].items()))
            rules = replace(rules, spellings=Spellings(pairs, str(spellings["source"])))
        if unknown := sorted(set(kept) - set(_PLAIN)):
            raise ValueError(f"it has {', '.join(unknown)}")
        return replace(rules, **kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} must hold rules as spi rescore keeps them; got {error}") from error
