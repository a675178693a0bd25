"""Pooled observables: covariances over all clips of a condition, their proxies, and how much a stress changes them.

One clip of 20 tokens has 19 eigenvalues; the paper's proxies want 50. So activations are pooled over clips as mergeable
sums (O1), and chance is carried by the clips: each resample draws clips with replacement, re-pools the variances along
the pooled directions, and reads the proxies again. A stressed transcript may be shorter or longer than the clean one,
and rank is bounded by the number of tokens: every change is given with both conditions cut to the shorter, clip by clip
("matched"), and uncut ("none").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from observables import CovarianceSums, effective_rank, kirchhoff_index, reason, spectral_alpha
from observables.decompositions import eigenvectors

CLEAN = "clean"
ALL_STRESSES = "all"
LENGTHS = ("matched", "none")
MODES = (50, 10)
# Modes the slope is fitted over (O3): the tail of 50, the dominant ones of 10.
ALPHA_RANGE = {50: (10, 50), 10: (1, 10)}
PROXIES = ("n_eff_pct", "log10_kf", "alpha", "tail_log")
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Pooled:
    """What pooling gives.

    Attributes:
        layers: one row a model x component x layer x stress x length x k: proxies clean and stressed, their changes
            with intervals, numbers of clips and tokens, reason. `d_tail_log` is the mean of
            ln lambda_i(stressed) / lambda_i(clean) over the modes the slope is fitted on.
        summary: the same changes averaged over layers, one row a model x component x stress x length x k; stress
            "all" averages over the stresses too.
        tails: eigenvalue ratios (O6) with intervals, one row a model x component x layer x stress (matched, K = 50).
        clouds: bootstrap draws of (n_eff, alpha) of the last layer, one row a model x component x condition (K = 50,
            uncut).
    """

    layers: pd.DataFrame
    summary: pd.DataFrame
    tails: pd.DataFrame
    clouds: pd.DataFrame = field(default_factory=pd.DataFrame)


def proxies(eigenvalues: NDArray[np.float64], k: int) -> dict[str, Any]:
    """N_eff(k), log10 K_f(k) and alpha(k) of one descending spectrum, with R^2, its power-law verdict and a reason."""
    fit = spectral_alpha(eigenvalues, *ALPHA_RANGE[k])
    index = kirchhoff_index(eigenvalues, k)
    return {
        "n_eff": effective_rank(eigenvalues, k),
        "log10_kf": float(np.log10(index)) if np.isfinite(index) else float("nan"),
        "alpha": float(fit.slope),
        "r_squared": float(fit.r_squared),
        "is_power_law": bool(fit.is_power_law),
        "reason": str(reason(eigenvalues, k)),
    }


def batch_proxies(eigenvalues: NDArray[np.float64], k: int) -> dict[str, NDArray[np.float64]]:
    """The same three proxies of many spectra at once.

    Args:
        eigenvalues: shape (r, d), each row descending.
        k: modes, 10 or 50.

    Returns:
        n_eff, log10_kf, alpha, each of shape (r,), NaN where a row has fewer than k positive eigenvalues.
    """
    r, d = eigenvalues.shape
    if d < k:
        return {name: np.full(r, np.nan) for name in ("n_eff", "log10_kf", "alpha")}
    top = eigenvalues[:, :k]
    floor = d * np.finfo(np.float64).eps * top[:, :1]
    enough = (top > floor).all(axis=1)
    safe = np.where(enough[:, None], top, 1.0)
    p = safe / safe.sum(axis=1, keepdims=True)
    first, last = ALPHA_RANGE[k]
    x = np.log(np.arange(first, last + 1, dtype=np.float64))
    x = x - x.mean()
    values = {
        "n_eff": np.exp(-(p * np.log(p)).sum(axis=1)),
        "log10_kf": np.log10(k * (1.0 / safe).sum(axis=1)),
        "alpha": -(np.log(safe[:, first - 1 : last]) @ x) / (x @ x),
    }
    return {name: np.where(enough, value, np.nan) for name, value in values.items()}


class _Resampled:
    """Eigenvalues of a pooled covariance when clips are drawn anew, to first order.

    The directions stay those of the pooled covariance and only the variances along them are re-pooled: one
    decomposition serves every resample, at any width. Re-pooling the whole covariance instead repeats clips, so that it
    has fewer distinct rows than the data; its small eigenvalues, and K_f with them, then scatter two to three times as
    widely as those of fresh data (d = 96, 24 clips of 10-14 tokens), where this is right to about a fifth
    (tests/bridge/test_pooled.py).
    """

    def __init__(self, rows: list[NDArray[np.float64]], sums: CovarianceSums) -> None:
        vectors = eigenvectors("the pooled covariance", sums.covariance())
        along = [(x - sums.mean) @ vectors for x in rows]
        self.n = np.array([len(x) for x in rows], dtype=np.float64)
        self.first = np.stack([x.sum(axis=0) for x in along])
        self.second = np.stack([(x**2).sum(axis=0) for x in along])

    def eigenvalues(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Descending variances along the fixed directions, shape (r, d), for weights of shape (r, clips)."""
        n = (weights @ self.n)[:, None]
        variances = (weights @ self.second - (weights @ self.first) ** 2 / n) / np.maximum(n - 1.0, 1.0)
        return np.sort(variances, axis=1)[:, ::-1]


