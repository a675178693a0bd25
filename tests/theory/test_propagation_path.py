"""The dominant path: its error, and q / p, keep their digits at any depth; (P1), (T4), (T12)."""

from typing import Any

import mpmath as mp
import numpy as np
import pytest

import theory
from tests.helpers.chains import EPS, random_parameters, uniform_parameters
from tests.helpers.multiprecision import exact_layer


def column(values: Any) -> Any:
    """A stored vector in mpmath."""
    return mp.matrix([mp.mpf(float(x)) for x in values])


def exact_path(chain: theory.Chain, digits: int) -> np.ndarray:
    """ln ||P*||, ln relative error and ln q / p at every depth, shape (L, 3), by subtraction in many digits."""
    rows = []
    with mp.workdps(digits):
        product, path, v_1 = mp.eye(chain.dimension), mp.mpf(1), column(chain.v[0])
        for layer in range(chain.depth):
            u = column(chain.u[layer])
            if layer:
                path *= (column(chain.v[layer]).T * column(chain.u[layer - 1]))[0]
            path *= mp.mpf(float(chain.sigma[layer]))
            product = exact_layer(chain, layer) * product
            stray = mp.svd_r(product - path * u * v_1.T, compute_uv=False)[0]
            image = product * v_1
            along = (u.T * image)[0]
            across = mp.norm(image - along * u) / abs(along)
            rows.append([float(mp.log(x)) if x > 0 else -np.inf for x in (abs(path), stray / abs(path), across)])
    return np.array(rows)


@pytest.mark.parametrize(
    ("gap", "alignment"), [(0.3, 0.6), (1e-4, 0.99), (0.3, 0.05), (0.2, 1 - 1e-12), (0.9, 0.9), (1.0, 0.5)]
)
def test_path_error_and_turn_agree_with_mpmath(gap: float, alignment: float) -> None:
    """Relative digits: eps over the misalignment s that the stored directions resolve, a few of it a layer."""
    rng = np.random.default_rng(1)
    chain = theory.make_chain(uniform_parameters(40, sigma=1.3, gap=gap, alignment=alignment), 3, rng)
    found, exact = theory.dominant_path(chain), exact_path(chain, 100)
    tolerance = 40 * 16 * EPS / np.sqrt((1 - alignment) * (1 + alignment))
    np.testing.assert_allclose(found.log_path, exact[:, 0], atol=40 * 8 * EPS / alignment)
    np.testing.assert_allclose(found.error.log_value, exact[:, 1], atol=tolerance + 40 * 16 * EPS / alignment)
    turned = found.across_over_along
    np.testing.assert_allclose(turned.log_value[1:], exact[1:, 2], atol=tolerance + 40 * 16 * EPS / alignment)
    assert found.error.resolved.all() and turned.resolved[1:].all()


def test_the_error_at_perfect_alignment_vanishes_like_the_gap_to_the_depth() -> None:
    """(P1) says L xi; with exactly equal directions it is xi^L, 1e-523 at L = 1000, with all its digits."""
    found = theory.dominant_path(theory.twisted_chain(1.0, 0.3, 1000))
    np.testing.assert_allclose(found.error.log_value, np.log(0.3) * np.arange(1, 1001), rtol=4 * EPS)
    assert found.error.resolved.all()
    assert (found.across_over_along.log_value == -np.inf).all()


def test_alignment_one_to_rounding_is_below_and_not_a_number() -> None:
    rng = np.random.default_rng(2)
    chain = theory.make_chain(uniform_parameters(60, gap=0.3, alignment=1.0), 8, rng)
    found = theory.dominant_path(chain)
    # xi^l until an eps of the directions would show.
    resolved = found.error.resolved
    assert resolved[:20].all() and not resolved[-1]
    np.testing.assert_allclose(found.error.log_value[:20], np.log(0.3) * np.arange(1, 21), rtol=1e-3)
    assert found.error.log_value[-1] > np.log(EPS / 8) and found.error.log_value[-1] < np.log(64 * EPS)
    assert not found.across_over_along.resolved[2:].any()
    assert str(found.error.at(-1)).startswith("below ")


