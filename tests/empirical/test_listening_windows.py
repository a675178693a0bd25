"""A clip longer than the window: pieces that are the clip, cut where it is quiet."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from empirical.recognition.transcribe_windows import QUIET_SAMPLES, ListeningError, quiet_place, windows_of

WINDOW = 32_000


def speech(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [WINDOW + 1, WINDOW + 400, 2 * WINDOW, 2 * WINDOW + 1, 7 * WINDOW + 12_345])
@pytest.mark.parametrize("kind", ["noise", "silence", "quieter and quieter"])
def test_pieces_are_the_clip_and_each_fits(samples: int, kind: str):
    x = speech(samples)
    if kind == "silence":
        x[:] = 0.0
    if kind == "quieter and quieter":
        x *= np.linspace(1.0, 0.0, samples, dtype=np.float32)
    pieces = windows_of(x, WINDOW, "chunk")
    assert np.array_equal(np.concatenate(pieces), x)
    assert all(len(piece) <= WINDOW for piece in pieces)
    # No piece is shorter than the least that is left for the last one, half of the quiet place given or taken.
    assert min(len(piece) for piece in pieces) >= WINDOW // 6 - QUIET_SAMPLES
    # A piece has at least half a window but the last one, so there are at most twice as many as must be.
    assert len(pieces) <= 2 * -(-samples // WINDOW)


def test_it_is_cut_in_the_pause():
    x = speech(50_000)
    x[25_000:27_000] *= 0.01
    first, second = windows_of(x, WINDOW, "chunk")
    assert 25_000 <= len(first) <= 27_000 and len(first) + len(second) == 50_000
    x[25_000:27_000] = x[30_000:32_000]  # without it, somewhere in the last third all the same
    assert WINDOW * 2 // 3 <= len(windows_of(x, WINDOW, "chunk")[0]) <= WINDOW


def test_of_equal_silences_the_later_one_is_taken():
    x = speech(40_000)
    for start in (3_200, 16_000, 28_800):
        x[start : start + QUIET_SAMPLES] = 0.0
    assert quiet_place(x, 0, 20_000) == 16_000 + QUIET_SAMPLES // 2
    assert quiet_place(x, 0, 40_000) == 28_800 + QUIET_SAMPLES // 2
    assert quiet_place(np.zeros(5_000, np.float32), 0, 5_000) == (5_000 - QUIET_SAMPLES) // 160 * 160 + 800
    assert quiet_place(x, 10, 20) == 15  # shorter than a pause: its middle


@pytest.mark.parametrize("long", ["cut", "chunk", "refuse"])
def test_a_clip_that_fits_is_left_alone(long):
    x = speech(WINDOW)
    (piece,) = windows_of(x, WINDOW, long)
    assert piece is x


def test_cut_refuse_and_what_is_neither():
    x = speech(WINDOW + 1)
    assert windows_of(x, WINDOW, "cut")[0] is x  # the feature extractor cuts it, and the transcript says truncated
    with pytest.raises(
        ListeningError, match=r"fit into the model's window of 32000 samples; got 32001 \[too_long\]"
    ) as e:
        windows_of(x, WINDOW, "refuse")
    assert pickle.loads(pickle.dumps(e.value)).code == "too_long"
    with pytest.raises(ValueError, match="long must be one of cut, chunk, refuse; got 'half'"):
        windows_of(x, WINDOW, "half")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="code must be one of"):
        ListeningError("long", "")
