"""A measured decoder in blocks of m layers: a chain of the same kind, with the same J_L and a smaller gap (T17).

    A' = A_last ... A_first,    B' = sum over k in the block of P_{last:k+1} B_k

and everything that `propagators` says of a layer is said here of a block. At one position both are exact dense algebra:
the products A' are d x d, and B' B'^T follows from the closed form of B_j B_k^T, so that no vector of length S d is
made for a norm. For the sequence, products are dense where they fit and composed operators where they do not, and the
injections' norms are found by iteration; what does not converge is NaN.

The coherent part c_l = u_l^T B_l w (T16) needs a direction w of the context. Here it is the one that the chain's own
injections agree on best, the unit w with the largest sum of c_l^2: with g_l = B_l^T u_l in the gauge <v_l, u_{l-1}> >=
0 and (lambda, a) the leading eigenpair of their Gram matrix, w = sum_l a_l g_l / sqrt(lambda), c_l = sqrt(lambda) a_l.
J_L is not read for it. Each block size has its own w; where the g_l are orthogonal, it is the direction of the largest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.decompositions import gram_singular, gram_singular_values
from empirical.jacobians.krylov import Triplets, leading_triplets
from empirical.jacobians.operators import gram64
from empirical.jacobians.propagators import (
    Dominant,
    LayerMeasurement,
    dense_dominant,
    krylov_dominant,
    project_out,
    top_of_gram,
)
from empirical.jacobians.windows import layout_of, position_windows, sequence_products


@dataclass(frozen=True, slots=True, eq=False)
class BlockMeasurement:
    """One block of the chain whose layers are blocks of `block` layers. NaN where unconverged or without meaning.

    Attributes:
        block: m, layers in a block; the last one is shorter where m does not divide L.
        index, first, last: number of the block, and its layers, from 1.
        sigma, gap, bulk_gap, bulk_gap_se, alignment, misalignment, gain: of A' (see `propagators`).
        injection_along, injection_across, injection_norm: ||u^T B'||, ||(I - u u^T) B'||, ||B'||.
        injection_coherent: c = u^T B' w in the gauge of (T3); NaN in every block of a size of which one is unconverged.
        propagator_residual, propagator_converged, injection_converged: of what they name.
        u, v: of the dominant path, in no particular gauge.
    """

    block: int
    index: int
    first: int
    last: int
    sigma: float
    gap: float
    bulk_gap: float
    bulk_gap_se: float
    alignment: float
    misalignment: float
    gain: float
    injection_along: float
    injection_across: float
    injection_norm: float
    injection_coherent: float
    propagator_residual: float
    propagator_converged: bool
    injection_converged: bool
    u: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class BlockTable:
    """All blocks of all sizes of one chain, and the J_L that they share.

    Attributes:
        blocks: by block size and then along depth.
        context_norm, context_sigma2: of the chain's J_L: of the recurrence (T2) on the A_l, B_l that were measured.
        context_parts: by block size, (||u^T J_L||, ||(I - u u^T) J_L||) with u of its last block.
        context_converged: whether both values and all parts are known.
        exact_norm, exact_converged: of dh_L/dE itself, which the chain of one position only approximates; for the
            sequence the two are one.
    """

    blocks: list[BlockMeasurement]
    context_norm: float
    context_sigma2: float
    context_parts: dict[int, tuple[float, float]]
    context_converged: bool
    exact_norm: float
    exact_converged: bool

    def rows(self) -> list[dict[str, Any]]:
        """One dict a block, plain Python values."""
        count = {size: sum(one.block == size for one in self.blocks) for size in self.context_parts}
        names = [name for name in BlockMeasurement.__slots__ if name not in ("u", "v")]
        rows = []
        for one in self.blocks:
            along, across = self.context_parts[one.block]
            rows.append(
                {name: getattr(one, name) for name in names}
                | {
                    "blocks": count[one.block],
                    "layers": self.blocks[-1].last,
                    "context_norm": self.context_norm,
                    "context_sigma2": self.context_sigma2,
                    "context_along": along,
                    "context_across": across,
                    "context_converged": self.context_converged,
                    "exact_norm": self.exact_norm,
                    "exact_converged": self.exact_converged,
                }
            )
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Injection:
    """Norms of one B' and its along part as a vector of the context."""

    along: Tensor
    across: float
    norm: float
    converged: bool


def decoder_position(state: str) -> int | None:
    """The position that a decoder's state speaks of: -1, the last, for "position"; None, all, for "sequence".

    Raises:
        ValueError: for a state of the encoder, whose only injection is the first layer's: its blocks say nothing new.
    """
    if state not in ("position", "sequence"):
        raise ValueError(f"state must be of the decoder, 'position' or 'sequence'; got {state!r}")
    return -1 if state == "position" else None


