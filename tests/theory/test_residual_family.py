"""The residual family reduced (T32): its law beside dense chains, its exact mean squares, its bits and its limits."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import theory
from tests.helpers.chains import EPS
from theory.chains.aligned_residual import aligned_residual_chain, inject_written, write_frames
from theory.chains.layers import chain_of_layers
from theory.regimes.residual_moments import residual_moments
from theory.simulators import residual
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.spectra import ContextSpectra

# As in test_reduced_spectra: at level 1e-4 samples of 2000 and 8000 refuse a difference of 0.056 and find one of 0.09
# with probability above 0.99. Seeds are fixed; 1e-4 is what a change of seed may cost.
OTHER, DRAWN, LEVEL = 2000, 8000, 1e-4
NUMBERS = {"strength": 1.3, "alignment": 0.6, "persistence": 0.4, "along": 0.7, "injected": 0.4}
CELL = ResidualCells(**NUMBERS)
NAMES = ("log_norm", "log_ratio", "log_noise", "log_share", "log_early", "log_early_noise")


def drawn(d: int, r: int, m: int, depth: int, *, n: int = DRAWN, seed: int = 7, **options) -> ContextSpectra:
    cells = options.pop("cells", CELL)
    return residual_spectra(cells, d, [depth], rank=r, chains=n, seed=seed, context_dimension=m, **options)


def same(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether two samples may have one law. Rounded first: at d = 2 the law has atoms, which rounding would split."""
    return bool(stats.ks_2samp(np.round(np.ravel(x), 9), np.round(np.ravel(y), 9)).pvalue > LEVEL)


