"""The recurrence and what is read from it at every depth: against mpmath, other routes, and its own floors."""

import jax
import mpmath
import numpy as np
import pytest

import theory
from observables import effective_rank
from tests.helpers.chains import EPS, dense_jacobian, random_parameters
from tests.helpers.multiprecision import exact_log_jacobian, exact_log_singular_values
from theory.propagation import recurrence

EPS32 = float(np.finfo(np.float32).eps)


def random_chain(seed: int, depth: int = 6, d: int = 5, m: int = 3, count: int = 4) -> theory.Chain:
    """A batch of dense chains whose numbers vary by layer."""
    rng = np.random.default_rng(seed)
    chains = [theory.make_chain(random_parameters(rng, depth), d, rng, context_dimension=m) for _ in range(count)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *chains)


def test_one_pass_gives_what_two_give_and_the_last_depth_is_the_last() -> None:
    chain = random_chain(1)
    jacobian, product = theory.context_jacobians_and_products(chain)
    for one, every in ((jacobian, theory.context_jacobians(chain)), (product, theory.products(chain))):
        # The same operations in another memory order: a few eps.
        np.testing.assert_allclose(one.matrix, every.matrix[:, -1], atol=16 * EPS)
        np.testing.assert_allclose(one.log_scale, every.log_scale[:, -1], atol=16 * EPS)
    alone = theory.products(chain, last_only=True)
    np.testing.assert_array_equal(alone.matrix, theory.products(chain).matrix[:, -1])


