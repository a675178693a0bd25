"""Reduced, structured and dense chains behind one face: one chain where they share it, one law where they do not."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import theory
from tests.helpers.chains import EPS, uniform_parameters
from theory.chains.directions import haar_orthogonal
from theory.chains.injections import with_injection
from theory.propagation.reduction import direction_coordinates, log_singular_values
from theory.simulators.cells import PhaseCells
from theory.simulators.dense import quarter_circle_values
from theory.simulators.probes import probe_growth
from theory.simulators.simulate import Simulation, simulate

CONTEXT = ("log_norm", "log_ratio", "log_noise", "log_share", "log_early", "log_early_noise")
PRODUCT = ("product_log_norm", "product_log_ratio")

# Two samples of 2000: Kolmogorov-Smirnov at level 1e-4 refuses a difference of distribution functions of 0.071, and
# finds one of 0.11 with probability above 0.99 (2.5 deviations of at most 0.0158). Seeds are fixed; 1e-4 a comparison,
# some sixty of them, is what a change of seed may cost.
SAMPLE, LEVEL = 2000, 1e-4
DEPTHS, DEPTH = (5, 1), 5
CELLS = PhaseCells([1.2, 0.9, 2.0], [0.6, 0.3, 1.0], [0.5, 0.6, 0.3], [0.7, 0.0, 2.0], [0.4, 0.6, 0.2])
FLAT = (8, "flat", None, "across")
LOW_RANK = (4, "low_rank", 2, "isotropic")
QUARTER_CIRCLE = (8, "quarter_circle", None, "across")


@cache
def run(family: tuple, simulator: str, seed: int = 1) -> Simulation:
    """Three cells of 2000 chains; cached, as compiling a program takes longer than running it."""
    d, residual, rank, frame = family
    options = {"residual": residual, "rank": rank, "frame": frame, "simulator": simulator}
    return simulate(CELLS, d, DEPTHS, chains=SAMPLE, seed=seed, **options)


def field(found: Simulation, name: str) -> NDArray[np.float64]:
    values = getattr(found, name) if name in PRODUCT else getattr(found.context, name)
    assert values is not None
    return values


def same(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    return bool(stats.ks_2samp(np.ravel(x), np.ravel(y)).pvalue > LEVEL)


@pytest.mark.parametrize("family", [FLAT, LOW_RANK], ids=lambda family: family[1])
def test_structured_and_dense_chains_are_the_same_chains_by_T24(family) -> None:
    """Pathwise: every value of every chain, though the dense layers are turned by reflections and the others are not.

    Rounding: L products of d x d matrices err by some 4 d eps L of the product of the norms, `amplified` times what is
    left of them; a value that is a fraction of the whole errs by that over the fraction.
    """
    structured, dense = run(family, "structured"), run(family, "dense")
    assert structured.simulator["context"].name == "structured" and dense.simulator["product"].name == "dense"
    unit = 64 * family[0] * DEPTH * EPS
    layers = np.asarray(DEPTHS)[:, None, None]
    amplified = np.exp(layers * np.log(CELLS.sigma)[:, None] - field(dense, "product_log_norm"))
    # J has terms of other layers, of which the largest product of norms is that of all, or of none.
    amplified = amplified * np.maximum(1, CELLS.sigma[:, None] ** DEPTH / np.exp(field(dense, "log_norm")))
    for name in CONTEXT + PRODUCT:
        x, y = field(structured, name), field(dense, name)
        fraction = np.abs(x) if name not in ("log_norm", "log_early", "product_log_norm") else 0.0
        bound = unit * amplified * np.exp(fraction)
        resolved = bound < 1e-3  # beyond, as where an injection has nothing along u_L, it is rounding
        assert resolved.mean() > 0.8 and np.median(bound) < 1e-8, name
        assert (np.abs(x[resolved] - y[resolved]) <= bound[resolved]).all(), name
        assert (~resolved | np.isfinite(x)).all(), name


def test_reduced_and_structured_chains_have_one_law() -> None:
    reduced, structured = run(FLAT, "auto", seed=2), run(FLAT, "structured")
    assert {choice.name for choice in reduced.simulator.values()} == {"reduced"}
    for cell in range(2):  # at kappa = 1 the product is no random number
        for name in CONTEXT + PRODUCT:
            assert same(field(reduced, name)[0, cell], field(structured, name)[0, cell]), (cell, name)


def test_the_law_tests_can_fail() -> None:
    """A gap 20 % off, an alignment 17 % off and another dimension are refused."""
    right = run(FLAT, "structured")
    wrong = simulate(PhaseCells([1.2, 1.2], [0.6, 0.5], [0.4, 0.5], 0.7, 0.4), 8, [DEPTH], chains=SAMPLE, seed=2)
    for cell in range(2):
        for name in ("log_norm", "log_share", "log_early", *PRODUCT):
            assert not same(field(right, name)[0, 0], field(wrong, name)[0, cell]), (cell, name)
    other = simulate(CELLS, 4, [DEPTH], chains=SAMPLE, seed=2)
    for name in CONTEXT + PRODUCT:
        assert not same(field(right, name)[0, 0], field(other, name)[0, 0]), name


@pytest.mark.parametrize("family", [LOW_RANK, QUARTER_CIRCLE], ids=lambda family: family[1])
def test_other_residuals_have_the_law_of_the_chains_made_for_them(family) -> None:
    """Chains with independent left and right frames, turned nowhere, by the recurrence and NumPy's SVD."""
    d, residual, rank, frame = family
    rng = np.random.default_rng(5)
    common = {"alignment": 0.6, "sigma": 1.2, "batch": (SAMPLE,)}
    if residual == "low_rank":
        chain = theory.low_rank_chain(DEPTH, d, rng, rank=rank, gap=0.5, **common)
    else:
        chain = theory.profile_chain(DEPTH, d, rng, residual_values=0.5 * quarter_circle_values(d - 1), **common)
    chain = theory.inject_coherent(chain, rng, along=0.7, across=0.4 * (frame == "across"), context_dimension=2)
    if frame == "isotropic":
        chain = with_injection(chain, chain.injection + 0.4 * haar_orthogonal(rng, d, (SAMPLE, DEPTH))[..., :2])
    jacobian, product = theory.context_jacobians(chain, last_only=True), theory.products(chain, last_only=True)
    s = np.linalg.svd(product.matrix, compute_uv=False)
    found = run(family, "auto")
    assert found.simulator["product"].name == ("structured" if rank else "dense")
    for name, values in (
        ("log_norm", jacobian.log_norm()),
        ("log_ratio", jacobian.log_ratio().log_value),
        ("product_log_norm", product.log_norm()),
        ("product_log_ratio", np.log(s[:, 1] / s[:, 0])),
    ):
        assert same(field(found, name)[0, 0], values), name
        flat = run((d, "flat", None, frame), "auto")
        assert name == "log_ratio" or not same(field(flat, name)[0, 0], values), name


