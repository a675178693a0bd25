"""A .tar.gz unpacked into a directory that nothing of it can leave, and the list of what came out.

Nothing but directories and ordinary files is taken, each under the one folder that the archive must have: a link, a
device, a path with "..", a file written twice, or more bytes than the archive can honestly hold ends it, and nothing
of it stays.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO

from empirical.errors import CodedError
from empirical.speech.fetch import Progress

_CHUNK = 1 << 20
_UNFIT = re.compile(r"[\\:\x00-\x1f\x7f]")
_DEEPEST = 16


class UnpackError(CodedError, ValueError):
    """An archive that is damaged or would write what it must not."""

    CODES = MappingProxyType(
        {
            "damaged": "cut, or not a .tar.gz",
            "leaves_target": "a path that is absolute, climbs with .., or lies outside the archive's one folder",
            "not_a_file": "a link, a device, a pipe or another thing that is neither file nor directory",
            "twice": "two things of one path",
            "too_large": "more bytes or files than the archive can honestly hold",
        }
    )


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One file that came out.

    Attributes:
        path: from the directory that was unpacked into, with forward slashes.
        size: bytes.
        sha256: of its bytes, hexadecimal.
    """

    path: str
    size: int
    sha256: str


def unpack(
    archive: Path,
    into: Path,
    *,
    folder: str,
    most_bytes: int,
    most_files: int = 1_000_000,
    progress: Progress | None = None,
) -> tuple[Unpacked, ...]:
    """Unpack all of an archive.

    Args:
        archive: a .tar.gz.
        into: an empty directory of the caller's own, to be thrown away if this raises.
        folder: what every path of the archive begins with.
        most_bytes: of the uncompressed archive, headers included.
        most_files: of files and directories.
        progress: called with "unpack" and bytes of the archive read.

    Returns:
        The files, sorted by path. Their permissions are those of any new file; times and owners are not kept.

    Raises:
        UnpackError: with one of `UnpackError.CODES`.
        OSError: if `into` cannot be written.
    """
    total = archive.stat().st_size
    found: list[Unpacked] = []
    with open(archive, "rb") as packed, gzip.GzipFile(fileobj=packed) as raw:
        limited = io.BufferedReader(_Limited(raw, archive.name, most_bytes), _CHUNK)
        try:
            with tarfile.open(fileobj=limited, mode="r|") as members:
                for number, member in enumerate(members):
                    if number >= most_files:
                        raise UnpackError("too_large", f"{archive.name}: more than {most_files} entries")
                    made = _take(members, member, into, folder)
                    if made is not None:
                        found.append(made)
                    if progress is not None:
                        progress("unpack", packed.tell(), total)
            while limited.read(_CHUNK):  # the checksum of a .gz stands at its end
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, OverflowError) as error:
            raise UnpackError("damaged", f"{archive.name}: {error}") from error
    if not found:
        raise UnpackError("damaged", f"{archive.name}: no file in it")
    return tuple(sorted(found, key=lambda each: each.path))


def _take(members: tarfile.TarFile, member: tarfile.TarInfo, into: Path, folder: str) -> Unpacked | None:
    parts = _safe_parts(member.name, folder)
    target = into.joinpath(*parts)
    if member.isdir():
        try:
            target.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UnpackError("twice", f"{member.name}: a file and a directory") from None
        return None
    source = members.extractfile(member) if member.isreg() and not member.issparse() else None
    if source is None:
        raise UnpackError("not_a_file", f"{member.name}: {_kind(member)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = open(target, "xb")  # noqa: SIM115  (closed by _copy's with)
    except (FileExistsError, NotADirectoryError):
        raise UnpackError("twice", f"{member.name}: it is there already") from None
    with sink:
        return Unpacked(str(PurePosixPath(*parts)), member.size, _copy(source, sink, member))


def _copy(source: IO[bytes], sink: IO[bytes], member: tarfile.TarInfo) -> str:
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        sink.write(chunk)
        digest.update(chunk)
        done += len(chunk)
    if done != member.size:
        raise UnpackError("damaged", f"{member.name}: {done} of {member.size} bytes")
    return digest.hexdigest()


def _safe_parts(name: str, folder: str) -> tuple[str, ...]:
    """The components of a path that stays under `folder`, on POSIX and on Windows."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or ".." in parts or _UNFIT.search(name) or parts[:1] != (folder,) or len(parts) > _DEEPEST:
        raise UnpackError("leaves_target", f"{name!r} is no path inside {folder}/")
    return parts


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    return "a device or a pipe" if member.isdev() else "neither a file nor a directory"


class _Limited(io.RawIOBase):
    """A stream that ends in an error after so many bytes: a few kilobytes can unpack to terabytes."""

    def __init__(self, raw: gzip.GzipFile, name: str, most: int) -> None:
        self._raw = raw
        self._name = name
        self._most = most
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        chunk = self._raw.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise UnpackError("too_large", f"{self._name}: more than {self._most} bytes unpacked")
        buffer[: len(chunk)] = chunk
        return len(chunk)
