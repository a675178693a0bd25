"""`spi data`: published speech fetched, and a data set looked over before it is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bridge.errors import ConfigError, DataError, ExitCode, NoUsableAudioError, OtherSettingsError

if TYPE_CHECKING:
    from empirical.speech.datasets import DataCheck, Reading
    from empirical.speech.fetch import Progress
    from empirical.speech.librispeech import SubsetCheck

app = typer.Typer(help="Fetch published speech, and check a data set.", no_args_is_help=True, rich_markup_mode=None)

_NAMED = 5
"""Files of a kind that are named in words; --json names all."""


@app.command("list")
def list_published(as_json: Annotated[bool, typer.Option("--json", help="A JSON array on stdout.")] = False) -> None:
    """What can be fetched: name, utterances, readers, bytes of the archive and its MD5."""
    from empirical.speech.librispeech import SUBSETS

    if as_json:
        typer.echo(json.dumps([{"corpus": "librispeech", **asdict(one)} for one in SUBSETS.values()], indent=2))
        return
    for one in SUBSETS.values():
        typer.echo(
            f"librispeech {one.name}: {one.utterances} utterances of {one.speakers} readers, "
            f"{_bytes(one.archive_bytes)}, MD5 {one.archive_md5}"
        )


@app.command("fetch")
def fetch(
    corpus: Annotated[str, typer.Argument(help="librispeech.", show_default=False)],
    subsets: Annotated[list[str], typer.Argument(help="test-clean, test-other, ...: spi data list.")],
    out: Annotated[Path, typer.Option(help="Directory; the tree is made in it.", show_default=False)],
    mirror: Annotated[
        list[str] | None, typer.Option(help="Address of the archives' directory, tried first; may be repeated.")
    ] = None,
    keep_archive: Annotated[bool, typer.Option("--keep-archive", help="Leave the .tar.gz in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Fetches LibriSpeech from OpenSLR: goes on where it was stopped, and is believed by the published MD5.

    What is there and whole is left alone. An archive that lies in --out already is checked and used.
    """
    from empirical.speech.fetch import FetchError
    from empirical.speech.librispeech import MIRRORS
    from empirical.speech.librispeech_fetch import fetch_librispeech, plan_librispeech
    from empirical.speech.unpack import UnpackError

    if corpus != "librispeech":
        raise ConfigError(f"corpus must be librispeech; got {corpus!r}")
    try:
        if dry_run:
            plans = plan_librispeech(subsets, out)
            if as_json:
                typer.echo(json.dumps([asdict(plan) for plan in plans], indent=2))
                return
            for plan in plans:
                coming = (
                    f"{_bytes(plan.archive_bytes)} to fetch, {_bytes(plan.disk_bytes)} of disk while it is unpacked"
                )
                typer.echo(f"{plan.subset}: {'there' if plan.there else coming}")
            return
        with _progress(quiet, "B") as progress:
            checks = fetch_librispeech(
                subsets, out, mirrors=(*(mirror or ()), *MIRRORS), keep_archives=keep_archive, progress=progress
            )
    except FetchError as error:
        if error.code in ("unwritable", "not_whole", "busy"):
            raise OtherSettingsError(error.message) from error
        if error.code == "bad_address":
            raise ConfigError(error.message) from error
        raise DataError(str(error)) from error
    except UnpackError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if as_json:
        typer.echo(json.dumps([_subset_json(check) for check in checks], indent=2))
    else:
        for check in checks:
            typer.echo(_subset_words(check))
    if not all(check.whole for check in checks):
        raise typer.Exit(int(ExitCode.DATA))


@app.command("check")
def check(
    data: Annotated[Path, typer.Argument(help="Folder of audio, LibriSpeech's tree, or a .jsonl or .tsv manifest.")],
    read: Annotated[str, typer.Option(help="Of each file: names, headers or samples.")] = "headers",
    contents: Annotated[
        bool, typer.Option("--contents", help="Hash every file of a fetched subset, not only its length.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on stdout, every file named.")] = False,
) -> None:
    """Says what a data set holds: clips, speakers, time, what is kept out and why, what LibriSpeech lacks.

    Exits with 7 where something is kept out, missing or too many.
    """
    from empirical.speech.clips import ClipError
    from empirical.speech.datasets import check_data

    try:
        with _progress(quiet, "file") as progress:
            found = check_data(data, read=cast("Reading", read), contents=contents, progress=progress)
    except ClipError as error:
        raise NoUsableAudioError(str(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    typer.echo(json.dumps(_data_json(found), indent=2) if as_json else "\n".join(_data_words(found)))
    if not found.whole:
        raise typer.Exit(int(ExitCode.DATA))


@contextmanager
def _progress(quiet: bool, unit: str) -> Iterator[Progress]:
    """One bar after another, each named for what is being done; none off a terminal."""
    from tqdm import tqdm

    bars: dict[str, tqdm[Any]] = {}

    def report(doing: str, done: int, total: int) -> None:
        bar = bars.get(doing)
        if bar is None or done < bar.n:
            for other in bars.values():
                other.close()
            bars.clear()
            bar = bars[doing] = tqdm(
                desc=doing,
                total=total,
                unit=unit,
                unit_scale=unit == "B",
                file=sys.stderr,
                disable=True if quiet else None,
            )
        bar.n = done
        bar.update(0)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()


def _data_words(found: DataCheck) -> Iterator[str]:
    yield (
        f"{found.path}: {found.clips} clips, {found.references} with a transcript"
        + (f" ({found.wordless} of them empty)" if found.wordless else "")
        + f", {found.speakers} speakers, {found.duration_s / 3600:.2f} h"
        + (f" ({found.untimed} of unknown length left out)" if found.untimed else "")
    )
    for code, count in found.codes.items():
        named = [each.detail for each in found.rejected if each.code == code]
        yield f"kept out, {code}: {count}"
        yield from (f"  {detail}" for detail in _some(named))
    if found.ignored:
        yield f"files of other kinds: {found.ignored}"
    for subset in found.subsets:
        yield _subset_words(subset)


def _subset_words(check: SubsetCheck) -> str:
    lines = [
        f"LibriSpeech {check.subset}: {check.utterances} of {check.expected} utterances, "
        f"{check.speakers} of {check.expected_speakers} readers" + (", whole" if check.whole else "")
    ]
    if check.missing_unnamed:
        lines.append(f"  missing, of which nothing is left here: {check.missing_unnamed} utterances")
    for word, names in (
        ("missing", check.missing),
        ("missing readers", check.missing_speakers),
        ("too many", check.extra),
        ("of other content than the archive's", check.altered),
    ):
        if names:
            lines.append(f"  {word}: {len(names)}")
            lines += [f"    {name}" for name in _some(names)]
    if not check.speakers_known and check.speakers < check.expected_speakers:
        lines.append("  SPEAKERS.TXT is not there, so missing readers cannot be named")
    return "\n".join(lines)


def _data_json(found: DataCheck) -> dict[str, Any]:
    return {
        **asdict(found),
        "path": str(found.path),
        "whole": found.whole,
        "codes": found.codes,
        "rejected": [{**asdict(each), "path": str(each.path)} for each in found.rejected],
        "subsets": [_subset_json(subset) for subset in found.subsets],
    }


def _subset_json(check: SubsetCheck) -> dict[str, Any]:
    return {**asdict(check), "directory": str(check.directory), "whole": check.whole}


def _some(names: Any) -> list[str]:
    names = list(dict.fromkeys(names))  # both files of a duplicate say the same
    return names if len(names) <= _NAMED else [*names[:_NAMED], f"and {len(names) - _NAMED} more"]


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
