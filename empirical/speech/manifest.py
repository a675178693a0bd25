"""The "Hell" set as a manifest: which stress each utterance gets, what it achieved, and the hashes that fix both ends.

One JSON object a line, by `manifest.schema.json`. The same clips, conditions and seed give the same bytes, wherever the
clips lie, with the same versions of the libraries that each line names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import scipy.io.wavfile

from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError, load_audio
from empirical.speech.clips import Clip, RejectedClip
from empirical.speech.manifest_part import Outcome, Part, open_part
from empirical.speech.manifest_records import SCHEMA_VERSION, file_sha256, samples_sha256, source_sha256, versions
from empirical.speech.samples import noise_pool, sound_pool
from empirical.stress import PoolClip, StressError, StressResult, apply, base_names, expand, generator, order_key, parse

__all__ = ["STRESSES", "WINDOW_S", "ManifestSummary", "Stresses", "one_stress", "samples_sha256", "write_manifest"]

WINDOW_S = 30.0
"""Whisper's audio window: a result that is longer loses its end there."""

STRESSES = ("stretch", "mix", "noise")
"""What an utterance gets one of by default (observables.md: 5,559 pairs)."""

Stresses = Literal["one", "all"]

_LONGEST_STEM = 200
_LONGEST_LABEL = 40
_UNFIT = re.compile(r"[^A-Za-z0-9.=_+-]")


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """What was written.

    Attributes:
        path: the manifest; nothing was written there if there is no line.
        lines: its lines.
        quarantine: the file that lists what could not be used; None where there was nothing.
        quarantined: its lines.
        kept: utterances that an interrupted build had done before.
        previous: where the manifest of other content that was at `path` is now; None where there was none.
    """

    path: Path
    lines: int
    quarantine: Path | None
    quarantined: int
    kept: int = 0
    previous: Path | None = None


