"""The sweep, and the reduction (T24) it runs on, against the dense simulator; boundary curves."""

import jax
import numpy as np
import pytest
from scipy import stats

import theory
from observables import ChainParameters
from tests.helpers.chains import EPS, random_parameters, uniform_parameters
from theory.propagation.recurrence import products
from theory.propagation.reduction import direction_coordinates, log_singular_values


def pulled_back(chain: theory.Chain, gap: np.ndarray) -> np.ndarray:
    """w_l = H_{l-1}^T v_l of (T24), from the dense layers of a flat-residual chain."""
    turned = np.eye(chain.dimension)
    out = np.empty_like(chain.v)
    for layer, a in enumerate(chain.propagators):
        v = chain.v[layer]
        out[layer] = turned.T @ v
        # A = sigma O (xi I + (1 - xi) v v^T), so O = A (I / xi + (1 - 1 / xi) v v^T) / sigma.
        inverse = np.eye(v.size) / gap[layer] + (1 - 1 / gap[layer]) * np.outer(v, v)
        turned = (a @ inverse / chain.sigma[layer]) @ turned
    return out


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("d", [2, 3, 8])
def test_T24_gives_the_singular_values_of_this_very_chain(depth: int, d: int) -> None:
    rng = np.random.default_rng(100 * depth + d)
    base = random_parameters(rng, depth)
    parameters = ChainParameters(
        base.sigma, np.clip(base.gap, 0.2, 1), base.alignment, base.injection_along, base.injection_across
    )
    chain = theory.make_chain(parameters, d, rng)
    s = np.linalg.svd(products(chain).matrix[-1], compute_uv=False)
    log_scale = products(chain).log_scale[-1]
    w = pulled_back(chain, parameters.gap)
    first, second = log_singular_values(w[None], parameters.gap[None], parameters.sigma[None])
    # Dense rounding is d L eps of the norm, amplified by the inverse gaps of pulled_back: 0.2^-5 at most.
    tolerance = 4 * d * depth * EPS * 0.2**-depth / (s[1] / s[0])
    np.testing.assert_allclose(first[0], np.log(s[0]) + log_scale, atol=tolerance)
    np.testing.assert_allclose(second[0], np.log(s[1]) + log_scale, atol=tolerance)


def test_reduction_resolves_ratios_far_below_float64() -> None:
    """kappa = 1: sigma_2 / sigma_1 = xi^L exactly, here 1e-600."""
    w = np.zeros((1, 200, 3))
    w[..., 0] = 1
    first, second = log_singular_values(w, np.full((1, 200), 1e-3), np.full((1, 200), 2.0))
    assert first[0] == pytest.approx(200 * np.log(2.0), rel=1e-13)
    assert second[0] - first[0] == pytest.approx(200 * np.log(1e-3), rel=1e-13)


def test_reduction_agrees_with_the_plain_product_across_its_switch() -> None:
    """Ratios from 1 to 1e-11, where a dense product in float64 still has them to 1e-4."""
    rng = np.random.default_rng(1)
    w = direction_coordinates(np.full(40, 0.9), 30, rng, 1, 5)[:, 0]
    gap = np.repeat(np.geomspace(3e-3, 0.9, 40)[:, None], 5, axis=1)
    first, second = log_singular_values(w, gap, np.ones((40, 5)))
    for i in range(40):
        product = np.eye(6)
        for layer in range(5):
            xi = gap[i, layer]
            product = (xi * np.eye(6) + (1 - xi) * np.outer(w[i, layer], w[i, layer])) @ product
        s = np.linalg.svd(product, compute_uv=False)
        assert first[i] == pytest.approx(np.log(s[0]), abs=1e-13)
        assert second[i] == pytest.approx(np.log(s[1]), abs=1e-14 / (s[1] / s[0]) + 1e-11)