def measure_blocks(
    chain: DecoderChain,
    blocks: Iterable[int] | None = None,
    position: int | None = -1,
    *,
    layers: Sequence[LayerMeasurement] | None = None,
    context: Triplets | None = None,
    seed: int = 0,
) -> BlockTable:
    """Every block of every size of one chain (T17).

    Args:
        chain: the decoder, linearised along one transcript.
        blocks: block sizes m, 1 <= m <= L; by default all of them.
        position: the position whose state it is, all others held fixed; None for the sequence.
        layers: the same chain's layers where they were measured already; for the sequence, blocks of one layer are
            then taken from them.
        context: leading triplets of the same state's J_L, likewise; at least two of them serve the sequence.
        seed: of the iterations' starts.

    Raises:
        ValueError: if a block size or the position is out of range, or `layers` are of another depth.
        NonFiniteError: if anything measured is not finite.
    """
    sizes = _sizes(blocks, chain.depth)
    if layers is not None and len(layers) != chain.depth:
        raise ValueError(f"layers must be the chain's {chain.depth}; got {len(layers)}")
    if position is None:
        return _sequence(chain, sizes, layers, context, seed)
    return _position(chain, sizes, position, context, seed)


def _sizes(blocks: Iterable[int] | None, depth: int) -> list[int]:
    if blocks is None:
        return list(range(1, depth + 1))
    sizes = sorted(set(blocks))
    for size in sizes:
        if isinstance(size, bool) or int(size) != size or not 1 <= size <= depth:
            raise ValueError(f"blocks must be whole numbers of layers in [1, {depth}]; got {size!r}")
    if not sizes:
        raise ValueError("blocks must hold at least one block size; got none")
    return [int(size) for size in sizes]


def _position(
    chain: DecoderChain, sizes: Sequence[int], position: int, context: Triplets | None, seed: int
) -> BlockTable:
    depth = chain.depth
    wanted = {window for size in sizes for window in layout_of(size, depth)}
    dominant: dict[tuple[int, int], Dominant] = {}
    injections: dict[tuple[int, int], _Injection] = {}
    whole = torch.zeros((0, 0), device=chain.device)
    for first, last, product, gram in position_windows(chain, position, wanted | {(1, depth)}):
        if (first, last) == (1, depth):
            whole = gram
        if (first, last) not in wanted:
            continue
        own = dense_dominant(product)
        along = chain.block_injection(first, last, position).rmatmat(own.u[:, None])[:, 0]
        dominant[first, last] = own
        injections[first, last] = _Injection(along, top_of_gram(project_out(gram, own.u)), top_of_gram(gram), True)
    values = gram_singular_values("the Gram matrix of J_L", whole)
    parts = {}
    for size in sizes:
        u = dominant[layout_of(size, depth)[-1]].u
        parts[size] = (math.sqrt(max(0.0, float(u @ whole @ u))), top_of_gram(project_out(whole, u)))
    exact = context
    if exact is None:
        exact = leading_triplets(chain.context_jacobian(depth, position), 1, frobenius=False, seed=seed)
    return BlockTable(
        blocks=[one for size in sizes for one in _chain_of(size, depth, dominant, injections)],
        context_norm=float(values[0]),
        context_sigma2=float(values[1]) if len(values) > 1 else 0.0,
        context_parts=parts,
        context_converged=True,
        exact_norm=float(exact.s[0]),
        exact_converged=bool(exact.converged[0]),
    )


