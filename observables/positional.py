"""How well directions of a sequence align by chance when each keeps its energy by position.

A singular vector of the sequence state is T blocks of d numbers, one a position. Trained or not, a decoder's leading
vectors put most of their energy on few positions, often the same ones: two such vectors may align for that alone. The
null of uniform directions, (T22) in T d dimensions, takes that for structure. Here the blocks keep their norms and are
turned inside their positions, each by a uniform rotation of its own; what is left is which directions inside a
position follow which (T35).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from observables.decompositions import cholesky, solve, triangle

_TERMS_MOST = 2**16
_RAYLEIGH_TERMS = 32
_NEGLIGIBLE = 1e-16
_DRAWS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class PositionalAlignment:
    """Law of |<v, u>| where v and u keep their energy by position and have uniform directions inside each.

    Implements (T35): <v, u> = sum over t of w_t c_t, w_t = ||v_t|| ||u_t||, the c_t independent coordinates of uniform
    unit vectors of R^d. It lies in [-W, W], W = sum of w_t <= 1, so that its law is a Fourier series there whose
    coefficients are its characteristic function, a product of Bessel functions. At one position it is (T22).

    Attributes:
        weights: w_t, (T,), dimensionless.
        dimension: d >= 3, numbers at one position; odd or small ones converge slowly (1e-4 at d = 3, 1e-12 from 8 on).

    Raises:
        ValueError: if a weight is negative or no number, their sum exceeds 1 by more than rounding, or d is no such
            integer.
    """

    weights: NDArray[np.float64]
    dimension: int

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or weights.min() < 0:
            raise ValueError(f"weights must be (T,) of at least 0, T >= 1; got {self.weights!r}")
        if weights.sum() > 1 + 1e-5:  # vectors of float32 have unit norm to about 1e-6
            raise ValueError(f"weights must sum to at most 1 (unit vectors); got {weights.sum()}")
        if isinstance(self.dimension, bool) or int(self.dimension) != self.dimension or self.dimension < 3:
            raise ValueError(f"dimension must be an integer of at least 3; got {self.dimension!r}")
        object.__setattr__(self, "weights", weights)

    @property
    def largest(self) -> float:
        """W, the most that vectors of these energies can align: 1 where their energies lie alike, 0 where apart."""
        return min(float(self.weights.sum()), 1.0)

    @property
    def rms(self) -> float:
        """sqrt(sum of w_t^2 / d), exactly."""
        return math.sqrt(float(np.square(self.weights).sum()) / self.dimension)

    @property
    def mean(self) -> float:
        """E |<v, u>|; dimensionless, in [0, W]."""
        width = float(self.weights.sum())
        if width == 0.0:
            return 0.0
        phi, n = self._coefficients()
        odd = n % 2 == 1
        return width / 2 - 4 * width * float((phi[odd] / np.square(np.pi * n[odd])).sum())

    def exceeded(self, alignment: float) -> float:
        """P(|<v, u>| >= alignment), to about 1e-13 where d is 8 or more; NaN for NaN.

        Raises:
            ValueError: if alignment leaves [0, 1].
        """
        if math.isnan(alignment):
            return math.nan
        if not 0.0 <= alignment <= 1.0:
            raise ValueError(f"alignment must lie in [0, 1]; got {alignment}")
        width = float(self.weights.sum())
        if alignment == 0.0:
            return 1.0
        if alignment >= width:
            return 0.0
        return min(1.0, max(0.0, 1.0 - self._below(alignment / width)))

    def quantile(self, probability: float) -> float:
        """The alignment that is exceeded with chance 1 - probability.

        Raises:
            ValueError: if probability leaves [0, 1].
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability must lie in [0, 1]; got {probability}")
        width = float(self.weights.sum())
        if width == 0.0 or probability == 0.0:
            return 0.0
        if probability == 1.0:
            return self.largest
        found = optimize.brentq(lambda x: self._below(x) - probability, 0.0, 1.0, xtol=1e-13)
        return min(width * float(np.asarray(found)), 1.0)

    def _below(self, x: float) -> float:
        """P(|<v, u>| <= x W) = x + sum over n of 2 phi(n pi / W) sin(n pi x) / (n pi)."""
        phi, n = self._coefficients()
        return x + 2 * float((phi * np.sin(np.pi * n * x) / (np.pi * n)).sum())

    def _coefficients(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """phi(n pi / W) and n = 1, 2, ..., as far as they matter."""
        return _coefficients(tuple(np.sort(self.weights[self.weights > 0.0]).tolist()), self.dimension)


@functools.lru_cache(maxsize=64)
def _coefficients(weights: tuple[float, ...], dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    w = np.array(weights)
    found: list[NDArray[np.float64]] = []
    start, count = 1, 64
    while True:
        n = np.arange(start, start + count, dtype=np.float64)
        phi = np.prod(coordinate_characteristic(np.pi * n[:, None] * (w / w.sum()), dimension), axis=1)
        found.append(phi)
        start, count = start + count, start + count - 1
        if float(np.abs(phi / n).max()) < _NEGLIGIBLE or start > _TERMS_MOST:
            whole = np.concatenate(found)
            return whole, np.arange(1, len(whole) + 1, dtype=np.float64)


def coordinate_characteristic(s: ArrayLike, dimension: int) -> NDArray[np.float64]:
    """E cos(s c), c one coordinate of a uniform unit vector of R^d: Gamma(d/2) (2/s)^nu J_nu(s), nu = d/2 - 1.

    Below the first zero by its logarithm, a series of one sign in Rayleigh's sums sigma_k over the zeros j of J_nu,
    (k + nu) sigma_k = sum of sigma_i sigma_{k-i}; beyond it by J_nu, which there does not underflow.

    Args:
        s: real numbers of at least 0, any shape.
        dimension: d >= 2.
    """
    s, nu = np.asarray(s, dtype=np.float64), dimension / 2 - 1
    near = s < nu / 2 + 1
    out = np.empty_like(s)
    sums = _rayleigh(nu)
    square = np.square(s[near])
    series = np.zeros_like(square)
    for k in range(_RAYLEIGH_TERMS, 0, -1):
        series = square * (sums[k - 1] / k + series)
    out[near] = np.exp(-series)
    far = s[~near]
    with np.errstate(divide="ignore"):  # at a zero the logarithm is -inf, and its exponential the 0 it should be
        bessel = special.jv(nu, far)
        size = special.gammaln(nu + 1) + nu * np.log(2 / far) + np.log(np.abs(bessel))
    out[~near] = np.sign(bessel) * np.exp(size)
    return out


@functools.lru_cache(maxsize=16)
def _rayleigh(nu: float) -> tuple[float, ...]:
    """sigma_k = sum over the positive zeros j of J_nu of j^(-2k), k = 1, 2, ... (Kishore 1963)."""
    sums = [1.0 / (4.0 * (nu + 1.0))]
    for k in range(2, _RAYLEIGH_TERMS + 1):
        sums.append(sum(sums[i - 1] * sums[k - i - 1] for i in range(1, k)) / (nu + k))
    return tuple(sums)


def positional_alignment(v: ArrayLike, u: ArrayLike, dimension: int) -> PositionalAlignment:
    """The law of |<v, u>| for unit vectors with the energies by position that these have.

    Args:
        v, u: (T d,), of unit norm.
        dimension: d.

    Raises:
        ValueError: if their shapes disagree, or one is not of unit norm.
    """
    blocks = [_blocks(name, one, dimension) for name, one in (("v", v), ("u", u))]
    norms = [np.linalg.norm(block[:, :, 0], axis=1) for block in blocks]
    if blocks[0].shape != blocks[1].shape or blocks[0].shape[2] != 1:
        raise ValueError(f"v and u must be vectors of one size; got {blocks[0].shape} and {blocks[1].shape}")
    return PositionalAlignment(norms[0] * norms[1], dimension)


@dataclass(frozen=True, slots=True, eq=False)
class PositionalSubspaces:
    """Law of the overlap ||V^T U||_F^2 / r of two frames whose blocks are turned, each position's by a rotation of its
    own (T35).

    Attributes:
        mean: (r / d) sum over t of p_t q_t, p_t = ||V_t||_F^2 / r and q_t the same of U, exactly.
        overlap: sampled overlaps, ascending, from the exact law.
    """

    mean: float
    overlap: NDArray[np.float64]

    def chance(self, overlap: float) -> float:
        """Chance of an overlap at least this large, from the samples, counting the observed one; NaN for NaN."""
        if math.isnan(overlap):
            return math.nan
        above = len(self.overlap) - int(np.searchsorted(self.overlap, overlap, side="left"))
        return (above + 1) / (len(self.overlap) + 1)

    def quantile(self, probability: float) -> float:
        """Sampled quantile of the overlap."""
        return float(np.quantile(self.overlap, probability))


def positional_subspaces(
    v: ArrayLike, u: ArrayLike, dimension: int, *, draws: int = _DRAWS, seed: int = 0
) -> PositionalSubspaces:
    """The law of the overlap of two frames of r columns that keep their Gram matrices by position.

    V_t becomes O_t V_t with O_t uniform in O(d), independent: the frames stay orthonormal, and of rank 1 it is
    `positional_alignment` squared. With V_t = A R, U_t = B S (thin QR) the block's part of V^T U is R^T X S, X the
    corner of a Haar matrix, which is drawn without its d rows.

    Args:
        v, u: (T d, r), orthonormal columns, r <= d.
        dimension: d.
        draws: samples of the overlap.
        seed: of the samples.

    Raises:
        ValueError: if shapes disagree, r exceeds d, or columns are not orthonormal.
    """
    first, second = (_blocks(name, one, dimension) for name, one in (("v", v), ("u", u)))
    if first.shape != second.shape:
        raise ValueError(f"v and u must be frames of one size; got {first.shape} and {second.shape}")
    rank = first.shape[2]
    if rank > dimension:
        raise ValueError(f"v must have at most d = {dimension} columns; got {rank}")
    left, right = triangle("v", first), triangle("u", second)
    energies = [np.square(one).sum(axis=(1, 2)) for one in (first, second)]
    generator = np.random.default_rng(seed)
    inner = np.zeros((draws, rank, rank))
    for r, s in zip(left, right, strict=True):
        inner += r.T @ _corners(dimension, rank, draws, generator) @ s
    overlap = np.sort(np.square(inner).sum(axis=(1, 2)) / rank)
    return PositionalSubspaces(float(energies[0] @ energies[1]) / (rank * dimension), overlap)


def _corners(dimension: int, rank: int, draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Corners (r, r) of Haar matrices of O(d), (draws, r, r).

    The first r columns of one are N R^{-1}, N (d, r) normal with N = Q R; its top block G needs of the rest only their
    Wishart matrix, by Bartlett's triangle. Where fewer than r rows are left, they are drawn.
    """
    top = generator.standard_normal((draws, rank, rank))
    rest = dimension - rank
    if rest >= rank:
        lower = np.tril(generator.standard_normal((draws, rank, rank)), -1)
        for column in range(rank):
            lower[:, column, column] = np.sqrt(generator.chisquare(rest - column, draws))
        gram = lower @ lower.transpose(0, 2, 1)
    else:
        below = generator.standard_normal((draws, rest, rank))
        gram = below.transpose(0, 2, 1) @ below
    factor = cholesky("R^T R", top.transpose(0, 2, 1) @ top + gram)
    return solve("R", factor, top.transpose(0, 2, 1)).transpose(0, 2, 1)


def _blocks(name: str, value: ArrayLike, dimension: int) -> NDArray[np.float64]:
    """(T, d, r) blocks of orthonormal columns."""
    array = np.asarray(value, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) % dimension or not len(array):
        raise ValueError(f"{name} must be (T d,) or (T d, r) with d = {dimension}; got {np.shape(value)}")
    gram = array.T @ array
    if not np.abs(gram - np.eye(len(gram))).max() <= 1e-4:
        raise ValueError(f"{name} must have orthonormal columns; got {np.abs(gram - np.eye(len(gram))).max():.1e}")
    return array.reshape(-1, dimension, array.shape[1])
