"""Where the residual family turns (T33): the outlier, the pinned bulk, the paper's numbers, critical strengths."""

import numpy as np
import pytest

import theory
from theory.chains.aligned_residual import aligned_residual_chain, inject_written, write_frames
from theory.phase._crossing import CROSSING_CODES
from theory.phase.critical_residual import critical_strength, predicted_strength
from theory.regimes.residual_moments import moment_matrix, residual_moments
from theory.regimes.residual_rates import residual_rates
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells

GRID = np.meshgrid([0.3, 1.0, 2.5], [0.1, 0.5, 0.9], [0.0, 0.4, 0.95])
STRENGTH, ALIGNMENT, PERSISTENCE = (x.ravel() for x in GRID)


def test_T33_the_outlier_grows_by_its_rate_and_the_bulk_is_pinned() -> None:
    """d = 10^6, 64 chains: the mean of ln ||P B_1|| from L = 20 to 40 is that of d -> infinity, to 5 standard errors
    and the second order, of size rank / d times ||F||^2 L^2 e^(2 rate): the outliers here stay below 1.35 a layer."""
    keep = PERSISTENCE + STRENGTH * ALIGNMENT < 1.35
    cells = ResidualCells(STRENGTH[keep], ALIGNMENT[keep], PERSISTENCE[keep])
    rates = residual_rates(STRENGTH[keep], ALIGNMENT[keep], PERSISTENCE[keep])
    found = residual_spectra(cells, 10**6, [20, 40], rank=1, chains=64, seed=1, context_dimension=1)
    exact = residual_moments(cells, None, [20, 40], rank=1)
    assert found.log_early is not None
    error = 5 * found.log_early.std(axis=-1) / 8 + 2e-3
    assert (np.abs(found.log_early.mean(axis=-1) - exact.log_early) < error).all()
    assert (np.abs(found.log_norm.mean(axis=-1) - exact.log_whole) < 5 * found.log_norm.std(axis=-1) / 8 + 2e-3).all()
    # That limit grows by the typical rate: to e^-1 of it over 20 layers where the two rates are 5 % apart.
    apart = np.abs(rates.outlier_rate - 1) > 0.05
    slope = (exact.log_early[1] - exact.log_early[0]) / 20
    np.testing.assert_allclose(slope[apart], np.log(rates.typical_rate[apart]), atol=0.05)


def test_the_earliest_scatters_by_its_width() -> None:
    """L from 40 to 160 at d = 10^5: the variance grows by 120 squared widths, to 4 errors of a sample variance."""
    n, tau, kappa, omega = 4096, [3.0, 0.5], [0.5, 0.9], [0.2, 0.8]
    for rank, bulk in ((1, 0.0), (3, 0.0), (2, 0.6)):
        found = residual_spectra(
            ResidualCells(tau, kappa, omega, 1.0, 0.0, bulk),
            10**5,
            [40, 160],
            rank=rank,
            chains=n,
            seed=4,
            context_dimension=1,
        )
        width = residual_rates(tau, kappa, omega, rank=rank, dimension=10**5, bulk=bulk).early_width
        assert found.log_early is not None
        grown = found.log_early.var(axis=-1)
        error = 4 * np.sqrt(2 / n) * (grown[0] + grown[1])
        assert (np.abs(grown[1] - grown[0] - 120 * width**2) < error).all()
        assert (error < 0.3 * 120 * width**2).all()


def test_the_limit_of_large_dimension_is_the_sum_by_hand() -> None:
    """||P B_1||^2 = g^(2L-2) + s_w^2 sum g^2i; J w = p_L x + sum s_w p_l e_l, p_l = sum g^i, e_l orthonormal."""
    tau, kappa, omega, depth = 0.8, 0.3, 0.5, 9
    g, turned = omega + tau * kappa, 1 - omega**2
    found = residual_moments(ResidualCells(tau, kappa, omega), None, [depth], rank=1)
    powers = g ** np.arange(depth)
    p = np.cumsum(powers)
    early = powers[-1] ** 2 + turned * np.sum(powers[:-1] ** 2)
    np.testing.assert_allclose(found.log_early[0, 0], np.log(early) / 2, rtol=1e-12)
    whole = p[-1] ** 2 + turned * np.sum(p[:-1] ** 2)
    np.testing.assert_allclose(found.log_whole[0, 0], np.log(whole) / 2, rtol=1e-12)