def test_many_context_directions_have_the_law_of_the_reduction_by_qr() -> None:
    parameters = uniform_parameters(DEPTH, sigma=1.2, gap=0.5, alignment=0.6, along=0.7, across=0.4)
    other = theory.reduced_jacobians(
        parameters, 8, np.random.default_rng(7), n=SAMPLE, context_dimension=6, last_only=True
    )
    found = simulate(
        CELLS.at(slice(1)), 8, [DEPTH], chains=SAMPLE, seed=8, quantities=("context",), context_dimension=6
    )
    assert found.simulator["context"].name == "structured" and found.product_log_norm is None
    assert same(field(found, "log_norm"), other.log_norm)
    assert same(field(found, "log_ratio"), other.log_ratio.log_value)


def test_reduced_products_are_those_of_the_reduction_whatever_the_other_cells() -> None:
    cells = PhaseCells([1.0, 2.0, 1.0, 0.5], [0.8, 0.8, 0.2, 0.5], [0.3, 0.3, 0.3, 0.9])
    found = simulate(cells, 30, [4], chains=6, seed=2, quantities=("product",))
    w = direction_coordinates(np.array([0.8]), 30, np.random.default_rng([2, 4, 30]), 6, 4)[0]
    first, second = log_singular_values(w, np.full((6, 4), 0.3), np.ones((6, 4)))
    for cell, sigma in ((0, 1.0), (1, 2.0)):
        for name, expected in zip(PRODUCT, (first + 4 * np.log(sigma), second - first), strict=True):
            np.testing.assert_allclose(field(found, name)[0, cell], expected, rtol=0, atol=64 * 4 * EPS)
    assert found.product_log_floor is not None and np.isneginf(found.product_log_floor).all()


@pytest.mark.parametrize("simulator", ["structured", "dense"])
def test_aligned_layers_are_geometric_sums(simulator) -> None:
    """kappa = 1, xi = 0: J w = u beta sum sigma^i, sigma_2(J) = b, P = sigma^L u v^T; by hand."""
    sigma = np.array([0.5, 1.0, 3.0])
    found = simulate(PhaseCells(sigma, 1.0, 0.0, 2.0, 0.3), 8, DEPTHS, chains=SAMPLE, seed=0, simulator=simulator)
    for row, depth in enumerate(DEPTHS):
        total = np.hypot(2 * np.sum(sigma[:, None] ** np.arange(depth), axis=1), 0.3)[:, None]
        unit = 16 * 8 * depth * EPS
        assert np.abs(field(found, "log_norm")[row] - np.log(total)).max() < unit
        assert (np.abs(field(found, "log_ratio")[row] - np.log(0.3 / total)) < unit * total / 0.3).all()
        assert np.abs(field(found, "product_log_norm")[row] - depth * np.log(sigma)[:, None]).max() < unit
        assert (field(found, "product_log_ratio")[row] < np.log(unit)).all()


