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
    return capture_batch(checkpoint, encoder_states, [tokens], components, into=into)[0]


def capture_batch(
    checkpoint: Checkpoint,
    encoder_states: Tensor,
    tokens: Sequence[Sequence[int]],
    components: Iterable[str] = COMPONENTS,
    *,
    into: dict[tuple[str, int], CovarianceSums] | None = None,
) -> list[Captured]:
    """Outputs of modules of every decoder layer for several clips in one pass, each along its own tokens.

    Shorter rows are padded behind their end, where a causal decoder does not look; padding is not in what is returned.

    Args:
        checkpoint: the model.
        encoder_states: E, (b, S, d).
        tokens: decoder input ids of each row, prompt included.
        components, into: as of `capture`; the sums are of all rows together.

    Returns:
        For each row, one row a token.

    Raises:
        ValueError: as `capture`.
    """
    config = checkpoint.model.config
    shape = (len(tokens), config.max_source_positions, config.d_model)
    if tuple(encoder_states.shape) != shape:
        # A batch of another size broadcasts to a wrong answer without a word.
        raise ValueError(f"encoder_states must have shape {shape}; got {tuple(encoder_states.shape)}")
    for row in tokens:
        if not 1 <= len(row) <= config.max_target_positions:
            raise ValueError(f"tokens must number 1 to {config.max_target_positions}; got {len(row)}")
        if not all(0 <= token < config.vocab_size for token in row):
            raise ValueError(f"tokens must lie in [0, {config.vocab_size}); got {min(row)} to {max(row)}")
    names = _known(components, (*COMPONENTS, HIDDEN))
    if not tokens:
        return []
    decoder = checkpoint.model.model.decoder
    longest = max(map(len, tokens))
    ids = torch.tensor([[*row, *(row[-1:] * (longest - len(row)))] for row in map(list, tokens)])
    return _captured(
        decoder.layers,
        names,
        lambda: decoder(
            input_ids=ids.to(checkpoint.device),
            encoder_hidden_states=encoder_states.to(device=checkpoint.device, dtype=checkpoint.model.dtype),
            use_cache=False,
        ),
        into,
        [len(row) for row in tokens],
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
    kept = config.max_source_positions if frames is None else frames
    return _captured(encoder.layers, names, lambda: encoder(features), into, [kept])[0]


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
    lengths: Sequence[int],
) -> list[Captured]:
    found: list[Captured] = [{} for _ in lengths]
    hooks = []
    try:
        for number, layer in enumerate(layers, start=1):
            for component in components:
                module = layer.get_submodule(_MODULES[component])
                keep = functools.partial(_keep, found, into, (component, number), lengths)
                hooks.append(module.register_forward_hook(keep))
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _keep(
    found: list[Captured],
    into: dict[tuple[str, int], CovarianceSums] | None,
    key: tuple[str, int],
    lengths: Sequence[int],
    _module: nn.Module,
    _inputs: Any,
    output: Any,
) -> None:
    value: Tensor = output[0] if isinstance(output, tuple) else output
    # A module that is applied to all rows of a batch at once may have them end to end; they leave the device together.
    kind = torch.float32 if into is None else torch.float64
    rows = value.detach().reshape(len(lengths), -1, value.shape[-1]).to(device="cpu", dtype=kind, copy=True).numpy()
    for captured, row, length in zip(found, rows, lengths, strict=True):
        if into is None:
            captured[key] = row[:length]
            continue
        sums = CovarianceSums.from_rows(row[:length])
        into[key] = into[key].merge(sums) if key in into else sums