def test_mean_squares_reach_a_thousand_layers_in_logarithms() -> None:
    cells = ResidualCells([0.0, 1.0, 1e5], [0.5, 0.5, 1.0], [1.0, 0.2, 1.0], 1.0, 0.5, [0.0, 0.4, 0.0])
    found = residual_moments(cells, 1280, [1000], rank=2)
    rate = np.log(
        residual_rates(
            cells.strength, cells.alignment, cells.persistence, rank=2, dimension=1280, bulk=cells.bulk
        ).mean_square_rate
    )
    assert np.isfinite(found.log_early).all() and np.isfinite(found.log_whole).all()
    np.testing.assert_allclose(found.log_early[0], 999 * rate, atol=3)


def test_the_mean_square_never_decays_with_fresh_frames() -> None:
    """(T26) for this family: the characteristic polynomial at 1 is -s_w^2 seen tau (tau + 2 omega kappa) <= 0."""
    rates = residual_rates(STRENGTH, ALIGNMENT, PERSISTENCE, rank=2, dimension=40)
    assert (rates.mean_square_rate > 1).all()
    matrix = moment_matrix(STRENGTH, ALIGNMENT, PERSISTENCE, rank=2, dimension=40)
    largest = np.abs(np.linalg.eigvals(matrix)).max(axis=-1)
    np.testing.assert_allclose(rates.mean_square_rate**2, largest, rtol=1e-12)
    at_one = np.linalg.det(np.eye(2) - matrix)
    by_hand = -(1 - PERSISTENCE**2) * 2 / 38 * STRENGTH * (STRENGTH + 2 * PERSISTENCE * ALIGNMENT)
    np.testing.assert_allclose(at_one, by_hand, atol=1e-12)
    np.testing.assert_allclose(residual_rates(0.0, 0.3, 0.4, dimension=9).mean_square_rate, 1, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_papers_numbers_are_those_measured(rank: int) -> None:
    """measure() of a chain of 60 layers at d = 1500: means over layers to 5 standard errors of neighbours that may be
    correlated (a factor of 2), and the order rank / sqrt(d) by which equal outliers split."""
    for tau, kappa, omega in ((1.5, 0.5, 0.0), (1.0, 0.1, 0.9), (2.0, 0.8, 0.3)):
        rng = np.random.default_rng(rank)
        chain = aligned_residual_chain(60, 1500, rng, strength=tau, alignment=kappa, persistence=omega, rank=rank)
        found = theory.measure(chain)
        rates = residual_rates(tau, kappa, omega, rank=rank, dimension=1500)
        room = 2 * 5 / np.sqrt(60)
        split = 0.0 if rank == 1 else rank / np.sqrt(1500)
        alignment = found.alignment[1:]
        assert abs(found.sigma.mean() - rates.sigma) < room * found.sigma.std() + split
        assert abs(found.gap.mean() - rates.gap) < room * found.gap.std() + split
        assert abs(alignment.mean() - rates.paper_alignment) < room * alignment.std() + 2e-3
        bulk = found.sigma * found.bulk_gap
        assert abs(bulk.mean() - rates.pinned_rate) < room * bulk.std() + split * 1e-2
        np.testing.assert_allclose(rates.paper_gain, rates.sigma * rates.paper_alignment)
        np.testing.assert_allclose(rates.bulk_gap, rates.pinned_rate / rates.sigma)


def test_the_chain_is_what_it_says() -> None:
    """||F|| = tau r times, the frames are orthonormal and linked, A = I + X tau C^T, whatever the precision."""
    d, r, depth = 9, 3, 4
    tau, kappa, omega = np.linspace(0.5, 2, depth), np.linspace(0, 1, depth), np.linspace(1, 0, depth)
    for dtype, unit in (("float64", 1e-13), ("float32", 1e-5)):
        rng = np.random.default_rng(5)
        chain = aligned_residual_chain(
            depth, d, rng, strength=tau, alignment=kappa, persistence=omega, rank=r, batch=(2,), dtype=dtype
        )
        update = np.asarray(chain.propagators, dtype=np.float64) - np.eye(d)
        values = np.linalg.svd(update, compute_uv=False)
        expected = np.where(np.arange(d) < r, tau[:, None], 0.0)
        np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), atol=20 * unit)
        x = write_frames(chain).astype(np.float64)
        np.testing.assert_allclose(x.swapaxes(-1, -2) @ x, np.broadcast_to(np.eye(r), (2, depth, r, r)), atol=20 * unit)
        read = (update.swapaxes(-1, -2) @ x) / tau[:, None, None]
        before = x[:, :-1].swapaxes(-1, -2)
        for found, value in ((before @ x[:, 1:], omega), (before @ read[:, 1:], kappa)):
            want = value[1:, None, None] * np.eye(r)
            np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), atol=40 * unit)


