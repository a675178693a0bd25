"""The observed regime (O7) of one model x clip x condition x state, from measured operators alone.

Two questions are put to the measured context Jacobian: does what enters early arrive larger or smaller than what
enters late (growth g), and is J_L one direction (collapse c)? Nothing predicted is read here. Every threshold stands in
`Thresholds` and was fixed before anything was measured; `compare.sensitivity` shows what moving them would do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

UNDECIDED = "undecided"
ATTRACTOR = "attractor"
DISPERSIVE_GROWTH = "dispersive growth"
COHERENT_DECAY = "coherent decay"
DISPERSIVE_DECAY = "dispersive decay"
REGIMES = (ATTRACTOR, COHERENT_DECAY, DISPERSIVE_DECAY, DISPERSIVE_GROWTH)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where (O7) draws its lines. Fixed beforehand; never fitted to an outcome.

    Attributes:
        growth: g at or above this is growth, nats a layer.
        growth_level: coverage of the interval of g.
        share: share of ||J_L||_F^2 in the first direction from which J_L counts as one direction.
        share_errors: standard errors of the share within which it is too close to call: the two-sided 95 % quantile
            of Student's t with 7 degrees of freedom, since that error comes from the 8 Hutchinson probes of the
            Frobenius norm's remainder (`empirical.jacobians.krylov`), not from a variance that is known.
        null_quantile: quantile of the share under the null models that a collapse must exceed.
        null_draws: fewest null draws from which that quantile is taken.
    """

    growth: float = 0.0
    growth_level: float = 0.95
    share: float = 0.9
    share_errors: float = 2.36
    null_quantile: float = 0.95
    null_draws: int = 20


THRESHOLDS = Thresholds()

COLLAPSE_NULLS = ("random_weights", "shuffled_layers")
"""The null models that a collapse must be beyond, as (O7) fixed them; kinds that came later do not move it."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A least-squares slope with its t-interval; `code` says why there is none."""

    slope: float
    low: float
    high: float
    points: int
    code: str = "ok"


@dataclass(frozen=True, slots=True)
class NullShare:
    """Quantile of the share under the null models: the larger of the kinds', each from `draws` draws or more."""

    quantile: float
    draws: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One observed regime with everything it was decided on.

    Attributes:
        regime: one of REGIMES or "undecided".
        reason: why it is undecided, else "".
        margin: distance to the nearest line in log units (nats a layer for g, nats of noise ratio for the share),
            errors taken off; negative or NaN where undecided.
        growth: g with its interval, nats a layer (raw).
        growth_injection, growth_transmission: the two parts g is the sum of: the slope of ln ||B_l||, the injections'
            own size, and of ln (||P_{L:l+1} B_l|| / ||B_l||), what the propagators make of them. Only the second is
            growth or decay along depth. Without a slope where some ||B_l|| is not known.
        growth_scale_free: g with the propagators scaled by (O8).
        regime_scale_free, reason_scale_free: the classification under (O8).
        share, share_se: share of ||J_L||_F^2 in the first direction.
        share_trend: slope of that share over the layers, per layer.
        norm: measured ||J_L||; NaN unless converged.
        null: the null share it was held against, None if there is none.
    """

    regime: str
    reason: str
    margin: float
    growth: Slope
    growth_injection: Slope
    growth_transmission: Slope
    growth_scale_free: Slope
    regime_scale_free: str
    reason_scale_free: str
    share: float
    share_se: float
    share_trend: Slope
    norm: float
    null: NullShare | None


def slope(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> Slope:
    """Ordinary least squares of y on x, points weighted alike, with the t-interval of n - 2 degrees of freedom."""
    n = len(x)
    if n != len(y):
        raise ValueError(f"x and y must have one length; got {n} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Slope(np.nan, np.nan, np.nan, n, "non_finite")
    if n < 2 or np.ptp(x) == 0:
        return Slope(np.nan, np.nan, np.nan, n, "too_few_layers")
    dx = x - x.mean()
    value = float(dx @ (y - y.mean()) / (dx @ dx))
    if n < 3:
        return Slope(value, np.nan, np.nan, n, "too_few_layers")
    rest = (y - y.mean()) - value * dx
    half = float(_student(0.5 + level / 2, n - 2) * np.sqrt(rest @ rest / (n - 2) / (dx @ dx)))
    return Slope(value, value - half, value + half, n)


def growth(arrival: NDArray[np.float64], level: float = THRESHOLDS.growth_level) -> Slope:
    """g of (O7): slope of ln ||P_{L:l+1} B_l|| against L - l, nats a layer, with its interval.

    Args:
        arrival: shape (L,), what reaches the output from the injection at layers 1..L, >= 0.
        level: coverage of the interval.

    Returns:
        The slope; code "silent_layer" where an injection arrives with norm 0, "non_finite" where one is unknown.
    """
    arrival = np.asarray(arrival, dtype=np.float64)
    distance = np.arange(len(arrival) - 1, -1, -1, dtype=np.float64)
    if np.isfinite(arrival).all() and (arrival <= 0).any():
        return Slope(np.nan, np.nan, np.nan, len(arrival), "silent_layer")
    with np.errstate(divide="ignore", invalid="ignore"):
        return slope(distance, np.log(arrival), level)


def scale_free_arrival(arrival: NDArray[np.float64], hidden_rms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arrival with every propagator scaled as (O8) says: A_l ||h_{l-1}|| / ||h_l||, so P_{L:l+1} times r_l / r_L.

    The injections stay as they were measured. (Scaling them too, by 1 / r_l, would only divide every arrival by r_L
    and leave g as it is.)

    Args:
        arrival: shape (L,).
        hidden_rms: shape (L,), r.m.s. over positions of ||h_l||, l = 1..L, > 0.
    """
    return np.asarray(arrival, dtype=np.float64) * np.asarray(hidden_rms) / hidden_rms[-1]


