"""Verdicts on T10, T18, T19, T20, T21 and T34 from sweeps of typical chains. The rules stand here, before any data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from theory.bounds.rates import critical_alignment, min_rate
from theory.phase.early_moments import early_moments
from theory.phase.judging import Verdict, judge
from theory.phase.limit_product import limit_product
from theory.phase.width_verdicts import MEMORIES, SIDES, chains_of, memories, quantile, side_of, width_verdicts
from theory.regimes.typical import typical_across_over_along, typical_growth, typical_log_ratio

__all__ = ["CHANCE", "RATE_TOLERANCE", "RATIO_TOLERANCE", "REAL_DIMENSION", "TURN_TOLERANCE", "verdicts"]

RATE_TOLERANCE = 0.01
"""(T18): nats a layer by which a growth rate may differ."""

RATIO_TOLERANCE = 0.05
"""(T19): fraction of the predicted rate of collapse by which the measured one may differ."""

CHANCE = 10.0
"""Larger of kappa and xi, in units of chance alignment (d - 1)^(-1/2), from which a cell is clear of it."""

REAL_DIMENSION = 1280
"""Whisper's d, at which (T18), (T19) and (T20) are judged beside the greatest: at 10^6 little is left to chance."""

TURN_TOLERANCE = float(np.log(1.05))
"""(T20): how far ln(q / p) may lie from its prediction: a factor of 1.05."""


def verdicts(dataset: xr.Dataset, *, level: float = 0.95) -> pd.DataFrame:
    """Every verdict that a sweep's dataset allows, a row each: the fields of `Verdict`.

    The rules, all by `judge` (equivalence within the tolerance in every cell at once):

    * (T18) rate: the slope of the mean of ln ||P_{L:2} u_1|| ("early") or ln ||P_L|| ("product") between the two
      greatest depths, against ln max(kappa, xi), at the greatest d and at REAL_DIMENSION, as (T19) and (T20) are;
      and against (T34) at every d.
    * (T18), (T19) and (T20) once more for the cells clear of the split and of chance: MEMORIES[0] at the lesser
      depth, and the larger of kappa and xi at least CHANCE, where that leaves some out. Added after a first look; the
      tolerances are the same.
    * (T19) the slope of the mean of ln sigma_2 / sigma_1 of P_L likewise, over ln(xi / kappa): within 5 % of 1; where
      kappa <= xi, "no collapse", at most 0.01 nats a layer.
    * (T10) the median of ln sigma_2 / sigma_1 is at most the bound wherever kappa > kappa_c, at every d and L: a
      theorem of every chain, so that this checks the code.
    * (T20) the median of ln q / p at the greatest depth.
    * (T21) width: within a factor of 1.1, over all (L, d) and over the large and deep ones; exponents: both within 0.05
      of -1/2; only where kappa > xi.
    * (T34) width: within a factor of 1.1, over all (L, d) and over the large ones. Of the product: `limit_product`.
      Exponents: within 0.05 of those of its own widths at the same points.

    Standard errors: of a slope, the sum of those of its ends over the layers between (right whatever the correlation of
    the two); of a median, from the width of its interval, as for a normal law.

    Args:
        dataset: of `theory.sweep` over (alignment, gap, depth, dimension), with "early", "product" or both.
        level: of the simultaneous intervals.
    """
    found = [asdict(verdict) for verdict in _all(dataset, level)]
    return pd.DataFrame(found, columns=list(Verdict.__slots__))


def _all(dataset: xr.Dataset, level: float) -> Iterator[Verdict]:
    for quantity in ("early", "product"):
        if f"{quantity}_width" not in dataset:
            continue
        yield from _rates(dataset, quantity, level)
        yield from width_verdicts(dataset, quantity, level)
    if "log_ratio" in dataset:
        yield from _collapse(dataset, level)
    if "early_log_noise" in dataset:
        yield from _turned(dataset, level)