def test_the_paper_calls_growing_chains_decaying() -> None:
    """rho < 1 in every layer, yet the outlier grows: with persistence at rank 1, with fresh frames at rank 4.

    At r = 4 the paper's kappa is that of one of four equal planes, 0.42 of the family's; the truth does not know r.
    """
    for rank, tau, kappa, omega in ((1, 0.4, 0.5, 0.9), (4, 3.0, 0.5, 0.0)):
        rates = residual_rates(tau, kappa, omega, rank=rank)
        assert rates.paper_gain < 1 < rates.outlier_rate
        assert rates.critical_strength < tau < rates.paper_strength
        rng = np.random.default_rng(3)
        chain = aligned_residual_chain(24, 600, rng, strength=tau, alignment=kappa, persistence=omega, rank=rank)
        chain = inject_written(chain, rng, along=1.0, context_dimension=1)
        measured = theory.measure(chain)
        assert np.nanmean(np.log(measured.gain[1:])) < 0  # the paper's path shrinks
        early = chain.injection[0]
        for layer in range(1, 24):
            early = chain.apply(layer, early)
        assert np.log(np.linalg.norm(early)) > 23 * np.log(rates.outlier_rate) - 1.5


def test_the_papers_strength_is_where_its_gain_is_one() -> None:
    for rank in (1, 2, 5):
        kappa, omega = ALIGNMENT, PERSISTENCE
        strength = residual_rates(1.0, kappa, omega, rank=rank).paper_strength
        np.testing.assert_allclose(residual_rates(strength, kappa, omega, rank=rank).paper_gain, 1, rtol=1e-12)
    assert residual_rates(1.0, 0.0, 0.9).paper_strength == np.inf
    assert np.isnan(residual_rates(1.0, 0.5, 1.0, rank=2).paper_strength)  # no plane is chosen


def test_the_earliest_turns_at_the_critical_strength_as_d_grows() -> None:
    """(1 - omega) / kappa: within the interval and 1 % at d = 10^6, and the exact mean squares cross there too."""
    kappa, omega = [0.3, 0.5, 0.8, 0.5], [0.0, 0.0, 0.3, 0.9]
    expected = residual_rates(1.0, kappa, omega).critical_strength
    found = critical_strength(kappa, omega, [12], rank=2, dimension=10**6, chains=128, seed=0, steps=12)
    assert set(found) == {"share", "growth", "early", "ratio"}
    np.testing.assert_array_equal(found["early"].code, 0)
    np.testing.assert_allclose(found["early"].strength[0], expected, rtol=0.01)
    predicted = predicted_strength(kappa, omega, [12], rank=2)
    np.testing.assert_allclose(predicted["early"][0], expected, rtol=1e-9)
    np.testing.assert_allclose(found["growth"].strength[0], predicted["growth"][0], rtol=0.01)
    mixed = critical_strength(kappa, omega, [12], rank=2, dimension=10**6, chains=128, seed=0, injected=0.3)
    predicted = predicted_strength(kappa, omega, [12], rank=2, injected=0.3)
    for name in ("early", "growth", "ratio"):
        crossed = np.isfinite(predicted[name][0])
        assert crossed.sum() >= 3
        np.testing.assert_allclose(mixed[name].strength[0, crossed], predicted[name][0, crossed], rtol=0.01)
    # A bulk of its own sets the mark: sqrt(1 + gamma^2) in place of 1.
    marked = residual_rates(1.0, kappa, omega, bulk=0.75).critical_strength
    np.testing.assert_allclose(marked, (1.25 - np.array(omega)) / kappa)
    spread = critical_strength(kappa, omega, [12], rank=2, dimension=10**6, chains=128, seed=0, steps=12, bulk=0.75)
    np.testing.assert_allclose(spread["early"].strength[0], marked, rtol=0.01)
    predicted = predicted_strength(kappa, omega, [12], rank=2, bulk=0.75)
    np.testing.assert_allclose(predicted["early"][0], marked, rtol=1e-9)
    # The median is not the mean square: 3 % at d = 1280.
    small = critical_strength(kappa, omega, [12], rank=2, dimension=1280, chains=512, seed=0)
    at = predicted_strength(kappa, omega, [12], rank=2, dimension=1280, injected=0.0)
    for name in ("early", "growth"):
        np.testing.assert_allclose(small[name].strength, at[name], rtol=0.04)


