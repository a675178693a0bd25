"""Clips: audio files with a name, a reference transcript where there is one, and a speaker where the name tells.

Two layouts are read alike: LibriSpeech's (`<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac`, transcripts in
`<speaker>-<chapter>.trans.txt` beside the audio) and any folder of audio files, whose reference is a `.txt` of the
same name beside the file if there is one.
"""

from __future__ import annotations

import importlib.resources
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

_COMMON = (".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".afc", ".au", ".snd")
_RARER = (".caf", ".w64", ".rf64", ".sph", ".webm", ".mka", ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".eac3", ".wma")
_UNDECODED = (".ape", ".wv", ".tta", ".mpc", ".dsf", ".ofr", ".ofs", ".spx", ".amr", ".oggtheora")

AUDIO_EXTENSIONS = frozenset((*_COMMON, *_RARER, *_UNDECODED))
"""Extensions (lower case) that make a file a clip. Formats that cannot be decoded here are among them: such a file is
someone's audio and must be reported as unreadable, not passed over. Any other extension is no clip."""

_UTTERANCE_ID = re.compile(r"^([^-]+)-([^-]+)-(\d+)$")


class ClipError(ValueError):
    """A directory from which no clips can be taken.

    Attributes:
        code: one of `CODES`.
    """

    CODES: ClassVar[MappingProxyType[str, str]] = MappingProxyType(
        {
            "missing": "no such file or directory",
            "no_audio": "a directory without a file of a known audio extension",
            "duplicate_name": "two files of one utterance id",
            "unreadable_transcript": "a transcript file that is not UTF-8 text",
            "conflicting_transcript": "two transcripts for one utterance id",
        }
    )

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise KeyError(f"code must be one of ClipError.CODES; got {code!r}")
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[ClipError], tuple[str, str]]:
        return (type(self), (self.code, self.message))


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance on disk.

    Attributes:
        name: utterance id: the file's name without extension; unique in a scan.
        path: the audio file, not opened yet.
        reference: transcript, or None where there is none.
        speaker: first field of a LibriSpeech id, else None.
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
    """What a directory holds.

    Attributes:
        clips: usable as far as names and transcripts tell, sorted by name.
        rejected: files that are not, sorted by path; the two of a duplicate are both here.
        ignored: number of files of other extensions.
    """

    clips: tuple[Clip, ...]
    rejected: tuple[RejectedClip, ...]
    ignored: int


def scan_clips(directory: str | Path) -> ClipScan:
    """Find the clips under a directory; trouble with single files is listed, not raised.

    Args:
        directory: searched in depth, through symbolic links too, hidden files left out; or one audio file.

    Raises:
        ClipError: "missing", or "no_audio" if no file has an audio extension.
    """
    root = Path(directory)
    if not root.exists():
        raise ClipError("missing", f"{root}: no such file or directory")
    files = [root] if root.is_file() else sorted(_walk(root))
    audio = [file for file in files if root.is_file() or file.suffix.lower() in AUDIO_EXTENSIONS]
    if not audio:
        raise ClipError("no_audio", f"{root}: no audio file in it ({len(files)} files of other kinds)")
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in audio:
        by_name[file.stem].append(file)
    transcripts = _Transcripts(root)
    clips: list[Clip] = []
    rejected: list[RejectedClip] = []
    for name, paths in sorted(by_name.items()):
        if len(paths) > 1:
            both = " and ".join(_short(path, root) for path in paths)
            rejected += [RejectedClip(name, path, "duplicate_name", f"{name}: {both}") for path in paths]
            continue
        try:
            reference = transcripts.of(paths[0])
        except ClipError as error:
            rejected.append(RejectedClip(name, paths[0], error.code, error.message))
            continue
        clips.append(Clip(name, paths[0], reference, _speaker(paths[0])))
    return ClipScan(tuple(clips), tuple(sorted(rejected, key=lambda each: each.path)), len(files) - len(audio))


def find_clips(directory: str | Path) -> list[Clip]:
    """The clips under a directory, sorted by name; `scan_clips` is the same without raising for single files.

    Raises:
        ClipError: any of `ClipError.CODES`; "duplicate_name" names both files.
    """
    scan = scan_clips(directory)
    if scan.rejected:
        first = scan.rejected[0]
        raise ClipError(first.code, f"{directory}: {first.detail}")
    return list(scan.clips)


def bundled_clips() -> list[Clip]:
    """The clips shipped with this package: synthetic speech that the bundled organisms were never trained on.

    Raises:
        ClipError: "missing" where the package was installed without them.
    """
    return find_clips(Path(str(importlib.resources.files("empirical"))) / "bundled" / "clips")


def _speaker(path: Path) -> str | None:
    """First field of a LibriSpeech id: three fields, the first two numbers or the names of the folders above."""
    match = _UTTERANCE_ID.match(path.stem)
    if match is None:
        return None
    speaker, chapter = match.group(1), match.group(2)
    above = (path.parent.parent.name, path.parent.name)
    return speaker if (speaker.isdecimal() and chapter.isdecimal()) or above == (speaker, chapter) else None


def _walk(root: Path) -> Iterator[Path]:
    """Files under a directory; links are followed, each real directory once."""
    seen: set[str] = set()
    for here, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in names:
            path = Path(here, name)
            if not name.startswith(".") and path.is_file():
                yield path


class _Transcripts:
    """Reads each folder's `*.trans.txt` once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[Path, dict[str, set[str]]] = {}

    def of(self, audio: Path) -> str | None:
        folder = audio.parent
        if folder not in self._folders:
            self._folders[folder] = _read_folder(folder, self._root)
        lines = self._folders[folder].get(audio.stem)
        if lines is None:
            beside = audio.with_suffix(".txt")
            return " ".join(_read_text(beside, self._root).split()) if beside.is_file() else None
        if len(lines) > 1:
            raise ClipError("conflicting_transcript", f"{audio.stem}: two transcripts in {_short(folder, self._root)}")
        return next(iter(lines))


def _read_folder(folder: Path, root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(folder.glob("*.trans.txt")):
        for line in _read_text(file, root).splitlines():
            name, _, text = line.strip().partition(" ")
            if name:
                found[name].add(" ".join(text.split()))
    return found


def _read_text(file: Path, root: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError):
        raise ClipError("unreadable_transcript", f"{_short(file, root)}: not readable as UTF-8 text") from None


def _short(path: Path, root: Path) -> str:
    """A path from the scanned directory on: what is said of it is then the same wherever the directory lies."""
    return str(path.relative_to(root)) if path.is_relative_to(root) and path != root else path.name
