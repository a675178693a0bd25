"""Context Jacobians written out in closed form: their law, their bits, their limits."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import theory
from tests.helpers.chains import EPS, uniform_parameters
from theory.chains.directions import haar_orthogonal
from theory.chains.injections import with_injection
from theory.simulators import engine_numpy

# Samples of 2000 and 8000: Kolmogorov-Smirnov at level 1e-4 refuses a difference of distribution functions of 0.056,
# and finds one of 0.09 with probability above 0.99 (2.7 deviations of at most 0.0125 where they differ so). Seeds are
# fixed; 1e-4 is what a change of seed may cost.
OTHER, DRAWN, LEVEL = 2000, 8000, 1e-4
DEPTH = 5
CELL = theory.PhaseCells(sigma=1.2, alignment=0.6, gap=0.5, along=0.7, injected=0.4)


def drawn(
    d: int, m: int, *, cells: theory.PhaseCells = CELL, n: int = DRAWN, seed: int = 7, **options
) -> theory.ContextSpectra:
    return theory.context_spectra(cells, d, [DEPTH], chains=n, seed=seed, context_dimension=m, **options)


def same(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    return bool(stats.ks_2samp(np.ravel(x), np.ravel(y)).pvalue > LEVEL)


@pytest.mark.parametrize(("d", "m"), [(3, 2), (4, 2), (5, 2), (6, 2), (1280, 2), (10**6, 2), (2, 1), (3, 1), (1280, 1)])
@pytest.mark.parametrize("share", [True, False])
def test_T23_in_closed_form_has_the_law_of_the_reduction_by_qr(d: int, m: int, share: bool) -> None:
    """Another draw (chi variables, QR by LAPACK), from the least dimension to 10^6."""
    parameters = uniform_parameters(DEPTH, sigma=1.2, gap=0.5, alignment=0.6, along=0.7, across=0.4)
    other = theory.reduced_jacobians(
        parameters, d, np.random.default_rng(d), n=OTHER, context_dimension=m, last_only=True
    )
    found = drawn(d, m, share=share)
    assert same(found.log_norm, other.log_norm)
    if m == 2:
        assert same(found.log_ratio, other.log_ratio.log_value)
    else:
        assert np.isnan(found.log_ratio).all()


def across_over_along(u: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln ||(I - u u^T) X|| - ln ||u^T X||, shapes (n, d) and (n, d, m)."""
    along = u[:, None, :] @ x
    across = np.linalg.svd(x - u[:, :, None] * along, compute_uv=False)[:, 0]
    return np.log(across) - np.log(np.linalg.norm(along, axis=(1, 2)))


@pytest.mark.parametrize(
    ("d", "m", "frame"),
    [
        (3, 2, "across"),
        (8, 2, "across"),
        (3, 2, "isotropic"),
        (8, 2, "isotropic"),
        (6, 1, "isotropic"),
        (6, 1, "across"),
    ],
)
def test_all_statistics_have_the_law_of_dense_chains(d: int, m: int, frame) -> None:
    rng = np.random.default_rng(d)
    chain = theory.flat_chain(DEPTH, d, rng, sigma=1.2, gap=0.5, alignment=0.6, batch=(OTHER,))
    coherent = 0.4 if frame == "across" else 0.0
    chain = theory.inject_coherent(chain, rng, along=0.7, across=coherent, context_dimension=m)
    if frame == "isotropic":
        chain = with_injection(chain, chain.injection + 0.4 * haar_orthogonal(rng, d, (OTHER, DEPTH))[..., :m])
    whole = theory.context_jacobians(chain, last_only=True)
    early = chain.injection[:, 0, :, :1]
    for layer in range(1, DEPTH):
        early = chain.apply(layer, early)
    lengths = np.linalg.norm(early[..., 0], axis=-1), np.linalg.norm(whole.matrix[..., 0], axis=-1)
    share = 2 * (np.log(lengths[0]) - np.log(lengths[1]) - whole.log_scale)
    found = drawn(d, m, frame=frame)
    assert found.log_share is not None and found.log_early is not None and found.log_early_noise is not None
    assert same(found.log_share, share)
    assert same(found.log_early, np.log(lengths[0]))
    assert same(found.log_norm, whole.log_norm())
    u = chain.u[:, -1]
    assert same(found.log_early_noise, across_over_along(u, early))
    assert same(found.log_noise, across_over_along(u, whole.matrix))
    if m == 2:
        assert same(found.log_ratio, whole.log_ratio().log_value)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_least_dimension_has_no_third_coordinate_for_the_earliest_injection(depth: int) -> None:
    """d = m + 1 = 3: beside J w, parallel to it at first, J's other column has two coordinates across and no more."""
    rng = np.random.default_rng(depth)
    chain = theory.flat_chain(depth, 3, rng, sigma=1.2, gap=0.5, alignment=0.2, batch=(OTHER,))
    whole = theory.context_jacobians(theory.inject_coherent(chain, rng, along=0.7, across=0.4, context_dimension=2))
    cell = theory.PhaseCells(1.2, 0.2, 0.5, 0.7, 0.4)
    found = theory.context_spectra(cell, 3, [depth], chains=DRAWN, seed=1)
    assert same(found.log_norm, whole.log_norm()[:, -1])
    assert same(found.log_ratio, whole.log_ratio().log_value[:, -1])


