"""Both reductions against dense chains: (T23) in law, (T24) pathwise."""

import jax
import numpy as np
import pytest
from scipy import stats

import theory
from observables import ChainParameters
from tests.helpers.chains import EPS, uniform_parameters
from theory.chains.directions import haar_orthogonal
from theory.propagation.reduction import log_singular_values, pulled_back
from theory.propagation.reduction_in_law import haar_block

# Two samples of 800 and 8000: Kolmogorov-Smirnov at level 1e-4 refuses a difference of distribution functions of 0.083,
# and finds one of 0.12 with probability above 0.99. Seeds are fixed; 1e-4 is what a change of seed may cost.
DENSE, DRAWN, LEVEL = 800, 8000, 1e-4


def varying(seed: int, depth: int = 5) -> ChainParameters:
    """Numbers that differ in every layer."""
    rng = np.random.default_rng(seed)
    return ChainParameters(
        sigma=rng.uniform(0.8, 1.5, depth),
        gap=rng.uniform(0.2, 0.9, depth),
        alignment=rng.uniform(0.1, 0.9, depth),
        injection_along=rng.uniform(0.5, 1, depth),
        injection_across=rng.uniform(0.3, 1, depth),
    )


def dense_sample(parameters: ChainParameters, d: int, m: int, seed: int) -> theory.Scaled:
    rng = np.random.default_rng(seed)
    chains = [theory.make_chain(parameters, d, rng, context_dimension=m) for _ in range(DENSE)]
    return theory.context_jacobians(jax.tree.map(lambda *leaves: np.stack(leaves), *chains))


@pytest.mark.parametrize(("d", "m"), [(12, 3), (24, 4), (6, 4), (5, 4)])
def test_T23_has_the_law_of_dense_chains(d: int, m: int) -> None:
    """d - 1 - m at least m, between 0 and m, and 0: each its own way to draw the Haar frame."""
    parameters = varying(d)
    dense = dense_sample(parameters, d, m, d)
    drawn = theory.reduced_jacobians(parameters, d, np.random.default_rng(d + 1), n=DRAWN, context_dimension=m)
    norms, ratios = dense.log_norm(), dense.log_ratio().log_value
    for layer in (0, 1, 4):
        if layer == 0:  # J_1 = beta u w^T + b Q is not random in its singular values
            np.testing.assert_allclose(drawn.log_norm[:, 0], norms[0, 0], atol=32 * EPS)
            continue
        assert stats.ks_2samp(norms[:, layer], drawn.log_norm[:, layer]).pvalue > LEVEL
        assert stats.ks_2samp(ratios[:, layer], drawn.log_ratio.log_value[:, layer]).pvalue > LEVEL


def test_T23_test_can_fail() -> None:
    """A gap 15 % off, or another dimension, is refused at the same level."""
    parameters = varying(12)
    dense = dense_sample(parameters, 12, 3, 12).log_ratio().log_value[:, 4]
    off = ChainParameters(
        parameters.sigma,
        0.85 * parameters.gap,
        parameters.alignment,
        parameters.injection_along,
        parameters.injection_across,
    )
    for wrong, d in ((off, 12), (parameters, 36)):
        drawn = theory.reduced_jacobians(wrong, d, np.random.default_rng(1), n=DRAWN, context_dimension=3)
        assert stats.ks_2samp(dense, drawn.log_ratio.log_value[:, 4]).pvalue < LEVEL


@pytest.mark.parametrize(("size", "m"), [(11, 4), (6, 4), (4, 4)])
def test_haar_blocks_have_orthonormal_columns_and_the_law_of_haar_matrices(size: int, m: int) -> None:
    block = haar_block(np.random.default_rng(size), 3000, size, m)
    gram = np.swapaxes(block, 1, 2) @ block
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(m), gram.shape), atol=32 * EPS)
    dense = haar_orthogonal(np.random.default_rng(size + 1), size, (3000,))[:, :m, :m]
    for statistic in (
        lambda x: np.trace(x, axis1=1, axis2=2),
        lambda x: x[:, 0, 0],
        lambda x: x[:, 1, 2],
        lambda x: np.sum(x**2, axis=(1, 2)) + 1e-13 * x[:, 0, 0],  # no ties where the sum is m
    ):
        assert stats.ks_2samp(statistic(block[:, :m]), statistic(dense)).pvalue > LEVEL


def test_a_frame_without_the_sign_fix_is_not_haar() -> None:
    """The QR of a Gaussian matrix as LAPACK returns it: the trace gives it away (E tr is 0 for Haar)."""
    raw = np.linalg.qr(np.random.default_rng(2).standard_normal((3000, 4, 4)))[0]
    block = haar_block(np.random.default_rng(3), 3000, 4, 4)
    traces = (np.trace(x, axis1=1, axis2=2) for x in (raw, block))
    assert stats.ks_2samp(*traces).pvalue < LEVEL


