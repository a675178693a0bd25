"""Alignment of directions that keep their energy by position (T35): the exact law, against sampling and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from mpmath import mp
from numpy.typing import NDArray
from scipy import stats

from observables import PositionalAlignment, RandomAlignment, positional_alignment, positional_subspaces
from observables.positional import coordinate_characteristic

PROBABILITIES = (0.05, 0.5, 0.95, 0.999)


def energies(positions: int, seed: int) -> NDArray[np.float64]:
    """Norms of the blocks of a unit vector, most of them small."""
    return np.sqrt(np.random.default_rng(seed).dirichlet(np.full(positions, 0.3)))


def frame(norms: NDArray[np.float64], dimension: int, rank: int, seed: int) -> NDArray[np.float64]:
    """Orthonormal columns, (T d, r), whose energies lie about as `norms` say."""
    drawn = np.random.default_rng(seed).standard_normal((len(norms), dimension, rank)) * norms[:, None, None]
    return np.linalg.qr(drawn.reshape(-1, rank))[0]


@pytest.mark.parametrize("d", [3, 4, 7, 64, 128])
def test_the_characteristic_function_is_a_bessel_function(d: int):
    s = np.array([0.0, 1e-8, 0.5, 3.0, d / 4 + 0.4, d / 4 + 0.6, d / 2, d, 2.5 * d + 0.1])
    with mp.workdps(40):
        exact = np.array([float(mp.hyp0f1(mp.mpf(d) / 2, -(mp.mpf(x) ** 2) / 4, zeroprec=400)) for x in s])
    # A logarithm of size d ln d, rounded and then exponentiated.
    assert np.abs(coordinate_characteristic(s, d) - exact).max() <= 16 * d * np.finfo(np.float64).eps


@pytest.mark.parametrize("d", [8, 64, 384, 1280])
def test_at_one_position_it_is_the_law_of_random_directions_T22(d: int):
    law, known = PositionalAlignment(np.array([1.0]), d), RandomAlignment(d)
    assert law.rms == pytest.approx(known.rms, rel=1e-15) and law.mean == pytest.approx(known.mean, rel=1e-11)
    for p in PROBABILITIES:
        assert law.quantile(p) == pytest.approx(known.quantile(p), rel=1e-9)
        assert law.exceeded(known.quantile(p)) == pytest.approx(1 - p, abs=1e-12)


def test_alike_and_even_energies_are_nearly_uniform_directions_of_all_positions():
    positions, d = 448, 1280
    law, uniform = PositionalAlignment(np.full(positions, 1 / positions), d), RandomAlignment(positions * d)
    assert law.rms == pytest.approx(uniform.rms, rel=1e-12)
    # Both are normal but for a relative excess of order 1 / (T d).
    assert law.quantile(0.95) == pytest.approx(uniform.quantile(0.95), rel=10 / (positions * d))


def test_sampled_blocks_have_the_law_T35():
    d, n = 16, 20_000
    weights = energies(6, 1) * energies(6, 2)
    drawn = np.random.default_rng(3).standard_normal((2, n, 6, d))
    x, y = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    found = np.abs(np.einsum("ntd,ntd,t->n", x, y, weights))
    law = PositionalAlignment(weights, d)
    # Level 1e-6: such a seed was one of 10^6.
    below = np.vectorize(lambda value: 1.0 - law.exceeded(value))
    assert stats.kstest(found[:5000], below).pvalue > 1e-6
    assert abs(np.square(found).mean() / law.rms**2 - 1) < 5 * math.sqrt(2 / n)
    assert abs(found.mean() - law.mean) < 5 * law.rms / math.sqrt(n)
    uniform = RandomAlignment(6 * d)
    assert stats.kstest(found[:5000], lambda v: 1.0 - np.vectorize(uniform.exceeded)(v)).pvalue < 1e-6


def test_energies_that_lie_apart_cannot_align():
    apart = PositionalAlignment(np.zeros(3), 8)
    assert (apart.largest, apart.rms, apart.mean, apart.quantile(0.95)) == (0.0, 0.0, 0.0, 0.0)
    assert apart.exceeded(0.0) == 1.0 and apart.exceeded(1e-9) == 0.0
    some = PositionalAlignment(np.array([0.2, 0.1]), 8)
    assert some.exceeded(0.3) == 0.0 and some.quantile(1.0) == pytest.approx(0.3)
    assert some.exceeded(0.29) >= 0.0 and math.isnan(some.exceeded(math.nan))


def test_the_law_of_two_vectors_is_that_of_their_energies():
    d = 8
    v, u = (frame(energies(5, seed), d, 1, seed)[:, 0] for seed in (4, 5))
    law = positional_alignment(v, u, d)
    norms = [np.linalg.norm(one.reshape(5, d), axis=1) for one in (v, u)]
    np.testing.assert_allclose(law.weights, norms[0] * norms[1], rtol=1e-14)
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    same = positional_alignment((v.reshape(5, d) @ turned).ravel(), u, d)
    np.testing.assert_allclose(same.weights, law.weights, rtol=1e-13)


@pytest.mark.parametrize(("d", "rank"), [(16, 1), (16, 4), (6, 4), (4, 4)])
def test_subspaces_turned_inside_their_positions_have_the_sampled_law_T35(d: int, rank: int):
    positions, n = 5, 3000
    v, u = (frame(energies(positions, seed), d, rank, seed) for seed in (6, 7))
    law = positional_subspaces(v, u, d, draws=n, seed=1)
    rotations = stats.ortho_group(d, seed=np.random.default_rng(2)).rvs(n * positions).reshape(n, positions, d, d)
    blocks = [one.reshape(positions, d, rank) for one in (v, u)]
    inner = np.einsum("tdr,ntde,tes->nrs", blocks[0], rotations, blocks[1], optimize=True)
    found = np.square(inner).sum(axis=(1, 2)) / rank
    compared: Any = stats.ks_2samp(law.overlap, found)
    assert compared.pvalue > 1e-6
    # The mean is exact; both samples lie within 5 of their own standard errors of it.
    for sample in (law.overlap, found):
        assert abs(sample.mean() - law.mean) < 5 * sample.std() / math.sqrt(n)


def test_rank_one_subspaces_and_vectors_have_one_law():
    d = 12
    v, u = (frame(energies(4, seed), d, 1, seed) for seed in (8, 9))
    law, pair = positional_subspaces(v, u, d, draws=4000), positional_alignment(v[:, 0], u[:, 0], d)
    assert law.mean == pytest.approx(pair.rms**2, rel=1e-12)
    for p in (0.5, 0.95):
        # Each sampled quantile leaves its share above it to within 5 standard errors.
        above = pair.exceeded(math.sqrt(law.quantile(p)))
        assert abs(above - (1 - p)) < 5 * math.sqrt(p * (1 - p) / 4000)
    assert law.chance(1.0) == 1 / 4001 and law.chance(0.0) == 1.0 and math.isnan(law.chance(math.nan))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="weights must be"):
        PositionalAlignment(np.array([-0.1]), 8)
    with pytest.raises(ValueError, match="weights must sum to at most 1"):
        PositionalAlignment(np.array([0.8, 0.8]), 8)
    with pytest.raises(ValueError, match="dimension must be an integer of at least 3; got 2"):
        PositionalAlignment(np.array([1.0]), 2)
    law = PositionalAlignment(np.array([1.0]), 8)
    with pytest.raises(ValueError, match=r"alignment must lie in \[0, 1\]; got 1.5"):
        law.exceeded(1.5)
    with pytest.raises(ValueError, match="probability must lie in"):
        law.quantile(-0.1)
    unit = np.eye(8)[:, 0]
    with pytest.raises(ValueError, match="u must have orthonormal columns"):
        positional_alignment(unit, 2 * unit, 4)
    with pytest.raises(ValueError, match=r"v must be \(T d,\)"):
        positional_alignment(np.ones(7), unit, 4)
    with pytest.raises(ValueError, match="at most d = 2 columns; got 3"):
        positional_subspaces(np.eye(4)[:, :3], np.eye(4)[:, :3], 2)
