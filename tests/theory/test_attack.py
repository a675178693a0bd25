"""The worst-case search: exact numbers, what it finds by itself, and a budget that loses nothing."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from tests.helpers.chains import EPS
from theory.attack.checkpoint import OtherAttackError
from theory.attack.evaluate import evaluate, log_norms
from theory.attack.frames import Box, numbers, start
from theory.attack.objectives import SQUARINGS, log_excess
from theory.attack.spec import BOUNDS, LARGEST_GAIN, AttackSpec, ranges
from theory.regimes.thresholds import PAPER_FIRST_ORDER_ERROR


def one_start(spec: AttackSpec, seed: int = 0, spread: float = 1.0):
    """A box and one random start, its free numbers `spread` times as far out as a search begins."""
    space = ranges(spec)
    box = Box(*(jnp.asarray(pair, jnp.float64) for pair in (space.gap, space.alignment, space.sigma)))
    free = jax.tree.map(lambda x: spread * x[seed], start(spec, space.shared))
    return box, free


@pytest.mark.parametrize(("dimension", "bound"), [(2, "T8"), (3, "T15"), (6, "T10")])
def test_every_free_parameter_gives_a_chain_with_exactly_the_prescribed_numbers(dimension, bound):
    spec = AttackSpec(bound, depth=5, dimension=dimension, restarts=2)
    with jax.enable_x64(True):
        box, free = one_start(spec, seed=1, spread=3.0)
        found = evaluate(free, box, spec)
    measured = theory.measure(found.chain)
    # Householder reflections and an SVD of a d x d matrix err by a few d eps; 16 leaves room for both.
    tolerance = 16 * dimension * EPS
    np.testing.assert_allclose(measured.sigma, found.parameters.sigma, rtol=tolerance)
    np.testing.assert_allclose(measured.gap, found.parameters.gap, atol=tolerance)
    np.testing.assert_allclose(measured.alignment[1:], found.parameters.alignment[1:], atol=tolerance)
    np.testing.assert_allclose(measured.injection_along, found.parameters.injection_along, rtol=tolerance)
    np.testing.assert_allclose(measured.injection_across, found.parameters.injection_across, rtol=tolerance)


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_free_numbers_stay_inside_the_hypotheses_of_the_attacked_bound(spread):
    for bound, seed in itertools.product(("P1", "P2", "T9", "T10"), range(8)):
        spec = AttackSpec(bound, depth=6, restarts=8)
        with jax.enable_x64(True):
            box, free = one_start(spec, seed, spread)
            chain = jax.jit(numbers, static_argnums=(2, 3))(free, box, bound, spec.depth)
            kappa, gap, sigma = (np.asarray(x) for x in (chain.alignment, chain.gap, chain.sigma))
        slack = 1 + 4 * EPS
        if bound == "P1":
            assert spec.depth * gap.max() / kappa.min() <= PAPER_FIRST_ORDER_ERROR * slack
        elif bound == "P2":
            assert (sigma * kappa).max() <= LARGEST_GAIN * slack
        else:
            assert kappa.min() >= theory.critical_alignment(gap.max())


@pytest.mark.parametrize("bound", [name for name in BOUNDS if name not in ("T27",)])
def test_what_is_maximised_is_what_is_measured_afterwards(bound):
    spec = AttackSpec(bound, depth=4, dimension=4, restarts=3)
    with jax.enable_x64(True):
        box, free = one_start(spec, seed=2)
        smooth = float(jax.jit(log_excess, static_argnums=(2, 3))(free, box, bound, spec.depth))
        exact = evaluate(free, box, spec)
    # The smoothed norm is above ||M|| by at most ln(rank) / 2^(SQUARINGS + 1); T10 has one of the second compound
    # (6 x 6) and two of the product. P2 climbs the norm of the product and is judged by a spectral radius.
    allowance = math.log(6) / 2 ** (SQUARINGS + 1)
    if bound == "P2":
        a, sigma = np.asarray(exact.chain.propagators), exact.parameters.sigma
        norm = (log_norms(a)[-1] - math.log(sigma[0])) / (spec.depth - 1)
        assert -1e-12 <= smooth - norm <= allowance
    elif bound == "growth":
        assert -1e-12 <= smooth - exact.log_measured <= allowance
    elif bound == "decay":
        assert -1e-12 <= -smooth - exact.log_measured <= allowance
    else:
        assert abs(smooth - exact.log_excess) <= 3 * allowance


def test_the_search_finds_a_violation_of_P1_by_itself():
    found = theory.attack(AttackSpec("P1", depth=8, dimension=3, restarts=8, steps=300)).found
    kappa, gap = found.parameters.alignment[1:].min(), found.parameters.gap.max()
    assert 8 * gap / kappa <= PAPER_FIRST_ORDER_ERROR * (1 + 4 * EPS)
    assert found.violated
    # Not a near miss: what T12 allows there is several times L xi / kappa, and the search comes near it.
    assert found.log_excess > math.log(2)
    assert math.exp(found.log_measured) <= theory.perturbation_error(found.parameters.alignment, found.parameters.gap)


def test_the_search_finds_a_violation_of_P2_by_itself():
    found = theory.attack(AttackSpec("P2", depth=10, dimension=3, restarts=8, steps=300)).found
    assert found.parameters.gain[1:].max() <= LARGEST_GAIN * (1 + 4 * EPS)
    assert found.violated
    # Repeated five times, u_l = e_1 keeping every alignment, the layers grow as the spectral radius said they would.
    a = np.asarray(found.chain.propagators)[1:]
    total = np.eye(a.shape[-1])
    for layer in np.concatenate([a] * 5):
        total = layer @ total
    assert np.log(np.linalg.norm(total, 2)) >= 5 * len(a) * found.log_measured - 1e-9


GRID = ((0.3, 0.2), (0.5, 0.1), (0.9, 0.05))


def growth_at(point: tuple[float, float]) -> AttackSpec:
    """Half the default budget; (0.1, 0.5), the hardest point tried, needs all of it."""
    return AttackSpec("growth", alignment=point[0], gap=point[1], restarts=64, steps=1000)


@pytest.fixture(scope="module")
def fastest():
    """One search a grid point (alignment, gap)."""
    return {point: theory.attack(growth_at(point)).found for point in GRID}


@pytest.mark.parametrize("point", GRID)
def test_the_search_reaches_99_percent_of_Lambda_max_over_the_second_half_and_never_exceeds_T8(fastest, point):
    found = fastest[point]
    assert found.share_of_max_rate >= 0.99
    assert found.upper_slack >= -found.margin
    assert found.log_excess <= found.margin
    # The margin is rounding, not room: the sharp rate is attained within a constant factor.
    assert found.margin < 1e-9


def test_the_slowest_chain_found_attains_T9():
    found = theory.attack(AttackSpec("decay", 12, 3, alignment=0.5, gap=0.05, restarts=8, steps=400)).found
    assert not found.violated
    # Within a thousandth of a nat over 11 layers, where kappa and Lambda_min differ by 0.2 nats a layer.
    assert -1e-3 <= found.log_excess <= found.margin


def test_an_interrupted_search_keeps_its_best_and_goes_on_to_the_same_bits(tmp_path, fastest):
    spec = growth_at(GRID[1])
    path = tmp_path / "search.npz"
    calls = itertools.count()

    def interrupt(steps: int, best: float) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    first = theory.attack(spec, checkpoint=path, progress=interrupt)
    assert first.interrupted and not first.complete
    assert first.steps_done == 400 and len(first.history) == 4
    resumed = theory.attack(spec, checkpoint=path)
    assert resumed.complete and resumed.history[:4] == first.history
    assert resumed.history[-1] >= first.history[-1]
    whole = fastest[GRID[1]]
    assert resumed.found.log_measured == whole.log_measured
    for one, other in zip(jax.tree.leaves(resumed.found.chain), jax.tree.leaves(whole.chain), strict=True):
        np.testing.assert_array_equal(one, other)
    again = theory.attack(spec, checkpoint=path)
    assert again.history == resumed.history and again.found.log_measured == whole.log_measured


def test_a_time_budget_stops_after_the_block_it_ends_in(tmp_path):
    spec = growth_at(GRID[1])
    result = theory.attack(spec, seconds=1e-9, checkpoint=tmp_path / "search.npz")
    assert result.steps_done == 100 and not result.complete and not result.interrupted


def test_a_checkpoint_of_another_search_is_refused_by_name(tmp_path):
    path = tmp_path / "search.npz"
    spec = growth_at(GRID[1])
    theory.attack(spec, seconds=1e-9, checkpoint=path)
    with pytest.raises(OtherAttackError, match=r"gap was 0\.1, not 0\.2"):
        theory.attack(growth_at((0.5, 0.2)), checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OtherAttackError, match="is no checkpoint"):
        theory.attack(spec, checkpoint=path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bound": "P9"}, "bound must be one of growth, decay, P1"),
        ({"depth": 1}, "depth must be an integer of at least 2; got 1"),
        ({"dimension": 1}, "dimension must be an integer of at least 2; got 1"),
        ({"restarts": 0}, "restarts must be an integer of at least 1; got 0"),
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"gap": 1.5}, r"gap must lie in \[0, 1\]; got 1.5"),
        ({"gap": math.nan}, r"gap must lie in \[0, 1\]; got nan"),
        ({"alignment": -0.1}, r"alignment must lie in \[0, 1\]; got -0.1"),
        ({"gap": "0.1"}, "gap must be a real number; got '0.1'"),
        ({"alignment": [0.1]}, r"alignment must be a real number; got \[0.1\]"),
        ({"bound": ["P1"]}, r"bound must be one of .*; got \['P1'\]"),
        ({"sigma": 0.0}, "sigma must be finite and positive; got 0.0"),
        ({"bound": "P1", "gap": 0.5}, r"gap must lie in \(0, 0.0119\] for P1"),
        ({"bound": "P2", "alignment": 0.99}, "alignment must be at most 0.95 for P2"),
        ({"bound": "T9", "alignment": 0.1, "gap": 0.2}, "alignment must exceed kappa_c = 0.745 for T9"),
        ({"bound": "T12", "alignment": 0.0}, "alignment must be positive for T12"),
    ],
)
def test_bad_requests_name_the_argument_the_rule_and_what_came(arguments, said):
    with pytest.raises(ValueError, match=said):
        AttackSpec(**arguments)


def test_what_would_not_fit_in_memory_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="depth, dimension and restarts must make a search that fits in memory"):
        theory.attack(AttackSpec(depth=10**9))
    with pytest.raises(TypeError, match="spec must be an AttackSpec; got str"):
        theory.attack("P1")  # pyright: ignore[reportArgumentType]


def test_a_time_budget_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"seconds must be positive; got 0\.0"):
        theory.attack(AttackSpec(), seconds=0.0)
