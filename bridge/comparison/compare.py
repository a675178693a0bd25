"""Predicted against observed: what ChainParameters say a model would do, beside what its context Jacobian did.

The predictions come from `theory` and read per-layer numbers only; the observation comes from `regimes` and
reads the measured operators only. Neither is ever tuned on the other (O7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import theory
from bridge.comparison import regimes
from bridge.comparison.regimes import THRESHOLDS, Thresholds
from observables import ChainParameters
from theory.regimes.thresholds import PINNED_LOG_GROWTH

KEYS = ["model", "clip", "condition", "state"]
PREDICTORS = ("paper", "certificate", "mean_field")
PREDICTOR_TITLES = {"paper": "paper's rule", "certificate": "certificate", "mean_field": "mean field"}
# The bulk neither decays nor grows (T26) while the whole depth changes ln norm by less than this.
PINNED_LOG_CHANGE = PINNED_LOG_GROWTH

_TEXTS = ("observed", "reason", "observed_scale_free", "reason_scale_free", "prediction_reason")
_NUMBERS = (
    *("layers", "observed_margin", "growth", "growth_low", "growth_high", "growth_injection", "growth_transmission"),
    *("growth_transmission_low", "growth_transmission_high", "growth_scale_free", "growth_scale_free_low"),
    *("growth_scale_free_high", "share", "share_se", "share_trend", "share_null95", "null_draws", "norm", "sigma2"),
    *("chain_error", "norm_lower", "norm_upper", "sigma2_upper", "log10_norm_lower", "log10_norm_upper", "sup_gain"),
    *("wer", "avg_logprob", "n_tokens"),
)
COLUMNS = {
    **dict.fromkeys((*KEYS, *_TEXTS), "object"),
    **dict.fromkeys(_NUMBERS, "float64"),
    **dict.fromkeys(("differs", "truncated"), "bool"),
    **{
        f"{what}_{name}{end}": dtype
        for name in PREDICTORS
        for what, end, dtype in (
            ("predicted", "", "object"),
            ("predicted", "_margin", "float64"),
            ("why", "", "object"),
            ("agrees", "", "boolean"),
        )
    },
}
"""Columns of the comparison and their types, which a run without Jacobians has too."""


def parameters(rows: pd.DataFrame) -> ChainParameters:
    """ChainParameters of one model x clip x condition x state from its measured layers.

    Args:
        rows: its layers, one row each, any order.

    Raises:
        ValueError: if a layer is missing, or a number that the theory reads is not converged or not finite.
    """
    rows = rows.sort_values("layer")
    if list(rows["layer"]) != list(range(1, len(rows) + 1)):
        raise ValueError(f"rows must be layers 1..L, once each; got {list(rows['layer'])}")
    for column in ("propagator_converged", "injection_converged"):
        if column in rows and not np.asarray(rows[column], dtype=bool).all():
            bad = rows.loc[~np.asarray(rows[column], dtype=bool), "layer"].tolist()
            raise ValueError(f"{column} must hold in every layer; not in {bad}")
    take = {
        field: rows[column].to_numpy(dtype=np.float64)
        for field, column in (
            ("sigma", "sigma"),
            ("gap", "gap"),
            ("alignment", "alignment"),
            ("injection_along", "injection_along"),
            ("injection_across", "injection_across"),
            ("misalignment", "misalignment"),
            ("bulk_gap", "bulk_gap"),
        )
        if column in rows
    }
    return ChainParameters(**take)


def compare(
    layers: pd.DataFrame,
    clips: pd.DataFrame | None = None,
    nulls: pd.DataFrame | None = None,
    thresholds: Thresholds = THRESHOLDS,
) -> pd.DataFrame:
    """Predicted and observed regime of every model x clip x condition x state.

    Args:
        layers: rows of `empirical.analyze`.
        clips: one row a model x clip x condition (wer, truncated), joined where given.
        nulls: rows of `empirical.nulls.measure_nulls`; without them no collapse can be called.
        thresholds: lines of (O7).

    Returns:
        One row each, with predicted_*, predicted_*_margin (log units), observed*, growth*, share*, the certificate's
        interval (norm_lower, norm_upper, sigma2_upper) beside the measured norm and sigma_2 of J_L, chain_error at
        the last layer, agrees_* (missing where either side does not decide) and reason. Without layers no row, with
        the columns and types of `COLUMNS`.
    """
    shares = {
        (model, state): regimes.null_share(nulls, thresholds, model=model, state=state)
        for model, state in layers[["model", "state"]].drop_duplicates().itertuples(index=False)
    }
    if layers.empty:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    records = []
    for key, rows in layers.groupby(KEYS, sort=True):
        keys = dict(zip(KEYS, key, strict=True))
        records.append(keys | _one(rows, shares[keys["model"], keys["state"]], thresholds))
    table = pd.DataFrame.from_records(records)
    for name in PREDICTORS:
        # Three-valued: a plain bool column would turn "no answer" into something else.
        table[f"agrees_{name}"] = table[f"agrees_{name}"].astype("boolean")
    if clips is not None and not clips.empty and not table.empty:
        extra = [name for name in ("wer", "truncated", "avg_logprob", "n_tokens") if name in clips]
        table = table.drop(columns=[name for name in extra if name in table])
        table = table.merge(clips[[*KEYS[:3], *extra]], on=KEYS[:3], how="left")
    return table


def _one(rows: pd.DataFrame, null: regimes.NullShare | None, thresholds: Thresholds) -> dict[str, Any]:
    seen = regimes.observe(rows, null, thresholds)
    last = rows.sort_values("layer").iloc[-1]
    record: dict[str, Any] = {
        "layers": len(rows),
        "n_tokens": int(last["n_tokens"]),
        "observed": seen.regime,
        "observed_margin": seen.margin,
        "reason": seen.reason,
        "observed_scale_free": seen.regime_scale_free,
        "reason_scale_free": seen.reason_scale_free,
        "differs": seen.regime != seen.regime_scale_free,
        "growth": seen.growth.slope,
        "growth_low": seen.growth.low,
        "growth_high": seen.growth.high,
        "growth_injection": seen.growth_injection.slope,
        "growth_transmission": seen.growth_transmission.slope,
        "growth_transmission_low": seen.growth_transmission.low,
        "growth_transmission_high": seen.growth_transmission.high,
        "growth_scale_free": seen.growth_scale_free.slope,
        "growth_scale_free_low": seen.growth_scale_free.low,
        "growth_scale_free_high": seen.growth_scale_free.high,
        "share": seen.share,
        "share_se": seen.share_se,
        "share_trend": seen.share_trend.slope,
        "share_null95": seen.null.quantile if seen.null else np.nan,
        "null_draws": seen.null.draws if seen.null else 0,
        "norm": seen.norm,
        "sigma2": _second(last),
        "chain_error": float(last["chain_error"]),
        "norm_lower": np.nan,
        "norm_upper": np.nan,
        "sigma2_upper": np.nan,
        "log10_norm_lower": np.nan,
        "log10_norm_upper": np.nan,
        "sup_gain": np.nan,
        "prediction_reason": "",
    }
    for name in PREDICTORS:
        record[f"predicted_{name}"], record[f"predicted_{name}_margin"] = regimes.UNDECIDED, np.nan
        record[f"why_{name}"], record[f"agrees_{name}"] = "", None
    try:
        chain = parameters(rows)
    except ValueError as error:
        record["prediction_reason"] = str(error)
        return record
    certificate = theory.certify(chain)
    record |= {
        "norm_lower": float(certificate.norm_lower),
        "norm_upper": float(certificate.norm_upper),
        "sigma2_upper": float(certificate.sigma2_upper),
        "log10_norm_lower": float(certificate.log_norm_lower) / np.log(10),
        "log10_norm_upper": float(certificate.log_norm_upper) / np.log(10),
        "sup_gain": float(np.max(chain.gain[1:])) if chain.depth > 1 else np.nan,
    }
    rules: dict[str, Callable[[ChainParameters], Any]] = {
        "paper": theory.paper_rule,
        "certificate": theory.certified_regime,
        "mean_field": theory.mean_field,
    }
    for name, rule in rules.items():
        said = rule(chain)
        record[f"predicted_{name}"] = str(said.regime)
        record[f"predicted_{name}_margin"] = float(said.margin)
        record[f"why_{name}"] = str(said.reason)
        record[f"agrees_{name}"] = agrees(str(said.regime), seen, len(rows))
    return record


def _second(last: pd.Series) -> float:
    values, flags = np.atleast_1d(last["context_s"]), np.atleast_1d(last["converged"])
    return float(values[1]) if len(values) > 1 and bool(flags[1]) else float("nan")


def agrees(predicted: str, seen: regimes.Observation, depth: int) -> bool | None:
    """Whether a prediction and an observation say the same; None where one of them does not decide.

    The paper's I is either decay, its II the attractor; "outside the theorem" and "coexistence" predict nothing.
    "pinned" (T26) says that over the whole depth nothing decays or grows by PINNED_LOG_CHANGE nats: it agrees where the
    whole interval of L g lies within that and J_L did not collapse, disagrees where the interval lies beyond it or
    J_L collapsed, and is undecided where the interval straddles. A wide interval is never counted as agreement.
    """
    if predicted == "pinned":
        if seen.regime in (regimes.ATTRACTOR, regimes.COHERENT_DECAY):
            return False
        low, high = depth * seen.growth.low, depth * seen.growth.high
        if low > PINNED_LOG_CHANGE or high < -PINNED_LOG_CHANGE:
            return False
        inside = low > -PINNED_LOG_CHANGE and high < PINNED_LOG_CHANGE
        only_growth = seen.regime != regimes.UNDECIDED or seen.reason == "interval of the growth contains 0"
        return True if inside and only_growth else None
    allowed = {
        "I": {regimes.COHERENT_DECAY, regimes.DISPERSIVE_DECAY},
        "II": {regimes.ATTRACTOR},
        regimes.ATTRACTOR: {regimes.ATTRACTOR},
        regimes.COHERENT_DECAY: {regimes.COHERENT_DECAY},
        regimes.DISPERSIVE_DECAY: {regimes.DISPERSIVE_DECAY},
        regimes.DISPERSIVE_GROWTH: {regimes.DISPERSIVE_GROWTH},
    }.get(predicted)
    if allowed is None or seen.regime == regimes.UNDECIDED:
        return None
    return seen.regime in allowed


def agreement(table: pd.DataFrame, by: tuple[str, ...] = ("model", "state", "condition")) -> pd.DataFrame:
    """Counts of predicted x observed, one row for each pair that occurs, by predictor and the columns of `by`."""
    records = []
    for name in PREDICTORS:
        columns = [*by, f"predicted_{name}", "observed"]
        for key, rows in table.groupby(columns, sort=True):
            verdicts = rows[f"agrees_{name}"]
            records.append(
                dict(zip([*by, "predicted", "observed"], key, strict=True))
                | {
                    "predictor": name,
                    "count": len(rows),
                    "agree": int(verdicts.fillna(False).sum()),
                    "disagree": int((~verdicts.fillna(True)).sum()),
                    "no_answer": int(verdicts.isna().sum()),
                }
            )
    columns = [*by, "predicted", "observed", "predictor", "count", "agree", "disagree", "no_answer"]
    return pd.DataFrame.from_records(records, columns=columns)


def tightness(table: pd.DataFrame) -> pd.DataFrame:
    """How vacuous the certificate is: its interval for ||J_L|| against the measured norm, by model, state, condition.

    In the sequence state (T2) is exact and a norm outside the interval would be an error of the code (column
    `violations`); in the position state the chain is an approximation with error `chain_error`, and the interval is
    not a certificate of the true norm. (T15)
    """
    records = []
    for key, rows in table.groupby(["model", "state", "condition"], sort=True):
        known = rows[np.isfinite(rows["norm"]) & np.isfinite(rows["log10_norm_upper"])]
        log_norm = np.log10(known["norm"].to_numpy(dtype=np.float64))
        # The recursion is a few hundred roundings deep: a relative slack of 1e-9 is far above them, far below meaning.
        outside = (log_norm > known["log10_norm_upper"] + 1e-9) | (log_norm < known["log10_norm_lower"] - 1e-9)
        records.append(
            dict(zip(("model", "state", "condition"), key, strict=True))
            | {
                "n": len(known),
                "norm": float(known["norm"].median()) if len(known) else np.nan,
                "upper_over_norm": float(np.median(10 ** (known["log10_norm_upper"] - log_norm)))
                if len(known)
                else np.nan,
                "lower_positive": int((known["norm_lower"] > 0).sum()),
                "violations": int(outside.sum()),
                "chain_error": float(known["chain_error"].median()) if len(known) else np.nan,
            }
        )
    columns = ["model", "state", "condition", "n", "norm", "upper_over_norm", "lower_positive", "violations"]
    return pd.DataFrame.from_records(records, columns=[*columns, "chain_error"])


def sensitivity(
    layers: pd.DataFrame, nulls: pd.DataFrame | None = None, thresholds: Thresholds = THRESHOLDS
) -> pd.DataFrame:
    """Counts of observed regimes with each threshold halved and doubled: one row a change x model x state."""
    records = []
    groups = [(key, regimes.evidence(rows)) for key, rows in layers.groupby(KEYS, sort=True)]
    for name, limits in regimes.moved(thresholds).items():
        shares: dict[tuple[str, str], regimes.NullShare | None] = {}
        counts: dict[tuple[str, str], dict[str, int]] = {}
        for key, seen_rows in groups:
            model, state = str(key[0]), str(key[3])
            if (model, state) not in shares:
                shares[model, state] = regimes.null_share(nulls, limits, model=model, state=state)
            seen = regimes.observe(seen_rows, shares[model, state], limits)
            tally = counts.setdefault((model, state), dict.fromkeys((*regimes.REGIMES, regimes.UNDECIDED), 0))
            tally[seen.regime] += 1
        records += [
            {"threshold": name, "model": model, "state": state} | tally for (model, state), tally in counts.items()
        ]
    return pd.DataFrame.from_records(records)
