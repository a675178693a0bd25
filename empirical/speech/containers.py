"""What an audio file's container promises, read from its bytes: libsndfile cuts the promise to what is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import soundfile

_MAX_CHUNKS = 4096
_PLACEHOLDER = 0x7FFFF000  # from here up, a size that is not there is what encoders write into a pipe: "unknown"


@dataclass(frozen=True, slots=True)
class PromisedBytes:
    """The data chunk of a RIFF or AIFF file.

    Attributes:
        stated: its size by the chunk header, bytes.
        available: how many of those the file really holds, bytes.
        bytes_per_frame: size of one frame (uncompressed) by the format chunk; 0 if unknown.
    """

    stated: int
    available: int
    bytes_per_frame: int


def promised_bytes(path: Path) -> PromisedBytes | None:
    """The data chunk of a WAV (RIFF, RF64) or AIFF file; None for another container or where it does not say."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            return _walk(file, size, "little", b"data")
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _walk(file, size, "big", b"SSND")
    return None


def _walk(file: BinaryIO, size: int, order: str, wanted: bytes) -> PromisedBytes | None:
    endian = "little" if order == "little" else "big"
    bytes_per_frame = 0
    long_size: int | None = None
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return None
        stated = int.from_bytes(header[4:], endian)
        start = file.tell()
        name = header[:4]
        if name == wanted:
            if stated == 0xFFFFFFFF and long_size is not None:
                stated = long_size
            elif stated >= _PLACEHOLDER and stated > size - start:
                return None
            return PromisedBytes(stated, max(0, min(stated, size - start)), bytes_per_frame)
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:16], "little")
        elif name == b"fmt ":
            bytes_per_frame = int.from_bytes(file.read(16)[12:14], "little")
        elif name == b"COMM":
            content = file.read(8)
            bytes_per_frame = int.from_bytes(content[:2], "big") * ((int.from_bytes(content[6:8], "big") + 7) // 8)
        file.seek(start + stated + (stated & 1))
    return None


class _UnknownLength:
    """A FLAC file read as if its header left the number of samples open (STREAMINFO total samples = 0).

    A reader for libsndfile's virtual files: `read`, `seek`, `tell`, and `write` which it never calls.
    """

    def __init__(self, file: BinaryIO, stream_start: int) -> None:
        self._file = file
        # 4 bytes "fLaC", 4 of block header, then STREAMINFO: 36 bits of total samples in bytes 13-17, the upper half
        # of byte 13 being the sample size.
        self._at = stream_start + 8 + 13

    def read(self, count: int = -1) -> bytes:
        start = self._file.tell()
        data = bytearray(self._file.read(count))
        for offset in range(5):
            index = self._at + offset - start
            if 0 <= index < len(data):
                data[index] = data[index] & 0xF0 if offset == 0 else 0
        return bytes(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: bytes) -> int:
        raise OSError("read only")


def flac_frames_beyond(path: Path, claimed: int, reader: type[soundfile.SoundFile]) -> int:
    """Decode a FLAC file past the length that its header states, and count frames.

    Args:
        path: a FLAC file.
        claimed: frames by its header; counting stops once they are exceeded.
        reader: the class that reads it, without seeking.

    Returns:
        Frames decoded before the end, or before what follows the audio and is not FLAC (an ID3 tag, say).
    """
    count = 0
    with open(path, "rb") as file:
        if file.read(4) != b"fLaC" or file.read(1)[:1] not in (b"\x00", b"\x80"):
            return 0  # an ID3v2 tag in front, or STREAMINFO not first: its length field is elsewhere
        file.seek(0)
        try:
            with reader(cast(BinaryIO, _UnknownLength(file, 0))) as sound:
                while count <= claimed:
                    block = sound.read(4096, dtype="int32", always_2d=True)
                    if len(block) == 0:
                        break
                    count += len(block)
        except (soundfile.SoundFileError, RuntimeError):
            pass  # what is behind the last frame is not our concern: every claimed frame was decoded before
    return count


def ogg_ends_within_page(path: Path) -> bool:
    """Whether the last page of an Ogg file is cut short: a page header says how long its page is."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = max(0, size - 2 * 65_307)  # the longest page has 27 + 255 + 255 * 255 bytes
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"OggS\x00")
    if at < 0:
        return False
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
