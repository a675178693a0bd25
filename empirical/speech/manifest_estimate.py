"""What a manifest will take: lines, seconds of audio, time and disk, from headers and from a few samples made."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError, inspect_audio
from empirical.speech.clips import Clip
from empirical.speech.manifest import Stresses, chosen_labels, chosen_noises, chosen_stresses, one_stress
from empirical.speech.samples import Sample, make_sample, sound_pool
from empirical.stress import PoolClip, StressError

TRIED = 2
"""Clips of each condition that are made in earnest, to see how long it takes and how long the result is."""

_HEADER_BYTES = 58  # of a float WAV as scipy writes it
_LINE_BYTES = 1600  # of the manifest, a mix's


@dataclass(frozen=True, slots=True)
class ManifestEstimate:
    """What building a manifest comes to; times on this machine as it is now.

    Attributes:
        lines: at most, if every file can be used.
        by_condition: lines of each condition.
        source_s: audio that is read for the lines, seconds; a clip of three stresses is read once.
        result_s: audio that is made, seconds.
        time_s: seconds of one core.
        manifest_bytes: of the manifest, and of the part it is made from while at work.
        audio_bytes: of the samples if they are written.
        unknown: clips whose header does not say how long they are; each is counted as the mean of the others.
    """

    lines: int
    by_condition: dict[str, int]
    source_s: float
    result_s: float
    time_s: float
    manifest_bytes: int
    audio_bytes: int
    unknown: int


def estimate_manifest(
    clips: Sequence[Clip],
    conditions: Sequence[str] | None,
    seed: int,
    *,
    stresses: Stresses | None = None,
    noise_dir: Path | None = None,
) -> ManifestEstimate:
    """Count what `write_manifest` would do, its time and lengths scaled from `TRIED` clips a condition.

    Those are clips of middle length; time and length are taken as proportional to a clip's seconds, which they are
    but for a few milliseconds a file.

    Raises:
        ValueError, StressError, ClipError: as `write_manifest`.
    """
    labels = chosen_labels(conditions)
    one = chosen_stresses(conditions, stresses) == "one"
    noises = chosen_noises(labels, noise_dir)
    seconds = {clip.name: _seconds(clip) for clip in clips}
    known = [value for value in seconds.values() if math.isfinite(value)]
    mean = statistics.fmean(known) if known else 0.0
    pool = sound_pool(clips)
    middle = sorted((clip for clip in clips if math.isfinite(seconds[clip.name])), key=lambda clip: seconds[clip.name])
    middle = middle[len(middle) // 2 :] + middle[: len(middle) // 2][::-1]
    asked: Counter[str] = Counter()
    asked_s: defaultdict[str, float] = defaultdict(float)
    for clip in clips:
        for label in (one_stress(clip.name, seed, labels),) if one else labels:
            asked[label] += 1
            asked_s[label] += seconds[clip.name] if math.isfinite(seconds[clip.name]) else mean
    time_s = result_s = 0.0
    for label in asked:
        cost, length = _tried([Sample(clip, label, seed) for clip in middle], pool, noises)
        time_s += cost * asked_s[label]
        result_s += length * asked_s[label]
    lines = sum(asked.values())
    return ManifestEstimate(
        lines=lines,
        by_condition={label: asked[label] for label in labels if label in asked},
        source_s=sum(value if math.isfinite(value) else mean for value in seconds.values()),
        result_s=result_s,
        time_s=time_s,
        manifest_bytes=2 * _LINE_BYTES * lines,
        audio_bytes=round(4 * SAMPLE_RATE_HZ * result_s) + _HEADER_BYTES * lines,
        unknown=len(seconds) - len(known),
    )


def _tried(samples: Sequence[Sample], pool: Sequence[PoolClip], noises: Sequence[PoolClip]) -> tuple[float, float]:
    """Seconds of work, and of result, for a second of audio; 0 where no sample can be made."""
    worked = made = read = 0.0
    done = 0
    for sample in samples[: 8 * TRIED]:  # where the first clips are no audio, others are tried
        try:
            if not done:  # the first call pays for what is imported and compiled once
                make_sample(sample, pool=pool, noises=noises)
            start = time.perf_counter()
            result = make_sample(sample, pool=pool, noises=noises)
        except (AudioError, StressError):
            continue
        worked += time.perf_counter() - start
        made += len(result.samples) / SAMPLE_RATE_HZ
        read += _seconds(sample.clip)
        done += 1
        if done == TRIED:
            break
    return (worked / read, made / read) if read else (0.0, 0.0)


def _seconds(clip: Clip) -> float:
    try:
        return inspect_audio(clip.path).duration_s
    except AudioError:
        return 0.0