@lru_cache(maxsize=1024)
def _student(probability: float, freedom: int) -> float:
    """Student's quantile; scipy takes longer for one than a whole fit does, and few are different."""
    return float(stats.t.ppf(probability, freedom))


def null_share(nulls: pd.DataFrame | None, thresholds: Thresholds = THRESHOLDS, **where: Any) -> NullShare | None:
    """Quantile of the last layer's share under the null models of one model and state.

    Args:
        nulls: rows of `empirical.nulls.measure_nulls`, or None.
        thresholds: the quantile and the fewest draws.
        where: column values to select (model, state).

    Returns:
        The larger quantile of the kinds of null in COLLAPSE_NULLS that have enough draws, None where none has.
    """
    if nulls is None or nulls.empty:
        return None
    rows = nulls[nulls["layer"] == nulls["layers"]]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    quantiles, draws = [], []
    for _, kind in rows[rows["null"].isin(COLLAPSE_NULLS)].groupby("null"):
        shares = kind["context_share"].to_numpy(dtype=np.float64)
        count = int(kind.loc[np.isfinite(shares), "draw"].nunique())
        if count >= thresholds.null_draws:
            quantiles.append(float(np.quantile(shares[np.isfinite(shares)], thresholds.null_quantile)))
            draws.append(count)
    return NullShare(max(quantiles), min(draws)) if quantiles else None


