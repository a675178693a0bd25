"""Log-mel features of short clips, equal to those of `WhisperFeatureExtractor` on the padded window.

The extractor pads every clip to the window before it transforms it. Here only the clip is transformed; the rest of the
window is silence, whose log-mel value is known: it is the clamp 8 decades below the loudest bin.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from empirical.organism.recipe import HOP_LENGTH, MEL_BANDS, SAMPLE_RATE_HZ, ModelShape

_FFT_LENGTH = 400
_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0


def make_feature_extractor(shape: ModelShape) -> WhisperFeatureExtractor:
    """The feature extractor shipped with an organism of this shape."""
    return WhisperFeatureExtractor(feature_size=MEL_BANDS, chunk_length=shape.window_s)


class LogMel:
    """Log-mel transform of one clip at a time.

    Args:
        extractor: the extractor whose filters are used and whose output is reproduced.
    """

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        self._filters = torch.from_numpy(extractor.mel_filters).to(torch.float32).T.contiguous()
        self._window = torch.hann_window(_FFT_LENGTH)

    def mel_power(self, samples: np.ndarray) -> torch.Tensor:
        """Mel power of every frame that the clip touches.

        Args:
            samples: float32 samples at 16 kHz, shape (n,).

        Returns:
            Power, shape (80, frames) with frames = ceil(n / 160) + 2, silence beyond.
        """
        frames = -(-len(samples) // HOP_LENGTH) + 2
        padded = torch.zeros(frames * HOP_LENGTH + _FFT_LENGTH)
        padded[: len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        spectrum = torch.stft(padded, _FFT_LENGTH, HOP_LENGTH, window=self._window, return_complex=True)
        return self._filters @ (spectrum[:, :frames].abs() ** 2).contiguous()

    def __call__(self, samples: np.ndarray) -> torch.Tensor:
        """Whisper's normalised log-mel features, shape (80, frames)."""
        return normalise(self.mel_power(samples))


def normalise(mel_power: torch.Tensor) -> torch.Tensor:
    """Whisper's compression: log10, clamped 8 decades below the loudest bin of the clip, then (x + 4) / 4.

    Args:
        mel_power: shape (..., 80, frames); the loudest bin is taken over the last two axes.
    """
    log_mel = mel_power.clamp(min=_FLOOR).log10()
    peak = log_mel.amax(dim=(-2, -1), keepdim=True)
    return (torch.maximum(log_mel, peak - _DYNAMIC_RANGE) + 4.0) / 4.0


def silence_value(features: torch.Tensor) -> torch.Tensor:
    """Value the extractor gives to silence after this clip.

    Args:
        features: normalised features, shape (..., 80, frames).

    Returns:
        Shape (..., 1, 1).
    """
    peak = features.amax(dim=(-2, -1), keepdim=True) * 4.0 - 4.0
    silence = torch.full_like(peak, float(np.log10(_FLOOR)))
    return (torch.maximum(silence, peak - _DYNAMIC_RANGE) + 4.0) / 4.0


def white_noise_power(log_mel: LogMel, rng: np.random.Generator, *, duration_s: float = 30.0) -> torch.Tensor:
    """Mel power of white noise of unit variance, shape (80, frames), to be scaled and added to clips."""
    noise = rng.standard_normal(int(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)
    # The frames at either end see the padding and are dropped.
    return log_mel.mel_power(noise)[:, 2:-6].contiguous()
