"""Predicted regimes: the paper's rule, (T14), (T18) and (T26), at and beside their boundaries."""

import math

import numpy as np
import pytest

import theory
from observables import ChainParameters
from tests.helpers.chains import uniform_parameters


@pytest.mark.parametrize(
    ("sigma", "gap", "alignment", "regime"),
    [
        (0.9, 0.9, 1.0, "I"),
        (1.9, 0.1, 0.5, "I"),  # the counterexample: the paper's rule does not see it
        (1.2, 0.01, 0.95, "II"),
        (1.2, 0.2, 0.95, "outside the theorem"),  # L xi / kappa too large
        (2.0, 0.01, 0.6, "outside the theorem"),  # kappa too small
        (1.0, 0.0, 1.0, "II"),  # rho = 1 belongs to Regime II
    ],
)
def test_paper_rule(sigma: float, gap: float, alignment: float, regime: str) -> None:
    prediction = theory.paper_rule(uniform_parameters(8, sigma=sigma, gap=gap, alignment=alignment))
    assert prediction.regime == regime
    assert prediction.margin >= 0
    assert prediction.reason


def test_paper_rule_margin_is_the_log_distance_of_the_binding_inequality() -> None:
    one = theory.paper_rule(uniform_parameters(8, sigma=0.8, gap=0.5, alignment=0.5))
    assert one.margin == pytest.approx(-math.log(0.4), rel=1e-14)
    two = theory.paper_rule(uniform_parameters(8, sigma=2.0, gap=0.001, alignment=0.71))
    assert two.margin == pytest.approx(math.log(0.71 / 0.7), rel=1e-12)
    outside = theory.paper_rule(uniform_parameters(8, sigma=1.05, gap=0.9, alignment=1.0))
    assert outside.margin == pytest.approx(math.log(1.05), rel=1e-12)


def test_one_layer_above_one_leaves_regime_I() -> None:
    alignment = np.array([np.nan, 0.5, 0.5, 0.9])
    parameters = ChainParameters(np.full(4, 1.2), np.full(4, 0.5), alignment, np.ones(4), np.zeros(4))
    prediction = theory.paper_rule(parameters)
    assert prediction.regime == "outside the theorem"
    assert "inf rho" in prediction.reason


@pytest.mark.parametrize(
    ("sigma", "bulk_gap", "alignment", "regime"),
    [
        (1.5, 0.2, 0.9, "attractor"),
        (0.9, 0.2, 0.9, "coherent decay"),
        (1.1, 0.6, 0.2, "dispersive decay"),
        (2.5, 0.6, 0.2, "dispersive growth"),
        (1.6, 0.62, 0.2, "pinned"),
    ],
)
def test_mean_field_has_four_phases_and_pinning(sigma: float, bulk_gap: float, alignment: float, regime: str) -> None:
    parameters = uniform_parameters(8, sigma=sigma, gap=0.95, alignment=alignment, bulk_gap=bulk_gap)
    assert theory.mean_field(parameters).regime == regime


def test_pinning_ends_where_the_threshold_says() -> None:
    """L |ln sigma xi_F| < 1/2: at L = 10, growth within exp(+-0.05)."""
    for growth, regime in ((0.0499, "pinned"), (0.0501, "dispersive growth"), (-0.0501, "dispersive decay")):
        parameters = uniform_parameters(10, sigma=2 * math.exp(growth), gap=0.9, alignment=0.1, bulk_gap=0.5)
        prediction = theory.mean_field(parameters)
        assert prediction.regime == regime
        assert prediction.margin == pytest.approx(1e-4, rel=1e-6)


def test_mean_field_reads_layers_from_the_second_and_means_their_logs() -> None:
    sigma = np.array([40.0, 2.0, 0.5, 1.0])
    parameters = ChainParameters(
        sigma, np.full(4, 0.9), np.full(4, 0.9), np.ones(4), np.zeros(4), bulk_gap=np.full(4, 0.1)
    )
    prediction = theory.mean_field(parameters)
    assert prediction.regime == "coherent decay"  # geometric mean of sigma is 1, kappa 0.9
    assert prediction.margin == pytest.approx(-math.log(0.9), rel=1e-12)


def test_mean_field_needs_the_bulk_gap() -> None:
    with pytest.raises(ValueError, match="bulk_gap must be given"):
        theory.mean_field(uniform_parameters(4))


def test_zero_factors_give_a_regime_and_no_nan() -> None:
    for parameters in (
        uniform_parameters(4, sigma=0.0, gap=0.5, alignment=0.5, bulk_gap=0.5),
        uniform_parameters(4, sigma=1.0, gap=0.0, alignment=0.0, bulk_gap=0.0),
        uniform_parameters(4, sigma=1.0, gap=1.0, alignment=0.0, bulk_gap=1.0),
        uniform_parameters(4, sigma=2.0, gap=0.0, alignment=1.0, bulk_gap=0.0),
    ):
        for rule in (theory.paper_rule, theory.certified_regime, theory.mean_field):
            prediction = rule(parameters)
            assert not math.isnan(prediction.margin)
            assert prediction.margin >= 0


def test_one_layer_decides_nothing() -> None:
    parameters = uniform_parameters(1, sigma=3.0, gap=0.1, bulk_gap=0.1)
    for rule in (theory.paper_rule, theory.certified_regime, theory.mean_field):
        assert math.isnan(rule(parameters).margin)
    assert theory.certify(parameters).regime == "coexistence"


def test_certified_margins_are_log_distances() -> None:
    one = theory.certified_regime(uniform_parameters(5, sigma=0.5, gap=0.3, alignment=0.6))
    assert one.margin == pytest.approx(-math.log(0.5 * theory.max_rate(0.6, 0.3)), rel=1e-12)
    two = theory.certified_regime(uniform_parameters(5, sigma=5.0, gap=0.3, alignment=0.9))
    critical = theory.critical_alignment(0.3)
    assert two.regime == "II"
    assert two.margin == pytest.approx(
        min(math.log(0.9 / critical), math.log(5.0 * theory.min_rate(0.9, 0.3))), rel=1e-12
    )
