"""All chance of a stress: one generator for each (utterance, stressor, seed), whatever was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(utterance: str, kind: str, seed: int) -> np.random.Generator:
    """The random generator of one (utterance, stressor, seed), the same whatever was drawn before."""
    digest = hashlib.sha256(f"{seed}\x00{kind}\x00{utterance}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
