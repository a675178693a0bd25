"""What the analyses read out of a sweep's dataset, by name: boundaries, fractions, coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["FRACTIONS", "boundaries", "cell_name"]

FRACTIONS = {
    "product": "grown",
    "share": "context_shared",
    "growth": "context_grown",
    "ratio": "context_collapsed",
}
"""Fraction of a cell's chains beyond the threshold, for each quantity."""

COORDINATES = ("injection", "strength", "alignment", "persistence", "gap", "rank", "depth", "dimension")


def cell_name(cell: xr.DataArray | xr.Dataset) -> dict[str, Any]:
    """The scalar coordinates of a selection, as a row begins with; injection is "" where it has no meaning."""
    found: dict[str, Any] = {"injection": ""}
    for name in COORDINATES:
        if name in cell.coords and cell[name].ndim == 0:
            found[name] = cell[name].item()
    return found


def boundaries(dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Measured boundaries along the alignment: "product" and each transition, with gain, low, high and code.

    Yields:
        (quantity, Dataset over alignment with scalar coordinates gap, depth, dimension and injection).
    """
    for prefix, leading in (("product_gain", ()), ("context_gain", ("transition", "injection"))):
        if prefix not in dataset:
            continue
        names = {"gain": prefix, "low": f"{prefix}_low", "high": f"{prefix}_high", "code": f"{prefix}_code"}
        fields = xr.Dataset({short: dataset[name] for short, name in names.items()})
        others = [*leading, *(d for d in ("gap", "depth", "dimension") if d in fields.dims)]
        for index in np.ndindex(*(fields.sizes[d] for d in others)):
            cell = fields.isel(dict(zip(others, index, strict=True)))
            yield (str(cell["transition"].item()) if leading else "product"), cell
