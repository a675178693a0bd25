"""What a family prescribes is measured back to rounding: both precisions, batches, per-layer numbers, the corners."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import ks_2samp

import theory
from observables import ChainParameters
from tests.helpers.families import FAMILIES
from theory.chains.directions import frame_across, haar_orthogonal

DTYPES = ("float64", "float32")


def eps(chain: theory.Chain) -> float:
    return float(np.finfo(chain.dtype).eps)


def dense_residual(chain: theory.Chain) -> np.ndarray:
    residual = chain.residual.dense() if isinstance(chain.residual, theory.Factored) else chain.residual
    return np.asarray(residual, dtype=np.float64)


def check(chain: theory.Chain, spectrum: np.ndarray | None, alignment: np.ndarray | None) -> None:
    """The law of a chain, to the rounding of its leaves.

    Each leaf was rounded once and each matrix is a sum of at most r + 2 outer products, r <= d, of vectors of length at
    most about sigma (2 for the factors of a reflection): an entry errs by 4 (d + 2) eps sigma at the very most, and the
    singular values by as much again (Weyl), where the growth with d of a Frobenius norm is included.
    """
    d = chain.dimension
    leaves = [np.asarray(x, dtype=np.float64) for x in (chain.sigma, chain.u, chain.v)]
    sigma, u, v = leaves
    a, r = np.asarray(chain.propagators, dtype=np.float64), dense_residual(chain)
    unit = 4 * (d + 2) * eps(chain)
    size = sigma + np.linalg.norm(r, axis=(-2, -1))
    for x in (u, v):
        np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=unit)
    # R v = 0 and R^T u = 0
    assert (np.linalg.norm(r @ v[..., None], axis=-2)[..., 0] <= unit * size).all()
    assert (np.linalg.norm(u[..., None, :] @ r, axis=-1)[..., 0] <= unit * size).all()
    # <u, A v> = sigma, which holds at gap 1 too
    assert (np.abs((u[..., None, :] @ a @ v[..., None])[..., 0, 0] - sigma) <= unit * size).all()
    s = np.linalg.svd(a, compute_uv=False)
    assert (np.abs(s[..., 0] - sigma) <= unit * size).all()
    if spectrum is not None:
        assert (np.abs(s - spectrum) <= unit * size[..., None]).all()
    overlap = np.sum(v[..., 1:, :] * u[..., :-1, :], axis=-1)
    assert (overlap >= -unit).all()  # the gauge of (T3)
    if alignment is not None:
        np.testing.assert_allclose(overlap, np.broadcast_to(alignment[1:], overlap.shape), atol=unit)
        across = np.linalg.norm(v[..., 1:, :] - overlap[..., None] * u[..., :-1, :], axis=-1)
        s_l = np.sqrt((1 - alignment[1:]) * (1 + alignment[1:]))
        np.testing.assert_allclose(across, np.broadcast_to(s_l, across.shape), atol=unit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_T3_every_family_has_what_it_prescribes(family: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for depth, d, batch in ((5, 7, ()), (3, 2, (2, 3)), (1, 4, (2,)), (2, 40, ())):
        built = FAMILIES[family](depth, d, rng, batch, dtype)
        chain = built.chain
        assert chain.dtype == np.dtype(dtype)
        assert chain.sigma.shape == (*batch, depth)
        assert (chain.depth, chain.dimension, chain.context_dimension) == (depth, d, 1)
        check(chain, built.spectrum, built.alignment)


@pytest.mark.parametrize("family", FAMILIES)
def test_measure_agrees_with_the_chain_factored_or_dense(family: str) -> None:
    """measure() of a factored chain decomposes a small core; of dense layers, the layers themselves."""
    for d in (2, 3, 9):
        chain = FAMILIES[family](4, d, np.random.default_rng(2), (), "float64").chain
        dense = theory.measure(chain.propagators, chain.injections)
        own = theory.measure(chain)
        s = np.linalg.svd(chain.propagators, compute_uv=False)
        unit = 40 * d * eps(chain)
        for found in (own, dense):
            np.testing.assert_allclose(found.sigma, s[:, 0], rtol=unit)
            np.testing.assert_allclose(found.gap, s[:, 1] / s[:, 0], atol=unit)
            bulk = np.linalg.norm(s[:, 1:], axis=1) / s[:, 0] / np.sqrt(d - 1)
            np.testing.assert_allclose(found.bulk_gap, bulk, atol=unit)
        if (own.gap < 0.999).all():
            # an SVD finds the vectors to eps / (1 - xi)
            np.testing.assert_allclose(own.alignment[1:], dense.alignment[1:], atol=unit / (1 - own.gap.max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isometry", ["haar", "reflection"])
@pytest.mark.parametrize("gap", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("alignment", [0.0, 1.0, 1 - 1e-6])
def test_T3_corners_of_gap_and_alignment(dtype: str, isometry: str, gap: float, alignment: float) -> None:
    for d, depth in ((2, 1), (2, 4), (3, 2), (6, 3)):
        chain = theory.flat_chain(
            depth,
            d,
            np.random.default_rng(3),
            gap=gap,
            alignment=alignment,
            isometry=isometry,  # pyright: ignore[reportArgumentType]
            dtype=dtype,
        )
        spectrum = np.full((depth, d), gap)
        spectrum[:, 0] = 1.0
        check(chain, spectrum, np.full(depth, alignment))


def test_one_dimension_is_a_product_of_numbers() -> None:
    chain = theory.flat_chain(4, 1, np.random.default_rng(4), gap=0.0, alignment=1.0, sigma=[1.0, 2.0, 0.5, 0.0])
    np.testing.assert_array_equal(np.abs(chain.propagators[:, 0, 0]), [1.0, 2.0, 0.5, 0.0])
    np.testing.assert_array_equal(chain.v[1:], chain.u[:-1])
    for one in (theory.gaussian_chain, theory.orthogonal_chain):
        chain = one(3, 1, np.random.default_rng(4), batch=(2,))
        np.testing.assert_allclose(np.abs(chain.propagators[..., 0, 0]), chain.sigma, rtol=4 * eps(chain))
    residual = theory.residual_chain(3, 1, np.random.default_rng(4), strength=0.5)
    assert set(np.round(residual.propagators[:, 0, 0], 12)) <= {0.5, 1.5}
    assert theory.measure(residual).gap.tolist() == [0.0, 0.0, 0.0]


def test_alignment_near_1_keeps_its_angle() -> None:
    """s = 1.6e-4 here; the root of 1 - kappa^2, which loses delta^2 = 1.7e-16 of kappa = 1 - delta, errs by 1e-13."""
    kappa = 1 - 1.3e-8
    for isometry in ("haar", "reflection"):
        chain = theory.flat_chain(6, 5, np.random.default_rng(5), gap=0.2, alignment=kappa, isometry=isometry)
        across = chain.v[1:] - np.sum(chain.v[1:] * chain.u[:-1], axis=1)[:, None] * chain.u[:-1]
        s = np.sqrt((1 - kappa) * (1 + kappa))
        # rounding of unit vectors is 1e-16 absolute
        np.testing.assert_allclose(np.linalg.norm(across, axis=1), s, atol=8 * eps(chain), rtol=0)


def test_residual_singular_vectors_of_a_profile_are_isotropic() -> None:
    """E x_2^2 = 1 / d for either leading singular vector of R, uniform over the sphere when u and v are."""
    n, d = 2000, 4
    chain = theory.profile_chain(
        1, d, np.random.default_rng(17), residual_values=[0.5, 0.1, 0], alignment=1, batch=(n,)
    )
    left, _, right = np.linalg.svd(chain.residual[:, 0])
    for vectors in (left[:, :, 0], right[:, 0, :]):
        squares = vectors**2
        # Var x^2 = 2 (d - 1) / (d^2 (d + 2))
        assert np.abs(squares.mean(axis=0) - 1 / d).max() < 4 * np.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / n)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_scales_are_prescribed_exactly_too(scale: float) -> None:
    for isometry in ("haar", "reflection"):
        chain = theory.flat_chain(
            3, 4, np.random.default_rng(6), gap=0.5, alignment=0.5, sigma=scale, isometry=isometry
        )
        s = np.linalg.svd(chain.propagators / scale, compute_uv=False)
        np.testing.assert_allclose(s, np.tile([1, 0.5, 0.5, 0.5], (3, 1)), rtol=50 * eps(chain))


def test_zero_layers_are_chains() -> None:
    for chain in (
        theory.flat_chain(2, 3, np.random.default_rng(7), gap=0.5, alignment=0.5, sigma=0.0),
        theory.chain_of_layers(np.zeros((2, 3, 3))),
        theory.gaussian_chain(2, 3, np.random.default_rng(7), scale=0.0),
    ):
        assert not chain.propagators.any()
        np.testing.assert_allclose(np.linalg.norm(chain.u, axis=-1), 1, rtol=4 * eps(chain))


def test_T26_residual_layers_are_the_identity_and_an_update_of_given_size_and_rank() -> None:
    rng = np.random.default_rng(8)
    eye = np.eye(30)
    one = theory.residual_chain(20, 30, rng, strength=np.linspace(0, 3, 20), drift=0.2)
    update = one.propagators - 0.8 * eye
    np.testing.assert_allclose(np.linalg.norm(update, axis=(1, 2)), np.linspace(0, 3, 20), atol=30 * 8 * eps(one))
    three = theory.residual_chain(1, 30, rng, strength=2.0, rank=3, batch=(500,))
    update = three.propagators[:, 0] - eye
    s = np.linalg.svd(update, compute_uv=False)
    assert s[:, 3:].max() < 30 * 8 * eps(three)
    # E ||F||_F^2 = strength^2, as the cross terms <a_i, a_j> <c_i, c_j> have mean 0
    squares = np.sum(s**2, axis=1)
    assert abs(squares.mean() - 4.0) < 4 * squares.std() / np.sqrt(squares.size)


def test_given_layers_come_back_as_they_were() -> None:
    rng = np.random.default_rng(9)
    layers, injections = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((2, 3, 5, 2))
    chain = theory.chain_of_layers(layers, injections)
    np.testing.assert_allclose(chain.propagators, layers, atol=20 * eps(chain))
    np.testing.assert_array_equal(chain.injections, injections)
    updates = theory.residual_chain_of(layers)
    np.testing.assert_allclose(updates.propagators, layers + np.eye(5), atol=20 * eps(chain))


def test_T22_gaussian_entries_and_orthogonal_layers() -> None:
    rng = np.random.default_rng(10)
    entries = theory.gaussian_chain(4, 20, rng, scale=[1, 2, 3, 4], batch=(25,)).propagators
    n = 25 * 400
    for layer in range(4):
        x = entries[:, layer] / (layer + 1) * np.sqrt(20)
        assert abs(x.mean()) < 4 / np.sqrt(n)
        assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)  # var of a normal square is 2
    turned = theory.orthogonal_chain(2, 6, rng, sigma=3.0, batch=(4,))
    gram = np.swapaxes(turned.propagators, -1, -2) @ turned.propagators
    np.testing.assert_allclose(gram, np.broadcast_to(9 * np.eye(6), gram.shape), atol=9 * 6 * 8 * eps(turned))


def traces(turns: np.ndarray) -> np.ndarray:
    return np.trace(turns, axis1=-2, axis2=-1)


def test_isometries_are_haar_and_would_not_be_without_the_sign_fix() -> None:
    """E tr Q = 0 for Haar O(n), of variance 1; LAPACK's plain QR factor fails that test clearly."""
    rng = np.random.default_rng(11)
    n = 4000
    bound = 4 / np.sqrt(n)
    assert abs(traces(haar_orthogonal(rng, 4, (n,))).mean()) < bound
    assert abs(traces(np.linalg.qr(rng.standard_normal((n, 4, 4)))[0]).mean()) > 3 * bound
    # The same through a chain: R / (sigma xi) + u v^T is an orthogonal matrix with O v = u; across v it is Haar.
    chain = theory.flat_chain(1, 5, rng, gap=0.5, alignment=1.0, batch=(n,))
    full = chain.residual[:, 0] / 0.5 + chain.u[:, 0, :, None] * chain.v[:, 0, None, :]
    assert abs(traces(full).mean()) < bound
    assert abs(np.mean(traces(full) ** 2) - 1) < 4 * np.sqrt(2 / n)
    axis = np.zeros((n, 3))
    axis[:, 2] = 1.0
    frames = frame_across(rng, axis, 2)
    # Each column is uniform on a circle: its mean has variance 1 / n in all
    assert np.linalg.norm(frames.mean(axis=0), axis=0).max() < bound
    unfixed = np.linalg.qr(np.concatenate([axis[..., None], rng.standard_normal((n, 3, 2))], axis=-1))[0]
    assert np.linalg.norm(unfixed[..., 1:].mean(axis=0), axis=0).max() > 3 * bound


