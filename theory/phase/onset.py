"""Where the paper's "collapse" begins at a given depth: in alignment for the product, in gain for J_L."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from theory._checks import natural, unit_interval
from theory.phase.fields import cell_name

__all__ = ["certified_onset", "context_onset", "product_onset", "typical_onset"]


def typical_onset(gap: ArrayLike, depth: ArrayLike, ratio: float = 0.1) -> NDArray[np.float64]:
    """Alignment from which a typical product has sigma_2 / sigma_1 below `ratio` by (T19): xi ratio^(-1/L).

    Args:
        gap: xi_F, dimensionless, in [0, 1].
        depth: L >= 1.
        ratio: in (0, 1).

    Returns:
        Dimensionless; inf where it exceeds 1 and no alignment does.
    """
    xi, layers = unit_interval(gap, "gap"), natural(depth, "depth")
    found = xi * np.exp(-math.log(_checked(ratio)) / layers)
    return np.where(found <= 1, found, np.inf)


def certified_onset(gap: ArrayLike, depth: ArrayLike, ratio: float = 0.1) -> NDArray[np.float64]:
    """Alignment from which every chain has sigma_2 / sigma_1 of P_L below `ratio`, by (T10): xi^L / Lambda_min^(2L-2).

    Args:
        gap: xi, dimensionless, in [0, 1].
        depth: L >= 2.
        ratio: in (0, 1).

    Returns:
        Dimensionless, at least kappa_c; inf where (T10) certifies it at no alignment.
    """
    xi, layers = unit_interval(gap, "gap"), natural(depth, "depth", least=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.exp((layers * np.log(xi) - math.log(_checked(ratio))) / (2 * (layers - 1)))
        # Below kappa_c nothing is certified; at it, Lambda_min = sqrt(xi).
        rate = np.maximum(rate, np.sqrt(xi))
        found = np.where(xi > 0, (rate**2 + xi) / (rate * (1 + xi)), 0.0)
    return np.where(rate <= 1, found, np.inf)


def product_onset(dataset: xr.Dataset, ratio: float = 0.1) -> pd.DataFrame:
    """The alignment from which the median sigma_2 / sigma_1 of P_L lies below `ratio`, by linear interpolation.

    Args:
        dataset: of `theory.sweep` with the product, over at least two alignments.
        ratio: in (0, 1).

    Returns:
        A row for each gap, depth and dimension: onset with low and high (where the ends of the median's interval
        cross), inf where it does not within the grid, 0 where it holds from the grid's start; typical (T19), certified
        (T10; NaN at L = 1), chains.

    Raises:
        ValueError: if the dataset holds no product or ratio leaves its range.
    """
    level = math.log(_checked(ratio))
    if "log_ratio_median" not in dataset:
        raise ValueError(f"dataset must hold log_ratio_median; got {sorted(map(str, dataset.data_vars))}")
    alignment = dataset["alignment"].to_numpy()
    rows: list[dict[str, Any]] = []
    names = ("log_ratio_median", "log_ratio_median_low", "log_ratio_median_high")
    fields = [dataset[name].transpose("alignment", "gap", "depth", "dimension") for name in names]
    for index in np.ndindex(*fields[0].shape[1:]):
        cell = fields[0][:, *index]
        curves = [field.to_numpy()[:, *index] for field in fields]
        median, low, high = (_first_below(alignment, curve, level) for curve in curves)
        row = cell_name(cell)
        row.pop("injection")
        gap, depth = row["gap"], row["depth"]
        certified = float(certified_onset(gap, depth, ratio)) if depth > 1 else math.nan
        found = {"onset": median, "low": low, "high": high, "typical": float(typical_onset(gap, depth, ratio))}
        rows.append(row | found | {"certified": certified, "chains": int(dataset.attrs["seeds"])})
    return pd.DataFrame(rows)


def context_onset(dataset: xr.Dataset) -> pd.DataFrame:
    """Where J_L has collapsed: the gain from which its median sigma_2 / sigma_1 is below the sweep's threshold.

    Args:
        dataset: of `theory.sweep` with injections.

    Returns:
        A row for each injection, gap, depth and dimension: least_alignment (the lowest of the grid with a critical gain
        at all) and its gain; lowest_gain over the alignments, with low, high and at_alignment; collapsed, the fraction
        of the map's nodes whose median chain has collapsed; chains.

    Raises:
        ValueError: if the dataset holds no J_L.
    """
    if "context_gain" not in dataset:
        raise ValueError(f"dataset must hold context_gain; got {sorted(map(str, dataset.data_vars))}")
    order = ("injection", "gap", "depth", "dimension", "alignment")
    ratio = dataset[["context_gain", "context_gain_low", "context_gain_high"]].sel(transition="ratio")
    gain, low, high = (ratio[name].transpose(*order) for name in ratio.data_vars)
    fraction = dataset["context_collapsed"].transpose(*order[:-1], "gain", "alignment").to_numpy()
    alignment = dataset["alignment"].to_numpy()
    rows: list[dict[str, Any]] = []
    for index in np.ndindex(*gain.shape[:-1]):
        curve = gain.to_numpy()[index]
        known = np.flatnonzero(np.isfinite(curve))
        row = cell_name(gain[index]) | dict.fromkeys(
            ("least_alignment", "gain_there", "lowest_gain", "low", "high", "at_alignment"), math.nan
        )
        if known.size:
            first, best = int(known[0]), int(known[np.argmin(curve[known])])
            row |= {"least_alignment": alignment[first], "gain_there": curve[first], "lowest_gain": curve[best]}
            row |= {"low": low.to_numpy()[index][best], "high": high.to_numpy()[index][best]}
            row["at_alignment"] = alignment[best]
        nodes = fraction[index]
        measured = ~np.isnan(nodes)
        row["collapsed"] = float((nodes[measured] > 0.5).mean()) if measured.any() else math.nan
        rows.append(row | {"chains": int(dataset.attrs["seeds"])})
    return pd.DataFrame(rows)


def _checked(ratio: float) -> float:
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie in (0, 1); got {ratio!r}")
    return ratio


def _first_below(grid: NDArray[np.float64], curve: NDArray[np.float64], level: float) -> float:
    """Where the curve first falls below the level for good (its last upward point, interpolated to the next)."""
    known = np.isfinite(grid) & ~np.isnan(curve)
    grid, curve = grid[known], curve[known]
    if not curve.size:
        return math.nan
    above = np.flatnonzero(curve >= level)
    if not above.size:
        return 0.0
    last = int(above[-1])
    if last == curve.size - 1:
        return math.inf
    if np.isneginf(curve[last + 1]):
        return float(grid[last + 1])
    part = (curve[last] - level) / (curve[last] - curve[last + 1])
    return float(grid[last] + part * (grid[last + 1] - grid[last]))
