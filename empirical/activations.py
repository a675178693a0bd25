"""Activations of the decoder's components along one transcript, as module outputs before the residual addition.

Teacher-forced: one pass over the tokens, each attending to those before it, which is what observables.md calls X.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.checkpoints.checkpoint import Checkpoint

COMPONENTS = ("cross-attention", "self-attention", "feed-forward")

_MODULES = {"cross-attention": "encoder_attn", "self-attention": "self_attn", "feed-forward": "fc2"}


def capture(checkpoint: Checkpoint, encoder_states: Tensor, tokens: Sequence[int]) -> dict[tuple[str, int], np.ndarray]:
    """Outputs of every attention and feed-forward module of every decoder layer (O1).

    Args:
        checkpoint: the model.
        encoder_states: E, (1, S, d) with S the encoder's positions.
        tokens: decoder input ids, prompt included.

    Returns:
        For each (component, layer), layer 1..L, an array (tokens, d) float32.

    Raises:
        ValueError: if `encoder_states` has another shape, or tokens are none, too many, or not in the vocabulary.
    """
    config = checkpoint.model.config
    shape = (1, config.max_source_positions, config.d_model)
    if tuple(encoder_states.shape) != shape:
        # A batch of another size broadcasts to a wrong answer without a word.
        raise ValueError(f"encoder_states must have shape {shape}; got {tuple(encoder_states.shape)}")
    if not 1 <= len(tokens) <= config.max_target_positions:
        raise ValueError(f"tokens must number 1 to {config.max_target_positions}; got {len(tokens)}")
    if not all(0 <= token < config.vocab_size for token in tokens):
        raise ValueError(f"tokens must lie in [0, {config.vocab_size}); got {min(tokens)} to {max(tokens)}")
    decoder = checkpoint.model.model.decoder
    found: dict[tuple[str, int], np.ndarray] = {}
    hooks = []
    try:
        for number, layer in enumerate(decoder.layers, start=1):
            for component in COMPONENTS:
                module: nn.Module = getattr(layer, _MODULES[component])
                hooks.append(module.register_forward_hook(functools.partial(_keep, found, (component, number))))
        with torch.no_grad():
            decoder(
                input_ids=torch.tensor([list(tokens)], device=checkpoint.device),
                encoder_hidden_states=encoder_states.to(device=checkpoint.device, dtype=checkpoint.model.dtype),
                use_cache=False,
            )
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _keep(
    found: dict[tuple[str, int], np.ndarray], key: tuple[str, int], _module: nn.Module, _inputs: Any, output: Any
) -> None:
    value: Tensor = output[0] if isinstance(output, tuple) else output
    found[key] = value.detach().reshape(-1, value.shape[-1]).to(device="cpu", dtype=torch.float32, copy=True).numpy()
