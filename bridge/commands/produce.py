"""`spi stress`: the manifest of stressed audio."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.errors import ConfigError, NoUsableAudioError, OtherSettingsError, reason
from bridge.running.config import make_config


def stress(
    audio: Annotated[Path, typer.Option(help="Directory of audio, or a .jsonl or .tsv manifest.", show_default=False)],
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

    from empirical.speech.clips import ClipError, scan_clips
    from empirical.speech.manifest import write_manifest

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
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {reason(error)}") from error
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


def _in_words(outcome: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in outcome.items())
