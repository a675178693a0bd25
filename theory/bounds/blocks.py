"""Coarse-graining: blocks of layers are a chain of the same kind, with a smaller gap (T17)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory._checks import natural, unit_vector
from theory.bounds._layers import WideLayer
from theory.bounds._scaled import ScaledMatrix, dense_layers, scaled, shifted
from theory.bounds._wide import ONE, ZERO, wide, wide_hypot
from theory.bounds.certificate import certificate_recursion
from theory.bounds.cone import ConeCertificate, cone_recursion
from theory.chains.chain import Chain

__all__ = ["BlockCertificate", "BlockTable", "certify_blocks", "coarse_grain", "join_blocks"]


@dataclass(frozen=True, slots=True)
class BlockCertificate:
    """What blocks of `block` layers certify of J_L, beside the truth. Logarithms are natural.

    Attributes:
        block: layers in a block; the last block is shorter where this does not divide L.
        count: number of blocks.
        headline: whether block <= L / 2; at block = L the chain is J_L itself and nothing is predicted.
        log_norm_lower, log_norm_upper, log_sigma2_upper: (T15) of the blocks.
        cone: (T27) of the blocks, never worse.
        log_upper_over_true: ln of the best upper bound on ||J_L|| over its true value; NaN where J_L = 0.
        log_true_over_lower: ln of the true value over the best lower bound; +inf where that is 0.
        gap_largest: largest gap of the blocks, over the second and later ones (the only one, if there is one).
    """

    block: int
    count: int
    headline: bool
    log_norm_lower: float
    log_norm_upper: float
    log_sigma2_upper: float
    cone: ConeCertificate
    log_upper_over_true: float
    log_true_over_lower: float
    gap_largest: float


@dataclass(frozen=True, slots=True)
class BlockTable:
    """Certificates by block size, and the true values they bracket.

    Attributes:
        rows: in increasing block size.
        log_norm, log_sigma2: natural logarithms of the first two singular values of J_L (-inf for none).
    """

    rows: tuple[BlockCertificate, ...]
    log_norm: float
    log_sigma2: float

    @property
    def headline(self) -> BlockCertificate | None:
        """The row with block <= L / 2 whose upper bound is smallest; None for a chain of one layer."""
        rows = [row for row in self.rows if row.headline]
        return min(rows, key=lambda row: row.cone.log_norm_upper) if rows else None


def join_blocks(
    chain: Chain | NDArray[np.float64], block: int, injections: NDArray[np.float64] | None = None
) -> list[tuple[ScaledMatrix, ScaledMatrix]]:
    """A' = A_{l+m-1} ... A_l and B' = the block's own context Jacobian from 0, for consecutive blocks of m layers.

    Implements (T17). Each matrix has an exponent of its own, so no depth leaves the range.

    Args:
        chain: one chain, or its propagators A_l of shape (L, d, d).
        block: m, 1 <= m <= L; the last block is shorter where m does not divide L.
        injections: B_l, shape (L, d, m), where propagators were given.

    Raises:
        TypeError, ValueError: as `dense_layers`; if block leaves 1..L.
    """
    a, b = dense_layers(chain, injections)
    size = _block_size(block, len(a))
    return [_joined(a[first : first + size], b[first : first + size]) for first in range(0, len(a), size)]


def _block_size(block: int, depth: int) -> int:
    size = int(natural(block, "block"))
    if size > depth:
        raise ValueError(f"block must be at most the chain's depth {depth}; got {size}")
    return size


def _joined(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[ScaledMatrix, ScaledMatrix]:
    product, total = scaled(a[0]), scaled(b[0])
    for propagator, injection in zip(a[1:], b[1:], strict=True):
        layer = scaled(propagator)
        product, total = layer @ product, layer @ total + scaled(injection)
    return product, total


@dataclass(frozen=True, slots=True)
class _Measured:
    layers: list[WideLayer]
    bulk_gap: list[float]


def _measure(blocks: Sequence[tuple[ScaledMatrix, ScaledMatrix]], direction: NDArray[np.float64] | None) -> _Measured:
    """`theory.measure` of layers that carry exponents, in the same gauge (T3)."""
    layers, bulk = [], []
    before = np.zeros(0)
    for index, (a, b) in enumerate(blocks):
        left, s, right = np.linalg.svd(a.matrix)
        u, v = left[:, 0], right[0]
        kappa, off = 0.0, 1.0
        if index:
            if v @ before < 0:
                u, v = -u, -v
            kappa = float(min(v @ before, 1.0))
            off = float(min(np.linalg.norm(v - (v @ before) * before), 1.0))
        before = u
        along = u @ b.matrix
        across = b.matrix - np.outer(u, along)
        c, aside = 0.0, np.zeros((len(u), 1))
        if direction is not None:
            c, aside = float(along @ direction), (across @ direction)[:, None]
        ratios = s[1:] / s[0] if s[0] > 0 else np.zeros(len(s) - 1)
        bulk.append(float(np.sqrt(np.mean(ratios**2))) if ratios.size else 0.0)
        layers.append(
            WideLayer(
                sigma=shifted(float(s[0]), a.exponent),
                xi=wide(float(ratios[0])) if ratios.size else ZERO,
                kappa=wide(kappa),
                s=wide(off) if index else ONE,
                beta=shifted(float(np.linalg.norm(along)), b.exponent),
                b=ScaledMatrix(across, b.exponent).norm(),
                norm=b.norm(),
                c=shifted(c, b.exponent),
                aside=ScaledMatrix(aside, b.exponent).norm(),
            )
        )
    return _Measured(layers, bulk)


def coarse_grain(
    chain: Chain | NDArray[np.float64],
    block: int,
    injections: NDArray[np.float64] | None = None,
    *,
    direction: NDArray[np.float64] | None = None,
) -> ChainParameters:
    """The parameters of the chain whose layers are blocks of `block` layers of this one.

    Implements (T17). Computed in float64 with an exponent for each matrix; only the result has to fit.

    Args:
        chain: one chain, or its propagators A_l of shape (L, d, d).
        block: m, 1 <= m <= L; the last block is shorter where m does not divide L.
        injections: B_l, shape (L, d, m), where propagators were given.
        direction: unit vector w of context space; gives injection_coherent.

    Returns:
        Parameters of ceil(L / m) layers, with misalignment and bulk_gap, in the unit of the chain.

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if block leaves 1..L, the shapes disagree, or a norm of a block leaves float64; `certify_blocks`
            has no such limit.
    """
    blocks = join_blocks(chain, block, injections)
    w = None if direction is None else unit_vector(direction, "direction", blocks[0][1].matrix.shape[1])
    measured = _measure(blocks, w)
    columns: dict[str, list[float]] = {}
    for name in ("sigma", "xi", "kappa", "s", "beta", "b", "c"):
        numbers = [getattr(layer, name) for layer in measured.layers]
        values = [number.value() for number in numbers]
        for index, (number, value) in enumerate(zip(numbers, values, strict=True)):
            if not math.isfinite(value) or (value == 0.0 and number.fraction != 0.0):
                raise ValueError(
                    f"block must keep every norm within float64; got {name} = exp({number.log():.6g}) in block "
                    f"{index + 1} of {block} layers: certify_blocks carries the scale"
                )
        columns[name] = values
    return ChainParameters(
        sigma=np.array(columns["sigma"]),
        gap=np.array(columns["xi"]),
        alignment=np.array([math.nan, *columns["kappa"][1:]]),
        injection_along=np.array(columns["beta"]),
        injection_across=np.array(columns["b"]),
        injection_coherent=None if w is None else np.array(columns["c"]),
        misalignment=np.array([math.nan, *columns["s"][1:]]),
        bulk_gap=np.array(measured.bulk_gap),
    )


def certify_blocks(
    chain: Chain | NDArray[np.float64],
    injections: NDArray[np.float64] | None = None,
    *,
    blocks: Iterable[int] | None = None,
    direction: NDArray[np.float64] | None = None,
) -> BlockTable:
    """(T15) and (T27) of the blocks of every size, with how far each is from the truth.

    Implements (T17). Costs about L products of d x d matrices for each block size.

    Args:
        chain: one chain, or its propagators A_l of shape (L, d, d).
        injections: B_l, shape (L, d, m), where propagators were given.
        blocks: block sizes; by default all of 1..L.
        direction: unit vector w of context space along which the injections are thought coherent.

    Returns:
        One row for each block size, ascending.

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if a block size leaves 1..L or the shapes disagree.
    """
    a, b = dense_layers(chain, injections)
    w = None if direction is None else unit_vector(direction, "direction", b.shape[2])
    depth = len(a)
    sizes = range(1, depth + 1) if blocks is None else sorted({_block_size(block, depth) for block in blocks})
    true = _joined(a, b)[1].singular_values()
    log_norm, log_second = true[0].log(), true[1].log() if len(true) > 1 else -math.inf
    rows = []
    for size in sizes:
        layers = _measure(join_blocks(a, size, b), w).layers
        p_high, q_high, p_low, _ = certificate_recursion(layers)
        cone = cone_recursion(layers, w is not None)
        rows.append(
            BlockCertificate(
                block=size,
                count=len(layers),
                headline=2 * size <= depth,
                log_norm_lower=p_low.log(),
                log_norm_upper=wide_hypot(p_high, q_high).log(),
                log_sigma2_upper=q_high.log(),
                cone=cone,
                log_upper_over_true=cone.log_norm_upper - log_norm if log_norm > -math.inf else math.nan,
                log_true_over_lower=log_norm - cone.log_norm_lower if log_norm > -math.inf else math.nan,
                gap_largest=max(layer.xi.value() for layer in (layers[1:] or layers)),
            )
        )
    return BlockTable(tuple(rows), log_norm, log_second)