def test_factored_and_dense_chains_propagate_alike_in_both_precisions() -> None:
    rng = np.random.default_rng(2)
    factored = theory.flat_chain(30, 12, rng, gap=0.6, alignment=0.7, isometry="reflection", batch=(3,))
    factored = theory.inject_random(factored, rng, norm=1.0, context_dimension=4)
    dense = theory.Chain(factored.sigma, factored.u, factored.v, factored.residual.dense(), factored.injection)
    for dtype, eps in ((np.float64, EPS), (np.float32, EPS32)):
        one, two = (jax.tree.map(lambda x, to=dtype: x.astype(to), chain) for chain in (factored, dense))
        for a, b in zip(*map(theory.context_jacobians_and_products, (one, two)), strict=True):
            assert a.matrix.dtype == dtype
            # Rounding is relative to the Frobenius norm, 1: each of 30 layers errs by a few eps at d = 12.
            np.testing.assert_allclose(a.matrix, b.matrix, atol=30 * 12 * eps)
            np.testing.assert_allclose(a.log_scale, b.log_scale, atol=30 * 12 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jacobians_at_depth_1000_agree_with_mpmath(dtype: str) -> None:
    """The layers are the stored numbers in either precision; errors grow like a walk, bounded by eps a layer."""
    rng = np.random.default_rng(3)
    chain = theory.flat_chain(1000, 3, rng, sigma=1.1, gap=0.4, alignment=0.93, dtype=dtype)
    chain = theory.inject_random(chain, rng, norm=1.0, context_dimension=2)
    exact = exact_log_jacobian(chain, 80)
    found = theory.context_jacobians(chain, last_only=True)
    eps = EPS if dtype == "float64" else EPS32
    assert float(found.log_norm()) == pytest.approx(exact[0], abs=1000 * 4 * eps)
    ratio, true = found.log_ratio(), exact[1] - exact[0]
    if dtype == "float64":
        assert ratio.resolved
        assert float(ratio.log_value) == pytest.approx(true, abs=float(found.rounding) / np.exp(true))
    else:
        assert not ratio.resolved
        assert true < float(ratio.log_value) < np.log(1000 * 3 * 2 * eps)


def test_layers_from_1e_minus_150_to_1e150_neither_overflow_nor_vanish() -> None:
    rng = np.random.default_rng(4)
    sigma = np.tile([1e-150, 1e-150, 1e150, 1e150, 1e150, 1e-150], 20)
    plain = theory.flat_chain(120, 4, np.random.default_rng(5), gap=0.5, alignment=0.8)
    wild = theory.flat_chain(120, 4, np.random.default_rng(5), sigma=sigma, gap=0.5, alignment=0.8)
    shift = np.cumsum(np.log(sigma))
    np.testing.assert_allclose(
        theory.products(wild).log_norm(), theory.products(plain).log_norm() + shift, atol=EPS * 120 * 350
    )
    injected = theory.inject_random(wild, rng, norm=1.0, context_dimension=2)
    norms = theory.context_jacobians(injected).log_norm()
    assert np.isfinite(norms).all()
    # J_2 = A_2 B_1 + B_2 with ||A_2|| = 1e-150: B_2 alone; J_4 is 1e300 times what A_3 makes of J_2, to O(1).
    assert norms[1] == pytest.approx(0.0, abs=1e-12)
    assert abs(norms[3] - 300 * np.log(10)) < 3


def test_a_jacobian_that_its_injections_leave_behind_is_rescaled_to_them() -> None:
    """1e-40 a layer in float32 for 40 layers, then an injection of 1: J_L is that injection."""
    chain = theory.flat_chain(42, 3, np.random.default_rng(6), sigma=1e-30, gap=0.5, alignment=0.9, dtype="float32")
    injection = np.zeros((42, 3, 2), dtype=np.float32)
    injection[0, 0, 0] = injection[41, 1, 1] = 1
    chain = theory.Chain(chain.sigma, chain.u, chain.v, chain.residual, injection)
    log_norm = theory.context_jacobians(chain).log_norm()
    assert -np.inf < log_norm[40] < -2000
    assert log_norm[41] == pytest.approx(0.0, abs=4 * EPS32)


@pytest.mark.parametrize(("dtype", "eps"), [("float32", EPS32), ("float64", EPS)])
def test_no_ratio_that_rounding_made_passes_for_a_number(dtype: str, eps: float) -> None:
    """Rank-one dense layers of small alignment: sigma_2 is 0, but each product loses 1 / kappa of its digits, and the
    next layer does not turn away what was added, as it does the product: another 1 / kappa."""
    rng = np.random.default_rng(7)
    for kappa in (1e-3, 0.03, 1.0):
        chain = theory.flat_chain(40, 16, rng, gap=0.0, alignment=kappa, sigma=1.3, batch=(20,), dtype=dtype)
        found = theory.products(chain)
        noise = found.singular_values()[..., 1] / found.singular_values()[..., 0]
        ratio = found.log_ratio()
        assert not ratio.resolved.any()
        assert np.exp(ratio.log_value.max()) < 40 * 16 * 8 * eps / kappa**2  # and the floor is no excuse
        assert noise.max() > 0
        # A floor of steps x size x eps would have taken this noise for a ratio.
        if kappa == 1e-3:
            assert (noise > np.arange(1, 41) * 16 * eps).any()


def test_rounding_covers_what_later_layers_make_of_early_errors() -> None:
    """Layers that suppress one direction, then layers that favour it: the sum of lost terms is 1e6 times too small."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    for first, later in (((1, 1e-16, 1e-20), (1e-8, 1, 1e-3)), ((1, 1e-10, 1e-14), (1e-4, 1, 1e-3))):
        layers = np.array([turn @ np.diag(values) @ turn.T for values in (first, later, later)])
        found = theory.products(theory.chain_of_layers(layers), last_only=True)
        exact = multiplied(theory.chain_of_layers(layers).propagators, found.log_scale)
        assert np.linalg.norm(found.matrix - exact) < found.rounding


@pytest.mark.parametrize(
    ("dtype", "kappa"), [("float64", 1e-3), ("float64", 0.03), ("float32", 0.03), ("float32", 0.9)]
)
def test_rounding_covers_the_error_of_deep_rank_one_products(dtype: str, kappa: float) -> None:
    chain = theory.flat_chain(40, 16, np.random.default_rng(7), gap=0.0, alignment=kappa, sigma=1.3, dtype=dtype)
    found = theory.products(chain, last_only=True)
    exact = multiplied(chain.propagators, found.log_scale)
    assert 0 < np.linalg.norm(found.matrix - exact) < found.rounding


def multiplied(layers: np.ndarray, log_scale: float) -> np.ndarray:
    """The product over exp(log_scale), in 60 digits."""
    with mpmath.workdps(60):
        product = mpmath.matrix(layers[0].tolist())
        for layer in layers[1:]:
            product = mpmath.matrix(layer.tolist()) * product
        return np.array((product / mpmath.exp(mpmath.mpf(float(log_scale)))).tolist(), dtype=np.float64)


def test_T2_depth_profile_is_what_each_injection_becomes() -> None:
    chain = random_chain(8, depth=7, count=3)
    profile = theory.depth_profile(chain)
    assert profile.resolved.any()
    for row in range(3):
        a, b = chain.propagators[row], chain.injections[row]
        for k in range(7):
            term = b[k]
            for layer in a[k + 1 :]:
                term = layer @ term
            expected = np.linalg.norm(term, ord=2)
            if profile.resolved[row, k]:
                assert np.exp(profile.log_value[row, k]) == pytest.approx(expected, rel=1e-9)
            else:
                assert expected <= np.exp(profile.log_value[row, k]) * (1 + 1e-9) + 1e-12


def test_depth_profile_survives_depth_1000_and_says_below() -> None:
    """Aligned layers: what is injected along u_k arrives as sigma^{L-k}; across, as (sigma xi)^{L-k} or below x."""
    chain = theory.twisted_chain(1.0, 0.5, 1000, sigma=1.2)
    profile = theory.depth_profile(chain)
    np.testing.assert_allclose(profile.log_value, np.log(1.2) * np.arange(999, -1, -1), atol=1e-10)
    across = theory.Chain(chain.sigma, chain.u, chain.v, chain.residual, np.roll(chain.injection, 1, axis=-2))
    found = theory.depth_profile(across)
    resolved = np.where(found.resolved)[0]
    assert not found.resolved[0] and found.resolved[-1] and resolved[0] > 940
    np.testing.assert_allclose(
        found.log_value[resolved], (np.log(1.2 * 0.5) * np.arange(999, -1, -1))[resolved], atol=1e-10
    )


def test_jacobian_profile_is_that_of_the_stored_jacobians() -> None:
    chain = random_chain(9)
    profile, stored = theory.jacobian_profile(chain, 3), theory.context_jacobians(chain)
    np.testing.assert_allclose(profile.log_norm, stored.log_norm(), atol=64 * EPS)
    ratio = stored.log_ratio()
    np.testing.assert_array_equal(profile.ratio.resolved, ratio.resolved)
    np.testing.assert_allclose(np.exp(profile.ratio.log_value), np.exp(ratio.log_value), atol=64 * EPS)
    s = np.linalg.svd(dense_jacobian(chain.propagators[0], chain.injections[0]), compute_uv=False)
    np.testing.assert_allclose(np.exp(profile.singular.log_value[0, -1]), s, atol=1e-12 * s[0])
    expected = effective_rank(s**2, int(np.count_nonzero(s > 1e-13 * s[0])))
    assert profile.effective_rank[0, -1] == pytest.approx(expected, rel=1e-9)


def test_effective_rank_of_a_collapsed_jacobian_is_one_and_of_an_isotropic_one_m() -> None:
    rng = np.random.default_rng(10)
    aligned = theory.inject_coherent(theory.twisted_chain(1.0, 0.0, 30), rng, along=1.0, context_dimension=3)
    profile = theory.jacobian_profile(aligned)
    np.testing.assert_allclose(profile.effective_rank, 1.0, atol=1e-12)
    assert not profile.ratio.resolved[1:].any()
    orthogonal = theory.orthogonal_chain(50, 8, rng)
    injection = np.zeros((50, 8, 3))
    injection[0] = np.eye(8)[:, :3]
    one = theory.Chain(orthogonal.sigma, orthogonal.u, orthogonal.v, orthogonal.residual, injection)
    np.testing.assert_allclose(theory.jacobian_profile(one).effective_rank, 3.0, rtol=1e-12)


def test_floored_numbers_say_what_they_are() -> None:
    floored = theory.Floored(
        np.array([np.log(1.2e-5), np.log(3.6e-13), -np.inf, np.nan, -5000.0, np.log(0.5)]),
        np.array([True, False, True, False, True, True]),
    )
    assert list(floored.describe()) == ["1.2e-05", "below 3.6e-13", "0", "undefined", "3.4e-2172", "0.5"]
    assert str(floored.at(1)) == "below 3.6e-13"
    log_value, resolved = floored
    assert log_value is floored.log_value and resolved is floored.resolved
    chain = theory.twisted_chain(1.0, 0.5, 200)
    assert str(theory.products(chain).log_ratio().at(-1)).startswith("below 1.")
    assert str(theory.products(chain).log_ratio().at(9)) == "9.8e-04"


def test_bad_chains_are_refused_by_name() -> None:
    chain = random_chain(11)
    for name in ("u", "v", "residual", "injection", "sigma"):
        for layer in (0, 3):
            leaves = {part: np.array(getattr(chain, part)) for part in ("sigma", "u", "v", "residual", "injection")}
            leaves[name][0, layer] = np.nan
            broken = theory.Chain(**leaves)
            for function in (theory.context_jacobians, theory.depth_profile, theory.jacobian_profile):
                with pytest.raises(ValueError, match=f"{name} must be finite; got nan"):
                    function(broken)
    with pytest.raises(ValueError, match="k must be at most"):
        theory.jacobian_profile(chain, 4)
    with pytest.raises(ValueError, match="k must be an integer of at least 1; got 0"):
        theory.jacobian_profile(chain, 0)


def test_results_beyond_memory_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = random_chain(12)
    monkeypatch.setattr(recurrence, "STORED_BYTES", 1000)
    with pytest.raises(ValueError, match="last_only must be True"):
        theory.products(chain)
    theory.jacobian_profile(chain)


def test_exact_layers_of_the_oracle_are_the_chain() -> None:
    rng = np.random.default_rng(13)
    chain = theory.flat_chain(3, 4, rng, gap=0.5, alignment=0.6, isometry="reflection")
    s = np.linalg.svd(np.linalg.multi_dot(chain.propagators[::-1]), compute_uv=False)
    np.testing.assert_allclose(exact_log_singular_values(chain, 40), np.log(s), atol=1e-14)
