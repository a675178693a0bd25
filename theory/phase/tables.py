"""Every table that a sweep's dataset allows, by name: what the reports and figures about the phase boundary print."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from theory.phase.areas import certified_areas, misjudged_areas, resolved_areas
from theory.phase.finite_size import finite_size
from theory.phase.offsets import boundary_offsets
from theory.phase.onset import context_onset, product_onset
from theory.phase.rank_one import rank_one
from theory.phase.residual_map import residual_phases, residual_verdicts
from theory.phase.verdicts import verdicts

__all__ = ["certified_table", "phase_tables"]


def certified_table(dataset: xr.Dataset) -> pd.DataFrame:
    """The areas of (T14) in the box of the dataset's grids, a row for each gap: the fields of `CertifiedAreas`."""
    gain, alignment = (dataset[name].to_numpy() for name in ("gain", "alignment"))
    box = (float(gain.min()), float(gain.max())), (float(alignment.min()), float(alignment.max()))
    rows = []
    for gap in dataset["gap"].to_numpy().tolist():
        found = certified_areas(gap, *box)
        rows.append({"gap": gap} | {name: getattr(found, name) for name in type(found).__slots__})
    return pd.DataFrame(rows)


def phase_tables(dataset: xr.Dataset) -> dict[str, pd.DataFrame]:
    """What can be said of a sweep: each analysis whose variables and axes it holds.

    Args:
        dataset: of `theory.sweep`.

    Returns:
        Of "certified", "resolved", "misjudged", "offsets", "product_onset", "context_onset", "rank_one",
        "finite_early", "finite_product", "verdicts", "residual_phases" and "residual_verdicts" those that apply, in
        this order.
    """
    names = set(map(str, dataset.data_vars))
    wide = {
        axis: axis in dataset.dims and dataset.sizes[axis] > 1 for axis in ("gain", "alignment", "depth", "dimension")
    }
    ascending = all(bool((np.diff(dataset[axis].to_numpy()) > 0).all()) for axis in ("gain", "alignment") if wide[axis])
    plane = wide["gain"] and wide["alignment"] and ascending and float(dataset["gain"].to_numpy().min()) > 0
    boundary = bool({"product_gain", "context_gain"} & names)
    sized = wide["depth"] and wide["dimension"]
    makers: dict[str, tuple[bool, Callable[[xr.Dataset], pd.DataFrame]]] = {
        "certified": (plane, certified_table),
        "resolved": (plane and boundary, resolved_areas),
        "misjudged": (plane and boundary, misjudged_areas),
        "offsets": (boundary, boundary_offsets),
        "product_onset": ("log_ratio_median" in names and wide["alignment"], product_onset),
        "context_onset": ("context_gain" in names, context_onset),
        "rank_one": ("context_gain" in names, rank_one),
        "finite_early": (sized and "early_width" in names and is_flat_family(dataset), finite_size),
        "finite_product": (sized and "product_width" in names, lambda data: finite_size(data, "product")),
        "verdicts": (bool({"early_gain", "product_gain"} & names), verdicts),
        "residual_phases": ("outlier_rate" in names, residual_phases),
        "residual_verdicts": ("outlier_rate" in names and wide["depth"], residual_verdicts),
    }
    return {name: make(dataset) for name, (applies, make) in makers.items() if applies}


def is_flat_family(dataset: xr.Dataset) -> bool:
    """Whether the early direction is that of the flat family, over gap; the residual family's has no gap."""
    return "gap" in dataset.dims
