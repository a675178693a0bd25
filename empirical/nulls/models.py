"""Null models: the trained checkpoint with one thing about its decoder made random, and all else kept.

    random_weights            the config is kept: every weight is drawn afresh, the encoder's too
    random_singular_vectors   the singular values of every matrix of the decoder's layers are kept, biases and norms too
    shuffled_layers           the decoder's layers are kept, in another order

What a trained model has beyond the first may come from the size of its matrices; beyond the second, it is in their
directions; beyond the third, in which layer follows which.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.checkpoints.published import random_model
from empirical.jacobians.operators import require_finite

KINDS = ("random_weights", "shuffled_layers", "random_singular_vectors")

_FEW = 6


def null_model(checkpoint: Checkpoint, kind: str, seed: int, draw: int) -> Checkpoint:
    """Draw number `draw` of a kind of null model; the same whichever others are made.

    Raises:
        ValueError: if kind is unknown, or there is no such model.
    """
    if kind == "random_weights":
        return random_weights(checkpoint, _seed(seed, draw))
    if kind == "random_singular_vectors":
        return random_singular_vectors(checkpoint, _seed(seed, draw))
    if kind == "shuffled_layers":
        return shuffled_layers(checkpoint, seed, draw)
    raise ValueError(f"kind must be of {KINDS}; got {kind!r}")


def random_weights(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same config with weights freshly drawn as transformers initialises them, encoder included.

    The same seed gives the same weights; the global random state is left as it was.
    """
    # Drawn in float32 whatever the checkpoint's dtype, so that a seed names one set of weights.
    model: Any = random_model(checkpoint.model.config, seed).to(dtype=checkpoint.model.dtype)
    model.set_attn_implementation("eager")
    return checkpoint.with_model(model, f"null:random_weights:{seed}")


def random_singular_vectors(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The trained model, every weight matrix of its decoder layers with its singular values and Haar-random vectors.

    W = U diag(s) V^T becomes F diag(s) G^T, F and G independent Haar frames: spectrum, norm and rank of each matrix
    stay, and what one matrix's directions had to do with another's, with the embedding or with the norms is gone.
    Biases, norms, embeddings and the encoder are the trained ones.

    The draws are float64 on the CPU whatever the checkpoint's dtype and device, so that a seed names one set of
    directions (with the same libraries and number of threads: same bits); the global random state is not used.

    Args:
        checkpoint: the trained model, which is not touched.
        seed: of the directions.

    Raises:
        NonFiniteError: if a weight is not finite.
    """
    model = copy.deepcopy(checkpoint.model)
    generator = torch.Generator().manual_seed(seed)
    layers: Any = model.model.decoder.layers
    with torch.no_grad():
        for name, weight in layers.named_parameters():
            if weight.ndim == 2:
                weight.copy_(_turned(name, weight, generator))
    return checkpoint.with_model(model, f"null:random_singular_vectors:{seed}")


def shuffled_layers(checkpoint: Checkpoint, seed: int, draw: int = 0) -> Checkpoint:
    """The trained model with its decoder layers permuted, never as they were.

    Args:
        checkpoint: the trained model, which is not touched.
        seed: of the order in which permutations are taken.
        draw: which of them; draws of one seed differ until there are no more (L! - 1 of them).

    Raises:
        ValueError: if the decoder has one layer, which has no other order.
    """
    order = _permutation(len(checkpoint.model.model.decoder.layers), seed, draw)
    model = copy.deepcopy(checkpoint.model)
    decoder = model.model.decoder
    layers: list[Any] = [decoder.layers[index] for index in order]
    decoder.layers = torch.nn.ModuleList(layers)
    for index, layer in enumerate(layers):  # the cache of generation goes by these
        layer.self_attn.layer_idx = layer.encoder_attn.layer_idx = index
    return checkpoint.with_model(model, "null:shuffled_layers:" + ",".join(str(index + 1) for index in order))


def _turned(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    """A matrix with the singular values of `weight`, (m, n), and random singular vectors; float64, on the CPU."""
    s = torch.linalg.svdvals(require_finite(name, weight.detach().to(device="cpu", dtype=torch.float64)))
    left, right = (_haar_frame(size, len(s), generator) for size in weight.shape)
    return (left * s) @ right.T


def _haar_frame(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns of Haar's law, (size, count)."""
    q, r = torch.linalg.qr(torch.randn(size, count, generator=generator, dtype=torch.float64))
    # Householder's signs are not uniform; with a positive diagonal of r the frame is (Mezzadri 2007).
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


def _seed(seed: int, draw: int) -> int:
    """One seed of weights for each (seed, draw), unrelated between neighbours."""
    return int(np.random.default_rng([seed, draw]).integers(2**63))


def _permutation(depth: int, seed: int, draw: int) -> tuple[int, ...]:
    if depth < 2:
        raise ValueError(f"layers can only be shuffled where there are at least 2; got {depth}")
    if draw < 0:
        raise ValueError(f"draw must be at least 0; got {draw}")
    identity = tuple(range(depth))
    if depth <= _FEW:  # few enough to list, so that draws need not repeat
        others = [order for order in itertools.permutations(identity) if order != identity]
        index = np.random.default_rng(seed).permutation(math.factorial(depth) - 1)[draw % len(others)]
        return others[index]
    generator = np.random.default_rng([seed, draw])
    while (order := tuple(int(index) for index in generator.permutation(depth))) == identity:
        pass
    return order