def _pool(rows: list[NDArray[np.float64]]) -> CovarianceSums:
    sums = CovarianceSums.from_rows(rows[0])
    for x in rows[1:]:
        sums = sums.merge(CovarianceSums.from_rows(x))
    return sums


def _matrix(record: Any) -> NDArray[np.float64]:
    return np.asarray(record.x, dtype=np.float64).reshape(int(record.n_tokens), int(record.d_model))


def _weights(names: Sequence[str], everyone: Sequence[str], resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each resample draws each of `names`, shape (resamples, names).

    The draw is over every clip of the model, whatever a stress lost to quarantine: so the same clips are drawn for
    every stress, and averages over stresses keep their pairing.
    """
    rng = np.random.default_rng(seed)
    count = len(everyone)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
    place = {name: column for column, name in enumerate(everyone)}
    return drawn[:, [place[name] for name in names]]


def interval(effect: float, draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws, moved so that their mean falls on the effect.

    A proxy is not linear in the spectrum, so its draws are centred a little beside it; the shift takes that bias out.
    NaN where a twentieth of the draws or more have no value.
    """
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(effect) or len(finite) == 0 or len(finite) < 0.95 * len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(finite - finite.mean(), [(1 - level) / 2, (1 + level) / 2])
    return float(effect + low), float(effect + high)


def pool(activations: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES) -> Pooled:
    """Pooled observables of every model, component, layer and stress in the table.

    Args:
        activations: rows of the activations records (one a model x clip x condition x component x layer).
        seed: seed of the resampling; the same clips are drawn for every layer, component and stress of a model.
        resamples: number of resamples.
    """
    found = _Found(seed, resamples)
    with threadpool_limits(limits=1):  # many small decompositions: threads cost more than they bring, and change bits
        _take_all(found, activations)
    return found.result()


def _take_all(found: _Found, activations: pd.DataFrame) -> None:
    for (model, component, layer), rows in activations.groupby(["model", "component", "layer"], sort=True):
        final = layer == activations.loc[activations["model"] == model, "layer"].max()
        everyone = sorted(set(activations.loc[activations["model"] == model, "clip"]))
        found.take(str(model), str(component), int(layer), rows, bool(final), everyone)  # type: ignore[arg-type]


class _Found:
    """Collects rows and the draws they share, so that averages over layers resample the same clips."""

    def __init__(self, seed: int, resamples: int) -> None:
        self.seed, self.resamples = seed, resamples
        self.everyone: list[str] = []
        self.layers: list[dict[str, Any]] = []
        self.tails: list[dict[str, Any]] = []
        self.clouds: list[dict[str, Any]] = []
        self.draws: dict[tuple[Any, ...], dict[str, tuple[float, NDArray[np.float64]]]] = {}

    def take(
        self, model: str, component: str, layer: int, rows: pd.DataFrame, final: bool, everyone: list[str]
    ) -> None:
        self.everyone = everyone
        by_condition = {
            str(condition): {str(record.clip): _matrix(record) for record in group.itertuples()}
            for condition, group in rows.groupby("condition", sort=False)
        }
        key = {"model": model, "component": component, "layer": layer}
        if final:
            for condition, clips in by_condition.items():
                self._cloud(key | {"condition": condition}, clips)
        if CLEAN not in by_condition:
            return
        for stress, stressed in by_condition.items():
            names = sorted(set(stressed) & set(by_condition[CLEAN]))
            if stress == CLEAN or not names:
                continue
            pairs = [(by_condition[CLEAN][name], stressed[name]) for name in names]
            for length in LENGTHS:
                self._change(key | {"stress": stress, "length": length}, names, pairs, length)

    def _cloud(self, key: dict[str, Any], clips: dict[str, NDArray[np.float64]]) -> None:
        names = sorted(clips)
        rows = [clips[name] for name in names]
        sums = _pool(rows)
        if sums.n < 2:
            return
        point = proxies(sums.eigenvalues(), 50)
        draws = {"n_eff": np.empty(0), "alpha": np.empty(0)}
        if len(rows) > 1:
            weights = _weights(names, self.everyone, self.resamples, self.seed)
            draws = batch_proxies(_Resampled(rows, sums).eigenvalues(weights), 50)
        self.clouds.append(
            key
            | {"n_clips": len(rows), "n_tokens": sums.n, "n_eff": point["n_eff"], "alpha": point["alpha"]}
            | {"is_power_law": point["is_power_law"], "reason": point["reason"]}
            | {"n_eff_draws": draws["n_eff"].tolist(), "alpha_draws": draws["alpha"].tolist()}
        )

    def _change(self, key: dict[str, Any], names: list[str], pairs: list[Any], length: str) -> None:
        if length == "matched":
            pairs = [(a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in pairs]
        sums = [_pool([pair[side] for pair in pairs]) for side in (0, 1)]
        counts = {
            "n_clips": len(pairs),
            "n_tokens_clean": sums[0].n,
            "n_tokens_stressed": sums[1].n,
        }
        if min(one.n for one in sums) < 2:
            return
        values = [one.eigenvalues() for one in sums]
        drawn = None
        if len(pairs) > 1:
            weights = _weights(names, self.everyone, self.resamples, self.seed)
            drawn = [_Resampled([pair[side] for pair in pairs], sums[side]).eigenvalues(weights) for side in (0, 1)]
        for k in MODES:
            self._proxies(key | {"k": k} | counts, values, drawn, k)
        if length == "matched":
            self._tail(key | counts, values, drawn)

    def _proxies(self, key: dict[str, Any], values: list[Any], drawn: list[Any] | None, k: int) -> None:
        clean, stressed = (proxies(one, k) for one in values)
        change = _changes(clean, stressed)
        record = key | {f"clean_{name}": value for name, value in clean.items()}
        record |= {f"stressed_{name}": value for name, value in stressed.items()}
        bad = [one["reason"] for one in (clean, stressed) if one["reason"] != "ok"]
        record["reason"] = bad[0] if bad else "ok"
        change["tail_log"] = float(_tail_log(values[0][None], values[1][None], k)[0])
        moved: dict[str, Any] = {name: np.empty(0) for name in PROXIES}
        if drawn is not None:
            moved = _changes(*(batch_proxies(one, k) for one in drawn))
            moved["tail_log"] = _tail_log(drawn[0], drawn[1], k)
        for name in PROXIES:
            record[f"d_{name}"] = float(change[name])
            record[f"d_{name}_low"], record[f"d_{name}_high"] = interval(float(change[name]), moved[name])
        record["resamples"] = len(moved["alpha"])
        self.layers.append(record)
        group = (key["model"], key["component"], key["layer"], key["stress"], key["length"], k)
        self.draws[group] = {name: (float(change[name]), moved[name]) for name in PROXIES}

    def _tail(self, key: dict[str, Any], values: list[Any], drawn: list[Any] | None, k: int = 50) -> None:
        if any(reason(one, k) != "ok" for one in values):
            return
        ratio = np.log(values[1][:k] / values[0][:k])
        low = high = np.full(k, np.nan)
        if drawn is not None:
            floors = [one.shape[1] * np.finfo(np.float64).eps * one[:, 0] for one in drawn]
            enough = np.all([one[:, k - 1] > floor for one, floor in zip(drawn, floors, strict=True)], axis=0)
            if enough.mean() >= 0.95:
                draws = np.log(drawn[1][enough, :k] / drawn[0][enough, :k])
                ends = np.quantile(draws - draws.mean(axis=0), [0.025, 0.975], axis=0)
                low, high = ratio + ends[0], ratio + ends[1]
        self.tails.append(
            key | {"ratio": np.exp(ratio).tolist(), "low": np.exp(low).tolist(), "high": np.exp(high).tolist()}
        )

    def result(self) -> Pooled:
        layers = pd.DataFrame.from_records(self.layers)
        return Pooled(layers, self._summary(layers), *(pd.DataFrame.from_records(t) for t in (self.tails, self.clouds)))

    def _summary(self, layers: pd.DataFrame) -> pd.DataFrame:
        records = []
        if layers.empty:
            return pd.DataFrame()
        for key, rows in layers.groupby(["model", "component", "length", "k"], sort=True):
            stresses = list(dict.fromkeys(rows["stress"]))
            for stress in [*stresses, ALL_STRESSES]:
                kept = rows if stress == ALL_STRESSES else rows[rows["stress"] == stress]
                record = dict(zip(("model", "component", "length", "k"), key, strict=True)) | {
                    "stress": stress,
                    "n_clips": int(kept["n_clips"].min()),
                    "n_layers": int(kept["layer"].nunique()),
                    "n_tokens_clean": int(kept["n_tokens_clean"].min()),
                    "n_tokens_stressed": int(kept["n_tokens_stressed"].min()),
                    "reason": next((one for one in kept["reason"] if one != "ok"), "ok"),
                    "power_law_clean": int(kept["clean_is_power_law"].sum()),
                    "rows": len(kept),
                    "clean_n_eff": float(kept["clean_n_eff"].mean(skipna=False)),
                    "clean_log10_kf": float(kept["clean_log10_kf"].mean(skipna=False)),
                    "clean_alpha": float(kept["clean_alpha"].mean(skipna=False)),
                }
                parts = [
                    self.draws[row.model, row.component, row.layer, row.stress, row.length, row.k]
                    for row in kept.itertuples()
                ]
                for name in PROXIES:
                    effect = float(np.mean([part[name][0] for part in parts]))
                    sizes = {len(part[name][1]) for part in parts}
                    draws = np.mean([part[name][1] for part in parts], axis=0) if len(sizes) == 1 else np.empty(0)
                    record[f"d_{name}"] = effect
                    record[f"d_{name}_low"], record[f"d_{name}_high"] = interval(effect, draws)
                records.append(record)
        return pd.DataFrame.from_records(records)


def _tail_log(clean: NDArray[np.float64], stressed: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Mean of ln lambda_i(stressed) / lambda_i(clean) over the tail the slope is fitted on (O6), one a row."""
    if clean.shape[1] < k:
        return np.full(len(clean), np.nan)
    first, last = ALPHA_RANGE[k]
    floor = clean.shape[1] * np.finfo(np.float64).eps
    enough = np.all([(one[:, k - 1] > floor * one[:, 0]) for one in (clean, stressed)], axis=0)
    tails = [np.where(enough[:, None], one[:, first - 1 : last], 1.0) for one in (clean, stressed)]
    return np.where(enough, np.log(tails[1] / tails[0]).mean(axis=1), np.nan)


def _changes(clean: dict[str, Any], stressed: dict[str, Any]) -> dict[str, Any]:
    """The paper's form: relative change of N_eff in per cent, differences of log10 K_f and of alpha."""
    return {
        "n_eff_pct": 100.0 * (stressed["n_eff"] / clean["n_eff"] - 1.0),
        "log10_kf": stressed["log10_kf"] - clean["log10_kf"],
        "alpha": stressed["alpha"] - clean["alpha"],
    }
