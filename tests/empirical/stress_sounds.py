"""Speech-like sounds and pools for tests of stresses."""

from __future__ import annotations

import numpy as np

from empirical.stress import PoolClip

RATE = 16_000


def speech(seconds: float = 2.0, seed: int = 0, level: float = 0.05) -> np.ndarray:
    """(n,) float32: bursts of coloured noise between pauses of a noise floor 60 dB below."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    on = (np.arange(n) // (RATE // 4)) % 2 == seed % 2
    carrier = np.convolve(rng.standard_normal(n), np.ones(8) / 8, mode="same")
    return (level * np.where(on, 1.0, 1e-3) * carrier).astype(np.float32)


def pool_of(speakers: int, clips: int = 2, seconds: float = 1.3) -> list[PoolClip]:
    """Utterances of so many speakers s0, s1, .., each louder than the one before."""
    out = []
    for s in range(speakers):
        for c in range(clips):
            x = speech(seconds, seed=100 * s + c + 1, level=0.01 * (1 + s))
            out.append(PoolClip(f"s{s}-{c}", f"s{s}", lambda x=x: x))
    return out


def noises_of(files: int, seconds: float = 0.7) -> list[PoolClip]:
    """Recordings of noise, shorter than an utterance."""
    made = [np.random.default_rng(1000 + f).uniform(-0.1, 0.1, int(seconds * RATE)) for f in range(files)]
    return [PoolClip(f"street/{f}.flac", None, lambda x=x: x.astype(np.float32)) for f, x in enumerate(made)]
