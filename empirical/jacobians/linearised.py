"""One Whisper decoder layer and its exact derivative at a point, written as dense algebra.

A decoder layer is (h, E) -> F(h, E), h the residual stream (T x d) and E the encoder states (S x d). Its derivative at
a point is a fixed linear map, and every piece of it is a small matrix: normalisations, two attentions, a feed-forward
block. Writing it out, instead of replaying an autograd graph, makes forward products (JVP) as cheap as reverse ones
(VJP), turns batches of directions into GEMMs, and leaves no graph to keep alive.

Everything that meets E goes through the cross-attention heads' output o (T x d), so the layer factors as

    A = dF/dh                  `pull` and `push`
    B = dF/dE = D N,           D = dF/do (inside `pull`, `push`),  N = do/dE (`pull_context`, `push_context`)

and N is of low rank: N^T sends a cotangent of o to sum_h gs_h^T (q_h W_k,h) + P_h^T (go_h W_v,h), two GEMMs whose inner
size is heads x tokens, P the attention weights, gs the cotangent of the scores. (Long transcripts take the products in
the other order, through the keys and values.)

Directions come first: a batch of c cotangents is (c, R, d), R the number of positions that are read (`rows`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

ALL = slice(None)
_MIXED_BYTES = 32 * 2**20


class LinearisedLayer:
    """A Whisper decoder layer at a point: its value there and products with its derivative.

    Args:
        layer: a `WhisperDecoderLayer` in eval mode; its submodules' weights are read, never changed.
        x: residual stream before the layer, (T, d).
        encoder_states: E, (S, d), of the same dtype.

    Attributes:
        output: F(x, E), (T, d).
        tokens, frames, width, heads: T, S, d and the number of attention heads.
    """

    def __init__(self, layer: torch.nn.Module, x: Tensor, encoder_states: Tensor) -> None:
        with torch.no_grad():
            self._build(layer, x, encoder_states)

    def _build(self, layer, x: Tensor, states: Tensor) -> None:
        self.tokens, self.width = x.shape
        self.frames = states.shape[0]
        self.heads = layer.encoder_attn.num_heads
        if layer.self_attn.num_heads != self.heads:
            raise ValueError(
                f"self- and cross-attention must have the same heads; got {layer.self_attn.num_heads} and {self.heads}"
            )

        attention = layer.self_attn
        n, self._norm1 = _normalise(layer.self_attn_layer_norm, x)
        q = self._split(F.linear(n, attention.q_proj.weight, attention.q_proj.bias) * attention.scaling)
        k = self._split(F.linear(n, attention.k_proj.weight, attention.k_proj.bias))
        v = self._split(F.linear(n, attention.v_proj.weight, attention.v_proj.bias))
        # Eager attention without a mask is not causal, so the mask is explicit here.
        mask = torch.full((self.tokens, self.tokens), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        weights = torch.softmax(q @ k.transpose(1, 2) + mask, dim=-1)
        heads = weights @ v
        x1 = x + F.linear(self._join(heads), attention.out_proj.weight, attention.out_proj.bias)
        self._self = (weights, q, k, v, heads)
        scale = layer.self_attn_layer_norm.weight  # folded into the weights that follow: one pass over (c, T, d) less
        self._self_query = attention.q_proj.weight * (scale * attention.scaling)
        self._self_key = attention.k_proj.weight * scale
        self._self_value = attention.v_proj.weight * scale
        self._self_out = attention.out_proj.weight

        cross = layer.encoder_attn
        n, self._norm2 = _normalise(layer.encoder_attn_layer_norm, x1)
        q = self._split(F.linear(n, cross.q_proj.weight, cross.q_proj.bias) * cross.scaling)
        key = self._split(F.linear(states, cross.k_proj.weight, cross.k_proj.bias))
        value = self._split(F.linear(states, cross.v_proj.weight, cross.v_proj.bias))
        weights = torch.softmax(q @ key.transpose(1, 2), dim=-1)
        heads = weights @ value
        x2 = x1 + F.linear(self._join(heads), cross.out_proj.weight, cross.out_proj.bias)
        self._attention, self._value, self._heads = weights, value, heads
        # d(heads)/d(query) of each head and token, (H, T, dh, dh): with it a propagator never touches the S frames.
        self._query_map = _mixed(weights, value, key)
        self._query_map -= heads[..., :, None] * (weights @ key)[..., None, :]
        self._query, self._key_weight = q, self._split_out(cross.k_proj.weight)
        self._query_key = torch.bmm(q, self._key_weight)
        self._value_weight = self._split_out(cross.v_proj.weight)
        self._cross_query = cross.q_proj.weight * (layer.encoder_attn_layer_norm.weight * cross.scaling)
        self._cross_out = cross.out_proj.weight

        n, self._norm3 = _normalise(layer.final_layer_norm, x2)
        inner = F.linear(n, layer.fc1.weight, layer.fc1.bias)
        value, self._slope = _value_and_slope(layer.activation_fn, inner)
        self.output = x2 + F.linear(value, layer.fc2.weight, layer.fc2.bias)
        self._fc1 = layer.fc1.weight * layer.final_layer_norm.weight
        self._fc2 = layer.fc2.weight

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
        c, r, d = cotangent.shape
        g = (cotangent @ self._fc2).mul_(self._slope[rows])
        g = cotangent + _project(g @ self._fc1, self._norm3, rows)
        heads = g @ self._cross_out
        query = torch.matmul(self._by_head(heads).transpose(1, 2), self._query_map[:, rows])  # (H, R, c, dh)
        query = query.permute(2, 1, 0, 3).reshape(c, r, d)
        g = g + _project(query @ self._cross_query, self._norm2, rows)

        weights, q, k, v, out = self._self
        weights = weights[:, rows]
        go = self._by_head(g @ self._self_out)  # (H, c, R, dh)
        gs = torch.bmm(go.reshape(self.heads, c * r, -1), v.transpose(1, 2)).view(self.heads, c, r, self.tokens)
        gs = gs.sub_((go * out[:, None, rows]).sum(-1, keepdim=True)).mul_(weights[:, None])
        gq = torch.bmm(gs.view(self.heads, c * r, -1), k)
        to, own = (rows, ALL) if local else (ALL, rows)  # positions that receive, and `rows` among them
        gs, weights = gs[..., to], weights[:, :, to]
        keys = gs.shape[3]
        gk = torch.bmm(gs.transpose(2, 3).reshape(self.heads, c * keys, r), q[:, rows])
        gv = torch.bmm(weights.transpose(1, 2), go.transpose(1, 2).reshape(self.heads, r, -1))
        gn = self._flat(gk.view(self.heads, c, keys, -1)) @ self._self_key
        gn += self._flat(gv.view(self.heads, keys, c, -1).transpose(1, 2)) @ self._self_value
        gn[:, own] += self._flat(gq.view(self.heads, c, r, -1)) @ self._self_query
        gx = _project(gn, self._norm1, to)
        gx[:, own] += g
        return gx, heads

    def push(self, tangent: Tensor | None, heads: Tensor | None, rows: slice = ALL) -> Tensor:
        """Forward product A dx + D do at output positions `rows`.

        Args:
            tangent: dx, (c, T, d), or None for 0.
            heads: do, (c, R, d), tangent of the heads' output at `rows`, or None for 0.
            rows: the R positions that are wanted.

        Returns:
            (c, R, d).
        """
        x = None
        if tangent is not None:
            x = self._push_self(tangent, rows)
            query = (_project(x, self._norm2, rows) @ self._cross_query.T).unflatten(2, (self.heads, -1))
            through = torch.matmul(query.permute(2, 1, 0, 3), self._query_map[:, rows].transpose(2, 3))
            through = through.permute(2, 1, 0, 3).flatten(2)
            heads = through if heads is None else heads + through
        if heads is None:
            raise ValueError("push needs a tangent of the stream or of the heads; got neither")
        out = heads @ self._cross_out.T
        x = out if x is None else x + out
        inner = (_project(x, self._norm3, rows) @ self._fc1.T).mul_(self._slope[rows])
        return x + inner @ self._fc2.T

    def _push_self(self, tangent: Tensor, rows: slice) -> Tensor:
        weights, q, k, v, out = self._self
        c, t, _ = tangent.shape
        n = _project(tangent, self._norm1)
        dq = self._by_head(n[:, rows] @ self._self_query.T)
        dk = self._by_head(n @ self._self_key.T)
        dv = self._by_head(n @ self._self_value.T)
        r = dq.shape[2]
        weights = weights[:, rows]
        ds = torch.bmm(dq.reshape(self.heads, c * r, -1), k.transpose(1, 2)).view(self.heads, c, r, t)
        by_key = torch.bmm(dk.reshape(self.heads, c * t, -1), q[:, rows].transpose(1, 2))
        ds = (ds + by_key.view(self.heads, c, t, r).transpose(2, 3)).mul_(weights[:, None])
        do = torch.bmm(ds.view(self.heads, c * r, t), v).view(self.heads, c, r, -1)
        do -= ds.sum(-1, keepdim=True) * out[:, None, rows]
        mixed = torch.bmm(weights, dv.transpose(1, 2).reshape(self.heads, t, -1))
        do += mixed.view(self.heads, r, c, -1).transpose(1, 2)
        return tangent[:, rows] + self._flat(do) @ self._self_out.T

    def pull_context(self, heads: Tensor, rows: slice = ALL, *, out: Tensor) -> None:
        """Add N^T go to `out`: cotangents of the heads' output to those of the encoder states.

        Args:
            heads: go, (c, R, d), as `pull` returns it.
            rows: the positions it belongs to.
            out: (c, S, d), added to in place: the chain's sum over layers costs no pass of its own.
        """
        c, r, d = heads.shape
        go = self._by_head(heads)
        weights = self._attention[:, rows]
        gs = torch.bmm(go.view(self.heads, c * r, -1), self._value.transpose(1, 2)).view(self.heads, c, r, -1)
        gs.sub_((go * self._heads[:, None, rows]).sum(-1, keepdim=True))
        if self._through_keys(r):
            gs.mul_(weights[:, None])
            query = self._query[:, None, rows].expand(-1, c, -1, -1).reshape(self.heads * c, r, -1)
            key = torch.bmm(gs.view(self.heads * c, r, -1).transpose(1, 2), query).view(self.heads, c, self.frames, -1)
            value = torch.bmm(weights.transpose(1, 2), go.transpose(1, 2).reshape(self.heads, r, -1))
            value = value.view(self.heads, self.frames, c, -1).transpose(1, 2)
            flat = out.view(-1, d)
            flat.addmm_(self._flat(key).view(-1, d), self._key_weight.view(d, d))
            flat.addmm_(self._flat(value).view(-1, d), self._value_weight.view(d, d))
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
        by_head = torch.empty((self.heads, c, r, self.frames), dtype=tangent.dtype, device=tangent.device)
        if self._through_keys(r):
            key = self._by_head(tangent @ self._key_weight.flatten(0, 1).T).view(self.heads * c, self.frames, -1)
            query = self._query[:, None, rows].expand(-1, c, -1, -1).reshape(self.heads * c, r, -1)
            torch.mul(torch.bmm(query, key.transpose(1, 2)).view_as(by_head), weights[:, None], out=by_head)
            value = self._by_head(tangent @ self._value_weight.flatten(0, 1).T).transpose(1, 2)
            mean = torch.bmm(weights, value.reshape(self.heads, self.frames, -1))
            mean = mean.view(self.heads, r, c, -1).transpose(1, 2)
        else:
            query_key = self._query_key[:, rows].reshape(1, inner, -1).expand(c, -1, -1)
            ds = torch.bmm(query_key, tangent.transpose(1, 2)).view(c, self.heads, r, -1)
            torch.mul(ds.transpose(0, 1), weights[:, None], out=by_head)
            mean = torch.bmm(weights.reshape(1, inner, -1).expand(c, -1, -1), tangent)
            mean = mean.view(c, self.heads, r, -1).transpose(0, 1).reshape(self.heads, c * r, -1)
            mean = torch.bmm(mean, self._value_weight.transpose(1, 2)).view(self.heads, c, r, -1)
        do = torch.bmm(by_head.view(self.heads, c * r, -1), self._value).view(self.heads, c, r, -1)
        do -= by_head.sum(-1, keepdim=True) * self._heads[:, None, rows]
        return self._flat(do + mean)

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

    def context_cross_gram(self, other: LinearisedLayer, position: int) -> Tensor:
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

    def _split(self, x: Tensor) -> Tensor:
        """(n, d) -> (H, n, dh)."""
        return x.view(x.shape[0], self.heads, -1).transpose(0, 1).contiguous()

    def _join(self, x: Tensor) -> Tensor:
        """(H, n, dh) -> (n, d)."""
        return x.transpose(0, 1).reshape(x.shape[1], -1)

    def _split_out(self, weight: Tensor) -> Tensor:
        """(d, d) -> (H, dh, d): rows of a projection by head."""
        return weight.view(self.heads, -1, weight.shape[1])

    def _by_head(self, x: Tensor) -> Tensor:
        """(c, R, d) -> (H, c, R, dh), contiguous, so that one GEMM a head takes all directions."""
        return x.unflatten(2, (self.heads, -1)).permute(2, 0, 1, 3).contiguous()

    def _flat(self, x: Tensor) -> Tensor:
        """(H, c, R, dh) -> (c, R, d)."""
        return x.permute(1, 2, 0, 3).flatten(2)


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


def _normalise(norm: torch.nn.LayerNorm, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """LayerNorm's value, and what its derivative needs: the normalised rows and 1 / standard deviation."""
    centred = x - x.mean(-1, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + norm.eps)
    unit = centred * inverse
    return unit * norm.weight + norm.bias, (unit, inverse)


def _project(t: Tensor, norm: tuple[Tensor, Tensor], rows: slice = ALL) -> Tensor:
    """Derivative of the normalisation without its scale: symmetric, so it serves tangents and cotangents alike."""
    unit, inverse = norm[0][rows], norm[1][rows]
    along = (t * unit).mean(-1, keepdim=True)
    return (t - t.mean(-1, keepdim=True)).sub_(along * unit).mul_(inverse)


def _value_and_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise activation and its derivative, whatever the config named."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = activation(x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope
