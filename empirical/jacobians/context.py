"""The context Jacobian J_l = dh_l/dE at every depth: its leading singular values, its norm, and two checks of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from empirical.jacobians.krylov import leading_triplets
from empirical.jacobians.propagators import require_adjoint
from empirical.jacobians.protocol import Chain
from empirical.jacobians.triplets import Triplets


@dataclass(frozen=True, slots=True, eq=False)
class ContextMeasurement:
    """J_l at one depth.

    Attributes:
        triplets: the k leading ones, without their right vectors: kept for every depth, these alone would take L k S d
            numbers, 2 GB at large-v3's dimensions. `triplets.refusals` says whether memory was short.
        chain_error: one position: ||(J - J_chain)^T U_k||_F / ||J^T U_k||_F, how far the position chain's recurrence
            is from the true Jacobian; the sequence: ||J^T u_1 - autograd||/||J^T u_1||, rounding, since (T2) is exact.
        products: layer-level Jacobian products this depth took.
    """

    triplets: Triplets
    chain_error: float
    products: int


def measure_context(
    chain: Chain,
    k: int,
    position: int | None = None,
    depths: Sequence[int] | None = None,
    *,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> list[ContextMeasurement]:
    """J_l for l = 1..L, of one position (exact rows of the true J_l) or of all (None).

    Each depth starts from the left vectors of the one before: the stream is residual, so they are nearly right, and
    their sum saves 3 to 10 products in 100. (Those of another clip save nothing, and would make a record depend on
    what was measured before it.) Forward and reverse products are checked against each other once, at the last depth.

    How the iteration goes is `leading_triplets`' default: one direction a step on the CPU, which takes the fewest
    products and, from tiny's size on, the least time; k + 4 on a GPU. At an organism's size blocks of four would take
    up to a third less time and twice the products; nothing is set for that, so that counts compare across sizes.

    Args:
        chain: a linearised chain.
        k: leading singular values of each J_l.
        position: the state; None is all positions.
        depths: which l, ascending; all by default.
        seed: of the Krylov starts and probes.
        memory_bytes: most that kept vectors may take; by default most of what the machine has left.

    Raises:
        ValueError: if k is not in [1, min(R d, context_size)], or depths are not ascending in [1, L].
        AdjointError: if the chain's forward and reverse products do not belong together.
        OutOfMemoryError: if `memory_bytes` holds not even one direction a step.
    """
    layers = list(range(1, chain.depth + 1)) if depths is None else list(depths)
    if layers != sorted(set(layers)) or not all(1 <= layer <= chain.depth for layer in layers):
        raise ValueError(f"depths must ascend within [1, {chain.depth}]; got {layers}")
    measured: list[ContextMeasurement] = []
    start = None
    for layer in layers:
        before = chain.products
        operator = chain.context_jacobian(layer, position)
        if layer == layers[-1]:
            require_adjoint(f"the context Jacobian of layer {layer}", operator, layer, seed)
        triplets = leading_triplets(operator, k, start=start, seed=seed, memory_bytes=memory_bytes)
        start = triplets.u
        error = (
            _sequence_error(chain, layer, triplets) if position is None else _error(chain, layer, position, triplets)
        )
        triplets = dataclasses.replace(triplets, v=triplets.v[:0].clone())
        measured.append(ContextMeasurement(triplets, error, chain.products - before))
    return measured


def _error(chain: Chain, layer: int, position: int, triplets: Triplets) -> float:
    true = triplets.v.double() * triplets.estimate  # J^T U, as measured
    by_chain = chain.position_chain(layer, position).rmatmat(triplets.u).double()
    return _relative(float(torch.linalg.vector_norm(true - by_chain)), float(torch.linalg.vector_norm(true)))


def _sequence_error(chain: Chain, layer: int, triplets: Triplets) -> float:
    true = triplets.v[:, 0].double() * triplets.estimate[0]
    by_autograd = chain.autograd_pull(layer, triplets.u[:, 0]).double()
    return _relative(float(torch.linalg.vector_norm(true - by_autograd)), float(torch.linalg.vector_norm(true)))


def _relative(difference: float, size: float) -> float:
    if size > 0.0:
        return difference / size
    return 0.0 if difference == 0.0 else math.inf
