"""(T34) for the product: P_L in infinitely many dimensions, and its scatter in many."""

from __future__ import annotations

import numpy as np
import pytest

from theory.phase.limit_product import limit_product
from theory.propagation.reduction import direction_coordinates, log_singular_values
from theory.regimes.typical import crossover_width

CELLS = [(0.7, 0.4, 8), (0.4, 0.4, 6), (0.3, 0.6, 8), (0.9, 0.3, 12)]


@pytest.mark.parametrize(("alignment", "gap", "depth"), CELLS)
def test_products_in_many_dimensions_scatter_about_the_limit_as_predicted(alignment, gap, depth):
    d, n = 10**6, 1500
    w = direction_coordinates(np.array([alignment]), d, np.random.default_rng(4), n, depth)[0]
    first, second = log_singular_values(w, np.full((n, depth), gap), np.ones((n, depth)))
    limit = limit_product(alignment, gap, depth)
    predicted = limit.deviation / np.sqrt(d - 1)
    # The next order, 1 / d times a few depths squared, is far below the 4 standard errors of the means.
    assert abs(first.mean() - limit.log_norm) < 4 * predicted / np.sqrt(n) + 2e-5
    assert abs((second - first).mean() - limit.log_ratio) < 4 * (second - first).std() / np.sqrt(n) + 1e-4
    # ln of a sample deviation errs by 1 / sqrt(2 n) = 1.8 %; 8 % is 4.4 of that.
    assert abs(np.log(first.std(ddof=1) / predicted)) < 0.08


def test_deviation_is_the_gradient_by_finite_differences():
    """Each component of a new direction along its forerunners, moved by hand, in a chain built another way."""
    kappa, gap, depth = 0.6, 0.5, 4
    s = np.sqrt(1 - kappa**2)

    def log_norm(tilt):
        w = [np.eye(depth + 1)[0]]
        for layer in range(1, depth):
            n = np.eye(depth + 1)[layer] + np.concatenate([tilt[layer, :layer], np.zeros(depth + 1 - layer)])
            n -= (n @ w[-1]) * w[-1]
            w.append(kappa * w[-1] + s * n)  # the length of n changes to second order only
        product = np.eye(depth + 1)
        for x in w:
            product = (gap * np.eye(depth + 1) + (1 - gap) * np.outer(x, x)) @ product
        return np.log(np.linalg.svd(product, compute_uv=False)[0])

    step, total = 1e-5, 0.0
    for layer in range(1, depth):
        for along in range(layer):
            tilt = np.zeros((depth, depth))
            tilt[layer, along] = step
            total += ((log_norm(tilt) - log_norm(-tilt)) / (2 * step)) ** 2
    limit = limit_product(kappa, gap, depth)
    assert limit.log_norm == pytest.approx(log_norm(np.zeros((depth, depth))), abs=1e-13)
    assert limit.deviation == pytest.approx(np.sqrt(total), rel=1e-7)


def test_deep_products_of_the_attractor_have_the_rate_the_ratio_and_the_width_of_T18_T19_and_T21():
    kappa, gap = 0.8, 0.3
    low, high = limit_product(kappa, gap, 40), limit_product(kappa, gap, 60)
    assert (high.log_norm - low.log_norm) / 20 == pytest.approx(np.log(kappa), rel=1e-9)
    assert (high.log_ratio - low.log_ratio) / 20 == pytest.approx(np.log(gap / kappa), rel=5e-3)
    slope = np.sqrt((high.deviation**2 - low.deviation**2) / 20)
    assert slope == pytest.approx(float(crossover_width(kappa, gap, 1, 2)), rel=1e-6)


def test_deep_products_of_the_dispersive_side_grow_by_the_gap_and_do_not_collapse():
    low, high = limit_product(0.2, 0.6, 40), limit_product(0.2, 0.6, 60)
    assert (high.log_norm - low.log_norm) / 20 == pytest.approx(np.log(0.6), abs=2e-3)
    assert abs(high.log_ratio - low.log_ratio) / 20 < 1e-3


def test_edges():
    one = limit_product(0.4, 0.3, 1)
    assert (one.log_norm, one.deviation) == (0.0, 0.0)
    assert one.log_ratio == pytest.approx(np.log(0.3))
    assert limit_product(1.0, 0.5, 7).deviation == 0
    assert limit_product(0.5, 0.0, 4).log_ratio == -np.inf
    assert limit_product(0.0, 0.0, 3).log_norm == -np.inf
    assert np.isnan(limit_product(0.3, 1.0, 4).deviation)
    with pytest.raises(ValueError, match="alignment"):
        limit_product(1.5, 0.5, 3)