def test_hundreds_of_layers_neither_overflow_nor_vanish() -> None:
    """float32, ||P_{L:2} B_1 w|| from 1e-1800 to 1e400: near L ln(sigma kappa) for kappa = 0.9 > xi = 0.2 (T18)."""
    cells = PhaseCells([1e-6, 30.0], 0.9, 0.2, 1.0, 0.1)
    options = {"dtype": "float32", "simulator": "structured", "quantities": ("context",)}
    found = simulate(cells, 300, [300], chains=2, seed=2, **options)
    expected = 299 * np.log(0.9 * cells.sigma)[:, None]
    # Standard deviation of ln p by (T21): sqrt(300 / 299) s q / (p kappa) = 0.05.
    np.testing.assert_allclose(field(found, "log_early")[0], np.tile(expected, (1, 2)), rtol=0, atol=0.5)
    assert np.isfinite(field(found, "log_norm")).all()
    assert np.abs(field(found, "log_share")[0, 1]).max() < 0.2  # J_L is the earliest injection, to 1 / 27


def test_probes_of_aligned_layers_grow_as_their_part_along_and_their_rest() -> None:
    """kappa = 1: ||P x||^2 = sigma^2L (c^2 + xi^2L (1 - c^2)); c^2 is read off one layer, and is 1 / d on average."""
    d, chains, probes = 20, 50, 64
    grown = probe_growth(PhaseCells(2.0, 1.0, 0.5), d, [5, 1], chains=chains, seed=0, probes=probes)
    along = (np.exp(2 * (grown[1] - np.log(2))) - 0.25) / 0.75
    expected = 5 * np.log(2) + np.log(along + 0.25**5 * (1 - along)) / 2
    np.testing.assert_allclose(grown[0], expected, atol=64 * d * EPS * 0.25**-5)
    # Probes share w within a chain but are independent: var c^2 = 2 (d - 1) / (d^2 (d + 2)).
    deviation = np.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / (chains * probes))
    assert abs(along.mean() - 1 / d) < 4 * deviation


def test_a_chain_depends_on_the_seed_and_its_number_alone() -> None:
    """Not on the other chains, cells, depths or quantities beside it, but for rounding; the same request, same bits."""
    for simulator in ("structured", "dense"):
        whole = run(FLAT, simulator)
        again = simulate(CELLS, 8, DEPTHS, chains=SAMPLE, seed=1, simulator=simulator)
        fewer = simulate(CELLS, 8, DEPTHS, chains=300, seed=1, simulator=simulator)
        for name in CONTEXT + PRODUCT:
            np.testing.assert_array_equal(field(whole, name), field(again, name))
            np.testing.assert_array_equal(field(whole, name)[:, :, :300], field(fewer, name))
        assert np.unique(field(whole, "log_norm")[0, 0]).size == SAMPLE
        other = run(FLAT, simulator, seed=3)
        assert (field(other, "log_norm")[0, 0] != field(whole, "log_norm")[0, 0]).all()
    part = simulate(
        CELLS.at(slice(1)), 8, [70, DEPTH], chains=7, seed=1, simulator="structured", quantities=("context",)
    )
    for name in CONTEXT:
        expected = field(run(FLAT, "structured"), name)[0, 0, :7]
        np.testing.assert_allclose(field(part, name)[1, 0], expected, rtol=0, atol=1e-9)


def test_float32_is_float64_to_its_rounding_in_law() -> None:
    fine = run(FLAT, "structured")
    coarse = simulate(CELLS, 8, [DEPTH], chains=SAMPLE, seed=2, dtype="float32", simulator="structured")
    for name in CONTEXT + PRODUCT:
        assert same(field(fine, name)[0, 0], field(coarse, name)[0, 0]), name
        assert field(coarse, name).dtype == np.float64
    assert coarse.context is not None and coarse.context.log_floor[0] > fine.context.log_floor[0] + 20  # ln of 2^29


def test_quarter_circle_quantiles() -> None:
    """F(x) = (2/pi)(x sqrt(1 - x^2) + asin x) at the midpoints; a mean square of 1/4; the largest is 1."""
    values = quarter_circle_values(1279)
    assert values[0] == 1.0 and (np.diff(values) < 0).all() and values[-1] > 0
    mass = 2 / np.pi * (values * np.sqrt(1 - values**2) + np.arcsin(values))
    np.testing.assert_allclose(mass[1:], 1 - (np.arange(1, 1279) + 0.5) / 1279, atol=1e-12)
    assert abs(np.mean(values**2) - 0.25) < 1 / 1279
    np.testing.assert_array_equal(quarter_circle_values(1), [1.0])
    # What a Gaussian matrix has, to the fluctuation of its edge, d^(-2/3).
    s = np.linalg.svd(np.random.default_rng(0).standard_normal((400, 400)), compute_uv=False) / 20
    np.testing.assert_allclose(s / 2, quarter_circle_values(400), atol=400 ** (-2 / 3))
