"""One Whisper decoder layer and its exact derivative at a point, written as dense algebra.

A decoder layer is (h, E) -> F(h, E), h the residual stream (T x d) and E the encoder states (S x d). Its derivative at
a point is a fixed linear map, and every piece of it is a small matrix: normalisations, two attentions, a feed-forward
block. Writing it out, instead of replaying an autograd graph, makes forward products (JVP) as cheap as reverse ones
(VJP), turns batches of directions into GEMMs, and leaves no graph to keep alive.

Everything that meets E goes through the cross-attention heads' output o (T x d), so the layer factors as

    A = dF/dh                  `pull` and `push`
    B = dF/dE = D N,           D = dF/do (inside `pull`, `push`),  N = do/dE (`pull_context`, `push_context`)

Directions come first: a batch of c cotangents is (c, R, d), R the number of positions that are read (`rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from empirical.jacobians.cross_attention import CrossAttention
from empirical.jacobians.pieces import ALL, FeedForward
from empirical.jacobians.self_attention import SelfAttention

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer


class LinearisedLayer:
    """A Whisper decoder layer at a point: its value there and products with its derivative.

    Memory: S d + H T S + T d (d/H + H) numbers in the main: 21 MB a layer at large-v3's dimensions in float32 and 24
    tokens, 0.7 GB for its 32. No weight is copied.

    Args:
        layer: a `WhisperDecoderLayer` in eval mode; its submodules' weights are read, never changed.
        x: residual stream before the layer, (T, d).
        encoder_states: E, (S, d), of the same dtype.

    Attributes:
        attention, cross, feed_forward: its three blocks, linearised.
        output: F(x, E), (T, d).
        tokens, frames, width, heads: T, S, d and the number of attention heads.
    """

    def __init__(self, layer: WhisperDecoderLayer, x: Tensor, encoder_states: Tensor) -> None:
        with torch.no_grad():
            self.attention = SelfAttention(layer, x, causal=True, keep=True)
            self.cross = CrossAttention(layer, self.attention.output, encoder_states)
            self.feed_forward = FeedForward(layer, self.cross.output)
        self.output = self.feed_forward.output
        self.tokens, self.width = x.shape
        self.frames, self.heads = encoder_states.shape[0], self.cross.heads

    def pull(self, cotangent: Tensor, rows: slice = ALL, *, local: bool = False) -> tuple[Tensor, Tensor]:
        """Reverse product: cotangents of the output's `rows` to those of the input and of the heads' output.

        Args:
            cotangent: (c, R, d), of output positions `rows`; all other positions have cotangent 0.
            rows: the R positions, as a slice of the T.
            local: hold all other positions fixed: A^T g at `rows` alone, which spares T - R of T positions.

        Returns:
            (A^T g, (c, T, d), at every position, or (c, R, d) if local) and (D^T g, (c, R, d), to be given to
            `pull_context`).
        """
        g, heads = self.cross.pull(self.feed_forward.pull(cotangent, rows), rows)
        return self.attention.pull(g, rows, local=local), heads

    def push(self, tangent: Tensor | None, heads: Tensor | None, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """Forward product A dx + D do at output positions `rows`.

        Args:
            tangent: dx, (c, T, d), or (c, R, d) at `rows` alone if local, or None for 0.
            heads: do, (c, R, d), tangent of the heads' output at `rows`, or None for 0.
            rows: the R positions that are wanted.
            local: hold all other positions fixed.

        Returns:
            (c, R, d).
        """
        if tangent is not None:
            tangent = self.attention.push(tangent, rows, local=local)
        return self.feed_forward.push(self.cross.push(tangent, heads, rows), rows)

    def pull_stream(self, cotangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """A^T g alone, as `pull`."""
        return self.pull(cotangent, rows, local=local)[0]

    def push_stream(self, tangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """A dx alone, as `push`."""
        return self.push(tangent, None, rows, local=local)

    def pull_context(self, heads: Tensor, rows: slice = ALL, *, out: Tensor) -> None:
        """Add N^T go to `out`, (c, S, d), go (c, R, d) as `pull` returns it."""
        self.cross.pull_context(heads, rows, out=out)

    def push_context(self, tangent: Tensor, rows: slice = ALL) -> Tensor:
        """N dE: tangents of the encoder states, (c, S, d), to those of the heads' output at `rows`, (c, R, d)."""
        return self.cross.push_context(tangent, rows)

    def context_gram(self, position: int) -> Tensor:
        """N N^T of one position, (d, d) in float64, in closed form."""
        return self.cross.context_gram(position)

    def context_cross_gram(self, other: LinearisedLayer, position: int) -> Tensor:
        """N N'^T of one position, (d, d) in float64, N' that of another layer on the same encoder states."""
        return self.cross.context_cross_gram(other.cross, position)
