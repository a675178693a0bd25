"""Growth and collapse of random chains over a grid of gain, alignment, gap, depth and dimension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from theory._checks import natural, unit_interval
from theory.propagation.reduction import direction_coordinates, log_singular_values

__all__ = ["CODE_MEANINGS", "SweepSpec", "default_sweep", "sweep"]

CODE_MEANINGS = {
    0: "ok",
    1: "alignment is 0: sigma = gain / alignment has no value, log_norm is NaN",
    2: "gain is 0: the product is 0, log_norm is -inf and log_ratio NaN",
    3: "gap is 0: the product has rank 1, log_ratio is -inf",
    4: "gap and alignment are 0: the product is 0 beyond the first layer",
    5: "dimension 1 has alignment 1 and no residual: this alignment or gap does not exist there",
    6: "dimension 1 has no second singular value, log_ratio is NaN",
}
"""What each value of `code` in a sweep says."""


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A grid of chains. Every cell holds `seeds` random chains with the same numbers in every layer.

    Attributes:
        gain: rho = sigma kappa, dimensionless, >= 0, finite.
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        depth: number of layers L, >= 1.
        dimension: d, >= 1.
        seeds: number of chains a cell, >= 1; the standard errors need 2.
        seed: of the whole sweep, >= 0. A cell's chains depend on (seed, depth, dimension) and the cell's own numbers,
            never on the rest of the grid.

    Raises:
        ValueError: if a grid is empty, repeats a value, or leaves its range.
    """

    gain: Sequence[float] | NDArray[np.float64]
    alignment: Sequence[float] | NDArray[np.float64]
    gap: Sequence[float] | NDArray[np.float64]
    depth: Sequence[int] | NDArray[np.int64]
    dimension: Sequence[int] | NDArray[np.int64]
    seeds: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gain", "alignment", "gap", "depth", "dimension"):
            values = getattr(self, name)
            array = np.asarray(tuple(values) if isinstance(values, Iterable) else values)
            array = array.reshape(1) if array.ndim == 0 else array
            if array.ndim != 1 or array.size == 0:
                raise ValueError(f"{name} must be a non-empty one-dimensional grid; got {values!r}")
            if np.unique(array).size != array.size:
                raise ValueError(f"{name} must not repeat a value; got {values!r}")
            if name in ("depth", "dimension"):
                array = natural(array, name)
            elif name == "gain":
                array = array.astype(np.float64)
                bad = ~(np.isfinite(array) & (array >= 0))
                if bad.any():
                    raise ValueError(f"gain must be finite and not negative; got {float(array[bad][0])!r}")
            else:
                array = unit_interval(array, name)
            object.__setattr__(self, name, tuple(array.tolist()))
        for name, least in (("seeds", 1), ("seed", 0)):
            object.__setattr__(self, name, int(natural(getattr(self, name), name, least=least)))


def default_sweep() -> SweepSpec:
    """The grid of the default phase map: 41 gains, 31 alignments, 3 gaps, 3 depths, d = 128, 16 chains a cell."""
    return SweepSpec(
        gain=np.round(np.geomspace(0.25, 4.0, 41), 12),
        alignment=np.round(np.linspace(0.02, 1.0, 31), 12),
        gap=(0.1, 0.5, 0.9),
        depth=(4, 8, 32),
        dimension=(128,),
        seeds=16,
        seed=0,
    )


