"""Manifests of clips: one utterance a line, as JSON objects (`.jsonl`) or tab-separated under a header (`.tsv`).

A field is known by any of the names that common tools give it (NeMo, Common Voice, Hugging Face's audio folders); the
other fields of a line are let be. A relative audio path starts at the manifest's folder.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from empirical.speech.layout import speaker_of
from empirical.speech.records import Clip, ClipError, ClipScan, RejectedClip

TABLE_EXTENSIONS = frozenset((".jsonl", ".tsv"))
"""Extensions (lower case) of files that are manifests of clips and no audio."""

FIELDS = MappingProxyType(
    {
        "audio": ("audio", "audio_filepath", "file_name", "file", "path", "wav"),
        "name": ("id", "utterance", "utterance_id", "name"),
        "reference": ("reference", "text", "sentence", "transcript", "transcription"),
        "speaker": ("speaker", "speaker_id", "client_id"),
    }
)
"""What a manifest may call the audio file, the utterance, its transcript and its speaker; the first that is there."""

_UNFIT_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")


def scan_table(path: str | Path) -> ClipScan:
    """Read a manifest; a line that is no clip is listed with its number, and the others go on.

    A name is the line's own or the audio file's without extension. It becomes part of file names, so it may hold no
    slash and no control character. An empty transcript in JSON lines is kept as "": nothing is said. A table has no
    other way to say that a transcript is not known, so an empty cell says that.

    Args:
        path: a file of `TABLE_EXTENSIONS`.

    Raises:
        ClipError: "missing", "unreadable_manifest" for a file that is no such table, "no_audio" for one without lines.
    """
    table = Path(path)
    try:
        lines = table.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ClipError("unreadable_manifest", f"{table}: not UTF-8 text") from None
    except OSError as error:
        raise ClipError("missing", f"{table}: {error.strerror or error}") from None
    rows = _tsv_rows(table, lines) if table.suffix.lower() == ".tsv" else _json_rows(table, lines)
    found: dict[str, list[Clip]] = defaultdict(list)
    where: dict[str, list[int]] = defaultdict(list)
    rejected: list[RejectedClip] = []
    for number, row in rows:
        try:
            clip = _clip(row, table.parent)
        except _BadLineError as error:
            rejected.append(RejectedClip(f"line {number}", table, "bad_line", f"{table.name}: line {number}: {error}"))
            continue
        if not clip.path.is_file():
            detail = f"{table.name}: line {number}: {clip.name}: no such file"
            rejected.append(RejectedClip(clip.name, clip.path, "absent_audio", detail))
            continue
        found[clip.name].append(clip)
        where[clip.name].append(number)
    if not found and not rejected:
        raise ClipError("no_audio", f"{table}: no line in it")
    for name, several in found.items():
        if len(several) > 1:
            detail = f"{table.name}: {name}: lines {' and '.join(map(str, where[name]))}"
            rejected += [RejectedClip(name, clip.path, "duplicate_name", detail) for clip in several]
    clips = tuple(several[0] for _, several in sorted(found.items()) if len(several) == 1)
    return ClipScan(clips, tuple(sorted(rejected, key=lambda each: (each.path, each.detail))), 0)


class _BadLineError(ValueError):
    """Why a line is no clip."""


def _json_rows(table: Path, lines: list[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Numbered lines; text instead of fields says what is wrong with one."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "not a JSON object"
            continue
        if isinstance(row, dict) and "stressor" in row and "result_sha256" in row:
            raise ClipError(
                "unreadable_manifest",
                f"{table}: a manifest of stressed audio; run it with --manifest, or take the directory that "
                "`spi stress --write-audio` wrote",
            )
        yield number, row if isinstance(row, dict) else "not a JSON object"


def _tsv_rows(table: Path, lines: list[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    lines = [line.removesuffix("\r") for line in lines]
    header = lines[0].split("\t")
    if not set(header) & set(FIELDS["audio"]):
        raise ClipError(
            "unreadable_manifest",
            f"{table}: its first line must name a column of audio files ({', '.join(FIELDS['audio'])}); "
            f"got {_shown(lines[0])}",
        )
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        values = line.split("\t")
        if len(values) != len(header):
            yield number, f"{len(values)} fields under a header of {len(header)}"
        else:
            yield number, {name: value or None for name, value in zip(header, values, strict=True)}


def _clip(row: Mapping[str, Any] | str, folder: Path) -> Clip:
    if isinstance(row, str):
        raise _BadLineError(row)
    audio = _text(row, "audio")
    if not audio:
        raise _BadLineError(f"no audio file ({', '.join(FIELDS['audio'])})")
    if row.get("offset") not in (None, 0, "", "0", "0.0"):  # NeMo's and Lhotse's way to cut a recording up
        raise _BadLineError(f"a piece of a recording (offset {row['offset']!r}); cut the audio into files first")
    if "\x00" in audio:
        raise _BadLineError(f"no path: {_shown(audio)}")
    path = folder / audio
    name = _text(row, "name") or path.stem
    if not name.strip(".") or _UNFIT_NAME.search(name):
        raise _BadLineError(f"a name must have no slash and no control character; got {_shown(name)}")
    reference = _text(row, "reference")
    return Clip(
        name,
        path,
        None if reference is None else " ".join(reference.split()),
        _text(row, "speaker") or speaker_of(path),
    )


def _text(row: Mapping[str, Any], field: str) -> str | None:
    """The value of a field under any of its names; numbers are ids written without quotes."""
    for name in FIELDS[field]:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise _BadLineError(f"{name} must be text; got {_shown(json.dumps(value))}")
        return str(value)
    return None


def _shown(text: str, most: int = 80) -> str:
    return repr(text if len(text) <= most else text[:most] + "…")