# Cells whose earliest injection has nothing left across u in the last layers, so that F_00 = 0: no bulk, or aligned to
# the depth where it is below the range of its type. Columns: sigma, kappa, xi, beta, b; depth; precision.
DEAD = {
    "no bulk": (theory.PhaseCells(1.0, 0.5, 0.0, 1.0, 0.4), 6, "float64"),
    "no bulk, aligned": (theory.PhaseCells(1.0, 1.0, 0.0, 1.0, 0.4), 2, "float64"),
    "underflow": (theory.PhaseCells(1.0, 1.0, 0.01, 1.0, 0.4), 200, "float64"),
    "hardly a bulk": (theory.PhaseCells(1.5, 0.6, 1e-25, 1.0, 0.3), 6, "float32"),
}


@pytest.mark.parametrize("which", DEAD)
def test_an_injection_without_a_part_across_leaves_the_least_dimension_to_the_others(which: str) -> None:
    """d = m + 1 = 3, F_00 = 0: with the earliest injection carried and without, one law; and b where nothing else is.

    Without it, J's two columns have the two coordinates across to themselves, and no row is folded.
    """
    cell, depth, dtype = DEAD[which]
    options = {"chains": DRAWN, "dtype": dtype}
    carried = theory.context_spectra(cell, 3, [depth], seed=1, **options)
    alone = theory.context_spectra(cell, 3, [depth], seed=2, share=False, **options)
    for name in ("log_norm", "log_ratio", "log_noise"):
        assert np.isfinite(getattr(carried, name)).all()
        # Rounded, as values may be equal up to rounding.
        assert same(getattr(carried, name).round(4), getattr(alone, name).round(4)), name
    if cell.gap[0] < 1e-20:
        floor = np.full(DRAWN, np.log(cell.injected[0]))
        np.testing.assert_allclose((carried.log_norm + carried.log_ratio)[0, 0], floor, atol=1e-4)


@pytest.mark.parametrize("frame", ["across", "isotropic"])
def test_chains_without_a_bulk_in_the_least_dimension_have_the_law_of_dense_ones(frame) -> None:
    rng = np.random.default_rng(3)
    chain = theory.flat_chain(4, 3, rng, sigma=1.2, gap=0.0, alignment=0.6, batch=(OTHER,))
    coherent = 0.4 if frame == "across" else 0.0
    chain = theory.inject_coherent(chain, rng, along=0.7, across=coherent, context_dimension=2)
    if frame == "isotropic":
        chain = with_injection(chain, chain.injection + 0.4 * haar_orthogonal(rng, 3, (OTHER, 4))[..., :2])
    whole = theory.context_jacobians(chain, last_only=True)
    found = theory.context_spectra(
        theory.PhaseCells(1.2, 0.6, 0.0, 0.7, 0.4), 3, [4], chains=DRAWN, seed=4, frame=frame
    )
    assert same(found.log_norm.round(6), whole.log_norm().round(6))
    assert same(found.log_ratio.round(6), whole.log_ratio().log_value.round(6))
    assert same(found.log_noise.round(6), across_over_along(chain.u[:, -1], whole.matrix).round(6))


