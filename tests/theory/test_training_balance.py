"""Balance (T29), (T30): what gradient flow with context conserves, and the alignment that follows from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.training.balance import imbalance, misalignment_bound
from theory.training.trajectory import layer_numbers

DEPTH, WIDTH, CONTEXT, SAMPLES = 4, 5, 3, 7


def drawn(rng: np.random.Generator, *, scale: float = 1.0):
    a = scale * rng.standard_normal((DEPTH, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return a, scale * rng.standard_normal((DEPTH, WIDTH, CONTEXT))


def descent(rng: np.random.Generator, decay: float, *, residual: bool = False):
    """Velocity of gradient flow of a loss that is no square, on random data with a random readout."""
    x, c = rng.standard_normal((SAMPLES, WIDTH)), rng.standard_normal((SAMPLES, CONTEXT))
    y, readout = rng.standard_normal((SAMPLES, 2)), rng.standard_normal((2, WIDTH))

    def loss(parameters):
        layers, b = parameters
        h = x
        for layer in range(DEPTH):
            h = h @ layers[layer].T + c @ b[layer].T + (h if residual else 0.0)
        return jnp.sum(jnp.logaddexp(0.0, -y * (h @ readout.T)))

    def velocity(parameters):
        return jax.tree.map(lambda g, w: -(g + decay * w), jax.grad(loss)(parameters), parameters)

    return velocity


@pytest.mark.parametrize("residual", [False, True])
def test_gradient_flow_conserves_the_imbalance_whatever_the_loss(residual):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        a, b = (jnp.asarray(one) for one in drawn(rng))
        speed = descent(rng, 0.0, residual=residual)((a - jnp.eye(WIDTH) if residual else a, b))
        drift = jax.jvp(imbalance, (a, b), speed)[1]
        each = jax.jvp(lambda a: a @ a.swapaxes(-1, -2), (a,), speed[:1])[1]
    # The terms that cancel are of size ||each||; a few hundred roundings of them are left.
    size = float(np.abs(each).max())
    assert size > 0.1
    np.testing.assert_allclose(drift, 0.0, atol=500 * float(np.finfo(np.float64).eps) * size)


def test_without_the_injections_term_it_is_not_conserved():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        a, b = (jnp.asarray(one) for one in drawn(rng))
        speed = descent(rng, 0.0)((a, b))
        drift = jax.jvp(lambda a: imbalance(a, jnp.zeros((DEPTH, WIDTH, 1))), (a,), speed[:1])[1]
    assert float(np.abs(drift).max()) > 0.1


def test_decay_of_all_weights_shrinks_the_imbalance_at_twice_its_rate():
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        a, b = (jnp.asarray(one) for one in drawn(rng))
        drift = jax.jvp(imbalance, (a, b), descent(rng, 0.3)((a, b)))[1]
        expected = -2 * 0.3 * imbalance(a, b)
    np.testing.assert_allclose(
        drift, expected, atol=500 * float(np.finfo(np.float64).eps) * float(np.abs(a).max()) * 50
    )


def balanced(rng: np.random.Generator, size: float, shrink: float):
    """A chain with injections of this size, each layer made from the one before up to an imbalance of norm `shrink`."""
    a = [np.diag(3.0 * 0.5 ** np.arange(WIDTH))]
    b = size * rng.standard_normal((DEPTH, WIDTH, CONTEXT))
    for layer in range(DEPTH - 1):
        d = rng.standard_normal((WIDTH, WIDTH))
        d = shrink * (d + d.T) / np.linalg.norm(d + d.T, 2)
        values, vectors = np.linalg.eigh(a[layer] @ a[layer].T + b[layer] @ b[layer].T + d)
        left = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
        a.append(left @ (np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T))
    return np.stack(a), b


def test_the_bound_holds_and_says_something_on_nearly_balanced_chains():
    rng = np.random.default_rng(3)
    said = 0
    for index in range(400):
        a, b = balanced(rng, 10 ** rng.uniform(-3, 0), 10 ** rng.uniform(-6, 0)) if index % 2 else drawn(rng)
        kappa = layer_numbers(a).alignment
        bound = misalignment_bound(a, b)
        said += int((bound < 1).sum())
        # kappa itself is right to a few eps, so s^2 = 1 - kappa^2 is too.
        assert (1 - kappa**2 <= bound**2 + 1e-12).all()
    assert said > 200


@pytest.mark.parametrize("s", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("gap", [0.0, 0.5, 0.9])
def test_the_bound_is_attained_in_two_dimensions(gap, s):
    sigma, kappa = 1.7, np.sqrt(1 - s**2)
    v, q = np.array([kappa, s]), np.array([0.0, 1.0])
    axis = (v - q) / np.linalg.norm(v - q)
    d = s * sigma**2 * (1 - gap**2) * (np.eye(2) - 2 * np.outer(axis, axis))  # a multiple of a reflection: D v along q
    values, vectors = np.linalg.eigh(np.diag([sigma**2, (sigma * gap) ** 2]) + d)
    a = np.stack([np.diag([sigma, sigma * gap]), np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T])
    found, bound = layer_numbers(a), misalignment_bound(a, np.zeros((2, 2, 1)))
    assert found.alignment[0] == pytest.approx(kappa, rel=1e-12)
    # Two percent off either way would be seen; the roundings of eigh enter s divided by the relative gap 1 - xi^2.
    assert bound[0] == pytest.approx(s, rel=1e-9)


def test_balanced_layers_whose_context_comes_in_along_u_are_exactly_aligned():
    u = np.eye(WIDTH)[0]
    first = np.diag(2.0 * 0.5 ** np.arange(WIDTH))
    b = np.outer(u, [0.7, -0.2, 0.4])
    values, vectors = np.linalg.eigh(first @ first.T + b @ b.T)
    a = np.stack([first, np.sqrt(values)[:, None] * vectors.T])
    # D is rounding alone.
    assert misalignment_bound(a, np.stack([b, b]))[0] < 1e-14
    assert layer_numbers(a).alignment[0] == pytest.approx(1.0, abs=1e-15)


def test_bad_shapes_and_entries_are_named():
    a, b = drawn(np.random.default_rng(4))
    with pytest.raises(ValueError, match="propagators must have shape"):
        imbalance(a[:1], b[:1])
    with pytest.raises(ValueError, match="injections must have shape"):
        imbalance(a, b[:, :-1])
    b[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        misalignment_bound(a, b)
