"""Batches for training: a pure function of seed and step, so that a resumed training sees what an unbroken one saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from empirical.organism.corpus import TrainingData
from empirical.organism.features import normalise, silence_value
from empirical.organism.recipe import TrainingSpec

IGNORED_LABEL = -100
_MOST_EXTRA_FRAMES = 20
_GAIN_LOG10 = 0.6
_TILT_LOG10 = 0.4
_SPEED = 0.1
_MASKS = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of one optimiser step.

    Attributes:
        features: float32, shape (batch, 80, frames), frames even.
        lengths: encoder positions that hold speech, int64, shape (batch,).
        inputs: decoder input ids, int64, shape (batch, positions).
        labels: ids to predict, `IGNORED_LABEL` beyond the end token, same shape.
        texts: ids of the sentences alone, the targets of CTC.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor
    texts: list[list[int]]


class Batches:
    """Draws the batch of any step.

    Args:
        data: features of the corpus.
        token_ids: ids of each clip's sentence.
        prompt: ids of the decoder prompt.
        end: id of the end token.
        noise: mel power of white noise of unit variance, shape (80, frames).
        spec: hyperparameters.
        window_frames: frames of the whole window.
        seed: seed of the batches.
    """

    def __init__(
        self,
        data: TrainingData,
        token_ids: Sequence[Sequence[int]],
        prompt: Sequence[int],
        end: int,
        noise: torch.Tensor,
        spec: TrainingSpec,
        window_frames: int,
        seed: int,
    ) -> None:
        self._data = data
        self._token_ids = token_ids
        self._prompt = list(prompt)
        self._end = end
        self._noise = noise
        self._spec = spec
        self._window_frames = window_frames
        self._seed = seed
        self._by_length = np.argsort(data.lengths, kind="stable")

    def at(self, step: int, strength: float) -> Batch:
        """Batch of one step.

        Args:
            step: optimiser step, from 0.
            strength: how strong the augmentation is, from 0 (none) to 1.
        """
        rng = np.random.default_rng((self._seed, step))
        clips = self._draw_clips(rng)
        speed = 1.0 + strength * _SPEED * float(rng.uniform(-1.0, 1.0))
        parts = [self._clip_features(int(clip), speed, strength, rng) for clip in clips]
        longest = max(part.shape[1] for part in parts)
        frames = longest + int(rng.integers(_MOST_EXTRA_FRAMES + 1))
        if rng.random() < self._spec.full_window_fraction:
            frames = self._window_frames
        frames = min(frames + frames % 2, self._window_frames)
        features = torch.stack([_pad(part, frames) for part in parts])
        # Two frames per clip belong to the padding; the encoder halves the rate.
        lengths = torch.tensor([min(-(-part.shape[1] // 2), frames // 2) for part in parts])
        texts = [list(self._token_ids[int(clip)]) for clip in clips]
        inputs, labels = self._targets(texts)
        return Batch(features, lengths, inputs, labels, texts)

    def _draw_clips(self, rng: np.random.Generator) -> np.ndarray:
        count = len(self._by_length)
        bucket = min(self._spec.bucket, count)
        start = int(np.clip(rng.integers(count) - bucket // 2, 0, count - bucket))
        return self._by_length[start + rng.choice(bucket, size=min(self._spec.batch_size, bucket), replace=False)]

    def _clip_features(self, clip: int, speed: float, strength: float, rng: np.random.Generator) -> torch.Tensor:
        first, last = self._data.offsets[clip], self._data.offsets[clip + 1]
        features = torch.from_numpy(self._data.features[first:last].astype(np.float32)).T.contiguous()
        if strength <= 0.0:
            return features
        if speed != 1.0:
            frames = max(2, round(features.shape[1] / speed))
            features = torch.nn.functional.interpolate(features[None], size=frames, mode="linear")[0]
        log_mel = features * 4.0 - 4.0
        gain, tilt = strength * rng.uniform(-1.0, 1.0, size=2)
        slope = torch.linspace(-1.0, 1.0, log_mel.shape[0])[:, None]
        log_mel = log_mel + (_GAIN_LOG10 * float(gain) + _TILT_LOG10 * float(tilt) * slope)
        power = torch.pow(10.0, log_mel)
        if rng.random() < strength * self._spec.noise_probability:
            low_db, high_db = self._spec.noise_snr_db
            snr_db = high_db - strength * (high_db - low_db) * rng.random()
            variance = float(self._data.power[clip] * 10.0 ** (_GAIN_LOG10 * float(gain) - snr_db / 10.0))
            start = int(rng.integers(self._noise.shape[1] - power.shape[1] + 1))
            power = power + variance * self._noise[:, start : start + power.shape[1]]
        return self._mask(normalise(power), strength, rng)

    def _mask(self, features: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
        fill = features.mean()
        for axis, most in ((0, self._spec.mask_bands), (1, self._spec.mask_frames)):
            for _ in range(_MASKS):
                width = int(rng.integers(round(strength * most) + 1))
                start = int(rng.integers(max(1, features.shape[axis] - width)))
                features.narrow(axis, start, width).copy_(fill)
        return features

    def _targets(self, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(text) for text in texts) + len(self._prompt)
        inputs = torch.full((len(texts), longest), self._end)
        labels = torch.full((len(texts), longest), IGNORED_LABEL)
        for row, text in enumerate(texts):
            ids = [*self._prompt, *text, self._end]
            inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            labels[row, : len(ids) - 1] = torch.tensor(ids[1:])
        return inputs, labels


def _pad(features: torch.Tensor, frames: int) -> torch.Tensor:
    if features.shape[1] >= frames:
        return features[:, :frames]
    padded = silence_value(features).expand(features.shape[0], frames).clone()
    padded[:, : features.shape[1]] = features
    return padded
