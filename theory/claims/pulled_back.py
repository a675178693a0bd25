"""Coherent chains, pulled back: what claim C3 is tested on, at widths where dense chains would cost too much.

A layer A_l with a flat, Haar-random residual, pulled back through the orthogonal factors of (T24), u_l to w_l, gives

    J_l = sigma (xi I + (1 - xi) w_l w_l^T) J_{l-1} + w_l e_1^T + b Q_l,   <w_l, w_{l-1}> = kappa.

In law this is the chain of `theory.make_chain` with injections of norm 1 along u_l, at the cost of one frame a layer
and rank-one updates in place of three frames and products of matrices. J_L is linear in b, so that one run serves
every size of the injections' part across u_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from observables import share_of_first
from theory.chains.directions import haar_orthogonal, random_unit, unit_across

__all__ = ["CoherentLayers", "FramePool", "Spectrum", "pulled_back_jacobian", "spectrum"]


@dataclass(frozen=True, slots=True)
class CoherentLayers:
    """A chain with the same numbers in every layer and injections of norm 1 along u_l, all from one direction.

    Attributes:
        depth: L >= 1.
        alignment: kappa in (0, 1].
        gap: xi in [0, 1].
        gain: rho = sigma kappa.
        across: b >= 0, size of the injections' part across u_l against their part along it.
    """

    depth: int
    alignment: float
    gap: float
    gain: float
    across: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Collapse of one matrix: share of its squared Frobenius norm in the first direction, and sigma_2 / sigma_1."""

    share: float
    ratio: float


class FramePool:
    """Haar matrices of size d - 1 that several chains share; each use turns them by fresh signed permutations.

    A chain takes a different member in every layer, so within a chain the frames are independent and each is exactly
    Haar. Chains that share the pool are independent in everything else (directions, permutations, signs).

    Args:
        dimension: d >= 2.
        size: number of members, the greatest depth that a chain may have.
        rng: source of randomness.
    """

    def __init__(self, dimension: int, size: int, rng: np.random.Generator) -> None:
        self._members = [haar_orthogonal(rng, dimension - 1) for _ in range(size)]

    def draw(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
        """`count` independent Haar matrices, each of shape (d - 1, d - 1)."""
        chosen = rng.permutation(len(self._members))[:count]
        return [self._turned(self._members[index], rng) for index in chosen]

    @staticmethod
    def _turned(member: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        n = member.shape[0]
        turned = member[np.ix_(rng.permutation(n), rng.permutation(n))]
        signs = rng.choice((-1.0, 1.0), size=(2, n))
        turned *= signs[0][:, None]
        turned *= signs[1]
        return turned


def pulled_back_jacobian(
    layers: CoherentLayers, frames: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two parts of J_L = y e_1^T + b N of a random coherent chain, turned by one orthogonal matrix.

    Implements (T24) with injections. The chain's own `across` is not read: b multiplies N afterwards.

    Args:
        layers: of the chain.
        frames: one Haar matrix of shape (d - 1, d - 1) a layer; the injections across u_l are its image there.
        rng: source of the directions.

    Returns:
        y, shape (d,), and N, shape (d, d - 1), both in the unit of the injections along u_l.
    """
    d = frames[0].shape[0] + 1
    sigma, xi, kappa = layers.gain / layers.alignment, layers.gap, layers.alignment
    s = float(np.sqrt((1 - kappa) * (1 + kappa)))
    y, noise = np.zeros(d), np.zeros((d, d - 1))
    w = random_unit(rng, d)
    for layer in range(layers.depth):
        if layer:
            w = kappa * w + s * unit_across(rng, w)
            w /= np.linalg.norm(w)
        # The reflection that takes e_1 to -+w takes the other axes to a basis of the complement of w.
        normal = w.copy()
        normal[0] += 1.0 if w[0] >= 0 else -1.0
        normal *= np.sqrt(2.0 / (normal @ normal))
        moved = np.stack([sigma * (1 - xi) * (w @ noise), -(normal[1:] @ frames[layer])])
        noise *= sigma * xi
        noise[1:] += frames[layer]
        noise += np.stack([w, normal], axis=1) @ moved
        y = sigma * (xi * y + (1 - xi) * (w @ y) * w) + w
    return y, noise


def spectrum(y: NDArray[np.float64], noise: NDArray[np.float64], across: float) -> Spectrum:
    """Collapse of y e_1^T + b N for one size b of the injections across."""
    jacobian = across * noise
    jacobian[:, 0] += y
    s = np.linalg.svd(jacobian, compute_uv=False)
    return Spectrum(share_of_first(s, float(np.linalg.norm(s))), float(s[1] / s[0]))
