"""Layer normalisation and the feed-forward block at a point: values, and products with their derivatives.

Directions come first: a batch of c tangents is (c, R, d). Weights are read where the model keeps them: scaled copies
would take half a decoder's memory again, and the scale costs no pass of its own beside the other factors of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer, WhisperEncoderLayer

ALL = slice(None)


class Normalised:
    """A `LayerNorm` at x, (n, d): y = scale * (x - mean) / deviation + bias.

    Attributes:
        unit: normalised rows, (n, d).
        inverse: 1 / deviation, (n, 1).
        scale: the norm's weight, (d,).
    """

    __slots__ = ("inverse", "scale", "unit")

    def __init__(self, norm: torch.nn.LayerNorm, x: Tensor) -> None:
        centred = x - x.mean(-1, keepdim=True)
        self.inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + norm.eps)
        self.unit = centred * self.inverse
        self.scale = norm.weight

    def value(self, norm: torch.nn.LayerNorm) -> Tensor:
        """The normalised stream itself, (n, d): made when it is wanted, since only building needs it."""
        return self.unit * norm.weight + norm.bias

    def push(self, tangent: Tensor, rows: slice = ALL) -> Tensor:
        """dy of dx, both (c, R, d), R the positions `rows`."""
        unit = self.unit[rows]
        along = (tangent * unit).mean(-1, keepdim=True)
        out = (tangent - tangent.mean(-1, keepdim=True)).addcmul_(along, unit, value=-1.0)
        return out.mul_(self.inverse[rows] * self.scale)

    def pull(self, cotangent: Tensor, rows: slice = ALL) -> Tensor:
        """The transposed product: cotangents of y to those of x, both (c, R, d)."""
        unit = self.unit[rows]
        out = cotangent * (self.inverse[rows] * self.scale)
        along = (out * unit).mean(-1, keepdim=True)
        return out.sub_(out.mean(-1, keepdim=True)).addcmul_(along, unit, value=-1.0)


class FeedForward:
    """x + fc2 activation(fc1 norm(x)) at x, (n, d); it acts on each position alone.

    Attributes:
        output: its value, (n, d).
        slope: the activation's derivative, (n, inner).
    """

    __slots__ = ("_fc1", "_fc2", "_norm", "output", "slope")

    def __init__(self, layer: WhisperEncoderLayer | WhisperDecoderLayer, x: Tensor) -> None:
        self._norm = Normalised(layer.final_layer_norm, x)
        self._fc1, self._fc2 = layer.fc1, layer.fc2
        value, self.slope = value_and_slope(
            layer.activation_fn, projected(layer.fc1, self._norm.value(layer.final_layer_norm))
        )
        self.output = x + projected(layer.fc2, value)

    def push(self, tangent: Tensor, rows: slice = ALL) -> Tensor:
        """(c, R, d) to (c, R, d)."""
        inner = (self._norm.push(tangent, rows) @ self._fc1.weight.T).mul_(self.slope[rows])
        return tangent + inner @ self._fc2.weight.T

    def pull(self, cotangent: Tensor, rows: slice = ALL) -> Tensor:
        """The transposed product."""
        inner = (cotangent @ self._fc2.weight).mul_(self.slope[rows])
        return self._norm.pull(inner @ self._fc1.weight, rows).add_(cotangent)


def value_and_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise activation and its derivative, whatever the config named."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = activation(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def projected(linear: torch.nn.Linear, x: Tensor) -> Tensor:
    """W x + b, (n, d), without the autograd graph of a model whose weights want gradients."""
    return F.linear(x, linear.weight, linear.bias)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n, d) -> (H, n, dh)."""
    return x.view(x.shape[0], heads, -1).transpose(0, 1).contiguous()


def join_heads(x: Tensor) -> Tensor:
    """(H, n, dh) -> (n, d)."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def by_head(x: Tensor, heads: int) -> Tensor:
    """(c, R, d) -> (H, c, R, dh), contiguous, so that one GEMM a head takes all directions."""
    return x.unflatten(2, (heads, -1)).permute(2, 0, 1, 3).contiguous()


def flat(x: Tensor) -> Tensor:
    """(H, c, R, dh) -> (c, R, d)."""
    return x.permute(1, 2, 0, 3).flatten(2)
