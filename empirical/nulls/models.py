"""Null models: the trained checkpoint with one thing about its layers made random, and all else kept.

    random_weights            the config is kept: every weight is drawn afresh, of both halves
    random_singular_vectors   the singular values of every matrix of one half's layers are kept, biases and norms too
    shuffled_layers           one half's layers are kept, in another order

What a trained model has beyond the first may come from the size of its matrices; beyond the second, it is in their
directions; beyond the third, in which layer follows which. The half is the one that is measured, by default the
decoder's. All that the last two kinds keep are the trained model's own tensors, shared and not copied: such a null
model takes no more memory than the matrices that it turns.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.checkpoints.published import random_model
from empirical.jacobians import decompositions

KINDS = ("random_weights", "shuffled_layers", "random_singular_vectors")

Half = Literal["decoder", "encoder"]

_FEW = 6


def null_model(
    checkpoint: Checkpoint,
    kind: str,
    seed: int,
    draw: int,
    *,
    half: Half = "decoder",
    spectra: Mapping[str, Tensor] | None = None,
) -> Checkpoint:
    """Draw number `draw` of a kind of null model; the same whichever others are made.

    Args:
        checkpoint: the trained model, which is not touched; the null model shares what it does not change.
        kind: of `KINDS`.
        seed, draw: which one.
        half: whose layers are shuffled or turned; random weights are of both.
        spectra: of `singular_values`, where many draws of random singular vectors are made.

    Raises:
        ValueError: if kind is unknown, or there is no such model.
    """
    if kind == "random_weights":
        return random_weights(checkpoint, _seed(seed, draw))
    if kind == "random_singular_vectors":
        return random_singular_vectors(checkpoint, _seed(seed, draw), half=half, spectra=spectra)
    if kind == "shuffled_layers":
        return shuffled_layers(checkpoint, seed, draw, half=half)
    raise ValueError(f"kind must be of {KINDS}; got {kind!r}")


def random_weights(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same config with weights freshly drawn as transformers initialises them, encoder included.

    The same seed gives the same weights; the global random state is left as it was.
    """
    # Drawn in float32 whatever the checkpoint's dtype, so that a seed names one set of weights.
    model: Any = random_model(checkpoint.model.config, seed)
    model = model.to(device=checkpoint.model.device, dtype=checkpoint.model.dtype)
    model.set_attn_implementation("eager")
    return checkpoint.with_model(model, f"null:random_weights:{seed}")


def random_singular_vectors(
    checkpoint: Checkpoint, seed: int, *, half: Half = "decoder", spectra: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """The trained model, every weight matrix of one half's layers with its singular values and Haar-random vectors.

    W = U diag(s) V^T becomes F diag(s) G^T, F and G independent Haar frames: spectrum, norm and rank of each matrix
    stay, and what one matrix's directions had to do with another's, with the embedding or with the norms is gone.
    Biases, norms, embeddings and the other half are the trained ones.

    The draws are float64 on the CPU whatever the checkpoint's dtype and device, so that a seed names one set of
    directions (with the same libraries and number of threads: same bits); the global random state is not used.

    Args:
        checkpoint: the trained model, which is not touched.
        seed: of the directions.
        half: whose layers.
        spectra: of `singular_values` of this checkpoint and half, if they are at hand: at width 1280 they take longer
            than the directions.

    Raises:
        NonFiniteError: if a weight is not finite.
    """
    spectra = singular_values(checkpoint, half) if spectra is None else spectra
    model = _shallow(checkpoint, but=[weight for _, weight in _matrices(checkpoint, half)])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in _matrices(checkpoint.with_model(model), half):
            s = spectra[name]
            left, right = (_haar_frame(size, len(s), generator) for size in weight.shape)
            weight.copy_((left * s) @ right.T)
    return checkpoint.with_model(model, f"null:random_singular_vectors:{_of(half)}{seed}")


def singular_values(checkpoint: Checkpoint, half: Half = "decoder") -> dict[str, Tensor]:
    """Singular values of every weight matrix of one half's layers by its name there, float64, descending.

    Raises:
        NonFiniteError: if a weight is not finite.
    """
    return {
        name: decompositions.singular_values(name, weight.detach().to(device="cpu", dtype=torch.float64))
        for name, weight in _matrices(checkpoint, half)
    }


def shuffled_layers(checkpoint: Checkpoint, seed: int, draw: int = 0, *, half: Half = "decoder") -> Checkpoint:
    """The trained model with the layers of one half permuted, never as they were.

    Args:
        checkpoint: the trained model, which is not touched.
        seed: of the order in which permutations are taken.
        draw: which of them; draws of one seed differ until there are no more (L! - 1 of them).
        half: whose layers.

    Raises:
        ValueError: if that half has one layer, which has no other order.
    """
    order = _permutation(len(_half(checkpoint.model, half).layers), seed, draw)
    model = _shallow(checkpoint)
    stack = _half(model, half)
    layers: list[Any] = [stack.layers[index] for index in order]
    stack.layers = torch.nn.ModuleList(layers)
    if half == "decoder":
        for index, layer in enumerate(layers):  # the cache of generation goes by these
            layer.self_attn.layer_idx = layer.encoder_attn.layer_idx = index
    names = ",".join(str(index + 1) for index in order)
    return checkpoint.with_model(model, f"null:shuffled_layers:{_of(half)}{names}")


def layer_count(checkpoint: Checkpoint, half: Half) -> int:
    """Layers of one half."""
    return len(_half(checkpoint.model, half).layers)


def _half(model: Any, half: Half) -> Any:
    return model.model.decoder if half == "decoder" else model.model.encoder


def _of(half: Half) -> str:
    """What a note says of the half; nothing of the decoder, as it always has been."""
    return "" if half == "decoder" else f"{half}:"


def _matrices(checkpoint: Checkpoint, half: Half) -> list[tuple[str, Any]]:
    parameters = _half(checkpoint.model, half).layers.named_parameters()
    return [(name, weight) for name, weight in parameters if weight.ndim == 2]


def _shallow(checkpoint: Checkpoint, but: list[Any] | None = None) -> Any:
    """A copy of the model's modules around the same tensors, those in `but` copied."""
    own = {id(tensor) for tensor in but or ()}
    tensors = itertools.chain(checkpoint.model.parameters(), checkpoint.model.buffers())
    return copy.deepcopy(checkpoint.model, {id(tensor): tensor for tensor in tensors if id(tensor) not in own})


def _haar_frame(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns of Haar's law, (size, count)."""
    normal = torch.randn(size, count, generator=generator, dtype=torch.float64)
    # Householder's signs are not uniform; with a positive diagonal of R the frame is (Mezzadri 2007).
    return decompositions.qr_positive("a normal matrix", normal)[0]


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
