"""A sweep's numbers of P_L, and of the earliest injection alone: exact in the gain, so simulated at sigma = 1 once."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.phase._crossing import order_values
from theory.simulators.cells import PhaseCells
from theory.simulators.simulate import Simulation, simulate
from theory.sweeping._statistics import mean_and_error, spread_and_error
from theory.sweeping.identity import resolved_engine
from theory.sweeping.spec import SweepSpec

__all__ = ["SIMULATION_ERRORS", "early_part", "product_part", "simulated", "simulator_name"]

SIMULATION_ERRORS = (ValueError, ArithmeticError, np.linalg.LinAlgError)
"""What a request that a simulator cannot serve raises: it costs the cell its numbers, not the sweep its life."""

UNDEFINED = 5
FAILED = 8


def product_part(
    spec: SweepSpec,
    dimension: int,
    depths: list[int],
    alignment: NDArray[np.float64],
    gap: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Growth and collapse of P_L over (gain, alignment, gap, depth, 1) or (alignment, gap, depth, 1).

    sigma = gain / alignment in every layer; ||P_L|| scales exactly with it, so ln ||P_L|| = L ln sigma + f.
    """
    f, ratio, failed = _product_samples(spec, dimension, depths, alignment, gap)
    f, ratio, failed = f[:, :, :, None], ratio[:, :, :, None], failed[:, :, :, None]
    gain = np.asarray(spec.gain, dtype=np.float64)[:, None, None, None, None]
    kappa, xi = alignment[:, None, None, None], gap[:, None, None]
    layers = np.asarray(depths, dtype=np.float64)[:, None]
    code = np.broadcast_to(_code(gain, kappa, xi, dimension), (gain.size, *failed.shape)).copy()
    code[np.broadcast_to(failed, code.shape) & ~np.isin(code, (2, 5))] = FAILED

    mean, error = mean_and_error(f)
    mean_ratio, error_ratio = mean_and_error(ratio)
    silent = gain == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sigma = np.log(np.where(kappa > 0, gain / kappa, np.nan))
        log_norm = layers * log_sigma + mean
        grown = (layers * log_sigma)[..., None] + f > 0
    grown = np.where(np.isnan(log_norm), np.nan, grown.mean(axis=-1))
    median = order_values(f, spec.level, few=True)
    with np.errstate(invalid="ignore"):
        critical = kappa * np.exp(-median[[0, 2, 1]] / layers)
    undefined = np.broadcast_to((kappa == 0) | np.isnan(median[0]), critical[0].shape)
    width, width_error = spread_and_error(f / layers[..., None])
    collapse = order_values(ratio, spec.level, few=True)
    return {
        "log_norm": log_norm,
        "log_norm_se": np.where(np.isfinite(log_norm), error, np.nan),
        "log_ratio": np.where(silent, np.nan, mean_ratio),
        "log_ratio_se": np.where(silent, np.nan, error_ratio),
        "code": code,
        "grown": grown,
        **critical_gain("product_gain", critical, undefined, failed),
        "product_width": width,
        "product_width_se": width_error,
        "log_ratio_median": collapse[0],
        "log_ratio_median_low": collapse[1],
        "log_ratio_median_high": collapse[2],
    }


