"""Width of the crossover against depth and dimension: data collapse, fitted exponents, and how T21 and T34 fare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from theory.phase.early_moments import early_moments
from theory.phase.judging import judge
from theory.phase.limit_product import limit_product
from theory.regimes.typical import crossover_width

__all__ = ["EXPONENT_TOLERANCE", "WIDTH_TOLERANCE", "ExponentFit", "crossover_widths", "finite_size", "fit_exponents"]

EXPONENT_TOLERANCE = 0.05
"""How far a fitted exponent may lie from -1/2 and still count as (T21)'s."""

WIDTH_TOLERANCE = float(np.log(1.1))
"""How far ln(width / predicted) may lie from 0 and still count as predicted: a factor of 1.1."""


@dataclass(frozen=True, slots=True)
class ExponentFit:
    """ln width = constant + depth ln L + dimension ln(d - 1), with intervals of one level each.

    Attributes:
        depth: exponent of L, with its standard error depth_se, depth_low and depth_high.
        dimension: exponent of d - 1, with dimension_se, dimension_low and dimension_high.
        lack_of_fit: weighted sum of squared residuals over what the widths' own errors explain: 1 where the power law
            describes the data. Errors and intervals are those of sampling alone, whatever it is: beyond 1 the exponents
            are the mean slopes over these points, and the intervals are of those.
        points: number of (L, d).
    """

    depth: float
    depth_se: float
    depth_low: float
    depth_high: float
    dimension: float
    dimension_se: float
    dimension_low: float
    dimension_high: float
    lack_of_fit: float
    points: int


def crossover_widths(dataset: xr.Dataset, quantity: Literal["early", "product"] = "early") -> pd.DataFrame:
    """Measured widths of (1 / L) ln ||P|| beside those of (T21) and (T34), a row for each cell, L >= 2.

    Args:
        dataset: of `theory.sweep` with that quantity.
        quantity: "early" follows ||P_{L:2} u_1||, what an early injection along u_1 becomes; "product" ||P_L||.

    Returns:
        alignment, gap, depth, dimension, width, width_se, t21 (inf where kappa <= xi), t34 (`early_moments`, or
        `limit_product` to first order in 1 / sqrt(d - 1)), log_t21 and log_t34 (ln of the width over each), log_se
        (standard error of ln width), chains. Cells without a width (aligned chains, one chain) are left out.

    Raises:
        ValueError: if the dataset lacks the quantity.
    """
    name = f"{quantity}_width"
    if name not in dataset:
        raise ValueError(f"dataset must hold {name}; got {sorted(map(str, dataset.data_vars))}")
    dims = ("alignment", "gap", "depth", "dimension")
    width, se = (dataset[key].transpose(*dims).to_numpy() for key in (name, f"{name}_se"))
    grids = np.meshgrid(*(dataset[d].to_numpy() for d in dims), indexing="ij")
    kappa, xi, depth, dimension = grids
    if quantity == "early":  # the sweep divides by the L - 1 layers after the first
        width, se = width * (depth - 1) / depth, se * (depth - 1) / depth
    depths = dataset["depth"].to_numpy()
    if quantity == "early":
        moments = early_moments(kappa[:, :, 0], xi[:, :, 0], depths, dimension[:, :, 0])
        t34 = np.moveaxis(moments.log_deviation, 0, 2) / depth
    else:
        limit = np.empty(kappa.shape[:3])
        for index in np.ndindex(*limit.shape):
            one, other, layers = (grid[index][0] for grid in (kappa, xi, depth))
            limit[index] = limit_product(float(one), float(other), int(layers)).deviation
        t34 = limit[..., None] / np.sqrt(dimension - 1) / depth
    with np.errstate(divide="ignore", invalid="ignore"):
        t21 = crossover_width(kappa, xi, depth, dimension)
        table = {
            "alignment": kappa,
            "gap": xi,
            "depth": depth,
            "dimension": dimension,
            "width": width,
            "width_se": se,
            "t21": t21,
            "t34": t34,
            "log_t21": np.where(np.isfinite(t21), np.log(width / t21), np.nan),
            "log_t34": np.log(width / t34),
            "log_se": se / width,
        }
    frame = pd.DataFrame({key: value.ravel() for key, value in table.items()})
    frame["chains"] = int(dataset.attrs["seeds"])
    # Where (T34) is 0, as after one layer from u_1, the norm is not random: what is measured is rounding.
    use = (
        (frame["t34"] != 0)
        & (frame["width"] > 0)
        & (frame["width_se"] > 0)
        & (frame["depth"] >= 2)
        & (frame["dimension"] >= 2)
    )
    return frame[use].reset_index(drop=True)


