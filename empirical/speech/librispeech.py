"""LibriSpeech as OpenSLR publishes it (resource 12): its subsets, their sizes and sums, its readers, and its tree.

The tree is `LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac`, a
`<speaker>-<chapter>.trans.txt` beside the audio of each chapter, and `LibriSpeech/SPEAKERS.TXT`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from empirical.speech.layout import TRANSCRIPTS
from empirical.speech.receipt import compare, read_receipt

FOLDER = "LibriSpeech"
"""The one folder of every archive."""

MIRRORS = (
    "https://www.openslr.org/resources/12",
    "https://us.openslr.org/resources/12",
    "https://openslr.elda.org/resources/12",
)
"""OpenSLR's own servers. Whichever is asked, the MD5 decides."""


@dataclass(frozen=True, slots=True)
class Subset:
    """One of the archives.

    Attributes:
        name: as OpenSLR calls it.
        utterances: audio files in it.
        speakers: readers in it (Panayotov et al., ICASSP 2015, table 1).
        archive_bytes: length of `<name>.tar.gz`.
        archive_md5: of `<name>.tar.gz`, from OpenSLR's md5sum.txt.
    """

    name: str
    utterances: int
    speakers: int
    archive_bytes: int
    archive_md5: str


SUBSETS = MappingProxyType(
    {
        subset.name: subset
        for subset in (
            Subset("dev-clean", 2703, 40, 337926286, "42e2234ba48799c1f50f24a7926300a1"),
            Subset("dev-other", 2864, 33, 314305928, "c8d0bcc9cca99d4f8b62fcc847357931"),
            Subset("test-clean", 2620, 40, 346663984, "32fa31d27d2e1cad72775fee3f4849a9"),
            Subset("test-other", 2939, 33, 328757843, "fb5a50374b501bb3bac4815ee91d3135"),
            Subset("train-clean-100", 28539, 251, 6387309499, "2a93770f6d5c6c964bc36631d331a522"),
            Subset("train-clean-360", 104014, 921, 23049477885, "c0e676e450a7ff2f54aeade5171606fa"),
            Subset("train-other-500", 148688, 1166, 30593501606, "d1a0fd59409feb2c614ce4d30c387708"),
        )
    }
)

