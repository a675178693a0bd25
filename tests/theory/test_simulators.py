"""Reduced, structured and dense chains behind one face: one chain where they share it, one law where they do not."""

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
SAMPLE, LEVEL, DEPTH = 2000, 1e-4, 5
CELL = PhaseCells(1.2, 0.6, 0.5, 0.7, 0.4)


def field(found: Simulation, name: str) -> NDArray[np.float64]:
    values = getattr(found, name) if name in PRODUCT else getattr(found.context, name)
    assert values is not None
    return values


def same(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    return bool(stats.ks_2samp(np.ravel(x), np.ravel(y)).pvalue > LEVEL)


@pytest.mark.parametrize(
    ("residual", "rank", "d", "m", "frame"),
    [
        ("flat", None, 3, 2, "across"),
        ("flat", None, 9, 6, "isotropic"),
        ("low_rank", 2, 3, 1, "isotropic"),
        ("low_rank", 5, 9, 3, "across"),
    ],
)
def test_structured_and_dense_chains_are_the_same_chains_by_T24(residual, rank, d: int, m: int, frame) -> None:
    """Pathwise: every value of every chain, though the dense layers are turned by reflections and the others are not.

    Rounding: L products of d x d matrices err by 4 d eps L of the product of the norms, which is at most e^(amplified)
    of what is left of them; a value of relative size e^x errs by that over e^x.
    """
    cells = PhaseCells([1.1, 0.9, 2.0], [0.8, 0.3, 1.0], [0.5, 0.6, 0.3], [1.0, 0.0, 2.0], [0.3, 0.6, 0.2])
    depths = [7, 1, 3]
    both = [
        simulate(
            cells,
            d,
            depths,
            chains=20,
            seed=3,
            residual=residual,
            rank=rank,
            context_dimension=m,
            frame=frame,
            simulator=name,
        )
        for name in ("structured", "dense")
    ]
    assert [found.simulator["context"].name for found in both] == ["structured", "dense"]
    unit = 16 * d * max(depths) * EPS
    layers = np.asarray(depths)[:, None, None]
    amplified = np.exp(layers * np.log(cells.sigma)[:, None] - field(both[0], "product_log_norm"))
    ratio = np.exp(field(both[0], "product_log_ratio"))
    for name, scale in (("product_log_norm", amplified), ("product_log_ratio", amplified / ratio)):
        error = np.abs(field(both[0], name) - field(both[1], name))
        assert (error <= unit * scale).all(), name
        # The bound is of use: most values are right to many digits.
        assert np.median(unit * scale) < 1e-6
    for name in ("log_norm", "log_share", "log_early"):
        error = np.abs(field(both[0], name) - field(both[1], name))
        early = np.exp(-np.abs(field(both[0], "log_share")) / 2) if name != "log_norm" else 1.0
        assert (error <= 100 * unit * amplified / early).all(), name
    if m > 1:
        error = np.abs(field(both[0], "log_ratio") - field(both[1], "log_ratio"))
        assert (error <= 100 * unit / np.exp(field(both[0], "log_ratio"))).all()
    else:
        assert np.isnan(field(both[0], "log_ratio")).all() and np.isnan(field(both[1], "log_ratio")).all()
    noise, other = (field(found, "log_noise") for found in both)
    split = np.abs(noise) < 30  # beyond, one part is rounding
    error = np.abs(noise - other)[split]
    assert (error <= 100 * unit * (np.exp(np.abs(noise)) * amplified)[split]).all() and split.mean() > 0.8


@pytest.mark.parametrize(("d", "frame"), [(3, "across"), (8, "across"), (8, "isotropic"), (1280, "across")])
def test_reduced_and_structured_chains_have_one_law(d: int, frame) -> None:
    n = SAMPLE if d < 100 else SAMPLE // 4
    options = {"chains": n, "frame": frame}
    reduced = simulate(CELL, d, [DEPTH], seed=1, **options)
    structured = simulate(CELL, d, [DEPTH], seed=2, simulator="structured", **options)
    assert {choice.name for choice in reduced.simulator.values()} == {"reduced"}
    for name in CONTEXT + PRODUCT:
        assert same(field(reduced, name), field(structured, name)), name


def test_the_law_tests_can_fail() -> None:
    right = simulate(CELL, 8, [DEPTH], chains=SAMPLE, seed=1)
    for cell in (PhaseCells(1.2, 0.6, 0.4, 0.7, 0.4), PhaseCells(1.2, 0.5, 0.5, 0.7, 0.4)):
        wrong = simulate(cell, 8, [DEPTH], chains=SAMPLE, seed=2, simulator="structured")
        for name in ("log_norm", "log_share", "log_early", *PRODUCT):
            assert not same(field(right, name), field(wrong, name)), name
    small, turned = (
        simulate(CELL, 3, [DEPTH], chains=SAMPLE, seed=2, frame=frame) for frame in ("across", "isotropic")
    )
    assert not same(field(small, "log_noise"), field(turned, "log_noise"))
    assert not same(field(small, "log_noise"), field(right, "log_noise"))


def oracle(chain: theory.Chain, rng: np.random.Generator, frame: str) -> dict[str, NDArray[np.float64]]:
    """The same quantities from given chains by the recurrence and the product, and NumPy's SVD."""
    d = chain.dimension
    chain = theory.inject_coherent(chain, rng, along=0.7, across=0.4 * (frame == "across"), context_dimension=2)
    if frame == "isotropic":
        chain = with_injection(chain, chain.injection + 0.4 * haar_orthogonal(rng, d, (SAMPLE, DEPTH))[..., :2])
    jacobian, product = theory.context_jacobians(chain, last_only=True), theory.products(chain, last_only=True)
    s = np.linalg.svd(product.matrix, compute_uv=False)
    with np.errstate(divide="ignore"):
        ratio = np.log(s[:, 1] / s[:, 0])
    return {
        "log_norm": jacobian.log_norm(),
        "log_ratio": jacobian.log_ratio().log_value,
        "product_log_norm": product.log_norm(),
        "product_log_ratio": ratio,
    }


@pytest.mark.parametrize("residual", ["low_rank", "quarter_circle"])
@pytest.mark.parametrize("frame", ["across", "isotropic"])
def test_other_residuals_have_the_law_of_the_chains_made_for_them(residual, frame) -> None:
    """Chains with independent left and right frames, turned nowhere: another draw of every matrix."""
    d, rng = 7, np.random.default_rng(5)
    common = {"alignment": 0.6, "sigma": 1.2, "batch": (SAMPLE,)}
    if residual == "low_rank":
        chain = theory.low_rank_chain(DEPTH, d, rng, rank=2, gap=0.5, **common)
    else:
        values = 0.5 * quarter_circle_values(d - 1)
        chain = theory.profile_chain(DEPTH, d, rng, residual_values=values, **common)
    rank = 2 if residual == "low_rank" else None
    found = simulate(CELL, d, [DEPTH], chains=SAMPLE, seed=6, residual=residual, rank=rank, frame=frame)
    assert found.simulator["product"].name == ("structured" if rank else "dense")
    for name, values in oracle(chain, rng, frame).items():
        assert same(field(found, name), values), name
    flat = simulate(CELL, d, [DEPTH], chains=SAMPLE, seed=6, frame=frame)
    assert not same(field(found, "product_log_norm"), field(flat, "product_log_norm"))


def test_many_context_directions_have_the_law_of_the_reduction_by_qr() -> None:
    parameters = uniform_parameters(DEPTH, sigma=1.2, gap=0.5, alignment=0.6, along=0.7, across=0.4)
    rng = np.random.default_rng(7)
    other = theory.reduced_jacobians(parameters, 20, rng, n=SAMPLE, context_dimension=6, last_only=True)
    found = simulate(CELL, 20, [DEPTH], chains=SAMPLE, seed=8, quantities=("context",), context_dimension=6)
    assert found.simulator["context"].name == "structured" and found.product_log_norm is None
    assert same(field(found, "log_norm"), other.log_norm)
    assert same(field(found, "log_ratio"), other.log_ratio.log_value)


def test_reduced_products_are_those_of_the_reduction_to_the_bit_whatever_the_other_cells() -> None:
    cells = PhaseCells([1.0, 2.0, 1.0, 0.5], [0.8, 0.8, 0.2, 0.5], [0.3, 0.3, 0.3, 0.9])
    found = simulate(cells, 30, [4, 9], chains=6, seed=2, quantities=("product",))
    for row, depth in enumerate((4, 9)):
        w = direction_coordinates(np.array([0.8]), 30, np.random.default_rng([2, depth, 30]), 6, depth)[0]
        first, second = log_singular_values(w, np.full((6, depth), 0.3), np.ones((6, depth)))
        for cell, sigma in ((0, 1.0), (1, 2.0)):
            atol = 64 * depth * EPS
            expected = first + depth * np.log(sigma)
            np.testing.assert_allclose(field(found, "product_log_norm")[row, cell], expected, rtol=0, atol=atol)
            np.testing.assert_allclose(field(found, "product_log_ratio")[row, cell], second - first, rtol=0, atol=atol)
    assert found.product_log_floor is not None and np.isneginf(found.product_log_floor).all()


@pytest.mark.parametrize("simulator", ["structured", "dense"])
def test_aligned_layers_are_geometric_sums(simulator) -> None:
    """kappa = 1, xi = 0: J w = u beta sum sigma^i, sigma_2(J) = b, P = sigma^L u v^T; by hand."""
    sigma = np.array([0.5, 1.0, 3.0])
    cells, depths = PhaseCells(sigma, 1.0, 0.0, 2.0, 0.3), [1, 2, 40]
    found = simulate(cells, 8, depths, chains=3, seed=0, simulator=simulator)
    for row, depth in enumerate(depths):
        total = 2 * np.sum(sigma[:, None] ** np.arange(depth), axis=1)
        tolerance = 16 * 8 * depth * EPS
        np.testing.assert_allclose(field(found, "log_norm")[row, :, 0], np.log(np.hypot(total, 0.3)), atol=tolerance)
        np.testing.assert_allclose(
            field(found, "log_ratio")[row, :, 0], np.log(0.3 / np.hypot(total, 0.3)), atol=tolerance * total.max()
        )
        np.testing.assert_allclose(field(found, "product_log_norm")[row, :, 0], depth * np.log(sigma), atol=tolerance)
        assert (field(found, "product_log_ratio")[row] < np.log(tolerance)).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sigma", [1e-6, 30.0])
def test_hundreds_of_layers_neither_overflow_nor_vanish(sigma: float, dtype) -> None:
    """ln ||P|| near L ln(sigma kappa) at kappa = 0.9 > xi = 0.2 (T18)."""
    cells = PhaseCells(sigma, 0.9, 0.2, 1.0, 0.1)
    found = simulate(cells, 300, [300], chains=2, seed=2, dtype=dtype, simulator="structured")
    expected = 300 * np.log(0.9 * sigma)
    # Standard deviation of ln p by (T21): sqrt(300 / 299) s xi s / (kappa sqrt(kappa^2 - xi^2)) = 0.05.
    np.testing.assert_allclose(field(found, "product_log_norm")[0, 0], expected, rtol=0, atol=1)
    np.testing.assert_allclose(field(found, "log_early")[0, 0], expected - np.log(0.9 * sigma), rtol=0, atol=1)
    grown = probe_growth(cells, 300, [300], chains=2, seed=2, dtype=dtype, probes=8)[0, 0]
    # A random x has |<v_1, x>| = |g| / sqrt(d): g of 8 x 2 normals lies in e^(-6) .. e^2 with probability 0.97.
    assert (np.abs(grown - expected + np.log(300) / 2) < 6).all()


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


@pytest.mark.parametrize("simulator", ["structured", "dense"])
def test_a_chain_depends_on_the_seed_and_its_number_alone(simulator) -> None:
    """Not on the other chains, cells, depths or quantities beside it, but for rounding; the same request, same bits."""
    cells = PhaseCells([1.1, 0.7, 2.0], [0.8, 0.3, 0.5], [0.5, 0.6, 0.9], 1.0, 0.3)
    whole = simulate(cells, 10, [2, 6], chains=9, seed=4, simulator=simulator)
    again = simulate(cells, 10, [2, 6], chains=9, seed=4, simulator=simulator)
    part = simulate(cells.at(slice(1, 2)), 10, [6], chains=4, seed=4, simulator=simulator, quantities=("context",))
    deeper = simulate(cells, 10, [6, 70], chains=9, seed=4, simulator=simulator)
    for name in CONTEXT + PRODUCT:
        np.testing.assert_array_equal(field(whole, name), field(again, name))
        np.testing.assert_allclose(field(deeper, name)[0], field(whole, name)[1], rtol=0, atol=1e-9)
        if name in CONTEXT:
            np.testing.assert_allclose(field(part, name)[0, 0], field(whole, name)[1, 1, :4], rtol=0, atol=1e-9)
    other = simulate(cells, 10, [2, 6], chains=9, seed=5, simulator=simulator)
    assert (field(other, "log_norm") != field(whole, "log_norm")).all()
    assert np.unique(field(whole, "log_norm")[1, 0]).size == 9


@pytest.mark.parametrize(("residual", "rank"), [("flat", None), ("low_rank", 3), ("quarter_circle", None)])
def test_float32_is_float64_to_its_rounding_in_law(residual, rank) -> None:
    simulator = "structured" if residual != "quarter_circle" else "dense"
    both = [
        simulate(
            CELL, 12, [DEPTH], chains=SAMPLE, seed=seed, residual=residual, rank=rank, dtype=dtype, simulator=simulator
        )
        for seed, dtype in ((1, "float64"), (2, "float32"))
    ]
    for name in CONTEXT + PRODUCT:
        assert same(field(both[0], name), field(both[1], name)), name
        assert field(both[1], name).dtype == np.float64


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
