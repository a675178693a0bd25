"""A room around the speaker."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from empirical.speech.audio import SAMPLE_RATE_HZ
from empirical.stress.errors import require
from empirical.stress.fourier import fast_size, irfft, rfft
from empirical.stress.levels import active_speech, decibels, lengths, ratio_db, scale_notes, within_full_scale
from empirical.stress.records import Scene, StressResult

TAIL_DB = 90.0
"""The synthetic tail ends this far below its beginning: far enough not to bend the fit of its decay."""

FIT_DB = (-5.0, -35.0)
"""Part of the decay curve that is fitted, ISO 3382-1's T30."""

FIT_POINTS = 1000
"""Of the fitted part at most so many are used, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Reverberation:
    """Reverberation by a synthetic room: direct sound and an exponential tail of Gaussian noise.

    h = delta + g w_k 10^(-3 k / (rt60_s f)), k >= 1, w white Gaussian, f = 16 kHz, with g such that the tail's energy
    lies drr_db under the direct sound's: the statistical model of a diffuse field (J.-D. Polack, "La transmission de
    l'energie sonore dans les salles", 1988; Habets, "Single- and multi-microphone speech dereverberation", 2007,
    section 2.4). No early reflections, no colouring. The result is as long as the source: the tail after its last
    sample is cut, so that truncation at a model's window is the source's own.

    Attributes:
        rt60_s: time in which the tail decays by 60 dB, seconds, 0.05 to 10.
        drr_db: direct-to-reverberant energy ratio of the room, -40 to 40.
    """

    rt60_s: float = 0.8
    drr_db: float = 0.0
    name: ClassVar[str] = "reverberation"

    def __post_init__(self) -> None:
        require(0.05 <= self.rt60_s <= 10, "rt60_s", "lie in 0.05 to 10", self.rt60_s)
        require(-40 <= self.drr_db <= 40, "drr_db", "lie in -40 to 40", self.drr_db)

    def put(self, samples: np.ndarray, scene: Scene) -> StressResult:
        """Reverberant samples; achieved has "rt60_s" and "drr_db".

        rt60_s is Schroeder's, of the tail that was drawn; drr_db the power of the direct sound over that of all the
        rest of the result, over active speech: it strays from the room's with the colour and the pauses of the speech.

        Raises:
            StressError: "silent".
        """
        speech = samples.astype(np.float64)
        active, _ = active_speech(speech, scene.utterance)
        tail = self._tail(scene)
        room = np.concatenate([[1.0], tail])
        result, scale = within_full_scale(_convolve(speech, room))
        achieved = lengths(result, scale) | {
            "rt60_s": decay_time(tail),
            "drr_db": ratio_db(result, scale, speech, active),
        }
        return StressResult(result, achieved, dict(asdict(self)), scale_notes(scale))

    def _tail(self, scene: Scene) -> np.ndarray:
        count = math.ceil(self.rt60_s * SAMPLE_RATE_HZ * TAIL_DB / 60)
        per_sample = 10 ** (-3 / (self.rt60_s * SAMPLE_RATE_HZ))
        tail = scene.generator(self.name).standard_normal(count)
        # Powers by repeated multiplication: `**` and `exp` of arrays round differently on different processors.
        tail *= np.multiply.accumulate(np.full(count, per_sample))
        tail *= math.sqrt(10 ** (-self.drr_db / 10) / np.square(tail).sum())
        return tail


def decay_time(response: np.ndarray) -> float:
    """Reverberation time of an impulse response without its direct sound, seconds.

    Schroeder's backward integral E(k) = sum_{j >= k} h_j^2 (J. Acoust. Soc. Am. 37, 1965), a line through its dB from
    -5 to -35 by least squares, extrapolated to -60 (ISO 3382-1, T30).

    Args:
        response: (n,) at 16 kHz.

    Returns:
        Seconds; NaN if it does not decay by 35 dB over at least two samples.
    """
    energy = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    if not energy[0] > 0:
        return math.nan
    share = energy / energy[0]
    from_share, to_share = (10 ** (edge / 10) for edge in FIT_DB)
    fitted = np.flatnonzero((share <= from_share) & (share >= to_share))
    if len(fitted) < 2 or share[-1] > to_share:
        return math.nan
    fitted = fitted[:: math.ceil(len(fitted) / FIT_POINTS)]
    decay_db = np.array([decibels(value) for value in share[fitted]])
    time_s = fitted / SAMPLE_RATE_HZ
    centred = time_s - time_s.mean()
    slope = float((centred * decay_db).sum() / np.square(centred).sum())
    return -60 / slope if slope < 0 else math.nan


def _convolve(samples: np.ndarray, room: np.ndarray) -> np.ndarray:
    """The first n samples of the convolution; products of real numbers alone, which round alike on every processor."""
    size = fast_size(len(samples) + len(room) - 1)
    a, b = rfft(samples, size), rfft(room, size)
    product = np.empty_like(a)
    product.real = a.real * b.real - a.imag * b.imag
    product.imag = a.real * b.imag + a.imag * b.real
    return irfft(product, size)[: len(samples)]
