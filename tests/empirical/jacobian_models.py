"""Small random Whispers and their dense Jacobians by autograd, the oracle of the matrix-free code."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

torch.set_num_threads(1)


@functools.lru_cache(maxsize=8)
def small_whisper(
    dtype: torch.dtype = torch.float64,
    *,
    width: int = 12,
    depth: int = 3,
    heads: int = 2,
    frames: int = 9,
    encoder_depth: int = 1,
    mels: int = 8,
    attention: str = "eager",
    seed: int = 0,
) -> WhisperForConditionalGeneration:
    """A Whisper whose weights are large enough that attention is peaked and every nonlinearity matters."""
    config = WhisperConfig(
        vocab_size=30,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=encoder_depth,
        decoder_layers=depth,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_source_positions=frames,
        max_target_positions=16,
        init_std=0.02,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
        attn_implementation=attention,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * (0.4 if parameter.ndim > 1 else 0.3))
            for name, parameter in model.named_parameters():
                if "layer_norm.weight" in name:
                    parameter.add_(1.0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.to(dtype)


def encoder_states(model: WhisperForConditionalGeneration, seed: int = 1) -> Tensor:
    """Random encoder states, (frames, width)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (model.config.max_source_positions, model.config.d_model)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)


def mel_features(model: WhisperForConditionalGeneration, seed: int = 2) -> Tensor:
    """Random log-mel features, (mels, 2 frames)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (model.config.num_mel_bins, 2 * model.config.max_source_positions)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)


def encoder_streams(model: WhisperForConditionalGeneration, features: Tensor) -> list[Tensor]:
    """h_0 .. h_L of the encoder, each (S, d), by the model's own modules; h_0 is what goes into the first layer."""
    caught: list[Tensor] = []
    layers = model.model.encoder.layers
    hooks = [layers[0].register_forward_pre_hook(lambda _m, args: caught.append(args[0]))]
    hooks += [layer.register_forward_hook(lambda _m, _i, out: caught.append(out)) for layer in layers]
    try:
        model.model.encoder(features[None])
    finally:
        for hook in hooks:
            hook.remove()
    return [(out[0] if isinstance(out, tuple) else out)[0] for out in caught]


def encoder_jacobian(model: WhisperForConditionalGeneration, features: Tensor, layer: int) -> Tensor:
    """dh_layer / dc of the encoder by autograd of the whole of it, (S d, mels 2S)."""
    matrix = torch.autograd.functional.jacobian(lambda c: encoder_streams(model, c)[layer].flatten(), features)
    return matrix.flatten(1)


def encoder_layer_jacobian(model: WhisperForConditionalGeneration, x: Tensor, layer: int) -> Tensor:
    """A of one encoder layer by autograd of the module itself, (S d, S d)."""
    module = model.model.encoder.layers[layer - 1]

    def run(h: Tensor) -> Tensor:
        out = module(h[None], None)
        return (out[0] if isinstance(out, tuple) else out)[0].flatten()

    return torch.autograd.functional.jacobian(run, x).flatten(1)


def residual_streams(model: WhisperForConditionalGeneration, states: Tensor, tokens: list[int]) -> list[Tensor]:
    """h_1 .. h_L, each (T, d), by the model's own decoder; hooks, since it reports the last one only normed."""
    caught: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: caught.append(out)) for layer in model.model.decoder.layers
    ]
    try:
        model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=states[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [(out[0] if isinstance(out, tuple) else out)[0] for out in caught]


def context_jacobian(
    model: WhisperForConditionalGeneration, states: Tensor, tokens: list[int], layer: int, rows: slice = slice(None)
) -> Tensor:
    """dh_layer[rows] / dE by autograd of the whole decoder, (R d, S d)."""
    matrix = torch.autograd.functional.jacobian(
        lambda e: residual_streams(model, e, tokens)[layer - 1][rows].flatten(), states
    )
    return matrix.flatten(1)


def layer_jacobians(
    model: WhisperForConditionalGeneration, x: Tensor, states: Tensor, layer: int, rows: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """(A, B) of one layer by autograd of the module itself: (R d, T d) and (R d, S d)."""
    module = model.model.decoder.layers[layer - 1]
    mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)[None, None]

    def run(h: Tensor, e: Tensor) -> Tensor:
        out = module(h[None], attention_mask=mask, encoder_hidden_states=e[None], use_cache=False)
        return (out[0] if isinstance(out, tuple) else out)[0][rows].flatten()

    a, b = torch.autograd.functional.jacobian(run, (x, states))
    return a.flatten(1), b.flatten(1)
