"""Spectral alpha (O3) and whether the decay is a power law (O4)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import observables

I = np.arange(1, 61, dtype=np.float64)  # noqa: E741 - the index of the definition


@settings(deadline=None)
@given(alpha=st.floats(0.05, 12), scale=st.floats(1e-20, 1e20))
def test_O3_power_laws_give_their_exponent(alpha: float, scale: float) -> None:
    fit = observables.spectral_alpha(scale * I**-alpha)
    # log lambda has rounding eps |log lambda| < 1e-14 over a range of ln 5 in log i
    assert fit.slope == pytest.approx(alpha, abs=1e-12)
    assert fit.r_squared == pytest.approx(1.0, abs=1e-9)
    assert fit.is_power_law
    assert fit.llr_exponential > 0 and fit.llr_lognormal > 0
    assert fit.code == "ok"


def test_O4_exponential_decay_is_not_a_power_law_whatever_its_r_squared() -> None:
    fit = observables.spectral_alpha(np.exp(-0.4 * I))
    assert fit.slope == pytest.approx(10.3, abs=0.05)
    assert fit.r_squared == pytest.approx(0.96, abs=0.005)
    assert not fit.is_power_law
    assert fit.llr_exponential < -100


def test_O4_lognormal_decay_is_not_a_power_law() -> None:
    fit = observables.spectral_alpha(np.exp(-2.0 * np.log(I) - 0.5 * np.log(I) ** 2))
    assert fit.llr_lognormal < 0
    assert not fit.is_power_law


def test_a_convex_decay_counts_for_no_lognormal() -> None:
    fit = observables.spectral_alpha(np.exp(-6.0 * np.log(I) + 0.3 * np.log(I) ** 2))
    assert fit.llr_lognormal == pytest.approx(0.5 * math.log(41), rel=1e-9)


def test_interval_covers_the_slope_of_independent_residuals_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    hits, draws = 0, 400
    for _ in range(draws):
        noisy = np.exp(-20 * np.log(I) + 0.01 * rng.standard_normal(I.size))
        assert (np.diff(noisy[9:50]) < 0).all()  # noise too small to break the order, so that sorting hides nothing
        fit = observables.spectral_alpha(np.sort(noisy)[::-1])
        hits += fit.interval[0] <= 20 <= fit.interval[1]
    # binomial: 0.95 * 400 = 380, standard deviation 4.4
    assert 380 - 18 <= hits <= 380 + 18


def test_options_and_codes() -> None:
    steep = np.concatenate([I[:10] ** -1.0, 0.1 * (I[10:] / 10) ** -3.0])
    assert observables.spectral_alpha(steep, 1, 10).slope == pytest.approx(1.0, abs=1e-12)
    assert observables.spectral_alpha(steep, 10, 50).slope == pytest.approx(3.0, abs=1e-12)
    short = observables.spectral_alpha(I[:49] ** -1.0)
    assert short.code == "too_few_eigenvalues" and math.isnan(short.slope) and not short.is_power_law
    broken = observables.spectral_alpha(np.where(I == 3, np.nan, I**-1.0))
    assert broken.code == "non_finite" and math.isnan(broken.r_squared)
    for first, last in ((0, 10), (10, 12), (5, 3)):
        with pytest.raises(ValueError, match="first and last must be integers"):
            observables.spectral_alpha(I**-1.0, first, last)


def test_a_flat_spectrum_has_slope_zero_and_is_no_power_law() -> None:
    fit = observables.spectral_alpha(np.ones(60))
    assert fit.slope == pytest.approx(0.0, abs=1e-15)
    assert math.isnan(fit.r_squared) and not fit.is_power_law
