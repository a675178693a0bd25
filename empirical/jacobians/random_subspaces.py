"""What chance gives two r-dimensional subspaces of the same D-dimensional state: the null of `measure_subspaces` (T25).

Both are uniform and independent. The overlap ||V^T U||_F^2 / r has mean r / D and variance
2 (D - r)^2 / (D^2 (D - 1) (D + 2)) exactly, and its quantiles are sampled from the exact law.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from observables.decompositions import cholesky, eigenvalues, inverse

NULL_DRAWS = 4000


@dataclass(frozen=True, slots=True, eq=False)
class RandomSubspaces:
    """Law of the principal angles of two independent uniform r-dimensional subspaces of R^D.

    The squared cosines are the eigenvalues of G^T G (G^T G + W)^{-1}, G (r, r) standard normal and W Wishart of D - r
    degrees of freedom: the top block of a Haar frame, made without its D rows.

    Attributes:
        dimension, rank: D and r, 1 <= r <= D.
        overlap: sampled overlaps, ascending.
        largest: sampled largest cosines, ascending.
    """

    dimension: int
    rank: int
    overlap: NDArray[np.float64]
    largest: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean overlap, r / D exactly."""
        return self.rank / self.dimension

    @property
    def sd(self) -> float:
        """Standard deviation of the overlap, exact.

        For projections p, q onto the two spaces, p - (r/D) I is traceless and symmetric; conjugation by a Haar matrix
        is irreducible on those, of dimension (D - 1)(D + 2) / 2, so that var tr(p q) is (r (D - r) / D)^2 over that.
        """
        d, r = self.dimension, self.rank
        if r == d:
            return 0.0
        return (d - r) / d * math.sqrt(2.0 / ((d - 1) * (d + 2)))

    def chance(self, overlap: float) -> float:
        """Chance of an overlap at least this large, from the samples, counting the observed one; NaN for NaN.

        Never below 1 / (draws + 1), the least that this many samples can say.
        """
        if math.isnan(overlap):
            return math.nan
        # a tie up to rounding is one, as where the spaces are the whole state
        above = len(self.overlap) - int(np.searchsorted(self.overlap, overlap - 1e-12, side="left"))
        return (1 + above) / (1 + len(self.overlap))


@functools.lru_cache(maxsize=64)
def random_subspaces(dimension: int, rank: int, *, draws: int = NULL_DRAWS, seed: int = 0) -> RandomSubspaces:
    """Sample the null of `RandomSubspaces`; the same arguments give the same samples.

    Raises:
        ValueError: unless 1 <= rank <= dimension and draws >= 1.
    """
    if not 1 <= rank <= dimension:
        raise ValueError(f"rank must lie in [1, {dimension}], the state's dimension; got {rank}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    generator = np.random.default_rng([seed, dimension, rank])
    if rank == dimension:  # both spaces are the whole
        squares = np.ones((draws, rank))
    else:
        inside = generator.standard_normal((draws, rank, rank))
        inside = np.swapaxes(inside, 1, 2) @ inside
        outside = _wishart(dimension - rank, rank, draws, generator)
        # eigenvalues of the symmetric form T^{-1} G^T G T^{-T}, T T^T the sum
        root = inverse("T", cholesky("T T^T", inside + outside))
        squares = np.clip(eigenvalues("the squared cosines", root @ inside @ np.swapaxes(root, 1, 2)), 0.0, 1.0)
    return RandomSubspaces(
        dimension=dimension,
        rank=rank,
        overlap=np.sort(squares.mean(axis=1)),
        largest=np.sort(np.sqrt(squares[:, -1])),
    )


def _wishart(freedom: int, rank: int, draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """H^T H for H (freedom, rank) standard normal, by Bartlett's triangle where there are rows enough."""
    if freedom < rank:
        h = generator.standard_normal((draws, freedom, rank))
        return np.swapaxes(h, 1, 2) @ h
    triangle = np.tril(generator.standard_normal((draws, rank, rank)), -1)
    for i in range(rank):
        triangle[:, i, i] = np.sqrt(generator.chisquare(freedom - i, draws))
    return triangle @ np.swapaxes(triangle, 1, 2)
