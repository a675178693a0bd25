"""Every bound behind one face: hypotheses with margins, true values, slack; how the published ones fail."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from observables import ChainParameters
from tests.helpers.chains import (
    EPS,
    dense_product,
    random_parameters,
    rounding,
    seeds,
    uniform_parameters,
)
from theory.bounds.hypotheses import BoundResult, at_least, below
from theory.bounds.perturbation import log_perturbation_error, log_perturbation_error_by_columns
from theory.bounds.products import (
    log_context_norm_bound,
    regime_one_rate,
    tempting_product_lower,
    tempting_product_upper,
)
from theory.bounds.published import PaperThresholds, p2_log_transport, published_bounds
from theory.bounds.truth import chain_truth
from theory.regimes import thresholds


def by_tag(results: tuple[BoundResult, ...], tag: str, quantity: str, side: str = "upper") -> BoundResult:
    found = [one for one in results if (one.tag, one.quantity, one.side) == (tag, quantity, side)]
    assert len(found) == 1, (tag, quantity, side)
    return found[0]


@settings(deadline=None, max_examples=40)
@given(seed=seeds(), depth=st.integers(1, 7), d=st.integers(2, 6), m=st.integers(1, 4))
def test_every_rigorous_bound_holds_wherever_its_hypotheses_do(seed: int, depth: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    scale = float(rng.choice([1e-150, 1.0, 1e150]))
    parameters = ChainParameters(
        base.sigma * (scale if seed % 2 else 1.0),
        base.gap**2,
        1 - (1 - base.alignment) ** 2,
        scale * base.injection_along,
        scale * base.injection_across,
    )
    chain = theory.make_chain(parameters, d, rng, context_dimension=m)
    for result in theory.evaluate_bounds(parameters, chain, ranks=(1, 2), direction=np.eye(m)[0]):
        assert result.log_true is not None
        if result.rigorous and result.applies:
            assert not math.isnan(result.log_value), result
            assert not result.violated, result


def test_all_the_tags_are_there() -> None:
    rng = np.random.default_rng(0)
    parameters = replace(random_parameters(rng, 4), injection_across=np.zeros(4))
    chain = theory.make_chain(parameters, 5, rng)
    bare = {one.tag for one in theory.evaluate_bounds(parameters)}
    assert bare >= {"P1", "P2", "P3", "T8", "T9", "T9 uniform", "T10", "T12", "T13", "T15", "T16", "T27"}
    with_chain = {one.tag for one in theory.evaluate_bounds(parameters, chain)}
    assert with_chain - bare == {f"T17 m={m}" for m in (1, 2, 3, 4)} | {
        f"T25 {choice} r={r}" for choice in ("layers", "context", "forward", "backward") for r in (1, 2, 4)
    }


def test_the_published_bounds_break_inside_their_own_hypotheses() -> None:
    """The twisted chain with xi = 0.1, kappa = 0.5, sigma = 1.9 for (P2); kappa = 0.1, xi = 0.001, L = 10 for (P1)."""
    chain = theory.twisted_chain(0.5, 0.1, 40, sigma=1.9)
    results = theory.evaluate_bounds(theory.measure(chain), chain, blocks=[1], frames=())
    for quantity in ("first_injection", "context_norm"):
        claim = by_tag(results, "P2", quantity)
        assert claim.applies and claim.violated and not claim.rigorous
        assert claim.log_slack is not None and claim.log_slack < -4
    assert by_tag(results, "P2", "first_injection").hypotheses[0].margin == pytest.approx(-math.log(0.95), abs=1e-12)
    assert not by_tag(results, "T8", "product_norm").violated
    regime = by_tag(results, "T13", "context_norm").failed
    assert [one.name for one in regime] == ["sup sigma Lambda_max < 1"]
    assert regime[0].margin == pytest.approx(-math.log(1.9 * theory.max_rate(0.5, 0.1)), abs=1e-12)

    chain = theory.twisted_chain(0.1, 0.001, 10)
    results = theory.evaluate_bounds(theory.measure(chain), chain, blocks=[1], frames=())
    claim = by_tag(results, "P1", "path_error")
    assert claim.applies and claim.violated
    assert math.exp(claim.log_value) == pytest.approx(0.1, rel=1e-10)
    # theory.md's reference values of the twisted chain and of (T12)
    assert claim.log_true is not None and math.exp(claim.log_true) == pytest.approx(1.0170, abs=5.1e-5)
    assert math.exp(by_tag(results, "T12", "path_error").log_value) == pytest.approx(1.0468, abs=5.1e-5)


def test_P3_names_each_condition_and_by_how_much_it_fails() -> None:
    parameters = uniform_parameters(20, sigma=1.2, gap=0.05, alignment=0.6)
    claim = by_tag(published_bounds(parameters), "P3", "noise_ratio")
    assert [one.name for one in claim.failed] == ["inf rho >= 1", "inf kappa > 0.7", "L xi / kappa < 0.3"]
    assert [one.name for one in claim.unknown] == ["inf c > 0"]
    margins = [one.margin for one in claim.failed]
    assert margins == pytest.approx([math.log(0.72), math.log(0.6 / 0.7), math.log(0.3 / (20 * 0.05 / 0.6))], rel=1e-12)
    good = replace(uniform_parameters(20, sigma=1.2, gap=0.005, alignment=0.9), injection_coherent=np.full(20, -0.5))
    assert by_tag(published_bounds(good), "P3", "noise_ratio").applies, "-w is a direction as good as w"
    mixed = replace(good, injection_coherent=np.where(np.arange(20) == 3, 0.1, -0.5))
    failed = by_tag(published_bounds(mixed), "P3", "noise_ratio").failed
    assert [(one.name, one.margin) for one in failed] == [("inf c > 0", -0.1)]


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(2, 6))
def test_published_hypotheses_and_the_paper_rule_agree(seed: int, depth: int) -> None:
    base = random_parameters(np.random.default_rng(seed), depth)
    # the rule reads xi over l >= 2, (P1) over all layers
    gap = np.concatenate([[0.0], base.gap[1:] ** 4 / 10])
    parameters = replace(base, gap=gap, injection_coherent=np.ones(depth), injection_along=np.ones(depth))
    results = published_bounds(parameters)
    regime = theory.paper_rule(parameters).regime
    assert by_tag(results, "P2", "context_norm").applies == (regime == "I")
    assert by_tag(results, "P3", "noise_ratio").applies == (regime == "II")


def test_thresholds_of_the_rule_and_of_the_bounds_are_one() -> None:
    limits = PaperThresholds()
    assert (limits.gain, limits.first_order_error, limits.alignment) == (
        thresholds.PAPER_GAIN,
        thresholds.PAPER_FIRST_ORDER_ERROR,
        thresholds.PAPER_ALIGNMENT,
    )
    parameters = uniform_parameters(10, sigma=1.2, gap=0.01, alignment=0.95)
    strict = published_bounds(parameters, PaperThresholds(alignment=0.99))
    assert [one.name for one in by_tag(strict, "P3", "noise_ratio").failed] == ["inf kappa > 0.99"]


def test_P2_transport_is_the_product_of_later_gains() -> None:
    parameters = uniform_parameters(5, sigma=1.5, gap=0.1, alignment=0.5, along=3.0, across=4.0)
    expected = [math.log(5.0) + (4 - k) * math.log(0.75) for k in range(5)]
    np.testing.assert_allclose(p2_log_transport(parameters), expected, rtol=1e-14)


def test_one_layer_has_empty_hypotheses() -> None:
    parameters = uniform_parameters(1, sigma=2.0, gap=0.1, across=0.5)
    assert by_tag(published_bounds(parameters), "P2", "context_norm").applies
    chain = theory.make_chain(parameters, 3, np.random.default_rng(0))
    for result in theory.evaluate_bounds(parameters, chain):
        if result.rigorous and result.applies:
            assert not result.violated


def test_slack_and_violation_of_both_sides() -> None:
    upper = BoundResult("X", "context_norm", "upper", 1.0)
    assert upper.log_slack is None and upper.violated is None
    assert upper.against(0.5, -30.0).log_slack == 0.5
    assert upper.against(1.5, -30.0).violated is True
    # e^1.5 - e = 1.763
    assert upper.against(1.5, math.log(1.77)).violated is False
    assert upper.against(1.5, math.log(1.76)).violated is True
    lower = BoundResult("X", "context_norm", "lower", 1.0)
    assert lower.against(0.5, -30.0).log_slack == -0.5 and lower.against(0.5, -30.0).violated
    assert not lower.against(1.5, -30.0).violated
    assert BoundResult("X", "context_norm", "upper", -math.inf).against(-2.0, -30.0).violated
    assert not BoundResult("X", "context_norm", "upper", -math.inf).against(-math.inf, -math.inf).violated
    assert not BoundResult("X", "context_norm", "lower", -math.inf).against(2.0, -30.0).violated
    assert BoundResult("X", "context_norm", "upper", math.nan).against(2.0, -30.0).violated is None


def test_margins_are_signed_and_logarithmic() -> None:
    assert below("a", "", 2.0, 4.0).margin == pytest.approx(math.log(2)) and below("a", "", 2.0, 4.0).holds
    assert below("a", "", 0.0, 4.0).margin == math.inf
    assert not below("a", "", 4.0, 4.0).holds and below("a", "", 4.0, 4.0).margin == 0
    assert at_least("a", "", 4.0, 4.0).holds and not at_least("a", "", 4.0, 4.0, strict=True).holds
    assert at_least("a", "", 1.0, 4.0).margin == pytest.approx(-math.log(4))


def test_truth_is_that_of_plain_algebra() -> None:
    rng = np.random.default_rng(3)
    parameters = random_parameters(rng, 5)
    chain = theory.make_chain(parameters, 4, rng, context_dimension=3)
    a, b, u, v = chain.propagators, chain.injections, chain.u, chain.v
    product = a[4] @ a[3] @ a[2] @ a[1] @ a[0]
    path = np.prod(parameters.sigma) * np.prod([v[k] @ u[k - 1] for k in range(1, 5)]) * np.outer(u[4], v[0])
    jacobian = sum(np.linalg.multi_dot([np.eye(4), *a[:k:-1], np.eye(4)]) @ b[k] for k in range(5))
    s = np.linalg.svd(product, compute_uv=False)
    along = u[4] @ jacobian
    expected = {
        "product_norm": s[0],
        "product_ratio": s[1] / s[0],
        "path_error": np.linalg.norm(product - path, 2) / np.linalg.norm(path, 2),
        "first_injection": np.linalg.norm(a[4] @ a[3] @ a[2] @ a[1] @ b[0], 2),
        "context_norm": np.linalg.norm(jacobian, 2),
        "context_sigma_2": np.linalg.svd(jacobian, compute_uv=False)[1],
        "noise_ratio": np.linalg.norm(jacobian - np.outer(u[4], along), 2) / np.linalg.norm(along),
    }
    values = chain_truth(chain).values
    for name, value in expected.items():
        # rounding is relative to the largest singular value, so absolute for the small ones
        assert math.exp(values[name]) == pytest.approx(value, rel=1e-11, abs=1e-13), name


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 8))
def test_log_forms_agree_with_the_plain_ones(seed: int, depth: int) -> None:
    parameters = random_parameters(np.random.default_rng(seed), depth)
    # each layer rounds a few times
    slack = 16 * depth * EPS
    error = theory.perturbation_error(parameters.alignment, parameters.gap)
    assert log_perturbation_error(parameters) == pytest.approx(math.log(error) if error else -math.inf, abs=50 * slack)
    quiet = replace(parameters, sigma=0.5 * parameters.sigma / (parameters.sigma.max() + regime_one_rate(parameters)))
    bound = theory.context_norm_bound(quiet)
    assert log_context_norm_bound(quiet) == pytest.approx(math.log(bound) if bound else -math.inf, abs=slack)


def test_T12_in_logarithms_has_no_largest_depth() -> None:
    """a_l grows at least like (s / kappa)^2 xi a layer, 1e6 here: past float64 by layer 60."""
    parameters = uniform_parameters(200, gap=1.0, alignment=1e-3)
    assert theory.perturbation_error(parameters.alignment[1:], parameters.gap[1:]) == math.inf
    assert 1000 < log_perturbation_error(parameters) < 200 * math.log(2e6)


def test_tempting_products_claim_more_than_the_bounds_where_gaps_vary() -> None:
    """They are (T8) and (T9) where the numbers are uniform; `theory.counterexamples` breaks them where they are not."""
    same = uniform_parameters(6, sigma=1.3, gap=0.04, alignment=0.9)
    assert tempting_product_upper(same) == pytest.approx(theory.log_product_upper(same), abs=1e-14)
    assert tempting_product_lower(same) == pytest.approx(theory.log_product_lower_uniform(same), abs=1e-14)
    varied = replace(same, gap=np.array([0.04, 0.001, 0.04, 0.001, 0.04, 0.001]))
    assert tempting_product_upper(varied) < theory.log_product_upper(varied)
    assert tempting_product_lower(varied) > theory.log_product_lower_closed(varied)
    assert math.isnan(tempting_product_lower(replace(same, alignment=np.full(6, 0.1))))


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 9), d=st.integers(2, 5))
def test_T9_closed_lies_between_the_uniform_form_and_the_one_by_layer(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    base = random_parameters(rng, depth)
    gap = 0.7 * base.gap**3
    critical = float(theory.critical_alignment(float(gap.max())))
    parameters = replace(base, gap=gap, alignment=critical + (1 - critical) * rng.uniform(0.01, 1, depth))
    closed = theory.log_product_lower_closed(parameters)
    # kappa - kappa_c >= 1.6e-4, where d ln Lambda_min / d kappa is at most 60, and sums of logarithms
    slack = depth * EPS * (200 + 8 * float(np.abs(np.log(parameters.sigma)).sum()))
    assert theory.log_product_lower_uniform(parameters) <= closed + slack
    assert closed <= theory.log_product_lower(parameters) + slack
    product = dense_product(theory.make_chain(parameters, d, rng).propagators)
    margin = rounding(depth, d) * float(np.prod(parameters.sigma))
    assert math.exp(closed - slack) <= np.linalg.norm(product, 2) + margin


@settings(deadline=None, max_examples=60)
@given(seed=seeds(), depth=st.integers(1, 9), d=st.integers(2, 5))
def test_T31_bounds_the_error_and_is_never_above_T12(seed: int, depth: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = random_parameters(rng, depth)
    bound, looser = log_perturbation_error_by_columns(parameters), log_perturbation_error(parameters)
    assert bound <= looser + 1e-14 * max(1.0, abs(looser))
    chain = theory.make_chain(parameters, d, rng)
    path = float(np.prod(parameters.alignment[1:]) * np.prod(parameters.sigma))
    error = np.linalg.norm(dense_product(chain.propagators) - path * np.outer(chain.u[-1], chain.v[0]), 2)
    # the product's own rounding, beside a path that may be much smaller
    margin = rounding(depth, d) * float(np.prod(parameters.sigma))
    assert error <= path * math.exp(bound) + margin


def test_T31_reference_values() -> None:
    """kappa = 0.9, xi = 0.05, L = 64: the twisted chain reaches 0.9803, (T12) allows 1.1825."""
    parameters = uniform_parameters(64, gap=0.05, alignment=0.9)
    assert math.exp(log_perturbation_error(parameters)) == pytest.approx(1.1825, abs=5e-5)
    assert math.exp(log_perturbation_error_by_columns(parameters)) == pytest.approx(1.1300, abs=5e-5)


def test_chains_of_another_depth_or_many_at_once_are_refused() -> None:
    chain = theory.twisted_chain(0.9, 0.1, 4)
    with pytest.raises(ValueError, match="chain must have the 5 layers of parameters; got 4"):
        theory.evaluate_bounds(uniform_parameters(5), chain)
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), chain)
    with pytest.raises(ValueError, match="one chain"):
        theory.evaluate_bounds(uniform_parameters(4), batch)


def test_a_result_prints_in_one_line_what_holds_and_what_fails() -> None:
    held = BoundResult("P2", "context_norm", "upper", 1.0).against(2.5, -30.0)
    assert str(held) == "P2: ln context_norm <= 1; true 2.5, violated"
    failed = BoundResult("T9", "product_norm", "lower", math.nan, (at_least("kappa >= c", "", 0.5, 1.0),))
    assert str(failed) == "T9: ln product_norm >= nan; not kappa >= c, by 0.69"