def test_drawn_directions_have_their_alignment_and_the_law_of_isotropic_ones() -> None:
    rng = np.random.default_rng(2)
    d, kappa = 5, np.array([0.0, 0.3, 1.0])
    w = direction_coordinates(kappa, d, rng, 3000, 6)
    np.testing.assert_allclose(np.linalg.norm(w, axis=-1), 1, atol=20 * EPS)
    overlaps = np.einsum("kslr,kslr->ksl", w[:, :, 1:], w[:, :, :-1])
    np.testing.assert_allclose(overlaps, np.broadcast_to(kappa[:, None, None], overlaps.shape), atol=20 * EPS)
    # <w_6, w_1> against walks of whole vectors
    walk = np.zeros((3000, d))
    walk[:, 0] = 1
    for _ in range(5):
        step = rng.standard_normal((3000, d))
        step -= np.sum(step * walk, axis=1, keepdims=True) * walk
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        walk = 0.3 * walk + np.sqrt(1 - 0.09) * step
    found = np.einsum("sr,sr->s", w[1, :, 5], w[1, :, 0])
    assert stats.ks_2samp(found, walk[:, 0]).pvalue > 1e-3


def test_sweep_has_the_law_of_the_dense_simulator() -> None:
    d, depth, kappa, xi, n = 6, 4, 0.6, 0.3, 200
    rng = np.random.default_rng(3)
    parameters = uniform_parameters(depth, sigma=1.2 / kappa, gap=xi, alignment=kappa)
    chains = [theory.make_chain(parameters, d, rng) for _ in range(n)]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *chains)
    dense = products(batch)
    norms, ratios = dense.log_norm()[:, -1], dense.log_ratio()[0][:, -1]
    cell = theory.sweep(
        theory.SweepSpec(gain=[1.2], alignment=[kappa], gap=[xi], depth=[depth], dimension=[d], seeds=n, seed=1)
    ).squeeze()
    for name, sample in (("log_norm", norms), ("log_ratio", ratios)):
        error = np.hypot(sample.std(ddof=1) / np.sqrt(n), float(cell[name + "_se"]))
        assert abs(float(cell[name]) - sample.mean()) < 4 * error
        # The two spreads estimate one: their ratio is within 4 of 1 / sqrt(2 n) of 1, twice that for long tails.
        assert float(cell[name + "_se"]) == pytest.approx(sample.std(ddof=1) / np.sqrt(n), rel=8 / np.sqrt(2 * n))


SMALL = {"gain": [0.5, 1.0, 2.0], "alignment": [0.3, 0.8], "gap": [0.1, 0.6], "depth": [2, 5], "dimension": [4, 12]}


def test_sweep_is_reproducible_and_a_cell_does_not_depend_on_its_grid() -> None:
    whole = theory.sweep(theory.SweepSpec(**SMALL, seeds=3, seed=7))
    again = theory.sweep(theory.SweepSpec(**SMALL, seeds=3, seed=7))
    assert whole.identical(again)
    one = theory.sweep(
        theory.SweepSpec(gain=[2.0], alignment=[0.8], gap=[0.6], depth=[5], dimension=[12], seeds=3, seed=7)
    )
    part = whole.sel(gain=[2.0], alignment=[0.8], gap=[0.6], depth=[5], dimension=[12])
    for name in ("log_norm", "log_ratio"):
        np.testing.assert_allclose(one[name], part[name], rtol=1e-12)
    other = theory.sweep(theory.SweepSpec(**SMALL, seeds=3, seed=8))
    assert not np.allclose(other.log_norm, whole.log_norm)


def test_gain_scales_the_norm_exactly_and_leaves_the_ratio() -> None:
    data = theory.sweep(theory.SweepSpec(**SMALL, seeds=2))
    shift = data.log_norm.sel(gain=2.0) - data.log_norm.sel(gain=0.5)
    np.testing.assert_allclose(shift, np.broadcast_to(data.depth.values[:, None] * np.log(4), shift.shape), rtol=1e-13)
    np.testing.assert_array_equal(data.log_ratio.sel(gain=2.0), data.log_ratio.sel(gain=0.5))