def _median_error(dataset: xr.Dataset, low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """What the standard error of a median would be if its interval were a normal law's."""
    return (high - low) / (2 * quantile(float(dataset.attrs["level"])))


def _grids(dataset: xr.Dataset) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """kappa, xi, d over (alignment, gap, dimension)."""
    names = ("alignment", "gap", "dimension")
    kappa, xi, d = np.meshgrid(*(dataset[name].to_numpy() for name in names), indexing="ij")
    return kappa, xi, d


def _totals(dataset: xr.Dataset, quantity: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean of ln of the norm at sigma = 1 and its standard error, over (alignment, gap, depth, dimension)."""
    dims = ("alignment", "gap", "depth", "dimension")
    depth = dataset["depth"].to_numpy()[:, None]
    if quantity == "early":
        rate, error = (dataset[name].transpose(*dims).to_numpy() for name in ("early_rate", "early_rate_se"))
        return rate * (depth - 1), error * (depth - 1)
    positive = int(np.flatnonzero(dataset["gain"].to_numpy() > 0)[0])
    one = dataset.isel(gain=positive)
    norm, error = (one[name].transpose(*dims).to_numpy() for name in ("log_norm", "log_norm_se"))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sigma = np.log(float(one["gain"])) - np.log(one["alignment"].to_numpy())[:, None, None, None]
        return norm - depth * log_sigma, error


def _slope(
    dataset: xr.Dataset, mean: NDArray[Any], error: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int]] | None:
    """Growth a layer between the two greatest depths, its error, and these depths; None for a single depth."""
    depth = dataset["depth"].to_numpy()
    if depth.size < 2:
        return None
    low, high = np.argsort(depth)[-2:]
    layers = depth[high] - depth[low]
    slope = (mean[:, :, high] - mean[:, :, low]) / layers
    return slope, (error[:, :, high] + error[:, :, low]) / layers, (int(low), int(high))


def _with_clear(
    here: NDArray[np.bool_], kappa: NDArray[Any], xi: NDArray[Any], d: NDArray[Any], depth: int
) -> list[tuple[NDArray[np.bool_], str]]:
    """A scope, and what of it is clear of the split and of chance, with words for it, where that is another scope."""
    clear = here & (memories(kappa, xi, depth) >= MEMORIES[0]) & (np.maximum(kappa, xi) * np.sqrt(d - 1) >= CHANCE)
    fewer = clear.any() and (clear != here).any()
    return [(here, "")] + ([(clear, ", clear of split and chance")] if fewer else [])


def _judged_dimensions(dataset: xr.Dataset) -> list[int]:
    """REAL_DIMENSION, where the sweep has it, and the greatest."""
    values = dataset["dimension"].to_numpy()
    return sorted({int(d) for d in values if d in (REAL_DIMENSION, values.max())})


def _rates(dataset: xr.Dataset, quantity: str, level: float) -> Iterator[Verdict]:
    found = _slope(dataset, *_totals(dataset, quantity))
    if found is None:
        return
    slope, error, (low, high) = found
    kappa, xi, d = _grids(dataset)
    depth = dataset["depth"].to_numpy()
    layers = f"L {depth[low]} to {depth[high]}"
    ends = [int(depth[low]), int(depth[high])]
    with np.errstate(divide="ignore", invalid="ignore"):
        away = slope - np.log(typical_growth(kappa, xi))
        means = _predicted_means(kappa, xi, ends, d, quantity)
        beyond = slope - (means[1] - means[0]) / (ends[1] - ends[0])
    what = "||P_{L:2} u_1||" if quantity == "early" else "||P_L||"
    common: dict[str, Any] = {"tolerance": RATE_TOLERANCE, "unit": "nat per layer", "chains": chains_of(dataset)}
    for phase, words in SIDES.items():
        side = side_of(kappa, xi, phase)
        if not side.any():
            continue
        statement = f"{what} grows by ln max(kappa, xi) a layer"
        for size in _judged_dimensions(dataset):
            for mask, far in _with_clear(side & (d == size), kappa, xi, d, int(depth[low])):
                scope = f"{words}, d = {size}, {layers}{far}"
                yield judge("T18", statement, scope, away[mask], error[mask], level=level, **common)
        here = side & (d == d.max())
        statement = f"{what} grows as T34 says at this depth"
        everywhere = side if quantity == "early" else here  # the product's is the limit d -> infinity
        scope = "all d" if quantity == "early" else f"d = {d.max()}"
        yield judge(
            "T34",
            statement,
            f"{words}, {scope}, {layers}",
            beyond[everywhere],
            error[everywhere],
            level=level,
            **common,
        )


def _predicted_means(
    kappa: NDArray[Any], xi: NDArray[Any], depths: list[int], d: NDArray[Any], quantity: str
) -> NDArray[np.float64]:
    """Mean of ln of the norm, or of sigma_2 / sigma_1, at two depths by (T34), shape (2, alignment, gap, dimension)."""
    if quantity == "early":
        return early_moments(kappa, xi, depths, np.maximum(d, 2)).log_mean
    found = np.empty((2, *kappa.shape))
    for index in np.ndindex(*kappa.shape[:2]):
        one, other = float(kappa[index][0]), float(xi[index][0])
        limits = [limit_product(one, other, depth) for depth in depths]
        values = [limit.log_ratio if quantity == "ratio" else limit.log_norm for limit in limits]
        found[:, *index] = np.array(values)[:, None]
    return found


def _collapse(dataset: xr.Dataset, level: float) -> Iterator[Verdict]:
    positive = int(np.flatnonzero(dataset["gain"].to_numpy() > 0)[0])
    dims = ("alignment", "gap", "depth", "dimension")
    mean, error = (
        dataset[name].isel(gain=positive).transpose(*dims).to_numpy() for name in ("log_ratio", "log_ratio_se")
    )
    kappa, xi, d = _grids(dataset)
    depth = dataset["depth"].to_numpy()
    chains = chains_of(dataset)
    found = _slope(dataset, mean, error)
    if found is not None:
        slope, spread, (low, high) = found
        layers = f"L {depth[low]} to {depth[high]}"
        predicted = typical_log_ratio(kappa, xi)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative, relative_error = slope / predicted - 1, spread / np.abs(predicted)
        for size in _judged_dimensions(dataset):
            here = side_of(kappa, xi, "attractor") & (d == size)
            for mask, far in _with_clear(here, kappa, xi, d, int(depth[low])):
                yield judge(
                    "T19",
                    "sigma_2 / sigma_1 of P_L falls by xi / kappa a layer",
                    f"kappa > xi, d = {size}, {layers}{far}",
                    relative[mask],
                    relative_error[mask],
                    tolerance=RATIO_TOLERANCE,
                    unit="of the rate",
                    chains=chains,
                    level=level,
                )
        here = (d == d.max()) & (xi > 0)
        limit = _predicted_means(kappa, xi, [int(depth[low]), int(depth[high])], d, "ratio")
        beyond = slope - (limit[1] - limit[0]) / (depth[high] - depth[low])
        yield judge(
            "T34",
            "sigma_2 / sigma_1 of P_L falls as in the limit at this depth",
            f"all kappa and xi, d = {d.max()}, {layers}",
            beyond[here],
            spread[here],
            tolerance=RATE_TOLERANCE,
            unit="nat per layer",
            chains=chains,
            level=level,
        )
        for size in _judged_dimensions(dataset):
            here = side_of(kappa, xi, "dispersive") & (d == size)
            yield judge(
                "T19",
                "no collapse of P_L",
                f"kappa < xi, d = {size}, {layers}",
                slope[here],
                spread[here],
                tolerance=RATE_TOLERANCE,
                unit="nat per layer",
                chains=chains,
                level=level,
            )
    median, low_end, high_end = (
        dataset[name].transpose(*dims).to_numpy()
        for name in ("log_ratio_median", "log_ratio_median_low", "log_ratio_median_high")
    )
    cone = kappa[:, :, None] > critical_alignment(xi[:, :, None])
    cone = np.broadcast_to(cone & (xi[:, :, None] > 0), median.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.log(min_rate(kappa, xi))[:, :, None]
        bound = depth[:, None] * np.log(xi[:, :, None]) - 2 * (depth[:, None] - 1) * rate
    spread = _median_error(dataset, low_end, high_end)
    yield judge(
        "T10",
        "median sigma_2 / sigma_1 of P_L is at most the bound (a theorem: it checks the code)",
        "kappa > kappa_c, all L and d",
        (median - bound)[cone],
        spread[cone],
        tolerance=1e-9 * float(depth.max()),
        unit="nat",
        chains=chains,
        level=level,
        one_sided=True,
    )


def _turned(dataset: xr.Dataset, level: float) -> Iterator[Verdict]:
    dims = ("alignment", "gap", "depth", "dimension")
    deepest = int(dataset["depth"].to_numpy().argmax())
    names = ("early_log_noise", "early_log_noise_low", "early_log_noise_high")
    median, low, high = (dataset[name].transpose(*dims).to_numpy()[:, :, deepest] for name in names)
    kappa, xi, d = _grids(dataset)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = median - np.log(typical_across_over_along(kappa, xi))
    side, depth = side_of(kappa, xi, "attractor"), int(dataset["depth"].to_numpy()[deepest])
    for size in _judged_dimensions(dataset):
        for mask, far in _with_clear(side & (d == size), kappa, xi, d, depth):
            yield judge(
                "T20",
                "median q / p of P_{L:2} u_1 is xi s / sqrt(kappa^2 - xi^2)",
                f"kappa > xi, d = {size}, L = {depth}{far}",
                away[mask],
                _median_error(dataset, low, high)[mask],
                tolerance=TURN_TOLERANCE,
                unit="ln of a factor",
                chains=chains_of(dataset),
                level=level,
            )
