"""What a data set holds, before anything is measured: a folder of audio, a manifest, or LibriSpeech's own tree."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError, inspect_audio, load_audio
from empirical.speech.clips import RejectedClip, scan_clips
from empirical.speech.fetch import Progress
from empirical.speech.layout import short
from empirical.speech.librispeech import SubsetCheck, check_subset, find_subsets

Reading = Literal["names", "headers", "samples"]
"""How much of each audio file is read: nothing, its header, or all of it, as measuring it would."""


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What a directory or a manifest holds.

    Attributes:
        path: what was checked.
        clips: that can be used, as far as names, transcripts and headers tell.
        references: of them with a transcript.
        wordless: of these, with an empty one: nothing is said.
        speakers: different ones, where names tell.
        duration_s: of the clips together, seconds; 0 where only names were read.
        untimed: clips whose header does not say how long they are, and which `duration_s` leaves out.
        rejected: clips that are kept out, with a code of `ClipError.CODES` or `AudioError.CODES`.
        ignored: files of other kinds.
        subsets: of LibriSpeech, where it is LibriSpeech's tree.
    """

    path: Path
    clips: int
    references: int
    wordless: int
    speakers: int
    duration_s: float
    untimed: int
    rejected: tuple[RejectedClip, ...]
    ignored: int
    subsets: tuple[SubsetCheck, ...]

    @property
    def whole(self) -> bool:
        """Every clip can be used, and every subset is as it was published."""
        return not self.rejected and all(subset.whole for subset in self.subsets)

    @property
    def codes(self) -> dict[str, int]:
        """How many clips are kept out for which reason, the commonest first."""
        return dict(Counter(each.code for each in self.rejected).most_common())


def check_data(
    path: str | Path, *, read: Reading = "headers", contents: bool = False, progress: Progress | None = None
) -> DataCheck:
    """Look at a data set as the measuring commands would.

    Args:
        path: a directory, a manifest or one audio file.
        read: how much of each audio file.
        contents: hash the files of a LibriSpeech subset that `fetch_librispeech` unpacked.
        progress: called with "read", and files done of files.

    Raises:
        ClipError: "missing", "no_audio" or "unreadable_manifest".
        ValueError: for an unknown `read`.
    """
    if read not in get_args(Reading):
        raise ValueError(f"read must be one of {', '.join(get_args(Reading))}; got {read!r}")
    root = Path(path)
    scan = scan_clips(root)
    places = find_subsets(root) if root.is_dir() else {}
    subsets = tuple(check_subset(name, place, contents=contents) for name, place in sorted(places.items()))
    seconds: list[float] = []
    refused: dict[str, RejectedClip] = {}
    for done, clip in enumerate(scan.clips if read != "names" else (), start=1):
        try:
            seconds.append(_duration_s(clip.path, read))
        except AudioError as error:
            detail = f"{short(clip.path, root)}: {error.detail}"
            refused[clip.name] = RejectedClip(clip.name, clip.path, error.code, detail)
        if progress is not None:
            progress("read", done, len(scan.clips))
    good = [clip for clip in scan.clips if clip.name not in refused]
    return DataCheck(
        path=root,
        clips=len(good),
        references=sum(clip.reference is not None for clip in good),
        wordless=sum(clip.reference == "" for clip in good),
        speakers=len({clip.speaker for clip in good if clip.speaker is not None}),
        duration_s=sum(each for each in seconds if math.isfinite(each)),
        untimed=sum(not math.isfinite(each) for each in seconds),
        rejected=(*scan.rejected, *refused.values()),
        ignored=scan.ignored,
        subsets=subsets,
    )


def _duration_s(path: Path, read: Reading) -> float:
    return len(load_audio(path)) / SAMPLE_RATE_HZ if read == "samples" else inspect_audio(path).duration_s
