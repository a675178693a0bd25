"""Where J_L = u_L psi^T + small noise (P3) holds over the map, under each kind of injection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from theory.phase.fields import cell_name
from theory.regimes.thresholds import PAPER_ALIGNMENT, PAPER_FIRST_ORDER_ERROR, PAPER_GAIN

__all__ = ["NOISE", "rank_one"]

NOISE = 0.1
"""Noise ratio below which "relative noise small" (P3) is taken to hold: across u_L over along it, operator norms."""


def rank_one(dataset: xr.Dataset, noise: float = NOISE) -> pd.DataFrame:
    """How far the rank-one statement holds: in the cells where the paper's hypotheses hold, and in the whole map.

    The statement: the median noise ratio of J_L lies below `noise`. Hypotheses: rho >= 1, L xi / kappa small and kappa
    near 1, with the thresholds of `theory.regimes.thresholds`; whether the injections are coherent is the axis
    `injection`. A cell counts where the whole interval of its median does.

    Args:
        dataset: of `theory.sweep` with injections.
        noise: > 0.

    Returns:
        A row for each injection, gap, depth and dimension: cells, holds and fails (fractions of the map's cells; the
        rest is unresolved), hypothesis_cells, hypothesis_holds and hypothesis_fails (of those), noise_least,
        noise_median and noise_greatest (of the medians there), collapsed (fraction of those whose median sigma_2 /
        sigma_1 is below the sweep's threshold; NaN for one context direction), chains.

    Raises:
        ValueError: if the dataset holds no J_L or noise is not positive.
    """
    if not (math.isfinite(noise) and noise > 0):
        raise ValueError(f"noise must be positive and finite; got {noise!r}")
    if "context_log_noise" not in dataset:
        raise ValueError(f"dataset must hold context_log_noise; got {sorted(map(str, dataset.data_vars))}")
    order = ("injection", "gap", "depth", "dimension", "gain", "alignment")
    names = ("context_log_noise", "context_log_noise_low", "context_log_noise_high", "context_collapsed")
    median, low, high, collapsed = (dataset[name].transpose(*order) for name in names)
    gain, alignment = dataset["gain"].to_numpy()[:, None], dataset["alignment"].to_numpy()
    threshold = math.log(noise)
    rows: list[dict[str, Any]] = []
    for index in np.ndindex(*median.shape[:4]):
        row: dict[str, Any] = cell_name(median[index])
        values = median.to_numpy()[index]
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            below = known & (high.to_numpy()[index] < threshold)
            beyond = known & (low.to_numpy()[index] >= threshold)
            first_order = row["depth"] * row["gap"] / alignment
        assumed = known & (gain >= PAPER_GAIN) & (alignment > PAPER_ALIGNMENT) & (first_order < PAPER_FIRST_ORDER_ERROR)
        inside = values[assumed]
        row |= {"cells": int(known.sum()), "holds": _part(below, known), "fails": _part(beyond, known)}
        row |= {
            "hypothesis_cells": int(assumed.sum()),
            "hypothesis_holds": _part(below & assumed, assumed),
            "hypothesis_fails": _part(beyond & assumed, assumed),
        }
        ends = (inside.min(), np.median(inside), inside.max()) if inside.size else (np.nan,) * 3
        row |= {f"noise_{name}": math.exp(x) for name, x in zip(("least", "median", "greatest"), ends, strict=True)}
        row["collapsed"] = _part((collapsed.to_numpy()[index] > 0.5) & assumed, assumed)
        rows.append(row | {"chains": int(dataset.attrs["seeds"])})
    return pd.DataFrame(rows)


def _part(mask: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float(mask.sum() / of.sum()) if of.any() else math.nan
