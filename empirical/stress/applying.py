"""The three stresses of the "Hell" set: time stretch, overlapping speakers, white noise (observables.md).

Every result is float32 and peaks at 1 at most: where a stress takes the signal over full scale, the whole result is
multiplied by 1 / peak, and that factor is recorded as `achieved["scale"]` (1 where nothing was done). All randomness
comes from a hash of (utterance, stressor, seed), never from the order of calls or of the pool.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from empirical.speech.audio import SAMPLE_RATE_HZ, AudioError

ACTIVE_RANGE_DB = 30.0
"""A frame is speech if its power is within this range of the 95th percentile of frame powers."""

ACTIVE_FRAME = 320
"""20 ms at 16 kHz."""

STRESSORS = ("clean", "stretch", "mix", "noise")


class StressError(ValueError):
    """A stress that cannot be applied.

    Attributes:
        code: one of `CODES`.
    """

    CODES: ClassVar[MappingProxyType[str, str]] = MappingProxyType(
        {
            "pool_empty": "no utterance of another speaker to mix in",
            "silent": "no active speech to set a level by",
            "bad_samples": "samples that are not one-dimensional, finite floats",
            "unknown_stressor": "a name that is not in STRESSORS",
        }
    )

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise KeyError(f"code must be one of StressError.CODES; got {code!r}")
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[StressError], tuple[str, str]]:
        return (type(self), (self.code, self.message))


@dataclass(frozen=True, slots=True)
class Clean:
    """The samples as they are; not even a peak over full scale is touched."""

    name: ClassVar[str] = "clean"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Slow-down at constant pitch, by a phase vocoder.

    Implements the paper's 3.5x time stretch: n samples become round(n * rate). The vocoder adds frames of unrelated
    phase, which lowers the level: at 3.5x to 0.71 times for white noise, 0.70-0.73 for active speech of LibriSpeech.

    Attributes:
        rate: duration after / duration before, positive.
    """

    rate: float = 3.5
    name: ClassVar[str] = "stretch"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be positive; got {self.rate}")


@dataclass(frozen=True, slots=True)
class Mix:
    """The target with one utterance each of other speakers, all at the target's level.

    y = x + sum_j (a(x) / a(z_j)) z_j, with a() the r.m.s. over active speech. z_j is read circularly from a random
    start to the target's length: cut if it is longer, repeated if it is shorter. A pool of fewer speakers gives all of
    them, noted "short_pool"; a clip of unknown speaker counts as a speaker of its own, noted "unknown_speakers".

    Attributes:
        speakers: number of voices, the target's included; at least 2.
    """

    speakers: int = 6
    name: ClassVar[str] = "mix"

    def __post_init__(self) -> None:
        if self.speakers < 2:
            raise ValueError(f"speakers must be at least 2, the target's included; got {self.speakers}")


@dataclass(frozen=True, slots=True)
class Noise:
    """White Gaussian noise at a signal-to-noise ratio over active speech.

    y = x + g n with g^2 = P_x / (P_n 10^(snr_db / 10)), both powers taken over the active frames of x: so pauses in
    the speech do not lower the noise.

    Attributes:
        snr_db: decibels.
    """

    snr_db: float = 0.0
    name: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if not math.isfinite(self.snr_db):
            raise ValueError(f"snr_db must be finite; got {self.snr_db}")


Stressor = Clean | Stretch | Mix | Noise

_BY_NAME: MappingProxyType[str, type[Clean] | type[Stretch] | type[Mix] | type[Noise]] = MappingProxyType(
    {kind.name: kind for kind in (Clean, Stretch, Mix, Noise)}
)


@dataclass(frozen=True, slots=True)
class PoolClip:
    """One utterance that may be mixed in.

    Attributes:
        name: utterance id.
        speaker: who speaks, or None if unknown.
        load: gives its samples, (n,) float at 16 kHz; an `AudioError` from it makes the mix take another.
    """

    name: str
    speaker: str | None
    load: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class StressResult:
    """Stressed samples and what was really done.

    Attributes:
        samples: (n,) float32 at 16 kHz.
        achieved: numbers measured on the samples: "scale", "duration_s"; "rate" for stretch; "speakers" and "sir_db"
            (target to all others, over the target's active frames) for mix; "snr_db" for noise.
        parameters: what was asked, and for a mix the names and starts of what was mixed in.
        notes: short codes of what was out of the ordinary.
    """

    samples: np.ndarray
    achieved: dict[str, float]
    parameters: dict[str, object]
    notes: tuple[str, ...]