def _sequence(
    chain: DecoderChain,
    sizes: Sequence[int],
    layers: Sequence[LayerMeasurement] | None,
    context: Triplets | None,
    seed: int,
) -> BlockTable:
    depth = chain.depth
    dominant: dict[tuple[int, int], Dominant] = {}
    injections: dict[tuple[int, int], _Injection] = {}
    if layers is not None and 1 in sizes:
        for layer, one in enumerate(layers, start=1):
            dominant[layer, layer] = _known_dominant(one)
            along = chain.injection(layer).rmatmat(one.u[:, None])[:, 0]
            norm, across = one.injection_norm, one.injection_across
            injections[layer, layer] = _Injection(along, across, norm, one.injection_converged)
    wanted = {window for size in sizes for window in layout_of(size, depth)} - dominant.keys()
    for (first, last), operator in sequence_products(chain, sorted(wanted)):
        own = krylov_dominant(operator, seed=seed)
        injection = chain.block_injection(first, last)
        norm = leading_triplets(injection, 1, frobenius=False, seed=seed)
        across = leading_triplets(injection.deflate(own.u), 1, start=norm.u, frobenius=False, seed=seed)
        known = own.converged and bool(norm.converged[0]) and bool(across.converged[0])
        along = injection.rmatmat(own.u[:, None])[:, 0]
        dominant[first, last] = own
        injections[first, last] = _Injection(along, float(across.s[0]), float(norm.s[0]), known)
    jacobian = chain.context_jacobian(depth)
    wanted_values = min(2, *jacobian.shape)
    exact = context
    if exact is None or len(exact.s) < wanted_values:
        exact = leading_triplets(jacobian, wanted_values, frobenius=False, seed=seed)
    converged = bool(exact.converged[:wanted_values].all())
    parts: dict[int, tuple[float, float]] = {}
    for size in sizes:
        own = dominant[layout_of(size, depth)[-1]]
        along = float(torch.linalg.vector_norm(jacobian.rmatmat(own.u[:, None]).double()))
        across = leading_triplets(jacobian.deflate(own.u), 1, start=exact.u, frobenius=False, seed=seed)
        parts[size] = (along if own.converged else math.nan, float(across.s[0]) if own.converged else math.nan)
        converged = converged and own.converged and bool(across.converged[0])
    return BlockTable(
        blocks=[one for size in sizes for one in _chain_of(size, depth, dominant, injections)],
        context_norm=float(exact.s[0]),
        context_sigma2=float(exact.s[1]) if len(exact.s) > 1 else 0.0,
        context_parts=parts,
        context_converged=converged,
        exact_norm=float(exact.s[0]),
        exact_converged=bool(exact.converged[0]),
    )


def _known_dominant(layer: LayerMeasurement) -> Dominant:
    return Dominant(
        sigma=layer.sigma,
        gap=layer.gap,
        bulk_gap=layer.bulk_gap,
        bulk_gap_se=layer.bulk_gap_se,
        u=layer.u,
        v=layer.v,
        residual=layer.propagator_residual,
        converged=layer.propagator_converged,
    )


def _chain_of(
    size: int,
    depth: int,
    dominant: dict[tuple[int, int], Dominant],
    injections: dict[tuple[int, int], _Injection],
) -> list[BlockMeasurement]:
    """The blocks of one size as a chain: alignments from one to the next, and the coherent parts in their gauge."""
    layout = layout_of(size, depth)
    paths, parts = [dominant[window] for window in layout], [injections[window] for window in layout]
    signs, inner = [1.0], [math.nan]
    for before, own in itertools.pairwise(paths):
        inner.append(float(own.v @ before.u))
        signs.append(signs[-1] if inner[-1] >= 0.0 else -signs[-1])
    known = all(own.converged for own in paths)
    along = torch.stack([sign * part.along for sign, part in zip(signs, parts, strict=True)])
    gram = gram64(along, along)
    coherent = _coherent(gram) if known else [math.nan] * len(layout)
    blocks = []
    for index, ((first, last), own, part) in enumerate(zip(layout, paths, parts, strict=True)):
        alignment = misalignment = math.nan
        if index and own.converged and paths[index - 1].converged:
            alignment = min(abs(inner[index]), 1.0)
            # from the vectors, since sqrt(1 - kappa^2) loses every digit near kappa = 1
            misalignment = min(float(torch.linalg.vector_norm(paths[index - 1].u - inner[index] * own.v)), 1.0)
        blocks.append(
            BlockMeasurement(
                block=size,
                index=index + 1,
                first=first,
                last=last,
                sigma=own.sigma,
                gap=own.gap,
                bulk_gap=own.bulk_gap,
                bulk_gap_se=own.bulk_gap_se,
                alignment=alignment,
                misalignment=misalignment,
                gain=own.sigma * alignment,
                injection_along=math.sqrt(max(0.0, float(gram[index, index]))) if own.converged else math.nan,
                injection_across=part.across if own.converged else math.nan,
                injection_norm=part.norm,
                injection_coherent=coherent[index],
                propagator_residual=own.residual,
                propagator_converged=own.converged,
                injection_converged=part.converged,
                u=own.u,
                v=own.v,
            )
        )
    return blocks


def _coherent(gram: Tensor) -> list[float]:
    """c_l = <g_l, w> for the unit w with the largest sum of squares, its sign such that the last block's is >= 0."""
    values, vectors = gram_singular("the Gram matrix of the along parts", 0.5 * (gram + gram.T))
    # |c_l| <= ||g_l||, which rounding in units of the largest g breaks where another is far smaller
    largest = gram.diagonal().clamp_min(0.0).sqrt()
    c = torch.clamp(vectors[:, 0] * values[0], -largest, largest)
    return (c if float(c[-1]) >= 0.0 else -c).tolist()