def test_T23_depends_on_the_dimension_no_more_than_chance_at_any_size() -> None:
    """d = 10^6 costs what d = 12 does; there the draws are nearly certain: spread like crossover_width or below."""
    parameters = uniform_parameters(200, sigma=1.1, gap=0.3, alignment=0.9, across=0.5)
    drawn = theory.reduced_jacobians(
        parameters, 10**6, np.random.default_rng(4), n=16, context_dimension=4, last_only=True
    )
    assert drawn.log_norm.shape == (16,)
    assert drawn.log_norm.std() < 200 * float(theory.crossover_width(0.9, 0.3, 200, 10**6)) * 4
    assert drawn.log_ratio.resolved.all()


def test_T23_keeps_ratios_that_a_gram_matrix_would_lose() -> None:
    """sigma_2 / sigma_1 of 1e-11 from aligned layers, where b xi^k stays and beta sigma^L grows: exact by hand."""
    depth, sigma = 60, 1.55
    parameters = ChainParameters(
        sigma=np.full(depth, sigma),
        gap=np.full(depth, 0.0),
        alignment=np.ones(depth),
        injection_along=np.ones(depth),
        injection_across=np.full(depth, 0.3),
    )
    drawn = theory.reduced_jacobians(parameters, 50, np.random.default_rng(5), n=4, context_dimension=3, last_only=True)
    along = (sigma**depth - 1) / (sigma - 1)
    np.testing.assert_allclose(drawn.log_norm, np.log(along), atol=depth * 8 * EPS)
    assert drawn.log_ratio.resolved.all()
    np.testing.assert_allclose(drawn.log_ratio.log_value, np.log(0.3 / along), rtol=1e-4)


def test_T23_bad_requests_are_refused_by_name() -> None:
    rng = np.random.default_rng(6)
    flat = uniform_parameters(3, gap=0.5, alignment=0.5)
    for parameters, d, m, n, message in (
        (flat, 3, 3, 1, "dimension must be at least context_dimension . 1 = 4; got 3"),
        (flat, 5, 0, 1, "context_dimension must be an integer of at least 1; got 0"),
        (flat, 5, 2, 0, "n must be an integer of at least 1; got 0"),
        (uniform_parameters(3, gap=0.5, bulk_gap=0.4), 5, 2, 1, "bulk_gap must equal gap"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.reduced_jacobians(parameters, d, rng, n=n, context_dimension=m)


@pytest.mark.parametrize("isometry", ["haar", "reflection"])
def test_T24_holds_pathwise_with_sigma_gap_and_alignment_varying_by_layer(isometry: str) -> None:
    """To 1e-13 in ln sigma_1 and ln sigma_2 at depth 40: 40 layers of 16 eps."""
    rng = np.random.default_rng(7)
    depth, d = 40, 10
    chain = theory.flat_chain(
        depth,
        d,
        rng,
        sigma=rng.uniform(0.5, 2, depth),
        gap=rng.uniform(0.1, 1, depth),
        alignment=rng.uniform(0, 1, depth),
        isometry=isometry,  # pyright: ignore[reportArgumentType]
    )
    w, gap, sigma, turn = pulled_back(chain)
    # Their neighbours' products are those of the layers' directions (T3), to the orthogonality of the rotations.
    kappa = np.einsum("ld,ld->l", chain.v[1:], chain.u[:-1])
    np.testing.assert_allclose(np.einsum("ld,ld->l", w[1:], w[:-1]), kappa, atol=depth * 64 * EPS)
    product = np.eye(d)
    for layer in range(depth):
        product = sigma[layer] * (gap[layer] * product + (1 - gap[layer]) * np.outer(w[layer], w[layer] @ product))
    dense = theory.products(chain, last_only=True)
    np.testing.assert_allclose(turn @ product / np.exp(float(dense.log_scale)), dense.matrix, atol=depth * 64 * EPS)
    first, second = log_singular_values(w[None], gap[None], sigma[None])
    found = theory.log_singular_values(chain, 2)
    np.testing.assert_allclose([first[0], second[0]], found.log_value, atol=1e-13)


def test_T24_refuses_chains_that_have_no_rotation() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match="gap must be above 0 in every layer"):
        pulled_back(theory.flat_chain(3, 4, rng, gap=0.0, alignment=0.5))
    with pytest.raises(ValueError, match="residual must have d - 1 equal singular values"):
        pulled_back(theory.twisted_chain(0.5, 0.5, 3, dimension=3))
    with pytest.raises(ValueError, match="chain must be one chain"):
        pulled_back(theory.flat_chain(3, 4, rng, gap=0.5, alignment=0.5, batch=(2,)))