def stressor(name: str) -> Stressor:
    """The stressor of that name with its default parameters.

    Raises:
        StressError: "unknown_stressor".
    """
    if name not in _BY_NAME:
        raise StressError("unknown_stressor", f"a stressor must be one of {', '.join(STRESSORS)}; got {name!r}")
    return _BY_NAME[name]()


def generator(utterance: str, kind: str, seed: int) -> np.random.Generator:
    """The random generator of one (utterance, stressor, seed), the same whatever was drawn before."""
    digest = hashlib.sha256(f"{seed}\x00{kind}\x00{utterance}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def apply(
    stressor: Stressor,
    samples: np.ndarray,
    *,
    utterance: str,
    seed: int,
    pool: Sequence[PoolClip] = (),
    speaker: str | None = None,
) -> StressResult:
    """Put one stress on one utterance.

    Args:
        stressor: what to do.
        samples: (n,) float at 16 kHz, full scale -1..1.
        utterance: its id; with the seed it fixes everything random.
        seed: of the whole set.
        pool: for a mix, utterances to take from; the target itself may be among them.
        speaker: who speaks in the target; by default as the pool says.

    Raises:
        StressError: "bad_samples", "silent", or "pool_empty".
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise StressError("bad_samples", f"samples must be (n,) floats; got {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise StressError("bad_samples", f"{utterance}: samples must be finite")
    rng = generator(utterance, stressor.name, seed)
    parameters: dict[str, object] = dict(asdict(stressor))
    if isinstance(stressor, Clean):
        result = np.array(samples, np.float32)
        return StressResult(result, _lengths(result, 1.0), parameters, ())
    if isinstance(stressor, Stretch):
        return _stretch(stressor, samples, parameters)
    if isinstance(stressor, Noise):
        return _noise(stressor, samples, parameters, rng)
    return _mix(stressor, samples, parameters, rng, utterance, pool, speaker)


def active_frames(samples: np.ndarray) -> np.ndarray:
    """Which samples belong to speech: a simple energy detector.

    The signal is cut into frames of 20 ms (a last, shorter one joins its neighbour); a frame is active if its mean
    power is within 30 dB of the 95th percentile of all frames' powers.

    Returns:
        (n,) bool; all False for silence.
    """
    power = np.square(samples, dtype=np.float64)
    count = max(1, len(samples) // ACTIVE_FRAME)
    starts = np.arange(count) * ACTIVE_FRAME
    lengths = np.diff(np.append(starts, len(samples)))
    frame_power = np.add.reduceat(power, starts) / lengths
    loud = np.quantile(frame_power, 0.95)
    if loud <= 0:
        loud = frame_power.max()
    active = (frame_power >= loud * 10 ** (-ACTIVE_RANGE_DB / 10)) & (frame_power > 0)
    return np.repeat(active, lengths)


def active_power(samples: np.ndarray) -> float:
    """Mean power over active speech, full scale squared; 0 for silence."""
    active = active_frames(samples)
    return float(np.square(samples[active], dtype=np.float64).mean()) if active.any() else 0.0


def _stretch(stressor: Stretch, samples: np.ndarray, parameters: dict[str, object]) -> StressResult:
    import librosa  # here, not above: importing it takes a second, which only this stress should cost

    with warnings.catch_warnings():
        # Of a clip shorter than the vocoder's frame of 128 ms, which librosa pads with silence.
        warnings.filterwarnings("ignore", message="n_fft=")
        longer = librosa.effects.time_stretch(samples.astype(np.float32), rate=1 / stressor.rate)
    result, scale = _within_full_scale(longer)
    achieved = _lengths(result, scale) | {"rate": len(result) / len(samples)}
    return StressResult(result, achieved, parameters, _notes(scale))


def _noise(
    stressor: Noise, samples: np.ndarray, parameters: dict[str, object], rng: np.random.Generator
) -> StressResult:
    speech = samples.astype(np.float64)
    active = active_frames(speech)
    if not active.any():
        raise StressError("silent", "no active speech to set a noise level by")
    noise = rng.standard_normal(len(speech))
    wanted = np.square(speech[active]).mean() / 10 ** (stressor.snr_db / 10)
    noise *= math.sqrt(wanted / np.square(noise[active]).mean())
    result, scale = _within_full_scale(speech + noise)
    achieved = _lengths(result, scale) | {"snr_db": _ratio_db(result, scale, speech, active)}
    return StressResult(result, achieved, parameters, _notes(scale))


def _mix(
    stressor: Mix,
    samples: np.ndarray,
    parameters: dict[str, object],
    rng: np.random.Generator,
    utterance: str,
    pool: Sequence[PoolClip],
    speaker: str | None,
) -> StressResult:
    target = samples.astype(np.float64)
    active = active_frames(target)
    if not active.any():
        raise StressError("silent", f"{utterance}: no active speech to set the other speakers' level by")
    level = math.sqrt(np.square(target[active]).mean())
    voices, notes = _voices(utterance, pool, speaker)
    order = [voices[index] for index in rng.permutation(len(voices))]
    total = target.copy()
    used: list[dict[str, object]] = []
    for clips in order:
        if len(used) == stressor.speakers - 1:
            break
        other, samples_of, unreadable = _first_usable([clips[index] for index in rng.permutation(len(clips))])
        notes += [f"unreadable:{name}" for name in unreadable]
        start_at = rng.random()
        if other is None:
            continue
        start = int(start_at * len(samples_of))
        looped = np.take(samples_of, np.arange(start, start + len(target)), mode="wrap")
        total += looped * (level / math.sqrt(active_power(samples_of)))
        used.append({"utterance": other.name, "speaker": other.speaker, "start": start})
    if not used:
        raise StressError("pool_empty", f"{utterance}: no usable utterance of another speaker among {len(pool)}")
    if len(used) < stressor.speakers - 1:
        notes.append("short_pool")
    result, scale = _within_full_scale(total)
    achieved = _lengths(result, scale) | {
        "speakers": float(len(used) + 1),
        "sir_db": _ratio_db(result, scale, target, active),
    }
    return StressResult(result, achieved, parameters | {"others": used}, tuple(notes) + _notes(scale))


def _voices(utterance: str, pool: Sequence[PoolClip], speaker: str | None) -> tuple[list[list[PoolClip]], list[str]]:
    """The pool's clips by speaker, the target's speaker left out, in an order of names alone."""
    if speaker is None:
        speaker = next((clip.speaker for clip in pool if clip.name == utterance), None)
    by_speaker: dict[tuple[bool, str], list[PoolClip]] = {}
    for clip in sorted(pool, key=lambda each: each.name):
        if clip.name == utterance or (clip.speaker is not None and clip.speaker == speaker):
            continue
        key = (True, clip.name) if clip.speaker is None else (False, clip.speaker)
        by_speaker.setdefault(key, []).append(clip)
    unknown = speaker is None or any(is_unknown for is_unknown, _ in by_speaker)
    return [by_speaker[key] for key in sorted(by_speaker)], ["unknown_speakers"] if unknown else []


def _first_usable(clips: Sequence[PoolClip]) -> tuple[PoolClip | None, np.ndarray, list[str]]:
    """The first clip that loads and is not silence; and the names of those before it."""
    unreadable: list[str] = []
    for clip in clips:
        try:
            samples = np.asarray(clip.load(), np.float64)
        except AudioError:
            unreadable.append(clip.name)
            continue
        if active_power(samples) > 0:
            return clip, samples, unreadable
        unreadable.append(clip.name)
    return None, np.zeros(0), unreadable


def _within_full_scale(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """float32 samples of peak at most 1, and the factor that was applied."""
    peak = float(np.abs(samples).max())
    scale = 1.0 if peak <= 1 else 1 / peak
    return np.clip(samples * scale, -1, 1).astype(np.float32), scale  # clip: rounding alone could leave 1 + eps


def _ratio_db(result: np.ndarray, scale: float, target: np.ndarray, active: np.ndarray) -> float:
    """Power of the target over that of everything else in the returned samples, over active frames, in dB."""
    rest = result[active].astype(np.float64) / scale - target[active]
    return float(10 * np.log10(np.square(target[active]).mean() / np.square(rest).mean()))


def _lengths(result: np.ndarray, scale: float) -> dict[str, float]:
    return {"scale": scale, "duration_s": len(result) / SAMPLE_RATE_HZ}


def _notes(scale: float) -> tuple[str, ...]:
    return () if scale == 1.0 else ("rescaled",)
