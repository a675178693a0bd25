"""How the leading subspaces of consecutive layers meet: principal angles, beside what chance gives.

Where the gap xi = sigma_2 / sigma_1 is near 1, u and v are any vectors of a larger space and kappa means little. The
same question of r directions at once is asked here (T25): with V_l the r leading right singular vectors of A_l and
U_{l-1} the r leading left ones of A_{l-1}, the singular values of V_l^T U_{l-1} are the cosines of the principal angles
between the two spaces, and

    overlap = ||V_l^T U_{l-1}||_F^2 / r

in [0, 1] is the share of the one that lies in the other; r = 1 gives kappa and kappa^2. The null is two independent
uniform r-dimensional subspaces of the same D-dimensional state: overlap has mean r / D and variance
2 (D - r)^2 / (D^2 (D - 1) (D + 2)) exactly, and its quantiles are sampled from the exact law.

It is the null of nothing but the dimension. For the sequence, whose state is T positions side by side, singular vectors
keep to a few positions each, and overlaps fall below or rise above this null for that alone: there a second one keeps
each space's energy by position and turns the directions inside every position (T35). At one position random weights
follow this law, and both nulls are one.

A leading subspace has a gap of its own, sigma_{r+1} / sigma_r; where that is near 1 the r-th direction is as arbitrary
as u was, and it stands beside every angle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.decompositions import qr, singular_values, svd
from empirical.jacobians.krylov import leading_triplets
from empirical.jacobians.random_subspaces import random_subspaces
from observables.positional import positional_subspaces

RANKS = (1, 2, 4, 8)
NULL_LEVEL = 0.95
_KEPT_DRAWS = 500  # its law depends on the two spaces, so that each pair has samples of its own


@dataclass(frozen=True, slots=True, eq=False)
class LeadingSpaces:
    """The leading singular triplets of one propagator.

    Attributes:
        s: one value more than asked for where there is one, (k,); NaN where unconverged.
        u, v: left and right vectors, (D, k).
        residual: of each triplet, relative.
        converged: (k,) bool.
    """

    s: Tensor
    u: Tensor
    v: Tensor
    residual: Tensor
    converged: Tensor

    def boundary_gap(self, rank: int) -> float:
        """sigma_{r+1} / sigma_r, how well the space of r directions is told from the next; 0 where r is all of them."""
        if rank == len(self.s):
            return 0.0
        return float(self.s[rank] / self.s[rank - 1]) if float(self.s[rank - 1]) > 0.0 else math.nan


def leading_spaces(chain: DecoderChain, rank: int, position: int | None = -1, *, seed: int = 0) -> list[LeadingSpaces]:
    """The `rank` leading triplets, and one more, of every propagator: exact at one position, by iteration of the
    sequence (position None).

    Raises:
        ValueError: if rank exceeds the state's dimension.
        NonFiniteError: if a propagator is not finite.
    """
    size = chain.state_size(chain.rows(position))
    if not 1 <= rank <= size:
        raise ValueError(f"rank must lie in [1, {size}], the state's dimension; got {rank}")
    k = min(rank + 1, size)
    spaces = []
    for layer in range(1, chain.depth + 1):
        operator = chain.propagator(layer, position)
        if position is not None:
            matrix = operator.materialise().matrix.double()
            u, s, vh = svd("the propagator", matrix)
            u, s, v = u[:, :k], s[:k], vh[:k].T
            forward = torch.linalg.vector_norm(matrix @ v - u * s, dim=0)
            backward = torch.linalg.vector_norm(matrix.T @ u - v * s, dim=0)
            residual = torch.maximum(forward, backward) / s.clamp_min(torch.finfo(torch.float64).tiny)
            spaces.append(LeadingSpaces(s, u, v, residual, torch.ones(k, dtype=torch.bool, device=s.device)))
            continue
        found = leading_triplets(operator, k, frobenius=False, seed=seed)
        # A^T u / s is as orthogonal as the residual is small; the spaces, nested as before, need orthonormal frames
        u, v = (qr("leading vectors", frame.double())[0] for frame in (found.u, found.v))
        spaces.append(LeadingSpaces(found.s, u, v, found.residual, found.converged))
    return spaces


def principal_cosines(right: Tensor, left: Tensor) -> Tensor:
    """Cosines of the principal angles between the spaces of two orthonormal frames (D, r), descending, (r,).

    Raises:
        ValueError: if the frames are not of one shape or their columns not orthonormal.
    """
    if right.shape != left.shape or right.ndim != 2:
        raise ValueError(f"frames must be two (D, r) matrices; got {tuple(right.shape)} and {tuple(left.shape)}")
    for name, frame in (("right", right), ("left", left)):
        off = float((frame.T @ frame - torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device)).abs().max())
        if not off <= 1e-6:
            raise ValueError(f"{name} must have orthonormal columns; got a Gram matrix off the identity by {off:.1e}")
    return singular_values("V^T U", right.T @ left).clamp_max(1.0)


def _kept(
    own: LeadingSpaces, before: LeadingSpaces, rank: int, overlap: float, width: int | None, seed: int
) -> dict[str, float]:
    """The null that keeps each space's energy by position (T35): its mean, its 95 % quantile, and the overlap's chance.

    NaN at one position (width None), where it is the null of uniform spaces, and where there is no overlap.
    """
    names = ("kept_overlap", "kept_overlap_high", "kept_chance")
    if width is None or rank > width or math.isnan(overlap):
        return dict.fromkeys(names, math.nan)
    v, u = (frame[:, :rank].double().cpu().numpy() for frame in (own.v, before.u))
    law = positional_subspaces(v, u, width, draws=_KEPT_DRAWS, seed=seed)
    return dict(zip(names, (law.mean, law.quantile(NULL_LEVEL), law.chance(overlap)), strict=True))


def measure_subspaces(
    chain: DecoderChain, ranks: Sequence[int] = RANKS, position: int | None = -1, *, seed: int = 0
) -> list[dict[str, Any]]:
    """One dict a layer l >= 2 and rank, plain Python values; all measured numbers of a rank are NaN where a triplet of
    either layer that it needs did not converge.

    Raises:
        ValueError: if a rank leaves the state's dimension.
    """
    dimension = chain.state_size(chain.rows(position))
    for rank in ranks:
        if isinstance(rank, bool) or int(rank) != rank or not 1 <= rank <= dimension:
            raise ValueError(f"ranks must be whole numbers in [1, {dimension}], the state's dimension; got {rank!r}")
    if not ranks:
        raise ValueError("ranks must hold at least one rank; got none")
    spaces = leading_spaces(chain, max(ranks), position, seed=seed)
    rows = []
    for index in range(1, len(spaces)):
        own, before = spaces[index], spaces[index - 1]
        for rank in ranks:
            converged = bool(own.converged[:rank].all()) and bool(before.converged[:rank].all())
            cosines = [math.nan] * rank
            if converged:
                cosines = principal_cosines(own.v[:, :rank], before.u[:, :rank]).tolist()
            overlap = sum(cosine**2 for cosine in cosines) / rank
            null = random_subspaces(dimension, rank, seed=seed)
            rows.append(
                {
                    "layer": index + 1,
                    "layers": len(spaces),
                    "d_model": chain.width,
                    "dimension": dimension,
                    "rank": rank,
                    "overlap": overlap,
                    "cosines": cosines,
                    "largest_cosine": cosines[0],
                    "smallest_cosine": cosines[-1],
                    "null_overlap": null.mean,
                    "null_overlap_sd": null.sd,
                    "null_overlap_high": float(np.quantile(null.overlap, NULL_LEVEL)),
                    "null_largest_cosine_high": float(np.quantile(null.largest, NULL_LEVEL)),
                    "chance": null.chance(overlap),
                    **_kept(own, before, rank, overlap, chain.width if position is None else None, seed),
                    "boundary_gap": own.boundary_gap(rank),
                    "boundary_gap_before": before.boundary_gap(rank),
                    "residual": max(float(own.residual[:rank].max()), float(before.residual[:rank].max())),
                    "converged": converged,
                }
            )
    return rows
