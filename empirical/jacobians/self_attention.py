"""x + out_proj attention(norm x) at a point, causal (decoder) or not (encoder), and products with its derivative.

With scores' tangents ds = (dq k + q dk) and weights P, the heads' output o = P v has

    do = (P * ds) v - <P, ds> o + P dv,          <P, ds> the sum over keys.

A layer's weights P take H n n numbers: nothing for a transcript, 180 MB a layer for large-v3's 1,500 frames in float32,
5.8 GB for its 32 layers. So they are kept only where asked, and else made again from q and k at each product, some
heads and rows at a time: a seventh of its time for one direction at tiny's dimensions. The scores' tangents, c H R n
numbers, are never held for more heads and rows than `_SLAB_BYTES` takes: what stays in a core's cache is written,
scaled, summed and read again in a quarter less time (one direction at tiny's dimensions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from empirical.jacobians.pieces import ALL, Normalised, by_head, flat, join_heads, projected, split_heads

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer, WhisperEncoderLayer

# Scores held at once, by device type: a core's second-level cache, or enough to keep a GPU busy.
_SLAB_BYTES = {"cpu": 3 * 2**20}
_SLAB_BYTES_ELSEWHERE = 256 * 2**20
_LEAST_ROWS = 64  # of fewer, a GEMM is slower than memory


class SelfAttention:
    """Self-attention of a Whisper layer, its normalisation and residual included, at x.

    Args:
        layer: a layer in eval mode, with `self_attn` and `self_attn_layer_norm`.
        x: (n, d).
        causal: a position sees itself and those before it.
        keep: hold the attention weights, H n n numbers, which many directions of a short transcript would each want.

    Attributes:
        output: its value, (n, d).
        heads: H.
    """

    def __init__(
        self, layer: WhisperEncoderLayer | WhisperDecoderLayer, x: Tensor, *, causal: bool, keep: bool
    ) -> None:
        attention = layer.self_attn
        self.positions = x.shape[0]
        self.heads: int = attention.num_heads
        self._norm = Normalised(layer.self_attn_layer_norm, x)
        self._projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        self._scaling: float = attention.scaling
        n = self._norm.value(layer.self_attn_layer_norm)
        self._q = split_heads(projected(attention.q_proj, n) * attention.scaling, self.heads)
        self._k = split_heads(projected(attention.k_proj, n), self.heads)
        self._v = split_heads(projected(attention.v_proj, n), self.heads)
        # Eager attention without a mask is not causal, so the mask is explicit here.
        square = (self.positions, self.positions)
        self._mask = torch.full(square, float("-inf"), dtype=x.dtype, device=x.device).triu(1) if causal else None
        self._weights: Tensor | None = None
        self._out = torch.empty_like(self._v)
        kept = x.new_empty((self.heads, *square)) if keep else None
        for part, tile, _ in self._slabs(1, ALL):
            weights = self._attention(part, tile)
            self._out[part, tile] = torch.bmm(weights, self._v[part])
            if kept is not None:
                kept[part, tile] = weights
        self._weights = kept
        self.output = x + projected(attention.out_proj, join_heads(self._out))

    def push(self, tangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """Forward product at output positions `rows`.

        Args:
            tangent: (c, n, d), of all positions; of `rows` alone, (c, R, d), if local, all others held fixed.
            rows: the R positions that are wanted.
            local: whether other positions are held fixed.

        Returns:
            (c, R, d).
        """
        c = tangent.shape[0]
        query, key, value, out = self._projections
        source, own = (rows, ALL) if local else (ALL, rows)  # positions with a tangent, and `rows` among them
        n = self._norm.push(tangent, source)
        dq = by_head((n[:, own] @ query.weight.T).mul_(self._scaling), self.heads)
        dk = by_head(n @ key.weight.T, self.heads)
        dv = by_head(n @ value.weight.T, self.heads)
        sources = dk.shape[2]
        do = torch.empty_like(dq)
        for part, at, tile in self._slabs(c, rows):
            weights = self._attention(part, at)
            h, r = weights.shape[:2]
            q = self._q[part, None, at].expand(-1, c, -1, -1).reshape(h * c, r, -1)
            ds = torch.bmm(dq[part, :, tile].reshape(h, c * r, -1), self._k[part].transpose(1, 2)).view(h * c, r, -1)
            ds[..., source].baddbmm_(q, dk[part].reshape(h * c, sources, -1).transpose(1, 2))
            ds = ds.view(h, c, r, -1).mul_(weights[:, None])
            heard = torch.bmm(ds.view(h, c * r, -1), self._v[part]).view(h, c, r, -1)
            heard.addcmul_(ds.sum(-1, keepdim=True), self._out[part, None, at], value=-1.0)
            mixed = torch.bmm(weights[..., source], dv[part].transpose(1, 2).reshape(h, sources, -1))
            do[part, :, tile] = heard.add_(mixed.view(h, r, c, -1).transpose(1, 2))
        return tangent[:, own] + flat(do) @ out.weight.T

    def pull(self, cotangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor:
        """Reverse product: (c, R, d) of the output's `rows`, all others 0, to (c, n, d), or (c, R, d) if local."""
        c = cotangent.shape[0]
        query, key, value, out = self._projections
        to, own = (rows, ALL) if local else (ALL, rows)  # positions that receive, and `rows` among them
        go = by_head(cotangent @ out.weight, self.heads)
        receivers = go.shape[2] if local else self.positions
        gq = torch.empty_like(go)
        gk = go.new_zeros((self.heads, c, receivers, go.shape[3]))
        gv = torch.zeros_like(gk)
        for part, at, tile in self._slabs(c, rows):
            weights, g = self._attention(part, at), go[part, :, tile]
            h, r = weights.shape[:2]
            gs = torch.bmm(g.reshape(h, c * r, -1), self._v[part].transpose(1, 2)).view(h, c, r, -1)
            gs.sub_((g * self._out[part, None, at]).sum(-1, keepdim=True)).mul_(weights[:, None])
            gq[part, :, tile] = torch.bmm(gs.view(h, c * r, -1), self._k[part]).view(h, c, r, -1)
            q = self._q[part, None, at].expand(-1, c, -1, -1).reshape(h * c, r, -1)
            gs = gs.view(h * c, r, -1)[..., to].transpose(1, 2)
            gk[part].view(h * c, receivers, -1).baddbmm_(gs, q)
            mixed = torch.bmm(weights[..., to].transpose(1, 2), g.transpose(1, 2).reshape(h, r, -1))
            gv[part] += mixed.view(h, receivers, c, -1).transpose(1, 2)
        gn = flat(gk) @ key.weight
        gn += flat(gv) @ value.weight
        gn[:, own] += flat(gq.mul_(self._scaling)) @ query.weight
        gx = self._norm.pull(gn, to)
        gx[:, own] += cotangent
        return gx

    def _attention(self, part: slice, rows: slice) -> Tensor:
        """P of some heads and positions, (h, R, n)."""
        if self._weights is not None:
            return self._weights[part, rows]
        scores = torch.bmm(self._q[part, rows], self._k[part].transpose(1, 2))
        return torch.softmax(scores if self._mask is None else scores + self._mask[rows], dim=-1)

    def _slabs(self, directions: int, rows: slice) -> list[tuple[slice, slice, slice]]:
        """Heads and positions taken at once, all of them where their scores are small.

        Of each slab its heads, its positions, and where among `rows` these are.
        """
        first, last, _ = rows.indices(self.positions)
        most = _SLAB_BYTES.get(self._v.device.type, _SLAB_BYTES_ELSEWHERE)
        row = directions * self.positions * self._v.element_size()
        heads = max(1, min(self.heads, most // (row * (last - first))))
        step = max(_LEAST_ROWS, most // row)
        return [
            (slice(head, min(head + heads, self.heads)), slice(at, end), slice(at - first, end - first))
            for head in range(0, self.heads, heads)
            for at in range(first, last, step)
            for end in (min(at + step, last),)
        ]
