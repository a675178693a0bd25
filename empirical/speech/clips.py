"""Clips: audio files with a name, a reference transcript where there is one, and a speaker where the name tells.

Three layouts are read alike: LibriSpeech's (`<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac`, transcripts in
`<speaker>-<chapter>.trans.txt` beside the audio), any folder of audio files, whose reference is a `.txt` of the same
name beside the file if there is one, and manifests (`.jsonl`, `.tsv`: `empirical.speech.tables`).
"""

from __future__ import annotations

import importlib.resources
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from empirical.speech.layout import TRANSCRIPTS, Transcripts, short, speaker_of
from empirical.speech.records import Clip, ClipError, ClipScan, RejectedClip
from empirical.speech.tables import TABLE_EXTENSIONS, scan_table

__all__ = [
    "AUDIO_EXTENSIONS",
    "Clip",
    "ClipError",
    "ClipScan",
    "RejectedClip",
    "bundled_clips",
    "find_clips",
    "scan_clips",
]

_COMMON = (".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".afc", ".au", ".snd")
_RARER = (".caf", ".w64", ".rf64", ".sph", ".webm", ".mka", ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".eac3", ".wma")
_UNDECODED = (".ape", ".wv", ".tta", ".mpc", ".dsf", ".ofr", ".ofs", ".spx", ".amr", ".oggtheora")

AUDIO_EXTENSIONS = frozenset((*_COMMON, *_RARER, *_UNDECODED))
"""Extensions (lower case) that make a file a clip. Formats that cannot be decoded here are among them: such a file is
someone's audio and must be reported as unreadable, not passed over. Any other extension is no clip."""


def scan_clips(directory: str | Path) -> ClipScan:
    """Find the clips under a directory; trouble with single files is listed, not raised.

    Args:
        directory: searched in depth, through symbolic links too, hidden files left out; or one audio file; or a
            manifest of clips.

    Raises:
        ClipError: "missing", "no_audio" if no file has an audio extension, or "unreadable_manifest".
    """
    root = Path(directory)
    if root.suffix.lower() in TABLE_EXTENSIONS and not root.is_dir():
        return scan_table(root)
    if not root.exists():
        raise ClipError("missing", f"{root}: no such file or directory")
    files = [root] if root.is_file() else sorted(_walk(root))
    audio = [file for file in files if root.is_file() or file.suffix.lower() in AUDIO_EXTENSIONS]
    if not audio:
        raise ClipError("no_audio", f"{root}: no audio file in it ({len(files)} files of other kinds)")
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in audio:
        by_name[file.stem].append(file)
    transcripts = Transcripts(root)
    clips: list[Clip] = []
    rejected: list[RejectedClip] = []
    for name, paths in sorted(by_name.items()):
        if len(paths) > 1:
            both = " and ".join(short(path, root) for path in paths)
            rejected += [RejectedClip(name, path, "duplicate_name", f"{name}: {both}") for path in paths]
            continue
        try:
            reference = transcripts.of(paths[0])
        except ClipError as error:
            rejected.append(RejectedClip(name, paths[0], error.code, error.message))
            continue
        clips.append(Clip(name, paths[0], reference, speaker_of(paths[0])))
    if not root.is_file():
        rejected += _orphans(files, by_name, transcripts, root)
    return ClipScan(tuple(clips), tuple(sorted(rejected, key=lambda each: each.path)), len(files) - len(audio))


def find_clips(directory: str | Path) -> list[Clip]:
    """The clips under a directory, sorted by name; `scan_clips` is the same without raising for single files.

    A transcript of audio that is not there is let be: a few files of a chapter are often taken with its whole
    transcript, and nothing that is there is lost.

    Raises:
        ClipError: any of `ClipError.CODES` but "orphan_transcript"; "duplicate_name" names both files.
    """
    scan = scan_clips(directory)
    first = next((each for each in scan.rejected if each.code != "orphan_transcript"), None)
    if first is not None:
        raise ClipError(first.code, f"{directory}: {first.detail}")
    return list(scan.clips)


def bundled_clips() -> list[Clip]:
    """The clips shipped with this package: synthetic speech that the bundled organisms were never trained on.

    Raises:
        ClipError: "missing" where the package was installed without them.
    """
    return find_clips(Path(str(importlib.resources.files("empirical"))) / "bundled" / "clips")


def _orphans(
    files: Iterable[Path], audio: Mapping[str, object], transcripts: Transcripts, root: Path
) -> Iterator[RejectedClip]:
    """Utterances that a `*.trans.txt` names and no audio file has."""
    for folder in sorted({file.parent for file in files if file.match(TRANSCRIPTS)}):
        for name in sorted(transcripts.named(folder)):
            if name not in audio:
                detail = f"{name}: a transcript in {short(folder, root)}, but no audio"
                yield RejectedClip(name, folder / name, "orphan_transcript", detail)


def _walk(root: Path) -> Iterator[Path]:
    """Files under a directory; links are followed, each real directory once.

    Audio that is a link to nothing counts: in a data set of which only a part was fetched it stands for a clip, which
    is not to be lost in silence.
    """
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
            lost = path.suffix.lower() in AUDIO_EXTENSIONS and path.is_symlink() and not path.exists()
            if not name.startswith(".") and (lost or path.is_file()):
                yield path
