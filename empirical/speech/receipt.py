"""What an archive held, file by file: written beside what was unpacked, so that any later damage can be named.

A receipt is `.<subset>.files.tsv` in the folder above the subset: the archive's MD5, then a line for each file with
its SHA-256, its length in bytes and its path. Its name begins with a dot, so no reader of clips sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from empirical.speech.unpack import Unpacked

_HEADER = "# archive md5 "


@dataclass(frozen=True, slots=True)
class Receipt:
    """The files of one subset.

    Attributes:
        archive_md5: of the archive that they came from.
        files: with paths from the subset's directory.
    """

    archive_md5: str
    files: tuple[Unpacked, ...]


def receipt_path(parent: Path, subset: str) -> Path:
    """Where the receipt of a subset lies, in the folder that holds the subset's."""
    return parent / f".{subset}.files.tsv"


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt; the caller sees to it that it comes into place whole."""
    lines = [f"{_HEADER}{receipt.archive_md5}", *(f"{one.sha256}\t{one.size}\t{one.path}" for one in receipt.files)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_receipt(parent: Path, subset: str) -> Receipt | None:
    """The receipt of a subset; None where there is none, or one that is damaged."""
    try:
        first, *lines = receipt_path(parent, subset).read_text(encoding="utf-8").splitlines()
        files = tuple(_file(line) for line in lines)
    except (OSError, ValueError):
        return None
    return Receipt(first.removeprefix(_HEADER), files) if first.startswith(_HEADER) and files else None


def compare(
    receipt: Receipt, directory: Path, files: Sequence[Path], *, contents: bool
) -> tuple[list[str], list[str], list[str]]:
    """Paths that are missing, extra and altered in a directory, beside its receipt.

    Args:
        receipt: of the directory.
        directory: the subset's.
        files: all that is in it.
        contents: compare SHA-256 sums, and not lengths alone.
    """
    listed = {one.path: one for one in receipt.files}
    there = {path.relative_to(directory).as_posix(): path for path in files}
    altered = [name for name, path in there.items() if name in listed and not _same(listed[name], path, contents)]
    return sorted(listed.keys() - there.keys()), sorted(there.keys() - listed.keys()), altered


def _same(listed: Unpacked, path: Path, contents: bool) -> bool:
    try:
        if path.stat().st_size != listed.size:
            return False
        if not contents:
            return True
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == listed.sha256
    except OSError:  # a link to nowhere, or nothing that may be read
        return False


def _file(line: str) -> Unpacked:
    sha256, size, path = line.split("\t")
    return Unpacked(path, int(size), sha256)
