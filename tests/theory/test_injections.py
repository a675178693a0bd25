"""Injections: what is prescribed is measured back; the adversarial ones are monotone and never the weaker."""

import re

import jax
import numpy as np
import pytest

import theory
from tests.helpers.families import FAMILIES
from theory.chains.adversarial import growing_directions

DTYPES = ("float64", "float32")


def final_norm(chain: theory.Chain) -> np.ndarray:
    """||J_L||, by the plain recurrence in float64: another route than the library's."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (chain.propagators, chain.injections))
    jacobian = np.zeros_like(b[..., 0, :, :])
    for layer in range(chain.depth):
        jacobian = a[..., layer, :, :] @ jacobian + b[..., layer, :, :]
    return np.linalg.norm(jacobian, ord=2, axis=(-2, -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_T3_injections_have_what_is_prescribed(dtype: str, batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    chain = theory.flat_chain(3, 6, rng, gap=0.5, alignment=0.5, batch=batch, dtype=dtype)
    sizes = np.array([0.0, 1.0, 2.5])
    unit = 4 * 6 * 4 * float(np.finfo(dtype).eps) * 2.5  # matrices of 6 x 4 entries, of size 2.5 at most

    none = theory.inject_none(chain, 4)
    assert none.injections.shape == (*batch, 3, 6, 4)
    assert not none.injections.any()

    random = theory.inject_random(chain, rng, norm=sizes, context_dimension=4)
    found = np.linalg.norm(random.injections.astype(np.float64), ord=2, axis=(-2, -1))
    np.testing.assert_allclose(found, np.broadcast_to(sizes, found.shape), atol=unit)

    along = np.array([0.5, 1.0, 2.0])
    coherent = theory.inject_coherent(chain, rng, along=along, across=sizes, context_dimension=4)
    b, u = coherent.injections.astype(np.float64), chain.u.astype(np.float64)
    on_u = np.einsum("...d,...dm->...m", u, b)
    np.testing.assert_allclose(on_u[..., 0], np.broadcast_to(along, on_u.shape[:-1]), atol=unit)
    np.testing.assert_allclose(on_u[..., 1:], 0, atol=unit)
    s = np.linalg.svd(b - u[..., None] * on_u[..., None, :], compute_uv=False)
    np.testing.assert_allclose(s, np.broadcast_to(sizes[:, None], s.shape), atol=unit)
    for injected in (none, random, coherent):
        assert injected.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(injected.propagators, chain.propagators)


def test_coherent_injections_have_one_sign_in_the_gauge_whatever_the_signs_of_u() -> None:
    """measure() finds c_l > 0 in every layer (3a-c), also where the chain's own u and v are out of gauge."""
    rng = np.random.default_rng(2)
    chain = theory.flat_chain(8, 5, rng, gap=0.4, alignment=0.6)
    signs = rng.choice([-1.0, 1.0], size=(8, 1))
    assert np.unique(signs).size == 2
    turned = theory.Chain(chain.sigma, chain.u * signs, chain.v * signs, chain.residual, chain.injection)
    injected = theory.inject_coherent(turned, rng, along=0.7, across=0.2, context_dimension=2)
    found = theory.measure(injected, direction=np.array([1.0, 0.0]))
    assert found.injection_coherent is not None
    sign = np.sign(found.injection_coherent[0])  # an SVD's sign of the first layer decides that of all
    np.testing.assert_allclose(sign * found.injection_coherent, 0.7, rtol=1e-12)
    np.testing.assert_allclose(found.injection_across, 0.2, rtol=1e-12)


