"""The phase vocoder changes duration and not pitch, and is that of the textbook to rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest

from empirical.stress import Stretch, active_power, apply
from empirical.stress.vocoder import stretch
from tests.empirical.stress_sounds import RATE, speech


def by_angles(samples: np.ndarray, rate: float) -> np.ndarray:
    """The textbook's vocoder, in librosa's steps: phases are angles that are added up, frames put in one by one."""
    frame, hop, speed = 2048, 512, 1 / rate
    window = np.round((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)) * 2**24) / 2**24
    padded = np.pad(samples, frame // 2)
    columns = 1 + len(samples) // hop
    spectra = np.array([np.fft.rfft(window * padded[t * hop : t * hop + frame]) for t in range(columns)])
    spectra = np.pad(spectra, [(0, 2), (0, 0)])
    phase = np.angle(spectra[0])
    length = round(len(samples) * rate)
    out = np.zeros(length + 2 * frame + hop)
    weight = np.zeros_like(out)
    for step, place in enumerate(np.arange(0, columns, speed)):
        if step * hop >= length + frame:
            break
        left, right = spectra[int(place)], spectra[int(place) + 1]
        share = place % 1
        size = (1 - share) * np.abs(left) + share * np.abs(right)
        out[step * hop : step * hop + frame] += window * np.fft.irfft(size * np.exp(1j * phase), frame)
        weight[step * hop : step * hop + frame] += window**2
        phase += np.angle(right) - np.angle(left)
    covered = weight > np.finfo(np.float32).tiny
    out[covered] /= weight[covered]
    return out[frame // 2 : frame // 2 + length]


@pytest.mark.parametrize("rate", [3.5, 1.5, 1.0, 0.8, 0.1])
@pytest.mark.parametrize("n", [1, 400, 511, 512, 5000, 40_000])
def test_phasors_do_what_angles_do(rate: float, n: int) -> None:
    x = speech(3.0, level=0.3)[8000 : 8000 + n].astype(np.float64)
    made, peer = stretch(x, rate), by_angles(x, rate)
    assert made.shape == peer.shape
    # A phase is right to 2^-53 times the loudest over the bin's own magnitude, and stays wrong: the least of 80,000
    # bins is about 1 / 300 of the usual, in a pause 1 / 1,000 of that, after up to 300 steps.
    np.testing.assert_allclose(made, peer, atol=np.abs(x).max() * 3e5 * 300 * 2**-53, rtol=0)


def test_at_rate_one_nothing_changes() -> None:
    x = speech(5.0, level=0.3).astype(np.float64)
    # Phases return by products of as many factors as frames, each right to a few 2^-53.
    np.testing.assert_allclose(stretch(x, 1.0), x, atol=8 * (len(x) / 512) * 2**-53, rtol=0)


@pytest.mark.parametrize("rate", [3.5, 1.5, 0.8, 0.25])
def test_stretch_changes_duration_not_pitch(rate: float) -> None:
    n = 2 * RATE
    x = (0.3 * np.sin(2 * np.pi * 500 * np.arange(n) / RATE)).astype(np.float32)
    result = apply(Stretch(rate), x, utterance="u", seed=0)
    assert len(result.samples) == round(rate * n)
    assert result.achieved["rate"] == len(result.samples) / n
    y = result.samples
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    # The pitch moves by 500 * (1 - 1/rate) if it moves; the peak is right to a bin.
    assert abs(np.argmax(spectrum) * RATE / len(y) - 500) <= RATE / len(y)


def test_stretched_noise_is_quieter_as_the_docstring_says() -> None:
    x = 0.05 * np.random.default_rng(0).standard_normal(20 * RATE)
    ratio = math.sqrt(active_power(stretch(x, 3.5)) / active_power(x))
    # Powers of 20 s of noise in bands of 8 Hz: about 4 * 20 * 8000 / 1.5 independent values a tenth of which overlap.
    assert ratio == pytest.approx(0.71, abs=0.02)


@pytest.mark.filterwarnings("error")
def test_the_shortest_clip_is_stretched_without_a_word() -> None:
    result = apply(Stretch(), speech()[:400], utterance="u", seed=0)
    assert len(result.samples) == 1400 and np.abs(result.samples).max() > 0


def test_digital_silence_between_words_stays_silence() -> None:
    x = np.zeros(6 * RATE)
    x[:RATE] = speech(1.0)
    y = stretch(x, 2.0)
    # Frames of 2,048 samples reach half of one past the word, twice as far when stretched; one more of the overlap.
    assert np.abs(y[2 * RATE + 3 * 2048 :]).max() == 0 and np.isfinite(y).all()
