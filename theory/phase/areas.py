"""Areas of the phase map in (ln gain, alignment): what is certified, what typical chains decide, what is misjudged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from theory._checks import unit_interval
from theory.bounds.rates import critical_alignment, max_rate, min_rate
from theory.phase.critical import predicted_gain
from theory.phase.fields import FRACTIONS, boundaries, cell_name

__all__ = ["CertifiedAreas", "certified_areas", "misjudged_areas", "resolved_areas"]

RESOLVED = 0.95
"""Fraction of a cell's chains on one side from which that side counts as the typical chains' decision."""


@dataclass(frozen=True, slots=True)
class CertifiedAreas:
    """Areas of a box of the plane (ln gain, alignment) at one gap, in nats (times the dimensionless alignment).

    Attributes:
        certified_I: sigma Lambda_max < 1 (T13).
        certified_II: kappa > kappa_c and sigma Lambda_min > 1 (T9).
        coexistence: the rest (T14).
        uncertified_decay: the part of rho < 1, which the paper calls Regime I, that lies in the coexistence part. Over
            all gains below 1 and all alignments it is 2 sqrt(xi) / (1 + sqrt(xi)).
        total: of the box.
    """

    certified_I: float
    certified_II: float
    coexistence: float
    uncertified_decay: float
    total: float


def certified_areas(
    gap: float, gains: tuple[float, float] = (0.25, 4.0), alignments: tuple[float, float] = (0.0, 1.0)
) -> CertifiedAreas:
    """Areas of the three parts of (T14), in closed form.

    With rho = sigma kappa the parts end at rho = kappa / Lambda. As kappa = (Lambda -+ xi / Lambda) / (1 -+ xi) on the
    two curves, ln(kappa / Lambda) has the antiderivative kappa ln(kappa / Lambda) - kappa + (Lambda +- xi / Lambda) /
    (1 -+ xi); where a curve leaves the box, kappa^2 = xi g^2 / (1 - g (1 - xi)) and xi g^2 / (g (1 + xi) - 1).

    Args:
        gap: xi, dimensionless, in [0, 1].
        gains: of the box, positive, ascending, finite.
        alignments: of the box, ascending, in [0, 1].

    Raises:
        ValueError: if an argument leaves its range.
    """
    xi = float(unit_interval(gap, "gap"))
    low, high = float(gains[0]), float(gains[1])
    if not 0 < low < high < math.inf:
        raise ValueError(f"gains must be positive, finite and ascending; got {gains!r}")
    left, right = (float(x) for x in unit_interval(np.asarray(alignments, dtype=np.float64), "alignments"))
    if not left < right:
        raise ValueError(f"alignments must be ascending; got {alignments!r}")
    height, width = math.log(high / low), right - left

    def below_fast(top: float) -> float:
        """Area between the gain `low` and the lesser of `top` and the curve of Regime I, which ascends."""
        ends = [min(max(_leaves_fast(g, xi), left), right) for g in (low, top)]
        curve = _area_fast(ends[1], xi) - _area_fast(ends[0], xi) - (ends[1] - ends[0]) * math.log(low)
        return curve + (right - ends[1]) * math.log(top / low)

    # The curve of Regime II descends from 2 / (1 + xi) at kappa_c to 1.
    start = max(left, float(critical_alignment(xi)))
    ends = [min(max(_leaves_slow(g, xi, start), start), right) if start < right else start for g in (high, low)]
    two = 0.0
    if start < right:
        two = (ends[1] - ends[0]) * math.log(high) - (_area_slow(ends[1], xi) - _area_slow(ends[0], xi))
        two += (right - ends[1]) * height
    one, total = below_fast(high), height * width
    # Regime I ends at gain 1 or below, so that all of it is part of rho < 1.
    uncertified = max(math.log(min(high, 1.0) / low), 0.0) * width - below_fast(min(high, 1.0)) if low < 1 else 0.0
    return CertifiedAreas(one, two, total - one - two, uncertified, total)


def _area_fast(kappa: float, xi: float) -> float:
    """An antiderivative of ln(kappa / Lambda_max); the constant 2 sqrt(xi) / (1 - xi) is taken out for xi near 1."""
    ratio = kappa * math.log(kappa / float(max_rate(kappa, xi))) if kappa > 0 else 0.0
    root = math.sqrt((kappa * (1 - xi)) ** 2 + 4 * xi) + 2 * math.sqrt(xi)
    return ratio - kappa + (kappa * kappa * (1 - xi) / root if root > 0 else 0.0)


def _area_slow(kappa: float, xi: float) -> float:
    rate = float(min_rate(kappa, xi))
    return (
        (kappa * math.log(kappa / rate) if kappa > 0 else 0.0) - kappa + (rate - (xi / rate if xi else 0.0)) / (1 + xi)
    )


def _leaves_fast(gain: float, xi: float) -> float:
    """Alignment at which kappa / Lambda_max is `gain`."""
    if gain >= 1:
        return 1.0
    return math.sqrt(xi) * gain / math.sqrt(1 - gain * (1 - xi))


def _leaves_slow(gain: float, xi: float, start: float) -> float:
    """Alignment at which kappa / Lambda_min is `gain`: `start` where that lies above the curve, 1 where below."""
    if gain <= 1:
        return 1.0
    if gain * (1 + xi) >= 2:
        return start
    return math.sqrt(xi) * gain / math.sqrt(gain * (1 + xi) - 1)


def _node_lengths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length that each node of an ascending grid stands for: half-way to its neighbours (trapezoid weights)."""
    if values.size == 1:
        return np.ones(1)
    edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
    return np.diff(edges)