def transmission(arrival: NDArray[np.float64], injection: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the propagators after each layer make of its injection, ||P_{L:l+1} B_l|| / ||B_l||.

    Args:
        arrival: shape (L,), ||P_{L:l+1} B_l||, NaN where unknown.
        injection: shape (L,), ||B_l||, NaN where unknown.

    Returns:
        shape (L,), dimensionless; exactly 1 at l = L, where both are one measured number. NaN where either is unknown
        or the injection is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(injection > 0, arrival / injection, np.nan)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What (O7) reads of one measurement, before any threshold.

    Attributes:
        arrival: shape (L,), NaN where not converged.
        arrival_scale_free: the same with propagators scaled by (O8).
        injection: shape (L,), ||B_l|| itself; NaN where not converged, and in records made before it was measured.
        shares: shape (L,), share of the first direction of J_l.
        share, share_error: of J_L; NaN where the first triplet is not converged, infinite where no error is known.
        norm: ||J_L||; NaN unless converged.
    """

    arrival: NDArray[np.float64]
    arrival_scale_free: NDArray[np.float64]
    injection: NDArray[np.float64]
    shares: NDArray[np.float64]
    share: float
    share_error: float
    norm: float


def evidence(rows: pd.DataFrame) -> Evidence:
    """What the layers of one model x clip x condition x state show.

    Raises:
        ValueError: if the rows are not layers 1..L of one measurement.
    """
    rows = rows.sort_values("layer")
    layers = rows["layer"].to_numpy()
    if len(rows) == 0 or list(layers) != list(range(1, len(rows) + 1)):
        raise ValueError(f"rows must be layers 1..L, once each; got {list(layers)}")
    converged = np.asarray(rows["arrival_converged"], dtype=bool)
    arrival = np.where(converged, rows["arrival"].to_numpy(dtype=np.float64), np.nan)
    last = rows.iloc[-1]
    values, flags = np.atleast_1d(last["context_s"]), np.atleast_1d(last["converged"])
    known = len(values) > 0 and bool(flags[0]) and bool(np.isfinite(values[0]))
    return Evidence(
        arrival=arrival,
        arrival_scale_free=scale_free_arrival(arrival, rows["hidden_rms"].to_numpy(dtype=np.float64)),
        injection=rows.reindex(columns=["injection_norm"])["injection_norm"].to_numpy(dtype=np.float64),
        shares=rows["context_share"].to_numpy(dtype=np.float64),
        share=float(last["context_share"]) if known else float("nan"),
        share_error=_error(last["context_share_se"]),
        norm=float(values[0]) if known else float("nan"),
    )


def observe(
    rows: pd.DataFrame | Evidence, null: NullShare | None = None, thresholds: Thresholds = THRESHOLDS
) -> Observation:
    """Observed regime of one model x clip x condition x state (O7), raw and scale-free (O8).

    Args:
        rows: its layers, one row each, any order; or the evidence read from them.
        null: the share of the null models, None if they were not measured.
        thresholds: where the lines are.

    Raises:
        ValueError: if the rows are not layers 1..L of one measurement.
    """
    seen = rows if isinstance(rows, Evidence) else evidence(rows)
    raw = growth(seen.arrival, thresholds.growth_level)
    free = growth(seen.arrival_scale_free, thresholds.growth_level)
    layers = np.arange(1, len(seen.shares) + 1, dtype=np.float64)
    decided = _decide(raw, seen.share, seen.share_error, null, thresholds)
    decided_free = _decide(free, seen.share, seen.share_error, null, thresholds)
    return Observation(
        regime=decided[0],
        reason=decided[1],
        margin=decided[2],
        growth=raw,
        growth_injection=growth(seen.injection, thresholds.growth_level),
        growth_transmission=growth(transmission(seen.arrival, seen.injection), thresholds.growth_level),
        growth_scale_free=free,
        regime_scale_free=decided_free[0],
        reason_scale_free=decided_free[1],
        share=seen.share,
        share_se=seen.share_error,
        share_trend=slope(layers, seen.shares, thresholds.growth_level),
        norm=seen.norm,
        null=null,
    )


def _error(value: Any) -> float:
    """Standard error of the share: 0 where the record says exact, infinite where it says nothing."""
    error = float(value)
    return error if np.isfinite(error) else float("inf")


def noise_ratio(share: float) -> float:
    """sqrt((1 - share) / share): what is not the first direction, relative to it (1/3 at a share of 0.9)."""
    return float(np.sqrt((1.0 - share) / share))


def share_at(ratio: float) -> float:
    """The share whose noise ratio this is."""
    return float(1.0 / (1.0 + ratio**2))


def _collapse(share: float, error: float, null: NullShare | None, limits: Thresholds) -> tuple[bool | None, str, float]:
    """Whether J_L is one direction, why it cannot be said, and the margin in nats of noise ratio."""
    if not np.isfinite(share):
        return None, "first singular triplet of J_L not converged", float("nan")
    slack = limits.share_errors * error
    if abs(share - limits.share) <= slack:
        return None, "share within its error of the threshold", -abs(slack)
    margin = _log_distance(share, limits.share, slack)
    if share < limits.share:
        return False, "", margin
    if null is None:
        return None, f"share above the threshold but no null: {limits.null_draws} draws needed", float("nan")
    if abs(share - null.quantile) <= slack:
        return None, "share within its error of the null models' quantile", -abs(slack)
    beyond = _log_distance(share, null.quantile, slack)
    return (True, "", min(margin, beyond)) if share > null.quantile else (False, "", beyond)


def _log_distance(share: float, line: float, slack: float) -> float:
    """Distance of a share from a line in nats of noise ratio, its error taken off."""
    edge = share - slack if share > line else share + slack
    floor = np.finfo(np.float64).eps
    edge, line = min(max(edge, floor), 1.0 - floor), min(max(line, floor), 1.0 - floor)
    return float(abs(np.log(noise_ratio(edge)) - np.log(noise_ratio(line))))


def _decide(g: Slope, share: float, error: float, null: NullShare | None, limits: Thresholds) -> tuple[str, str, float]:
    collapsed, why, collapse_margin = _collapse(share, error, null, limits)
    reasons = [why] if why else []
    if g.code != "ok":
        reasons.append(
            {
                "non_finite": "an arrival norm is not converged",
                "silent_layer": "an injection arrives with norm 0",
                "too_few_layers": f"{g.points} layers give no interval of the growth",
            }[g.code]
        )
        growth_margin = float("nan")
    else:
        growth_margin = max(g.low - limits.growth, limits.growth - g.high)
        if g.low < limits.growth <= g.high:
            reasons.append("interval of the growth contains 0")
    if reasons:
        return UNDECIDED, "; ".join(reasons), float(min(growth_margin, collapse_margin))
    if g.low >= limits.growth:
        regime = ATTRACTOR if collapsed else DISPERSIVE_GROWTH
    else:
        regime = COHERENT_DECAY if collapsed else DISPERSIVE_DECAY
    return regime, "", float(min(growth_margin, collapse_margin))


def moved(thresholds: Thresholds = THRESHOLDS) -> dict[str, Thresholds]:
    """Each threshold halved and doubled, by name, for the sensitivity table.

    The share is moved through its noise ratio (1/3 becomes 1/6 or 2/3: shares of 0.973 and 0.692), the null quantile
    through its tail, the interval of g through the probability it leaves out; g's line itself, 0, has no half, and
    is shifted by ln 2 / 8 nats a layer either way (a doubling over eight layers).
    """
    ratio = noise_ratio(thresholds.share)
    tail, miss = 1.0 - thresholds.null_quantile, 1.0 - thresholds.growth_level
    shift = float(np.log(2.0) / 8.0)
    return {
        "as fixed": thresholds,
        "noise ratio halved": replace(thresholds, share=share_at(ratio / 2)),
        "noise ratio doubled": replace(thresholds, share=share_at(ratio * 2)),
        "growth line lowered": replace(thresholds, growth=thresholds.growth - shift),
        "growth line raised": replace(thresholds, growth=thresholds.growth + shift),
        "error probability of g halved": replace(thresholds, growth_level=1.0 - miss / 2),
        "error probability of g doubled": replace(thresholds, growth_level=1.0 - miss * 2),
        "share errors halved": replace(thresholds, share_errors=thresholds.share_errors / 2),
        "share errors doubled": replace(thresholds, share_errors=thresholds.share_errors * 2),
        "null tail halved": replace(thresholds, null_quantile=1.0 - tail / 2),
        "null tail doubled": replace(thresholds, null_quantile=1.0 - tail * 2),
        "null draws halved": replace(thresholds, null_draws=thresholds.null_draws // 2),
        "null draws doubled": replace(thresholds, null_draws=thresholds.null_draws * 2),
    }
