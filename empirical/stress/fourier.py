"""Real Fourier transforms in float64, by scipy's one build of pocketfft, whose rounding does not depend on the machine.

NumPy picks kernels by the processor, and those of complex products, sine, cosine and arctangent round differently.
So whatever decides bytes of a sample multiplies real and imaginary parts apart, and never asks for an angle.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray


def rfft(samples: np.ndarray, size: int) -> NDArray[np.complex128]:
    """(..., size // 2 + 1) complex128 of the last axis, padded with zeros to `size`."""
    return np.asarray(scipy.fft.rfft(samples, size), np.complex128)


def irfft(spectrum: np.ndarray, size: int) -> NDArray[np.float64]:
    """(..., size) float64 of the last axis."""
    return np.asarray(scipy.fft.irfft(spectrum, size), np.float64)


def fast_size(least: int) -> int:
    """A length of at least that, for which the transform is quick."""
    return int(scipy.fft.next_fast_len(least, real=True))  # pyright: ignore[reportArgumentType]
