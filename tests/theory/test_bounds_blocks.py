"""Coarse-graining (T17): blocks are a chain with the same J_L, their certificates hold and tighten to it."""

import math
from dataclasses import fields

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from tests.helpers.chains import EPS, dense_jacobian, random_parameters, rounding, seeds
from theory.bounds.blocks import join_blocks


def residual_layers(rng: np.random.Generator, depth: int, d: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """A = I + F with ||F|| about 0.6, and injections of norm about 1."""
    propagators = np.eye(d) + 0.3 * rng.standard_normal((depth, d, d)) / math.sqrt(d)
    return propagators, rng.standard_normal((depth, d, m)) / math.sqrt(d)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7])
def test_T17_blocks_have_the_jacobian_of_their_chain(block: int) -> None:
    a, b = residual_layers(np.random.default_rng(block), 7, 5, 3)
    blocks = join_blocks(a, block, b)
    assert len(blocks) == -(-7 // block)
    dense = [(one.matrix * 2.0**one.exponent, other.matrix * 2.0**other.exponent) for one, other in blocks]
    joined = dense_jacobian(np.array([one for one, _ in dense]), np.array([other for _, other in dense]))
    # 7 products of layers of norm at most 2
    np.testing.assert_allclose(joined, dense_jacobian(a, b), atol=7 * 5 * EPS * 2.0**7)


def test_T17_blocks_of_one_layer_are_the_chain_as_measured() -> None:
    rng = np.random.default_rng(1)
    chain = theory.make_chain(random_parameters(rng, 6), 5, rng, context_dimension=3)
    w = np.eye(3)[0]
    one, measured = theory.coarse_grain(chain, 1, direction=w), theory.measure(chain, direction=w)
    for field in fields(one):
        name = field.name
        # the layers are scaled by powers of 2 and decomposed again
        np.testing.assert_allclose(getattr(one, name), getattr(measured, name), rtol=1e-12, atol=1e-13, err_msg=name)


def test_T17_last_block_is_shorter() -> None:
    a, b = residual_layers(np.random.default_rng(2), 7, 4, 2)
    parameters = theory.coarse_grain(a, 3, b)
    assert parameters.depth == 3
    assert parameters.sigma[-1] == pytest.approx(np.linalg.norm(a[6], 2), rel=1e-14)
    assert parameters.sigma[0] == pytest.approx(np.linalg.norm(a[2] @ a[1] @ a[0], 2), rel=1e-13)


@settings(deadline=None, max_examples=40)
@given(seed=seeds(), depth=st.integers(1, 9), d=st.integers(1, 6), m=st.integers(1, 4))
def test_T17_holds_at_every_block_size(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = residual_layers(rng, depth, d, m)
    b = b * (rng.random((depth, 1, 1)) < 0.8)
    s = np.linalg.svd(dense_jacobian(a, b), compute_uv=False)
    size = 0.0
    for one, other in zip(a, b, strict=True):
        size = np.linalg.norm(one, 2) * size + np.linalg.norm(other, 2)
    slack = rounding(depth, max(d, m)) * size
    table = theory.certify_blocks(a, b, direction=np.eye(m)[0])
    assert [row.block for row in table.rows] == list(range(1, depth + 1))
    assert [row.block for row in table.rows if row.headline] == list(range(1, depth // 2 + 1))
    for row in table.rows:
        for lower, upper, second in (
            (row.log_norm_lower, row.log_norm_upper, row.log_sigma2_upper),
            (row.cone.log_norm_lower, row.cone.log_norm_upper, row.cone.log_sigma2_upper),
        ):
            assert math.exp(lower) - slack <= s[0] <= math.exp(upper) + slack
            if s.size > 1:
                assert s[1] <= math.exp(second) + slack


def test_T17_one_block_is_the_jacobian_and_larger_blocks_say_more() -> None:
    """upper / true at m = L is hypot(||u^T J||, ||(I - u u^T) J||) / ||J|| <= sqrt 2."""
    a, b = residual_layers(np.random.default_rng(3), 8, 16, 6)
    table = theory.certify_blocks(a, b)
    excess = [row.log_upper_over_true for row in table.rows]
    assert 0 <= excess[-1] <= 0.5 * math.log(2) + 1e-12
    assert excess[0] > excess[1] > excess[3] > excess[7]
    assert table.headline is not None and table.headline.block == 4
    assert table.rows[0].gap_largest > table.rows[3].gap_largest


def test_T17_carries_the_scale_where_coarse_grain_cannot() -> None:
    """sigma = 1e150, ten layers a block: ln sigma of a block is 3454, beyond float64."""
    chain = theory.twisted_chain(0.9, 0.1, 40, sigma=1e150)
    with pytest.raises(ValueError, match=r"within float64; got sigma = exp\(345.*certify_blocks"):
        theory.coarse_grain(chain, 10)
    unit = theory.twisted_chain(0.9, 0.1, 40, sigma=1.0)
    big, small = theory.certify_blocks(chain, blocks=[10]), theory.certify_blocks(unit, blocks=[10])
    # J_L = A^39 B + ...: the first injection's 39 factors alone remain at 1e150
    assert big.log_norm == pytest.approx(39 * math.log(1e150) + 39 * math.log(theory.max_rate(0.9, 0.1)), abs=0.1)
    assert math.isfinite(big.rows[0].cone.log_norm_upper)
    assert 0 <= big.rows[0].log_upper_over_true <= small.rows[0].log_upper_over_true + 1.0


@pytest.mark.parametrize("block", [0, 8, 1.5])
def test_T17_block_sizes_outside_the_chain_are_refused(block: float) -> None:
    a, b = residual_layers(np.random.default_rng(4), 7, 4, 2)
    with pytest.raises(ValueError, match="block must be"):
        theory.coarse_grain(a, block, b)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="block must be"):
        theory.certify_blocks(a, b, blocks=[block])  # pyright: ignore[reportArgumentType]


def test_chains_that_are_none_are_refused_by_name() -> None:
    a, b = residual_layers(np.random.default_rng(5), 3, 4, 2)
    with pytest.raises(ValueError, match="injections must be given"):
        theory.certify_blocks(a)
    with pytest.raises(ValueError, match="one chain"):
        theory.certify_blocks(a[None], b)
    with pytest.raises(ValueError, match=r"injections must have shape \(3, 4\)"):
        theory.certify_blocks(a, b[:2])
    with pytest.raises(ValueError, match="finite"):
        theory.certify_blocks(np.where(a == a[0, 0, 0], np.nan, a), b)
    with pytest.raises(ValueError, match="direction must be a unit vector"):
        theory.certify_blocks(a, b, direction=np.ones(2))
    with pytest.raises(TypeError, match="tracer"):
        jax.jit(lambda x: theory.certify_blocks(x, b).log_norm)(a)