def dense(d: int, r: int, m: int, depth: int, frame, bulk: float = 0.0) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(d)
    keys = ("strength", "alignment", "persistence")
    chain = aligned_residual_chain(depth, d, rng, rank=r, batch=(OTHER,), **{k: NUMBERS[k] for k in keys})
    chain = inject_written(chain, rng, along=0.7, injected=0.4, frame=frame, context_dimension=m)
    x = write_frames(chain)[:, -1]
    if bulk:
        spread = bulk / np.sqrt(d) * rng.standard_normal((OTHER, depth, d, d))
        chain = chain_of_layers(chain.propagators + spread, chain.injection)
    whole = theory.context_jacobians(chain, last_only=True)
    early = chain.injection[:, 0, :, :1]
    for layer in range(1, depth):
        early = chain.apply(layer, early)

    def log_noise(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        along = x.swapaxes(-1, -2) @ matrix
        parts = matrix - x @ along, along
        return np.subtract(*(np.log(np.linalg.norm(part, ord=2, axis=(-2, -1))) for part in parts))

    log_early = np.log(np.linalg.norm(early[..., 0], axis=-1))
    log_w = np.log(np.linalg.norm(whole.matrix[..., 0], axis=-1)) + whole.log_scale
    return {
        "log_norm": whole.log_norm(),
        "log_ratio": whole.log_ratio().log_value,
        "log_noise": log_noise(whole.matrix),
        "log_share": 2 * (log_early - log_w),
        "log_early": log_early,
        "log_early_noise": log_noise(early),
    }


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize(
    ("d", "r", "m", "frame"),
    [
        (2, 1, 1, "across"),
        (3, 1, 2, "across"),
        (3, 1, 2, "isotropic"),
        (4, 2, 2, "across"),
        (4, 2, 1, "isotropic"),
        (5, 2, 2, "across"),
        (6, 3, 2, "isotropic"),
        (12, 1, 2, "across"),
        (12, 3, 2, "isotropic"),
    ],
)
def test_T32_has_the_law_of_dense_chains_from_the_least_dimension(d: int, r: int, m: int, frame, depth: int) -> None:
    other, found = dense(d, r, m, depth, frame), drawn(d, r, m, depth, frame=frame)
    for name in NAMES:
        if m == 1 and name == "log_ratio":
            assert np.isnan(found.log_ratio).all()
        else:
            assert same(getattr(found, name), other[name]), name


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize(("d", "r", "m"), [(2, 1, 1), (3, 1, 2), (4, 2, 2), (5, 2, 2), (9, 1, 2), (12, 3, 2)])
def test_T32_with_a_bulk_has_the_law_of_dense_chains(d: int, r: int, m: int, depth: int) -> None:
    cells = ResidualCells(**NUMBERS, bulk=0.7)
    other, found = dense(d, r, m, depth, "across", 0.7), drawn(d, r, m, depth, cells=cells)
    for name in NAMES:
        if m == 2 or name != "log_ratio":
            assert same(getattr(found, name), other[name]), name
    if d >= 9 and depth == 4:  # a bulk 30 % off is refused
        wrong = drawn(d, r, m, depth, cells=ResidualCells(**NUMBERS, bulk=0.5))
        for name in ("log_norm", "log_noise", "log_early", "log_early_noise"):
            assert not same(getattr(wrong, name), other[name]), name


def test_the_law_tests_can_fail() -> None:
    """An alignment, a persistence and a rank that are off are refused in every law; the other frame in one."""
    right = drawn(12, 1, 2, 5)
    for change, r, refused in (
        ({"alignment": 0.4}, 1, NAMES),
        ({"persistence": 0.7}, 1, NAMES),
        ({}, 2, ("log_norm", "log_noise", "log_early", "log_early_noise")),
    ):
        wrong = drawn(12, r, 2, 5, n=OTHER, seed=8, cells=ResidualCells(**(NUMBERS | change)))
        for name in refused:
            assert not same(getattr(right, name), getattr(wrong, name)), (change, name)
    shallow, other = (drawn(12, 3, 2, 2, seed=8, frame=frame) for frame in ("across", "isotropic"))
    assert not same(shallow.log_early_noise, other.log_early_noise)


@pytest.mark.parametrize(
    ("d", "r", "frame"),
    [(2, 1, "across"), (4, 2, "isotropic"), (40, 3, "isotropic"), (1280, 1, "across"), (10**6, 4, "across")],
)
def test_mean_squares_are_those_of_T32_exactly(d: int, r: int, frame) -> None:
    """36 means of 20,000: 4.5 standard errors each, a false alarm in 4,000 seeds where a mean is normal."""
    n = 20000
    cells = ResidualCells(
        [0.5, 1.3, 2.0], [0.6, 0.2, 0.5], [0.4, 0.9, 0.1], [1.0, 0.0, 0.7], [0.3, 0.4, 0.4], [0.0, 0.3, 0.8]
    )
    found = residual_spectra(cells, d, [1, 2, 6], rank=r, chains=n, seed=3, frame=frame, context_dimension=1)
    assert found.log_early is not None
    exact = residual_moments(cells, d, [1, 2, 6], rank=r, frame=frame)
    for values, logs in ((found.log_norm, exact.log_whole), (found.log_early, exact.log_early)):
        relative = np.exp(2 * (values - logs[..., None]))
        error = np.maximum(relative.std(axis=-1) / np.sqrt(n), 64 * EPS)
        assert (np.abs(relative.mean(axis=-1) - 1) < 4.5 * error).all()


def test_persistent_frames_are_geometric_sums() -> None:
    """omega = 1: X never turns. J w = x sum (1 + tau kappa)^i beta, and what lies across is a sum of Haar frames."""
    tau, kappa = np.array([0.0, 0.1, 1.0, 3.0]), np.array([0.3, 1.0, 0.5, 0.0])
    for d, r in ((3, 1), (9, 3), (1280, 2)):
        found = residual_spectra(ResidualCells(tau, kappa, 1.0, 2.0), d, [1, 2, 40], rank=r, chains=3, seed=0)
        assert found.log_share is not None and found.log_early is not None
        for row, depth in enumerate((1, 2, 40)):
            rate = 1 + tau * kappa
            total = 2 * np.sum(rate[:, None] ** np.arange(depth), axis=1)
            tolerance = 32 * depth * EPS
            np.testing.assert_allclose(found.log_norm[row, :, 1], np.log(total), atol=tolerance)
            np.testing.assert_allclose(found.log_early[row, :, 1], np.log(2 * rate ** (depth - 1)), atol=tolerance)
            np.testing.assert_array_equal(found.log_noise[row], -np.inf)


def test_without_an_update_the_earliest_injection_stays() -> None:
    """tau = 0: A = I whatever the frames do, and nothing may be lost over 300 turns of them."""
    cells = ResidualCells(0.0, [0.0, 0.5, 1.0, 0.5], [0.0, 0.5, 1.0, 0.9], 0.6, 0.8)
    for d, r in ((3, 1), (30, 4), (10**6, 1)):
        found = residual_spectra(cells, d, [300], rank=r, chains=5, seed=1)
        assert found.log_early is not None
        np.testing.assert_allclose(found.log_early, 0, atol=300 * (r + 8) * EPS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("strength", [1e-6, 1.0, 30.0, 1e5])
def test_hundreds_of_layers_neither_overflow_nor_vanish(strength: float, dtype) -> None:
    """The earliest grows by ln(omega + tau kappa) a layer where that is positive (T33), to 1 % and the start."""
    cells = ResidualCells(strength, 0.5, 0.3, 1.0, 0.1)
    found = residual_spectra(cells, 1280, [300], rank=1, chains=8, seed=2, dtype=dtype)
    assert found.log_early is not None and found.log_share is not None
    assert np.isfinite(found.log_norm).all() and np.isfinite(found.log_noise).all()
    rate = max(0.0, np.log(0.3 + 0.5 * strength))
    np.testing.assert_allclose(found.log_early, 299 * rate, atol=10 + 0.01 * 299 * rate)


def test_float32_is_float64_to_its_rounding_in_law() -> None:
    fine, coarse = drawn(1280, 2, 2, 5), drawn(1280, 2, 2, 5, dtype="float32", seed=8)
    for name in NAMES:
        assert same(getattr(fine, name), getattr(coarse, name))
        assert getattr(coarse, name).dtype == np.float64
    assert coarse.log_floor[0] > fine.log_floor[0] + 20  # ln of 2^29


def test_bits_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the number of chains, the other cells (with a frame or without), the other depths, the size of a tile."""
    cells = ResidualCells(
        [0.2, 1.0, 40.0], [0.1, 0.7, 1.0], [0.9, 0.3, 0.0], [1.0, 0.0, 2.0], [0.0, 0.5, 1e-3], [0.0, 1.0, 0.0]
    )

    def run(which: ResidualCells, depths: list[int], n: int, seed: int = 5) -> NDArray[np.float64]:
        found = residual_spectra(which, 40, depths, rank=3, chains=n, seed=seed, frame="isotropic")
        return np.stack([getattr(found, name) for name in NAMES])

    whole = run(cells, [3, 20, 7], 700)
    np.testing.assert_array_equal(whole, run(cells, [3, 20, 7], 700))
    np.testing.assert_array_equal(whole[:, :, :, :300], run(cells, [3, 20, 7], 300))
    np.testing.assert_array_equal(whole[:, 1:2], run(cells, [20], 700))
    for cell in range(3):
        alone = run(cells.at(slice(cell, cell + 1)), [20], 700)
        np.testing.assert_array_equal(whole[:, 1:2, cell : cell + 1], alone)
    monkeypatch.setattr(residual, "TILE", 512)
    np.testing.assert_array_equal(whole, run(cells, [3, 20, 7], 700))
    monkeypatch.setattr(residual, "KEPT_DRAWS", 0)
    np.testing.assert_array_equal(whole, run(cells, [3, 20, 7], 700))
    assert not np.array_equal(whole, run(cells, [3, 20, 7], 700, seed=6))


def test_without_the_share_the_rest_has_the_same_law() -> None:
    found, less = drawn(8, 2, 2, 4), drawn(8, 2, 2, 4, n=OTHER, seed=9, share=False)
    assert less.log_share is None and less.log_early is None and less.log_early_noise is None
    for name in NAMES[:3]:
        assert same(getattr(found, name), getattr(less, name))


def test_degenerate_cells_stay_defined() -> None:
    """Strength 0, alignment and persistence 0 or 1, depth 1: no NaN, and a sweep is never stopped."""
    cells = ResidualCells([0.0, 1.0, 1.0, 1.0, 1.0], [0.5, 0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.0, 1.0])
    with np.errstate(all="raise"):
        found = residual_spectra(cells, 4, [1, 6], rank=2, chains=20, seed=0)
    assert np.isfinite(found.log_norm).all() and found.log_share is not None
    assert (found.log_ratio == -np.inf).all()  # J = x w^T has rank 1
    np.testing.assert_array_equal(found.log_share[0], 0)
    assert not np.isnan(found.log_share).any()


def test_bad_requests_are_refused_by_name() -> None:
    for numbers, message in (
        ((np.nan, 0.5), "strength must be finite and not negative; got nan"),
        ((-1.0, 0.5), "strength must be finite and not negative; got -1.0"),
        ((1.0, 1.5), "alignment must lie in .0, 1.; got 1.5"),
        ((1.0, 0.5, np.nan), "persistence must lie in .0, 1.; got nan"),
        ((1.0, 0.5, 0.5, -1.0), "along must be finite and not negative; got -1.0"),
        ((1.0, 0.5, 0.5, 0.0, 0.0), "along and injected must not both be 0"),
        (([1.0, 2.0], [0.1, 0.2, 0.3]), "cells must broadcast together"),
        (([], 0.5), "cells must lie on one axis and be at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            ResidualCells(*numbers)
    good = {"dimension": 8, "depths": [3], "chains": 2, "seed": 0, "rank": 2}
    with pytest.raises(ValueError, match="strength must keep one layer within float32"):
        residual_spectra(ResidualCells(1e30, 0.5), **good, dtype="float32")
    for change, message in (
        ({"rank": 0}, "rank must be an integer of at least 1"),
        ({"rank": 5}, "dimension must be at least rank . max.rank, context_dimension. = 10; got 8"),
        ({"dimension": 3}, "dimension must be at least rank . max.rank, context_dimension. = 4; got 3"),
        ({"context_dimension": 3}, "context_dimension must be 1 or 2"),
        ({"depths": []}, "depths must be a non-empty list"),
        ({"depths": [0]}, "depths must be an integer of at least 1"),
        ({"chains": 0}, "chains must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"frame": "along"}, "frame must be 'across' or 'isotropic'; got 'along'"),
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32'; got 'float16'"),
        ({"chains": 10**9}, "at most 4 GiB; got 44.7 GiB"),
    ):
        with pytest.raises(ValueError, match=message):
            residual_spectra(CELL, **(good | change))
    with pytest.raises(ValueError, match="frame must be"):
        residual_moments(CELL, 8, [3], rank=2, frame="along")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="dimension must be an integer of at least 6"):
        residual_moments(CELL, 5, [3], rank=3)
