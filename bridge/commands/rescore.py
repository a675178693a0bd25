"""`spi rescore`: scores and labels of a run from its texts, without a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bridge.errors import ConfigError


def rescore(
    directory: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    phrases: Annotated[
        Path | None,
        typer.Option(help="Phrases that count as hallucinated: text, one a line, or CSV, in the first column."),
    ] = None,
    spellings: Annotated[
        Path | None, typer.Option(help="normalizer.json: spellings that count as one. Default: none.")
    ] = None,
    default_rules: Annotated[
        bool, typer.Option("--default-rules", help="Forget the phrases and spellings that the run was given before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Counts word errors and labels failures of a run anew, from its transcripts alone; says what changed.

    Phrases and spellings that are given stay with the run, which is labelled by them whenever it is merged again.
    """
    from bridge.running.pool import limit_threads

    limit_threads()
    from bridge.running.label_rules import read_rules
    from bridge.running.rescoring import rescore as scored_again
    from empirical.recognition.labels import Rules
    from empirical.recognition.phrases import load_phrases
    from empirical.recognition.words import load_spellings

    try:
        listed = None if phrases is None else load_phrases(phrases)
        mapped = None if spellings is None else load_spellings(spellings)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rules = Rules() if default_rules else None
    if listed is not None or mapped is not None:
        kept = Rules() if default_rules else read_rules(directory)
        rules = replace(kept, phrases=listed or kept.phrases, spellings=mapped or kept.spellings)
    found = scored_again(directory, rules)
    if as_json:
        outcome = {
            "clips": str(found.clips),
            "details": str(found.details),
            "detectors": None if found.detectors is None else str(found.detectors),
            "rows": found.rows,
            "changed": found.changed,
            "labels": found.labelled,
        }
        typer.echo(json.dumps(outcome, indent=2, allow_nan=False))
        return
    changed = ", ".join(f"{count} of {name}" for name, count in found.changed.items())
    typer.echo(f"{found.clips}: {found.rows} rows, changed: {changed or 'no score'}")
    for row in found.labelled:
        interval = f"{row['low']:.2f}..{row['high']:.2f}"
        typer.echo(f"{row['model']}\t{row['label']}\t{row['count']} of {row['n']}\t{row['share']:.3f} ({interval})")