def resolved_areas(dataset: xr.Dataset, level: float = RESOLVED) -> pd.DataFrame:
    """The fraction of the coexistence part in which typical chains decide: `level` of a cell's chains on one side.

    The fraction is the sample's: of n chains, a cell whose true fraction is near the level goes either way.

    Args:
        dataset: of `theory.sweep`, with product or injections; its grids ascending.
        level: fraction of the chains, in (0.5, 1].

    Returns:
        One row for each quantity ("product", "share", "growth", "ratio"), injection ("" for the product), gap, depth
        and dimension: coexistence (area of its cells, nat), resolved, above, below (fractions of it), undecided,
        undefined (cells without a number), chains (a cell). Areas are sums over grid nodes, weighted by the trapezoid
        rule: they err by a grid step along the parts' edges.

    Raises:
        ValueError: if level leaves its range or the dataset has neither quantity.
    """
    if not 0.5 < level <= 1:
        raise ValueError(f"level must lie in (0.5, 1]; got {level!r}")
    gain, alignment = dataset["gain"].to_numpy(), dataset["alignment"].to_numpy()
    if (np.diff(gain) <= 0).any() or (np.diff(alignment) <= 0).any() or gain[0] <= 0:
        raise ValueError("the grids of gain and alignment must ascend, from a positive gain")
    weight = _node_lengths(np.log(gain))[:, None] * _node_lengths(alignment)
    rows: list[dict[str, Any]] = []
    for quantity, name in FRACTIONS.items():
        if name not in dataset:
            continue
        field = dataset[name]
        others = [d for d in ("injection", "gap", "depth", "dimension") if d in field.dims]
        for index in np.ndindex(*(field.sizes[d] for d in others)):
            cell = field.isel(dict(zip(others, index, strict=True)))
            fraction = cell.transpose("gain", "alignment").to_numpy()
            inside = _coexistence(gain, alignment, float(cell["gap"]))
            area = float(weight[inside].sum())
            parts = {
                "above": inside & (fraction >= level),
                "below": inside & (fraction <= 1 - level),
                "undefined": inside & np.isnan(fraction),
            }
            shares = {key: _share(weight, mask, area) for key, mask in parts.items()}
            rows.append(
                {"quantity": quantity}
                | cell_name(cell)
                | {"coexistence": area, "resolved": shares["above"] + shares["below"]}
                | shares
                | {"undecided": 1 - sum(shares.values()), "chains": int(dataset.attrs["seeds"])}
            )
    if not rows:
        raise ValueError(
            f"dataset must hold one of {sorted(FRACTIONS.values())}; got {sorted(map(str, dataset.data_vars))}"
        )
    return pd.DataFrame(rows)


