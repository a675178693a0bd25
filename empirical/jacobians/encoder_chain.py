"""A Whisper encoder as the chain h_l = F_l(h_{l-1}, c) of the theory (T1), linearised at one clip's log-mel features.

h_l is the residual stream after encoder layer l, S frames x d, before the final norm; h_0 is what the stem (two
convolutions, their activations, positions) makes of the log-mel c. The encoder's layers never see c again: it comes in
once. So that (T2) begins with J_0 = 0 as the decoder's does, the stem is counted into layer 1's injection:

    A_l = dF_l/dh,    B_1 = A_1 S_0  (S_0 the stem's Jacobian),    B_l = 0 for l > 1
    J_l = A_l J_{l-1} + B_l = A_l ... A_1 S_0

With one injection there is no slope of arrivals over layers to speak of: growth by depth is that of the propagators.

The state of one frame holds the other frames fixed in its propagators; B_1 there is the frame's rows of B_1 itself.
Its context Jacobian is no cheaper than that of all frames but for the last layer: J_l of one frame depends on all
frames below, so a product takes l - 1 whole layers. All L depths take L (L - 1) / 2 of these a product, the last depth
alone L - 1: at twelve layers and more `depths` is worth choosing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from empirical.jacobians.decompositions import require_finite
from empirical.jacobians.encoder_layer import LinearisedEncoderLayer
from empirical.jacobians.layer_chain import (
    GROUP_MOST,
    LayerChain,
    require_differentiable,
    require_finite_hidden,
    require_reproduced,
)
from empirical.jacobians.operators import LinearOperator, gram64
from empirical.jacobians.stem import LinearisedStem

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration
    from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

_GROUP_BYTES = 16 * 2**20


class EncoderChain(LayerChain):
    """The linearised encoder layers at one clip, with products counted.

    Memory: a layer holds S (inner + 8 d) numbers: 28 MB at tiny's dimensions in float32, 92 MB at large-v3's, 2.9 GB
    for its 32 layers. Its attention weights, H S S numbers more (54 and 180 MB), are made again at each product.

    Args:
        model: a `WhisperForConditionalGeneration` in eval mode, float32 or float64.
        features: log-mel c, (mels, 2S) or (1, mels, 2S), the model's whole window.

    Attributes:
        layers: L linearised layers.
        stem: the linearised stem.
        features: c, (mels, 2S).
        and those of `Chain`; the context's numbers are c's, mel by mel.

    Raises:
        ValueError: if shapes or dtypes disagree, or the model is in training mode.
        NonFiniteError: if the features or a hidden state are not finite; a layer's weight that is not is named.
        LinearisationError: if the layers' values differ from the model's own hidden states by more than rounding.
    """

    def __init__(self, model: WhisperForConditionalGeneration, features: Tensor) -> None:
        encoder = model.model.encoder
        features = features[0] if features.ndim == 3 and features.shape[0] == 1 else features
        _check(model, features)
        require_finite("features", features)
        self.model, self.features = model, features
        self.stem = LinearisedStem(encoder, features)
        hidden = [require_finite_hidden("the encoder's stem", encoder, self.stem.output)]
        self.layers: list[LinearisedEncoderLayer] = []
        for number, module in enumerate(encoder.layers, start=1):
            layer = cast("WhisperEncoderLayer", module)
            linear = LinearisedEncoderLayer(layer, hidden[-1])
            self.layers.append(linear)
            hidden.append(require_finite_hidden(f"encoder layer {number}", layer, linear.output))
        super().__init__(hidden, self.layers)
        self.context_size = features.numel()
        self._inner = model.config.encoder_ffn_dim
        with torch.no_grad():
            out = encoder(features[None], output_hidden_states=True)
            # The model reports the stream before each layer, and after the last one only its normed form.
            ours = [*hidden[:-1], encoder.layer_norm(hidden[-1])]
        theirs = [*(state[0] for state in out.hidden_states[: self.depth]), out.last_hidden_state[0]]
        require_reproduced("encoder", ours, theirs, self.depth)

    @property
    def group(self) -> int:
        """Directions taken through the layers at once: two where buffers are large, which share what is made again; of
        four and more the buffers leave the cache.

        Two take 0.85 of the time that one and one do at tiny's dimensions; a Krylov block of two needs 1.2 times the
        products, so iterations keep to one, and what has several directions anyway (probes, checks) gains.
        """
        each = self.positions * (self._inner + 8 * self.width + self.positions) * self.features.element_size()
        return max(2, min(GROUP_MOST, _GROUP_BYTES // each))

    def injects(self, layer: int) -> bool:
        """Whether B_l is not 0: layer 1 alone sees the log-mel."""
        self._exists(layer)
        return layer == 1

    def injection(self, layer: int, position: int | None = None) -> LinearOperator:
        """B_l, R d x context_size: A_1 S_0, and 0 beyond layer 1."""
        return self.block_injection(layer, layer, position)

    def arrival(self, layer: int) -> LinearOperator:
        """P_{L:l+1} B_l of all frames: J_L itself for layer 1, and 0 beyond it."""
        return self._through(self.depth, None) if self.injects(layer) else self._nothing(None)

    def context_jacobian(self, layer: int, position: int | None = None) -> LinearOperator:
        """J_l = dh_l/dc, R d x context_size, exact: for one frame too, whose rows depend on all frames below."""
        self._exists(layer)
        return self._through(layer, position)

    def position_chain(self, layer: int, position: int) -> LinearOperator:
        """J_l by the recurrence (T2) on the A_k, B_k of one frame alone: what the frame's chain takes J_l to be."""
        self._exists(layer)
        return self._through(layer, position, local=True)

    def block_injection(self, first: int, last: int, position: int | None = None) -> LinearOperator:
        """sum over k in [first, last] of P_{last:k+1} B_k (T17), R d x context_size; of one frame, by its own A, B."""
        self._ordered(first, last)
        return self._through(last, position, local=position is not None) if first == 1 else self._nothing(position)

    def position_blocks(self, layer: int, position: int) -> tuple[Tensor, Tensor]:
        """(A_l, B_l B_l^T) of one frame, both (d, d) float64.

        B_1's d rows are made for it: d x context_size numbers of the products' dtype, for as long as the call lasts
        (tiny 0.4 GB, large-v3 2 GB in float32).
        """
        rows = self.rows(position)
        self._exists(layer)
        propagator = self.propagator(layer, rows.start).materialise().matrix.double()
        if not self.injects(layer):
            return propagator, torch.zeros_like(propagator)
        eye = torch.eye(self.width, dtype=self.dtype, device=self.device)
        injection = self.injection(layer, rows.start).rmatmat(eye).T
        return propagator, gram64(injection, injection)

    def autograd_pull(self, layer: int, cotangent: Tensor) -> Tensor:
        """J_l^T g, (context_size,), by autograd of the model's own encoder, g (S d,): the witness of the products.

        The graph holds a few matrices of H S S numbers for each layer up to l; no layer beyond l is run.
        """
        self._exists(layer)
        caught: list[Any] = []

        def catch(_module, _inputs, out) -> None:
            caught.append(out)
            raise _Enough

        encoder = self.model.model.encoder
        hook = encoder.layers[layer - 1].register_forward_hook(catch)
        try:
            with torch.enable_grad():
                features = self.features.detach().clone().requires_grad_(True)
                with contextlib.suppress(_Enough):
                    encoder(features[None])
                stream = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
                (gradient,) = torch.autograd.grad(stream.flatten(), features, cotangent.to(self.dtype))
        finally:
            hook.remove()
        return gradient.flatten()

    def _through(self, last: int, position: int | None, *, local: bool = False) -> LinearOperator:
        """A_last ... A_2 B_1 read at `position`; local: A_2 .. A_last hold all other frames fixed."""
        rows = self.rows(position)
        mels, length = self.features.shape

        def at(layer: int) -> tuple[slice, bool]:
            """Frames of layer's output that are wanted, and whether its input is wanted at these alone."""
            return (rows if local or layer == last else slice(None)), local and layer > 1

        def pull(y: Tensor, out: Tensor) -> None:
            g = y.reshape(len(y), -1, self.width)
            for layer in range(last, 0, -1):
                frames, held = at(layer)
                g = self.layers[layer - 1].pull_stream(g, frames, local=held)
            out.view(len(y), mels, length).copy_(self.stem.pull(g))
            self.products += len(y) * last

        def push(x: Tensor, out: Tensor) -> None:
            tangent = self.stem.push(x.reshape(len(x), mels, length))
            for layer in range(1, last + 1):
                frames, held = at(layer)
                tangent = self.layers[layer - 1].push_stream(tangent, frames, local=held)
            out.copy_(tangent.flatten(1))
            self.products += len(x) * last

        return self._operator((self.state_size(rows), self.context_size), push, pull)

    def _nothing(self, position: int | None) -> LinearOperator:
        """The zero operator in an injection's shape; it costs no product of a layer."""

        def zero(_directions: Tensor, out: Tensor) -> None:
            out.zero_()

        return self._operator((self.state_size(self.rows(position)), self.context_size), zero, zero)


class _Enough(Exception):
    """Raised in a hook to end a forward pass where nothing later is wanted."""


def _check(model: WhisperForConditionalGeneration, features: Tensor) -> None:
    config = model.config
    shape = (config.num_mel_bins, 2 * config.max_source_positions)
    if features.shape != shape:
        raise ValueError(f"features must be {shape}, mels x frames; got {tuple(features.shape)}")
    require_differentiable(model, "features", features, model.model.encoder.conv1.weight)
