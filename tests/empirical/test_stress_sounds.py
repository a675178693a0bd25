"""Silence, non-speech, coloured noise, babble, recordings, rooms and clipping are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from empirical.stress import (
    Clipping,
    Mix,
    Noise,
    NonSpeech,
    Reverberation,
    Silence,
    StressError,
    active_frames,
    active_power,
    apply,
    parse,
)
from empirical.stress.reverberation import decay_time
from tests.empirical.stress_sounds import RATE, noises_of, pool_of, speech


def band_power(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Power between two frequencies, arbitrary units."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(spectrum[(hz >= low_hz) & (hz < high_hz)].sum())


def test_silence_is_digital_zero_or_white_noise_at_its_level() -> None:
    x = speech()
    assert not apply(Silence(), x, utterance="u", seed=0).samples.any()
    result = apply(Silence(-60), x, utterance="u", seed=0)
    rms_db = 10 * math.log10(np.square(result.samples, dtype=np.float64).mean())
    # float32 rounds each sample by 2^-24 of it at most.
    assert rms_db == pytest.approx(-60, abs=20 * math.log10(1 + 2**-24))
    assert band_power(result.samples, 0, 4000) == pytest.approx(band_power(result.samples, 4000, 8001), rel=0.05)
    assert apply(Silence(), np.zeros(RATE), utterance="u", seed=0).speech is False


@pytest.mark.parametrize("kind", ["pink", "white", "folder"])
def test_non_speech_is_as_loud_as_the_speech_it_replaces(kind: str) -> None:
    x = speech()
    result = apply(NonSpeech(kind), x, utterance="u", seed=0, noises=noises_of(2))
    power = float(np.square(result.samples, dtype=np.float64).mean())
    assert power == pytest.approx(active_power(x), rel=1e-6) and not result.speech
    # Nothing of the utterance is in it: another utterance of the same level has the same sound.
    other = apply(NonSpeech(kind), -x[::-1], utterance="u", seed=0, noises=noises_of(2))
    np.testing.assert_allclose(other.samples, result.samples, rtol=1e-2)


def test_pink_noise_has_the_same_power_in_every_octave() -> None:
    x = np.full(20 * RATE, 0.01)
    noise = apply(Noise(0, "pink"), x, utterance="u", seed=0).samples - x
    octaves = [band_power(noise, 31.25 * 2**n, 62.5 * 2**n) for n in range(8)]
    # An octave from f holds 20 f independent values of relative deviation 1: 625 in the least, five deviations 0.2.
    for n, power in enumerate(octaves):
        assert power / np.mean(octaves) == pytest.approx(1, abs=5 / math.sqrt(20 * 31.25 * 2**n) + 0.05)
    assert band_power(noise, 0, 19) < 1e-6 * sum(octaves)


def test_babble_is_other_speakers_at_one_level() -> None:
    x, pool = speech(), pool_of(9)
    result = apply(Noise(10, "babble", talkers=4), x, utterance="s0-0", seed=0, pool=pool)
    others = result.parameters["others"]
    assert isinstance(others, list) and len({each["speaker"] for each in others} - {"s0"}) == 4
    assert result.achieved["speakers"] == 4 and result.notes == ()
    by_name = {clip.name: clip.load().astype(np.float64) for clip in pool}
    noise = np.zeros(len(x))
    for each in others:
        z = by_name[each["utterance"]]
        noise += np.resize(np.roll(z / math.sqrt(active_power(z)), -each["start"]), len(x))
    active = active_frames(x)
    noise *= math.sqrt(active_power(x) / 10 / np.square(noise[active]).mean())
    np.testing.assert_allclose(result.samples, x.astype(np.float64) + noise, atol=2**-24)
    few = apply(Noise(0, "babble"), x, utterance="s0-0", seed=0, pool=pool_of(3))
    assert few.achieved["speakers"] == 2 and few.notes == ("short_pool",)


def test_folder_noise_is_one_recording_from_one_place() -> None:
    x, noises = speech(), noises_of(5)
    result = apply(Noise(5, "folder"), x, utterance="u", seed=0, noises=noises)
    recording = result.parameters["recording"]
    assert isinstance(recording, dict)
    z = next(each.load() for each in noises if each.name == recording["file"]).astype(np.float64)
    read = np.resize(np.roll(z, -recording["start"]), len(x))
    noise = result.samples.astype(np.float64) - x
    gain = float((noise * read).sum() / np.square(read).sum())
    np.testing.assert_allclose(noise, gain * read, atol=2**-24)
    chosen = [
        apply(Noise(5, "folder"), x, utterance=str(u), seed=0, noises=noises).parameters["recording"] for u in range(20)
    ]
    assert {each["file"] for each in chosen} == {each.name for each in noises}  # type: ignore[index]


def test_mixed_level_is_the_asked_one() -> None:
    x, pool = speech(), pool_of(2, clips=1)
    levels = [apply(Mix(2, db), x, utterance="s0-0", seed=0, pool=pool).achieved["sir_db"] for db in (-20, 0, 20)]
    # One other voice: each dB of it is one less of the ratio.
    np.testing.assert_allclose(np.diff(levels), -20, atol=1e-4)


@given(
    fraction=st.floats(1e-4, 0.95), level=st.floats(1e-3, 2.0), seed=st.integers(0, 1000), seconds=st.floats(0.1, 0.5)
)
@example(fraction=1e-4, level=1.5, seed=0, seconds=0.5)  # brought within full scale: 0.6 % differed by rounding alone
@settings(max_examples=30, deadline=None)
def test_clipping_clips_its_share(fraction: float, level: float, seed: int, seconds: float) -> None:
    x = speech(seconds, seed=seed, level=level)
    if not active_power(x):
        return
    result = apply(Clipping(fraction), x, utterance="u", seed=0)
    active = active_frames(x)
    # Half a sample is rounded; two equal float32 samples at the threshold are clipped together or not at all.
    assert result.achieved["clipped_fraction"] == pytest.approx(fraction, abs=2.5 / active.sum())
    unscaled = result.samples.astype(np.float64) / result.achieved["scale"]
    top = np.abs(unscaled).max()
    assert result.achieved["headroom_db"] == pytest.approx(20 * math.log10(top / np.abs(x).max()), abs=1e-5)
    below = np.abs(x) < top * (1 - 2**-20)
    np.testing.assert_allclose(unscaled[below], x[below], rtol=2**-22)


@pytest.mark.parametrize("rt60_s", [0.2, 0.8, 2.0])
def test_schroeder_s_integral_finds_the_decay_of_an_exponential(rt60_s: float) -> None:
    t = np.arange(int(2 * rt60_s * RATE)) / RATE
    # A pure exponential to -120 dB: what is cut there bends the curve at -35 dB by 10^-8.5.
    assert decay_time(10 ** (-3 * t / rt60_s)) == pytest.approx(rt60_s, rel=1e-6)
    assert math.isnan(decay_time(np.ones(1000))) and math.isnan(decay_time(np.zeros(10)))
    assert math.isnan(decay_time(np.ones(1)))


@pytest.mark.parametrize(("rt60_s", "drr_db"), [(0.3, 0.0), (0.8, 5.0), (1.5, -5.0)])
def test_reverberation_is_direct_sound_and_a_decaying_tail(rt60_s: float, drr_db: float) -> None:
    x = np.zeros(4 * RATE, np.float32)
    x[0] = 1  # a clap: the result is the impulse response of the room
    result = apply(Reverberation(rt60_s, drr_db), x, utterance="u", seed=0)
    response = result.samples.astype(np.float64) / result.achieved["scale"]
    assert response[0] == pytest.approx(1, abs=2**-22)
    tail = response[1:]
    # The FFT's rounding is a floor of 2^-53, far below -90 dB; float32 keeps each sample to 2^-24 of it.
    assert 10 * math.log10(1 / np.square(tail).sum()) == pytest.approx(drr_db, abs=1e-4)
    assert result.achieved["rt60_s"] == pytest.approx(decay_time(tail), rel=1e-3)
    # 30 dB of decay are rt60 / 2: m independent values, whose fitted slope strays by about 8.7 sqrt(12 / m) / 30.
    m = rt60_s * RATE / 2
    assert result.achieved["rt60_s"] == pytest.approx(rt60_s, rel=5 * 8.7 * math.sqrt(12 / m) / 30)


def test_reverberation_is_linear_and_as_long_as_its_source() -> None:
    x = speech(level=0.01)
    wet = apply(Reverberation(), x, utterance="u", seed=0)
    half = apply(Reverberation(), x / 2, utterance="u", seed=0)
    assert wet.notes == () and len(wet.samples) == len(x)
    np.testing.assert_allclose(wet.samples, 2 * half.samples, atol=2**-24 * np.abs(wet.samples).max())
    tail = wet.samples - x.astype(np.float64)
    active = active_frames(x)
    measured = 10 * math.log10(active_power(x) / np.square(tail[active]).mean())
    assert wet.achieved["drr_db"] == pytest.approx(measured, abs=1e-9)


def test_a_composition_is_its_parts_one_after_the_other() -> None:
    x, pool = speech(level=0.02), pool_of(8)
    both = apply(parse("reverberation+noise:snr_db=5"), x, utterance="u", seed=0, pool=pool)
    wet = apply(parse("reverberation"), x, utterance="u", seed=0)
    noisy = apply(parse("noise:snr_db=5"), wet.samples, utterance="u", seed=0)
    np.testing.assert_array_equal(both.samples, noisy.samples)
    assert both.achieved["rt60_s"] == wet.achieved["rt60_s"] and both.achieved["snr_db"] == noisy.achieved["snr_db"]
    assert both.parameters == {
        "parts": [
            {"stressor": "reverberation", "parameters": wet.parameters},
            {"stressor": "noise", "parameters": noisy.parameters},
        ]
    }


def test_repeated_parts_have_chance_of_their_own_and_numbers_of_their_own() -> None:
    x = speech(level=0.02)
    result = apply(parse("noise+noise:snr_db=3"), x, utterance="u", seed=0)
    first = apply(Noise(), x, utterance="u", seed=0).samples.astype(np.float64)
    a, b = first - x, result.samples - first
    # Independent: their correlation strays from 0 by 1 / sqrt(n).
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(len(x))
    assert result.achieved["snr_db"] == pytest.approx(0, abs=1e-4)
    assert result.achieved["snr_db_2"] == pytest.approx(3, abs=1e-4)


def test_a_composition_is_refused_for_what_refuses_a_part() -> None:
    for condition, code in (("silence+noise", "silent"), ("noise+mix", "pool_empty"), ("stretch+silence", None)):
        if code is None:
            assert not apply(parse(condition), speech(), utterance="u", seed=0).samples.any()
            continue
        with pytest.raises(StressError) as caught:
            apply(parse(condition), speech(), utterance="u", seed=0)
        assert caught.value.code == code