def test_at_the_critical_strength_half_of_dense_chains_are_past_it() -> None:
    """A sign test on 400 independent dense chains, 200 +- 10; the 4,096 reduced ones add a tenth of that."""
    options = {"along": 1.0, "injected": 0.4}
    found = critical_strength([0.5], [0.3], [6], rank=2, dimension=16, chains=4096, seed=1, steps=14, **options)
    for name in ("growth", "ratio"):
        strength = float(found[name].strength[0, 0])
        rng = np.random.default_rng(2)
        chain = aligned_residual_chain(
            6, 16, rng, strength=strength, alignment=0.5, persistence=0.3, rank=2, batch=(400,)
        )
        chain = inject_written(chain, rng, context_dimension=2, **options)
        jacobians = theory.context_jacobians(chain)
        log_norm = jacobians.log_norm()
        past = {"growth": log_norm[:, 5] - log_norm[:, 2] - np.log(2)}
        past["ratio"] = np.log(0.1) - jacobians.log_ratio().log_value[:, 5]
        assert abs(int((past[name] > 0).sum()) - 200) < 4 * 10 * np.sqrt(1 + 400 / 4096), name


def test_cells_without_a_crossing_have_a_code() -> None:
    found = critical_strength(
        [0.5, 0.5], [0.0, 1.0], [1, 4], rank=1, dimension=20, chains=16, seed=0, along=0.0, injected=1.0
    )
    np.testing.assert_array_equal(found["early"].code, 5)  # nothing along
    np.testing.assert_array_equal(found["growth"].code[0], 5)  # one layer
    assert found["share"].code[1, 0] == 2  # incoherent injections have share 1 / L, above 1 / L^2
    assert "strength" in found["share"].describe((1, 0)) and "gain" not in found["share"].describe((1, 0))
    assert " to " in found["growth"].describe((1, 0))
    assert set(np.unique(found["ratio"].code)) <= set(CROSSING_CODES)


def test_bad_requests_are_refused_by_name() -> None:
    good = {"alignment": 0.5, "persistence": 0.1, "depths": [4], "rank": 1, "dimension": 9, "chains": 8, "seed": 0}
    for change, message in (
        ({"alignment": np.nan}, "alignment must lie in .0, 1.; got nan"),
        ({"alignment": [0.1, 0.2], "persistence": [0.1, 0.2, 0.3]}, "alignment and persistence must broadcast"),
        ({"alignment": []}, "alignment and persistence must lie on one axis, with at least one cell"),
        ({"strengths": (0.0, 2.0)}, "strengths must be positive, finite and ascending"),
        ({"scan": 1}, "scan must be an integer of at least 2"),
        ({"chains": 4}, "chains must be more for an interval of level 0.95; got 4"),
        ({"thresholds": theory.PhaseThresholds(ratio=1e-16)}, "thresholds.ratio must be above what float64 resolves"),
    ):
        with pytest.raises(ValueError, match=message):
            critical_strength(**(good | change))
    for change, message in (
        ({"strength": -1.0}, "strength must be finite and not negative; got -1.0"),
        ({"persistence": 1.5}, "persistence must lie in .0, 1.; got 1.5"),
        ({"rank": 0}, "rank must be an integer of at least 1"),
        ({"rank": 5, "dimension": 9}, "dimension must be an integer of at least 10"),
    ):
        with pytest.raises(ValueError, match=message):
            residual_rates(**({"strength": 1.0, "alignment": 0.5} | change))
    rng = np.random.default_rng(0)
    for change, message in (
        ({"rank": 4}, "dimension must be at least 2 rank = 8; got 7"),
        ({"strength": np.inf}, "strength must be finite"),
        ({"alignment": 1.1}, "alignment must lie in .0, 1."),
    ):
        with pytest.raises(ValueError, match=message):
            aligned_residual_chain(3, 7, rng, **({"strength": 1.0, "alignment": 0.5} | change))
    chain = aligned_residual_chain(3, 4, rng, strength=1.0, alignment=0.5, rank=2)
    for change, message in (
        ({"context_dimension": 3}, "context_dimension must be at most 2; got 3"),
        ({"frame": "along"}, "frame must be 'across' or 'isotropic'"),
        ({"along": -1.0}, "along must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            inject_written(chain, rng, **({"along": 1.0, "context_dimension": 1} | change))
    with pytest.raises(ValueError, match="chain must be one of aligned_residual_chain"):
        write_frames(theory.flat_chain(2, 3, rng, gap=0.5, alignment=0.5))
