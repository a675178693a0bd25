"""What the names and text files around a clip say of it: its speaker and its transcript.

LibriSpeech's layout is `<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac` with `<speaker>-<chapter>.trans.txt`
beside the audio; any other folder may have a `.txt` of the audio file's name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from empirical.speech.records import ClipError

TRANSCRIPTS = "*.trans.txt"

_UTTERANCE_ID = re.compile(r"^([^-]+)-([^-]+)-(\d+)$")
_WORD = re.compile(r"\w")


def speaker_of(path: Path) -> str | None:
    """First field of a LibriSpeech id: three fields, the first two numbers or the names of the folders above."""
    match = _UTTERANCE_ID.match(path.stem)
    if match is None:
        return None
    speaker, chapter = match.group(1), match.group(2)
    above = (path.parent.parent.name, path.parent.name)
    return speaker if (speaker.isdecimal() and chapter.isdecimal()) or above == (speaker, chapter) else None


class Transcripts:
    """The transcripts under one directory; each folder's `*.trans.txt` is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[Path, dict[str, set[str]]] = {}

    def of(self, audio: Path) -> str | None:
        """The transcript of an audio file, or None.

        Raises:
            ClipError: "unreadable_transcript", "conflicting_transcript" or "empty_reference". An utterance of
                LibriSpeech has words, so a line without any is damage; an empty `.txt` of its own says that nothing
                is said, and is a reference.
        """
        folder = audio.parent
        lines = self._folder(folder).get(audio.stem)
        if lines is None:
            beside = audio.with_suffix(".txt")
            return " ".join(_read_text(beside, self._root).split()) if beside.is_file() else None
        if len(lines) > 1:
            raise ClipError("conflicting_transcript", f"{audio.stem}: two transcripts in {short(folder, self._root)}")
        text = next(iter(lines))
        if not _WORD.search(text):
            raise ClipError("empty_reference", f"{audio.stem}: no word in its transcript, {text!r}")
        return text

    def named(self, folder: Path) -> Iterator[str]:
        """Utterance ids that a folder's `*.trans.txt` name; none where one of them cannot be read."""
        try:
            yield from self._folder(folder)
        except ClipError:
            return

    def _folder(self, folder: Path) -> dict[str, set[str]]:
        if folder not in self._folders:
            self._folders[folder] = _read_folder(folder, self._root)
        return self._folders[folder]


def short(path: Path, root: Path) -> str:
    """A path from the scanned directory on: what is said of it is then the same wherever the directory lies."""
    return str(path.relative_to(root)) if path.is_relative_to(root) and path != root else path.name


def _read_folder(folder: Path, root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(folder.glob(TRANSCRIPTS)):
        for line in _read_text(file, root).splitlines():
            name, _, text = line.strip().partition(" ")
            if name:
                found[name].add(" ".join(text.split()))
    return dict(found)


def _read_text(file: Path, root: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError):
        raise ClipError("unreadable_transcript", f"{short(file, root)}: not readable as UTF-8 text") from None
