"""Samples of an experiment: a clip under a condition, made from its audio by seed or remade as a manifest records it.

The same sample gives the same bytes wherever and in whatever order it is made.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from empirical.speech.audio import load_audio
from empirical.speech.clips import AUDIO_EXTENSIONS
from empirical.speech.manifest_records import (
    ManifestError,
    ManifestLine,
    samples_sha256,
    source_sha256,
    version_differences,
)
from empirical.speech.records import Clip, ClipError
from empirical.stress import PoolClip, StressResult, apply, parse, reapply

CACHE_BYTES = 8 << 20
"""Decoded audio that a pool keeps, bytes: 130 s at 16 kHz in float32."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip under one condition.

    Attributes:
        clip: the utterance.
        condition: canonical label of a stressor (`empirical.stress.label`).
        seed: of the stress.
        recorded: what a manifest says of it, to be remade and checked; None makes it by seed.
    """

    clip: Clip
    condition: str
    seed: int
    recorded: ManifestLine | None = None


def make_sample(sample: Sample, *, pool: Sequence[PoolClip] = (), noises: Sequence[PoolClip] = ()) -> StressResult:
    """Load a sample's audio and put its stress on it.

    Args:
        sample: what to make.
        pool: utterances that a mix or babble may take from; the sample's own may be among them.
        noises: recordings that a noise from a folder is taken from.

    Raises:
        AudioError: if the file is not usable audio.
        StressError: if the condition is unknown or cannot be applied.
        ManifestError: "changed_source", "changed_result" where the sample is not what was recorded.
    """
    kind = parse(sample.condition)
    clip = sample.clip
    audio = load_audio(clip.path)
    if sample.recorded is None:
        return apply(kind, audio, utterance=clip.name, seed=sample.seed, pool=pool, speaker=clip.speaker, noises=noises)
    recorded = sample.recorded
    if source_sha256(clip.path) != recorded.source_sha256:
        raise ManifestError(
            "changed_source", f"{clip.name}: {clip.path.name} is not the file that the manifest was made from"
        )
    result = reapply(
        kind,
        recorded.parameters,
        audio,
        utterance=clip.name,
        seed=sample.seed,
        pool=pool,
        speaker=recorded.speaker,
        noises=noises,
    )
    if recorded.result_sha256 not in (None, samples_sha256(result.samples)):
        others = version_differences(recorded.versions)
        why = f"versions differ ({others})" if others else "versions do not differ: what was mixed in does, or spi"
        raise ManifestError("changed_result", f"{clip.name}, {sample.condition}: other samples than recorded; {why}")
    return result


def sound_pool(clips: Sequence[Clip]) -> list[PoolClip]:
    """Clips as what a mix takes its other speakers from; decoded audio is kept up to `CACHE_BYTES`."""
    cache = _Cache(CACHE_BYTES)
    return [PoolClip(clip.name, clip.speaker, functools.partial(cache.load, clip.path)) for clip in clips]


def noise_pool(directory: str | Path) -> list[PoolClip]:
    """The audio files under a directory, sorted, hidden ones and links to directories left out.

    Each is named by its path from there, with forward slashes, so a manifest means the same file on every machine.

    Raises:
        ClipError: "missing", or "no_audio" if no file has an audio extension.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ClipError("missing", f"{root}: no such directory")
    found = {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    if not found:
        raise ClipError("no_audio", f"{root}: no audio file in it")
    cache = _Cache(CACHE_BYTES)
    return [PoolClip(name, None, functools.partial(cache.load, path)) for name, path in sorted(found.items())]


class _Cache:
    """The audio that was asked for last, up to so many bytes; safe to use from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._kept: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, path: Path) -> np.ndarray:
        """(n,) float32 at 16 kHz, not to be written to.

        Raises:
            AudioError: as `load_audio`.
        """
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        samples = load_audio(path)
        samples.flags.writeable = False
        with self._lock:
            if path not in self._kept:
                self._kept[path] = samples
                self._left -= samples.nbytes
            while self._left < 0:
                _, dropped = self._kept.popitem(last=False)
                self._left += dropped.nbytes
        return samples
