"""The stresses do what their numbers say, and depend on (utterance, stressor, seed) alone."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.speech.audio import AudioError
from empirical.stress import (
    STRESSORS,
    Clean,
    Clipping,
    Mix,
    Noise,
    NonSpeech,
    PoolClip,
    Reverberation,
    StressError,
    Stressor,
    Stretch,
    active_frames,
    active_power,
    apply,
    parse,
    removes_speech,
    stressor,
)
from tests.empirical.stress_sounds import RATE, noises_of, pool_of, speech

EVERY = (
    "clean",
    "stretch",
    "stretch:rate=0.6",
    "mix",
    "mix:speakers=3:level_db=-6",
    "noise",
    "noise:snr_db=-10:kind=pink",
    "noise:kind=babble",
    "noise:kind=folder",
    "silence",
    "silence:level_dbfs=-40",
    "non_speech",
    "non_speech:kind=folder",
    "reverberation",
    "clipping",
    "reverberation+noise:snr_db=5",
    "noise+mix+noise:kind=babble",
)
NO_CHANCE = ("clean", "stretch", "stretch:rate=0.6", "silence", "clipping")


@pytest.mark.parametrize("condition", EVERY)
def test_result_depends_on_utterance_stressor_and_seed_alone(condition: str) -> None:
    kind, x, pool, noises = parse(condition), speech(), pool_of(8), noises_of(4)
    first = apply(kind, x, utterance="u", seed=3, pool=pool, noises=noises)
    rng = np.random.default_rng(0)
    pool = [pool[index] for index in rng.permutation(len(pool))]
    apply(kind, x, utterance="other", seed=3, pool=pool, noises=noises)
    again = apply(kind, x, utterance="u", seed=3, pool=pool, noises=noises[::-1])
    np.testing.assert_array_equal(first.samples, again.samples)
    assert (first.achieved, first.parameters, first.notes) == (again.achieved, again.parameters, again.notes)
    for utterance, seed in (("v", 3), ("u", 4)):
        other = apply(kind, x, pool=pool, utterance=utterance, seed=seed, noises=noises)
        assert np.array_equal(other.samples, first.samples) == (condition in NO_CHANCE)


@pytest.mark.parametrize("condition", EVERY)
def test_results_are_finite_float32_within_full_scale(condition: str) -> None:
    x = speech(level=0.6)
    kind, pool, noises = parse(condition), pool_of(8), noises_of(4)
    result = apply(kind, x / np.abs(x).max(), utterance="u", seed=0, pool=pool, noises=noises)
    assert result.samples.dtype == np.float32 and result.samples.ndim == 1
    assert np.isfinite(result.samples).all() and np.abs(result.samples).max() <= 1
    assert result.achieved["duration_s"] == len(result.samples) / RATE
    assert all(isinstance(value, float) and math.isfinite(value) for value in result.achieved.values())
    # A rescaled result touches full scale; one that was not is not marked.
    assert ("rescaled" in result.notes) == (result.achieved["scale"] < 1)
    if "rescaled" in result.notes:
        assert np.abs(result.samples).max() == pytest.approx(1, abs=2**-23)
    if not condition.startswith("stretch"):
        assert len(result.samples) == len(x)
    assert result.speech == (not removes_speech(condition))
    json.dumps([result.achieved, result.parameters], allow_nan=False)


@pytest.mark.parametrize("condition", EVERY)
@pytest.mark.parametrize("n", [1, 2, 160])
def test_the_shortest_clips_are_stressed_or_refused_with_a_code(condition: str, n: int) -> None:
    x = np.full(n, 0.25, np.float32)
    if n == 1 and condition.count("+") == 2:  # one sample and noise of its own size cancel to nothing, or do not
        with pytest.raises(StressError) as caught:
            apply(parse(condition), x, utterance="u", seed=0, pool=pool_of(8), noises=noises_of(4))
        assert caught.value.code == "silent"
        return
    result = apply(parse(condition), x, utterance="u", seed=0, pool=pool_of(8), noises=noises_of(4))
    assert np.isfinite(result.samples).all() and len(result.samples) >= 1
    assert all(math.isfinite(value) for value in result.achieved.values())


def test_levels_are_measured_before_and_after() -> None:
    x = speech(level=0.3)
    result = apply(Noise(), x, utterance="u", seed=1)
    assert result.achieved["source_level_dbfs"] == pytest.approx(10 * math.log10(active_power(x)), abs=1e-12)
    assert result.achieved["level_dbfs"] == pytest.approx(10 * math.log10(active_power(result.samples)), abs=1e-12)
    # A square wave at full scale is the reference; silence has no level.
    square = np.where(np.arange(RATE) % 2, 1.0, -1.0)
    assert apply(Clean(), square, utterance="u", seed=0).achieved["level_dbfs"] == 0
    assert "level_dbfs" not in apply(Clean(), np.zeros(RATE), utterance="u", seed=0).achieved


def test_clean_changes_nothing() -> None:
    x = 3 * speech(level=0.5)
    result = apply(Clean(), x, utterance="u", seed=0)
    np.testing.assert_array_equal(result.samples, x)
    assert result.samples is not x and result.achieved["scale"] == 1


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -10.0])
def test_noise_has_the_asked_snr_over_active_speech(snr_db: float) -> None:
    x = speech(level=0.3)
    result = apply(Noise(snr_db), x, utterance="u", seed=1)
    scale = result.achieved["scale"]
    noise = result.samples.astype(np.float64) / scale - x
    active = active_frames(x)
    measured = 10 * math.log10(np.mean(x[active].astype(np.float64) ** 2) / np.mean(noise[active] ** 2))
    assert result.achieved["snr_db"] == pytest.approx(measured, abs=1e-9)
    # float32 rounding of samples below 1 adds noise of power (2^-25)^2 / 3 at most, here under 1e-10 of either.
    assert measured == pytest.approx(snr_db, abs=1e-4)
    assert (scale < 1) == (snr_db == -10.0)


@given(
    snr_db=st.floats(-60, 60),
    kind=st.sampled_from(["white", "pink", "babble", "folder"]),
    level=st.floats(1e-4, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_noise_of_every_kind_and_level_has_its_snr(snr_db: float, kind: str, level: float, seed: int) -> None:
    x = speech(0.6, level=level)
    condition = Noise(snr_db, kind)
    result = apply(condition, x, utterance="u", seed=seed, pool=pool_of(4, seconds=0.5), noises=noises_of(2))
    # Rounding to float32 is 2^-25 of the louder of the two at most, 2^-25 * 10^3 of the one 60 dB below: 3e-5, which
    # over some 5,000 active samples of random sign averages to 4e-7 of its power, 4e-6 dB; 25 times that is allowed.
    assert result.achieved["snr_db"] == pytest.approx(snr_db, abs=1e-4)


def test_noise_is_white_and_gaussian() -> None:
    x = speech(8.0)
    noise = apply(Noise(0.0), x, utterance="u", seed=1).samples.astype(np.float64) - x
    noise /= noise.std()
    n = len(noise)
    # Under the null each statistic has the standard deviation below; 5 of them fail by chance once in 10^6.
    assert abs(np.mean(noise**4) - 3) < 5 * math.sqrt(96 / n)
    for lag in (1, 2, 16):
        assert abs(np.mean(noise[lag:] * noise[:-lag])) < 5 / math.sqrt(n - lag)


def test_activity_detector_finds_the_bursts() -> None:
    x = speech(2.0, seed=0)
    truth = (np.arange(len(x)) // (RATE // 4)) % 2 == 0
    # Only the frames that straddle an edge (20 ms, or the carrier's 8-tap tail) may differ: 8 edges.
    assert np.sum(active_frames(x) != truth) <= 8 * 320
    assert not active_frames(np.zeros(1000)).any() and active_power(np.zeros(1000)) == 0
    assert active_frames(np.ones(100)).all() and active_power(np.full(100, 0.5)) == pytest.approx(0.25)
    burst = np.zeros(RATE)
    burst[:320] = 0.5  # one frame of fifty: the 95th percentile is silence
    assert active_frames(burst).sum() == 320


def test_mix_is_the_target_plus_distinct_others_at_its_level() -> None:
    x, pool = speech(2.0), pool_of(9)
    result = apply(Mix(6), x, utterance="s0-0", seed=0, pool=[PoolClip("s0-0", "s0", lambda: x), *pool[1:]])
    others = result.parameters["others"]
    assert isinstance(others, list) and result.achieved["speakers"] == 6 and result.notes == ()
    names = [each["speaker"] for each in others]
    assert len(set(names)) == 5 and "s0" not in names
    rebuilt = x.astype(np.float64)
    by_name = {clip.name: clip.load().astype(np.float64) for clip in pool}
    for each in others:
        z = by_name[each["utterance"]]
        z = z * math.sqrt(active_power(x) / active_power(z))
        rebuilt += np.resize(np.roll(z, -each["start"]), len(x))
    # One rounding to float32 of values below 1.
    np.testing.assert_allclose(result.samples / result.achieved["scale"], rebuilt, atol=2**-24)


def test_mix_takes_all_speakers_of_a_short_pool_and_says_so() -> None:
    result = apply(Mix(6), speech(), utterance="s0-0", seed=0, pool=pool_of(4))
    assert result.achieved["speakers"] == 4 and result.notes == ("short_pool",)
    unknown = [PoolClip(clip.name, None, clip.load) for clip in pool_of(2)]
    result = apply(Mix(6), speech(), utterance="s0-0", seed=0, pool=unknown)
    assert result.achieved["speakers"] == 4 and set(result.notes) == {"short_pool", "unknown_speakers"}


def test_mix_passes_over_what_cannot_be_used() -> None:
    def broken() -> np.ndarray:
        raise AudioError("truncated", Path("b"), "short")

    pool = [
        PoolClip("b", "b", broken),
        PoolClip("z", "z", lambda: np.zeros(RATE)),
        PoolClip("e", "e", lambda: np.zeros(0)),
        PoolClip("n", "n", lambda: np.array([0.1, math.nan])),
        *pool_of(2, clips=1),
    ]
    result = apply(Mix(6), speech(), utterance="u", seed=0, pool=pool, speaker="me")
    assert result.achieved["speakers"] == 3
    assert set(result.notes) == {"unreadable:b", "unreadable:z", "unreadable:e", "unreadable:n", "short_pool"}


def test_refusals_have_codes() -> None:
    def code(kind: Stressor, samples: np.ndarray, pool: list[PoolClip] | None = None) -> str:
        with pytest.raises(StressError) as caught:
            apply(kind, samples, utterance="s0-0", seed=0, pool=pool or [])
        return caught.value.code

    assert code(Mix(), speech()) == "pool_empty"
    assert code(Mix(), speech(), pool_of(1)) == "pool_empty"
    assert code(Noise(), np.zeros(RATE, np.float32)) == code(Mix(), np.zeros(RATE), pool_of(3)) == "silent"
    assert code(Clean(), np.zeros((2, 5), np.float32)) == code(Clean(), np.zeros(0)) == "bad_samples"
    assert code(Clean(), np.zeros(5, np.int16)) == code(Clean(), np.array([0, np.nan])) == "bad_samples"
    with pytest.raises(StressError, match=r"one of clean, stretch, mix, noise, .*clipping; got 'echo'") as caught:
        stressor("echo")
    assert pickle.loads(pickle.dumps(caught.value)).code == "unknown_stressor"
    with pytest.raises(ValueError, match="rate must be positive and finite; got 0"):
        Stretch(0)
    with pytest.raises(ValueError, match="speakers must be a whole number of at least 2"):
        Mix(1)
    with pytest.raises(ValueError, match="snr_db must be finite"):
        Noise(math.nan)
    with pytest.raises(KeyError):
        StressError("nonsense", "")
    assert code(Clean(), np.array([1e39])) == "bad_samples"  # infinite in float32
    assert code(Noise(kind="folder"), speech()) == code(NonSpeech(kind="folder"), speech()) == "no_noises"
    assert code(Noise(kind="babble"), speech()) == "pool_empty"
    assert code(Stretch(1e9), speech()) == "too_long" and code(Stretch(1e-9), speech()) == "too_short"
    for stress in (NonSpeech(), Reverberation(), Clipping(), Noise(kind="pink")):
        assert code(stress, np.full(RATE, 1e-12)) == "silent"


def test_names_give_the_paper_s_parameters() -> None:
    assert tuple(stressor(name) for name in STRESSORS) == (Clean(), Stretch(3.5), Mix(6), Noise(0.0))