def test_the_law_tests_can_fail() -> None:
    """A gap 20 % off and another dimension are refused in all six laws, the other frame in that of the ratio."""
    right = drawn(8, 2)
    off = theory.PhaseCells(1.2, 0.6, 0.4, 0.7, 0.4)
    names = ("log_norm", "log_ratio", "log_share", "log_noise", "log_early", "log_early_noise")
    for wrong, refused in (
        (drawn(8, 2, cells=off, n=OTHER, seed=8), names),
        (drawn(20, 2, n=OTHER, seed=8), names),
        (drawn(8, 2, frame="isotropic", n=OTHER, seed=8), names[1:2]),
    ):
        for name in refused:
            assert not same(getattr(right, name), getattr(wrong, name))


def test_aligned_layers_are_geometric_sums() -> None:
    """kappa = 1, xi = 0: J w = u beta sum sigma^i, the earliest beta sigma^(L-1), sigma_2 = b; each exact by hand."""
    sigma = np.array([0.5, 0.99, 1.0, 1.01, 3.0])
    cells = theory.PhaseCells(sigma, 1.0, 0.0, 2.0, 0.3)
    depths = [1, 2, 40]
    found = theory.context_spectra(cells, 30, depths, chains=3, seed=0)
    assert found.log_share is not None and found.log_early is not None and found.log_early_noise is not None
    for row, depth in enumerate(depths):
        total = 2 * np.sum(sigma[:, None] ** np.arange(depth), axis=1)
        tolerance = 16 * depth * EPS
        # The column across is b q_L for every depth, and orthogonal: q_L has two columns of length b.
        norm = np.hypot(total, 0.3)
        np.testing.assert_allclose(found.log_norm[row, :, 0], np.log(norm), atol=tolerance)
        np.testing.assert_allclose(found.log_ratio[row, :, 0], np.log(0.3 / norm), atol=tolerance)
        early = (2 * sigma ** (depth - 1)) ** 2 + (0.09 if depth == 1 else 0)
        np.testing.assert_allclose(found.log_share[row, :, 0], np.log(early / norm**2), atol=2 * tolerance)
        np.testing.assert_allclose(found.log_early[row, :, 0], np.log(early) / 2, atol=tolerance)
        np.testing.assert_allclose(found.log_noise[row, :, 0], np.log(0.3 / total), atol=tolerance)
        expected = np.log(0.3 / 2) if depth == 1 else -np.inf
        np.testing.assert_allclose(found.log_early_noise[row, :, 0], expected, atol=tolerance)