def test_every_mean_lies_within_the_certified_bounds() -> None:
    data = theory.sweep(theory.SweepSpec(**SMALL, seeds=4))
    for kappa in data.alignment.values:
        for xi in data.gap.values:
            for depth in data.depth.values:
                parameters = uniform_parameters(int(depth), sigma=1 / kappa, gap=xi, alignment=kappa)
                cells = data.sel(gain=1.0, alignment=kappa, gap=xi, depth=depth)
                assert (cells.log_norm <= theory.log_product_upper(parameters) + 1e-12).all()
                lower = theory.log_product_lower(parameters)
                if np.isfinite(lower):
                    assert (cells.log_norm >= lower - 1e-12).all()
                assert (cells.log_ratio <= theory.log_product_ratio_upper(parameters) + 1e-12).all()


def test_T18_and_T19_hold_for_deep_chains_of_large_dimension() -> None:
    """d = 4096: growth ln max(kappa, xi) a layer, and collapse ln(xi / kappa) a layer where kappa > xi, else none."""
    kappa, xi, seeds = np.array([0.8, 0.5, 0.1]), 0.3, 16
    data = theory.sweep(
        theory.SweepSpec(gain=[0.8], alignment=kappa, gap=[xi], depth=[20, 40], dimension=[4096], seeds=seeds)
    ).squeeze()
    near, far = data.sel(depth=20), data.sel(depth=40)
    # The two depths are drawn apart, so their errors add; 0.02 a layer is what d = 4096 leaves of (T21) and of (T20).
    for name, expected in (
        ("log_norm", np.log(np.maximum(kappa, xi)) + np.log(0.8 / kappa)),
        ("log_ratio", np.minimum(np.log(xi / kappa), 0.0)),
    ):
        slope = (far[name] - near[name]).values / 20
        error = np.hypot(far[name + "_se"], near[name + "_se"]).values / 20
        assert (np.abs(slope - expected) < 4 * error + 0.02).all()
        assert (error < 0.02).all()


def test_degenerate_cells_have_codes_and_spoil_no_other() -> None:
    spec = theory.SweepSpec(
        gain=[0.0, 1.0], alignment=[0.0, 0.5, 1.0], gap=[0.0, 0.5, 1.0], depth=[1, 3], dimension=[1, 2, 5], seeds=2
    )
    data = theory.sweep(spec)
    assert data.code.attrs["code_meanings"].startswith("0: ok; 1: alignment is 0")

    def cell(name: str, **where: float) -> float:
        return float(data[name].sel(**where))

    point = {"gain": 1.0, "alignment": 0.5, "gap": 0.5, "depth": 3, "dimension": 5}
    assert cell("code", **point) == 0
    assert np.isfinite(cell("log_norm", **point))
    no_alignment = point | {"alignment": 0.0}
    assert cell("code", **no_alignment) == 1
    assert np.isnan(cell("log_norm", **no_alignment)) and np.isfinite(cell("log_ratio", **no_alignment))
    silent = point | {"gain": 0.0}
    assert cell("code", **silent) == 2
    assert cell("log_norm", **silent) == -np.inf and np.isnan(cell("log_ratio", **silent))
    rank_one = point | {"gap": 0.0}
    assert cell("code", **rank_one) == 3
    assert cell("log_ratio", **rank_one) == -np.inf
    # sigma = 2 in three layers, kappa between them: 8 * 0.25
    assert cell("log_norm", **rank_one) == pytest.approx(np.log(2.0), abs=1e-14)
    assert cell("code", **(point | {"gap": 0.0, "alignment": 0.0})) == 4
    assert cell("code", **(point | {"dimension": 1})) == 5
    line = point | {"dimension": 1, "alignment": 1.0, "gap": 0.0}
    assert cell("code", **line) == 6
    assert cell("log_norm", **line) == 0 and np.isnan(cell("log_ratio", **line))
    orthogonal = point | {"gap": 1.0}
    assert cell("log_norm", **orthogonal) == pytest.approx(3 * np.log(2.0), abs=1e-14)
    assert cell("log_ratio", **orthogonal) == pytest.approx(0.0, abs=1e-14)
    one_layer = point | {"depth": 1}
    assert cell("log_norm", **one_layer) == pytest.approx(np.log(2.0), abs=1e-14)
    assert cell("log_ratio", **one_layer) == pytest.approx(np.log(0.5), abs=1e-14)


