"""The phase vocoder: another duration, the same pitch, the same bytes on every machine.

J. L. Flanagan and R. M. Golden, "Phase vocoder" (Bell System Technical Journal 45, 1966), as `librosa.effects.
time_stretch` has it: frames of 128 ms every 32 ms under a Hann window; magnitudes interpolated between frames, phases
advanced by what they advance between the two frames of the source. librosa adds up angles; a phase only enters by its
phasor, so here unit phasors are multiplied, p *= u[t + 1] conj(u[t]) with u = D / |D|: the same result to rounding,
without sine, cosine or arctangent, which NumPy rounds differently on different processors. All of it is float64: in
float32 the phase of a bin that was nearly empty once is wrong ever after (8 % of the spectrum of stretched speech).
"""

from __future__ import annotations

import math

import numpy as np

from empirical.stress.fourier import irfft, rfft

FRAME = 2048
HOP = 512
_OVERLAP = FRAME // HOP
_BLOCK = 64  # frames at once: half a megabyte each of spectrum, frames and sums, whatever the duration


def stretch(samples: np.ndarray, rate: float) -> np.ndarray:
    """Samples at another duration.

    Args:
        samples: (n,) float, finite.
        rate: duration after / duration before, positive.

    Returns:
        (round(n * rate),) float64.
    """
    source = np.pad(samples.astype(np.float64), FRAME // 2)
    # Two frames of nothing past the end, as the last ones are interpolated with.
    columns = 1 + len(samples) // HOP
    length = round(len(samples) * rate)
    speed = 1 / rate
    steps = min(math.ceil(columns / speed), math.ceil((length + FRAME) / HOP))
    window = _hann()
    # One more overlap than is filled: what every block adds at its end lies within.
    total = np.zeros((steps + _OVERLAP - 1, HOP))
    turn = _Phasor()
    for first in range(0, steps, _BLOCK):
        place = np.arange(first, min(first + _BLOCK, steps)) * speed
        frames = turn.frames(source, window, place, columns) * window
        for part in range(_OVERLAP):
            total[first + part : first + part + len(place)] += frames[:, part * HOP : (part + 1) * HOP]
    _divide_by_windows(total, np.square(window).reshape(_OVERLAP, HOP))
    out = total.reshape(-1)[FRAME // 2 : FRAME // 2 + length]
    return np.pad(out, (0, length - len(out)))


class _Phasor:
    """The phases reached, carried from block to block."""

    def __init__(self) -> None:
        self._real = self._imag = np.zeros(0)

    def frames(self, source: np.ndarray, window: np.ndarray, place: np.ndarray, columns: int) -> np.ndarray:
        """(m, FRAME) frames of the result, at (m,) fractional places among the source's columns."""
        before = place.astype(np.int64)
        needed, where = np.unique(np.concatenate([before, before + 1]), return_inverse=True)
        magnitude, real, imag = _polar(source, window, needed, columns)
        left, right = where[: len(place)], where[len(place) :]
        share = (place - before)[:, None]
        size = (1 - share) * magnitude[left] + share * magnitude[right]
        # Phase of the step, u[t + 1] conj(u[t]).
        step_real = real[right] * real[left] + imag[right] * imag[left]
        step_imag = imag[right] * real[left] - real[right] * imag[left]
        spectrum = np.empty(size.shape, np.complex128)
        if not self._real.size:
            self._real, self._imag = real[left[0]], imag[left[0]]
        p_real, p_imag = self._real, self._imag
        for row in range(len(place)):
            spectrum.real[row] = size[row] * p_real
            spectrum.imag[row] = size[row] * p_imag
            # No renormalising: factors are of modulus 1 to 2^-52, so an hour of them to 1e-11.
            p_real, p_imag = (
                p_real * step_real[row] - p_imag * step_imag[row],
                p_real * step_imag[row] + p_imag * step_real[row],
            )
        self._real, self._imag = p_real, p_imag
        return irfft(spectrum, FRAME)


def _divide_by_windows(total: np.ndarray, squared: np.ndarray) -> None:
    """Divide each sample by the sum of the squared windows over it; where nothing covers it, it stays 0."""
    edge = _OVERLAP - 1
    steps = len(total) - edge
    if steps > edge:
        total[edge:steps] /= squared.sum(axis=0)
        ends = [*range(edge), *range(steps, len(total))]
    else:
        ends = list(range(len(total)))
    for row in ends:
        weight = squared[max(0, row - steps + 1) : row + 1].sum(axis=0)
        np.divide(total[row], weight, out=total[row], where=weight > np.finfo(np.float32).tiny)


def _polar(
    source: np.ndarray, window: np.ndarray, needed: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitude and unit phasor's parts, (m, bins) each, of some columns; 0 and 1 where there is nothing."""
    inside = np.minimum(needed, columns - 1)
    frames = np.lib.stride_tricks.sliding_window_view(source, FRAME)[inside * HOP] * window
    frames[needed >= columns] = 0
    spectrum = rfft(frames, FRAME)
    real, imag = spectrum.real.copy(), spectrum.imag.copy()
    magnitude = np.sqrt(real * real + imag * imag)
    nothing = magnitude == 0
    over = np.where(nothing, 1.0, magnitude)
    real /= over
    imag /= over
    real[nothing] = 1
    return magnitude, real, imag


def _hann() -> np.ndarray:
    """(FRAME,) periodic Hann window in multiples of 2^-24: the cosine's last bit is the C library's affair."""
    exact = [0.5 - 0.5 * math.cos(2 * math.pi * place / FRAME) for place in range(FRAME)]
    return np.array([round(value * 2**24) for value in exact]) * 2.0**-24
