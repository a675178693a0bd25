"""The context Jacobian J_l = dh_l/dE at every depth: its leading singular values, its norm, and two checks of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.krylov import Triplets, leading_triplets


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
    chain: DecoderChain, k: int, position: int | None = None, *, seed: int = 0, memory_bytes: int | None = None
) -> list[ContextMeasurement]:
    """J_l for l = 1..L, of one position (exact rows of the true J_l) or of the sequence (None).

    Each depth starts from the left vectors of the one before: the stream is residual, so they are nearly right.

    Raises:
        ValueError: if k is not in [1, min(R d, S d)].
        OutOfMemoryError: if `memory_bytes` (by default most of what is left) holds not even one direction a step.
    """
    measured: list[ContextMeasurement] = []
    start = None
    for layer in range(1, chain.depth + 1):
        before = chain.products
        triplets = leading_triplets(
            chain.context_jacobian(layer, position), k, start=start, seed=seed, memory_bytes=memory_bytes
        )
        start = triplets.u
        error = (
            _sequence_error(chain, layer, triplets) if position is None else _error(chain, layer, position, triplets)
        )
        triplets = dataclasses.replace(triplets, v=triplets.v[:0].clone())
        measured.append(ContextMeasurement(triplets, error, chain.products - before))
    return measured


def _error(chain: DecoderChain, layer: int, position: int, triplets: Triplets) -> float:
    true = triplets.v.double() * triplets.estimate  # J^T U, as measured
    by_chain = chain.position_chain(layer, position).rmatmat(triplets.u).double()
    return _relative(float(torch.linalg.vector_norm(true - by_chain)), float(torch.linalg.vector_norm(true)))


def _sequence_error(chain: DecoderChain, layer: int, triplets: Triplets) -> float:
    true = triplets.v[:, 0].double() * triplets.estimate[0]
    by_autograd = chain.autograd_pull(layer, triplets.u[:, 0]).double()
    return _relative(float(torch.linalg.vector_norm(true - by_autograd)), float(torch.linalg.vector_norm(true)))


def _relative(difference: float, size: float) -> float:
    if size > 0.0:
        return difference / size
    return 0.0 if difference == 0.0 else math.inf
