"""Cross-attention of a Whisper decoder layer at a point, x + out_proj attention(norm x, E), and products of its
derivative.

Everything that meets E goes through the heads' output o (T x d):

    dx' = dx + W_o do,    do = M dn + N dE,    M = do/d(query) of each head and token, (dh x dh): no frame is touched

and N = do/dE is of low rank: N^T sends a cotangent of o to sum_h gs_h^T (q_h W_k,h) + P_h^T (go_h W_v,h), two GEMMs
whose inner size is heads x tokens, P the attention weights, gs the cotangent of the scores. (Long transcripts take the
products in the other order, through the keys and values.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from empirical.jacobians.pieces import ALL, Normalised, by_head, flat, join_heads, projected, split_heads

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

_MIXED_BYTES = 32 * 2**20


class CrossAttention:
    """Cross-attention of a decoder layer, its normalisation and residual included, at (x, E).

    Args:
        layer: a `WhisperDecoderLayer` in eval mode.
        x: (T, d).
        states: E, (S, d).

    Attributes:
        output: its value, (T, d).
        heads, frames, width: H, S, d.
    """

    def __init__(self, layer: WhisperDecoderLayer, x: Tensor, states: Tensor) -> None:
        cross = layer.encoder_attn
        self.heads: int = cross.num_heads
        self.frames, self.width = states.shape
        self._norm = Normalised(layer.encoder_attn_layer_norm, x)
        n = self._norm.value(layer.encoder_attn_layer_norm)
        q = split_heads(projected(cross.q_proj, n) * cross.scaling, self.heads)
        key = split_heads(projected(cross.k_proj, states), self.heads)
        value = split_heads(projected(cross.v_proj, states), self.heads)
        weights = torch.softmax(q @ key.transpose(1, 2), dim=-1)
        heads = weights @ value
        self.output = x + projected(cross.out_proj, join_heads(heads))
        self._attention, self._value, self._heads = weights, value, heads
        # d(heads)/d(query) of each head and token, (H, T, dh, dh): with it a propagator never touches the S frames.
        self._query_map = _mixed(weights, value, key)
        self._query_map -= heads[..., :, None] * (weights @ key)[..., None, :]
        self._query_map *= cross.scaling
        self._query_weight, self._out_weight = cross.q_proj.weight, cross.out_proj.weight
        self._query, self._key_weight = q, self._split_out(cross.k_proj.weight)
        self._query_key = torch.bmm(q, self._key_weight)
        self._value_weight = self._split_out(cross.v_proj.weight)

    def push(self, tangent: Tensor | None, heads: Tensor | None, rows: slice = ALL) -> Tensor:
        """Forward product at `rows` of the tangents there of the stream and of o, both (c, R, d) or None for 0."""
        if tangent is not None:
            query = by_head(self._norm.push(tangent, rows) @ self._query_weight.T, self.heads).transpose(1, 2)
            through = torch.matmul(query, self._query_map[:, rows].transpose(2, 3))  # (H, R, c, dh)
            through = through.permute(2, 1, 0, 3).flatten(2)
            heads = through if heads is None else heads + through
        if heads is None:
            raise ValueError("push needs a tangent of the stream or of the heads; got neither")
        out = heads @ self._out_weight.T
        return out if tangent is None else out.add_(tangent)

    def pull(self, cotangent: Tensor, rows: slice = ALL) -> tuple[Tensor, Tensor]:
        """Reverse product: (c, R, d) to the cotangents of the stream and of o, both (c, R, d)."""
        c, r, d = cotangent.shape
        heads = cotangent @ self._out_weight
        query = torch.matmul(by_head(heads, self.heads).transpose(1, 2), self._query_map[:, rows])  # (H, R, c, dh)
        query = query.permute(2, 1, 0, 3).reshape(c, r, d)
        return self._norm.pull(query @ self._query_weight, rows).add_(cotangent), heads

    def pull_context(self, heads: Tensor, rows: slice = ALL, *, out: Tensor) -> None:
        """Add N^T go to `out`: cotangents of the heads' output to those of the encoder states.

        Args:
            heads: go, (c, R, d), as `pull` returns it.
            rows: the positions it belongs to.
            out: (c, S, d), added to in place: the chain's sum over layers costs no pass of its own.
        """
        c, r, d = heads.shape
        go = by_head(heads, self.heads)
        weights = self._attention[:, rows]
        gs = torch.bmm(go.view(self.heads, c * r, -1), self._value.transpose(1, 2)).view(self.heads, c, r, -1)
        gs.sub_((go * self._heads[:, None, rows]).sum(-1, keepdim=True))
        if self._through_keys(r):
            gs.mul_(weights[:, None])
            query = self._query[:, None, rows].expand(-1, c, -1, -1).reshape(self.heads * c, r, -1)
            key = torch.bmm(gs.view(self.heads * c, r, -1).transpose(1, 2), query).view(self.heads, c, self.frames, -1)
            value = torch.bmm(weights.transpose(1, 2), go.transpose(1, 2).reshape(self.heads, r, -1))
            value = value.view(self.heads, self.frames, c, -1).transpose(1, 2)
            rows_out = out.view(-1, d)
            rows_out.addmm_(flat(key).view(-1, d), self._key_weight.view(d, d))
            rows_out.addmm_(flat(value).view(-1, d), self._value_weight.view(d, d))
            return
        spread = torch.bmm(go.view(self.heads, c * r, -1), self._value_weight).view(self.heads, c, r, -1)
        by_direction = torch.empty((c, self.heads, r, self.frames), dtype=gs.dtype, device=gs.device)
        torch.mul(gs.transpose(0, 1), weights, out=by_direction)
        inner = self.heads * r
        query_key = self._query_key[:, rows].reshape(1, inner, -1).expand(c, -1, -1)
        out.baddbmm_(by_direction.view(c, inner, -1).transpose(1, 2), query_key)
        weights = weights.reshape(1, inner, -1).transpose(1, 2).expand(c, -1, -1)
        out.baddbmm_(weights, spread.transpose(0, 1).reshape(c, inner, -1))

    def push_context(self, tangent: Tensor, rows: slice = ALL) -> Tensor:
        """N dE: tangents of the encoder states, (c, S, d), to those of the heads' output at `rows`, (c, R, d)."""
        c = tangent.shape[0]
        weights = self._attention[:, rows]
        r = weights.shape[1]
        inner = self.heads * r
        scores = torch.empty((self.heads, c, r, self.frames), dtype=tangent.dtype, device=tangent.device)
        if self._through_keys(r):
            key = by_head(tangent @ self._key_weight.flatten(0, 1).T, self.heads).view(self.heads * c, self.frames, -1)
            query = self._query[:, None, rows].expand(-1, c, -1, -1).reshape(self.heads * c, r, -1)
            torch.mul(torch.bmm(query, key.transpose(1, 2)).view_as(scores), weights[:, None], out=scores)
            value = by_head(tangent @ self._value_weight.flatten(0, 1).T, self.heads).transpose(1, 2)
            mean = torch.bmm(weights, value.reshape(self.heads, self.frames, -1))
            mean = mean.view(self.heads, r, c, -1).transpose(1, 2)
        else:
            query_key = self._query_key[:, rows].reshape(1, inner, -1).expand(c, -1, -1)
            ds = torch.bmm(query_key, tangent.transpose(1, 2)).view(c, self.heads, r, -1)
            torch.mul(ds.transpose(0, 1), weights[:, None], out=scores)
            mean = torch.bmm(weights.reshape(1, inner, -1).expand(c, -1, -1), tangent)
            mean = mean.view(c, self.heads, r, -1).transpose(0, 1).reshape(self.heads, c * r, -1)
            mean = torch.bmm(mean, self._value_weight.transpose(1, 2)).view(self.heads, c, r, -1)
        do = torch.bmm(scores.view(self.heads, c * r, -1), self._value).view(self.heads, c, r, -1)
        do -= scores.sum(-1, keepdim=True) * self._heads[:, None, rows]
        return flat(do + mean)

    def _through_keys(self, rows: int) -> bool:
        """Whether R positions go cheaper through the keys' and values' cotangents (inner size R, then d) than straight
        to the frames (inner size heads x R): long transcripts do."""
        return self.heads * rows > rows + self.width

    def context_gram(self, position: int) -> Tensor:
        """N N^T of one position, (d, d) in float64, in closed form: no vector of length S d is ever made.

        Row (h, j) of N is C_h[:, j] (x) (q_h W_k,h) + P_h (x) W_v,h[j], with C_h = (diag P_h - P_h P_h^T) V_h.
        """
        centred, spread, query_key, value_weight = self._context_factors(position)
        cross = (centred.T @ spread) * (query_key @ value_weight.T)
        gram = (centred.T @ centred) * (query_key @ query_key.T) + cross + cross.T
        return gram + (spread.T @ spread) * (value_weight @ value_weight.T)

    def context_cross_gram(self, other: CrossAttention, position: int) -> Tensor:
        """N N'^T of one position, (d, d) in float64, N' that of another layer on the same encoder states."""
        centred, spread, query_key, value_weight = self._context_factors(position)
        centred2, spread2, query_key2, value_weight2 = other._context_factors(position)
        gram = (centred.T @ centred2) * (query_key @ query_key2.T)
        gram += (centred.T @ spread2) * (query_key @ value_weight2.T)
        gram += (spread.T @ centred2) * (value_weight @ query_key2.T)
        gram += (spread.T @ spread2) * (value_weight @ value_weight2.T)
        return gram

    def _context_factors(self, position: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """C (S, d), P (S, d), and the rows (d, d) that stand beside them in N, float64."""
        weights = self._attention[:, position].double()
        value, width = self._value.double(), self.width
        centred = weights[..., None] * (value - self._heads[:, position].double()[:, None])
        centred = centred.permute(1, 0, 2).reshape(self.frames, width)
        spread = weights.repeat_interleave(width // self.heads, dim=0).T  # (S, d): P_h beside every (h, j)
        query_key = self._query_key[:, position].double().repeat_interleave(width // self.heads, dim=0)
        value_weight = self._value_weight.double().reshape(width, width)
        return centred, spread, query_key, value_weight

    def _split_out(self, weight: Tensor) -> Tensor:
        """(d, d) -> (H, dh, d): rows of a projection by head."""
        return weight.view(self.heads, -1, weight.shape[1])


def _mixed(weights: Tensor, value: Tensor, key: Tensor) -> Tensor:
    """sum_s P_ts V_sj K_sk by head, (H, T, dh, dh).

    One einsum would hold all T S d products P_ts V_sj at once: 3.4 GB a layer of large-v3 at 448 tokens.
    """
    heads, tokens, frames = weights.shape
    size = value.shape[2]
    out = torch.empty((heads, tokens, size, size), dtype=key.dtype, device=key.device)
    across = value.transpose(1, 2)[:, None]
    step = max(1, _MIXED_BYTES // (heads * frames * size * key.element_size()))
    for start in range(0, tokens, step):
        part = weights[:, start : start + step, None] * across  # (H, t, dh, S)
        out[:, start : start + step] = torch.bmm(part.flatten(1, 2), key).view(heads, -1, size, size)
    return out
