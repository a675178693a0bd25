"""The encoder's stem, log-mel (mels x 2S) to h_0 (S x d): two convolutions, each with its activation, and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from empirical.jacobians.pieces import value_and_slope

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder


class LinearisedStem:
    """The stem at a point: its value there and products with its Jacobian S_0.

    A frame of h_0 sees five frames of the log-mel, so S_0 is banded; the convolutions themselves serve as products.

    Args:
        encoder: a `WhisperEncoder` in eval mode; its submodules' weights are read, never changed.
        features: log-mel, (mels, 2S).

    Attributes:
        output: h_0, (S, d).
    """

    def __init__(self, encoder: WhisperEncoder, features: Tensor) -> None:
        self._first, self._second = encoder.conv1, encoder.conv2
        self._frames = features.shape[-1]
        # The encoder's activation is GELU whatever `activation_function` names: that one is of the layers.
        with torch.no_grad():
            inner, self._inner_slope = value_and_slope(F.gelu, self._first(features[None]))
            outer, self._outer_slope = value_and_slope(F.gelu, self._second(inner))
            self.output = outer[0].T + encoder.embed_positions.weight[: outer.shape[2]]

    def push(self, tangent: Tensor) -> Tensor:
        """(c, mels, 2S) to (c, S, d)."""
        inner = _convolve(self._first, tangent).mul_(self._inner_slope)
        return _convolve(self._second, inner).mul_(self._outer_slope).transpose(1, 2)

    def pull(self, cotangent: Tensor) -> Tensor:
        """The transposed product: (c, S, d) to (c, mels, 2S)."""
        outer = cotangent.transpose(1, 2) * self._outer_slope
        inner = _transposed(self._second, outer, self._frames).mul_(self._inner_slope)
        return _transposed(self._first, inner, self._frames)


def _convolve(layer: torch.nn.Conv1d, x: Tensor) -> Tensor:
    return F.conv1d(x, layer.weight, None, layer.stride, layer.padding)


def _transposed(layer: torch.nn.Conv1d, y: Tensor, length: int) -> Tensor:
    stride, padding, size = layer.stride[0], int(layer.padding[0]), layer.kernel_size[0]
    missing = length - ((y.shape[2] - 1) * stride - 2 * padding + size)  # inputs past the last whole stride
    return F.conv_transpose1d(y, layer.weight, None, stride, padding, missing)
