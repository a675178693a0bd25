"""Generator, measurement, recurrence and products against each other and the exact oracles of (T22)."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma

import theory
from observables import ChainParameters
from tests.helpers.chains import (
    EPS,
    dense_jacobian,
    dense_product,
    random_parameters,
    rounding,
    seeds,
    uniform_parameters,
)
from theory.chains.directions import haar_orthogonal


@settings(deadline=None, max_examples=80)
@given(seed=seeds(), depth=st.integers(1, 6), d=st.integers(2, 12))
def test_generated_chains_have_the_prescribed_numbers(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    # An SVD finds u and v to about eps / (1 - xi): keep away from degeneracy, and allow for it.
    parameters = ChainParameters(
        base.sigma, np.minimum(base.gap, 0.99), base.alignment, base.injection_along, base.injection_across
    )
    measured = theory.measure(theory.make_chain(parameters, d, rng))
    slack = 20 * d * EPS / (1 - parameters.gap.max())
    np.testing.assert_allclose(measured.sigma, parameters.sigma, rtol=20 * d * EPS)
    np.testing.assert_allclose(measured.gap, parameters.gap, atol=20 * d * EPS)
    np.testing.assert_allclose(measured.alignment[1:], parameters.alignment[1:], atol=slack)
    np.testing.assert_allclose(measured.injection_along, parameters.injection_along, atol=2 * slack)
    np.testing.assert_allclose(measured.injection_across, parameters.injection_across, atol=2 * slack)
    assert measured.bulk_gap is not None
    np.testing.assert_allclose(measured.bulk_gap, parameters.gap, atol=20 * d * EPS)
    assert np.isnan(measured.alignment[0])


def test_residual_annihilates_the_dominant_pair() -> None:
    rng = np.random.default_rng(5)
    chain = theory.make_chain(random_parameters(rng, 8), 10, rng)
    tolerance = 10 * rounding(1, 10)
    assert np.abs(np.einsum("lij,lj->li", chain.residual, chain.v)).max() < tolerance
    assert np.abs(np.einsum("lij,li->lj", chain.residual, chain.u)).max() < tolerance


def test_bulk_gap_and_coherent_injection_are_prescribed_too() -> None:
    rng = np.random.default_rng(6)
    parameters = ChainParameters(
        sigma=np.array([1.0, 2.0, 0.5]),
        gap=np.array([0.8, 0.5, 0.3]),
        alignment=np.array([np.nan, 0.3, 0.99]),
        injection_along=np.array([1.0, 2.0, 0.5]),
        injection_across=np.array([0.2, 0.0, 1.0]),
        injection_coherent=np.array([0.5, -2.0, 0.0]),
        bulk_gap=np.array([0.4, 0.5, 0.2]),
    )
    chain = theory.make_chain(parameters, 9, rng)
    measured = theory.measure(chain, direction=np.eye(9)[0])
    assert measured.bulk_gap is not None and measured.injection_coherent is not None
    np.testing.assert_allclose(measured.bulk_gap, parameters.bulk_gap, rtol=200 * EPS)
    np.testing.assert_allclose(np.abs(measured.injection_coherent), [0.5, 2.0, 0.0], atol=400 * EPS)
    np.testing.assert_allclose(
        chain.u[:, None, :] @ chain.injection[:, :, :1], np.array([0.5, -2, 0])[:, None, None], atol=100 * EPS
    )


def test_misalignment_keeps_angles_that_alignment_loses() -> None:
    parameters = ChainParameters(
        sigma=np.ones(2),
        gap=np.full(2, 0.1),
        alignment=np.array([np.nan, 1.0]),
        injection_along=np.ones(2),
        injection_across=np.zeros(2),
        misalignment=np.array([np.nan, 1e-9]),
    )
    chain = theory.make_chain(parameters, 8, np.random.default_rng(7))
    across = chain.v[1] - (chain.v[1] @ chain.u[0]) * chain.u[0]
    assert np.linalg.norm(across) == pytest.approx(1e-9, rel=1e-6)  # rounding of unit vectors is 1e-16 of 1e-9


@pytest.mark.parametrize(
    ("parameters", "d", "message"),
    [
        (uniform_parameters(2, gap=0.1), 1, "dimension must be at least 2"),
        (uniform_parameters(2, gap=0.1, bulk_gap=0.2), 5, "bulk_gap must lie in"),
        (uniform_parameters(2), 0, "dimension must be an integer of at least 1"),
    ],
)
def test_impossible_chains_are_refused(parameters: ChainParameters, d: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        theory.make_chain(parameters, d, np.random.default_rng(0))


@settings(deadline=None, max_examples=25)
@given(seed=seeds(), depth=st.sampled_from([1, 4]))
def test_T2_recurrence_is_the_sum_over_injections(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    chain = theory.make_chain(random_parameters(rng, depth), 5, rng, context_dimension=3)
    found = theory.context_jacobians(chain).dense()[-1]
    expected = dense_jacobian(chain.propagators, chain.injections)
    np.testing.assert_allclose(found, expected, atol=rounding(depth, 5) * 2.5**depth * 3)
    product = theory.products(chain).dense()[-1]
    np.testing.assert_allclose(product, dense_product(chain.propagators), atol=rounding(depth, 5) * 2.5**depth)


def test_batched_chains_give_what_single_ones_give() -> None:
    rng = np.random.default_rng(8)
    chains = [theory.make_chain(random_parameters(rng, 3), 4, rng) for _ in range(4)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 2, *leaves[0].shape), *chains)
    together = theory.context_jacobians(batch)
    assert together.matrix.shape == (2, 2, 3, 4, 4)
    for index, chain in enumerate(chains):
        np.testing.assert_allclose(
            together.matrix[index // 2, index % 2], theory.context_jacobians(chain).matrix, atol=rounding(3, 4)
        )


def test_products_of_any_depth_neither_overflow_nor_vanish() -> None:
    for sigma in (1e-3, 1e3):
        chain = theory.twisted_chain(1.0, 0.5, 2000, sigma=sigma)
        product = theory.products(chain)
        np.testing.assert_allclose(product.log_norm()[-1], 2000 * np.log(sigma), rtol=1e-12)
        ratio, resolved = product.log_ratio()
        # (xi = 1/2)^l, until rounding would make it
        np.testing.assert_allclose(ratio[:20], -np.log(2) * np.arange(1, 21), rtol=1e-6)
        assert resolved[:20].all() and not resolved[-1]
        # The floor: eps a layer, times the size of a layer's terms, here 1.5, twice over.
        assert ratio[-1] == pytest.approx(np.log(2000 * 3 * EPS), abs=1e-3)


def test_T22_aligned_rank_one_chains_multiply_exactly() -> None:
    rng = np.random.default_rng(9)
    sigma = rng.uniform(0.5, 2, 12)
    parameters = ChainParameters(sigma, np.zeros(12), np.ones(12), np.ones(12), np.zeros(12))
    product = theory.products(theory.make_chain(parameters, 6, rng))
    np.testing.assert_allclose(product.log_norm(), np.cumsum(np.log(sigma)), atol=12 * rounding(1, 6))
    assert not product.log_ratio()[1].any()


def test_T22_orthogonal_chains_keep_every_singular_value() -> None:
    rng = np.random.default_rng(10)
    chain = theory.make_chain(uniform_parameters(30, sigma=0.7, gap=1.0, alignment=0.4), 8, rng)
    s = theory.products(chain)
    np.testing.assert_allclose(
        s.singular_values()[-1] * np.exp(s.log_scale[-1]), np.full(8, 0.7**30), rtol=2 * rounding(30, 8)
    )


def test_T22_gaussian_products_have_newmans_exponents() -> None:
    """lambda_i = (psi((d - i + 1) / 2) + ln 2 - ln d) / 2; the mean of ln ||A x|| over layers estimates the first."""
    d, depth, chains = 6, 400, 24
    rng = np.random.default_rng(11)
    layers = rng.standard_normal((chains, depth, d, d)) / np.sqrt(d)
    zeros = np.zeros((chains, depth))
    chain = theory.Chain(
        zeros, np.zeros((chains, depth, d)), np.zeros((chains, depth, d)), layers, np.zeros_like(layers)
    )
    log_norm = theory.products(chain).log_norm()
    growth = (log_norm[:, -1] - log_norm[:, 99]) / (depth - 100)
    exact = (digamma(d / 2) + np.log(2) - np.log(d)) / 2
    error = growth.std(ddof=1) / np.sqrt(chains)
    assert abs(growth.mean() - exact) < 4 * error
    assert error < 0.01
    # The second exponent by the second compound: ln |det| of the QR factors, Lyapunov style.
    frame = np.broadcast_to(np.eye(d)[:, :2], (chains, d, 2))
    total = np.zeros(chains)
    for layer in range(depth):
        frame, r = np.linalg.qr(layers[:, layer] @ frame)
        total += np.log(np.abs(r[:, 0, 0] * r[:, 1, 1]))
    both = total / depth
    second = (digamma((d - 1) / 2) + np.log(2) - np.log(d)) / 2
    assert abs(both.mean() - exact - second) < 4 * both.std(ddof=1) / np.sqrt(chains)


def test_T22_random_directions_have_the_exact_mean_alignment() -> None:
    rng = np.random.default_rng(12)
    for d in (1, 2, 3, 40):
        sample = theory.measured_random_alignment(d, 20000, rng)
        exact = theory.mean_random_alignment(d)
        assert abs(sample.mean() - exact) <= 4 * sample.std() / np.sqrt(sample.size) + 4 * EPS
    assert theory.mean_random_alignment(3) == pytest.approx(0.5, rel=8 * EPS)
    assert theory.mean_random_alignment(10**6) == pytest.approx(np.sqrt(2 / np.pi / 1e6), rel=1e-6)


def test_haar_matrices_are_haar_in_their_first_entry_and_trace() -> None:
    """E tr Q = 0 and E (tr Q)^2 = 1 for Haar O(d), d >= 2; a QR without the sign fix has E tr Q < 0 clearly."""
    rng = np.random.default_rng(13)
    traces = np.array([np.trace(haar_orthogonal(rng, 4)) for _ in range(4000)])
    assert abs(traces.mean()) < 4 / np.sqrt(traces.size)
    # Var of (tr Q)^2 is about 2 (a near-normal trace)
    assert abs(np.mean(traces**2) - 1) < 4 * np.sqrt(2 / traces.size)


def test_measure_refuses_non_finite_layers() -> None:
    layers = np.full((2, 3, 3), np.nan)
    with pytest.raises(ValueError, match="must be finite"):
        theory.measure(layers, np.ones((2, 3, 1)))


def test_measured_injections_keep_their_size_where_squares_underflow() -> None:
    """||u^T B|| at 1e-170, whose square is below the least float64; and u^T B w stays within it (T27 asks that)."""
    chain = theory.twisted_chain(0.6, 0.3, 4)
    parameters = theory.measure(np.asarray(chain.propagators), 1e-170 * np.ones((4, 2, 2)), np.array([0.6, 0.8]))
    sizes = np.abs(chain.u.sum(axis=1)) * 1e-170 * np.sqrt(2)
    np.testing.assert_allclose(parameters.injection_along, sizes, rtol=1e-14)
    assert parameters.injection_coherent is not None
    assert (np.abs(parameters.injection_coherent) <= parameters.injection_along).all()


def test_measured_alignment_of_orthogonal_directions_is_not_negative() -> None:
    """Two sums of the same products round differently; |<v, u>| of about 1e-17 came out as -3e-17 and was refused."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        chain = theory.flat_chain(5, 5, rng, gap=0.4, alignment=0.0)
        assert (theory.measure(chain).alignment[1:] >= 0).all()


