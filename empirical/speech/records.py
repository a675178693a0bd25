"""What is known of an utterance before its audio is opened, and why a file is kept out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from empirical.errors import CodedError


class ClipError(CodedError, ValueError):
    """A directory or manifest from which no clips can be taken."""

    CODES = MappingProxyType(
        {
            "missing": "no such file or directory",
            "no_audio": "a directory without a file of a known audio extension, or a manifest without a line",
            "duplicate_name": "two files of one utterance id",
            "unreadable_transcript": "a transcript file that is not UTF-8 text",
            "conflicting_transcript": "two transcripts for one utterance id",
            "orphan_transcript": "a line of a *.trans.txt whose audio is not there",
            "empty_reference": "a line of a *.trans.txt without a word",
            "unreadable_manifest": "a manifest that is not UTF-8 text, or none of clips",
            "bad_line": "a manifest's line that is no clip: cut, of other fields, or of a name that cannot be one",
            "absent_audio": "a manifest's line whose audio file is not there",
        }
    )


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance on disk.

    Attributes:
        name: utterance id: the file's name without extension, or a manifest's; unique in a scan.
        path: the audio file, not opened yet.
        reference: transcript, or None where there is none; "" where it is known that nothing is said.
        speaker: first field of a LibriSpeech id or a manifest's, else None.
    """

    name: str
    path: Path
    reference: str | None
    speaker: str | None


@dataclass(frozen=True, slots=True)
class RejectedClip:
    """A file that is kept out of a scan, with one of `ClipError.CODES`; paths in `detail` start at the scanned root."""

    name: str
    path: Path
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ClipScan:
    """What a directory or a manifest holds.

    Attributes:
        clips: usable as far as names and transcripts tell, sorted by name.
        rejected: files that are not, sorted by path; the two of a duplicate are both here.
        ignored: number of files of other extensions.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[RejectedClip, ...]
    ignored: int