def _share(weight: NDArray[np.float64], mask: NDArray[np.bool_], area: float) -> float:
    return float(weight[mask].sum()) / area if area > 0 else math.nan


def _coexistence(gain: NDArray[np.float64], alignment: NDArray[np.float64], gap: float) -> NDArray[np.bool_]:
    """Whether each node of (gain, alignment) lies in the coexistence part."""
    curves = predicted_gain(alignment, gap)
    rho = gain[:, None]
    with np.errstate(invalid="ignore"):  # no Regime II below kappa_c: NaN compares false
        return ~(rho < curves["certified_I"]) & ~(rho > curves["certified_II"])


def misjudged_areas(dataset: xr.Dataset) -> pd.DataFrame:
    """Area between a predicted boundary and the measured one, in nats times alignment, over the box of the dataset.

    Args:
        dataset: of `theory.sweep`, with product or injections.

    Returns:
        One row for each rule ("paper": rho = 1; "mean_field": T18), quantity, injection, gap, depth and dimension: area
        with low and high (distances from the pointwise intervals of the boundary, integrated: wider than an interval of
        the area), missed_growth (it grows where the rule says decay), missed_decay, fraction of the box, and defined,
        the fraction of the alignments at which the boundary is known. A boundary outside the box is taken at its edge;
        a statistic that only falls through its threshold (code 6) has none.
    """
    gain, alignment = dataset["gain"].to_numpy(), dataset["alignment"].to_numpy()
    bottom, top = math.log(float(gain[0])), math.log(float(gain[-1]))
    weight = _node_lengths(alignment)
    rows: list[dict[str, Any]] = []
    for quantity, cell in boundaries(dataset):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.stack([cell[part].to_numpy() for part in ("gain", "low", "high")]))
        code = cell["code"].to_numpy()
        logs[0] = np.where(code == 1, top, np.where(code == 2, bottom, logs[0]))
        measured, low, high = np.clip(logs, bottom, top)
        known = ~np.isnan(measured)
        curves = predicted_gain(alignment, float(cell["gap"]))
        for rule in ("paper", "mean_field"):
            with np.errstate(divide="ignore"):
                line = np.clip(np.log(curves[rule]), bottom, top)
            use = known & ~np.isnan(line)
            away = np.abs(measured - line)
            # The ends of a crossing's interval may be unknown where the crossing itself is: then it is a point.
            ends = np.stack([np.where(np.isnan(end), measured, end) for end in (low, high)])
            inside = (ends[0] <= line) & (line <= ends[1])
            near = np.where(inside, 0.0, np.abs(ends - line).min(axis=0))
            far = np.abs(ends - line).max(axis=0)
            sums = {
                key: float((weight * value)[use].sum()) for key, value in (("area", away), ("low", near), ("high", far))
            }
            rows.append(
                {"rule": rule, "quantity": quantity}
                | cell_name(cell)
                | sums
                | {
                    "missed_growth": float((weight * away)[use & (measured < line)].sum()),
                    "missed_decay": float((weight * away)[use & (measured > line)].sum()),
                    "fraction": sums["area"] / ((top - bottom) * float(weight.sum())),
                    "defined": float(weight[use].sum() / weight.sum()),
                    "chains": int(dataset.attrs["seeds"]),
                }
            )
    return pd.DataFrame(rows)
