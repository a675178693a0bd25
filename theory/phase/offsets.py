"""How far measured boundaries lie from the mean field's, and how that falls with depth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from theory.phase.critical import predicted_gain
from theory.phase.fields import boundaries, cell_name

__all__ = ["boundary_offsets", "random_offset"]


def random_offset(depth: int, dimension: int) -> float:
    """ln of the gain by which random injections put the boundary off: ln(d) / (2 L), an order of magnitude.

    An isotropic injection of size 1 has a part d^(-1/2) along u; it must grow by rho^L to d^0 before it outweighs the
    layers' own injections. Coherent ones need nothing of the kind. Of the growth of J_L it was 0.7-1.4 times
    this at kappa >= 0.7, xi = 0.1, L = 4 to 128, d = 64 to 10^6; the collapse asks for more, the share for less.
    """
    return math.log(dimension) / (2 * depth)


def boundary_offsets(dataset: xr.Dataset) -> pd.DataFrame:
    """ln of each measured critical gain over the mean field's kappa / max(kappa, xi) (T18).

    Args:
        dataset: of `theory.sweep`, with product or injections.

    Returns:
        A row for each quantity ("product", "share", "growth", "ratio"), injection, gap, depth, dimension and alignment:
        offset with low and high (NaN without a crossing; an end may be infinite), times_depth (offset x L), random (ln
        d / (2 L), beside it), code, chains.

    Raises:
        ValueError: if the dataset has no boundary.
    """
    alignment = dataset["alignment"].to_numpy()
    rows: list[dict[str, Any]] = []
    for quantity, cell in boundaries(dataset):
        name = cell_name(cell)
        with np.errstate(divide="ignore", invalid="ignore"):
            line = np.log(predicted_gain(alignment, name["gap"])["mean_field"])
            ends = {key: np.log(cell[part].to_numpy()) - line for key, part in _PARTS.items()}
        for index, kappa in enumerate(alignment.tolist()):
            values = {key: float(end[index]) for key, end in ends.items()}
            rows.append(
                {"quantity": quantity}
                | name
                | {"alignment": kappa}
                | values
                | {
                    "times_depth": values["offset"] * name["depth"],
                    "random": random_offset(name["depth"], name["dimension"]),
                    "code": int(cell["code"].to_numpy()[index]),
                    "chains": int(dataset.attrs["seeds"]),
                }
            )
    if not rows:
        raise ValueError(f"dataset must hold product_gain or context_gain; got {sorted(map(str, dataset.data_vars))}")
    return pd.DataFrame(rows)


_PARTS = {"offset": "gain", "low": "low", "high": "high"}
