"""Sounds that are not the utterance: white and pink noise, a babble of other speakers, recordings of a folder."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from empirical.speech.audio import SAMPLE_RATE_HZ
from empirical.stress.errors import StressError
from empirical.stress.fourier import fast_size, irfft, rfft
from empirical.stress.records import Scene
from empirical.stress.voices import add_voices, entry, first_usable, looped, recorded_samples

SOUNDS = ("white", "pink", "babble", "folder")

PINK_FROM_HZ = 20.0
"""Below what is heard pink noise has nothing: half of its power would else lie there, out of hearing."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound of no particular level.

    Attributes:
        samples: (n,) float64.
        parameters: what it was made from, where that is more than chance: "others" or "recording".
        achieved: "speakers" of a babble.
        notes: short codes of what was out of the ordinary.
    """

    samples: np.ndarray
    parameters: dict[str, object] = field(default_factory=dict)
    achieved: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def sound(kind: str, heard: np.ndarray, talkers: int, scene: Scene, rng: np.random.Generator) -> Sound:
    """A sound as long as an utterance, with some power where it will be measured.

    white: independent Gaussian samples. pink: Gaussian noise of power density 1/f from 20 Hz on, nothing below, shaped
    in the frequency domain over the whole length (Timmer and Koenig 1995). babble: a sum of utterances of other
    speakers, each at the same active r.m.s. folder: one recording, read circularly from a random start, repeated if it
    is shorter.

    Args:
        kind: of `SOUNDS`.
        heard: (n,) bool, the samples over which its power will be set.
        talkers: voices of a babble.
        scene: the pool and recordings to take from.
        rng: chance.

    Raises:
        StressError: "pool_empty", "no_noises", "pool_missing".
    """
    count = len(heard)
    if kind == "white":
        return Sound(rng.standard_normal(count))
    if kind == "pink":
        return Sound(_pink(count, rng))
    if kind == "babble":
        voices = add_voices(np.zeros(count), talkers, 1.0, scene, rng)
        if not np.square(voices.samples[heard]).sum() > 0:
            raise StressError("pool_empty", f"{scene.utterance}: the babble is silent where the utterance is not")
        achieved = {"speakers": float(len(voices.others))}
        return Sound(voices.samples, {"others": voices.others}, achieved, voices.notes)
    return _recording(heard, scene, rng)


def _pink(count: int, rng: np.random.Generator) -> np.ndarray:
    size = fast_size(count)
    spectrum = rfft(rng.standard_normal(size), size)
    frequency = np.arange(size // 2 + 1) * (SAMPLE_RATE_HZ / size)
    heard = frequency >= PINK_FROM_HZ
    if not heard.any():  # one or two samples have no frequency to shape
        return rng.standard_normal(count)
    amplitude = np.zeros(len(frequency))
    amplitude[heard] = 1 / np.sqrt(frequency[heard])
    return irfft(spectrum * amplitude, size)[:count]


def _recording(heard: np.ndarray, scene: Scene, rng: np.random.Generator) -> Sound:
    count = len(heard)
    if scene.recorded is not None:
        name, start = entry(scene.recorded.get("recording"), "file")
        samples = recorded_samples(name, scene.noises)
        return Sound(looped(samples, start, count), {"recording": {"file": name, "start": start}})
    files = sorted(scene.noises, key=lambda each: each.name)
    notes: list[str] = []
    for index in rng.permutation(len(files)):
        start_at = rng.random()
        file, samples, unreadable = first_usable([files[index]])
        notes += [f"unreadable:{name}" for name in unreadable]
        if file is None:
            continue
        start = int(start_at * len(samples))
        read = looped(samples, start, count)
        if np.square(read[heard]).sum() > 0:
            return Sound(read, {"recording": {"file": file.name, "start": start}}, {}, tuple(notes))
        notes.append(f"unreadable:{file.name}")
    raise StressError("no_noises", f"{scene.utterance}: no usable recording of noise among {len(files)}")
