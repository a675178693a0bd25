"""`spi sweep` and `spi stress`: the phase map of the theory, and the manifest of stressed audio."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import ConfigError, NoUsableAudioError, OtherSettingsError
from bridge.running.config import make_config

if TYPE_CHECKING:
    from theory import SweepSpec

_GRID = "Grid: values a,b,c or first:last:count"


def sweep(
    out: Annotated[Path, typer.Option(help="Directory of sweep.nc and the phase map.")] = Path("runs/sweep"),
    gain: Annotated[str | None, typer.Option(help=f"{_GRID}, evenly spaced in the logarithm.")] = None,
    alignment: Annotated[str | None, typer.Option(help=f"{_GRID}.")] = None,
    gap: Annotated[str | None, typer.Option(help=f"{_GRID}.")] = None,
    depth: Annotated[str | None, typer.Option(help=f"{_GRID}, whole numbers.")] = None,
    dimension: Annotated[str | None, typer.Option(help=f"{_GRID}, whole numbers.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Chains a cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the whole sweep.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many cells, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Growth and collapse of random chains over a grid, with the boundaries of the theorem drawn on the map."""
    spec = _spec(
        {"gain": gain, "alignment": alignment, "gap": gap, "depth": depth, "dimension": dimension},
        {"seeds": seeds, "seed": seed},
    )
    shape = {name: len(getattr(spec, name)) for name in ("gain", "alignment", "gap", "depth", "dimension")}
    outcome: dict[str, Any] = {"grid": shape, "chains_a_cell": spec.seeds, "sweep": str(out / "sweep.nc")}
    if not dry_run:
        outcome |= _make_phase_map(spec, out)
    typer.echo(json.dumps(outcome, indent=2) if as_json else _in_words(outcome))


def stress(
    audio: Annotated[Path, typer.Option(help="Directory of audio.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Manifest to write, JSON lines.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same samples.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first N clips, which are then mixed among themselves.")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(help="Apply all of these to every clip. Default: one stress a clip, by seed.")
    ] = None,
    write_audio: Annotated[Path | None, typer.Option(help="Write the stressed audio to this directory too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Builds the "Hell" set: a manifest that fixes utterance, stress, parameters, achieved values and hashes."""
    chosen = None if conditions is None else make_config(None, {"conditions": conditions}).conditions
    _refuse_bad_targets(audio, out, write_audio)
    from tqdm import tqdm

    from empirical.clips import ClipError, scan_clips
    from empirical.manifest import write_manifest

    try:
        scan = scan_clips(audio)
    except ClipError as error:
        raise NoUsableAudioError(str(error)) from error
    clips = scan.clips[:limit]
    try:
        with tqdm(total=len(clips), desc="stressing", unit="clip", file=sys.stderr, disable=None) as bar:

            def advance() -> None:
                bar.update()

            made = write_manifest(clips, chosen, seed, out, write_audio, rejected=scan.rejected, progress=advance)
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not made.lines:
        raise NoUsableAudioError(f"no clip of {audio} could be stressed; see {made.quarantine}")
    outcome = {"manifest": str(out), "lines": made.lines, "quarantined": made.quarantined}
    if made.quarantine is not None:
        outcome["quarantine"] = str(made.quarantine)
    typer.echo(json.dumps(outcome, indent=2) if as_json else _in_words(outcome))


def _refuse_bad_targets(audio: Path, out: Path, write_audio: Path | None) -> None:
    """A manifest replaces only a manifest, and what is written is never input of the next run."""
    if out.is_file() and out.stat().st_size and not out.read_bytes().startswith(b'{"achieved"'):
        raise OtherSettingsError(f"{out} exists and is no manifest; choose another --out")
    if write_audio is not None and audio.resolve() in (write_audio.resolve(), *write_audio.resolve().parents):
        raise ConfigError(f"--write-audio must not lie inside --audio, whose clips it would add to; got {write_audio}")


def _spec(grids: dict[str, str | None], numbers: dict[str, int | None]) -> SweepSpec:
    from dataclasses import replace

    from bridge.running.pool import limit_threads

    limit_threads()
    import theory

    changes: dict[str, Any] = {name: _grid(name, text) for name, text in grids.items() if text is not None}
    changes |= {name: number for name, number in numbers.items() if number is not None}
    try:
        return replace(theory.default_sweep(), **changes)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _grid(name: str, text: str) -> tuple[float, ...]:
    import numpy as np

    whole = name in ("depth", "dimension")
    try:
        if ":" in text:
            first, last, count = text.split(":")
            space = np.geomspace if name == "gain" else np.linspace
            values = np.round(space(float(first), float(last), int(count)), 12).tolist()
        else:
            values = [float(part) for part in text.split(",")]
        if not np.isfinite(values).all():
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name} must be finite values a,b,c or first:last:count; got {text!r}") from error
    return tuple(int(value) if whole and float(value).is_integer() else value for value in values)


def _make_phase_map(spec: SweepSpec, out: Path) -> dict[str, Any]:
    from bridge.reporting.figures.phase import phase_map
    from bridge.reporting.figures.style import save
    from bridge.running.phasemap import holds_other_sweep, read_sweep, write_sweep

    path = out / "sweep.nc"
    if holds_other_sweep(spec, path):
        raise OtherSettingsError(f"{path} holds the sweep of another grid; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OtherSettingsError(f"{out} cannot be made: {error.strerror or error}") from error
    computed = write_sweep(spec, path)
    save(phase_map(read_sweep(path)), out, "phase_map")
    return {"computed": computed, "figures": [str(out / f"phase_map.{kind}") for kind in ("svg", "png")]}


def _in_words(outcome: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in outcome.items())