def test_the_earliest_injection_in_dimension_1_has_the_codes_of_the_product() -> None:
    """A line has kappa = 1, xi = 0 and no other chain; there P_{L:2} u_1 = sigma^(L-1): critical at gain 1."""
    spec = theory.SweepSpec(
        [1.0], [0.5, 1.0], [0.0, 0.5], depth=[1, 3], dimension=[1, 3], seeds=6, quantities=("product", "early")
    )
    data = theory.sweep(spec)
    line = data.sel(dimension=1, depth=3)
    np.testing.assert_array_equal(line.early_gain_code, line.product_gain_code)
    np.testing.assert_array_equal(line.early_gain_code, [[5, 5], [0, 5]])
    np.testing.assert_array_equal(line.early_gain, [[np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(line.early_rate, [[np.nan, np.nan], [0.0, np.nan]])
    assert line.early_log_noise.sel(alignment=1.0, gap=0.0) == -np.inf
    assert (data.early_gain_code.sel(depth=1) == 5).all()  # no layer, no rate
    assert (data.early_gain_code.sel(dimension=3, depth=3) == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": []}, "gain must be a non-empty"),
        ({"gain": [-1.0]}, r"gain must be finite and not negative; got -1\.0"),
        ({"gain": [np.nan]}, "gain must be finite"),
        ({"alignment": [0.5, np.nan]}, r"alignment must lie in \[0, 1\]; got nan"),
        ({"gap": [1.5]}, r"gap must lie in \[0, 1\]; got 1\.5"),
        ({"gap": [0.5, 0.5]}, "gap must not repeat"),
        ({"depth": [0]}, "depth must be an integer of at least 1"),
        ({"depth": [2.5]}, "depth must be an integer"),
        ({"dimension": [-3]}, "dimension must be an integer"),
        ({"seeds": 0}, "seeds must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_bad_grids_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        theory.SweepSpec(**(SMALL | change))


def test_one_seed_has_no_standard_error() -> None:
    data = theory.sweep(theory.SweepSpec(**SMALL, seeds=1))
    assert np.isnan(data.log_norm_se).all() and np.isfinite(data.log_norm).all()


def test_float64_stays_local() -> None:
    theory.sweep(theory.SweepSpec(**SMALL, seeds=1))
    assert jax.config.jax_enable_x64 is False


def test_boundary_curves_are_the_roots_they_are_named_for() -> None:
    kappa, xi = np.linspace(0.0, 1.0, 101), 0.2
    curves = theory.boundary_curves(xi, kappa)
    critical = float(curves["critical_alignment"])
    assert critical == theory.critical_alignment(xi)
    np.testing.assert_array_equal(curves["paper"], 1.0)
    sigma = np.divide(curves["certified_I"][1:], kappa[1:])
    np.testing.assert_allclose(sigma * theory.max_rate(kappa[1:], xi), 1, rtol=4 * EPS)
    above = kappa >= critical
    assert np.isnan(curves["certified_II"][~above]).all()
    np.testing.assert_allclose(
        curves["certified_II"][above] / kappa[above] * theory.min_rate(kappa[above], xi), 1, rtol=4 * EPS
    )
    np.testing.assert_allclose(curves["mean_field"], np.minimum(1, kappa / xi), rtol=4 * EPS)
    assert (curves["certified_I"] <= curves["mean_field"] * (1 + 4 * EPS)).all()
    assert (curves["mean_field"][above] <= curves["certified_II"][above] * (1 + 4 * EPS)).all()
