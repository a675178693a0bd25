"""The residual family's map: where early injections are pinned, where an outlier takes over, and two rules for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from theory.phase.fields import cell_name
from theory.phase.judging import Verdict, judge
from theory.regimes.residual_moments import residual_moments
from theory.regimes.thresholds import PAPER_GAIN, PINNED_LOG_GROWTH
from theory.simulators.residual_cells import ResidualCells

__all__ = ["RESIDUAL_RATE_TOLERANCE", "residual_phases", "residual_verdicts"]

RESIDUAL_RATE_TOLERANCE = 0.02
"""Nats a layer by which an early injection's growth may differ from its prediction, whichever that is."""

CLEAR = 0.05
"""Distance of the outlier's rate from 0, nats a layer, from which a cell counts as clear of the transition."""

SMALL = 0.1
"""L ||F||_F^2 / d below which (T26)'s hypothesis ||F||_F^2 << d is taken to hold for all layers together."""


def _log_rates(dataset: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """ln of the outlier's rate g, and of the paper's rho, a layer; -inf at 0, NaN where there is none."""
    return _log(dataset["outlier_rate"]), _log(dataset["paper_gain"])


def _log(values: xr.DataArray) -> xr.DataArray:
    with np.errstate(divide="ignore"):
        return xr.apply_ufunc(np.log, values)


def _starts(dataset: xr.Dataset) -> dict[str, float]:
    """ln ||B_1 w|| by injection, w the earliest one's direction: of "isotropic" ones with both parts to O(d^(-1/2))."""
    spec = json.loads(dataset.attrs["spec"])
    return {item["name"]: math.log(math.hypot(item["along"], item["across"])) for item in spec["injections"]}


def residual_phases(dataset: xr.Dataset) -> pd.DataFrame:
    """How much of the map is pinned and how much has an outlier, measured, and by the paper's rule.

    A cell is pinned where the median of ln ||P_{L:2} B_1 w|| is within PINNED_LOG_GROWTH of ln of the injection's size,
    its value without any layer's effect; grown above that, shrunk below.

    Args:
        dataset: of `theory.sweep` with a `ResidualSweepSpec`.

    Returns:
        A row for each injection, rank, depth and dimension: cells, grown, pinned, shrunk (fractions), paper_I (rho <
        1), paper_I_grown (of all cells: the paper says Regime I and the early injection has grown),
        paper_I_not_decayed (Regime I, where it says decay, and the early injection has not shrunk), paper_II_pinned
        (rho >= 1 and it has not grown), outlier_wrong (the sign of the outlier's rate against grown or not),
        rate_rms_t33, rate_rms_t32 (r.m.s. of the measured rate less ln max(g, 1), less ln of the mean square's rate at
        this dimension), rate_rms_paper (less ln rho, over 0 < rho < 1, as (P2)'s proof has it), rate_rms_mean_field
        (less ln max(rho, 1), (T18) with the paper's numbers), growth_exponent (median over pinned cells of the slope of
        ln ||J_L|| on ln L from the depth before; NaN at the least depth),
        pinned_collapsed (fraction of the pinned cells whose sigma_2 / sigma_1 is below the threshold), pinned_noise
        (median noise ratio of those), chains.

    Raises:
        ValueError: if the dataset is not of that kind.
    """
    if "outlier_rate" not in dataset:
        raise ValueError(f"dataset must hold outlier_rate; got {sorted(map(str, dataset.data_vars))}")
    log_outlier, log_gain = _log_rates(dataset)
    mean_square = _log(dataset["mean_square_rate"])
    starts = _starts(dataset)
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
        rules = {key: value for key, value in at.items() if key in log_outlier.dims}
        rate, log_rho, exact = (
            x.isel(rules).transpose(*order).to_numpy() for x in (log_outlier, log_gain, mean_square)
        )
        decays = log_rho < math.log(PAPER_GAIN)
        known = np.isfinite(field["early_log"])
        moved = field["early_log"] - starts[str(cell["injection"].item())]
        grown, shrunk = known & (moved > PINNED_LOG_GROWTH), known & (moved < -PINNED_LOG_GROWTH)
        pinned = known & ~grown & ~shrunk
        row = {key: value for key, value in cell_name(cell).items() if key in keys}
        row |= {"cells": int(known.sum())} | {
            name: _part(mask, known)
            for name, mask in (
                ("grown", grown),
                ("pinned", pinned),
                ("shrunk", shrunk),
                ("paper_I", decays),
                ("paper_I_grown", grown & decays),
                ("paper_I_not_decayed", known & ~shrunk & decays),
                ("paper_II_pinned", ~grown & (log_rho >= math.log(PAPER_GAIN))),
                ("outlier_wrong", grown != (rate * (row["depth"] - 1) > PINNED_LOG_GROWTH)),
            )
        }
        measured = field["early_rate"]
        row["rate_rms_t33"] = _rms(measured - np.maximum(rate, 0), known)
        row["rate_rms_t32"] = _rms(measured - exact, known)
        row["rate_rms_paper"] = _rms(measured - log_rho, known & decays & np.isfinite(log_rho))
        row["rate_rms_mean_field"] = _rms(measured - np.maximum(log_rho, math.log(PAPER_GAIN)), known)
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


@dataclass(frozen=True, slots=True)
class _Rule:
    """A prediction of the growth a layer: where it speaks, and whether it is an upper bound.

    Attributes:
        tag, statement: as in `Verdict`.
        value: the rate predicted, nats a layer, over (strength, alignment, persistence, rank).
        where: which cells it speaks of, likewise.
        words: for these, "" for all.
        scopes: of `_scopes`, those it is judged in.
        bound: whether only a larger rate counts against it.
        tolerance: nats a layer.
    """

    tag: str
    statement: str
    value: xr.DataArray
    where: xr.DataArray
    words: str = ""
    scopes: tuple[str, ...] = ("all", "above", "below", "small")
    bound: bool = False
    tolerance: float = RESIDUAL_RATE_TOLERANCE


def residual_verdicts(dataset: xr.Dataset, *, level: float = 0.95) -> pd.DataFrame:
    """Verdicts on the growth of an early injection, by `judge`: (T33), (T32), (T26), and the paper's rule beside them.

    The measured rate is the slope of the mean of ln ||P_{L:2} B_1 w|| between the two greatest depths, at the greatest
    dimension; its error the sum of those of its ends over the layers between. The rules:

    * (T33) ln max(g, 1), over all cells and where g is clear of 1 above it; below, this is (T26)'s 0, judged there.
    * (T32) ln of the growth rate of the mean square, at this dimension: that of many layers, and exactly between these
      two depths. The mean of the logarithm lies below it where chains differ.
    * (P2), where rho < 1: early injections decay. Its weakest reading is a rate below 0, at no tolerance: within one,
      pinned would count as decayed. Its proof's is a rate of at most ln rho, judged where rho > 0.
    * (T18) with the paper's numbers, where rho >= 1: growth by ln rho.

    Args:
        dataset: of `theory.sweep` with a `ResidualSweepSpec`, over two depths or more.
        level: of the simultaneous intervals.

    Returns:
        A row for each rule, injection and scope that holds a cell of the rule's: the fields of `Verdict`.
    """
    largest = int(dataset["dimension"].to_numpy().max())
    here = dataset.sel(dimension=largest, drop=True)
    depth = here["depth"].to_numpy()
    low, high = (int(x) for x in np.argsort(depth)[-2:])
    ends = [here[name] * (here["depth"] - 1) for name in ("early_rate", "early_rate_se")]
    layers = int(depth[high] - depth[low])
    slope = (ends[0].isel(depth=high, drop=True) - ends[0].isel(depth=low, drop=True)) / layers
    error = (ends[1].isel(depth=high, drop=True) + ends[1].isel(depth=low, drop=True)) / layers
    rate = _log_rates(here)[0]
    small = here["rank"] * here["strength"] ** 2 * int(depth[high]) < SMALL * largest  # ||F||_F^2 L against d
    scopes = {
        "all": ("all cells", xr.ones_like(rate, dtype=bool)),
        "above": (f"outlier above 1 by {CLEAR}", rate > CLEAR),
        "below": (f"outlier below 1 by {CLEAR}", rate < -CLEAR),
        "small": (f"the same and L ||F||_F^2 < {SMALL} d", (rate < -CLEAR) & small),
    }
    found: list[Verdict] = []
    for name in here["injection"].to_numpy():
        measured, spread = slope.sel(injection=name), error.sel(injection=name)
        rules = [*_rules(here), _exact(here, str(name), largest, [int(depth[low]), int(depth[high])])]
        for scope, (words, mask) in scopes.items():
            for rule in rules:
                inside = mask & rule.where
                if scope not in rule.scopes or not bool(inside.any()):
                    continue
                away, err, cells = xr.broadcast(measured - rule.value, spread, inside)
                chosen = cells.transpose(*away.dims).to_numpy()
                found.append(
                    judge(
                        rule.tag,
                        f"||P_(L:2) B_1 w|| {rule.statement}",
                        f"{name}, {words}{rule.words}, d = {largest}, L {depth[low]} to {depth[high]}",
                        away.to_numpy()[chosen],
                        err.transpose(*away.dims).to_numpy()[chosen],
                        tolerance=rule.tolerance,
                        unit="nat per layer",
                        chains=int(dataset.attrs["seeds"]),
                        level=level,
                        one_sided=rule.bound,
                    )
                )
    return pd.DataFrame([asdict(verdict) for verdict in found], columns=list(Verdict.__slots__))


def _rules(dataset: xr.Dataset) -> Iterator[_Rule]:
    rate, log_rho = _log_rates(dataset)
    nothing, everywhere = xr.zeros_like(rate), xr.ones_like(rate, dtype=bool)
    one = math.log(PAPER_GAIN)
    yield _Rule("T33", "grows by ln max(g, 1)", rate.clip(min=0.0), everywhere, scopes=("all", "above"))
    yield _Rule("T26", "grows by 0: pinned", nothing, everywhere, scopes=("below", "small"))
    yield _Rule("T32", "grows by the rate of its mean square", _log(dataset["mean_square_rate"]), everywhere)
    yield _Rule("P2", "decays", nothing, log_rho < one, ", rho < 1", bound=True, tolerance=0.0)
    strong = (log_rho < one) & (log_rho > -np.inf)
    yield _Rule("P2", "grows by at most ln rho", log_rho, strong, ", 0 < rho < 1", bound=True)
    yield _Rule("T18", "grows by ln rho, rho the paper's", log_rho, log_rho >= one, ", rho >= 1")


def _exact(dataset: xr.Dataset, injection: str, dimension: int, depths: list[int]) -> _Rule:
    """(T32)'s growth of the mean square between two depths, which holds what the start still does there."""
    order = ("strength", "alignment", "persistence")
    grids = np.meshgrid(*(dataset[name].to_numpy() for name in order), indexing="ij")
    item = next(x for x in json.loads(dataset.attrs["spec"])["injections"] if x["name"] == injection)
    tau, kappa, omega = (grid.ravel() for grid in grids)
    cells = ResidualCells(tau, kappa, omega, item["along"], item["across"])
    value = xr.full_like(dataset["mean_square_rate"].transpose(*order, "rank"), np.nan)
    for index, rank in enumerate(dataset["rank"].to_numpy().tolist()):
        if dimension >= 2 * rank:  # others could not be simulated either
            early = residual_moments(cells, dimension, depths, rank=rank, frame=item["frame"]).log_early
            value[..., index] = ((early[1] - early[0]) / (depths[1] - depths[0])).reshape(grids[0].shape)
    everywhere = xr.ones_like(value, dtype=bool)
    return _Rule("T32", "grows as its mean square between these depths", value, everywhere)


def _part(mask: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float((mask & of).sum() / of.sum()) if of.any() else math.nan


def _rms(values: NDArray[np.float64], of: NDArray[np.bool_]) -> float:
    inside = values[of & np.isfinite(values)]
    return float(np.sqrt(np.mean(inside**2))) if inside.size else math.nan