def fit_exponents(
    depth: NDArray[Any],
    dimension: NDArray[Any],
    width: NDArray[np.float64],
    width_se: NDArray[np.float64],
    *,
    shared: bool = True,
    level: float = 0.95,
) -> ExponentFit:
    """Exponents of the width in L and d - 1, by weighted least squares on logarithms.

    The widths' own errors are propagated with their correlations: where one chain serves all depths, sums over L_1 <
    L_2 layers with independent steps share the first L_1, their squares correlate by (L_1 / L_2), and so do the errors
    of their sample variances. Different dimensions have independent chains. What the power law leaves beyond these
    errors is curvature, no noise (T34): it is given as `lack_of_fit`, and not mixed into the intervals.

    Args:
        depth, dimension, width, width_se: of each point, shape (n,).
        shared: whether one chain serves all depths, as in sweeps of "early"; those of "product" draw each depth anew.
        level: of the intervals, normal ones, as the errors are given.

    Raises:
        ValueError: if there are fewer than four points, or a single depth or dimension.
    """
    ln_depth, ln_dimension = np.log(depth.astype(np.float64)), np.log(dimension.astype(np.float64) - 1)
    if width.size < 4 or np.ptp(ln_depth) == 0 or np.ptp(ln_dimension) == 0:
        raise ValueError(f"points must be at least 4, over two depths and two dimensions; got {width.size}")
    y, error = np.log(width), width_se / width
    # Centred columns: the constant then does not mix with the exponents.
    design = np.stack([np.ones(y.size), ln_depth - ln_depth.mean(), ln_dimension - ln_dimension.mean()], axis=1)
    weight = 1 / error**2
    solve = np.linalg.solve(design.T @ (weight[:, None] * design), design.T * weight)
    estimate = solve @ y
    common = np.minimum.outer(depth, depth) / np.maximum.outer(depth, depth) if shared else np.eye(depth.size)
    covariance = np.where(np.equal.outer(dimension, dimension), common, 0.0) * np.outer(error, error)
    hat = np.eye(y.size) - design @ solve
    residual = hat @ y
    explained = float(np.sum(weight * np.einsum("ij,jk,ik->i", hat, covariance, hat)))
    lack = float(weight @ residual**2) / explained
    spread = np.sqrt(np.diag(solve @ covariance @ solve.T))
    half = stats.norm.ppf((1 + level) / 2) * spread
    ends = [
        (float(estimate[i]), float(spread[i]), float(estimate[i] - half[i]), float(estimate[i] + half[i]))
        for i in (1, 2)
    ]
    return ExponentFit(*ends[0], *ends[1], lack, y.size)


