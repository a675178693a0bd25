"""The cone certificate (T27) and the weighted norm (T28) against dense chains, random and adverse."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from observables import ChainParameters
from tests.helpers.adverse import adverse_chain
from tests.helpers.chains import EPS, dense_jacobian, random_parameters, rounding, seeds, uniform_parameters
from theory.bounds import _cone_step, cone, growth
from theory.bounds._layers import product_layers, wide_layers
from theory.bounds._wide import Wide, wide
from theory.bounds.growth import log_product_growth, weighted_rate
from theory.bounds.hypotheses import BoundResult
from theory.bounds.products import cone_margins
from theory.bounds.truth import chain_truth


def coherent_parameters(rng: np.random.Generator, depth: int, context_dimension: int = 3) -> ChainParameters:
    """Mostly inside a cone: small gaps, alignments near 1, injections along one direction for the greater part."""
    kappa, xi = 1 - rng.uniform(0, 0.6) * rng.uniform(0, 1, depth) ** 2, rng.uniform(0, 0.5) * rng.random(depth) ** 2
    along = rng.uniform(0.2, 2, depth)
    share = rng.uniform(-0.1, 1, depth) if context_dimension > 1 else 1.0
    return ChainParameters(
        sigma=rng.uniform(0.7, 1.4, depth),
        gap=xi,
        alignment=kappa,
        injection_along=along,
        injection_across=rng.uniform(0, 1, depth) * rng.choice([0.0, 0.1, 1.0]),
        injection_coherent=along * share,
    )


def results(parameters: ChainParameters, chain: theory.Chain) -> list[BoundResult]:
    certificate = theory.certify_cone(parameters)
    truth = chain_truth(chain)
    rows = [
        BoundResult("T27", "context_norm", "upper", certificate.log_norm_upper),
        BoundResult("T27", "context_norm", "lower", certificate.log_norm_lower),
        BoundResult("T27", "context_sigma_2", "upper", certificate.log_sigma2_upper),
        BoundResult("T27", "noise_ratio", "upper", certificate.log_noise_ratio_upper),
    ]
    return [
        row.against(truth.values[row.quantity], truth.rounding[row.quantity])
        for row in rows
        if row.quantity in truth.values
    ]


def check(parameters: ChainParameters, chain: theory.Chain) -> None:
    for row in results(parameters, chain):
        assert not row.violated, row


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 12), d=st.integers(2, 8), m=st.integers(1, 5))
def test_T27_holds_for_random_chains(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = coherent_parameters(rng, depth, m)
    chain = theory.make_chain(parameters, d, rng, context_dimension=m)
    check(parameters, chain)
    check(replace(parameters, injection_coherent=None), chain)
    wild = replace(random_parameters(rng, depth), injection_coherent=None)
    check(wild, theory.make_chain(wild, d, rng, context_dimension=m))


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.sampled_from([2, 5, 12, 60]), d=st.integers(2, 6), m=st.integers(1, 4))
def test_T27_holds_for_adverse_chains(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = coherent_parameters(rng, depth, m)
    for sense in ("slow", "fast"):
        chain = adverse_chain(parameters, d, m, rng, sense)  # pyright: ignore[reportArgumentType]
        check(parameters, chain)
        check(replace(parameters, injection_coherent=None), chain)


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.sampled_from([1, 3, 8, 24]), d=st.integers(2, 6), m=st.integers(1, 4))
def test_T27_says_how_near_the_jacobian_is_to_a_known_rank_one_matrix(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = coherent_parameters(rng, depth, m)
    certificate = theory.certify_cone(parameters)
    if certificate.direction != "coherent":
        return
    chain = adverse_chain(parameters, d, m, rng, "slow")
    jacobian, size = dense_jacobian(chain.propagators, chain.injections), 0.0
    for sigma, b in zip(parameters.sigma, chain.injections, strict=True):
        size = sigma * size + np.linalg.norm(b, 2)
    x, u = jacobian[:, 0], chain.u[-1]
    g = jacobian.T @ u / (u @ x)
    # relative to <u, x>, on which both x and g are scaled
    slack = 4 * rounding(depth, max(d, m)) * size / abs(u @ x)
    assert np.linalg.norm(x - u * (u @ x)) / abs(u @ x) <= math.exp(certificate.log_tilt) + slack
    drift = math.exp(certificate.log_drift)
    assert np.linalg.norm(g - np.eye(m)[0]) <= drift + slack * (1 + drift)
    rest = np.linalg.norm(jacobian - np.outer(x, g), 2)
    assert rest <= math.exp(certificate.log_rank_one_error) + slack * size * (1 + drift)


def regime_two(depth: int, **fields: float) -> ChainParameters:
    numbers = {"sigma": 1.1 / 0.95, "gap": 0.01, "alignment": 0.95, "along": 1.0, "across": 0.3, **fields}
    base = uniform_parameters(depth, **numbers)
    return replace(base, injection_coherent=0.9 * base.injection_along)


@pytest.mark.parametrize("depth", [2, 8, 64])
def test_T27_lower_bound_is_attained_by_the_slow_chain(depth: int) -> None:
    """In d = 3 nothing is left free once every direction is turned against w: <u, J w> is the bound itself."""
    parameters = replace(regime_two(depth), injection_coherent=np.ones(depth))
    chain = adverse_chain(parameters, 3, 1, np.random.default_rng(depth), "slow")
    truth = chain_truth(chain)
    along = float(truth.values["context_norm"]) - 0.5 * math.log1p(math.exp(2 * truth.values["noise_ratio"]))
    # each layer gives way by 16 eps and rounds a few more
    assert theory.certify_cone(parameters).log_norm_lower == pytest.approx(along, abs=200 * depth * EPS)


@pytest.mark.parametrize("depth", [8, 32, 128, 1000])
def test_noise_of_deep_regime_two_chains_is_certified_where_T15_says_nothing(depth: int) -> None:
    parameters = regime_two(depth)
    old, new = theory.certify(parameters), theory.certify_cone(parameters)
    assert old.noise_ratio_upper == math.inf and old.log_norm_lower == -math.inf
    assert new.log_noise_ratio_upper < math.log(0.05)
    assert new.log_rank_one_error < math.log(0.4), "J_L is x g^T up to what one injection adds"
    # the slowest growth of the dominant path is sigma Lambda_min a layer (T6)
    rate = math.log(parameters.sigma[1] * float(theory.min_rate(0.95, 0.01)))
    assert new.log_norm_lower > (depth - 1) * rate + math.log(0.9) - 1e-9
    assert (new.direction, new.since) == ("coherent", 1)


@settings(deadline=None, max_examples=100)
@given(seed=seeds(), depth=st.integers(1, 30))
def test_T27_is_never_worse_than_T15_and_T16(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = coherent_parameters(rng, depth) if seed % 2 else random_parameters(rng, depth)
    old, new = theory.certify(parameters), theory.certify_cone(parameters)
    slack = 64 * depth * EPS
    if old.norm_upper == 0:
        assert new.log_norm_upper == -math.inf
        return
    assert new.log_norm_upper <= old.log_norm_upper + slack
    assert new.log_sigma2_upper <= old.log_sigma2_upper + slack
    # differences lose digits: an absolute slack, in the unit of the upper bound
    unit = 64 * depth * EPS * math.exp(old.log_norm_upper)
    assert math.exp(new.log_norm_lower) >= old.norm_lower - unit
    if old.coherent_lower is not None:
        assert math.exp(new.log_norm_lower) >= old.coherent_lower - unit


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 12))
def test_T27_of_a_product_is_T9_and_T10(seed: int, depth: int) -> None:
    """With B_1 = A_1 and w = v_1 the cone is (T9)'s and the oblique projection gives (T10)'s factor xi / m^2."""
    parameters = coherent_parameters(np.random.default_rng(seed), depth)
    lower = theory.log_product_lower(parameters)
    found = cone.cone_recursion(product_layers(parameters), coherent=True)
    if math.isnan(lower):
        return
    # m = kappa - s tau loses digits where the cone is nearly lost
    margins = cone_margins(parameters)
    slack = 100 * depth * EPS / min([1.0, *margins]) ** 4
    assert found.log_norm_lower >= lower - slack
    ratio = found.log_sigma2_upper - found.log_norm_lower
    assert ratio <= theory.log_product_ratio_upper(parameters) + slack or ratio <= slack


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 12), d=st.integers(2, 6))
def test_T28_bounds_products_and_is_never_above_T8(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = random_parameters(rng, depth)
    upper = log_product_growth(parameters)
    assert upper <= theory.log_product_upper(parameters) + 16 * depth * EPS
    truth = chain_truth(theory.make_chain(parameters, d, rng))
    row = BoundResult("T28", "product_norm", "upper", upper)
    assert not row.against(truth.values["product_norm"], truth.rounding["product_norm"]).violated


def test_T28_rate_is_max_rate_at_its_own_gap_and_grows_with_the_gap() -> None:
    rng = np.random.default_rng(0)
    for kappa, xi in rng.uniform(0, 1, (200, 2)):
        s = math.sqrt((1 - kappa) * (1 + kappa))
        assert weighted_rate(kappa, s, xi, xi) == pytest.approx(float(theory.max_rate(kappa, xi)), rel=8 * EPS)
        assert weighted_rate(kappa, s, xi / 2, xi) <= weighted_rate(kappa, s, xi, xi) * (1 + 4 * EPS)


def test_T28_follows_the_fastest_chain_where_T15_outgrows_it() -> None:
    """(T15) grows by the larger root of x^2 - kappa (1 + xi) x + xi (kappa^2 - s^2), the chain by Lambda_max."""
    chain = theory.twisted_chain(0.5, 0.1, 60, sigma=1.9)
    parameters = theory.measure(chain)
    true = chain_truth(chain).values["context_norm"]
    assert theory.certify(parameters).log_norm_upper - true > 1.0
    assert 0 <= theory.certify_cone(parameters).log_norm_upper - true < 0.2


@pytest.mark.parametrize("unit", [1e-150, 1e-40, 1e150])
def test_T27_scales_with_the_unit_of_the_injections(unit: float) -> None:
    parameters = regime_two(40)
    other = replace(
        parameters,
        injection_along=unit * parameters.injection_along,
        injection_across=unit * parameters.injection_across,
        injection_coherent=unit * 0.9 * parameters.injection_along,
    )
    one, two = theory.certify_cone(parameters), theory.certify_cone(other)
    shift = math.log(unit)
    for name in ("log_norm_lower", "log_norm_upper", "log_sigma2_upper", "log_across_upper", "log_rank_one_error"):
        # a logarithm of size 345 rounds by eps of it
        assert getattr(two, name) == pytest.approx(getattr(one, name) + shift, abs=1e-12), name
    for name in ("log_noise_ratio_upper", "log_tilt", "log_drift"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), abs=1e-12), name


@pytest.mark.parametrize("sigma", [1e-150, 1e150])
def test_T27_of_deep_chains_of_any_sigma_is_finite(sigma: float) -> None:
    certificate = theory.certify_cone(regime_two(1000, sigma=sigma))
    assert all(
        math.isfinite(getattr(certificate, name))
        for name in (
            "log_norm_lower",
            "log_norm_upper",
            "log_sigma2_upper",
            "log_noise_ratio_upper",
            "log_rank_one_error",
        )
    )


def test_the_sign_of_the_coherent_direction_is_free() -> None:
    parameters = regime_two(12)
    assert parameters.injection_coherent is not None
    flipped = replace(parameters, injection_coherent=-parameters.injection_coherent)
    assert theory.certify_cone(flipped) == theory.certify_cone(parameters)


def test_a_cone_opens_late_and_opens_again_after_it_is_lost() -> None:
    """Layers 1-2 inject nothing; layer 6 turns all aside (kappa = 0) and injects little: later ones begin anew."""
    parameters = regime_two(12)
    along, across, kappa = np.ones(12), np.full(12, 0.1), parameters.alignment.copy()
    along[:2] = across[:2] = 0.0
    kappa[5], along[5] = 0.0, 0.01
    broken = replace(
        parameters, alignment=kappa, injection_along=along, injection_across=across, injection_coherent=along
    )
    assert theory.certify_cone(replace(broken, alignment=parameters.alignment)).since == 3
    assert theory.certify_cone(broken).since > 5
    check(broken, adverse_chain(broken, 4, 2, np.random.default_rng(0)))


def test_the_first_direction_needs_no_coherence_for_one_injection() -> None:
    """One injection, nothing known of its direction: the cone of (T9) stands where p- of (T15) has died."""
    depth = 60
    first = np.eye(depth)[0]
    parameters = replace(
        regime_two(depth), injection_along=first, injection_across=0.2 * first, injection_coherent=None
    )
    new = theory.certify_cone(parameters)
    assert (new.direction, new.since) == ("first", 1)
    rate = math.log(parameters.sigma[1] * float(theory.min_rate(0.95, 0.01)))
    assert new.log_norm_lower == pytest.approx((depth - 1) * rate, abs=0.1)
    assert new.log_noise_ratio_upper < math.log(0.01)
    assert new.log_norm_lower > theory.certify(parameters).log_norm_lower
    check(parameters, theory.make_chain(parameters, 5, np.random.default_rng(0)))


def test_coherent_parts_beyond_the_injection_are_refused() -> None:
    parameters = replace(regime_two(3), injection_coherent=np.array([1.0, 1.1, 1.0]))
    with pytest.raises(ValueError, match=r"injection_coherent must not exceed injection_along.*1\.1.*layer 2"):
        theory.certify_cone(parameters)


def test_nothing_injected_is_nothing() -> None:
    zero = np.zeros(3)
    certificate = theory.certify_cone(
        replace(regime_two(3), injection_along=zero, injection_across=zero, injection_coherent=zero)
    )
    assert certificate.log_norm_upper == certificate.log_sigma2_upper == certificate.log_norm_lower == -math.inf
    assert certificate.log_noise_ratio_upper == math.inf and certificate.direction == "none"


def violations(chains: int = 60) -> int:
    """How many bounds adverse chains break, with whatever has been patched."""
    count = 0
    for seed in range(chains):
        rng = np.random.default_rng(seed)
        parameters = replace(coherent_parameters(rng, 10, 1), injection_across=np.full(10, 0.3))
        for sense in ("slow", "fast"):
            chain = adverse_chain(parameters, 3, 1, rng, sense)  # pyright: ignore[reportArgumentType]
            count += sum(bool(row.violated) for row in results(parameters, chain))
    return count


def test_no_bound_is_broken_by_the_chains_that_refute_its_mutants() -> None:
    assert violations() == 0


@pytest.mark.parametrize("mutant", ["margin 2 % wide", "s and kappa swapped", "b dropped", "xi 2 % small"])
def test_adverse_chains_refute_mutated_cones(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = wide_layers

    def mutated(parameters: ChainParameters):
        changes = {
            "s and kappa swapped": lambda one: replace(one, s=one.kappa, kappa=one.s),
            "b dropped": lambda one: replace(one, b=wide(0.0), aside=wide(0.0)),
            "xi 2 % small": lambda one: replace(one, xi=one.xi * wide(0.98)),
        }
        return [changes[mutant](one) if index else one for index, one in enumerate(layers(parameters))]

    if mutant == "margin 2 % wide":
        true = _cone_step._margin
        monkeypatch.setattr(_cone_step, "_margin", lambda layer, tilt: true(layer, tilt) * wide(1.02))
    else:
        monkeypatch.setattr(cone, "wide_layers", mutated)
    assert violations() > 0


def test_fast_chains_refute_a_mutated_weighted_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = theory.measure(theory.twisted_chain(0.5, 0.1, 40))
    true = chain_truth(theory.twisted_chain(0.5, 0.1, 40)).values["product_norm"]
    assert log_product_growth(parameters) >= true
    monkeypatch.setattr(growth, "weighted_rate", lambda *numbers: 0.98 * weighted_rate(*numbers))
    assert log_product_growth(parameters) < true


def test_wide_numbers_order_negate_and_take_roots() -> None:
    assert wide(-3.0) < wide(2.0) and not wide(2.0) < wide(2.0)
    assert (-wide(2.5)).value() == -2.5
    for value in (0.0, 2.0, 3.7e-301, 1e300):
        assert growth.wide_sqrt(wide(value)).value() == pytest.approx(math.sqrt(value), rel=2 * EPS)
    assert growth.wide_sqrt(Wide(0.5, 100001)) == Wide(0.5, 50001)


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 40))
def test_T28_with_weight_1_is_the_triangle_inequality(seed: int, depth: int) -> None:
    """No chain is certified to more than its norms alone allow: sum of ||B_k|| prod_{l>k} sigma_l."""
    rng = np.random.default_rng(seed)
    parameters = random_parameters(rng, depth)
    along, across = parameters.injection_along, parameters.injection_across
    least = np.maximum(along, across)
    norms = least + rng.random() * (np.hypot(along, across) - least)
    plain = 0.0
    for sigma, norm in zip(parameters.sigma, norms, strict=True):
        plain = sigma * plain + norm
    room = 32 * EPS * depth  # a few roundings a layer, on either side
    log_plain = math.log(plain) if plain > 0.0 else -math.inf
    one, two = theory.certify_cone(parameters), theory.certify_cone(parameters, injection_norm=norms)
    assert two.log_norm_upper <= log_plain + room
    assert two.log_norm_upper <= one.log_norm_upper and two.log_norm_lower >= one.log_norm_lower


@settings(deadline=None, max_examples=40)
@given(seed=seeds(), depth=st.integers(1, 8), d=st.integers(2, 6), m=st.integers(1, 5))
def test_T27_and_T28_hold_with_the_injections_own_norms(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    propagators = rng.standard_normal((depth, d, d)) * rng.uniform(0.2, 1.0, (depth, 1, 1))
    injections = rng.standard_normal((depth, d, m)) * rng.uniform(0.0, 2.0, (depth, 1, 1))
    parameters = theory.measure(propagators, injections)
    norms = np.array([np.linalg.norm(one, 2) for one in injections], dtype=np.float64)
    certificate = theory.certify_cone(parameters, injection_norm=norms)
    s = np.linalg.svd(dense_jacobian(propagators, injections), compute_uv=False)
    # the dense product rounds by a few eps d a layer relative to the sum of its terms, which the plain bound is
    plain = 0.0
    for sigma, norm in zip(parameters.sigma, norms, strict=True):
        plain = sigma * plain + norm
    room = 64 * EPS * d * depth * plain
    assert s[0] <= math.exp(certificate.log_norm_upper) + room
    assert s[0] >= math.exp(certificate.log_norm_lower) - room
    if len(s) > 1:
        assert s[1] <= math.exp(certificate.log_sigma2_upper) + room


def test_injection_norms_must_be_one_a_layer() -> None:
    parameters = uniform_parameters(3)
    for norms in (np.ones(2), np.array([1.0, -1.0, 1.0]), np.array([1.0, math.nan, 1.0])):
        with pytest.raises(ValueError, match="injection_norm must be 3 finite numbers >= 0"):
            theory.certify_cone(parameters, injection_norm=norms)
