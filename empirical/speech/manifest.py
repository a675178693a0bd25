"""The "Hell" set as a manifest: which stress each utterance gets, what it achieved, and the hashes that fix both ends.

One JSON object a line. The same clips, conditions and seed give the same bytes, wherever the clips lie.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import scipy.io.wavfile

from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError, load_audio
from empirical.speech.clips import Clip, RejectedClip
from empirical.stress import PoolClip, StressError, StressResult, apply, generator, stressor

WINDOW_S = 30.0
"""Whisper's audio window: a result that is longer loses its end there."""

STRESSES = ("stretch", "mix", "noise")
"""What an utterance gets one of by default (observables.md: 5,559 pairs)."""

_POOL_CACHE = 64
_LONGEST_STEM = 200


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """What was written.

    Attributes:
        path: the manifest.
        lines: its lines.
        quarantine: the file that lists what could not be used; None where there was nothing.
        quarantined: its lines.
    """

    path: Path
    lines: int
    quarantine: Path | None
    quarantined: int


def write_manifest(
    clips: Sequence[Clip],
    conditions: Sequence[str] | None,
    seed: int,
    out: Path,
    audio_dir: Path | None = None,
    *,
    rejected: Sequence[RejectedClip] = (),
    window_s: float = WINDOW_S,
    progress: Callable[[], None] | None = None,
) -> ManifestSummary:
    """Stress every utterance and write down what was done.

    Each line has "utterance", "source" (file name), "speaker", "reference", "stressor", "parameters", "seed",
    "achieved" (an object of numbers), "notes", "samples", "truncated" (longer than `window_s`), "window_s",
    "source_sha256" (of the file's bytes), "result_sha256" (of the samples as little-endian float32) and "audio" (the
    written file's name, or null). An utterance that cannot be used goes to `<out>.quarantine.jsonl` with the code of
    its error, and the others are not touched by that. Both files are renamed into place when they are complete.

    Args:
        clips: utterances; also the pool that a mix takes its other speakers from.
        conditions: stressors to apply to every utterance; None gives each one of `STRESSES` by seed.
        seed: at least 0.
        out: the manifest's path.
        audio_dir: where to write the samples as 16 kHz float WAV, whose samples hash to "result_sha256", with the
            reference beside each as text.
        rejected: files that a scan has refused already, to be listed in the quarantine.
        window_s: window that "truncated" refers to, seconds.
        progress: called after each utterance.

    Raises:
        ValueError: for a negative seed, a window that is not positive, no or unknown conditions, or an `out` that is a
            directory.
    """
    out = Path(out)
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")
    if not window_s > 0:
        raise ValueError(f"window_s must be positive; got {window_s}")
    if conditions is not None and not conditions:
        raise ValueError("conditions must name at least one stressor; got none")
    for name in conditions or ():
        stressor(name)
    if out.is_dir():
        raise ValueError(f"{out} must be a file to write; it is a directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    if audio_dir is not None:
        audio_dir.mkdir(parents=True, exist_ok=True)
    quarantine = out.with_name(out.name + ".quarantine.jsonl")
    pool = _pool(clips)
    lines, refused = 0, 0
    with _replacing(out) as manifest, _replacing(quarantine) as refusals:
        for each in rejected:
            refused += _line(refusals, _Refusal(None, each.code, each.detail).entry(each.name, each.path))
        for clip in sorted(clips, key=lambda clip: clip.name):
            for outcome in _attempts(clip, conditions or (one_stress(clip.name, seed),), seed, pool):
                if isinstance(outcome, _Refusal):
                    refused += _line(refusals, outcome.entry(clip.name, clip.path))
                    continue
                name, result = outcome
                audio = None if audio_dir is None else _write_audio(audio_dir, clip, name, result)
                lines += _line(manifest, _entry(clip, name, seed, window_s, result, audio))
            if progress is not None:
                progress()
    if refused == 0:
        quarantine.unlink()
    return ManifestSummary(out, lines, quarantine if refused else None, refused)


def one_stress(utterance: str, seed: int) -> str:
    """The stress that an utterance gets when it gets one: uniform over `STRESSES`, from (utterance, seed) alone."""
    return STRESSES[int(generator(utterance, "choice", seed).integers(len(STRESSES)))]


def samples_sha256(samples: np.ndarray) -> str:
    """SHA-256 of samples as little-endian float32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype="<f4").tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why an utterance, or one stress of it, is not in the manifest."""

    stressor: str | None
    code: str
    detail: str

    def entry(self, utterance: str, path: Path) -> dict[str, object]:
        return {
            "utterance": utterance,
            "source": path.name,
            "stressor": self.stressor,
            "code": self.code,
            "detail": self.detail,
        }


def _attempts(
    clip: Clip, names: Sequence[str], seed: int, pool: Sequence[PoolClip]
) -> Iterator[tuple[str, StressResult] | _Refusal]:
    """Each stress of one utterance with its result, or why there is none."""
    try:
        samples = load_audio(clip.path)
    except AudioError as error:
        yield _Refusal(None, error.code, error.detail)
        return
    for name in names:
        try:
            yield name, apply(stressor(name), samples, utterance=clip.name, seed=seed, pool=pool, speaker=clip.speaker)
        except StressError as error:
            yield _Refusal(name, error.code, error.message)


def _entry(
    clip: Clip, name: str, seed: int, window_s: float, result: StressResult, audio: str | None
) -> dict[str, object]:
    return {
        "utterance": clip.name,
        "source": clip.path.name,
        "speaker": clip.speaker,
        "reference": clip.reference,
        "stressor": name,
        "parameters": result.parameters,
        "seed": seed,
        "achieved": result.achieved,
        "notes": list(result.notes),
        "samples": len(result.samples),
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "truncated": len(result.samples) > window_s * SAMPLE_RATE_HZ,
        "window_s": window_s,
        "source_sha256": _file_sha256(clip.path),
        "result_sha256": samples_sha256(result.samples),
        "audio": audio,
    }


def _pool(clips: Sequence[Clip]) -> list[PoolClip]:
    load = functools.lru_cache(maxsize=_POOL_CACHE)(load_audio)
    return [PoolClip(clip.name, clip.speaker, functools.partial(load, clip.path)) for clip in clips]


def _write_audio(directory: Path, clip: Clip, name: str, result: StressResult) -> str:
    stem = clip.name
    if len(stem.encode()) > _LONGEST_STEM:  # file systems hold 255 bytes, and the name while writing is longer
        stem = f"{stem[: _LONGEST_STEM // 4]}-{hashlib.sha256(stem.encode()).hexdigest()[:16]}"
    path = directory / f"{stem}.{name}.wav"
    with _replacing_path(path) as temporary:
        # scipy and not soundfile: libsndfile puts the time of writing into a float WAV.
        scipy.io.wavfile.write(temporary, SAMPLE_RATE_HZ, result.samples.astype("<f4"))
    if clip.reference is not None:
        path.with_suffix(".txt").write_text(clip.reference + "\n", encoding="utf-8")
    return path.name


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(file: IO[str], content: dict[str, object]) -> int:
    """Write one line; the number of lines written."""
    file.write(json.dumps(content, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n")
    return 1


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes its place only when the block ends well."""
    with _replacing_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing_path(path: Path) -> Iterator[Path]:
    """A name to write to beside `path`, renamed to it when the block ends well and removed when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
