"""The variables and coordinates of a sweep's dataset, and the empty dataset that its parts fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from theory.sweeping.codes import (
    CODE_MEANINGS,
    CONTEXT_CODE_MEANINGS,
    GAIN_CODE_MEANINGS,
    NOT_COMPUTED,
    meanings,
)
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, injections_of

__all__ = ["STATISTICS", "TRANSITIONS", "Variable", "axes", "dataset", "empty", "sizes", "transitions_of", "variables"]

TRANSITIONS = ("share", "growth", "ratio")
"""What may turn as the gain grows."""

STATISTICS = {
    "log_norm": "ln ||J_L||",
    "log_growth": "ln ||J_L|| - ln ||J_l||, l = L // 2",
    "log_share": "ln of the earliest injection's share of ||J_L w||^2",
    "log_ratio": "ln sigma_2 / sigma_1 of J_L",
    "log_noise": "ln of J_L's part across u_L over its part along it",
}
"""Of each chain's J_L, whose medians the dataset holds."""

FRACTIONS = {
    "shared": "share is above its threshold",
    "grown": "growth is above its threshold",
    "collapsed": "sigma_2 / sigma_1 is below its threshold",
}

AXES = {
    "transition": ("what crosses its threshold", ""),
    "injection": ("injections B_l", ""),
    "gain": ("rho = sigma kappa", "1"),
    "alignment": ("kappa = |<v_l, u_{l-1}>|", "1"),
    "gap": ("xi = sigma_2 / sigma_1 of a layer", "1"),
    "strength": ("tau = ||F||, A = I + F", "1"),
    "persistence": ("omega, overlap of what two layers write", "1"),
    "rank": ("r of F", "1"),
    "depth": ("L", "layers"),
    "dimension": ("d", "1"),
}
RESIDUAL_ALIGNMENT = ("kappa, overlap of what F reads with what the layer before wrote", "1")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the dataset: its dimensions in order, what it is, its unit, and its codes where it holds codes."""

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    codes: dict[int, str] | None = None

    @property
    def attrs(self) -> dict[str, str]:
        if self.codes is not None:
            return {"long_name": self.long_name, "code_meanings": meanings(self.codes)}
        return {"long_name": self.long_name, "units": self.units}


def axes(spec: SweepSpec | ResidualSweepSpec) -> dict[str, list[Any]]:
    """Coordinate values by dimension, in the order of the dataset's dimensions."""
    names = (
        ("gain", "alignment", "gap", "depth", "dimension")
        if isinstance(spec, SweepSpec)
        else ("strength", "alignment", "persistence", "rank", "depth", "dimension")
    )
    head: dict[str, list[Any]] = {}
    if spec.injections:
        head = {"transition": list(transitions_of(spec)), "injection": [item.name for item in injections_of(spec)]}
    return head | {name: list(getattr(spec, name)) for name in names}


def transitions_of(spec: SweepSpec | ResidualSweepSpec) -> tuple[str, ...]:
    """Which transitions have critical values: all but the share of a residual sweep under its default threshold.

    By (T33) ||P_{L:k+1} x_k|| never falls with L - k for d -> infinity, nor does it for an injection across; so ||J_L
    w|| <= L ||P_{L:2} B_1 w||, the share is at least 1 / L^2 everywhere, and that threshold is not a boundary.
    """
    thresholds: Any = spec.thresholds
    if isinstance(spec, ResidualSweepSpec) and thresholds.share is None:
        return tuple(name for name in TRANSITIONS if name != "share")
    return TRANSITIONS


def sizes(spec: SweepSpec | ResidualSweepSpec) -> dict[str, int]:
    """Length of each dimension."""
    return {name: len(values) for name, values in axes(spec).items()}


def variables(spec: SweepSpec | ResidualSweepSpec) -> dict[str, Variable]:
    """Every variable the dataset of a specification holds."""
    return _flat(spec) if isinstance(spec, SweepSpec) else _residual(spec)


def _flat(spec: SweepSpec) -> dict[str, Variable]:
    chains = ("alignment", "gap", "depth", "dimension")
    point = ("gain", *chains)
    found: dict[str, Variable] = {}
    if "product" in spec.quantities:
        found |= {
            "log_norm": Variable(point, "mean of ln ||P_L||", "nat"),
            "log_norm_se": Variable(point, "standard error of log_norm", "nat"),
            "log_ratio": Variable(point, "mean of ln sigma_2 / sigma_1 of P_L", "nat"),
            "log_ratio_se": Variable(point, "standard error of log_ratio", "nat"),
            "code": Variable(point, "result code of the product", codes=CODE_MEANINGS),
            "grown": Variable(point, "fraction of chains with ln ||P_L|| > 0"),
        }
        found |= _critical("product_gain", chains, "gain where the median of ln ||P_L|| is 0")
        found |= {
            "product_width": Variable(chains, "standard deviation over chains of ln ||P_L|| / L", "nat per layer"),
            "product_width_se": Variable(chains, "standard error of product_width", "nat per layer"),
        }
        found |= _interval("log_ratio_median", chains, "median of ln sigma_2 / sigma_1 of P_L")
    if "early" in spec.quantities:
        what = "ln ||P_{L:2} u_1|| / (L - 1) at sigma = 1"
        found |= {
            "early_rate": Variable(chains, f"mean of {what}", "nat per layer"),
            "early_rate_se": Variable(chains, "standard error of early_rate", "nat per layer"),
            "early_width": Variable(chains, f"standard deviation over chains of {what}", "nat per layer"),
            "early_width_se": Variable(chains, "standard error of early_width", "nat per layer"),
        }
        found |= _critical("early_gain", chains, "gain where the median of ln ||P_{L:2} u_1|| is 0")
        found |= _interval("early_log_noise", chains, "median of ln q / p of P_{L:2} u_1")
    if spec.injections:
        found |= _context(("injection", *point))
        over = ("transition", "injection", *chains)
        found |= _critical("context_gain", over, "gain where the median of the transition's statistic crosses")
    return found