def early_part(
    spec: SweepSpec, dimension: int, alignment: NDArray[np.float64], gap: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """What becomes of the earliest injection alone, P_{L:2} u_1 at sigma = 1, over (alignment, gap, depth, 1).

    In dimension 1 it is 1 with nothing across, and there are no chains of other alignments or gaps than 1 and 0.
    """
    kappa, xi = (x.ravel() for x in np.meshgrid(alignment, gap, indexing="ij"))
    shape = (len(spec.depth), kappa.size, spec.seeds)
    early, noise = np.full((2, *shape), np.nan)
    failed = np.ones(kappa.size, dtype=bool)
    if dimension == 1:
        line = (kappa == 1) & (xi == 0)
        early[:, line], noise[:, line] = 0.0, -np.inf
        failed[:] = False
    else:
        for cells, found in simulated(
            spec, dimension, list(spec.depth), PhaseCells(1.0, kappa, xi), "context", context_dimension=1
        ):
            context: Any = found.context
            early[:, cells], noise[:, cells] = context.log_early, context.log_early_noise
            failed[cells] = False
    early, noise = (_over_grid(x, alignment.size, gap.size)[:, :, :, None] for x in (early, noise))
    failed = np.broadcast_to(failed.reshape(alignment.size, gap.size)[:, :, None, None], early.shape[:-1])
    steps = np.asarray(spec.depth, dtype=np.float64)[:, None] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = early / steps[..., None]  # 0 / 0 at L = 1: no layer, no rate
        median = order_values(early, spec.level, few=True)
        critical = alignment[:, None, None, None] * np.exp(-median[[0, 2, 1]] / steps)
    undefined = np.isnan(critical[0]) | (alignment == 0)[:, None, None, None]
    rate, rate_error = mean_and_error(rates)
    width, width_error = spread_and_error(rates)
    across = order_values(noise, spec.level, few=True)
    return {
        "early_rate": rate,
        "early_rate_se": rate_error,
        "early_width": width,
        "early_width_se": width_error,
        **critical_gain("early_gain", critical, undefined, failed),
        "early_log_noise": across[0],
        "early_log_noise_low": across[1],
        "early_log_noise_high": across[2],
    }


def simulator_name(spec: SweepSpec) -> Any:
    """The simulator to ask for: reduced ones for flat residuals, whose cost and floors do not depend on d.

    Others may be faster for d below some tens, but one sweep over d then had ratios of different resolution, and
    another d or depth beside it could change a cell's random numbers.
    """
    return "reduced" if spec.simulator == "auto" and spec.residual == "flat" else spec.simulator


def critical_gain(
    name: str, values: NDArray[np.float64], undefined: NDArray[np.bool_], failed: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """A closed-form critical gain with its interval and code; NaN where it is undefined."""
    values = np.where(undefined, np.nan, values)
    code = np.where(failed, FAILED, np.where(undefined, UNDEFINED, 0))
    return {name: values[0], f"{name}_low": values[1], f"{name}_high": values[2], f"{name}_code": code}


def simulated(
    spec: SweepSpec,
    dimension: int,
    depths: list[int],
    cells: PhaseCells,
    quantity: str,
    *,
    context_dimension: int | None = None,
    frame: Any = "across",
    cell_bytes: int | None = None,
) -> Any:
    """Yields (which cells, Simulation), in pieces that fit; cells that cannot be simulated are left out.

    Args:
        cell_bytes: of results a cell; None for those of the context Jacobians.
    """
    options: dict[str, Any] = {
        "chains": spec.seeds,
        "seed": spec.seed,
        "residual": spec.residual,
        "rank": spec.rank,
        "quantities": (quantity,),
        "context_dimension": spec.context_dimension if context_dimension is None else context_dimension,
        "frame": frame,
        "dtype": spec.dtype,
        "simulator": simulator_name(spec),
        "engine": resolved_engine(spec),
    }
    size = cell_bytes or 6 * 8 * len(depths) * spec.seeds
    step = max(1, PIECE_BYTES // size)
    for begin in range(0, len(cells), step):
        piece = np.arange(begin, min(begin + step, len(cells)))
        found = _tried(cells.at(_padded(piece, options)), dimension, depths, options)
        if found is not None:
            yield piece, _first(found, piece.size)
            continue
        for one in piece[:, None]:
            found = _tried(cells.at(one), dimension, depths, options)
            if found is not None:
                yield one, found


PIECE_BYTES = 64 * 2**20
"""Results held at once, bytes."""


def _padded(piece: NDArray[np.intp], options: dict[str, Any]) -> NDArray[np.intp]:
    """As many cells as the next power of two for simulators that are compiled for a number of cells: a search asks for
    ever fewer, and compiling takes seconds. The cells added repeat the last."""
    compiled = options["engine"] == "jax" and options["quantities"] == ("context",)
    if options["simulator"] == "reduced" and not compiled:
        return piece
    least = 32 if options["simulator"] == "reduced" else 1  # whose programs take longest to compile
    size = max(least, 1 << (piece.size - 1).bit_length())
    return np.concatenate([piece, np.full(size - piece.size, piece[-1])])


def _first(found: Simulation, cells: int) -> Simulation:
    """The results of the first cells."""

    def cut(values: Any) -> Any:
        return values[:, :cells] if values is not None and values.ndim == 3 else values

    context = found.context
    if context is not None:
        context = replace(context, **{field.name: cut(getattr(context, field.name)) for field in fields(context)})
    norm, ratio = cut(found.product_log_norm), cut(found.product_log_ratio)
    return replace(found, product_log_norm=norm, product_log_ratio=ratio, context=context)


def _tried(cells: PhaseCells, dimension: int, depths: list[int], options: dict[str, Any]) -> Simulation | None:
    try:
        return simulate(cells, dimension, depths, **options)
    except SIMULATION_ERRORS:
        return None


def _product_samples(
    spec: SweepSpec, dimension: int, depths: list[int], alignment: NDArray[np.float64], gap: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """ln ||P_L|| and ln sigma_2 / sigma_1 at sigma = 1, (alignments, gaps, depths, seeds), and which failed."""
    kappa, xi = (x.ravel() for x in np.meshgrid(alignment, gap, indexing="ij"))
    shape = (len(depths), kappa.size, spec.seeds)
    f, ratio = np.full((2, *shape), np.nan)
    failed = np.ones(kappa.size, dtype=bool)
    if dimension == 1:
        f[:, (kappa == 1) & (xi == 0)] = 0.0
        failed[:] = False
    else:
        # One call: the simulator cuts it where its coordinates would not fit, and shares the draws.
        for cells, found in simulated(spec, dimension, depths, PhaseCells(1.0, kappa, xi), "product", cell_bytes=1):
            f[:, cells], ratio[:, cells] = found.product_log_norm, found.product_log_ratio
            failed[cells] = False
    here = np.broadcast_to(
        failed.reshape(alignment.size, gap.size)[:, :, None], (alignment.size, gap.size, len(depths))
    )
    return _over_grid(f, alignment.size, gap.size), _over_grid(ratio, alignment.size, gap.size), here


def _over_grid(samples: NDArray[np.float64], alignments: int, gaps: int) -> NDArray[np.float64]:
    """(depths, cells, seeds) as (alignments, gaps, depths, seeds)."""
    depths, _cells, seeds = samples.shape
    return np.moveaxis(samples.reshape(depths, alignments, gaps, seeds), 0, 2)


def _code(gain: Any, kappa: Any, xi: Any, dimension: int) -> NDArray[np.int64]:
    line = np.asarray(dimension == 1)
    return np.select(
        [line & ((kappa != 1) | (xi != 0)), (kappa == 0) & (xi == 0), kappa == 0, line, xi == 0, gain == 0],
        [5, 4, 1, 6, 3, 2],
        0,
    ).astype(np.int64)