def test_T24_reflections_and_haar_isometries_have_one_law() -> None:
    """Two-sample Kolmogorov-Smirnov on ln ||P|| and ln sigma_2; a wrong law (gap 0.55 for 0.5) is told apart."""
    rng = np.random.default_rng(12)

    def spectra(isometry: str, gap: float) -> np.ndarray:
        chain = theory.flat_chain(8, 4, rng, gap=gap, alignment=0.6, isometry=isometry, batch=(1500,))  # pyright: ignore[reportArgumentType]
        product = np.eye(4)
        for layer in range(8):
            product = chain.apply(layer, np.broadcast_to(product, (1500, 4, 4)))
        return np.log(np.linalg.svd(product, compute_uv=False)[:, :2])

    haar, reflected, wrong = spectra("haar", 0.5), spectra("reflection", 0.5), spectra("reflection", 0.55)
    for index in range(2):
        assert ks_2samp(haar[:, index], reflected[:, index]).pvalue > 1e-3  # pyright: ignore[reportAttributeAccessIssue]
        assert ks_2samp(haar[:, index], wrong[:, index]).pvalue < 1e-3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("family", ["reflection", "low rank", "residual", "twisted"])
def test_depth_1000_at_dimension_1280_takes_a_few_hundred_megabytes(family: str) -> None:
    depth, d, rng = 1000, 1280, np.random.default_rng(13)
    tracemalloc.start()
    if family == "reflection":
        chain = theory.flat_chain(depth, d, rng, gap=0.5, alignment=0.5, isometry="reflection", dtype="float32")
    elif family == "low rank":
        chain = theory.low_rank_chain(depth, d, rng, rank=2, gap=0.5, alignment=0.5, dtype="float32")
    elif family == "residual":
        chain = theory.residual_chain(depth, d, rng, strength=1.5, dtype="float32")
    else:
        chain = theory.twisted_chain(0.5, 0.5, depth, dimension=d, rng=rng, dtype="float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6
    # The unit vectors of d entries in float32: rounding of each enters as its root mean square.
    unit = 4 * np.sqrt(d) * eps(chain)
    for layer in (0, depth - 1):
        image = chain.apply(layer, chain.v[layer][:, None])[:, 0]
        np.testing.assert_allclose(image, chain.sigma[layer] * chain.u[layer], atol=unit)
        back = chain.apply_transpose(layer, chain.u[layer][:, None])[:, 0]
        np.testing.assert_allclose(back, chain.sigma[layer] * chain.v[layer], atol=unit)
    if family != "residual":
        overlap = np.sum(chain.v[1:].astype(np.float64) * chain.u[:-1], axis=1)
        np.testing.assert_allclose(overlap, 0.5, atol=unit)


def test_same_seed_same_bits_and_a_batch_is_independent_chains() -> None:
    for build in FAMILIES.values():
        first, second = (build(3, 4, np.random.default_rng(14), (2,), "float64").chain for _ in range(2))
        np.testing.assert_array_equal(first.propagators, second.propagators)
    drawn = theory.flat_chain(3, 4, np.random.default_rng(14), gap=0.5, alignment=0.5, batch=(2,))
    assert np.abs(drawn.u[0] - drawn.u[1]).max() > 0.1
    assert np.abs(drawn.u[0, 0] - drawn.u[0, 1]).max() > 0.1


def test_T11_embedded_twisted_chains_have_the_plane_chains_products() -> None:
    plane = theory.twisted_chain([0.3, 0.6, 0.8], [0.2, 0.5, 0.1], 3, sigma=[1.0, 2.0, 3.0])
    embedded = theory.twisted_chain(
        [0.3, 0.6, 0.8], [0.2, 0.5, 0.1], 3, sigma=[1.0, 2.0, 3.0], dimension=9, rng=np.random.default_rng(15)
    )
    products = []
    for chain in (plane, embedded):
        a = chain.propagators
        products.append(np.linalg.svd(a[2] @ a[1] @ a[0], compute_uv=False)[:2])
    np.testing.assert_allclose(products[0], products[1], rtol=9 * 40 * eps(plane))
    np.testing.assert_array_equal(plane.v[0], plane.v[1])  # entry 0 of an array is not read
    np.testing.assert_array_equal(theory.twisted_chain([np.nan], 0.5, 1).v[0], [1, 0])
    layer = theory.twisted_chain(0.6, 0.5, 1).propagators[0]
    np.testing.assert_allclose(layer, [[0.6, 0.8], [0.4, -0.3]], atol=4 * eps(plane))
    layer = theory.twisted_chain(0.6, 0.5, 1, sense="slowest").propagators[0]
    np.testing.assert_allclose(layer, [[0.6, -0.8], [0.4, 0.3]], atol=4 * eps(plane))


@pytest.mark.parametrize("dtype", DTYPES)
def test_make_chain_in_batches_has_the_parameters_of_each(dtype: str) -> None:
    numbers = ChainParameters(
        sigma=np.array([1.0, 2.0, 0.5]),
        gap=np.array([0.8, 0.5, 0.3]),
        alignment=np.array([np.nan, 0.3, 0.99]),
        injection_along=np.array([1.0, 2.0, 0.5]),
        injection_across=np.array([0.2, 0.0, 1.0]),
        injection_coherent=np.array([0.5, 2.0, 0.1]),
        bulk_gap=np.array([0.4, 0.5, 0.2]),
    )
    chain = theory.make_chain(numbers, 9, np.random.default_rng(16), context_dimension=3, batch=(2, 2), dtype=dtype)
    unit = 9 * 20 * eps(chain) / (1 - 0.8)  # an SVD finds u and v to eps / (1 - xi)
    for row in np.ndindex(2, 2):
        found = theory.measure(chain.propagators[row], chain.injections[row], direction=np.eye(3)[0])
        for name in ("sigma", "gap", "injection_along", "injection_across", "bulk_gap"):
            np.testing.assert_allclose(getattr(found, name), getattr(numbers, name), atol=2 * unit, err_msg=name)
        np.testing.assert_allclose(found.alignment[1:], numbers.alignment[1:], atol=unit)
        assert found.injection_coherent is not None
        np.testing.assert_allclose(np.abs(found.injection_coherent), numbers.injection_coherent, atol=2 * unit)
