"""The residual family's map: where early injections are pinned, where an outlier takes over, and two rules for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from theory.phase.fields import cell_name
from theory.phase.judging import Verdict, judge
from theory.regimes.thresholds import PAPER_GAIN, PINNED_LOG_GROWTH

__all__ = ["RESIDUAL_RATE_TOLERANCE", "residual_phases", "residual_verdicts"]

RESIDUAL_RATE_TOLERANCE = 0.02
"""(T33), (T26): nats a layer by which an early injection's growth may differ from its prediction."""

CLEAR = 0.05
"""Distance of the outlier's rate from 0, nats a layer, from which a cell counts as clear of the transition."""

SMALL = 0.1
"""L ||F||_F^2 / d below which (T26)'s hypothesis ||F||_F^2 << d is taken to hold for all layers together."""


def _rates(dataset: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Predicted ln growth a layer: the outlier's; (T33), the larger of it and the bulk's; the paper's."""
    outlier, pinned, gain = dataset["outlier_rate"], dataset["pinned_rate"], dataset["paper_gain"]

    def log_max(x: xr.DataArray, y: xr.DataArray | float) -> xr.DataArray:
        return xr.apply_ufunc(lambda a, b: np.log(np.maximum(a, b)), x, y)

    return log_max(outlier, 1e-300), log_max(outlier, pinned), log_max(gain, PAPER_GAIN)


def residual_phases(dataset: xr.Dataset) -> pd.DataFrame:
    """How much of the map is pinned and how much has an outlier, measured, and by the paper's rule.

    A cell is pinned where the median of ln ||P_{L:2} B_1 w|| is within PINNED_LOG_GROWTH of its value without any
    layer's effect (ln of the injection's size, taken at the weakest strength), grown above that.

    Args:
        dataset: of `theory.sweep` with a `ResidualSweepSpec`.

    Returns:
        A row for each injection, rank, depth and dimension: cells, grown, pinned, shrunk (fractions), paper_I (rho <
        1), paper_I_grown (of all cells: the paper says Regime I and the early injection has grown), paper_II_pinned
        (rho >= 1 and it has not), outlier_wrong (the sign of the outlier's rate against grown or not), rate_rms_t33 and
        rate_rms_paper (r.m.s. of the measured rate less max(outlier, bulk), less ln max(rho, 1)), growth_exponent
        (median over pinned cells of the slope of ln ||J_L|| on ln L from the depth before; NaN at the least depth),
        pinned_collapsed (fraction of the pinned cells whose sigma_2 / sigma_1 is below the threshold), pinned_noise
        (median noise ratio of those), chains.

    Raises:
        ValueError: if the dataset is not of that kind.
    """
    if "outlier_rate" not in dataset:
        raise ValueError(f"dataset must hold outlier_rate; got {sorted(map(str, dataset.data_vars))}")
    outlier, predicted, paper = _rates(dataset)
    depths = np.sort(dataset["depth"].to_numpy())
    rows: list[dict[str, Any]] = []
    keys = ("injection", "rank", "depth", "dimension")
    for index in np.ndindex(*(dataset.sizes[key] for key in keys)):
        at = dict(zip(keys, index, strict=True))
        cell = dataset.isel(at)
        order = ("strength", "alignment", "persistence")
        field = {
            name: cell[name].transpose(*order).to_numpy()
            for name in ("early_log", "early_rate", "context_log_norm", "context_log_noise", "context_collapsed")
        }
        rules = {key: value for key, value in at.items() if key in outlier.dims}
        rate, best, published = (x.isel(rules).transpose(*order).to_numpy() for x in (outlier, predicted, paper))
        gain = dataset["paper_gain"].isel(rules).transpose(*order).to_numpy()
        start = field["early_log"][int(np.argmin(dataset["strength"].to_numpy()))][None]
        known = np.isfinite(field["early_log"])
        moved = field["early_log"] - start
        grown, shrunk = known & (moved > PINNED_LOG_GROWTH), known & (moved < -PINNED_LOG_GROWTH)
        pinned = known & ~grown & ~shrunk
        row = {key: value for key, value in cell_name(cell).items() if key in keys}
        row |= {"cells": int(known.sum())} | {
            name: _part(mask, known)
            for name, mask in (
                ("grown", grown),
                ("pinned", pinned),
                ("shrunk", shrunk),
                ("paper_I", gain < PAPER_GAIN),
                ("paper_I_grown", grown & (gain < PAPER_GAIN)),
                ("paper_II_pinned", ~grown & (gain >= PAPER_GAIN)),
                ("outlier_wrong", grown != (rate * (row["depth"] - 1) > PINNED_LOG_GROWTH)),
            )
        }
        row["rate_rms_t33"] = _rms(field["early_rate"] - best, known)
        row["rate_rms_paper"] = _rms(field["early_rate"] - published, known)
        row["growth_exponent"] = math.nan
        place = int(np.searchsorted(depths, row["depth"]))
        if place and pinned.any():
            before = dataset.isel({key: value for key, value in at.items() if key != "depth"}).sel(
                depth=depths[place - 1]
            )
            gained = field["context_log_norm"] - before["context_log_norm"].transpose(*order).to_numpy()
            row["growth_exponent"] = float(np.median(gained[pinned])) / math.log(depths[place] / depths[place - 1])
        collapsed = pinned & (field["context_collapsed"] > 0.5)
        row["pinned_collapsed"] = _part(collapsed, pinned)
        noise = field["context_log_noise"][collapsed]
        row["pinned_noise"] = math.exp(float(np.median(noise))) if noise.size else math.nan
        rows.append(row | {"chains": int(dataset.attrs["seeds"])})
    return pd.DataFrame(rows)


def residual_verdicts(dataset: xr.Dataset, *, level: float = 0.95) -> pd.DataFrame:
    """Verdicts on (T33), (T26) and the paper's rule for the growth of an early injection, by `judge`.

    The measured rate is the slope of the mean of ln ||P_{L:2} B_1 w|| between the two greatest depths, at the greatest
    dimension; its error the sum of those of its ends over the layers between. The paper's rule is read as growth by
    max(rho, 1) a layer, which (T26) grants it: with rho alone it would be further off.

    Args:
        dataset: of `theory.sweep` with a `ResidualSweepSpec`, over two depths or more.
        level: of the simultaneous intervals.

    Returns:
        A row for each prediction, injection and scope: the fields of `Verdict`.
    """
    outlier, predicted, paper = _rates(dataset)
    depth = dataset["depth"].to_numpy()
    low, high = (int(x) for x in np.argsort(depth)[-2:])
    ends = [dataset[name] * (dataset["depth"] - 1) for name in ("early_rate", "early_rate_se")]
    layers = int(depth[high] - depth[low])
    slope = (ends[0].isel(depth=high, drop=True) - ends[0].isel(depth=low, drop=True)) / layers
    error = (ends[1].isel(depth=high, drop=True) + ends[1].isel(depth=low, drop=True)) / layers
    largest = int(dataset["dimension"].to_numpy().max())
    frobenius = dataset["rank"] * dataset["strength"] ** 2  # ||F||_F^2
    small = frobenius * int(depth[high]) < SMALL * largest
    found: list[Verdict] = []
    for name in dataset["injection"].to_numpy():
        measured, spread, rate, best, published = (
            (x.sel(injection=name) if "injection" in x.dims else x).sel(dimension=largest)
            for x in (slope, error, outlier, predicted, paper)
        )
        scopes = {
            "all cells": xr.ones_like(rate, dtype=bool),
            f"outlier above 1 by {CLEAR}": rate > CLEAR,
            f"outlier below 1 by {CLEAR}": rate < -CLEAR,
            f"the same and L ||F||_F^2 < {SMALL} d": (rate < -CLEAR) & small,
        }
        rules = {"T33": ("the outlier's rate or the bulk's, the larger", best), "P2": ("ln max(rho, 1)", published)}
        for words, mask in scopes.items():
            chosen = dict(rules)
            if "below" in words or "same" in words:
                chosen["T26"] = ("0: pinned", xr.zeros_like(best))
            for tag, (statement, value) in chosen.items():
                away, err = xr.broadcast(measured - value, spread)
                inside = mask.broadcast_like(away).transpose(*away.dims).to_numpy()
                found.append(
                    judge(
                        tag,
                        f"||P_(L:2) B_1 w|| grows by {statement}",
                        f"{name}, {words}, d = {largest}, L {depth[low]} to {depth[high]}",
                        away.to_numpy()[inside],
                        err.transpose(*away.dims).to_numpy()[inside],
                        tolerance=RESIDUAL_RATE_TOLERANCE,
                        unit="nat per layer",
                        chains=int(dataset.attrs["seeds"]),
                        level=level,
                    )
                )
    return pd.DataFrame([{key: getattr(v, key) for key in Verdict.__slots__} for v in found])


def _part(mask: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float((mask & of).sum() / of.sum()) if of.any() else math.nan


def _rms(values: NDArray[np.float64], of: NDArray[np.bool_]) -> float:
    inside = values[of & np.isfinite(values)]
    return float(np.sqrt(np.mean(inside**2))) if inside.size else math.nan
