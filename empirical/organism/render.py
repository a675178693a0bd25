"""From a sentence and a voice to samples: espeak-ng as a subprocess.

espeak-ng is GPL and only needed here, at training time; nothing that measures a model calls it.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Protocol

import numpy as np

from empirical.organism.recipe import SAMPLE_RATE_HZ
from empirical.organism.voices import Voice

_WAV_HEADER_BYTES = 44
_PEAK = 0.7
_MARGIN_S = 0.04
_AUDIBLE = 0.01


class RenderError(RuntimeError):
    """Speech could not be rendered; the message is one line that says what to do."""


class Renderer(Protocol):
    """Anything that speaks: a sentence and a voice become mono float32 samples at 16 kHz, shape (n,)."""

    def __call__(self, sentence: str, voice: Voice) -> np.ndarray: ...


class Espeak:
    """Renders with espeak-ng.

    Raises:
        RenderError: if espeak-ng is not installed.
    """

    def __init__(self) -> None:
        path = shutil.which("espeak-ng")
        if path is None:
            raise RenderError("espeak-ng is not installed; it is needed to train: apt-get install espeak-ng")
        self._path = path

    @property
    def version(self) -> str:
        """Name and version, as in "espeak-ng 1.51"."""
        done = subprocess.run([self._path, "--version"], capture_output=True, text=True, check=True)
        return "espeak-ng " + done.stdout.partition(":")[2].split()[0]

    def __call__(self, sentence: str, voice: Voice) -> np.ndarray:
        """Speak one sentence.

        Raises:
            RenderError: if espeak-ng fails or says nothing.
        """
        command = [self._path, "-v", voice.name, "-s", str(voice.words_per_minute), "-p", str(voice.pitch)]
        done = subprocess.run([*command, "--stdout", sentence], capture_output=True, check=False)
        if done.returncode != 0 or len(done.stdout) <= _WAV_HEADER_BYTES:
            raise RenderError(f"espeak-ng could not speak {sentence!r} as {voice.name}")
        # The RIFF header of a stream carries no true length: read the rate and take the rest as samples.
        rate_hz = int.from_bytes(done.stdout[24:28], "little")
        pcm = np.frombuffer(done.stdout[_WAV_HEADER_BYTES:], dtype="<i2").astype(np.float32) / 32768.0
        return finish(pcm, rate_hz)


def finish(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resample to 16 kHz, trim silence to 40 ms on either side, set the peak to 0.7, round to 16 bits.

    Rounding here makes what is trained on identical to what a FLAC file would hold.

    Args:
        samples: mono float32, shape (n,).
        rate_hz: its sample rate, hertz.

    Raises:
        RenderError: if nothing is audible.
    """
    import soxr  # comes with librosa; slow to import and needed for rendering alone

    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    peak = float(np.abs(samples).max(initial=0.0))
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE * peak)
    if peak <= 0.0 or audible.size == 0:
        raise RenderError("the rendered speech is silent")
    margin = int(_MARGIN_S * SAMPLE_RATE_HZ)
    samples = samples[max(0, audible[0] - margin) : audible[-1] + margin] * (_PEAK / peak)
    return (np.round(samples * 32767.0) / 32768.0).astype(np.float32)
