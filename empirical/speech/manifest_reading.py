"""A manifest read back: every line whole and understood, or one clear error; and its samples over a folder's clips."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from empirical.speech.manifest_records import SCHEMA_VERSION, ManifestError, ManifestLine
from empirical.speech.manifest_schema import manifest_schema, violation
from empirical.speech.records import Clip
from empirical.speech.samples import Sample
from empirical.stress import StressError, base_names, label, parse

CLEAN = "clean"
_LONGEST_LINE = 1 << 24


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest.

    Attributes:
        path: where it was read from.
        sha256: of the file's bytes, hexadecimal.
        versions: what made its first line, as all others.
        lines: in the file's order; no two of one utterance and condition.
    """

    path: Path
    sha256: str
    versions: Mapping[str, str]
    lines: tuple[ManifestLine, ...]


@dataclass(frozen=True, slots=True)
class RefusedSample:
    """A sample that cannot be made, or is not what was recorded, with the code of its error."""

    utterance: str
    condition: str
    code: str
    detail: str


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest that `write_manifest` wrote.

    Raises:
        ManifestError: "unreadable", "not_a_manifest", "other_version", "cut", "bad_line", "duplicate" or
            "unknown_stressor"; the message names the file and the line.
    """
    path = Path(path)
    digest = hashlib.sha256()
    lines: list[ManifestLine] = []
    seen: dict[tuple[str, str], int] = {}
    total = 0
    try:
        with open(path, "rb") as file:
            for number, row in _rows(path, file, digest):
                if number == 1:
                    total = row["lines"]
                line = _line(path, number, row, total)
                first = seen.setdefault((line.utterance, line.condition), number)
                if first != number:
                    what = f"lines {first} and {number} are both {line.utterance} under {line.condition}"
                    raise ManifestError("duplicate", f"{path}: {what}")
                lines.append(line)
    except OSError as error:
        raise ManifestError("unreadable", f"{path}: {error.strerror or error}") from None
    if not lines:
        raise ManifestError("cut", f"{path}: it is empty")
    if len(lines) != total:
        raise ManifestError("cut", f"{path}: {len(lines)} lines of {total}")
    return Manifest(path, digest.hexdigest(), lines[0].versions, tuple(lines))


def manifest_samples(manifest: Manifest, clips: Sequence[Clip]) -> tuple[list[Sample], list[RefusedSample]]:
    """Every line of a manifest as a sample, and for each utterance of it the clean one.

    Clips are found by name. The manifest's reference and speaker stand where it has them: it fixes the experiment. A
    clean sample that is no line of its own is checked against the source's hash like the others.

    Args:
        manifest: what to make.
        clips: the audio at hand; those that the manifest does not name are left out.

    Returns:
        Samples sorted by utterance, clean first and then in the manifest's order; and what has no audio
        ("absent_audio"), its clean sample too.
    """
    by_name = {clip.name: clip for clip in clips}
    lines: dict[str, list[ManifestLine]] = {}
    for line in manifest.lines:
        lines.setdefault(line.utterance, []).append(line)
    samples: list[Sample] = []
    refused: list[RefusedSample] = []
    for utterance, several in sorted(lines.items()):
        if not any(line.condition == CLEAN for line in several):
            several = [_clean(several[0]), *several]
        several = sorted(several, key=lambda line: line.condition != CLEAN)
        clip = by_name.get(utterance)
        if clip is None:
            detail = f"{utterance}: no such clip; the manifest was made from {several[0].source}"
            refused += [RefusedSample(utterance, line.condition, "absent_audio", detail) for line in several]
            continue
        for line in several:
            known = dataclasses.replace(
                clip,
                reference=clip.reference if line.reference is None else line.reference,
                speaker=clip.speaker if line.speaker is None else line.speaker,
            )
            samples.append(Sample(known, line.condition, line.seed, line))
    return samples, refused


def _clean(line: ManifestLine) -> ManifestLine:
    return dataclasses.replace(
        line, condition=CLEAN, parameters={}, achieved={}, notes=(), result_sha256=None, audio=None
    )


def _rows(path: Path, file: BinaryIO, digest: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines as objects of this schema version."""
    number = 0
    while raw := file.readline(_LONGEST_LINE):
        number += 1
        digest.update(raw)
        whole = raw.endswith(b"\n")
        try:
            row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            if not whole and len(raw) < _LONGEST_LINE and (number > 1 or raw.startswith(b'{"achieved"')):
                raise ManifestError("cut", f"{path}: line {number} breaks off") from None
            if number == 1:
                raise _not_a_manifest(path) from None
            raise ManifestError("bad_line", f"{path}: line {number}: not a JSON object") from None
        known = isinstance(row, dict) and "stressor" in row and "result_sha256" in row
        if not known and number == 1:
            raise _not_a_manifest(path)
        version = row.get("schema_version", 1) if known else SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise ManifestError(
                "other_version",
                f"{path}: line {number} is of schema version {json.dumps(version)}, this reads {SCHEMA_VERSION}; "
                "make it again with spi stress",
            )
        if broken := violation(row, manifest_schema()):
            raise ManifestError("bad_line", f"{path}: line {number}: {broken}")
        yield number, row


def _line(path: Path, number: int, row: dict[str, Any], total: int) -> ManifestLine:
    if row["line"] != number:
        raise ManifestError("cut", f"{path}: line {row['line']} of {row['lines']} stands where line {number} should")
    if row["lines"] != total:
        what = f"lines must be {total} as in line 1; got {row['lines']}"
        raise ManifestError("bad_line", f"{path}: line {number}: {what}")
    condition = row["condition"]
    try:
        canonical, names = _understood(condition)
    except StressError as error:
        raise ManifestError("unknown_stressor", f"{path}: line {number}: {error.message}") from None
    if canonical != condition:
        what = f"condition must be canonical, {canonical}; got {condition}"
        raise ManifestError("bad_line", f"{path}: line {number}: {what}")
    if row["stressor"] != names:
        what = f"stressor must be {names}, as the condition says; got {row['stressor']}"
        raise ManifestError("bad_line", f"{path}: line {number}: {what}")
    fields: dict[str, Any] = {field.name: row[field.name] for field in dataclasses.fields(ManifestLine)}
    fields["notes"] = tuple(fields["notes"])
    return ManifestLine(**fields)


@functools.lru_cache(maxsize=1024)
def _understood(condition: str) -> tuple[str, str]:
    """A condition's canonical label, and its stressors' names.

    Raises:
        StressError: if it cannot be made.
    """
    return label(parse(condition)), "+".join(base_names(condition))


def _not_a_manifest(path: Path) -> ManifestError:
    return ManifestError("not_a_manifest", f"{path}: no manifest of stressed utterances")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
