"""Examples from the package's own constructors of chains and injections."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np

import theory
from tests.properties.examples import Array

__all__ = ["CONSTRUCTORS", "constructed"]

CONSTRUCTORS = (
    "flat_chain",
    "profile_chain",
    "low_rank_chain",
    "twisted_chain",
    "residual_chain",
    "gaussian_chain",
    "orthogonal_chain",
)
"""Names in `theory`; the last three have their numbers measured, the others take them."""


def constructed(
    family: str,
    dimension: int,
    numbers: tuple[Array, Array, Array],
    strength: float,
    injection: tuple[str, int],
    rng: np.random.Generator,
) -> theory.Chain:
    """A chain of one family with injections of one kind.

    Args:
        family: one of `CONSTRUCTORS`.
        dimension: d; at least 2 for the twisted and the low-rank chain.
        numbers: sigma, gap and alignment of every layer, where the family takes them.
        strength: of a residual chain's updates.
        injection: kind, and dimension of the context.
        rng: source of randomness.
    """
    sigma, gap, alignment = numbers
    depth = len(sigma)
    if family == "flat_chain":
        isometry: Literal["haar", "reflection"] = "haar" if rng.random() < 0.5 else "reflection"
        chain = theory.flat_chain(depth, dimension, rng, sigma=sigma, gap=gap, alignment=alignment, isometry=isometry)
    elif family == "profile_chain":
        rest = np.sort(rng.uniform(0, 1, (depth, max(dimension - 1, 0))), axis=1)[:, ::-1]
        values = gap[:, None] * rest / np.max(rest, axis=1, keepdims=True, initial=1e-3)
        values[:, :1] = gap[:, None]
        chain = theory.profile_chain(depth, dimension, rng, residual_values=values, sigma=sigma, alignment=alignment)
    elif family == "low_rank_chain":
        rank = int(rng.integers(1, dimension))
        chain = theory.low_rank_chain(depth, dimension, rng, rank=rank, sigma=sigma, gap=gap, alignment=alignment)
    elif family == "twisted_chain":
        sense = cast("Literal['fastest', 'slowest']", rng.choice(["fastest", "slowest"]))
        chain = theory.twisted_chain(alignment, gap, depth, sigma=sigma, sense=sense, dimension=dimension, rng=rng)
    elif family == "residual_chain":
        rank, drift = int(rng.integers(1, dimension + 1)), float(rng.choice([0.0, 0.3]))
        chain = theory.residual_chain(depth, dimension, rng, strength=strength, rank=rank, drift=drift)
    elif family == "gaussian_chain":
        chain = theory.gaussian_chain(depth, dimension, rng, scale=np.maximum(sigma, 0.1))
    else:
        chain = theory.orthogonal_chain(depth, dimension, rng, sigma=sigma)
    kind, context = injection
    size = rng.uniform(0, 2, depth)
    if kind in ("none", "sparse"):
        return theory.inject_none(chain, context)
    if kind in ("random", "first"):
        norm = size * (np.arange(depth) == 0) if kind == "first" else size
        return theory.inject_random(chain, rng, norm=norm, context_dimension=context)
    if kind == "adversarial":
        aim = cast("Literal['grow', 'cancel']", rng.choice(["grow", "cancel"]))
        return theory.inject_adversarial(chain, norm=size, aim=aim)
    across = rng.uniform(0, 1, depth) * (dimension > 1)
    return theory.inject_coherent(chain, rng, along=size + 0.01, across=across, context_dimension=context)
