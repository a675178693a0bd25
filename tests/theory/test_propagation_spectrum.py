"""All log-singular values of deep products: against mpmath, exact cases, and the products themselves."""

import jax
import numpy as np
import pytest

import theory
from tests.helpers.chains import EPS, random_parameters, uniform_parameters
from tests.helpers.multiprecision import exact_log_singular_values


def in_float32(chain: theory.Chain) -> theory.Chain:
    """The same chain with every stored number rounded to float32."""
    return jax.tree.map(lambda x: x.astype(np.float32), chain)


DEEP = {
    # name: dimension, depth, gap, alignment
    "mild": (3, 1000, 0.7, 0.6),
    "graded": (3, 1000, 0.1, 0.8),
    "strongly graded": (3, 400, 1e-4, 0.9),
    "badly aligned": (2, 1000, 0.3, 0.05),
    "four by four": (4, 400, 0.5, 0.7),
}


@pytest.mark.parametrize("name", list(DEEP))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_log_singular_value_agrees_with_mpmath(name: str, dtype: str) -> None:
    """The tolerance is the rounding that is reported: 2 eps sum ||A_l|| / |R_l,ii|, an upper estimate."""
    d, depth, gap, alignment = DEEP[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    parameters = uniform_parameters(depth, sigma=1.3, gap=gap, alignment=alignment)
    chain = theory.make_chain(parameters, d, rng, context_dimension=1)
    chain = in_float32(chain) if dtype == "float32" else chain
    # Digits: what the values span, and 40 more.
    exact = exact_log_singular_values(chain, int(depth * (1 - np.log10(gap))) + 40)
    found = theory.log_singular_values(chain)
    assert found.resolved.all() and found.converged.all()
    assert (np.abs(found.log_value - exact) <= found.rounding).all()
    # The estimate itself, from the numbers: R_ii is about ||A|| xi kappa at worst.
    assert (found.rounding < 20 * EPS * depth * np.sqrt(d) / (gap * min(alignment, 1 - alignment + 0.1))).all()


@pytest.mark.parametrize("sense", ["fastest", "slowest"])
def test_twisted_chains_at_depth_1000_agree_with_mpmath(sense: str) -> None:
    """Nothing averages out in equal layers; both values relative to 1e-14, and their sum is the determinant's."""
    chain = theory.twisted_chain(0.8, 0.1, 1000, sense=sense)  # pyright: ignore[reportArgumentType]
    found = theory.log_singular_values(chain)
    exact = exact_log_singular_values(chain, 1500)
    np.testing.assert_allclose(found.log_value, exact, rtol=1e-14)
    assert found.log_value.sum() == pytest.approx(1000 * np.log(0.1), rel=1e-14)


def test_T11_twisted_rates_are_those_of_the_theory() -> None:
    """ln sigma_1 over layers 301..600 of 600 against 300 ln Lambda, where the transient has died out."""
    for sense, rate in (("fastest", theory.max_rate(0.7, 0.05)), ("slowest", theory.min_rate(0.7, 0.05))):
        deep, half = (
            theory.log_singular_values(theory.twisted_chain(0.7, 0.05, n, sense=sense), 1).log_value[0]  # pyright: ignore[reportArgumentType]
            for n in (600, 300)
        )
        assert deep - half == pytest.approx(300 * np.log(float(rate)), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_T22_orthogonal_chains_keep_every_singular_value_at_depth_1000(dtype: str) -> None:
    """float32 entries make each layer orthogonal to eps32 only: then 1000 of these add up like a walk."""
    chain = theory.orthogonal_chain(1000, 6, np.random.default_rng(1), dtype=dtype)
    found = theory.log_singular_values(chain)
    assert found.resolved.all()
    eps = EPS if dtype == "float64" else float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(found.log_value, 0.0, atol=8 * np.sqrt(6000) * eps)


def test_T22_aligned_rank_one_chains_multiply_and_the_rest_is_below() -> None:
    rng = np.random.default_rng(2)
    sigma = rng.uniform(0.5, 2, 1000)
    chain = theory.flat_chain(1000, 5, rng, sigma=sigma, gap=0.0, alignment=1.0)
    found = theory.log_singular_values(chain, 3)
    assert found.log_value[0] == pytest.approx(np.log(sigma).sum(), abs=1000 * 2 * EPS * np.sqrt(5))
    assert list(found.resolved) == [True, False, False]
    assert str(found.values().at(1)).startswith("below ")
    # Each layer can hide 2 d eps of its norm.
    assert found.log_value[1] <= np.log(sigma).sum() + 1000 * np.log(2 * 5 * EPS * 3)
    nothing = theory.log_singular_values(theory.twisted_chain(0.5, 0.5, 4, sigma=0.0))
    assert (nothing.log_value == -np.inf).all() and nothing.resolved.all()


def test_leading_values_of_short_products_are_those_of_the_product() -> None:
    rng = np.random.default_rng(3)
    chains = [theory.make_chain(random_parameters(rng, 5), 24, rng, context_dimension=1) for _ in range(6)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, 3, *leaves[0].shape), *chains)
    product = theory.products(batch, last_only=True)
    s = product.singular_values()
    found = theory.log_singular_values(batch, 3)
    assert found.log_value.shape == (2, 3, 3)
    seen = found.resolved & found.converged & (s[..., :3] > 1e-6)
    assert seen.sum() >= 12
    expected = np.log(s[..., :3]) + product.log_scale[..., None]
    np.testing.assert_allclose(found.log_value[seen], expected[seen], atol=1e-9)


def test_a_part_of_the_depth_is_the_product_of_that_part() -> None:
    rng = np.random.default_rng(4)
    chain = theory.flat_chain(9, 4, rng, gap=0.5, alignment=0.6, sigma=rng.uniform(0.5, 2, 9))
    for first, last in ((1, 1), (3, 7), (9, 9)):
        product = np.eye(4)
        for a in chain.propagators[first - 1 : last]:
            product = a @ product
        found = theory.log_singular_values(chain, first=first, last=last)
        np.testing.assert_allclose(found.log_value, np.log(np.linalg.svd(product)[1]), atol=64 * EPS)


def test_unseparated_values_are_found_in_the_end_and_flagged_before() -> None:
    """Residual layers leave little between neighbours: a frame finds each from below and says that it moves."""
    rng = np.random.default_rng(5)
    chain = theory.residual_chain(20, 120, rng, strength=0.6, rank=2)
    exact = np.log(theory.products(chain, last_only=True).singular_values()[:3])
    exact += theory.products(chain, last_only=True).log_scale
    hasty = theory.log_singular_values(chain, 3, max_sweeps=2)
    assert not hasty.converged.any() and hasty.sweeps == 2
    assert (hasty.log_value < exact - 1e-3).all()
    patient = theory.log_singular_values(chain, 3)
    assert patient.converged.all() and patient.sweeps > 5
    # Each of 20 layers rounds by a few eps at ||A_l|| of about 1.5, in either route.
    np.testing.assert_allclose(patient.log_value, exact, atol=20 * 64 * EPS)


def test_factored_and_dense_chains_have_one_spectrum() -> None:
    rng = np.random.default_rng(6)
    factored = theory.flat_chain(200, 10, rng, gap=0.7, alignment=0.5, isometry="reflection")
    dense = theory.Chain(factored.sigma, factored.u, factored.v, factored.residual.dense(), factored.injection)
    one, two = theory.log_singular_values(factored), theory.log_singular_values(dense)
    np.testing.assert_allclose(one.log_value, two.log_value, atol=float((one.rounding + two.rounding).max()))


def test_bad_requests_are_refused_by_name() -> None:
    chain = theory.twisted_chain(0.5, 0.5, 6)
    for request, message in (
        ({"k": 3}, "k must be at most the dimension 2; got 3"),
        ({"k": 0}, "k must be an integer of at least 1; got 0"),
        ({"first": 4, "last": 3}, "first must not exceed last; got first = 4 and last = 3"),
        ({"first": 0}, "first must be an integer of at least 1; got 0"),
        ({"last": 7}, "last must be at most the depth 6; got 7"),
        ({"max_sweeps": 1}, "max_sweeps must be an integer of at least 2; got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.log_singular_values(chain, **request)
    broken = theory.Chain(chain.sigma, chain.u, chain.v * np.inf, chain.residual, chain.injection)
    with pytest.raises(ValueError, match="v must be finite"):
        theory.log_singular_values(broken)


def test_an_error_that_later_layers_favour_shows_in_the_rounding() -> None:
    """Diagonal layers in one turned frame, the first strong where the later ones are weak and the other way round.

    The eps by which the first layer's strong direction leaks into its weak ones is carried on whole, while the product
    falls to 1e-12: an error of 1e-16 / 1e-12 at least, of which the factors R_ii say 1e-11. Where the product falls to
    1e-16 nothing is left of two values, and they settle nowhere.
    """
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]

    def chain_of(first: tuple[float, ...], later: tuple[float, ...], count: int) -> theory.Chain:
        return theory.chain_of_layers(np.stack([turn @ np.diag(d) @ turn.T for d in (first, *(later,) * count)]))

    chain = chain_of((1, 1e-12, 1e-14), (1e-4, 1, 1e-3), 3)
    found = theory.log_singular_values(chain)
    assert found.converged.all() and found.resolved.all()
    assert (np.abs(found.log_value - exact_log_singular_values(chain, 60)) <= found.rounding).all()
    assert (found.rounding[:2] > 1e-4).all()
    lost = theory.log_singular_values(chain_of((1, 1e-16, 1e-20), (1e-8, 1, 1e-3), 2))
    assert not (lost.converged & lost.resolved)[:2].any()
