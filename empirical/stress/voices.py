"""Other speakers: who of a pool may speak beside an utterance, and a sum of some of them at one level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from empirical.speech.audio import AudioError
from empirical.stress.errors import StressError
from empirical.stress.levels import active_power
from empirical.stress.records import PoolClip, Scene


@dataclass(frozen=True, slots=True)
class Voices:
    """Others' speech, to be laid over an utterance.

    Attributes:
        samples: (n,) float64, their sum.
        others: of each "utterance", "speaker", "start" (sample): enough to add them up again.
        notes: "unknown_speakers", "unreadable:NAME", "short_pool".
    """

    samples: np.ndarray
    others: list[dict[str, object]]
    notes: tuple[str, ...]


def add_voices(onto: np.ndarray, wanted: int, level: float, scene: Scene, rng: np.random.Generator) -> Voices:
    """Add one utterance each of other speakers, each at an active r.m.s. of `level`.

    z_j is read circularly from a random start to the target's length: cut if it is longer, repeated if it is shorter.
    A pool of fewer speakers gives all of them, noted "short_pool"; a clip of unknown speaker counts as a speaker of
    its own, noted "unknown_speakers"; what does not load or is silence is passed over, noted "unreadable:NAME".

    Args:
        onto: (n,) float64 to start the sum from: the target, or zeros. Not written to.
        wanted: number of others.
        level: r.m.s. over active speech, of each.
        scene: the pool, and what was recorded of an earlier sum: then just those voices, from just those starts.
        rng: chance, not drawn from where something was recorded.

    Raises:
        StressError: "pool_empty" if there is no usable other, "pool_missing" if a recorded one is not in the pool.
    """
    total = onto.copy()
    if scene.recorded is not None:
        return _again(total, wanted, level, scene, scene.recorded)
    voices, notes = _by_speaker(scene)
    used: list[dict[str, object]] = []
    for index in rng.permutation(len(voices)):
        if len(used) == wanted:
            break
        clips = voices[index]
        other, samples, unreadable = first_usable([clips[index] for index in rng.permutation(len(clips))])
        notes += [f"unreadable:{name}" for name in unreadable]
        start_at = rng.random()
        if other is None:
            continue
        start = int(start_at * len(samples))
        total += looped(samples, start, len(total)) * (level / math.sqrt(active_power(samples)))
        used.append({"utterance": other.name, "speaker": other.speaker, "start": start})
    if not used:
        raise StressError(
            "pool_empty", f"{scene.utterance}: no usable utterance of another speaker among {len(scene.pool)}"
        )
    return Voices(total, used, (*notes, *_short(used, wanted)))


def _again(total: np.ndarray, wanted: int, level: float, scene: Scene, recorded: Mapping[str, object]) -> Voices:
    others = recorded.get("others")
    if not isinstance(others, Sequence) or isinstance(others, str) or not others:
        raise StressError("bad_parameter", f"recorded others must name who was mixed in; got {others!r}")
    used: list[dict[str, object]] = []
    for each in others:
        name, start = entry(each, "utterance")
        samples = recorded_samples(name, scene.pool)
        total += looped(samples, start, len(total)) * (level / math.sqrt(active_power(samples)))
        used.append({"utterance": name, "speaker": each.get("speaker"), "start": start})
    unknown = _speaker(scene) is None or any(each["speaker"] is None for each in used)
    return Voices(total, used, (*(("unknown_speakers",) if unknown else ()), *_short(used, wanted)))


def entry(each: object, key: str) -> tuple[str, int]:
    """Name and start as recorded."""
    if isinstance(each, Mapping):
        name, start = each.get(key), each.get("start")
        if isinstance(name, str) and isinstance(start, int) and start >= 0:
            return name, start
    raise StressError("bad_parameter", f"what was recorded must have {key} and start; got {each!r}")


def recorded_samples(name: str, pool: Sequence[PoolClip]) -> np.ndarray:
    """(n,) float64 of the clip of that name.

    Raises:
        StressError: "pool_missing" if it is not there, cannot be read, or is silence.
    """
    clip = next((clip for clip in pool if clip.name == name), None)
    if clip is None:
        raise StressError("pool_missing", f"{name} was recorded and is not among the {len(pool)} at hand")
    found, samples, _ = first_usable([clip])
    if found is None:
        raise StressError("pool_missing", f"{name} was recorded and cannot be used now")
    return samples


def looped(samples: np.ndarray, start: int, count: int) -> np.ndarray:
    """(count,) samples read circularly from a start."""
    return np.take(samples, np.arange(start, start + count), mode="wrap")


def first_usable(clips: Sequence[PoolClip]) -> tuple[PoolClip | None, np.ndarray, list[str]]:
    """The first clip that loads, is finite and not silence, its (n,) float64, and the names of those before it."""
    unreadable: list[str] = []
    for clip in clips:
        try:
            samples = np.asarray(clip.load(), np.float64)
        except AudioError:
            unreadable.append(clip.name)
            continue
        usable = samples.ndim == 1 and samples.size > 0 and np.isfinite(samples).all()
        if usable and active_power(samples) > 0:
            return clip, samples, unreadable
        unreadable.append(clip.name)
    return None, np.zeros(0), unreadable


def _short(used: Sequence[object], wanted: int) -> tuple[str, ...]:
    return ("short_pool",) if len(used) < wanted else ()


def _speaker(scene: Scene) -> str | None:
    """Who speaks in the target, as far as the scene or its pool knows."""
    if scene.speaker is not None:
        return scene.speaker
    return next((clip.speaker for clip in scene.pool if clip.name == scene.utterance), None)


def _by_speaker(scene: Scene) -> tuple[list[list[PoolClip]], list[str]]:
    """The pool's clips by speaker, the target's speaker left out, in an order of names alone."""
    speaker, utterance = _speaker(scene), scene.utterance
    by_speaker: dict[tuple[bool, str], list[PoolClip]] = {}
    for clip in sorted(scene.pool, key=lambda each: each.name):
        if clip.name == utterance or (clip.speaker is not None and clip.speaker == speaker):
            continue
        key = (True, clip.name) if clip.speaker is None else (False, clip.speaker)
        by_speaker.setdefault(key, []).append(clip)
    unknown = speaker is None or any(is_unknown for is_unknown, _ in by_speaker)
    return [by_speaker[key] for key in sorted(by_speaker)], ["unknown_speakers"] if unknown else []