def write_manifest(
    clips: Sequence[Clip],
    conditions: Sequence[str] | None,
    seed: int,
    out: Path,
    audio_dir: Path | None = None,
    *,
    stresses: Stresses | None = None,
    noise_dir: Path | None = None,
    rejected: Sequence[RejectedClip] = (),
    window_s: float = WINDOW_S,
    progress: Callable[[], None] | None = None,
) -> ManifestSummary:
    """Stress every utterance and write down what was done.

    Lines are in the order of utterances' names, then of conditions. An utterance that cannot be used goes to
    `<out>.quarantine.jsonl` with the code of its error, and the others are not touched by that. Both files are renamed
    into place when they are complete. Until then what is done lies in `<out>.part`: the same call after an
    interruption goes on from there, if neither the arguments nor the files have changed.

    Args:
        clips: utterances; also the pool that a mix takes its other speakers from.
        conditions: labels of stressors, ladders expanded; None is `STRESSES`.
        seed: at least 0.
        out: the manifest's path. One of other content that is there is kept as `<out>.previous`.
        audio_dir: where to write the samples as 16 kHz float WAV, whose samples hash to "result_sha256", with the
            reference beside each as text.
        stresses: "all" of the conditions on every utterance, or "one" by seed; by default "one" where no conditions
            are given, else "all".
        noise_dir: recordings for conditions that take noise from a folder.
        rejected: files that a scan has refused already, to be listed in the quarantine.
        window_s: window that "truncated" refers to, seconds.
        progress: called after each utterance.

    Raises:
        ValueError: for a negative seed, a window that is not positive, no or unknown conditions (StressError), an
            unknown value of `stresses`, kind=folder without `noise_dir`, or an `out` that is a directory.
        ClipError: if `noise_dir` has no audio.
        ManifestError: "busy" if another process writes the same manifest.
        OSError: if something cannot be written.
    """
    out = Path(out)
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")
    if not window_s > 0:
        raise ValueError(f"window_s must be positive; got {window_s}")
    labels = chosen_labels(conditions)
    one = chosen_stresses(conditions, stresses) == "one"
    if out.is_dir():
        raise ValueError(f"{out} must be a file to write; it is a directory")
    noises = chosen_noises(labels, noise_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    if audio_dir is not None:
        audio_dir.mkdir(parents=True, exist_ok=True)
    clips = sorted(clips, key=lambda clip: clip.name)
    pool = sound_pool(clips)
    asked = {"labels": labels, "one": one, "seed": seed, "window_s": window_s, "audio": str(audio_dir)}
    with open_part(out.with_name(out.name + ".part"), _work(asked, clips, noise_dir, noises)) as part:
        kept = part.keep([clip.name for clip in clips], lambda outcome: _has_audio(outcome, audio_dir))
        for number, clip in enumerate(clips):
            if number >= kept:
                mine = (one_stress(clip.name, seed, labels),) if one else labels
                part.append(_outcome(clip, mine, seed, window_s, pool, noises, audio_dir))
            if progress is not None:
                progress()
        return _finish(part, out, rejected, kept)


def chosen_labels(conditions: Sequence[str] | None) -> tuple[str, ...]:
    """Canonical labels in their order, ladders expanded and repetitions dropped; `STRESSES` for None.

    Raises:
        ValueError: if there are none.
        StressError: for one that cannot be made.
    """
    if conditions is None:
        return STRESSES
    if not conditions:
        raise ValueError("conditions must name at least one stressor; got none")
    return tuple(sorted({label for text in conditions for label in expand(text)}, key=order_key))


def chosen_noises(labels: Sequence[str], noise_dir: Path | None) -> list[PoolClip]:
    """The recordings that the labels may take from.

    Raises:
        ValueError: if one takes from a folder and there is none.
        ClipError: if the folder has no audio.
    """
    if noise_dir is not None:
        return noise_pool(noise_dir)
    taking = next((label for label in labels if "kind=folder" in label), None)
    if taking is not None:
        raise ValueError(f"noise_dir must be given for a condition of kind=folder; got {taking!r} without it")
    return []


def chosen_stresses(conditions: Sequence[str] | None, stresses: str | None) -> str:
    """ "one" or "all", as asked or by default.

    Raises:
        ValueError: for another.
    """
    if stresses not in (None, "one", "all"):
        raise ValueError(f"stresses must be one or all; got {stresses!r}")
    return stresses or ("one" if conditions is None else "all")


def one_stress(utterance: str, seed: int, labels: Sequence[str] = STRESSES) -> str:
    """The stress that an utterance gets when it gets one: uniform over `labels`, from (utterance, seed) alone."""
    return labels[int(generator(utterance, "choice", seed).integers(len(labels)))]


def _outcome(
    clip: Clip,
    labels: Sequence[str],
    seed: int,
    window_s: float,
    pool: Sequence[PoolClip],
    noises: Sequence[PoolClip],
    audio_dir: Path | None,
) -> Outcome:
    """Each stress of one utterance, or why there is none."""
    outcome = Outcome(clip.name, [], [])
    try:
        samples = load_audio(clip.path)
        source = source_sha256(clip.path)
    except AudioError as error:
        outcome.refused.append(_refusal(clip.name, clip.path, None, error.code, error.detail))
        return outcome
    for label in labels:
        try:
            result = apply(
                parse(label), samples, utterance=clip.name, seed=seed, pool=pool, speaker=clip.speaker, noises=noises
            )
        except StressError as error:
            outcome.refused.append(_refusal(clip.name, clip.path, label, error.code, error.message))
            continue
        audio = None if audio_dir is None else _write_audio(audio_dir, clip, label, result)
        outcome.lines.append(_entry(clip, label, seed, window_s, result, source, audio))
    return outcome


def _refusal(utterance: str, path: Path, label: str | None, code: str, detail: str) -> dict[str, Any]:
    names = None if label is None else "+".join(base_names(label))
    what = {"utterance": utterance, "source": path.name, "condition": label, "stressor": names}
    return what | {"code": code, "detail": detail}


def _entry(
    clip: Clip, label: str, seed: int, window_s: float, result: StressResult, source: str, audio: str | None
) -> dict[str, Any]:
    achieved = {name: value for name, value in result.achieved.items() if math.isfinite(value)}
    unmeasured = [f"unmeasured:{name}" for name in result.achieved if name not in achieved]
    return {
        "schema_version": SCHEMA_VERSION,
        "utterance": clip.name,
        "source": clip.path.name,
        "speaker": clip.speaker,
        "reference": clip.reference,
        "condition": label,
        "stressor": "+".join(base_names(label)),
        "parameters": result.parameters,
        "seed": seed,
        "speech": result.speech,
        "achieved": achieved,
        "notes": [*result.notes, *unmeasured],
        "samples": len(result.samples),
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "truncated": len(result.samples) > window_s * SAMPLE_RATE_HZ,
        "window_s": window_s,
        "source_sha256": source,
        "result_sha256": samples_sha256(result.samples),
        "audio": audio,
        "versions": versions(),
    }


def _work(asked: dict[str, Any], clips: Sequence[Clip], noise_dir: Path | None, noises: Sequence[PoolClip]) -> str:
    """A digest of all that decides the outcomes: what was asked, the versions, and the files by size and time."""
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, asked, versions()], sort_keys=True).encode())
    for clip in clips:
        digest.update(repr((clip.name, clip.speaker, clip.reference, *_stamp(clip.path))).encode())
    for noise in noises:
        digest.update(repr((noise.name, *_stamp(Path(str(noise_dir), noise.name)))).encode())
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


