"""Commands that read a run directory, or the machine, and say what is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import ConfigError, OtherSettingsError, reason

if TYPE_CHECKING:
    from bridge.comparison.records import RunTables

Directory = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]

_SHOWN = ["model", "clip", "condition", "state", "predicted_paper", "predicted_certificate", "predicted_mean_field"]


def compare(directory: Directory, as_json: AsJson = False) -> None:
    """Predicted against observed regime of every model, clip, condition and state of a run."""
    tables = _load(directory)
    if not tables.measured:
        raise ConfigError(f"{directory} measured no Jacobian: it only listened (--states none)")
    from bridge import compare as compared

    table = compared(tables.layers, tables.clips, tables.nulls)
    if as_json:
        typer.echo(table.to_json(orient="records", double_precision=15, indent=2))
        return
    typer.echo(table[[*_SHOWN, "observed", "reason"]].to_csv(index=False, sep="\t"), nl=False)


def claims(directory: Directory, as_json: AsJson = False) -> None:
    """The ledger of the paper's claims, each with the test that was made of it and a verdict."""
    ledger = _ledger(directory)
    if as_json:
        typer.echo(json.dumps(ledger, indent=2, ensure_ascii=False, allow_nan=False))
        return
    for claim in ledger:
        typer.echo(f"{claim['id']:<4} {claim['verdict']:<12} {claim['title']}")


def report(directory: Directory) -> None:
    """Makes report.html, results.json and the figures of a run anew from its records."""
    _load(directory)
    from tqdm import tqdm

    from bridge import write_report

    try:
        with tqdm(desc="pooling", unit="group", file=sys.stderr, disable=None) as bar:

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            write_report(directory, progress=advance)
    except OSError as error:
        raise OtherSettingsError(f"{directory} cannot be written: {reason(error)}") from error
    typer.echo(str(directory / "report.html"))


def doctor(as_json: AsJson = False) -> None:
    """What this machine can run, and why not."""
    from bridge.doctor import examine, render

    found = examine()
    typer.echo(json.dumps(found, indent=2) if as_json else render(found))


def _ledger(directory: Path) -> list[dict[str, Any]]:
    """The claims in results.json, else from the records."""
    try:
        stored = json.loads((directory / "results.json").read_text(encoding="utf-8"))["claims"]
    except (OSError, ValueError, KeyError, TypeError):
        stored = None
    if isinstance(stored, list):
        return stored
    tables = _load(directory)
    from bridge.reporting.results import ledger

    return ledger(tables)


def _load(directory: Path) -> RunTables:
    """The records of a run.

    Raises:
        ConfigError: if the directory is no run, or has no readable records yet.
    """
    if not (directory / "settings.json").is_file():
        raise ConfigError(f"{directory} is not a run directory: it has no settings.json")
    from bridge.running.pool import limit_threads

    limit_threads()
    import pyarrow as pa

    from bridge.comparison.records import load_run

    try:
        return load_run(directory)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
