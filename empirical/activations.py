"""Activations of a model's components along one transcript, as module outputs before the residual addition (O1).

Teacher-forced: one pass over the tokens, each attending to those before it, which is what observables.md calls X. With
`into=` nothing is kept but sums (n, mean, M2) in float64, which merge exactly over clips and shards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from empirical.checkpoints.checkpoint import Checkpoint
from observables import CovarianceSums

COMPONENTS = ("cross-attention", "self-attention", "feed-forward")
"""Of a decoder layer, and what a run records."""

ENCODER_COMPONENTS = ("self-attention", "feed-forward")

HIDDEN = "hidden"
"""The residual stream behind a layer, before the final norm: an option beside the components."""

_MODULES = {"cross-attention": "encoder_attn", "self-attention": "self_attn", "feed-forward": "fc2", HIDDEN: ""}

Captured = dict[tuple[str, int], np.ndarray]
"""For each (component, layer), layer 1..L, rows (tokens or frames, d) float32."""


def capture(
    checkpoint: Checkpoint,
    encoder_states: Tensor,
    tokens: Sequence[int],
    components: Iterable[str] = COMPONENTS,
    *,
    into: dict[tuple[str, int], CovarianceSums] | None = None,
) -> Captured:
    """Outputs of modules of every decoder layer.

    Args:
        checkpoint: the model.
        encoder_states: E, (1, S, d) with S the encoder's positions.
        tokens: decoder input ids, prompt included.
        components: of `COMPONENTS` and `HIDDEN`.
        into: sums to which this clip's rows are added; what is returned is then empty.

    Returns:
        One row a token.

    Raises:
        ValueError: if `encoder_states` has another shape, tokens are none, too many, or not in the vocabulary, or a
            component is unknown.
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
    return _captured(
        decoder.layers,
        _known(components, (*COMPONENTS, HIDDEN)),
        lambda: decoder(
            input_ids=torch.tensor([list(tokens)], device=checkpoint.device),
            encoder_hidden_states=encoder_states.to(device=checkpoint.device, dtype=checkpoint.model.dtype),
            use_cache=False,
        ),
        into,
    )


def capture_encoder(
    checkpoint: Checkpoint,
    features: Tensor,
    components: Iterable[str] = ENCODER_COMPONENTS,
    *,
    frames: int | None = None,
    into: dict[tuple[str, int], CovarianceSums] | None = None,
) -> Captured:
    """Outputs of modules of every encoder layer.

    Args:
        checkpoint: the model.
        features: log-mel, (1, mels, 2 S), as `encode` gives them.
        components: of `ENCODER_COMPONENTS` and `HIDDEN`.
        frames: the first ones that are kept, so that padding is left out; None means all S.
        into: as of `capture`.

    Returns:
        One row a frame.

    Raises:
        ValueError: if `features` has another shape, `frames` is out of range, or a component is unknown.
    """
    config = checkpoint.model.config
    shape = (1, config.num_mel_bins, 2 * config.max_source_positions)
    if tuple(features.shape) != shape:
        raise ValueError(f"features must have shape {shape}; got {tuple(features.shape)}")
    if frames is not None and not 1 <= frames <= config.max_source_positions:
        raise ValueError(f"frames must lie in [1, {config.max_source_positions}]; got {frames}")
    encoder = checkpoint.model.model.encoder
    names = _known(components, (*ENCODER_COMPONENTS, HIDDEN))
    return _captured(encoder.layers, names, lambda: encoder(features), into, frames)


def _known(components: Iterable[str], allowed: Sequence[str]) -> list[str]:
    names = list(components)
    for name in names:
        if name not in allowed:
            raise ValueError(f"components must be of {', '.join(allowed)}; got {name!r}")
    return names


def _captured(
    layers: Iterable[nn.Module],
    components: Sequence[str],
    run: Callable[[], Any],
    into: dict[tuple[str, int], CovarianceSums] | None,
    rows: int | None = None,
) -> Captured:
    found: Captured = {}
    hooks = []
    try:
        for number, layer in enumerate(layers, start=1):
            for component in components:
                module = layer.get_submodule(_MODULES[component])
                keep = functools.partial(_keep, found, into, (component, number), rows)
                hooks.append(module.register_forward_hook(keep))
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _keep(
    found: Captured,
    into: dict[tuple[str, int], CovarianceSums] | None,
    key: tuple[str, int],
    rows: int | None,
    _module: nn.Module,
    _inputs: Any,
    output: Any,
) -> None:
    value: Tensor = output[0] if isinstance(output, tuple) else output
    flat = value.detach().reshape(-1, value.shape[-1])[:rows]
    if into is None:
        found[key] = flat.to(device="cpu", dtype=torch.float32, copy=True).numpy()
        return
    sums = CovarianceSums.from_rows(flat.to(device="cpu", dtype=torch.float64).numpy())
    into[key] = into[key].merge(sums) if key in into else sums
