"""The reduced recurrence in JAX: its law beside NumPy's, its bits on one device and on eight, its care for memory."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.helpers.chains import EPS
from theory.simulators import engine_jax, spectra
from theory.simulators.cells import PhaseCells
from theory.simulators.draws import BLOCK
from theory.simulators.engine_jax import JaxSpace, Kind, items_at_once
from theory.simulators.engine_step import numbers_of
from theory.simulators.spectra import ContextSpectra, context_spectra

# Two samples of 8000: Kolmogorov-Smirnov at level 1e-4 refuses a difference of distribution functions of 0.035, and
# finds one of 0.056 with probability above 0.99 (2.7 deviations of at most 0.0079 where they differ so). Seeds are
# fixed; 1e-4 is what a change of seed may cost.
N, LEVEL = 8000, 1e-4
CELL = PhaseCells(sigma=1.2, alignment=0.6, gap=0.5, along=0.7, injected=0.4)
NAMES = ("log_norm", "log_ratio", "log_share", "log_noise", "log_early", "log_early_noise")


def drawn(d: int, engine, *, cells: PhaseCells = CELL, m: int = 2, n: int = N, **options) -> ContextSpectra:
    return context_spectra(cells, d, [5], chains=n, seed=7, context_dimension=m, engine=engine, **options)


def same(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    # Rounded, as in the least dimension some values are few and equal up to rounding.
    return bool(stats.ks_2samp(np.ravel(x).round(4), np.ravel(y).round(4)).pvalue > LEVEL)


@pytest.mark.parametrize(
    ("dimensions", "m", "frame", "dtype"),
    [((16, 1280, 10**6), 2, "across", "float32"), ((3,), 2, "isotropic", "float32"), ((2,), 1, "across", "float64")],
)
def test_T23_has_one_law_on_both_engines(dimensions: tuple[int, ...], m: int, frame, dtype) -> None:
    for d in dimensions:
        ours, other = (drawn(d, engine, m=m, frame=frame, dtype=dtype) for engine in ("jax", "numpy"))
        for name in NAMES:
            if m == 2 or name != "log_ratio":
                assert same(getattr(ours, name), getattr(other, name)), (d, name)
        assert not np.array_equal(ours.log_norm, other.log_norm)  # streams of their own


def test_an_injection_without_a_part_across_leaves_the_least_dimension_to_the_others() -> None:
    """d = 3, xi = 0: F_00 = 0. The program is that of the law above; NumPy's, without the share, folds nothing."""
    cell = PhaseCells(1.2, 0.6, 0.0, 0.7, 0.4)
    options: dict = {"cells": cell, "frame": "isotropic", "dtype": "float32"}
    ours, other = drawn(3, "jax", **options), drawn(3, "numpy", share=False, **options)
    for name in ("log_norm", "log_ratio", "log_noise"):
        assert same(getattr(ours, name), getattr(other, name)), name


def test_the_law_test_can_fail() -> None:
    """A gap 10 % off, and d = 16 for 1280, are refused in all six laws."""
    right = drawn(1280, "jax", dtype="float32")
    off = PhaseCells(1.2, 0.6, 0.45, 0.7, 0.4)
    for wrong in (drawn(1280, "numpy", cells=off, dtype="float32"), drawn(16, "numpy", dtype="float32")):
        for name in NAMES:
            assert not same(getattr(right, name), getattr(wrong, name)), name


def test_aligned_layers_are_geometric_sums_in_jax_too() -> None:
    """kappa = 1, xi = 0: J w = u beta sum sigma^i, the earliest beta sigma^(L-1), sigma_2 = b; 300 layers."""
    sigma = np.linspace(0.5, 3.0, 40)  # more than share one tile, and not a multiple of it
    cells = PhaseCells(sigma, 1.0, 0.0, 2e200, 0.3e200)
    depths = [1, 40, 300]  # a block of 256 chains a cell is run, whatever is asked for
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    found = context_spectra(cells, 30, depths, chains=3, seed=0, engine="jax")
    assert jax.config.jax_enable_x64 == before  # pyright: ignore[reportAttributeAccessIssue]
    assert found.log_early is not None
    for row, depth in enumerate(depths):
        log_total = np.log(2) + np.logaddexp.reduce(np.log(sigma)[:, None] * np.arange(depth), axis=1)
        log_norm = np.logaddexp(2 * log_total, 2 * np.log(0.3)) / 2
        tolerance = 32 * depth * EPS * (1 + depth * np.log(3))
        np.testing.assert_allclose(found.log_norm[row, :, 0] - 200 * np.log(10), log_norm, atol=tolerance)
        ratio, above = np.log(0.3) - log_norm, np.log(0.3) - log_norm > found.log_floor[row]
        np.testing.assert_allclose(found.log_ratio[row, above, 0], ratio[above], atol=tolerance)
        assert (found.log_ratio[row, ~above] <= found.log_floor[row]).all() and above.any()
        early = np.log(2) + (depth - 1) * np.log(sigma) + (np.log1p(0.0225) / 2 if depth == 1 else 0)
        np.testing.assert_allclose(found.log_early[row, :, 0] - 200 * np.log(10), early, atol=tolerance)