_NAME = re.compile(r"^(\d+)-(\d+)-(\d+)$")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A reader.

    Attributes:
        id: as in the names of files.
        sex: "F" or "M".
        subset: the one that has all of the reader's audio.
        minutes: of the reader's speech in the corpus.
        name: at LibriVox.
    """

    id: str
    sex: str
    subset: str
    minutes: float
    name: str


@dataclass(frozen=True, slots=True)
class SubsetCheck:
    """What is there of one subset, beside what must be.

    Attributes:
        subset: its name.
        directory: where it was looked for.
        utterances: audio files that a transcript names.
        expected: utterances that it must have.
        speakers: readers of whom there is audio.
        expected_speakers: readers that it must have.
        missing: files that are not there and can be named, sorted paths from `directory`.
        missing_unnamed: utterances that are not there besides, of which nothing is left that would name them.
        missing_speakers: readers that SPEAKERS.TXT assigns to the subset and that have no folder.
        extra: files that do not belong here, sorted paths.
        altered: files of other content than the archive's, sorted paths; known only with a receipt.
        receipt: the subset was unpacked by `fetch_librispeech`, whose list of files was compared.
        speakers_known: SPEAKERS.TXT is there.
    """

    subset: str
    directory: Path
    utterances: int
    expected: int
    speakers: int
    expected_speakers: int
    missing: tuple[str, ...]
    missing_unnamed: int
    missing_speakers: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]
    receipt: bool
    speakers_known: bool

    @property
    def whole(self) -> bool:
        """Everything is there, and nothing else."""
        named = self.missing or self.missing_speakers or self.extra or self.altered
        return not named and not self.missing_unnamed and self.utterances == self.expected


def read_speakers(path: str | Path) -> dict[str, Speaker]:
    """The readers of SPEAKERS.TXT, by id.

    Raises:
        ValueError: naming the line that is none.
        OSError: if the file cannot be read.
    """
    found: dict[str, Speaker] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]  # reader 60's name has bars in it
        try:
            speaker = Speaker(fields[0], fields[1], fields[2], float(fields[3]), fields[4])
        except (IndexError, ValueError):
            raise ValueError(f"{path}: line {number} must have five fields with minutes fourth; got {line!r}") from None
        found[speaker.id] = speaker
    return found


def find_subsets(directory: str | Path) -> dict[str, Path]:
    """The subsets of LibriSpeech at or under a directory, by name: itself, its children, or theirs."""
    root = Path(directory)
    places = {root.name: root} if root.name in SUBSETS and root.is_dir() else {}
    for parent in (root, root / FOLDER):
        for name in SUBSETS:
            if (parent / name).is_dir():
                places.setdefault(name, parent / name)
    return places


def check_subset(name: str, directory: Path, *, contents: bool = False) -> SubsetCheck:
    """Compare one subset on disk with what was published.

    Missing files are named by the receipt of `fetch_librispeech` where there is one; else by the transcripts, by gaps
    in the numbering of a chapter (it begins at 0 and has none) and, for whole readers, by SPEAKERS.TXT.

    Args:
        name: of `SUBSETS`.
        directory: `.../LibriSpeech/<name>`.
        contents: with a receipt, hash every file and not only compare its length.

    Raises:
        ValueError: for a name that is no subset.
    """
    if name not in SUBSETS:
        raise ValueError(f"name must be one of {', '.join(SUBSETS)}; got {name!r}")
    subset = SUBSETS[name]
    files = sorted(
        path for path in directory.rglob("*") if not path.name.startswith(".") and (path.is_file() or path.is_symlink())
    )
    transcribed = _transcribed(files)
    placed = {path.stem: path for path in files if path.suffix == ".flac" and _in_place(path, directory)}
    utterances = placed.keys() & transcribed.keys()
    readers = {path.parent.parent.name for path in placed.values()}
    receipt = read_receipt(directory.parent, name)
    assigned = _assigned(directory.parent / "SPEAKERS.TXT", name)
    if receipt is None:
        missing = _missing(placed, transcribed, directory, short=len(utterances) < subset.utterances)
        texts = {path for path in files if path.match(TRANSCRIPTS)}
        chapters = {path.parent for path in texts}
        # Audio of a chapter whose transcripts are lost belongs here; what is missing is the transcripts.
        known = texts | {path for stem, path in placed.items() if stem in utterances or path.parent not in chapters}
        extra, altered = [_relative(path, directory) for path in files if path not in known], []
    else:
        missing, extra, altered = compare(receipt, directory, files, contents=contents)
    lost = subset.utterances - len(utterances) - sum(path.endswith(".flac") for path in missing)
    return SubsetCheck(
        subset=name,
        directory=directory,
        utterances=len(utterances),
        expected=subset.utterances,
        speakers=len(readers),
        expected_speakers=subset.speakers,
        missing=tuple(sorted(missing)),
        missing_unnamed=max(0, lost),
        missing_speakers=tuple(sorted(assigned - readers, key=int)),
        extra=tuple(sorted(extra)),
        altered=tuple(sorted(altered)),
        receipt=receipt is not None,
        speakers_known=bool(assigned),
    )


def _transcribed(files: Iterable[Path]) -> dict[str, Path]:
    """Utterance ids that have words, with the folder of their transcript; an unreadable file names nobody."""
    found: dict[str, Path] = {}
    for path in files:
        if not path.match(TRANSCRIPTS):
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            name, _, text = line.strip().partition(" ")
            if text.strip():
                found[name] = path.parent
    return found


def _in_place(path: Path, directory: Path) -> bool:
    """An utterance's name says in which folder it lies."""
    match = _NAME.match(path.stem)
    return match is not None and path.parent == directory / match.group(1) / match.group(2)


def _missing(placed: dict[str, Path], transcribed: dict[str, Path], directory: Path, *, short: bool) -> list[str]:
    lost = {_relative(folder / f"{name}.flac", directory) for name, folder in transcribed.items() if name not in placed}
    if short:
        numbers: dict[Path, set[int]] = defaultdict(set)
        for name, folder in {**{stem: path.parent for stem, path in placed.items()}, **transcribed}.items():
            match = _NAME.match(name)
            if match is not None:
                numbers[folder].add(int(match.group(3)))
        for folder, seen in numbers.items():
            stem = f"{folder.parent.name}-{folder.name}"
            gaps = set(range(max(seen))) - seen
            lost |= {_relative(folder / f"{stem}-{number:04d}.flac", directory) for number in gaps}
    for stem, path in placed.items():
        if stem not in transcribed:
            chapter = path.parent / f"{path.parent.parent.name}-{path.parent.name}.trans.txt"
            if not chapter.is_file():
                lost.add(_relative(chapter, directory))
    return sorted(lost)


def _assigned(path: Path, subset: str) -> set[str]:
    """Ids of the readers of a subset; none where SPEAKERS.TXT is not there or cannot be read."""
    try:
        return {one.id for one in read_speakers(path).values() if one.subset == subset and one.id.isdecimal()}
    except (OSError, ValueError):
        return set()


def _relative(path: Path, directory: Path) -> str:
    return path.relative_to(directory).as_posix()
