"""A Whisper as a pure function of log-mel features and tokens, with attention written out.

    E = encode(c),    logits = decode(E, tokens) = logits(c, tokens)

Nothing is cached, drawn, recorded or changed by a call, so the function can be differentiated by `torch.func` (`jvp`,
`vjp`, `jacrev`) in c and in E, and called from several threads. Attention is the eager formula, softmax(q k^T) v, with
the causal mask made here: fused kernels have no forward derivative, and transformers' eager attention without a mask is
not causal. The modules' own linear maps, convolutions and norms are called, so the weights are the model's.

A batch of token rows goes with as many rows of encoder states, or with one, which is then expanded in so many words.
Any other pair of batches is refused: transformers broadcasts it to a wrong answer without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from empirical.errors import MeasuringError

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration
    from transformers.models.whisper.modeling_whisper import WhisperAttention, WhisperDecoderLayer, WhisperEncoderLayer

_ROUNDINGS = 100


class ForwardError(MeasuringError):
    """The model gives other numbers at a second call, or the function other numbers than the model."""

    code = "not_reproduced"


class WhisperFunction:
    """The model as a function; it holds the model's weights by reference and no state of its own.

    Args:
        model: in eval mode, float32 or float64.

    Raises:
        ValueError: if the model is in training mode, where dropout makes it random, or in half precision.
    """

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        _require_eval(model)
        dtype = model.model.encoder.conv1.weight.dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the model must be float32 or float64 to be differentiated; got {dtype}")
        self.model = model
        self.dtype = dtype

    def logits(self, features: Tensor, tokens: Sequence[int] | Tensor) -> Tensor:
        """Logits (n, T, V) of features (b, mels, 2S) and tokens (T,) or (n, T): `decode` of `encode`."""
        return self.decode(self.encode(features), tokens)

    def encode(self, features: Tensor) -> Tensor:
        """Final encoder states E, (b, S, d), normed, of log-mel features (b, mels, 2S).

        Raises:
            ValueError: if the features are not (b, mels, 2S) of the model's dtype.
        """
        encoder, config = self.model.model.encoder, self.model.config
        shape = (config.num_mel_bins, 2 * config.max_source_positions)
        if features.ndim != 3 or features.shape[1:] != shape:
            raise ValueError(f"features must be (b, {shape[0]}, {shape[1]}); got {tuple(features.shape)}")
        self._require_dtype("features", features)
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight
        for module in encoder.layers:
            layer = cast("WhisperEncoderLayer", module)
            n = layer.self_attn_layer_norm(x)
            x = _feed_forward(layer, x + _attend(layer.self_attn, n, n, None))
        return encoder.layer_norm(x)

    def decode(self, states: Tensor, tokens: Sequence[int] | Tensor) -> Tensor:
        """Logits (n, T, V) of every next token, n the larger of both batches.

        Args:
            states: E, (b, S, d), of the model's dtype; S may be other than the model's own.
            tokens: decoder input ids, prompt included, (T,), the same for each row of E, or (n, T).

        Raises:
            ValueError: if shapes or dtypes are wrong, ids unknown, or batches neither equal nor one of them 1.
        """
        decoder, width = self.model.model.decoder, self.model.config.d_model
        if states.ndim != 3 or states.shape[2] != width:
            raise ValueError(f"states must be (b, frames, {width}); got {tuple(states.shape)}")
        self._require_dtype("states", states)
        ids = self._ids(tokens, states.device)
        if len(ids) != len(states):
            if 1 not in (len(ids), len(states)):
                raise ValueError(
                    f"states and tokens must have as many rows, or one of them 1; got {len(states)} and {len(ids)}"
                )
            rows = max(len(ids), len(states))
            ids, states = ids.expand(rows, -1), states.expand(rows, -1, -1)
        length = ids.shape[1]
        x = decoder.embed_tokens(ids) + decoder.embed_positions.weight[:length]
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        for module in decoder.layers:
            layer = cast("WhisperDecoderLayer", module)
            n = layer.self_attn_layer_norm(x)
            x = x + _attend(layer.self_attn, n, n, mask)
            x = x + _attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), states, None)
            x = _feed_forward(layer, x)
        return self.model.proj_out(decoder.layer_norm(x))

    def _ids(self, tokens: Sequence[int] | Tensor, device: torch.device) -> Tensor:
        ids = torch.as_tensor(tokens, dtype=torch.long, device=device)
        ids = ids[None] if ids.ndim == 1 else ids
        longest, known = self.model.config.max_target_positions, self.model.config.vocab_size
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= longest or len(ids) < 1:
            raise ValueError(f"tokens must be (T,) or (n, T), T in [1, {longest}]; got {tuple(ids.shape)}")
        if int(ids.min()) < 0 or int(ids.max()) >= known:
            raise ValueError(f"tokens must lie in [0, {known}); got {int(ids.min())} to {int(ids.max())}")
        return ids

    def _require_dtype(self, name: str, value: Tensor) -> None:
        if value.dtype != self.dtype:
            raise ValueError(f"{name} must have the model's dtype {self.dtype}; got {value.dtype}")


def check_determinism(
    function: WhisperFunction,
    features: Tensor | None = None,
    tokens: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> float:
    """Make sure, before anything is measured, that a model is a function and that this is that function.

    Two calls must give the same bits, and the model itself, by whatever attention it was loaded with, the same logits
    within `rounding_bound`. Costs three forward passes of one clip.

    Args:
        function: to be checked.
        features: (1, mels, 2S), normal numbers by default: every unit then has something to do.
        tokens: a few ids, the decoder's start token by default.
        seed: of the default features.

    Returns:
        ||logits - model's logits|| / ||model's logits||.

    Raises:
        ValueError: if any submodule is in training mode; it is named.
        ForwardError: if two calls differ, logits are not finite, or the model's own differ by more than rounding.
    """
    model = function.model
    _require_eval(model)
    config = model.config
    if features is None:
        generator = torch.Generator().manual_seed(seed)
        shape = (1, config.num_mel_bins, 2 * config.max_source_positions)
        features = torch.randn(shape, generator=generator).to(model.device, function.dtype)
    ids = [int(config.decoder_start_token_id or 0)] if tokens is None else list(tokens)
    with torch.no_grad():
        first, second = function.logits(features, ids), function.logits(features, ids)
        if not torch.isfinite(first).all():
            bad = int((~torch.isfinite(first)).sum())
            raise ForwardError(f"the model's logits must be finite; got {bad} of {first.numel()} not finite")
        if not torch.equal(first, second):
            worst = float((first - second).abs().max())
            raise ForwardError(f"the model must give the same bits twice; got logits that differ by {worst:.1e}")
        own = model(
            input_features=features, decoder_input_ids=torch.tensor([ids], device=features.device), use_cache=False
        ).logits
    error = float((first - own).norm() / own.norm())
    bound = rounding_bound(function.dtype, config.encoder_layers + config.decoder_layers, config.d_model)
    if not error <= bound:
        raise ForwardError(
            f"the function must reproduce the model's own logits to {bound:.1e}; got a difference of {error:.1e}"
        )
    return error


def rounding_bound(dtype: torch.dtype, depth: int, width: int) -> float:
    """Largest relative difference of two correct computations of `depth` layers of width d.

    Rounding of one layer is about eps sqrt(d) and adds up along depth; 100 covers the reductions' other order.
    """
    return _ROUNDINGS * torch.finfo(dtype).eps * depth * width**0.5


def _attend(attention: WhisperAttention, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of x (b, T, d) to source (b, S, d), mask (T, S) added to the scores."""

    def by_head(y: Tensor) -> Tensor:
        return y.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)

    q = by_head(attention.q_proj(x) * attention.scaling)
    scores = q @ by_head(attention.k_proj(source)).transpose(2, 3)
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    return attention.out_proj((weights @ by_head(attention.v_proj(source))).transpose(1, 2).flatten(2))


def _feed_forward(layer: WhisperEncoderLayer | WhisperDecoderLayer, x: Tensor) -> Tensor:
    return x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))


def _require_eval(model: WhisperForConditionalGeneration) -> None:
    training = [name or "the whole model" for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"the model must be in eval mode; got training mode in {training[0]}, where dropout makes it random"
        )
