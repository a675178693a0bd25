"""Levels of speech: where it is active, how loud it is there, and the one rule for what leaves full scale.

Every result is float32 and peaks at 1 at most: where a stress takes the signal over full scale, the whole result is
multiplied by 1 / peak, and that factor is recorded as `achieved["scale"]` (1 where nothing was done).
"""

from __future__ import annotations

import math

import numpy as np

from empirical.speech.audio import SAMPLE_RATE_HZ
from empirical.stress.errors import StressError

ACTIVE_RANGE_DB = 30.0
"""A frame is speech if its power is within this range of the 95th percentile of frame powers."""

ACTIVE_FRAME = 320
"""20 ms at 16 kHz."""

LEAST_POWER = 1e-20
"""-200 dB of full scale: what is less counts as silence. No file holds it, nor could float32 hold noise under it."""


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
    return _power(samples, active_frames(samples))


def active_speech(samples: np.ndarray, utterance: str) -> tuple[np.ndarray, float]:
    """Which samples belong to speech, and their mean power.

    Raises:
        StressError: "silent" if there is no speech above `LEAST_POWER`.
    """
    active = active_frames(samples)
    power = _power(samples, active)
    if power < LEAST_POWER:
        raise StressError("silent", f"{utterance}: no active speech to set a level by")
    return active, power


def within_full_scale(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """float32 samples of peak at most 1, and the factor that was applied."""
    peak = float(np.abs(samples).max())
    scale = 1.0 if peak <= 1 else 1 / peak
    return np.clip(samples * scale, -1, 1).astype(np.float32), scale  # clip: rounding alone could leave 1 + eps


def ratio_db(result: np.ndarray, scale: float, target: np.ndarray, active: np.ndarray) -> float:
    """Power of the target over that of everything else in the returned samples, over active frames, in dB.

    Infinite where nothing else is in them.
    """
    rest = float(np.square(result[active].astype(np.float64) / scale - target[active]).mean())
    return decibels(float(np.square(target[active]).mean()) / rest) if rest > 0 else math.inf


def decibels(power: float) -> float:
    """10 log10 of a positive power; by the C library, since numpy's last bit depends on the processor."""
    return 10 * math.log10(power)


def lengths(result: np.ndarray, scale: float) -> dict[str, float]:
    """What is said of every result: the factor that kept it within full scale, and its length, seconds."""
    return {"scale": scale, "duration_s": len(result) / SAMPLE_RATE_HZ}


def scale_notes(scale: float) -> tuple[str, ...]:
    """The note of a result that was brought within full scale."""
    return () if scale == 1.0 else ("rescaled",)


def level(name: str, samples: np.ndarray) -> dict[str, float]:
    """Active level under a name, dB of a full-scale square wave (a sine has -3.01); nothing for silence."""
    power = active_power(samples)
    return {name: decibels(power)} if power > 0 else {}


def _power(samples: np.ndarray, active: np.ndarray) -> float:
    return float(np.square(samples[active], dtype=np.float64).mean()) if active.any() else 0.0
