"""Growth and collapse of random chains over a grid of gain, alignment, gap, depth and dimension."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from theory.sweeping.codes import CODE_MEANINGS
from theory.sweeping.identity import described, digest
from theory.sweeping.layout import dataset, empty
from theory.sweeping.parts import compute_part, parts_of, place
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, default_sweep

__all__ = ["CODE_MEANINGS", "SweepSpec", "default_sweep", "sweep"]


def sweep(spec: SweepSpec | ResidualSweepSpec) -> xr.Dataset:
    """Growth, collapse and critical gains of random chains over the grid, in float64 unless asked otherwise.

    The chains: the residual of the specification (flat: all d - 1 of its singular values are sigma xi), random
    directions, and sigma = gain / alignment in every layer, the first included. ||P_L|| scales exactly with sigma, so
    each (alignment, gap, depth, dimension, seed) is simulated once and serves every gain; chains that differ in
    alignment or gap alone share their random numbers, as do J_L at different gains and depths. A degenerate cell has a
    code and never stops the sweep.

    Args:
        spec: the grid and what is asked of it.

    Returns:
        Dataset over (injection, gain, alignment, gap, depth, dimension), each variable over those it depends on, with
        `long_name` and `units`, and codes whose meanings are in their attribute `code_meanings`. Its attribute `spec`
        is the specification as JSON.
    """
    arrays = empty(spec)
    for part in parts_of(spec):
        place(spec, part, compute_part(spec, part), arrays)
    attrs: dict[str, Any] = {"seeds": spec.seeds, "seed": spec.seed, "level": spec.level}
    if isinstance(spec, SweepSpec):
        attrs |= {
            "residual": spec.residual,
            "directions": "random",
            "sigma": "gain / alignment in every layer, the first included",
        }
    attrs |= {"spec": json.dumps(described(spec), sort_keys=True), "digest": digest(spec)}
    return dataset(spec, arrays, attrs)
