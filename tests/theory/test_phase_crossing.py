"""Enclosures of crossings: known roots, their worst case, and how few evaluations smooth curves cost."""

import numpy as np
import pytest

from theory.phase._crossing import crossings, enclosed_roots, order_values

CURVES = {
    "line": lambda x: x - 0.0123,
    "steep": lambda x: np.tanh(200 * (x - 0.03)),
    "bent": lambda x: np.exp(30 * x) - np.exp(0.9),
    "flat at its root": lambda x: (x - 0.07) ** 3,
    "step": lambda x: np.where(x > 0.04, 1.0, -1.0),
    "infinite below": lambda x: np.where(x < 0.05, -np.inf, x - 0.05 + 1e-12),
    "infinite above": lambda x: np.where(x > 0.05, np.inf, x - 0.06),
    "NaN inside": lambda x: np.where(np.abs(x - 0.05) < 0.01, np.nan, x - 0.05),
}


def test_enclosures_hold_a_change_of_sign_and_cost_one_step_more_than_halving_at_worst() -> None:
    names, counts = list(CURVES), np.zeros(len(CURVES), dtype=int)

    def evaluate(x, which):
        counts[which] += 1
        return np.array([float(CURVES[names[i]](np.float64(value))) for i, value in zip(which, x, strict=True)])

    low, high = np.zeros(len(names)), np.full(len(names), 0.1)
    every = np.arange(len(names))
    below, above = evaluate(low, every), evaluate(high, every)
    counts[:] = 0
    width = 0.1 / 2**12
    a, b = enclosed_roots(low, high, below, above, evaluate, np.full(len(names), width))
    assert (b - a <= width * (1 + 1e-9)).all() and (a < b).all()
    assert (counts <= 13).all()
    for i, name in enumerate(names):
        assert not CURVES[name](a[i]) > 0 and CURVES[name](b[i]) > 0, name
    assert (counts[:3] <= 7).all()  # smooth ones: half of what halving takes
    assert (a <= b).all() and (a >= 0).all() and (b <= 0.1).all()


def test_an_enclosure_that_is_narrow_enough_is_left_alone() -> None:
    def never(x, which):
        raise AssertionError("evaluated")

    a, b = enclosed_roots(*(np.array([v]) for v in (0.0, 0.1, -1.0, 1.0)), never, np.array([0.1]))
    assert (a, b) == (0.0, 0.1)


def test_each_cell_has_its_own_grid_and_the_median_may_come_alone() -> None:
    roots = np.array([0.3, 5.3, 9.0])
    grid = np.array([[0.0, 0.5, 1.0], [5.0, 5.5, 6.0], [0.0, 1.0, 2.0]])
    curves = (grid - roots[:, None])[None]
    found, code = crossings(curves, grid, lambda x, kinds, cells: x - roots[cells], tolerance=1e-6)
    np.testing.assert_array_equal(code, [0, 0, 1])
    np.testing.assert_allclose(found[0, :2], roots[:2], atol=1e-6)
    assert np.isnan(found[1:, :]).all() and np.isnan(found[0, 2])


def test_the_interval_goes_outwards_by_what_is_left_open() -> None:
    """The upper order statistic crosses first; each end of the interval lies beyond its root, by the width at most."""
    shifts = np.array([0.0, -0.1, 0.1])
    grid = np.linspace(0, 1, 6)
    curves = (grid - 0.5)[None, None] + shifts[:, None, None]
    found, _ = crossings(curves, grid, lambda x, kinds, cells: x - 0.5 + shifts[kinds], tolerance=1e-3)
    low, high = float(found[1, 0]), float(found[2, 0])
    assert 0.4 - 1e-3 <= low <= 0.4 and 0.6 <= high <= 0.6 + 1e-3


def test_too_few_values_have_a_median_alone_where_that_is_allowed() -> None:
    values = np.array([[3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(order_values(values, 0.95, few=True)[:, 0], [2.0, np.nan, np.nan])
    with pytest.raises(ValueError, match="chains must be more"):
        order_values(values, 0.95)
