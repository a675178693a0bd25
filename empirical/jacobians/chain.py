"""A Whisper decoder as the chain h_l = F_l(h_{l-1}, E) of the theory (T1), linearised along one transcript.

h_l is the residual stream after decoder layer l, before the final norm; h_0 is embeddings plus positions and does not
depend on E, so J_0 = 0 and J_l = A_l J_{l-1} + B_l (T2) with A_l = dF_l/dh, B_l = dF_l/dE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from empirical.jacobians.decompositions import require_finite
from empirical.jacobians.layer_chain import (
    GROUP_BYTES,
    GROUP_MOST,
    LayerChain,
    LinearisationError,
    require_differentiable,
    require_finite_hidden,
    require_reproduced,
)
from empirical.jacobians.linearised import LinearisedLayer
from empirical.jacobians.operators import LinearOperator
from empirical.jacobians.pieces import ALL

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

__all__ = ["DecoderChain", "LinearisationError"]

_CHUNK_BYTES = 6 * 2**20
_CHUNK_MOST = 16


class DecoderChain(LayerChain):
    """The linearised decoder layers of one transcript, with products counted.

    Args:
        model: a `WhisperForConditionalGeneration` in eval mode, float32 or float64.
        encoder_states: E, (S, d) or (1, S, d).
        tokens: decoder input ids, prompt included, (T,).

    Attributes:
        layers: L linearised layers.
        ids: token ids, (T,).
        encoder_states: E, (S, d).
        tokens, frames: T and S.
        and those of `Chain`; the context's numbers are E's, frame by frame.

    Raises:
        ValueError: if tokens are empty, too many or unknown, or shapes or dtypes disagree.
        NonFiniteError: if an encoder or hidden state is not finite.
        LinearisationError: if the layers' values differ from the model's own hidden states by more than rounding.
    """

    def __init__(self, model: WhisperForConditionalGeneration, encoder_states: Tensor, tokens: Sequence[int]) -> None:
        decoder = model.model.decoder
        states = encoder_states[0] if encoder_states.ndim == 3 and encoder_states.shape[0] == 1 else encoder_states
        ids = _checked(model, states, tokens)
        require_finite("encoder states", states)
        with torch.no_grad():
            embedded = decoder.embed_tokens(ids) + decoder.embed_positions.weight[: len(ids)]
        hidden = [embedded]
        self.layers: list[LinearisedLayer] = []
        for number, layer in enumerate(decoder.layers, start=1):
            self.layers.append(LinearisedLayer(cast("WhisperDecoderLayer", layer), hidden[-1], states))
            hidden.append(require_finite_hidden(f"decoder layer {number}", layer, self.layers[-1].output))
        super().__init__(hidden, self.layers)
        self.model, self.encoder_states, self.ids = model, states, ids
        self.tokens, self.frames = len(ids), len(states)
        self.context_size = states.numel()
        with torch.no_grad():
            out = decoder(
                input_ids=ids[None],
                encoder_hidden_states=states[None],
                output_hidden_states=True,
                use_cache=False,
            )
            # The model reports the stream before each layer, and after the last one only its normed form.
            ours = [*hidden[:-1], decoder.layer_norm(hidden[-1])]
        theirs = [*(state[0] for state in out.hidden_states[: self.depth]), out.last_hidden_state[0]]
        require_reproduced("decoder", ours, theirs, self.depth)

    @property
    def chunk(self) -> int:
        """Directions taken through the context at once: buffers stay small enough for the cache and the allocator."""
        itemsize = torch.finfo(self.dtype).bits // 8
        each = self.frames * (self.width + self.layers[0].heads * self.tokens) * itemsize
        return max(2, min(_CHUNK_MOST, _CHUNK_BYTES // each))

    @property
    def group(self) -> int:
        """Directions taken through the layers at once: weights are read once a group, and at d = 1280 reading 100 MB
        of them for each chunk would cost more than the products."""
        itemsize = torch.finfo(self.dtype).bits // 8
        # The feed-forward block's inner tangents, a few of width d, the scores', and one kept for each layer.
        each = self.tokens * ((8 + self.depth) * self.width + 2 * self.layers[0].heads * self.tokens) * itemsize
        return max(self.chunk, min(GROUP_MOST, GROUP_BYTES // each))

    def injects(self, layer: int) -> bool:
        """Whether B_l is not 0: every decoder layer sees the encoder states."""
        self._exists(layer)
        return True

    def injection(self, layer: int, position: int | None = None) -> LinearOperator:
        """B_l, R d x S d, of the layer alone."""
        return self._sum(layer, layer, self.rows(position))

    def context_jacobian(self, layer: int, position: int | None = None) -> LinearOperator:
        """J_l = dh_l/dE, R d x S d, exact: for one position too, whose rows depend on all positions below."""
        return self._sum(1, layer, self.rows(position))

    def position_chain(self, layer: int, position: int) -> LinearOperator:
        """J_l by the recurrence (T2) on the A_k, B_k of one position alone: what the position chain takes J_l to be."""
        return self._sum(1, layer, self.rows(position), local=True)

    def block_injection(self, first: int, last: int, position: int | None = None) -> LinearOperator:
        """sum over k in [first, last] of P_{last:k+1} B_k, R d x S d (T17); of one position, by its own A_k, B_k."""
        self._ordered(first, last)
        return self._sum(first, last, self.rows(position), local=position is not None)

    def position_factors(self, layer: int, position: int) -> tuple[Tensor, Tensor]:
        """(A_l, D_l) of one position, both (d, d) float64; B_l = D_l N_l, N_l being of `LinearisedLayer`."""
        self._exists(layer)
        linear, rows = self.layers[layer - 1], self.rows(position)
        propagator, heads = [], []
        with torch.no_grad():
            eye = torch.eye(self.width, dtype=self.dtype, device=self.device)[:, None]
            for part in eye.split(4 * GROUP_MOST):
                g, go = linear.pull(part, rows, local=True)
                propagator.append(g.flatten(1))
                heads.append(go.flatten(1))
        self.products += self.width
        return torch.cat(propagator).double(), torch.cat(heads).double()

    def position_blocks(self, layer: int, position: int) -> tuple[Tensor, Tensor]:
        """(A_l, B_l B_l^T) of one position, both (d, d) float64: its propagator, and all of its injection that the
        norms ||M B_l|| of any M need, without a vector of length S d."""
        propagator, through = self.position_factors(layer, position)
        with torch.no_grad():
            gram = through @ self.layers[layer - 1].context_gram(self.rows(position).start) @ through.T
        return propagator, gram

    def autograd_pull(self, layer: int, cotangent: Tensor) -> Tensor:
        """J_l^T g, (S d,), by autograd of the model's own decoder, g (T d,): the witness of `context_jacobian`."""
        caught: list[Any] = []
        decoder = self.model.model.decoder
        hook = decoder.layers[layer - 1].register_forward_hook(lambda _m, _i, out: caught.append(out))
        try:
            with torch.enable_grad():
                states = self.encoder_states.detach().clone().requires_grad_(True)
                decoder(input_ids=self.ids[None], encoder_hidden_states=states[None], use_cache=False)
                stream = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
                (gradient,) = torch.autograd.grad(stream.flatten(), states, cotangent.to(self.dtype))
        finally:
            hook.remove()
        return gradient.flatten()

    def arrival(self, layer: int) -> LinearOperator:
        """P_{L:l+1} B_l of the sequence state: what reaches the last layer of the injection at layer l."""
        return self._sum(layer, self.depth, ALL, only_first=True)

    def _sum(
        self, first: int, last: int, rows: slice, *, only_first: bool = False, local: bool = False
    ) -> LinearOperator:
        """sum over k in [first, last] of P_{last:k+1} B_k, or its first term alone; local: other positions fixed."""
        self._exists(first)
        self._exists(last)
        size, context = self.state_size(rows), self.context_size

        def at(layer: int) -> slice:
            """Positions of layer's output that the state depends on, or whose tangents it is given."""
            return rows if local or layer == last else ALL

        # Weights are read once a group; the context's large buffers are worked on a chunk at a time, by all layers.
        def pull(y: Tensor, out: Tensor) -> None:
            out = out.zero_().view(len(y), self.frames, self.width)
            g, heads = y.reshape(len(y), -1, self.width), {}
            for layer in range(last, first - 1, -1):
                g, heads[layer] = self.layers[layer - 1].pull(g, at(layer), local=local)
                if only_first and layer != first:
                    del heads[layer]
            for part in self._chunks(len(y)):
                for layer, go in heads.items():
                    self.layers[layer - 1].pull_context(go[part], at(layer), out=out[part])
            self.products += len(y) * (last - first + 1)

        def push(x: Tensor, out: Tensor) -> None:
            states = x.reshape(len(x), self.frames, self.width)
            direct = range(first, first + 1 if only_first else last + 1)
            heads = {layer: [] for layer in direct}
            for part in self._chunks(len(x)):
                for layer in direct:
                    heads[layer].append(self.layers[layer - 1].push_context(states[part], at(layer)))
            tangent = None
            for layer in range(first, last + 1):
                own = torch.cat(heads.pop(layer)) if layer in heads else None
                tangent = self.layers[layer - 1].push(tangent, own, at(layer), local=local)
            self.products += len(x) * (last - first + 1)
            out.copy_(torch.as_tensor(tangent).flatten(1))

        return self._operator((size, context), push, pull)

    def _chunks(self, count: int) -> list[slice]:
        return [slice(start, start + self.chunk) for start in range(0, count, self.chunk)]


def _checked(model: WhisperForConditionalGeneration, states: Tensor, tokens: Sequence[int]) -> Tensor:
    config = model.config
    if states.ndim != 2 or states.shape[1] != config.d_model:
        raise ValueError(f"encoder_states must be (frames, {config.d_model}); got {tuple(states.shape)}")
    require_differentiable(model, "encoder states", states, model.model.decoder.embed_tokens.weight)
    ids = torch.as_tensor(list(tokens), dtype=torch.long, device=states.device)
    if not 1 <= len(ids) <= config.max_target_positions:
        raise ValueError(f"tokens must number 1 to {config.max_target_positions}; got {len(ids)}")
    if int(ids.min()) < 0 or int(ids.max()) >= config.vocab_size:
        raise ValueError(f"tokens must lie in [0, {config.vocab_size}); got {int(ids.min())} to {int(ids.max())}")
    return ids
