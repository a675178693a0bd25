"""Bad input to the constructors is refused by an error that names the argument, the rule and what came."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory.chains import _requests
from theory.chains.directions import complement


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def flat(**changes):
    return theory.flat_chain(**({"depth": 3, "dimension": 4, "rng": rng(), "gap": 0.5, "alignment": 0.5} | changes))


def profile(**changes):
    base = {"depth": 3, "dimension": 3, "rng": rng(), "residual_values": [0.5, 0.2], "alignment": 0.5}
    return theory.profile_chain(**(base | changes))


def low_rank(**changes):
    base = {"depth": 3, "dimension": 4, "rng": rng(), "rank": 2, "gap": 0.5, "alignment": 0.5}
    return theory.low_rank_chain(**(base | changes))


def twisted(**changes):
    return theory.twisted_chain(**({"alignment": 0.5, "gap": 0.5, "depth": 3} | changes))


def residual(**changes):
    return theory.residual_chain(**({"depth": 3, "dimension": 4, "rng": rng(), "strength": 1.0} | changes))


BAD = [
    (flat, {"gap": -0.1}, "gap must lie in [0, 1]; got -0.1"),
    (flat, {"gap": 1.1}, "gap must lie in [0, 1]; got 1.1"),
    (flat, {"gap": np.nan}, "gap must lie in [0, 1]; got nan"),
    (flat, {"gap": [0.1, 0.2]}, "gap must be a number or have the 3 layers of the chain; got shape (2,)"),
    (flat, {"gap": "large"}, "gap must be a real number or one a layer; got 'large'"),
    (flat, {"gap": 1j}, "gap must be a real number or one a layer; got 1j"),
    (flat, {"gap": None}, "gap must lie in [0, 1]; got nan"),
    (flat, {"alignment": 1.5}, "alignment must lie in [0, 1]; got 1.5"),
    (flat, {"alignment": -1.0, "depth": 1}, "alignment must lie in [0, 1]; got -1.0"),
    (flat, {"alignment": [0.5, 0.5, -0.5]}, "alignment must lie in [0, 1]; got -0.5"),
    (flat, {"alignment": [0.5] * 4}, "alignment must be a number or have the 3 layers of the chain; got shape (4,)"),
    (flat, {"sigma": -1.0}, "sigma must not be negative; got -1.0"),
    (flat, {"sigma": np.inf}, "sigma must be finite; got inf"),
    (flat, {"sigma": [1.0, np.nan, 1.0]}, "sigma must be finite; got nan"),
    (flat, {"sigma": [1.0]}, "sigma must be a number or have the 3 layers of the chain; got shape (1,)"),
    (flat, {"sigma": 1e-150, "dtype": "float32"}, "sigma must be 0 or a normal number of float32; got 1e-150"),
    (flat, {"sigma": 1e150, "dtype": "float32"}, "sigma must be 0 or a normal number of float32; got 1e+150"),
    (flat, {"sigma": 1e-310}, "sigma must be 0 or a normal number of float64; got 1e-310"),
    (flat, {"depth": 0}, "depth must be an integer of at least 1; got 0"),
    (flat, {"depth": 2.5}, "depth must be an integer of at least 1; got 2.5"),
    (flat, {"depth": [3]}, "depth must be an integer of at least 1; got [3]"),
    (flat, {"dimension": 0}, "dimension must be an integer of at least 1; got 0"),
    (flat, {"dimension": 1, "alignment": 1.0}, "dimension must be at least 2 for any gap; got 1 with gap 0.5"),
    (flat, {"dimension": 1, "gap": 0.0}, "dimension must be at least 2 for an alignment below 1; got 1"),
    (flat, {"isometry": "cayley"}, "isometry must be 'haar' or 'reflection'; got 'cayley'"),
    (flat, {"dtype": "float16"}, "dtype must be 'float64' or 'float32'; got 'float16'"),
    (flat, {"dtype": int}, "dtype must be 'float64' or 'float32'; got <class 'int'>"),
    (flat, {"batch": (0,)}, "batch must be an integer of at least 1; got 0"),
    (flat, {"batch": 3}, "batch must be a tuple of integers of at least 1; got 3"),
    (profile, {"residual_values": [0.2, 0.5]}, "residual_values must be descending; got 0.2 before 0.5"),
    (profile, {"residual_values": [0.5]}, "residual_values must have shape (2,) or (3, 2); got (1,)"),
    (profile, {"residual_values": [1.5, 0.2]}, "residual_values must lie in [0, 1]; got 1.5"),
    (profile, {"residual_values": [0.5, np.nan]}, "residual_values must lie in [0, 1]; got nan"),
    (profile, {"residual_values": "flat"}, "residual_values must be real numbers; got 'flat'"),
    (profile, {"gap": 0.4}, "residual_values must begin with the gap; got 0.5 with gap 0.4"),
    (profile, {"dimension": 1}, "dimension must be an integer of at least 2; got 1"),
    (low_rank, {"rank": 4}, "rank must be at most d - 1 = 3; got 4"),
    (low_rank, {"rank": 0}, "rank must be an integer of at least 1; got 0"),
    (twisted, {"sense": "sideways"}, "sense must be 'fastest' or 'slowest'; got 'sideways'"),
    (twisted, {"dimension": 1}, "dimension must be an integer of at least 2; got 1"),
    (twisted, {"depth": 0}, "depth must be an integer of at least 1; got 0"),
    (residual, {"strength": -1.0}, "strength must not be negative; got -1.0"),
    (residual, {"drift": np.inf}, "drift must be finite; got inf"),
    (residual, {"rank": 5}, "rank must be at most d = 4; got 5"),
]


@pytest.mark.parametrize(("build", "changes", "message"), BAD)
def test_bad_input_is_refused_by_name_rule_and_value(build, changes, message: str) -> None:
    build()
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        build(**changes)


def test_alignment_of_the_first_layer_is_never_read() -> None:
    for first in (np.nan, -3.0):
        numbers = np.array([first, 0.5, 0.7])
        np.testing.assert_array_equal(flat(alignment=numbers).v, flat(alignment=[0.1, 0.5, 0.7]).v)
        assert np.isnan(first) == np.isnan(numbers[0])  # the caller's array is left alone
        np.testing.assert_array_equal(twisted(alignment=numbers).v, twisted(alignment=[0.5, 0.5, 0.7]).v)


def test_given_layers_are_checked() -> None:
    for value, message in (
        (np.zeros((3, 3)), "propagators must have shape (..., L, d, d)"),
        (np.zeros((2, 3, 4)), "propagators must have shape (..., L, d, d)"),
        (np.zeros((0, 3, 3)), "propagators must have shape (..., L, d, d) with no axis of length 0; got (0, 3, 3)"),
        (np.full((2, 3, 3), np.inf), "propagators must be finite"),
        (np.zeros((2, 3, 3), dtype=int), "propagators must be real floating-point numbers; got int64"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            theory.chain_of_layers(value)
    with pytest.raises(ValueError, match=re.escape("injections must have shape (2, 3) + (m,), m >= 1; got (2, 4, 1)")):
        theory.chain_of_layers(np.zeros((2, 3, 3)), np.zeros((2, 4, 1)))
    with pytest.raises(ValueError, match="injections must be finite"):
        theory.chain_of_layers(np.zeros((2, 3, 3)), np.full((2, 3, 1), np.nan))
    with pytest.raises(ValueError, match="updates must be finite"):
        theory.residual_chain_of(np.full((2, 3, 3), np.nan))


def test_numbers_that_leave_the_precision_are_refused_not_made_infinite() -> None:
    huge = 1e300 * np.eye(3)[None]
    theory.chain_of_layers(huge)
    for build in (
        lambda: theory.chain_of_layers(huge, dtype="float32"),
        lambda: theory.chain_of_layers(np.eye(3)[None], 1e300 * np.ones((1, 3, 1)), dtype="float32"),
        lambda: residual(strength=1e300, dtype="float32"),
    ):
        with pytest.raises(ValueError, match="dtype must hold the chain's numbers; got one beyond float32"):
            build()


def test_chains_of_shapes_that_disagree_are_refused() -> None:
    chain = flat()
    zeros = np.zeros((3, 4, 1))
    with pytest.raises(ValueError, match=re.escape("u must have shape (2, 4); got (3, 4)")):
        theory.Chain(chain.sigma[:2], chain.u, chain.v, chain.residual, zeros)
    with pytest.raises(ValueError, match=re.escape("residual must have shape (3, 4, 4); got (2, 4, 4)")):
        theory.Chain(chain.sigma, chain.u, chain.v, chain.residual[:2], zeros)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(ValueError, match=re.escape("injection must have shape (3, 4) + (m,), m >= 1; got (3, 4, 0)")):
        theory.Chain(chain.sigma, chain.u, chain.v, chain.residual, np.zeros((3, 4, 0)))
    with pytest.raises(ValueError, match="sigma must hold at least one layer"):
        theory.Chain(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros((0, 4, 1)))


def test_tracers_are_refused_by_name_as_chains_are_drawn_on_the_host() -> None:
    def through(build):
        return jax.jit(lambda x: build(x).sigma)(jnp.asarray(0.5))

    for name, build in {
        "gap": lambda x: flat(gap=x),
        "alignment": lambda x: flat(alignment=x),
        "sigma": lambda x: flat(sigma=x),
        "depth": lambda x: flat(depth=x),
        "batch": lambda x: flat(batch=(x,)),
        "residual_values": lambda x: profile(residual_values=jnp.stack([x, x])),
        "rank": lambda x: low_rank(rank=x),
        "strength": lambda x: residual(strength=x),
        "propagators": lambda x: theory.chain_of_layers(x * jnp.ones((2, 3, 3))),
        "updates": lambda x: theory.residual_chain_of(x * jnp.ones((2, 3, 3))),
    }.items():
        with pytest.raises(ValueError, match=f"^{name} must be known before tracing"):
            through(build)


def test_dense_chains_beyond_memory_are_refused_with_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "available_bytes", lambda: 10**6)
    # 2 (work) x 3 layers x 256^2 numbers of 8 bytes
    with pytest.raises(ValueError, match=f"takes {2 * 3 * 256**2 * 8} bytes and 1000000 are available"):
        flat(dimension=256)
    for build in (
        lambda: profile(dimension=256, residual_values=np.full(255, 0.5)),
        lambda: theory.gaussian_chain(3, 256, rng()),
        lambda: theory.orthogonal_chain(3, 256, rng()),
        lambda: theory.chain_of_layers(np.zeros((3, 256, 256))),
        lambda: low_rank(dimension=20000),
    ):
        with pytest.raises(ValueError, match="bytes"):
            build()
    flat(dimension=256, isometry="reflection")


def test_available_memory_is_a_plausible_number() -> None:
    assert 2**20 < _requests.available_bytes() < 2**50


def test_complements_are_orthonormal_and_orthogonal_to_their_axis() -> None:
    axis = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0.6, 0, -0.8]])
    whole = np.concatenate([axis[:, :, None], complement(axis)], axis=2)
    np.testing.assert_allclose(
        whole.swapaxes(1, 2) @ whole, np.tile(np.eye(3), (3, 1, 1)), atol=12 * np.finfo(np.float64).eps
    )


def test_a_depth_that_no_memory_holds_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ValueError, match=r"directions of shape \(1000000000000, 4\) takes"):
        theory.flat_chain(10**12, 4, np.random.default_rng(0), gap=0.1, alignment=0.9)


def test_a_chain_is_no_parameters_and_layers_are_no_chain() -> None:
    chain = theory.flat_chain(2, 4, np.random.default_rng(0), gap=0.1, alignment=0.9)
    for function in (theory.certify, theory.certify_cone):
        with pytest.raises(TypeError, match="parameters must be ChainParameters; got Chain"):
            function(chain)
    for function in (theory.log_singular_values, theory.products, theory.dominant_path):
        with pytest.raises(TypeError, match=r"chain must be a theory\.Chain; got ndarray"):
            function(chain.propagators)


def test_bounds_are_not_held_against_another_chain() -> None:
    rng = np.random.default_rng(0)
    chain = theory.flat_chain(2, 4, rng, gap=0.1, alignment=0.9)
    other = theory.measure(theory.flat_chain(2, 4, rng, gap=0.1, alignment=0.9, sigma=[1.0, 1.5]))
    with pytest.raises(ValueError, match=r"got sigma 1\.0 where they have 1\.\d+, layer 2"):
        theory.evaluate_bounds(other, chain)
