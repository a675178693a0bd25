"""Chains as pytrees: apply against the dense layers, in NumPy and across jit, vmap, scan and grad; chains in files."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from tests.helpers.families import FAMILIES


def dense(chain: theory.Chain) -> np.ndarray:
    return np.asarray(chain.propagators, dtype=np.float64)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_apply_is_the_dense_layer(family: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for batch in ((), (2, 2)):
        chain = FAMILIES[family](3, 6, rng, batch, dtype).chain
        x = rng.standard_normal((*batch, 6, 4)).astype(dtype)
        a = dense(chain)
        # Sums of at most 6 + 3 products of entries of size sigma <= 3.
        unit = 4 * 9 * float(np.finfo(dtype).eps) * 3 * np.linalg.norm(x)
        for layer in range(3):
            forward, back = chain.apply(layer, x), chain.apply_transpose(layer, x)
            assert forward.dtype == back.dtype == np.dtype(dtype)
            if isinstance(chain.residual, theory.Factored):
                r = np.asarray(chain.residual.dense(), dtype=np.float64)[..., layer, :, :]
                np.testing.assert_allclose(chain.residual.apply(layer, x), r @ x, atol=unit)
                back_r = chain.residual.apply_transpose(layer, x)
                np.testing.assert_allclose(back_r, np.swapaxes(r, -1, -2) @ x, atol=unit)
            np.testing.assert_allclose(forward, a[..., layer, :, :] @ x, atol=unit)
            np.testing.assert_allclose(back, np.swapaxes(a[..., layer, :, :], -1, -2) @ x, atol=unit)


def test_a_layer_beyond_the_chain_is_refused_or_is_nan_under_trace() -> None:
    chain = theory.twisted_chain(0.5, 0.5, 3)
    x = np.eye(2)
    for layer in (3, -1):
        with pytest.raises(IndexError, match=re.escape(f"layer must lie in 0..2; got {layer}")):
            chain.apply(layer, x)
    beyond = jax.jit(lambda layer: chain.apply(layer, x))(jnp.asarray(3))
    assert np.isnan(beyond).all()


@pytest.mark.parametrize("family", ["flat, Haar", "residual"])
def test_chains_cross_scan_vmap_and_grad(family: str) -> None:
    depth, d = 4, 5
    chain = FAMILIES[family](depth, d, np.random.default_rng(2), (3,), "float64").chain
    with jax.enable_x64(True):

        def product(one: theory.Chain) -> jax.Array:
            def step(x, layer):
                return one.apply(layer, x), None

            return jax.lax.scan(step, jnp.eye(d), jnp.arange(depth))[0]

        found = jax.jit(jax.vmap(product))(chain)
        expected = np.broadcast_to(np.eye(d), (3, d, d))
        for layer in range(depth):
            expected = chain.propagators[:, layer] @ expected
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)

        # d/d sigma_l of sum(P) is exact in a linear function: a difference of two chains is the oracle.
        @jax.jit
        def total(sigma: jax.Array) -> jax.Array:
            return product(theory.Chain(sigma, first.u, first.v, first.residual, first.injection)).sum()

        first = jax.tree.map(lambda leaf: leaf[0], chain)
        slope = jax.grad(total)(jnp.asarray(first.sigma))
        for layer in range(depth):
            moved = first.sigma.copy()
            moved[layer] += 1.0
            change = total(jnp.asarray(moved)) - total(jnp.asarray(first.sigma))
            np.testing.assert_allclose(slope[layer], change, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_chains_come_back_from_a_file_bit_for_bit(family: str, tmp_path: Path) -> None:
    chain = FAMILIES[family](2, 3, np.random.default_rng(3), (2,), "float32").chain
    path = theory.save_chain(chain, tmp_path / "a chain")
    back = theory.load_chain(path)
    assert path == tmp_path / "a chain"
    assert jax.tree.structure(back) == jax.tree.structure(chain)
    for before, after in zip(jax.tree.leaves(chain), jax.tree.leaves(back), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chain.npz"
    theory.save_chain(theory.twisted_chain(0.5, 0.5, 3), path)
    before = path.read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        theory.save_chain(theory.twisted_chain(0.1, 0.5, 3), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_hold_no_chain_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    good = tmp_path / "good.npz"
    theory.save_chain(theory.flat_chain(2, 3, np.random.default_rng(0), gap=0.5, alignment=0.5), good)
    with np.load(good) as archive:
        arrays = dict(archive)

    def refused(match: str, **changes) -> None:
        np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
        with pytest.raises(ValueError, match=match):
            theory.load_chain(path)

    refused("with arrays", residual=None)
    refused("with arrays", format=None)
    refused("of format 1; got format", format=np.int64(2))
    refused("u must have shape", u=arrays["u"][:1])
    refused("v must be finite", v=np.full_like(arrays["v"], np.nan))
    refused("v must be float64 or float32, as all of the chain is; got float32", v=arrays["v"].astype(np.float32))
    refused("sigma must be float64 or float32", sigma=np.ones(2, dtype=np.int64))
    refused("not readable", sigma=np.array([{}, {}], dtype=object))
    for content in (b"", b"not an archive", good.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path must be a chain's file"):
            theory.load_chain(path)
    with pytest.raises(FileNotFoundError):
        theory.load_chain(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="chain must hold numbers to be saved; got a tracer"):
        jax.jit(lambda chain: theory.save_chain(chain, path))(theory.twisted_chain(0.5, 0.5, 2))