def test_the_measured_coherent_part_has_the_sign_the_injections_were_given() -> None:
    """(T3) leaves one sign for a whole chain, which an SVD takes at random; conditions 3a-c are c_l > 0."""
    rng = np.random.default_rng(1)
    for _ in range(8):
        chain = theory.inject_coherent(
            theory.flat_chain(6, 7, rng, gap=0.1, alignment=0.9), rng, along=1.0, across=0.1, context_dimension=3
        )
        measured = theory.measure(chain, direction=np.eye(3)[0]).injection_coherent
        np.testing.assert_allclose(measured, np.ones(6), rtol=1e-12)


@pytest.mark.parametrize("direction", [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0], [np.nan, 0.0, 0.0]])
def test_a_direction_that_is_no_unit_vector_is_refused(direction: list[float]) -> None:
    chain = theory.inject_none(theory.flat_chain(2, 4, np.random.default_rng(0), gap=0.1, alignment=0.9), 3)
    with pytest.raises(ValueError, match=r"direction must be a unit vector of shape \(3,\)"):
        theory.measure(chain, direction=np.array(direction))


@pytest.mark.parametrize("depth", [math.inf, 1e300, 2**64, math.nan, -1, 0, True, "3"])
def test_a_depth_beyond_integers_is_refused(depth: object) -> None:
    with pytest.raises(ValueError, match=r"depth must be an integer of at least 1"):
        theory.first_order_error(depth, 0.5, 0.1)
