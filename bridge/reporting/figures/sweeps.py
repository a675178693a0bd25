"""Which figures a sweep has: decided by the variables in its dataset alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bridge.reporting.figures.areas import resolved_coexistence
from bridge.reporting.figures.boundary import TRANSITIONS, boundary_along, context_map
from bridge.reporting.figures.collapse import WIDTHS, width_collapse
from bridge.reporting.figures.injections import injection_map
from bridge.reporting.figures.phase import phase_map
from bridge.reporting.figures.ratio import singular_ratio
from bridge.reporting.figures.residual import residual_growth, residual_map

__all__ = ["sweep_figures"]

Draw = Callable[..., Figure]


def sweep_figures(sweep: xr.Dataset) -> dict[str, Draw]:
    """Every figure that this dataset has something for, by file name; each is called with `narrow`.

    Args:
        sweep: dataset of `theory.sweep`; figures whose variables or axes it lacks are left out.
    """
    found: dict[str, Draw] = {}
    if "gain" in sweep.dims:
        if _has(sweep, "log_norm"):
            found["phase_map"] = partial(phase_map, sweep)
        if _has(sweep, "log_ratio_median") or _has(sweep, "log_ratio"):
            found["singular_ratio"] = partial(singular_ratio, sweep)
    names = [str(name) for name in sweep["injection"].values] if "injection" in sweep.dims else []
    for name in names:
        for transition, (fraction, *_) in TRANSITIONS.items():
            if "gain" in sweep.dims and _has(sweep, fraction):
                found[f"context_{transition}_{_slug(name)}"] = partial(context_map, sweep, transition, injection=name)
    if names and "gain" in sweep.dims and _has(sweep, "context_log_noise"):
        found["injection_map"] = partial(injection_map, sweep)
    plane = ("gain", "alignment", "gap")
    if all(sweep.sizes.get(name, 0) > 1 for name in plane) and (_has(sweep, "grown") or _has(sweep, "context_grown")):
        found["coexistence"] = partial(resolved_coexistence, sweep)
    if "strength" in sweep.dims:
        for name in names:
            found[f"residual_map_{_slug(name)}"] = partial(residual_map, sweep, injection=name)
        if sweep.sizes["depth"] > 1:
            found["residual_growth"] = partial(residual_growth, sweep)
    if "gain" in sweep.dims and any(_has(sweep, variable) for variable in ("product_gain", "context_gain")):
        for along in ("depth", "dimension"):
            if sweep.sizes[along] > 1:
                for name in names or [None]:
                    suffix = f"_{_slug(name)}" if name else ""
                    found[f"boundary_{along}{suffix}"] = partial(boundary_along, sweep, along, injection=name)
    for quantity in WIDTHS:
        if (
            "gain" in sweep.dims
            and _has(sweep, f"{quantity}_width")
            and max(sweep.sizes["depth"], sweep.sizes["dimension"]) > 1
        ):
            found[f"width_{quantity}"] = partial(width_collapse, sweep, quantity)
    return found


def _has(sweep: xr.Dataset, name: str) -> bool:
    return name in sweep and bool(np.isfinite(sweep[name].values).any())


def _slug(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)