def test_a_chain_depends_on_the_seed_and_its_number() -> None:
    def run(n: int, depths: list[int], seed: int = 3) -> NDArray[np.float64]:
        options = {"chains": n, "seed": seed, "dtype": "float32", "engine": "jax"}
        found = context_spectra(CELL, 1280, depths, **options)
        assert found.log_share is not None
        return np.stack([found.log_norm, found.log_ratio, found.log_share])

    whole = run(600, [3, 20, 7])
    np.testing.assert_array_equal(whole, run(600, [3, 20, 7]))
    np.testing.assert_array_equal(whole[..., :300], run(300, [3, 20, 7]))
    np.testing.assert_array_equal(whole[:, 1:2], run(600, [20]))
    # Two of 600 float32 may meet by chance: some 10^6 of them lie between the least and the largest.
    assert np.unique(whole[0, 0]).size > 590
    assert np.isin(run(600, [3], seed=4)[0, 0], whole[0, 0]).sum() < 10


SCRIPT = """
import sys, jax, numpy as np
from theory.simulators.cells import PhaseCells
from theory.simulators.spectra import context_spectra
assert jax.device_count() == int(sys.argv[2])
found = []
for cells, dtype, m in ((PhaseCells([0.9, 1.1, 1.3], 0.7, 0.4, 1.0, 0.3), "float64", 1),
                        (PhaseCells(1.1, 0.7, 0.4, 1.0, 0.3), "float32", 2)):
    s = context_spectra(cells, 1280, [2, 9], chains=2600, seed=1, dtype=dtype, share=True, context_dimension=m,
                        engine="jax")
    found += [s.log_norm, s.log_noise, s.log_share, s.log_early, s.log_early_noise]
np.savez(sys.argv[1], *found)
"""


def test_eight_devices_give_the_bits_of_one(tmp_path: Path) -> None:
    outs, processes = [tmp_path / "1.npz", tmp_path / "8.npz"], []
    for devices, out in zip((1, 8), outs, strict=True):
        flags = f"--xla_force_host_platform_device_count={devices}"
        # XLA cuts a CPU's loops into as many threads as there are cores or devices, and the ends of what is cut round
        # differently: NPROC gives both runs eight.
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "8"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        processes.append(subprocess.Popen([sys.executable, "-c", SCRIPT, str(out), str(devices)], env=environment))
    try:  # side by side: most of either is compiling
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    runs = [np.load(out) for out in outs]
    assert len(runs[0].files) == 10
    for name in runs[0].files:
        assert np.isfinite(runs[0][name]).all()
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_no_LAPACK_is_called_under_jit() -> None:
    """It hangs on several forced host devices in later versions of JAX."""
    kind = Kind(16, 2, True, True, "float32")
    devices = tuple(jax.local_devices())
    start, advance = engine_jax._programs(kind, devices)
    host, _ = numbers_of(CELL, "float32")
    numbers = type(host)(*(np.full((len(devices), 1, 1), x, dtype=np.float32) for x in host))
    seeds = (np.zeros(2, np.uint32), np.float32(0), np.zeros(len(devices), np.uint32), numbers)
    state = jax.eval_shape(start, *seeds)
    for program in (start.lower(*seeds), advance.lower(*seeds, state, 1, 4, 3)):
        assert "lapack" not in program.as_text().lower()
    decomposed = jax.jit(jnp.linalg.qr).lower(np.eye(3, dtype=np.float32)).as_text().lower()
    assert "lapack" in decomposed or devices[0].platform != "cpu"  # what such a call would look like


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scales_are_powers_of_two_and_exact(dtype: str) -> None:
    space = JaxSpace()
    with jax.enable_x64(dtype == "float64"):
        range_ = np.finfo(dtype)
        power = np.arange(-3 * range_.maxexp, range_.maxexp, dtype=np.int32)
        x = np.array([1.0], dtype=dtype)
        found = np.asarray(space.scaled(jnp.asarray(x), jnp.asarray(power)))
        assert found.dtype == dtype
        normal = power >= range_.minexp
        np.testing.assert_array_equal(found[normal], np.ldexp(x, power[normal]))
        assert (found[~normal] <= range_.tiny).all()
        sizes = np.ldexp(np.linspace(0.5, 1, 9, dtype=dtype), np.arange(-100, 101, dtype=np.int32)[:, None])
        left = sizes / 2.0 ** np.asarray(space.exponent(jnp.asarray(sizes)), dtype=np.float64)
        assert left.min() >= 0.25 and left.max() <= 2
        assert not np.asarray(space.exponent(jnp.zeros(3, dtype=dtype))).any()


def test_auto_is_numpy_without_an_accelerator_and_jax_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for accelerator, engine in ((False, "numpy"), (True, "jax")):
        monkeypatch.setattr(spectra, "has_accelerator", lambda found=accelerator: found)
        found, expected = (drawn(1280, name, n=300, dtype="float32") for name in ("auto", engine))
        np.testing.assert_array_equal(found.log_norm, expected.log_norm)


def test_a_tile_fits_the_free_memory_of_its_device() -> None:
    def device(limit: int, used: int) -> SimpleNamespace:
        return SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": limit, "bytes_in_use": used})

    chain = engine_jax.VALUES_PER_CHAIN * 8
    for free in (2**20, 2**28, 2**36):
        blocks = items_at_once(device(free + 2**20, 2**20), "float64", 32, 10**6)
        assert blocks == 1 or blocks * 32 * BLOCK * chain <= free / 2
        assert blocks * 32 * BLOCK <= engine_jax.LARGEST_TILE
    large = items_at_once(device(2**36, 0), "float64", 32, 10**6)
    assert items_at_once(device(2**36, 0), "float32", 32, 10**6) >= large > 1
    assert items_at_once(device(2**36, 0), "float32", 32, 3) == 4  # no more than is wanted, in a power of two
    assert items_at_once(SimpleNamespace(platform="cpu"), "float64", 1, 10**6) == engine_jax.CPU_TILE // BLOCK
