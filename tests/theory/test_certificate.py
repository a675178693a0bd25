"""The certificate (T15), (T16) and the bounds (T8)-(T10), (T13) against dense chains in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from observables import ChainParameters
from tests.helpers.chains import (
    dense_jacobian,
    dense_product,
    random_parameters,
    rounding,
    seeds,
    uniform_parameters,
)


def injected_scale(parameters: ChainParameters) -> float:
    """sum_k prod_{l > k} sigma_l ||B_k||: what an error of J_L is relative to."""
    size = 0.0
    for sigma, along, across in zip(
        parameters.sigma, parameters.injection_along, parameters.injection_across, strict=True
    ):
        size = sigma * size + math.hypot(along, across)
    return size


@settings(deadline=None, max_examples=100)
@given(seed=seeds(), depth=st.integers(1, 9), d=st.integers(2, 8))
def test_T15_holds_for_random_chains(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = random_parameters(rng, depth)
    chain = theory.make_chain(parameters, d, rng, context_dimension=int(rng.integers(1, 6)))
    check_certificate(chain, parameters)


def check_certificate(chain: theory.Chain, parameters: ChainParameters) -> None:
    jacobian = dense_jacobian(chain.propagators, chain.injections)
    s = np.linalg.svd(jacobian, compute_uv=False)
    along = np.linalg.norm(chain.u[-1] @ jacobian)
    across = np.linalg.norm(jacobian - np.outer(chain.u[-1], chain.u[-1] @ jacobian), 2)
    slack = rounding(parameters.depth, chain.dimension) * injected_scale(parameters)
    certificate = theory.certify(parameters)
    assert certificate.norm_lower - slack <= s[0] <= certificate.norm_upper + slack
    assert certificate.norm_lower - slack <= along
    assert across <= certificate.sigma2_upper + slack
    if s.size > 1:
        assert s[1] <= certificate.sigma2_upper + slack
    if math.isfinite(certificate.noise_ratio_upper):
        assert across - slack <= certificate.noise_ratio_upper * (along + slack)
    if certificate.norm_upper > 0:
        # ln turns a relative rounding into an absolute one
        assert certificate.log_norm_upper == pytest.approx(math.log(certificate.norm_upper), abs=4e-15, rel=4e-15)
    else:
        assert certificate.log_norm_upper == -math.inf


@pytest.mark.parametrize("sense", ["fastest", "slowest"])
@pytest.mark.parametrize(("kappa", "xi"), [(0.3, 0.2), (0.9, 0.1), (0.99, 0.5), (0.5, 0.01), (1.0, 0.3), (0.0, 0.4)])
def test_T15_holds_for_twisted_chains(sense: str, kappa: float, xi: float) -> None:
    for depth in (1, 2, 5, 20):
        chain = theory.twisted_chain(kappa, xi, depth, sigma=1.1, sense=sense)  # pyright: ignore[reportArgumentType]
        parameters = uniform_parameters(depth, sigma=1.1, gap=xi, alignment=kappa)
        check_certificate(chain, parameters)


def test_T15_upper_bound_is_reached_by_aligned_chains() -> None:
    """kappa = 1 and injections along u: ||J_L|| = sum sigma^k exactly, and both bounds say so when one is injected."""
    parameters = ChainParameters(
        sigma=np.full(6, 1.3),
        gap=np.full(6, 0.2),
        alignment=np.ones(6),
        injection_along=np.array([2.0, 0, 0, 0, 0, 0]),
        injection_across=np.zeros(6),
    )
    certificate = theory.certify(parameters)
    assert certificate.norm_lower == pytest.approx(2 * 1.3**5, rel=1e-14)
    assert certificate.norm_upper == pytest.approx(2 * 1.3**5, rel=1e-14)
    assert certificate.sigma2_upper == 0 == certificate.noise_ratio_upper


def test_the_lower_bound_recovers_after_a_large_injection() -> None:
    parameters = ChainParameters(
        sigma=np.array([1.0, 0.1]),
        gap=np.full(2, 0.5),
        alignment=np.array([np.nan, 0.5]),
        injection_along=np.array([1.0, 10.0]),
        injection_across=np.zeros(2),
    )
    assert theory.certify(parameters).norm_lower == pytest.approx(10 - 0.1 * 0.5, rel=1e-14)


@pytest.mark.parametrize("sigma", [1e-200, 0.2, 1.0, 7.0, 1e200])
def test_log_bounds_of_deep_chains_are_finite_and_scale_with_sigma(sigma: float) -> None:
    depth = 3000
    along = np.zeros(depth)
    along[0] = 1.0
    parameters = ChainParameters(
        sigma=np.full(depth, sigma),
        gap=np.full(depth, 1e-6),
        alignment=np.full(depth, 0.95),
        injection_along=along,
        injection_across=np.zeros(depth),
    )
    unit = ChainParameters(np.ones(depth), parameters.gap, parameters.alignment, along, np.zeros(depth))
    certificate, reference = theory.certify(parameters), theory.certify(unit)
    shift = (depth - 1) * math.log(sigma)
    # eps of the exponents' total and of the recursion at each layer
    tolerance = 8 * depth * 2.3e-16 * max(1.0, abs(math.log(sigma)))
    assert certificate.log_norm_upper == pytest.approx(reference.log_norm_upper + shift, abs=tolerance)
    assert certificate.log_norm_lower == pytest.approx(reference.log_norm_lower + shift, abs=tolerance)
    assert certificate.log_norm_lower > -math.inf


def test_the_first_alignment_is_never_read() -> None:
    base = random_parameters(np.random.default_rng(3), 5)
    results = set()
    for first in (np.nan, 0.0, 0.5, 1.0):
        alignment = base.alignment.copy()
        alignment[0] = first
        results.add(
            repr(
                theory.certify(
                    ChainParameters(base.sigma, base.gap, alignment, base.injection_along, base.injection_across)
                )
            )
        )
    assert len(results) == 1


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 8))
def test_T16_bounds_the_response_along_a_coherent_direction(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    parameters = ChainParameters(
        base.sigma,
        base.gap**2,
        base.alignment**0.25,
        base.injection_along,
        base.injection_across,
        injection_coherent=base.injection_along * rng.uniform(-1, 1, depth),
    )
    chain = theory.make_chain(parameters, 6, rng)
    jacobian = dense_jacobian(chain.propagators, chain.injections)
    lower = theory.certify(parameters).coherent_lower
    assert lower is not None
    slack = rounding(depth, 6) * injected_scale(parameters)
    assert lower <= chain.u[-1] @ jacobian[:, 0] + slack
    assert lower <= np.linalg.norm(jacobian, 2) + slack


@settings(deadline=None, max_examples=100)
@given(seed=seeds(), depth=st.integers(1, 10), d=st.integers(2, 7))
def test_T8_T9_T10_bracket_products_of_random_chains(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    parameters = ChainParameters(
        base.sigma, base.gap**3, base.alignment**0.2, base.injection_along, base.injection_across
    )
    s = np.linalg.svd(dense_product(theory.make_chain(parameters, d, rng).propagators), compute_uv=False)
    slack = rounding(depth, d) * np.prod(parameters.sigma)
    assert s[0] <= np.exp(theory.log_product_upper(parameters)) + slack
    lower = theory.log_product_lower(parameters)
    uniform = theory.log_product_lower_uniform(parameters)
    if not math.isnan(lower):
        assert np.exp(lower) <= s[0] + slack
    if not math.isnan(uniform):
        assert np.exp(uniform) <= s[0] + slack
        assert uniform <= lower + 1e-12 * depth
    assert s[1] <= np.exp(theory.log_product_ratio_upper(parameters)) * s[0] + slack


@pytest.mark.parametrize(("kappa", "xi"), [(0.3, 0.01), (0.6, 0.1), (0.95, 0.3), (0.999, 0.9), (0.2, 0.9)])
def test_T11_attains_both_rates(kappa: float, xi: float) -> None:
    depth = 400
    for sense, rate in (("fastest", theory.max_rate(kappa, xi)), ("slowest", theory.min_rate(kappa, xi))):
        if np.isnan(rate):
            continue
        chain = theory.twisted_chain(kappa, xi, depth, sense=sense)  # pyright: ignore[reportArgumentType]
        log_norm = theory.products(chain).log_norm()
        assert (log_norm[-1] - log_norm[depth // 2 - 1]) / (depth // 2) == pytest.approx(np.log(rate), abs=1e-6)


def test_T11_rotates_below_the_critical_alignment() -> None:
    """No collapse: the determinant is xi a layer and both singular values go with its root."""
    xi = 0.5
    chain = theory.twisted_chain(0.6 * float(theory.critical_alignment(xi)), xi, 200, sense="slowest")
    product = theory.products(chain)
    ratio, resolved = product.log_ratio()
    assert resolved.all()
    assert ratio.min() > -5
    assert product.log_norm()[-1] / 200 == pytest.approx(0.5 * np.log(xi), abs=0.02)


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.sampled_from([1, 6, 30]))
def test_T13_bounds_the_jacobian_at_every_depth(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    rate = np.max(theory.max_rate(base.alignment, np.max(base.gap)))
    parameters = ChainParameters(
        0.95 * base.sigma / base.sigma.max() / rate,
        base.gap,
        base.alignment,
        base.injection_along,
        base.injection_across,
    )
    bound = theory.context_norm_bound(parameters)
    assert math.isfinite(bound)
    chain = theory.make_chain(parameters, 5, rng)
    norms = np.exp(theory.context_jacobians(chain).log_norm())
    assert norms.max() <= bound * (1 + rounding(depth, 5))


def test_T13_fails_where_the_paper_rule_would_not() -> None:
    parameters = uniform_parameters(20, sigma=1.9, gap=0.1, alignment=0.5)
    assert theory.context_norm_bound(parameters) == math.inf
    assert theory.paper_rule(parameters).regime == "I"


@pytest.mark.parametrize(
    ("sigma", "gap", "alignment", "regime"),
    [(0.9, 0.5, 0.9, "I"), (1.9, 0.1, 0.5, "coexistence"), (1.2, 0.01, 0.95, "II"), (3.0, 0.9, 0.5, "coexistence")],
)
def test_T14_regimes(sigma: float, gap: float, alignment: float, regime: str) -> None:
    parameters = uniform_parameters(6, sigma=sigma, gap=gap, alignment=alignment)
    assert theory.certify(parameters).regime == regime
    prediction = theory.certified_regime(parameters)
    assert prediction.regime == regime
    assert prediction.margin >= 0


def test_one_layer_on_the_other_side_means_coexistence() -> None:
    sigma = np.array([5.0, 0.5, 0.5, 3.0])
    parameters = ChainParameters(sigma, np.full(4, 0.01), np.full(4, 0.9), np.ones(4), np.zeros(4))
    assert theory.certify(parameters).regime == "coexistence"
    quiet = ChainParameters(np.array([5.0, 0.5, 0.5, 0.5]), np.full(4, 0.01), np.full(4, 0.9), np.ones(4), np.zeros(4))
    assert theory.certify(quiet).regime == "I"


@pytest.mark.parametrize("injections", ["first", "every"])
def test_noise_of_deep_aligned_chains_does_not_underflow(injections: str) -> None:
    """kappa = 1: q+ = b xi^(L-1) while p+ stays near 1; the chain has just that sigma_2, about e^-919."""
    depth, xi, b = 400, 0.1, 0.3
    along, across = np.zeros(depth), np.zeros(depth)
    along[: 1 if injections == "first" else depth] = 1.0
    across[0] = b
    parameters = ChainParameters(np.ones(depth), np.full(depth, xi), np.ones(depth), along, across)
    certificate = theory.certify(parameters)
    exact = (depth - 1) * math.log(xi) + math.log(b)
    assert exact == pytest.approx(-918.7 - 1.2, abs=0.1)
    # two products a layer, and the rounding of a logarithm of this size
    tolerance = 4 * depth * 2.3e-16 + 4 * 2.3e-16 * abs(exact)
    assert certificate.log_sigma2_upper == pytest.approx(exact, abs=tolerance)
    assert certificate.sigma2_upper > 0, "a bound of 0 would exclude the true value"
    assert certificate.noise_ratio_upper > 0
    assert certificate.norm_upper == pytest.approx(1.0 if injections == "first" else depth, rel=1e-13)
    if injections == "first":
        assert certificate.norm_lower == pytest.approx(1.0, rel=1e-13)


def test_noise_within_reach_of_float64_is_a_plain_number() -> None:
    """The same chain at L = 40: sigma_2 and the noise ratio are b xi^39."""
    parameters = ChainParameters(np.ones(40), np.full(40, 0.1), np.ones(40), np.eye(40)[0], 0.3 * np.eye(40)[0])
    certificate = theory.certify(parameters)
    assert certificate.sigma2_upper == pytest.approx(0.3 * 0.1**39, rel=1e-13)
    assert certificate.noise_ratio_upper == pytest.approx(0.3 * 0.1**39, rel=1e-13)
    assert certificate.log_sigma2_upper == pytest.approx(math.log(certificate.sigma2_upper), rel=1e-14)


@pytest.mark.parametrize("size", [1e-320, 1e-170, 1.0, 1e170])
def test_a_chain_of_other_units_has_the_same_logarithms(size: float) -> None:
    """Deep decay along and across, with coherent injections: every logarithm shifts by ln of the unit."""
    depth, first = 500, np.eye(500)[0]

    def certificate(unit: float) -> theory.Certificate:
        return theory.certify(
            ChainParameters(
                np.full(depth, 0.01),
                np.full(depth, 1e-3),
                np.full(depth, 0.9999),
                unit * first,
                0.5 * unit * first,
                injection_coherent=unit * first,
            )
        )

    one, other = certificate(1.0), certificate(size)
    shift = math.log(size)
    for name in ("log_norm_lower", "log_norm_upper", "log_sigma2_upper", "log_coherent_lower"):
        assert -2500 < getattr(one, name) < -2000, name
        # a subnormal unit is itself rounded to 2^-1074, one part in 2000 at 1e-320
        slack = 1e-3 if size < 1e-300 else 1e-11
        assert getattr(other, name) == pytest.approx(getattr(one, name) + shift, abs=slack), name
    assert other.noise_ratio_upper == pytest.approx(one.noise_ratio_upper, rel=1e-2 if size < 1e-300 else 1e-11)
