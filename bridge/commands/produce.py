"""`spi stress`: the manifest of stressed audio, and whether it can still be made."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bridge.errors import ConfigError, ExitCode, NoUsableAudioError, OtherSettingsError, RunInterruptedError, reason
from bridge.running.interruption import interruptible

if TYPE_CHECKING:
    from empirical.speech.manifest import Stresses
    from empirical.speech.records import ClipScan

_NAMED = 5
"""Samples that a check names in words; --json names all."""


def stress(
    audio: Annotated[Path, typer.Option(help="Directory of audio, or a .jsonl or .tsv manifest.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Manifest to write, JSON lines.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same samples.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="The first N clips, which are then mixed among themselves; with --check, of the manifest."
        ),
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="Stresses, separated by commas: stretch, noise:snr_db=5, noise:snr_db=20/10/0 (a ladder), "
            "reverberation+noise. Default: stretch,mix,noise.",
            show_default=False,
        ),
    ] = None,
    stresses: Annotated[
        str | None,
        typer.Option(
            help="all the stresses on every clip, or one of them by seed. Default: one; all with --conditions.",
            show_default=False,
        ),
    ] = None,
    noise_dir: Annotated[
        Path | None, typer.Option(help="Recordings that noise:kind=folder is taken from.", show_default=False)
    ] = None,
    window: Annotated[
        float, typer.Option(help="Seconds that the model hears; a longer result is marked truncated.")
    ] = 30.0,
    write_audio: Annotated[
        Path | None, typer.Option(help="Write the stressed audio to this directory too.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing: make this manifest's samples again and compare hashes.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Builds the "Hell" set: a manifest that fixes utterance, stress, parameters, achieved values and hashes.

    An interrupted build goes on with the same command. --check exits with 7 where a sample is not what was recorded.
    """
    from empirical.speech.manifest_records import ManifestError
    from empirical.speech.records import ClipError

    if (out is None) == (check is None):
        raise ConfigError("--out or --check must be given, and not both")
    if check is not None:
        given = {"--conditions": conditions, "--stresses": stresses, "--write-audio": write_audio, "--dry-run": dry_run}
        for option, value in given.items():
            if value not in (None, False):
                raise ConfigError(
                    f"{option} must not be given with --check, which writes nothing and makes the lines of {check}"
                )
    labels = None if conditions is None else tuple(part.strip() for part in conditions.split(","))
    asked = _Asked(audio, limit, labels, seed, cast("Stresses | None", stresses), noise_dir)
    try:
        if check is not None:
            _check(check, audio, noise_dir, limit, quiet=quiet, as_json=as_json)
        elif out is not None and not dry_run:
            _build(asked, out, write_audio, window, quiet=quiet, as_json=as_json)
        else:
            _estimate(asked, as_json=as_json)
    except ClipError as error:
        raise NoUsableAudioError(str(error)) from error
    except ManifestError as error:
        raise (OtherSettingsError if error.code == "busy" else ConfigError)(error.message) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which clips are to be stressed how; `empirical.speech.manifest.write_manifest` says more of each."""

    audio: Path
    limit: int | None
    labels: tuple[str, ...] | None
    seed: int
    stresses: Stresses | None
    noise_dir: Path | None


def _build(asked: _Asked, out: Path, write_audio: Path | None, window: float, *, quiet: bool, as_json: bool) -> None:
    from empirical.speech.manifest import chosen_labels, chosen_noises, chosen_stresses, write_manifest

    _refuse_bad_targets(asked, out, write_audio)
    chosen_noises(chosen_labels(asked.labels), asked.noise_dir)  # before a folder of thousands is scanned
    chosen_stresses(asked.labels, asked.stresses)
    scan = _scan(asked.audio)
    clips = scan.clips[: asked.limit]
    try:
        with interruptible() as stop, _bar(len(clips), "stressing", "clip", quiet, stop) as advance:
            made = write_manifest(
                clips,
                asked.labels,
                asked.seed,
                out,
                write_audio,
                stresses=asked.stresses,
                noise_dir=asked.noise_dir,
                rejected=scan.rejected,
                window_s=window,
                progress=advance,
            )
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on where it was") from None
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {reason(error)}") from error
    if not made.lines:
        raise NoUsableAudioError(f"no clip of {asked.audio} could be stressed; see {made.quarantine}")
    outcome: dict[str, Any] = {"manifest": str(out), "lines": made.lines, "quarantined": made.quarantined}
    if made.quarantine is not None:
        outcome["quarantine"] = str(made.quarantine)
    if made.kept:
        outcome["kept_from_before"] = made.kept
    if made.previous is not None:
        outcome["previous_manifest"] = str(made.previous)
        typer.echo(f"spi: another manifest was at {out}; it is now {made.previous}", err=True)
    typer.echo(json.dumps(outcome, indent=2) if as_json else _in_words(outcome))


def _estimate(asked: _Asked, *, as_json: bool) -> None:
    from empirical.speech.manifest_estimate import estimate_manifest

    scan = _scan(asked.audio)
    plan = estimate_manifest(
        scan.clips[: asked.limit], asked.labels, asked.seed, stresses=asked.stresses, noise_dir=asked.noise_dir
    )
    if as_json:
        typer.echo(json.dumps({**asdict(plan), "kept_out": len(scan.rejected)}, indent=2))
        return
    each = ", ".join(f"{name} {count}" for name, count in plan.by_condition.items())
    outcome = {
        "lines": f"{plan.lines} at most ({each})",
        "audio": f"{plan.source_s / 3600:.2f} h to read, {plan.result_s / 3600:.2f} h to make",
        "time": f"{plan.time_s / 60:.1f} min of one core, by {len(plan.by_condition)} stresses tried here and now",
        "manifest": f"{plan.manifest_bytes / 1e6:.1f} MB while it is made, half of that after",
        "audio_files": f"{plan.audio_bytes / 1e9:.2f} GB with --write-audio",
    }
    if plan.unknown:
        outcome["unknown"] = f"{plan.unknown} clips whose header does not say how long they are"
    if scan.rejected:
        outcome["kept_out"] = f"{len(scan.rejected)} files"
    typer.echo(_in_words(outcome))


def _check(
    manifest: Path, audio: Path, noise_dir: Path | None, limit: int | None, *, quiet: bool, as_json: bool
) -> None:
    from empirical.speech.manifest_checking import check_manifest
    from empirical.speech.manifest_reading import read_manifest
    from empirical.speech.samples import noise_pool

    known = read_manifest(manifest)
    if limit is not None:
        first = set(sorted({line.utterance for line in known.lines})[:limit])
        known = replace(known, lines=tuple(line for line in known.lines if line.utterance in first))
    scan = _scan(audio)
    noises = [] if noise_dir is None else noise_pool(noise_dir)
    with interruptible() as stop, _bar(len(known.lines), "checking", "sample", quiet, stop) as advance:
        found = check_manifest(known, scan.clips, noises=noises, progress=advance)
    codes = Counter(each.code for each in found.refused)
    if as_json:
        refused = [asdict(each) for each in found.refused]
        outcome = {"manifest": str(manifest), "sha256": known.sha256, "lines": found.lines, "same": found.same}
        typer.echo(json.dumps({**outcome, "codes": codes, "refused": refused}, indent=2))
    else:
        typer.echo(f"{found.same} of {found.lines} samples of {manifest} are the same to the byte")
        for code, count in sorted(codes.items()):
            typer.echo(f"{code}: {count}")
        for each in found.refused[:_NAMED]:
            typer.echo(f"  {each.utterance}, {each.condition}: {each.detail} [{each.code}]")
        if len(found.refused) > _NAMED:
            typer.echo(f"  and {len(found.refused) - _NAMED} more; --json names all")
    if found.refused:
        raise typer.Exit(int(ExitCode.DATA))


def _scan(audio: Path) -> ClipScan:
    from empirical.speech.clips import scan_clips

    return scan_clips(audio)


@contextmanager
def _bar(total: int, doing: str, unit: str, quiet: bool, stop: Callable[[], None]) -> Iterator[Callable[[], None]]:
    from tqdm import tqdm

    with tqdm(total=total, desc=doing, unit=unit, file=sys.stderr, disable=True if quiet else None) as bar:

        def advance() -> None:
            bar.update()
            stop()

        yield advance


def _refuse_bad_targets(asked: _Asked, out: Path, write_audio: Path | None) -> None:
    """A manifest replaces only a manifest, and what is written is never input of the next run."""
    if out.is_file() and out.stat().st_size:
        with open(out, "rb") as file:
            if not file.read(32).startswith(b'{"achieved"'):
                raise OtherSettingsError(f"{out} exists and is no manifest; choose another --out")
    for option, read in (("--audio", asked.audio), ("--noise-dir", asked.noise_dir)):
        if write_audio is None or read is None:
            continue
        written = write_audio.resolve()
        if read.resolve() in (written, *written.parents):
            what = f"--write-audio must not lie inside {option}, whose clips it would add to"
            raise ConfigError(f"{what}; got {write_audio}")


def _in_words(outcome: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in outcome.items())
