"""Rates (T5)-(T7), (P1) and (T12) against their limits, reference values and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from tests.helpers.chains import EPS, unit_floats

GRID = np.linspace(0.0, 1.0, 2001)


@settings(deadline=None)
@given(kappa=unit_floats(), xi=unit_floats())
def test_rates_are_roots_of_their_quadratics_and_bracket_the_alignment(kappa: float, xi: float) -> None:
    top = theory.max_rate(kappa, xi)
    assert kappa <= top <= 1
    # Lambda_max^2 = kappa (1 - xi) Lambda_max + xi: every term is at most 1, so a few eps.
    assert abs(top**2 - kappa * (1 - xi) * top - xi) <= 8 * EPS
    low = theory.min_rate(kappa, xi)
    if kappa >= theory.critical_alignment(xi):
        assert np.sqrt(xi) <= low <= max(kappa, np.sqrt(xi))
        assert abs(low**2 - kappa * (1 + xi) * low + xi) <= 16 * EPS
    else:
        assert np.isnan(low)


def test_limits_of_T5() -> None:
    np.testing.assert_array_equal(theory.max_rate(1.0, GRID), 1.0)
    np.testing.assert_allclose(theory.max_rate(0.0, GRID), np.sqrt(GRID), rtol=2 * EPS)
    np.testing.assert_array_equal(theory.max_rate(GRID, 0.0), GRID)
    np.testing.assert_array_equal(theory.max_rate(GRID, 1.0), 1.0)


def test_limits_of_T6() -> None:
    np.testing.assert_allclose(theory.min_rate(1.0, GRID), 1.0, rtol=2 * EPS)
    np.testing.assert_allclose(theory.min_rate(GRID, 0.0), GRID, rtol=4 * EPS)


def test_min_rate_at_the_critical_alignment_is_exactly_the_root_of_the_gap() -> None:
    gap = np.concatenate([GRID, np.random.default_rng(0).random(20000), 10.0 ** -np.arange(1, 300)])
    np.testing.assert_array_equal(theory.min_rate(theory.critical_alignment(gap), gap), np.sqrt(gap))


def test_min_rate_just_above_and_below_critical() -> None:
    gap = np.random.default_rng(1).uniform(1e-6, 0.99, 5000)
    critical = theory.critical_alignment(gap)
    assert np.isfinite(theory.min_rate(np.minimum(np.nextafter(critical, 2), 1), gap)).all()
    assert np.isnan(theory.min_rate(np.nextafter(critical, 0), gap)).all()


@pytest.mark.parametrize(
    ("kappa", "xi", "depth", "first_order", "bound"),
    [
        (0.1, 0.001, 10, 0.1000, 1.0468),
        (0.3, 0.01, 20, 0.6667, 4.3244),
        (0.5, 0.01, 32, 0.6400, 1.4495),
        (0.9, 0.01, 32, 0.3556, 0.0789),
        (0.99, 0.01, 64, 0.6465, 0.0143),
        (0.9, 0.05, 64, 3.5556, 1.1825),
    ],
)
def test_reference_values_of_P1_and_T12(kappa: float, xi: float, depth: int, first_order: float, bound: float) -> None:
    assert theory.first_order_error(depth, kappa, xi) == pytest.approx(first_order, abs=5.1e-5)
    error = theory.perturbation_error(np.full(depth, kappa), np.full(depth, xi))
    assert error == pytest.approx(bound, abs=5.1e-5)
    np.testing.assert_allclose(theory.perturbation_error(jnp.full(depth, kappa), jnp.full(depth, xi)), error, rtol=1e-4)


def test_T12_at_perfect_alignment_is_the_product_of_gaps_and_reads_misalignment() -> None:
    gaps = np.array([0.5, 0.2, 0.1, 0.3])
    one = np.array([np.nan, 1.0, 1.0, 1.0])
    assert theory.perturbation_error(one, gaps) == pytest.approx(np.prod(gaps), rel=4 * EPS)
    # An angle of 1e-9 is lost in kappa = 1 and kept by s: the error is then s b_{L-1} + ..., not prod xi.
    angle = np.array([np.nan, 1e-9, 1e-9, 1e-9])
    tiny = np.full(4, 1e-8)
    assert theory.perturbation_error(one, tiny, angle) > 1e15 * theory.perturbation_error(one, tiny)


def test_T12_never_reads_the_first_alignment_and_is_inf_without_a_path() -> None:
    gap = np.full(3, 0.1)
    values = {theory.perturbation_error(np.array([first, 0.9, 0.8]), gap) for first in (np.nan, 0.0, 1.0, 7.0)}
    assert len(values) == 1
    assert theory.perturbation_error(np.array([1.0, 0.5, 0.0]), gap) == np.inf
    assert theory.perturbation_error(np.array([1.0]), np.array([0.25])) == 0.25
    assert theory.perturbation_error(np.full(400, 1e-5), np.full(400, 1.0)) == np.inf
    assert theory.first_order_error(4, 0.0, 0.1) == np.inf


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, 1 + 100 * EPS])
def test_values_outside_the_unit_interval_are_refused_by_name(bad: float) -> None:
    for call in (
        lambda: theory.max_rate(bad, 0.5),
        lambda: theory.min_rate(bad, 0.5),
        lambda: theory.first_order_error(3, bad, 0.5),
        lambda: theory.perturbation_error([0.0, bad], [0.5, 0.5]),
    ):
        with pytest.raises(ValueError, match=r"alignment must lie in \[0, 1\]; got"):
            call()
    for call in (
        lambda: theory.max_rate(0.5, bad),
        lambda: theory.critical_alignment(np.array([0.5, bad])),
        lambda: theory.critical_alignment(jnp.asarray(bad)) if abs(bad - 1) > 1e-6 else theory.min_rate(0.5, bad),
        lambda: theory.perturbation_error([0.0, 0.5], [0.5, bad]),
    ):
        with pytest.raises(ValueError, match=r"gap must lie in \[0, 1\]; got"):
            call()


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_values_outside_the_unit_interval_are_refused_under_jit_too(bad: float) -> None:
    pair, row = jnp.array([0.5, bad]), jnp.array([0.5, 0.5])
    for call, first in (
        (theory.max_rate, pair),
        (jax.vmap(theory.min_rate), pair),
        (jax.grad(lambda kappa, xi: theory.max_rate(kappa, xi).sum()), pair),
        (theory.perturbation_error, pair),
    ):
        with pytest.raises(Exception, match=r"alignment must lie in \[0, 1\]"):
            jax.block_until_ready(jax.jit(call)(first, row))
    unread = jax.jit(theory.perturbation_error)(jnp.array([bad, 0.5]), row)
    assert float(unread) == float(theory.perturbation_error(row, row))


def test_rounding_above_one_is_taken_as_one() -> None:
    above = 1 + 8 * EPS
    assert theory.max_rate(above, 0.3) == theory.max_rate(1.0, 0.3) == 1.0
    assert theory.min_rate(above, 0.3) == theory.min_rate(1.0, 0.3)
    assert theory.perturbation_error([0.0, above], [0.1, 0.1]) == theory.perturbation_error([0.0, 1.0], [0.1, 0.1])


@pytest.mark.parametrize("depth", [0, -1, 1.5, True])
def test_depth_must_be_a_positive_integer(depth: object) -> None:
    with pytest.raises(ValueError, match="depth must be an integer of at least 1"):
        theory.first_order_error(depth, 0.5, 0.1)


def test_numpy_input_is_computed_in_float64_while_jax_defaults_to_float32() -> None:
    assert jax.config.jax_enable_x64 is False
    assert isinstance(theory.max_rate(0.5, 0.1), np.float64)
    assert theory.max_rate(np.float32(0.5), np.float32(0.25)).dtype == np.float64
    assert theory.max_rate(jnp.float32(0.5), 0.25).dtype == jnp.float32


def test_rates_in_jax_are_jitted_vmapped_and_differentiated() -> None:
    kappa, xi = jnp.linspace(0.7, 0.95, 5), jnp.full(5, 0.02)
    eps32 = float(jnp.finfo(jnp.float32).eps)
    for rate in (theory.max_rate, theory.min_rate):
        np.testing.assert_allclose(jax.jit(rate)(kappa, xi), rate(np.asarray(kappa), np.asarray(xi)), rtol=8 * eps32)
        step = 1e-6
        slope = (rate(0.9 + step, 0.02) - rate(0.9 - step, 0.02)) / (2 * step)
        assert float(jax.grad(rate)(jnp.float32(0.9), jnp.float32(0.02))) == pytest.approx(float(slope), rel=1e-4)
    assert np.isfinite(jax.grad(theory.max_rate)(0.0 * kappa[0], 0.0 * xi[0]))
    jitted = jax.jit(theory.perturbation_error)(jnp.full(10, 0.1), jnp.full(10, 0.001))
    assert float(jitted) == pytest.approx(1.0467905, rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(kappa=unit_floats(0.05, 1.0), xi=unit_floats(), more=unit_floats(), depth=st.integers(1, 20))
def test_T12_grows_with_the_gap(kappa: float, xi: float, more: float, depth: int) -> None:
    low, high = sorted((xi, more))
    alignment = np.full(depth, kappa)
    assert theory.perturbation_error(alignment, np.full(depth, low)) <= theory.perturbation_error(
        alignment, np.full(depth, high)
    )