def sweep(spec: SweepSpec) -> xr.Dataset:
    """Mean growth and collapse of random chains over the grid, in float64.

    The chains: flat residual (all d - 1 of its singular values are sigma xi), random directions, and
    sigma = gain / alignment in every layer, the first included. ||P_L|| scales exactly with sigma, so each
    (alignment, gap, depth, dimension, seed) is simulated once, by (T24), and serves every gain; chains that differ in
    alignment or gap alone share their random numbers. A degenerate cell has a code and never stops the sweep.

    Args:
        spec: the grid.

    Returns:
        Dataset over (gain, alignment, gap, depth, dimension) with log_norm, the mean over seeds of ln ||P_L||,
        log_ratio, that of ln sigma_2 / sigma_1 of P_L, log_norm_se and log_ratio_se, the standard errors of these means
        (NaN for one seed), and code, whose meanings are in its attribute `code_meanings`.
    """
    gain, alignment, gap = (np.asarray(x, dtype=np.float64) for x in (spec.gain, spec.alignment, spec.gap))
    shape = (alignment.size, gap.size, len(spec.depth), len(spec.dimension))
    means, errors = np.full((2, *shape), np.nan), np.full((2, *shape), np.nan)
    for i, depth in enumerate(spec.depth):
        for j, dimension in enumerate(spec.dimension):
            samples = _simulate(spec, alignment, gap, depth, dimension)
            means[..., i, j], errors[..., i, j] = _mean_and_error(samples)

    code = np.zeros((gain.size, *shape), dtype=np.int64)
    k, x, d = alignment[:, None, None, None], gap[:, None, None], np.asarray(spec.dimension)
    code[:, *np.nonzero(np.broadcast_to(x == 0, shape))] = 3
    code[:, *np.nonzero(np.broadcast_to(d == 1, shape))] = 6
    code[:, *np.nonzero(np.broadcast_to(k == 0, shape))] = 1
    code[:, *np.nonzero(np.broadcast_to((k == 0) & (x == 0), shape))] = 4
    code[gain == 0] = np.where(code[gain == 0] == 0, 2, code[gain == 0])
    code[:, *np.nonzero(np.broadcast_to((d == 1) & ((k != 1) | (x != 0)), shape))] = 5

    layers = np.asarray(spec.depth, dtype=np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.where(k > 0, gain[:, None, None, None, None] / k, np.nan)
        log_norm = layers * np.log(sigma) + means[0]
    zero = np.broadcast_to((gain == 0)[:, None, None, None, None], log_norm.shape)
    log_ratio = np.where(zero, np.nan, means[1])
    log_norm_se = np.where(np.isfinite(log_norm), errors[0], np.nan)
    log_ratio_se = np.where(zero, np.nan, errors[1])

    dims = ("gain", "alignment", "gap", "depth", "dimension")
    return xr.Dataset(
        {
            "log_norm": (dims, log_norm, {"long_name": "mean of ln ||P_L||", "units": "nat"}),
            "log_norm_se": (dims, log_norm_se, {"long_name": "standard error of log_norm", "units": "nat"}),
            "log_ratio": (dims, log_ratio, {"long_name": "mean of ln sigma_2 / sigma_1 of P_L", "units": "nat"}),
            "log_ratio_se": (dims, log_ratio_se, {"long_name": "standard error of log_ratio", "units": "nat"}),
            "code": (dims, code, {"code_meanings": "; ".join(f"{n}: {text}" for n, text in CODE_MEANINGS.items())}),
        },
        coords={name: list(getattr(spec, name)) for name in dims},
        attrs={
            "seeds": spec.seeds,
            "seed": spec.seed,
            "residual": "flat",
            "directions": "random",
            "sigma": "gain / alignment in every layer, the first included",
        },
    )


def _simulate(
    spec: SweepSpec, alignment: NDArray[np.float64], gap: NDArray[np.float64], depth: int, dimension: int
) -> NDArray[np.float64]:
    """ln ||P_L|| and ln sigma_2 / sigma_1 at sigma = 1, shape (2, alignments, gaps, seeds); NaN where undefined."""
    samples = np.full((2, alignment.size, gap.size, spec.seeds), np.nan)
    if dimension == 1:
        samples[0, np.ix_(alignment == 1, gap == 0)[0], np.ix_(alignment == 1, gap == 0)[1]] = 0.0
        return samples
    rng = np.random.default_rng([spec.seed, depth, dimension])
    w = direction_coordinates(alignment, dimension, rng, spec.seeds, depth)
    chains, width = alignment.size * spec.seeds, w.shape[-1]
    w = w.reshape(chains, depth, width)
    for index, xi in enumerate(gap):
        first, second = log_singular_values(w, np.full((chains, depth), xi), np.ones((chains, depth)))
        with np.errstate(invalid="ignore"):
            ratio = second - first  # NaN where the whole product is 0
        samples[0, :, index] = first.reshape(alignment.size, spec.seeds)
        samples[1, :, index] = ratio.reshape(alignment.size, spec.seeds)
    return samples


def _mean_and_error(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the last axis and its standard error; NaN error for one sample or an infinite mean."""
    n = samples.shape[-1]
    mean = samples.mean(axis=-1)
    if n < 2:
        return mean, np.full(mean.shape, np.nan)
    with np.errstate(invalid="ignore"):
        error = samples.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean, np.where(np.isfinite(mean), error, np.nan)
