"""Runs of consecutive layers, A' = A_last ... A_first with the Gram matrix of B', for all runs wanted in one pass.

Blocks of every size share their products: each run is made from the one a layer shorter, and nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.operators import DenseOperator, LinearOperator

# The running products of all open blocks are kept dense while they fit in this: at most L matrices of the state's size.
_DENSE_BYTES = 512 * 2**20


def layout_of(size: int, depth: int) -> list[tuple[int, int]]:
    """First and last layers of the blocks of one size."""
    return [(first, min(first + size - 1, depth)) for first in range(1, depth + 1, size)]


def position_windows(
    chain: DecoderChain, position: int, wanted: set[tuple[int, int]]
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(first, last, A', B' B'^T) of the wanted runs of layers, both (d, d) float64, in the order of `last`.

    One pass along depth that holds 2 L matrices: with X_f = sum_{k=f}^{l-1} P_{l-1:k+1} B_k B_l^T, the Gram matrix of
    the run f..l is A_l G A_l^T + A_l X_f + (A_l X_f)^T + B_l B_l^T.
    """
    row = chain.rows(position).start
    through: list[Tensor] = []
    paths: dict[int, Tensor] = {}  # P_{last:first}
    grams: dict[int, Tensor] = {}
    for last in range(1, chain.depth + 1):
        a, out = chain.position_factors(last, position)
        linear = chain.layers[last - 1]
        own = out @ linear.context_gram(row) @ out.T
        cross = torch.zeros_like(a)
        for first in range(last - 1, 0, -1):
            shared = through[first - 1] @ chain.layers[first - 1].context_cross_gram(linear, row) @ out.T
            cross = cross + (shared if first == last - 1 else paths[first + 1] @ shared)
            if first in grams:
                carried = a @ cross
                grams[first] = a @ grams[first] @ a.T + carried + carried.T + own
        paths = {first: a @ path for first, path in paths.items()} | {last: a}
        through.append(out)
        grams[last] = own
        grams = {first: gram for first, gram in grams.items() if any(f == first and e >= last for f, e in wanted)}
        for first, gram in grams.items():
            if (first, last) in wanted:
                yield first, last, paths[first], gram


def sequence_products(
    chain: DecoderChain, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], LinearOperator]]:
    """The wanted runs of layers and their A', dense where the running products of all of them fit."""
    starts = len({first for first, _ in wanted})
    if (starts + 1) * chain.propagator(1).nbytes > _DENSE_BYTES:
        for first, last in wanted:
            yield (first, last), chain.block_propagator(first, last)
        return
    paths: dict[int, Tensor] = {}
    for last in range(1, chain.depth + 1):
        a = chain.propagator(last).materialise(_DENSE_BYTES).matrix
        paths = {first: a @ path for first, path in paths.items()} | {last: a}
        paths = {first: path for first, path in paths.items() if any(f == first and e >= last for f, e in wanted)}
        for first, path in paths.items():
            if (first, last) in wanted:
                yield (first, last), DenseOperator(path)