def test_more_context_than_state_and_one_dimension() -> None:
    rng = np.random.default_rng(3)
    wide = theory.inject_coherent(
        theory.flat_chain(2, 3, rng, gap=0.5, alignment=0.5), rng, along=1.0, across=0.5, context_dimension=7
    )
    found = theory.measure(wide)
    np.testing.assert_allclose(found.injection_across, 0.5, rtol=1e-13)
    assert not wide.injections[..., 2:].any()  # a frame across u_l has d - 1 = 2 columns
    line = theory.flat_chain(2, 1, rng, gap=0.0, alignment=1.0)
    one = theory.inject_coherent(line, rng, along=1.0, context_dimension=2)
    np.testing.assert_array_equal(np.abs(one.injections[:, 0, 0]), [1.0, 1.0])
    assert abs(final_norm(theory.inject_adversarial(line, norm=1.0)) - 2.0) < 1e-12
    with pytest.raises(ValueError, match=re.escape("across must be 0 in one dimension; got 0.5")):
        theory.inject_coherent(line, rng, along=1.0, across=0.5, context_dimension=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_growing_injections_are_never_weaker_than_coherent_or_random_ones(family: str) -> None:
    rng = np.random.default_rng(4)
    for depth, d in ((1, 2), (4, 3), (9, 6)):
        chain = FAMILIES[family](depth, d, rng, (3,), "float64").chain
        norm = rng.uniform(0.1, 2, depth)
        grown = theory.inject_adversarial(chain, norm=norm)
        np.testing.assert_allclose(np.linalg.norm(grown.injections[..., 0], axis=-1), [norm] * 3, rtol=1e-13)
        best = final_norm(grown)
        slack = 1 + 1e-12
        coherent = theory.inject_coherent(chain, rng, along=norm, context_dimension=1)
        assert (final_norm(coherent) <= best * slack).all()
        for m in (1, 3):
            for _ in range(10):
                random = theory.inject_random(chain, rng, norm=norm, context_dimension=m)
                assert (final_norm(random) <= best * slack).all()
        # No choice exceeds sum_l norm_l ||P_{L:l+1}||.
        bound, product = np.zeros(3), np.broadcast_to(np.eye(d), (3, d, d))
        for layer in range(depth - 1, -1, -1):
            bound = bound + norm[layer] * np.linalg.norm(product, ord=2, axis=(1, 2))
            product = product @ chain.propagators[:, layer]
        assert (best <= bound * slack).all()


@pytest.mark.parametrize("family", ["gaussian", "flat, reflection"])
def test_the_ascent_is_monotone_and_ends_where_neither_step_gains(family: str) -> None:
    chain = FAMILIES[family](7, 5, np.random.default_rng(5), (4,), "float64").chain
    x, history = growing_directions(chain, 1.0)
    rises = np.diff(np.array(history), axis=0)
    assert rises.min() > -1e-13
    assert rises[0].max() > 1e-3  # it does climb
    assert rises[-1].max() <= 1e-12 or len(history) > 200
    # Fixed point: x_l points along P_{L:l+1}^T y for y the direction of the sum.
    tail, tails = np.broadcast_to(np.eye(5), (4, 5, 5)), []
    for layer in range(6, -1, -1):
        tails.append(tail)
        tail = tail @ chain.propagators[:, layer]
    total = sum(t @ x[:, layer, :, None] for layer, t in zip(range(6, -1, -1), tails, strict=True))
    for layer, t in zip(range(6, -1, -1), tails, strict=True):
        pull = (np.swapaxes(t, 1, 2) @ total)[..., 0]
        cosine = np.sum(pull * x[:, layer], axis=1) / np.linalg.norm(pull, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-5)  # the ascent stops when a round gains 1e-12 of the norm


def test_the_better_of_two_starts_is_taken_chain_by_chain() -> None:
    """Among 300 Gaussian chains of either shape one start or the other is beaten now and then; the result never is."""
    gains = []
    for depth, d in ((5, 3), (6, 2)):
        chain = theory.gaussian_chain(depth, d, np.random.default_rng(0), batch=(300,))
        _, history = growing_directions(chain, 1.0)
        gains.append(np.log(final_norm(theory.inject_adversarial(chain, norm=1.0))) - history[-1])
    assert np.min(gains) > -1e-12
    assert np.max(gains) > 0.1


def test_scales_beyond_floats_neither_overflow_nor_vanish() -> None:
    for sigma in (1e-3, 1e3):
        chain = theory.twisted_chain(0.9, 0.1, 400, sigma=sigma)
        for aim in ("grow", "cancel"):
            injected = theory.inject_adversarial(chain, norm=1.0, aim=aim)
            assert np.isfinite(injected.injections).all()
            assert (np.linalg.norm(injected.injections[..., 0], axis=1) <= 1 + 1e-12).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_cancelling_injections_undo_what_arrives_within_their_norm(family: str) -> None:
    rng = np.random.default_rng(6)
    chain = FAMILIES[family](6, 4, rng, (2,), "float64").chain
    for norm in (0.05, 1.0, 10.0):
        b = theory.inject_adversarial(chain, norm=norm, aim="cancel").injections[..., 0]
        assert (np.linalg.norm(b, axis=-1) <= norm * (1 + 1e-12)).all()
        state = b[:, 0]
        np.testing.assert_allclose(np.linalg.norm(state, axis=1), norm)
        for layer in range(1, 6):
            arrived = chain.apply(layer, state[..., None])[..., 0]
            state = arrived + b[:, layer]
            left = np.maximum(0, np.linalg.norm(arrived, axis=1) - norm)
            # the greedy optimum: no vector of this length brings it nearer to 0
            np.testing.assert_allclose(np.linalg.norm(state, axis=1), left, atol=1e-12 * norm * 3**6)


BAD = [
    (lambda c, r: theory.inject_none(c, 0), "context_dimension must be an integer of at least 1; got 0"),
    (
        lambda c, r: theory.inject_random(c, r, norm=-1.0, context_dimension=1),
        "norm must not be negative; got -1.0",
    ),
    (
        lambda c, r: theory.inject_random(c, r, norm=np.inf, context_dimension=1),
        "norm must be finite; got inf",
    ),
    (
        lambda c, r: theory.inject_random(c, r, norm=[1.0, 2.0], context_dimension=1),
        "norm must be a number or have the 3 layers of the chain; got shape (2,)",
    ),
    (
        lambda c, r: theory.inject_coherent(c, r, along=0.0, context_dimension=1),
        "along must be positive, as the conditions 3a-c ask; got 0.0",
    ),
    (
        lambda c, r: theory.inject_coherent(c, r, along=1.0, across=np.nan, context_dimension=1),
        "across must be finite; got nan",
    ),
    (lambda c, r: theory.inject_adversarial(c, norm=1.0, aim="win"), "aim must be 'grow' or 'cancel'; got 'win'"),
    (lambda c, r: theory.inject_adversarial(c, norm=-2.0), "norm must not be negative; got -2.0"),
    (
        lambda c, r: theory.inject_random(
            jax.tree.map(lambda x: x.astype(np.float32), c), r, norm=1e300, context_dimension=1
        ),
        "the injection's size must be finite in float32",
    ),
    (
        lambda c, r: jax.jit(lambda traced: theory.inject_none(traced).sigma)(c),
        "chain must be known before tracing",
    ),
]


@pytest.mark.parametrize(("inject", "message"), BAD)
def test_bad_injections_are_refused_by_name_rule_and_value(inject, message: str) -> None:
    rng = np.random.default_rng(0)
    chain = theory.flat_chain(3, 4, rng, gap=0.5, alignment=0.5)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        inject(chain, rng)
