"""The random numbers of the reduced recurrence, exact in law at any dimension and made of normal variables alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "LayerDraw", "coordinates", "draw_layers", "haar_columns", "layer_draw", "normals_per_layer"]

BLOCK = 256
"""Chains that share one stream of random numbers: a chain's numbers depend on the seed, its block and the size of the
draw, never on how many blocks are run together."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerDraw:
    """What one layer needs beside its numbers, for n chains.

    Attributes:
        new: the first k coordinates of a uniform unit vector across u, k arrays of shape (n,).
        beyond: sqrt(1 - |new|^2), shape (n,), with no difference of near-equal numbers.
        top: the rows of the injected frame that are seen, each of m arrays of shape (n,).
        rest: m more rows, upper triangular, whose Gram matrix is that of the rows unseen.
    """

    new: list[NDArray[Any]]
    beyond: NDArray[Any]
    top: list[list[NDArray[Any]]]
    rest: list[list[NDArray[Any]]]


def normals_per_layer(shown: int, seen: int, context_dimension: int) -> int:
    """Normal variables a layer of one chain takes: pairs for the new direction and for each column of the frame."""
    return 2 * (-(-shown // 2) + context_dimension * -(-seen // 2))


def coordinates(
    normals: NDArray[Any], ambient: int, count: int, xp: Any = np, more: Any = 0
) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """The first coordinates of a uniform unit vector of R^D, and the length of all the others.

    A pair of coordinates of a uniform unit vector has radius^2 ~ Beta(1, (D - 2) / 2), the law of 1 - U^(2 / (D - 2)).
    U = exp(-(g_1^2 + g_2^2) / 2) is uniform and independent of the angle of (g_1, g_2): two normal variables do.
    Given the pair, the other coordinates are a uniform vector of R^(D - 2), shortened.

    Args:
        normals: independent, shape (p, n), p even and at least `count`.
        ambient: D >= 0; coordinates beyond it are 0.
        count: how many are wanted.
        xp: the module whose arrays they are, numpy or jax.numpy.
        more: dimensions beyond `ambient`, where that is at least `count` + 3: a number that need not be known when the
            function is compiled.

    Returns:
        `count` arrays of shape (n,), and the length of the rest, shape (n,).
    """
    found: list[NDArray[Any]] = []
    left = xp.full(normals.shape[1:], 1.0 if ambient else 0.0, dtype=normals.dtype)
    dropped = None
    for pair in range(-(-count // 2)):
        x, y, keep = _pair(normals[2 * pair], normals[2 * pair + 1], ambient - 2 * pair, xp, more)
        found += [left * x, left * y]
        left = left * keep
    if len(found) > count:
        dropped = found.pop()
        left = xp.sqrt(left * left + dropped * dropped)
    return found, left


def _pair(
    g: NDArray[Any], h: NDArray[Any], ambient: int, xp: Any, more: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Two coordinates of a uniform unit vector of R^ambient and the length of the rest."""
    zero = xp.zeros_like(g)
    if ambient <= 0:
        return zero, zero, zero
    if ambient == 1:
        return xp.where(g < 0, -1.0, 1.0).astype(g.dtype), zero, zero
    square = xp.maximum(g * g + h * h, np.finfo(g.dtype).tiny)
    if ambient == 2:
        scale = 1 / xp.sqrt(square)
        return g * scale, h * scale, zero
    exponent = square / xp.asarray(2 - ambient - more, dtype=g.dtype)
    scale = xp.sqrt(-xp.expm1(exponent) / square)
    return g * scale, h * scale, xp.exp(exponent / 2)


def haar_columns(
    normals: NDArray[Any], ambient: int, seen: int, columns: int, xp: Any = np, more: Any = 0
) -> tuple[list[list[NDArray[Any]]], list[list[NDArray[Any]]]]:
    """One or two columns of a Haar matrix of size D: the rows seen, and a triangular root for the others.

    The first column q is uniform; its unseen part is turned onto one axis e. The second is uniform across q: a uniform
    x across e, turned by the rotation of the plane (e, q) that takes e to q, U x = x - <q, x> (q + e) / (1 + <q, e>),
    which has no small divisor as <q, e> is made non-negative.

    Args:
        normals: shape (columns p, n), p even and at least `seen`.
        ambient: D >= columns.
        seen: number of rows wanted; rows beyond D are 0.
        columns: m, 1 or 2.
        xp: the module whose arrays they are.
        more: dimensions beyond `ambient`, as in `coordinates`.

    Returns:
        `seen` rows of m arrays, and m rows (upper triangular) with the Gram matrix of the rows unseen.
    """
    half = normals.shape[0] // columns
    zero = xp.zeros(normals.shape[1:], dtype=normals.dtype)
    whole = min(seen, ambient)
    first, last = coordinates(normals[:half], ambient, whole, xp, more)
    unseen = ambient > seen
    if columns == 1:
        top = [[x] for x in first] + [[zero]] * (seen - whole)
        return top, [[last if unseen else zero]]
    axis = last if unseen else first[-1]
    others = first if unseen else first[:-1]
    x, rest = coordinates(normals[half:], ambient - 1, len(others), xp, more)
    inner = zero
    for q, component in zip(others, x, strict=True):
        inner = inner + q * component
    turn = inner / (1 + xp.abs(axis))
    second = [component - q * turn for q, component in zip(others, x, strict=True)]
    final = xp.where(axis < 0, inner, -inner)
    if not unseen:
        second.append(final)
    top = [[q, p] for q, p in zip(first, second, strict=True)] + [[zero, zero]] * (seen - whole)
    if not unseen:
        return top, [[zero, zero], [zero, zero]]
    return top, [[axis, final], [zero, rest]]


def layer_draw(
    normals: NDArray[Any],
    dimension: int,
    *,
    shown: int,
    context_dimension: int,
    isotropic: bool,
    xp: Any = np,
    more: Any = 0,
) -> LayerDraw:
    """One layer's draw in R^(dimension + more) from its `normals_per_layer` normal variables, shape (that many, n)."""
    cut = 2 * -(-shown // 2)
    new, beyond = coordinates(normals[:cut], dimension - 1, shown, xp, more)
    seen = shown + isotropic
    top, rest = haar_columns(normals[cut:], dimension - 1 + isotropic, seen, context_dimension, xp, more)
    return LayerDraw(new, beyond, top, rest)


def draw_layers(
    seed: int,
    blocks: range,
    depth: int,
    dimension: int,
    *,
    shown: int,
    context_dimension: int,
    isotropic: bool,
    dtype: str,
) -> Iterator[LayerDraw]:
    """The draws of one layer after another for some blocks of chains, chains on the last axis.

    Args:
        seed: of the whole run.
        blocks: which blocks of 256 chains.
        depth: L; the draws of a deeper chain begin with these.
        dimension: d.
        shown: k, coordinates that the state has across u.
        context_dimension: m.
        isotropic: whether the injected frame is uniform in R^d (its first seen row lies along u) or across u.
        dtype: "float64" or "float32".
    """
    size = normals_per_layer(shown, shown + isotropic, context_dimension)
    kind: Any = np.dtype(dtype).type
    streams = [np.random.default_rng([seed, dimension, shown, context_dimension, isotropic, block]) for block in blocks]
    for _ in range(depth):
        parts = [stream.standard_normal((size, BLOCK), dtype=kind) for stream in streams]
        normals = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        yield layer_draw(normals, dimension, shown=shown, context_dimension=context_dimension, isotropic=isotropic)
