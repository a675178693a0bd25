"""One Whisper encoder layer and its exact derivative at a point: self-attention over all frames, then feed-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from empirical.jacobians.pieces import ALL, FeedForward
from empirical.jacobians.self_attention import SelfAttention

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer


class LinearisedEncoderLayer:
    """A Whisper encoder layer at a point: its value there and products with its derivative.

    Args:
        layer: a `WhisperEncoderLayer` in eval mode; its submodules' weights are read, never changed.
        x: residual stream before the layer, (S, d).

    Attributes:
        output: its value, (S, d).
        heads: H.
    """

    def __init__(self, layer: WhisperEncoderLayer, x: Tensor) -> None:
        with torch.no_grad():
            self.attention = SelfAttention(layer, x, causal=False, keep=False)
            self.feed_forward = FeedForward(layer, self.attention.output)
        self.output = self.feed_forward.output
        self.heads = self.attention.heads

    def push_stream(self, tangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """A dx at frames `rows`, (c, R, d); dx is (c, S, d), or (c, R, d) of `rows` alone if local."""
        return self.feed_forward.push(self.attention.push(tangent, rows, local=local), rows)

    def pull_stream(self, cotangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """A^T g, (c, S, d), or at `rows` alone, (c, R, d), if local; g is (c, R, d), 0 at all other frames."""
        return self.attention.pull(self.feed_forward.pull(cotangent, rows), rows, local=local)