def _has_audio(outcome: Outcome, audio_dir: Path | None) -> bool:
    return audio_dir is None or all((audio_dir / line["audio"]).is_file() for line in outcome.lines)


def _finish(part: Part, out: Path, rejected: Sequence[RejectedClip], kept: int) -> ManifestSummary:
    """Both files from the part: a line can say how many there are only when all are made."""
    quarantine = out.with_name(out.name + ".quarantine.jsonl")
    lines = sum(len(outcome.lines) for outcome in part.outcomes())
    refused = 0
    with _replacing(quarantine) as file:
        for each in rejected:
            refused += _line(file, _refusal(each.name, each.path, None, each.code, each.detail))
        for outcome in part.outcomes():
            refused += sum(_line(file, entry) for entry in outcome.refused)
    if refused == 0:
        quarantine.unlink()
    previous = None
    if lines:
        with _replacing_path(out) as temporary:
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                entries = (entry for outcome in part.outcomes() for entry in outcome.lines)
                for number, entry in enumerate(entries, start=1):
                    _line(file, entry | {"line": number, "lines": lines})
                file.flush()
                os.fsync(file.fileno())
            if out.exists() and out.stat().st_size and file_sha256(out) != file_sha256(temporary):
                previous = out.with_name(out.name + ".previous")
                os.replace(out, previous)
    return ManifestSummary(out, lines, quarantine if refused else None, refused, kept, previous)


def _write_audio(directory: Path, clip: Clip, label: str, result: StressResult) -> str:
    name = f"{_shortened(clip.name, _LONGEST_STEM)}.{_file_label(label)}.wav"
    path = directory / name
    with _replacing_path(path) as temporary:
        # scipy and not soundfile: libsndfile puts the time of writing into a float WAV.
        scipy.io.wavfile.write(temporary, SAMPLE_RATE_HZ, result.samples.astype("<f4"))
    reference = clip.reference if result.speech else ""
    if reference is not None:
        path.with_suffix(".txt").write_text(reference + "\n", encoding="utf-8")
    return path.name


def _file_label(label: str) -> str:
    """A label as part of a file's name; one that had to be changed beyond ":" ends in a hash, so no two are alike."""
    fit = label.replace(":", "-")
    if _UNFIT.search(fit) or len(fit) > _LONGEST_LABEL:
        fit = f"{_UNFIT.sub('_', fit)[: _LONGEST_LABEL // 2]}-{hashlib.sha256(label.encode()).hexdigest()[:16]}"
    return fit


def _shortened(stem: str, most: int) -> str:
    if len(stem.encode()) <= most:  # file systems hold 255 bytes, and the name while writing is longer
        return stem
    return f"{stem[: most // 4]}-{hashlib.sha256(stem.encode()).hexdigest()[:16]}"


def _line(file: IO[str], content: dict[str, Any]) -> int:
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