@pytest.mark.parametrize("seed", range(6))
def test_T12_bounds_the_error_at_every_depth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = random_parameters(rng, 12)
    chain = theory.make_chain(parameters, 6, rng)
    found = theory.dominant_path(chain).error
    for depth in range(1, 13):
        bound = theory.perturbation_error(parameters.alignment[:depth], parameters.gap[:depth])
        assert found.log_value[depth - 1] <= np.log(bound) + 1e-9


def test_T12_is_nearly_reached_by_the_twisted_chain_at_the_values_of_the_notes() -> None:
    for kappa, xi, depth, reached in ((0.1, 0.001, 10, 1.0170), (0.5, 0.01, 32, 1.3527), (0.9, 0.05, 64, 0.9803)):
        found = theory.dominant_path(theory.twisted_chain(kappa, xi, depth))
        assert np.exp(found.error.log_value[-1]) == pytest.approx(reached, abs=5e-5)


def test_a_path_of_zero_has_no_error_but_still_a_turn() -> None:
    chain = theory.twisted_chain(0.0, 0.5, 6)
    found = theory.dominant_path(chain)
    assert (found.log_path[1:] == -np.inf).all()
    assert (found.error.log_value[1:] == np.inf).all()
    # kappa = 0 turns everything: p and q take turns.
    assert found.across_over_along.log_value[1] == np.inf and found.across_over_along.log_value[2] == -np.inf
    silent = theory.dominant_path(theory.twisted_chain(0.5, 0.5, 3, sigma=0.0))
    assert (silent.log_path == -np.inf).all()


@pytest.mark.parametrize("zero", [0, 3])
def test_behind_a_zero_layer_nothing_is_left(zero: int) -> None:
    sigma = np.where(np.arange(8) == zero, 0.0, 1.3)
    chain = theory.flat_chain(8, 4, np.random.default_rng(0), sigma=sigma, gap=0.5, alignment=0.6)
    path = theory.dominant_path(chain)
    assert np.isneginf(path.log_path[zero:]).all() and np.isposinf(path.error.log_value[zero:]).all()
    assert np.isnan(path.across_over_along.log_value[zero:]).all()
    assert np.isfinite(path.across_over_along.log_value[1:zero]).all()
    injected = theory.inject_random(chain, np.random.default_rng(1), norm=1.0, context_dimension=2)
    arrived = theory.depth_profile(injected)
    assert arrived.resolved.all()
    assert np.isneginf(arrived.log_value[:zero]).all() and np.isfinite(arrived.log_value[zero:]).all()


def test_factored_and_float32_chains_have_paths_too() -> None:
    rng = np.random.default_rng(3)
    factored = theory.flat_chain(20, 12, rng, gap=0.4, alignment=0.8, isometry="reflection", batch=(2, 2))
    dense = theory.Chain(factored.sigma, factored.u, factored.v, factored.residual.dense(), factored.injection)
    one, two = theory.dominant_path(factored), theory.dominant_path(dense)
    assert one.error.log_value.shape == (2, 2, 20)
    np.testing.assert_allclose(one.error.log_value, two.error.log_value, atol=20 * 12 * 4 * EPS)
    single = theory.flat_chain(30, 6, rng, gap=0.3, alignment=1.0, dtype="float32")
    floor = theory.dominant_path(single).error
    assert not floor.resolved[-1] and np.exp(floor.log_value[-1]) > float(np.finfo(np.float32).eps) / 8


def test_non_finite_chains_are_refused() -> None:
    chain = theory.twisted_chain(0.5, 0.5, 3)
    with pytest.raises(ValueError, match="sigma must be finite; got nan"):
        theory.dominant_path(theory.Chain(chain.sigma * np.nan, chain.u, chain.v, chain.residual, chain.injection))
