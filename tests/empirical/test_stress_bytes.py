"""The same samples to the byte: as before the stresses had files of their own, and on every processor."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from empirical.stress import PoolClip, apply, parse, stressor


def bursts(seed: int, n: int, level: float) -> np.ndarray:
    """(n,) float32 that no library but NumPy's generator has touched."""
    x = np.random.default_rng(seed).standard_normal(n)
    x[(np.arange(n) // 4000) % 2 == 1] *= 2.0**-10
    return (level * x).astype(np.float32)


def pool() -> list[PoolClip]:
    return [
        PoolClip(f"s{s}-{c}", f"s{s}", lambda s=s, c=c: bursts(100 * s + c + 1, 20_000, 2.0**-6 * (1 + s)))
        for s in range(8)
        for c in range(2)
    ]


def digest(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<f4").tobytes()).hexdigest()


# From the one file that made them before (bf28ff0), numpy 2.4, x86-64.
BEFORE = {
    (2.0**-5, 3, "clean"): "9f6b40b7ec53fc02790e7643cb1716d9",
    (2.0**-5, 3, "mix"): "8144fff2f424a253769404d4c2329085",
    (2.0**-5, 3, "noise"): "899d42110fcce6b7a3c71e6945a3ae0a",
    (2.0**-5, 11, "mix"): "0a7bcb834b967e4076a3fc9dcdec39ca",
    (2.0**-5, 11, "noise"): "5568e965077d5c3672238699a53ff9aa",
    (0.5, 3, "mix"): "c1bdc87b68c5e5f79622d19fbd1eb92c",
    (0.5, 3, "noise"): "2c1eda85287c92f2e585f4c55d89cfc1",
}


@pytest.mark.parametrize(("level", "seed", "name"), BEFORE)
def test_defaults_have_the_bytes_they_always_had(level: float, seed: int, name: str) -> None:
    result = apply(stressor(name), bursts(0, 32_000, level), utterance="s0-0", seed=seed, pool=pool())
    assert digest(result.samples).startswith(BEFORE[level, seed, name])


CONDITIONS = (
    "stretch",
    "stretch:rate=0.7",
    "mix",
    "noise",
    "noise:kind=pink",
    "noise:kind=babble",
    "reverberation+clipping",
    "non_speech",
)
OF_ALL = """
from tests.empirical.test_stress_bytes import made
print("\\n".join(made()))
"""


def made() -> list[str]:
    """A line a condition: its bytes, and every number it says of them."""
    x = bursts(0, 16_000, 2.0**-5)
    results = [apply(parse(each), x, utterance="s0-0", seed=1, pool=pool()) for each in CONDITIONS]
    return [f"{digest(each.samples)} {each.achieved}" for each in results]


def test_no_byte_depends_on_what_the_processor_can() -> None:
    """NumPy's kernels for older processors round sines, angles, logarithms and complex products differently."""
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OF_ALL], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.split("\n")[:-1] == made()
