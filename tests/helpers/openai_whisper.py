"""OpenAI's `.pt` layout, made from a transformers model, and OpenAI's forward pass written with its own names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import WhisperForConditionalGeneration

RENAMED = (
    ("model.", ""),
    ("layers.", "blocks."),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("final_layer_norm", "mlp_ln"),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn.", "attn."),
    ("encoder_attn.", "cross_attn."),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_tokens", "token_embedding"),
    ("embed_positions.weight", "positional_embedding"),
)
"""Transformers' names to OpenAI's, replaced one after the other."""


def openai_content(model: WhisperForConditionalGeneration) -> dict[str, Any]:
    """What OpenAI's file of this model would hold."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "proj_out.weight":
            continue
        for theirs, ours in RENAMED:
            name = name.replace(theirs, ours)
        state[name] = tensor.clone()
    config = model.config
    dims = {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }
    return {"dims": dims, "model_state_dict": state}


def write_openai(model: WhisperForConditionalGeneration, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(openai_content(model), path)
    return path


def openai_logits(content: Mapping[str, Any], mel: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (1, T, V) of OpenAI's model, from a file's content alone; mel (1, n_mels, frames), tokens (1, T)."""
    dims, w = content["dims"], {name: tensor.to(mel.dtype) for name, tensor in content["model_state_dict"].items()}

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def attend(name: str, x: torch.Tensor, source: torch.Tensor, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
        scale = (x.shape[-1] // heads) ** -0.25  # on both sides, where transformers puts its square on one

        def split(part: str, y: torch.Tensor) -> torch.Tensor:
            return linear(f"{name}.{part}", y).unflatten(-1, (heads, -1)).transpose(1, 2)

        scores = (split("query", x) * scale) @ (split("key", source) * scale).transpose(-1, -2)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return linear(f"{name}.out", (weights @ split("value", source)).transpose(1, 2).flatten(2))

    def block(name: str, x: torch.Tensor, heads: int, audio: torch.Tensor | None, mask: Any) -> torch.Tensor:
        y = norm(f"{name}.attn_ln", x)
        x = x + attend(f"{name}.attn", y, y, heads, mask)
        if audio is not None:
            x = x + attend(f"{name}.cross_attn", norm(f"{name}.cross_attn_ln", x), audio, heads, None)
        return x + linear(f"{name}.mlp.2", F.gelu(linear(f"{name}.mlp.0", norm(f"{name}.mlp_ln", x))))

    x = mel
    for number, stride in ((1, 1), (2, 2)):
        conv = f"encoder.conv{number}"
        x = F.gelu(F.conv1d(x, w[f"{conv}.weight"], w[f"{conv}.bias"], stride=stride, padding=1))
    x = x.transpose(1, 2) + w["encoder.positional_embedding"]
    for layer in range(dims["n_audio_layer"]):
        x = block(f"encoder.blocks.{layer}", x, dims["n_audio_head"], None, None)
    audio = norm("encoder.ln_post", x)
    embedding, length = w["decoder.token_embedding.weight"], tokens.shape[1]
    y = embedding[tokens] + w["decoder.positional_embedding"][:length]
    mask = torch.full((length, length), -math.inf, dtype=mel.dtype).triu(1)
    for layer in range(dims["n_text_layer"]):
        y = block(f"decoder.blocks.{layer}", y, dims["n_text_head"], audio, mask)
    return norm("decoder.ln", y) @ embedding.T