def finite_size(
    dataset: xr.Dataset,
    quantity: Literal["early", "product"] = "early",
    *,
    least_depth: int = 2,
    least_dimension: int = 2,
    level: float = 0.95,
) -> pd.DataFrame:
    """The data collapse of each (alignment, gap): fitted exponents, and how far T21 and T34 are from the widths.

    The rules: (T21)'s exponents are supported where both sampling intervals lie within EXPONENT_TOLERANCE of -1/2,
    refuted where one lies outside, and not tested where kappa <= xi, where (T21) is infinite; its widths, and (T34)'s,
    by `judge` with a factor of 1.1 at every (L, d). The tolerances are older than the data; that the intervals are of
    sampling alone, no more of the misfit, is a correction after them.

    Args:
        dataset: of `theory.sweep` with that quantity, over at least two depths and two dimensions.
        quantity: as in `crossover_widths`.
        least_depth, least_dimension: the range that is judged begins there.
        level: of each interval; the widths' hold at all (L, d) of a row together.

    Returns:
        A row for each (alignment, gap): phase ("attractor", "dispersive" or "critical", by kappa against xi), the
        fields of `ExponentFit` under exponent_*, exponent_depth_t34 and exponent_dimension_t34 (of (T34)'s widths at
        the same points with the same weights: what curvature makes of them), factor_t21_min and _max (width / T21 over
        the points), spread_t21 (r.m.s. of ln width / T21 about its mean: 0 for a perfect collapse), the same three of
        t34, spread_expected (what sampling makes of it), verdict_exponents, verdict_t21, verdict_t34, chains.

    Raises:
        ValueError: if the dataset lacks the quantity.
    """
    widths = crossover_widths(dataset, quantity)
    widths = widths[(widths["depth"] >= least_depth) & (widths["dimension"] >= least_dimension)]
    rows: list[dict[str, Any]] = []
    for _, cell in widths.groupby(["alignment", "gap"], sort=True):
        kappa, xi = float(cell["alignment"].iloc[0]), float(cell["gap"].iloc[0])
        columns = {key: cell[key].to_numpy() for key in ("depth", "dimension", "width", "width_se")}
        row: dict[str, Any] = {"alignment": kappa, "gap": xi, "phase": phase_of(kappa, xi)}
        try:
            fit = fit_exponents(**columns, shared=quantity == "early", level=level)
        except ValueError:
            continue  # a single depth or dimension has no exponent
        row |= {f"exponent_{key}": getattr(fit, key) for key in fit.__slots__ if key not in ("lack_of_fit", "points")}
        row |= {"lack_of_fit": fit.lack_of_fit, "points": fit.points}
        error = cell["log_se"].to_numpy()
        row |= _exponents_of_t34(cell)
        for name in ("t21", "t34"):
            away = cell[f"log_{name}"].to_numpy()
            factor = np.exp(away)
            row |= {
                f"factor_{name}_min": factor.min(),
                f"factor_{name}_max": factor.max(),
                f"spread_{name}": away.std(),
            }
            found = judge(name, "", "", away, error, tolerance=WIDTH_TOLERANCE, unit="", chains=0, level=level)
            row[f"verdict_{name}"] = found.verdict
        row["spread_expected"] = float(np.sqrt(np.mean(error**2)))
        ends = np.array([[fit.depth_low, fit.depth_high], [fit.dimension_low, fit.dimension_high]]) + 0.5
        outside = (ends[:, 0] > EXPONENT_TOLERANCE) | (ends[:, 1] < -EXPONENT_TOLERANCE)
        within = (np.abs(ends) <= EXPONENT_TOLERANCE).all()
        row["verdict_exponents"] = "refuted" if outside.any() else "supported" if within else "unresolved"
        if kappa <= xi:
            row["verdict_exponents"] = "not tested"
        rows.append(row | {"chains": int(cell["chains"].iloc[0])})
    return pd.DataFrame(rows)


def _exponents_of_t34(cell: pd.DataFrame) -> dict[str, float]:
    """Exponents of (T34)'s widths at the points of a cell, weighted as the measured ones; NaN where it has none."""
    depth, dimension, law, error = (cell[key].to_numpy() for key in ("depth", "dimension", "t34", "log_se"))
    names = ("exponent_depth_t34", "exponent_dimension_t34")
    if not (np.isfinite(law) & (law > 0)).all():
        return dict.fromkeys(names, float("nan"))
    fit = fit_exponents(depth, dimension, law, law * error)
    return dict(zip(names, (fit.depth, fit.dimension), strict=True))


def phase_of(alignment: float, gap: float) -> str:
    """Which side of the mean field's split a cell lies on (T18)."""
    if alignment == gap:
        return "critical"
    return "attractor" if alignment > gap else "dispersive"
