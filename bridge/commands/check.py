"""`spi check`: each verdict on the paper's mathematics, C1-C5, made anew and alone."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import ConfigError, OtherSettingsError, RunInterruptedError

if TYPE_CHECKING:
    from theory.claims.training import Run
    from theory.training.conditions import Condition

_CLAIMS = ("C1", "C2", "C3", "C4", "C5")

_FORMAT = 1
"""Of the kept conditions; another number makes them anew. To be raised whenever training gives other numbers."""


def check(
    claims: Annotated[list[str] | None, typer.Argument(help="Among C1 to C5, or all.", show_default="all")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of each check's own; C1 has no chance in it.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="More chains (C3, C4); every condition and 32 seeds of C5: minutes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory of checks.json and figures; a stopped C5 goes on from it.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The lines of the ledger with their details, as JSON.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")] = False,
) -> None:
    """The verdicts on the paper's mathematics, each from its own simulation: needs no model, no audio and no run."""
    chosen = _chosen(claims or ["all"])
    if seed is not None and seed < 0:
        raise ConfigError(f"seed must be at least 0; got {seed}")
    if out is not None:
        _prepare(out)
    from bridge.running.pool import limit_threads

    limit_threads()
    from bridge.ledger import theory_claims
    from bridge.reporting.results import strict
    from bridge.running.interruption import interruptible

    found = []
    rows: list[dict[str, Any]] = []
    try:
        with interruptible() as unless_stopped:
            for name in chosen:
                if name == "C5":
                    made = _train(seed, full, out, quiet, unless_stopped)
                    rows = made.details["rows"]
                else:
                    made = theory_claims.check(name, seed=seed, full=full)
                unless_stopped()
                line = theory_claims.line_of(made, theory_claims.command_of(name, seed=seed, full=full))
                found.append(line | {"details": _without_curves(made.details)})
    except KeyboardInterrupt:
        raise RunInterruptedError(_how_to_resume(chosen, out)) from None
    lines = strict(found)
    if out is not None:
        from bridge.running.files import write_json

        if rows:
            _draw(rows, out)
        write_json(out / "checks.json", {"checks": lines})
    typer.echo(json.dumps(lines, indent=2, ensure_ascii=False, allow_nan=False) if as_json else _in_words(lines))


def _chosen(claims: list[str]) -> list[str]:
    """The claims asked for, each once, in order.

    Raises:
        ConfigError: for a name that is none.
    """
    asked = {claim.upper() for claim in claims}
    for claim in claims:
        if claim.upper() not in (*_CLAIMS, "ALL"):
            raise ConfigError(f"claim must be one of {', '.join(_CLAIMS)} or all; got {claim!r}")
    return [name for name in _CLAIMS if name in asked or "ALL" in asked]


def _prepare(out: Path) -> None:
    """Makes the directory before the work.

    Raises:
        OtherSettingsError: if it cannot be made, or holds a checks.json that this command did not write.
    """
    try:
        (out / "conditions").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OtherSettingsError(f"{out} cannot be made: {error.strerror or error}") from error
    path = out / "checks.json"
    if path.exists() and set(_read(path) or {}) != {"checks"}:
        raise OtherSettingsError(f"{path} exists and was not written by spi check; choose another --out")


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON mapping; None where there is none, or none that is whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _how_to_resume(chosen: list[str], out: Path | None) -> str:
    if "C5" in chosen and out is not None:
        kept = len(list((out / "conditions").glob("*.json")))
        return f"interrupted; the same command goes on from the {kept} conditions of C5 in {out / 'conditions'}"
    return "interrupted; nothing was kept" + ("; with --out a stopped C5 goes on" if "C5" in chosen else "")


def _train(seed: int | None, full: bool, out: Path | None, quiet: bool, unless_stopped: Callable[[], None]) -> Any:
    from tqdm import tqdm

    from bridge.ledger import theory_claims

    with tqdm(desc="training", unit="step", file=sys.stderr, disable=True if quiet else None) as bar:

        def advance(steps: int) -> None:
            bar.update(steps)
            unless_stopped()

        return theory_claims.check("C5", seed=seed, full=full, run=_runner(out, advance, bar.set_postfix_str))


def _runner(out: Path | None, advance: Callable[[int], Any], say: Callable[[str], Any]) -> Run:
    """How conditions are run: with progress and, given a directory, kept there and read back by a later call."""
    from dataclasses import asdict

    from bridge.running.files import write_json
    from theory.claims.training import summary
    from theory.training.trajectory import train

    def run(condition: Condition) -> dict[str, Any]:
        say(condition.name)
        wanted = asdict(condition.spec)
        described = json.dumps({"format": _FORMAT, "spec": wanted}, sort_keys=True)
        digest = hashlib.sha256(described.encode()).hexdigest()[:16]
        path = None if out is None else out / "conditions" / f"{digest}.json"
        kept = None if path is None else _read(path)
        if kept is not None and kept.get("spec") == wanted and kept.get("name") == condition.name:
            advance(condition.spec.steps)
            return kept
        row = summary(condition, train(condition.spec, advance))
        if path is not None:
            write_json(path, row)
        return row

    return run


def _draw(rows: list[dict[str, Any]], out: Path) -> None:
    from bridge.reporting.figures import save, training_curves, training_effects

    judged = [row for row in rows if row["decides"]]
    save(training_curves(judged, ("alignment", "gap", "gain")), out, "training-curves")
    save(training_effects(rows), out, "training-effects")
    for network in dict.fromkeys(row["spec"]["network"] for row in rows):
        others = [row for row in rows if row["spec"]["network"] == network and not row["decides"]]
        aligned = [row for row in others if row["side"] == "above"]
        if aligned:
            save(training_curves(aligned, ("alignment", "gap", "gain")), out, f"training-curves-aligned-{network}")


def _without_curves(details: dict[str, Any]) -> dict[str, Any]:
    """The details but for the curves, which are long and stand in the figures and the conditions' files."""
    if not any("curves" in row for row in details.get("rows", [])):
        return details
    return details | {"rows": [{k: v for k, v in row.items() if k != "curves"} for row in details["rows"]]}


def _in_words(lines: list[dict[str, Any]]) -> str:
    parts = []
    for line in lines:
        low, high = line["interval"]
        side = "above" if line["direction"] == "greater" else "below"
        parts += [
            f"{line['id']}  {line['verdict']}  {line['title']}",
            f"    {line['test']}",
            f"    effect {line['effect']:.4g} [{low:.4g}, {high:.4g}], n = {line['n']}; claimed: {side} "
            f"{line['least_effect']:g}",
            f"    {line['why']}",
        ]
        parts += [f"    {line['scope']}"] if line["scope"] else []
    return "\n".join(parts)