def test_the_earliest_injection_scales_exactly_with_the_gain() -> None:
    """P_{L:2} B_1 at sigma is that at 1 times sigma^(L-1), chain by chain, on common random numbers."""
    sigma = np.array([0.3, 1.0, 2.5])
    found = theory.context_spectra(
        theory.PhaseCells(sigma, 0.7, 0.4, 1.0, 0.5), 64, [60], chains=50, seed=1, context_dimension=1
    )
    assert found.log_share is not None and found.log_early is not None
    early = found.log_early[0]
    np.testing.assert_allclose(early, found.log_share[0] / 2 + found.log_norm[0], atol=60 * 64 * EPS)
    np.testing.assert_allclose(
        early - 59 * np.log(sigma)[:, None], np.broadcast_to(early[1], (3, 50)), atol=60 * 64 * EPS
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sigma", [1e-6, 0.5, 30.0, 1e6])
def test_a_thousand_layers_neither_overflow_nor_vanish(sigma: float, dtype) -> None:
    """ln ||P B_1|| near 1000 ln(sigma kappa) at kappa = 0.9 > xi = 0.2 (T18), within 1 % of 1000."""
    found = theory.context_spectra(
        theory.PhaseCells(sigma, 0.9, 0.2, 1.0, 0.1), 1280, [1000], chains=8, seed=2, dtype=dtype
    )
    assert found.log_share is not None
    assert np.isfinite(found.log_norm).all()
    w_norm = found.log_norm[0, 0]  # the direction w carries J: its norm, to the size of the other column
    early = found.log_share[0, 0] / 2 + w_norm
    np.testing.assert_allclose(early, 999 * np.log(0.9 * sigma), atol=10)
    if sigma > 2:
        assert np.abs(found.log_share).max() < 10  # the earliest injection is nearly all of J


def test_float32_is_float64_to_its_rounding_in_law() -> None:
    fine, coarse = drawn(1280, 2), drawn(1280, 2, dtype="float32", seed=8)
    for name in ("log_norm", "log_ratio", "log_share"):
        assert same(getattr(fine, name), getattr(coarse, name))
        assert getattr(coarse, name).dtype == np.float64
    assert coarse.log_floor[0] > fine.log_floor[0] + 20  # ln of 2^29


def test_bits_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the number of chains, the other cells, the other depths, or the size of a tile."""
    cells = theory.PhaseCells([0.2, 1.0, 40.0], [0.1, 0.7, 1.0], [0.9, 0.3, 0.0], [1.0, 0.0, 2.0], [0.0, 0.5, 1e-3])

    def run(which: theory.PhaseCells, depths: list[int], n: int, seed: int = 5) -> NDArray[np.float64]:
        found = theory.context_spectra(which, 40, depths, chains=n, seed=seed, frame="isotropic")
        assert found.log_share is not None
        return np.stack([found.log_norm, found.log_ratio, found.log_share])

    whole = run(cells, [3, 20, 7], 700)
    np.testing.assert_array_equal(whole, run(cells, [3, 20, 7], 700))
    np.testing.assert_array_equal(whole[:, :, :, :300], run(cells, [3, 20, 7], 300))
    np.testing.assert_array_equal(whole[:, 1:2], run(cells, [20], 700))
    for cell in range(3):
        alone = run(cells.at(slice(cell, cell + 1)), [20], 700)
        np.testing.assert_array_equal(whole[:, 1:2, cell : cell + 1], alone)
    monkeypatch.setattr(engine_numpy, "TILE", 512)
    np.testing.assert_array_equal(whole, run(cells, [3, 20, 7], 700))
    assert not np.array_equal(whole, run(cells, [3, 20, 7], 700, seed=6))


def test_degenerate_cells_stay_defined() -> None:
    """Gap 0 or 1, alignment 0 or 1 and depth 1: no NaN but the ratio's, and a sweep is never stopped."""
    cells = theory.PhaseCells(1.0, [0.0, 0.0, 1.0, 1.0, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    with np.errstate(all="raise"):
        found = theory.context_spectra(cells, 5, [1, 6], chains=20, seed=0)
    assert found.log_share is not None
    assert np.isfinite(found.log_norm).all()
    assert (found.log_ratio == -np.inf).all()  # J = x w^T has rank 1
    np.testing.assert_array_equal(found.log_share[0], 0)
    assert not np.isnan(found.log_share).any()


def test_bad_requests_are_refused_by_name() -> None:
    for numbers, message in (
        ((np.nan, 0.5, 0.5), "sigma must be finite and positive; got nan"),
        ((0.0, 0.5, 0.5), "sigma must be finite and positive; got 0.0"),
        ((1.0, 1.5, 0.5), "alignment must lie in .0, 1.; got 1.5"),
        ((1.0, 0.5, np.nan), "gap must lie in .0, 1.; got nan"),
        ((1.0, 0.5, 0.5, -1.0), "along must be finite and not negative; got -1.0"),
        ((1.0, 0.5, 0.5, 0.0, 0.0), "along and injected must not both be 0"),
        (([1.0, 2.0], [0.1, 0.2, 0.3], 0.5), "cells must broadcast together"),
        (([], 0.5, 0.5), "cells must lie on one axis and be at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.PhaseCells(*numbers)
    good = {"dimension": 5, "depths": [3], "chains": 2, "seed": 0}
    for cells, dtype in (
        (theory.PhaseCells(1e200, 0.5, 0.5), "float64"),
        (theory.PhaseCells(1e-30, 0.5, 0.5), "float32"),
    ):
        with pytest.raises(ValueError, match=f"sigma must keep one layer's product within {dtype}"):
            theory.context_spectra(cells, **good, dtype=dtype)
    for change, message in (
        ({"dimension": 2}, "dimension must be at least context_dimension . 1 = 3; got 2"),
        ({"context_dimension": 3}, "context_dimension must be 1 or 2"),
        ({"depths": []}, "depths must be a non-empty list"),
        ({"depths": [0]}, "depths must be an integer of at least 1"),
        ({"chains": 0}, "chains must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"frame": "along"}, "frame must be 'across' or 'isotropic'; got 'along'"),
        ({"engine": "torch"}, "engine must be 'auto', 'numpy' or 'jax'; got 'torch'"),
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32'; got 'float16'"),
        ({"chains": 10**9}, "at most 4 GiB; got 44.7 GiB"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.context_spectra(CELL, **(good | change))