def _residual(spec: ResidualSweepSpec) -> dict[str, Variable]:
    chains = ("alignment", "persistence", "rank", "depth", "dimension")
    point = ("strength", *chains)
    every = ("injection", *point)
    found = _context(every)
    what = "ln ||P_{L:2} B_1 w||"
    growth = "(ln ||P_{L:2} B_1 w|| - ln ||B_1 w||) / (L - 1)"
    found |= _interval("early_log", every, f"median of {what}")
    found |= {
        "early_rate": Variable(every, f"mean of {growth}", "nat per layer"),
        "early_rate_se": Variable(every, "standard error of early_rate", "nat per layer"),
        "early_width": Variable(every, f"standard deviation over chains of {growth}", "nat per layer"),
    }
    predicted = ("strength", "alignment", "persistence", "rank", "dimension")
    found |= {
        "outlier_rate": Variable(predicted, "predicted growth a layer of what stands out of the bulk (T33)"),
        "pinned_rate": Variable(
            predicted, "root mean square of a layer's singular values but the first (T26); rank - 1 outliers are in it"
        ),
        "mean_square_rate": Variable(
            predicted, "growth a layer of the root mean square, exact at this dimension (T32)"
        ),
        "paper_gain": Variable(predicted, "rho = sigma kappa that the paper's rule reads off a layer"),
        "paper_alignment": Variable(predicted, "kappa of a layer's leading directions"),
        "paper_sigma": Variable(predicted, "sigma_1 of a layer"),
        "predicted_strength": Variable(
            predicted[1:3],
            "strength where the outlier's rate is 1 for d -> infinity (T33): critical_strength of"
            " theory.residual_rates, not theory.predicted_strength, which is of a depth and dimension",
        ),
        "paper_strength": Variable(predicted[1:4], "strength where the paper's rho is 1"),
    }
    over = ("transition", "injection", *chains)
    return found | _critical("critical_strength", over, "strength where the transition's statistic crosses")


def _context(dims: tuple[str, ...]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for name, text in STATISTICS.items():
        found |= _interval(f"context_{name}", dims, f"median over chains of {text}")
    for name, text in FRACTIONS.items():
        found[f"context_{name}"] = Variable(dims, f"fraction of chains whose {text}")
    found["context_code"] = Variable(dims, "result code of the context Jacobian", codes=CONTEXT_CODE_MEANINGS)
    return found


def _interval(name: str, dims: tuple[str, ...], text: str) -> dict[str, Variable]:
    return {
        name: Variable(dims, text, "nat"),
        f"{name}_low": Variable(dims, f"lower end of the interval of the {text}", "nat"),
        f"{name}_high": Variable(dims, f"upper end of the interval of the {text}", "nat"),
    }


def _critical(name: str, dims: tuple[str, ...], text: str) -> dict[str, Variable]:
    return {
        name: Variable(dims, text),
        f"{name}_low": Variable(dims, f"lower end of the interval of {name}"),
        f"{name}_high": Variable(dims, f"upper end of the interval of {name}"),
        f"{name}_code": Variable(dims, f"result code of {name}", codes=GAIN_CODE_MEANINGS),
    }


def empty(spec: SweepSpec | ResidualSweepSpec) -> dict[str, NDArray[Any]]:
    """An array for every variable: NaN, and codes that say "not computed"."""
    length = sizes(spec)
    found: dict[str, NDArray[Any]] = {}
    for name, variable in variables(spec).items():
        shape = tuple(length[dim] for dim in variable.dims)
        found[name] = np.full(shape, NOT_COMPUTED, np.int64) if variable.codes is not None else np.full(shape, np.nan)
    return found


def dataset(spec: SweepSpec | ResidualSweepSpec, arrays: dict[str, NDArray[Any]], attrs: dict[str, Any]) -> xr.Dataset:
    """The arrays with their names, units and coordinates."""
    coordinates = {}
    for name, values in axes(spec).items():
        text, units = AXES[name]
        if name == "alignment" and not isinstance(spec, SweepSpec):
            text, units = RESIDUAL_ALIGNMENT
        coordinates[name] = (name, values, {"long_name": text, **({"units": units} if units else {})})
    table = variables(spec)
    data = {name: (table[name].dims, array, table[name].attrs) for name, array in arrays.items()}
    return xr.Dataset(data, coords=coordinates, attrs=attrs)
