"""Verdicts on the width of the crossover: T21 and T34, over all of a sweep and over its large and deep part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from theory.phase.finite_size import EXPONENT_TOLERANCE, WIDTH_TOLERANCE, crossover_widths, finite_size
from theory.phase.judging import Verdict, judge

__all__ = [
    "ASYMPTOTIC_DIMENSION",
    "MEMORIES",
    "SIDES",
    "chains_of",
    "memories",
    "quantile",
    "side_of",
    "width_verdicts",
]

ASYMPTOTIC_DIMENSION = 1000
"""d from which a scope is called large."""

MEMORIES = (5.0, 100.0)
"""Depths from which a scope is called deep, in units of 1 / |ln(kappa^2 / xi^2)|, in which q / p forgets its start. The
second was added after a trial with 256 chains had shown how slowly (T21) is reached: its error falls like 1 / L."""

Phase = Literal["attractor", "dispersive", "critical"]
SIDES: dict[Phase, str] = {"attractor": "kappa > xi", "dispersive": "kappa < xi", "critical": "kappa = xi"}


def chains_of(dataset: xr.Dataset) -> int:
    """Chains a cell of a sweep."""
    return int(dataset.attrs["seeds"])


def quantile(level: float) -> float:
    """Half-width of a normal interval of this level, in standard errors."""
    return float(stats.norm.ppf((1 + level) / 2))


def side_of(kappa: NDArray[Any], xi: NDArray[Any], phase: Phase) -> NDArray[np.bool_]:
    """Cells on one side of the mean field's split."""
    return {"attractor": kappa > xi, "dispersive": kappa < xi, "critical": kappa == xi}[phase]


def memories(kappa: NDArray[Any], xi: NDArray[Any], depth: Any) -> NDArray[np.float64]:
    """Depth in units of the layers in which q / p forgets where it started."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return depth * 2 * np.abs(np.log(kappa) - np.log(xi))


def width_verdicts(dataset: xr.Dataset, quantity: Literal["early", "product"], level: float) -> Iterator[Verdict]:
    """(T21) and (T34) by the widths of `crossover_widths`, and (T21) by its exponents; rules in `verdicts`."""
    table = crossover_widths(dataset, quantity)
    kappa, xi = table["alignment"].to_numpy(), table["gap"].to_numpy()
    large = table["dimension"].to_numpy() >= ASYMPTOTIC_DIMENSION
    held = memories(kappa, xi, table["depth"].to_numpy())
    error = table["log_se"].to_numpy()
    what = f"width of ln ||P{'_{L:2} u_1' if quantity == 'early' else '_L'}|| / L"
    common: dict[str, Any] = {"tolerance": WIDTH_TOLERANCE, "unit": "ln of a factor", "chains": chains_of(dataset)}
    big = f"d >= {ASYMPTOTIC_DIMENSION}"
    for phase, words in SIDES.items():
        side = side_of(kappa, xi, phase)
        if not side.any():
            continue
        scopes = {f"{words}, all L and d": side, f"{words}, {big}": side & large}
        if phase != "critical":  # where nothing is ever forgotten
            scopes |= {f"{words}, {big}, L >= {n:g} memories": side & large & (held >= n) for n in MEMORIES}
        for scope, mask in _different(scopes).items():
            for tag in ("T21", "T34") if phase == "attractor" else ("T34",):
                away = table[f"log_{tag.lower()}"].to_numpy()
                yield judge(tag, f"{what} as predicted", scope, away[mask], error[mask], level=level, **common)
    yield from _exponents(dataset, quantity, level)


def _different(scopes: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """The scopes without those that hold the same cells as one before."""
    found: dict[str, NDArray[np.bool_]] = {}
    for name, mask in scopes.items():
        if not any((mask == other).all() for other in found.values()):
            found[name] = mask
    return found


def _exponents(dataset: xr.Dataset, quantity: Literal["early", "product"], level: float) -> Iterator[Verdict]:
    """(T21)'s exponents, where kappa > xi, and (T34)'s, on both sides, over everything and over the large and deep.

    Those of (T34) are fitted to its own widths at the same points: where kappa < xi they tend to -1/2 in L and -1 in
    d - 1, but only for L beyond d. The intervals are of sampling alone.
    """
    depth, dimension = dataset["depth"].to_numpy(), dataset["dimension"].to_numpy()
    scopes = {"all L and d": (2, 2)}
    large = dimension >= ASYMPTOTIC_DIMENSION
    deeper = np.sort(depth)[-min(4, depth.size) :]
    less = not large.all() or deeper.size < depth.size
    if large.sum() >= 2 and deeper.size >= 2 and less:
        scopes[f"d >= {ASYMPTOTIC_DIMENSION}, L >= {deeper[0]}"] = (int(deeper[0]), ASYMPTOTIC_DIMENSION)
    for scope, (least_depth, least_dimension) in scopes.items():
        frame = finite_size(dataset, quantity, least_depth=least_depth, least_dimension=least_dimension)
        if frame.empty:
            continue
        for phase, words in SIDES.items():
            part = frame[frame["phase"] == phase]
            if phase == "critical" or part.empty:
                continue
            for name, label in (("exponent_depth", "L"), ("exponent_dimension", "(d - 1)")):
                laws: dict[str, tuple[Any, str]] = {}
                if phase == "attractor":
                    laws["T21"] = (-0.5, f"falls like {label}^(-1/2)")
                laws["T34"] = (part[f"{name}_t34"].to_numpy(), f"falls with {label} as T34's at the same points")
                for tag, (law, how) in laws.items():
                    yield judge(
                        tag,
                        f"{quantity} width {how}",
                        f"{words}, {scope}",
                        part[name].to_numpy() - law,
                        part[f"{name}_se"].to_numpy(),
                        tolerance=EXPONENT_TOLERANCE,
                        unit="exponent",
                        chains=chains_of(dataset),
                        level=level,
                    )
