"""The baseline of detectors: how well each number of a clip tells a failed transcript from the others.

Every detector is a number of one model x clip x condition, and a direction in which it should rise where the model
fails, fixed beforehand: confidence as Whisper has it, length, the spectral proxies of each component and layer, and
the Jacobian's. An AUROC below 1/2 says that it goes the other way; no direction is turned round after looking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bridge.comparison.conditions import CLEAN
from bridge.comparison.statistics import LEVEL, MIN_CLUSTERS, Interval, auroc
from empirical.recognition.labels import LABELS
from empirical.recognition.relatedness import halves

KEYS = ["model", "clip", "condition"]
SCOPES = ("all", "stressed")
"""Rows among which is told: of all conditions, where telling stress from clean would do; and without the clean ones."""

CONFIDENCE = {"avg_logprob": -1, "no_speech_prob": 1, "compression_ratio": 1, "n_tokens": 1}
"""Columns of the clips table and their sign: +1 where more should mean failure. Tokens are there because they bound
every rank: a proxy that does no better than they is a count of tokens. They are no confidence, and are chosen apart."""

LENGTH = ("n_tokens",)

PROXIES = {"effective_rank_10": -1, "kirchhoff_10": 1, "alpha_10": 1}
"""Columns of the activations table: rank falls (C6), the Kirchhoff index and the slope rise (C8, C15)."""

JACOBIAN = {"context_share": 1, "context_effective_rank": -1, "gap": -1, "alignment": 1, "gain": 1}
"""Columns of the layers table, in the direction of the attractor (C3); the first two of the last layer, the others
medians over layers."""

CIRCULAR = {
    "looping": ("compression_ratio",),
    "fluent_unrelated": ("avg_logprob", "compression_ratio"),
}
"""Detectors that a label's own rule reads: their AUROC for it says nothing."""

MEAN_OF_LAYERS = 0
"""In the column `layer`: the mean over layers, in standard scores of each layer, of an activations' proxy."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector's scores.

    Attributes:
        name: column it is read from.
        part: "clip", a component, or the state of a Jacobian.
        layer: 1..L, MEAN_OF_LAYERS, or None where it belongs to no layer.
        scores: by model, clip and condition, its sign taken in, so that more should mean failure.
    """

    name: str
    part: str
    layer: int | None
    scores: pd.Series


def find_detectors(clips: pd.DataFrame, activations: pd.DataFrame, layers: pd.DataFrame) -> list[Detector]:
    """All detectors that the tables have; columns that old records lack are left out."""
    found = [
        Detector(name, "clip", None, sign * clips.set_index(KEYS)[name].astype(float))
        for name, sign in CONFIDENCE.items()
        if name in clips
    ]
    for name, sign in PROXIES.items():
        if name not in activations:
            continue
        for component, rows in activations.groupby("component", sort=False):
            wide = sign * rows.pivot_table(index=KEYS, columns="layer", values=name, dropna=False).astype(float)
            by_model = wide.groupby(level="model")
            standard = (wide - by_model.transform("mean")) / by_model.transform("std")
            # Models differ in depth: a layer that a model has not is missing in all its rows, and is no reason for NaN.
            found.append(Detector(name, str(component), MEAN_OF_LAYERS, standard.mean(axis=1)))
            found += [Detector(name, str(component), int(str(layer)), wide[layer]) for layer in wide]
    for state, rows in layers.groupby("state", sort=False):
        last = rows[rows["layer"] == rows["layers"]].set_index(KEYS)
        middle = rows.groupby(KEYS, sort=False)[[name for name in JACOBIAN if name in rows]].median()
        for name, sign in JACOBIAN.items():
            if name in rows:
                values = last[name] if name.startswith("context_") else middle[name]
                found.append(Detector(name, str(state), None, sign * values.astype(float)))
    return found


def baseline(
    clips: pd.DataFrame,
    activations: pd.DataFrame,
    layers: pd.DataFrame,
    *,
    labels: Sequence[str] = LABELS,
    scopes: Sequence[str] = SCOPES,
) -> pd.DataFrame:
    """AUROC of every detector for every label, by model and scope.

    Truncated clips stand in the table of `truncated` alone: their words could not be heard, whatever the model is like.
    A label that is constant in a scope, or has no answer there, has no row.

    Args:
        clips: labelled (`bridge.comparison.labelling.label_clips`).
        activations: rows with the proxies of each component and layer.
        layers: rows of the layers table.
        labels: among LABELS.
        scopes: among SCOPES.

    Returns:
        model, scope, label, detector, part, layer, auroc, low, high, positives, negatives (rows), clips, code
        ("ok", "too_few_clusters" where fewer than MIN_CLUSTERS clips have either answer), circular, and
        auroc_avg_logprob: that of the log-probability on the rows that this detector has (a clip of few tokens has no
        proxy), which is what it is to be held against.
    """
    records = []
    found = find_detectors(clips, activations, layers)
    confidence = next((one.scores for one in found if one.name == "avg_logprob"), pd.Series(dtype=float))
    for keys, flag in _targets(clips, labels, scopes):
        beside = confidence.reindex(flag.index)
        for detector in found:
            scores, truth, clip = _aligned(detector.scores, flag)
            if not truth.any() or truth.all():
                continue
            same = np.isfinite(detector.scores.reindex(flag.index).to_numpy(dtype=np.float64))
            interval = clustered_auroc(scores, truth, clip)
            records.append(
                keys
                | {"detector": detector.name, "part": detector.part, "layer": detector.layer}
                | {"auroc": interval.effect, "low": interval.low, "high": interval.high}
                | {"positives": int(truth.sum()), "negatives": int((~truth).sum())}
                | {"clips": interval.n, "code": interval.code}
                | {"circular": detector.name in CIRCULAR.get(keys["label"], ())}
                | {"auroc_avg_logprob": _auroc(beside[same], flag[same])}
            )
    table = pd.DataFrame.from_records(records)
    return table.astype({"layer": "Int64"}) if len(table) else table


def best_of_each_kind(
    clips: pd.DataFrame,
    activations: pd.DataFrame,
    layers: pd.DataFrame,
    *,
    seed: int,
    labels: Sequence[str] = LABELS,
    scopes: Sequence[str] = SCOPES,
) -> pd.DataFrame:
    """The best confidence, the length and the best spectral detector, chosen on one half of the clips and tested on the
    other.

    The best of a hundred proxies looks good on the clips it was chosen on. Directions stay fixed, circular ones are
    left out. The halves are `empirical.recognition.relatedness.halves`.

    Returns:
        model, scope, label, kind ("confidence", "length", "spectral": of activations or of Jacobians), detector, part,
        layer, chosen_auroc (first half), auroc, low, high, clips and code (second half). A kind without a value in the
        first half has no row.
    """
    records = []
    found = find_detectors(clips, activations, layers)
    kinds = {
        "confidence": [one for one in found if one.part == "clip" and one.name not in LENGTH],
        "length": [one for one in found if one.part == "clip" and one.name in LENGTH],
        "spectral": [one for one in found if one.part != "clip"],
    }
    for keys, flag in _targets(clips, labels, scopes):
        first, second = halves(map(str, flag.index.get_level_values("clip")), seed)
        sides = [flag[flag.index.get_level_values("clip").astype(str).isin(half)] for half in (first, second)]
        for kind, members in kinds.items():
            members = [one for one in members if one.name not in CIRCULAR.get(keys["label"], ())]
            values = [_auroc(one.scores, sides[0]) for one in members]
            if not any(map(math.isfinite, values)):
                continue
            best = members[int(np.nanargmax(values))]
            tested = clustered_auroc(*_aligned(best.scores, sides[1]))
            records.append(
                keys
                | {"kind": kind, "detector": best.name, "part": best.part, "layer": best.layer}
                | {"chosen_auroc": float(np.nanmax(values))}
                | {"auroc": tested.effect, "low": tested.low, "high": tested.high, "clips": tested.n}
                | {"code": tested.code}
            )
    table = pd.DataFrame.from_records(records)
    return table.astype({"layer": "Int64"}) if len(table) else table


def clustered_auroc(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], clusters: NDArray[Any], *, level: float = LEVEL
) -> Interval:
    """AUROC with the interval of Obuchowski (1997, Biometrics 53:567) for clustered data, on the logit scale.

    With one row a cluster it is DeLong's (1988). Where every positive stands above every negative, or none does, that
    variance is 0 and says nothing: there the interval is Newcombe's fifth (2006, Statistics in Medicine 25:559), which
    takes its variance at the ends, with as many positives and negatives as there are clusters that have one.

    Args:
        scores: (n,), finite; more should mean positive.
        labels: (n,) bool.
        clusters: (n,) what each row belongs to: its clip.
        level: coverage aimed at, in (0, 1).

    Returns:
        AUROC (ties count half) and interval; n = clusters. Code "no_data" where a label is absent, "too_few_clusters"
        where fewer than MIN_CLUSTERS clusters have a positive, or a negative.
    """
    labels = np.asarray(labels, dtype=bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    names, codes = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    blank = Interval(math.nan, math.nan, math.nan, len(names), level, "no_data")
    if not positives or not negatives:
        return blank
    placed = np.empty(len(scores))
    placed[labels] = _placements(scores[labels], scores[~labels])
    placed[~labels] = 1.0 - _placements(scores[~labels], scores[labels])
    value = float(placed[labels].mean())
    sides = []
    for side in (labels, ~labels):
        # Sum over a cluster's rows of how far each stands from the mean of its side.
        departure = np.bincount(codes[side], weights=placed[side] - value, minlength=len(names))
        sides.append(
            (departure, int(np.count_nonzero(np.bincount(codes[side], minlength=len(names)))), int(side.sum()))
        )
    (up, with_up, m), (down, with_down, n) = sides
    found = replace(blank, effect=value, code="ok")
    if min(with_up, with_down) < MIN_CLUSTERS:
        return replace(found, code="too_few_clusters")
    z = float(stats.norm.isf((1.0 - level) / 2.0))
    variance = (
        with_up / (with_up - 1.0) * (up @ up) / m**2
        + with_down / (with_down - 1.0) * (down @ down) / n**2
        + 2.0 * len(names) / (len(names) - 1.0) * (up @ down) / (m * n)
    )
    if not 0.0 < value < 1.0 or variance <= 0.0:
        low, high = _newcombe(value, with_up, with_down, z)
        return replace(found, low=low, high=high)
    centre, reach = math.log(value / (1.0 - value)), z * math.sqrt(variance) / (value * (1.0 - value))
    return replace(found, low=_expit(centre - reach), high=_expit(centre + reach))


def _targets(
    clips: pd.DataFrame, labels: Sequence[str], scopes: Sequence[str]
) -> list[tuple[dict[str, str], pd.Series]]:
    """Each label's answers by model and scope, indexed by KEYS, rows without an answer left out."""
    if missing := [name for name in labels if name not in clips]:
        raise ValueError(f"clips must be labelled; missing: {', '.join(missing)}")
    targets = []
    for model, rows in clips.groupby("model", sort=False):
        for scope in scopes:
            for name in labels:
                kept = rows if scope == "all" else rows[rows["condition"] != CLEAN]
                if name != "truncated":
                    kept = kept[~kept["truncated"].to_numpy(dtype=bool)]
                flag = kept.set_index(KEYS)[name].astype("boolean").dropna().astype(bool)
                if flag.any() and not flag.all():
                    targets.append(({"model": str(model), "scope": scope, "label": name}, flag))
    return targets


def _aligned(scores: pd.Series, flag: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[Any]]:
    """Scores, answers and clips of the rows that have a finite score."""
    values = scores.reindex(flag.index).to_numpy(dtype=np.float64)
    kept = np.isfinite(values)
    return values[kept], flag.to_numpy(dtype=bool)[kept], flag.index.get_level_values("clip").to_numpy()[kept]


def _auroc(scores: pd.Series, flag: pd.Series) -> float:
    values, truth, _ = _aligned(scores, flag)
    return auroc(values, truth.astype(np.float64))


def _placements(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the others that each score stands above, ties half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2.0 * len(others))


def _newcombe(value: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Ends t of (value - t)^2 = z^2 V(t), V of Hanley and McNeil (1982), both sizes in it their mean."""
    other = (m + n) / 2.0 - 1.0

    def outside(t: float) -> bool:
        variance = t * (1.0 - t) / (m * n) * (1.0 + other * (1.0 - t) / (2.0 - t) + other * t / (1.0 + t))
        return (value - t) ** 2 > z**2 * variance

    ends = []
    for far in (0.0, 1.0):
        # V is 0 at the far end, which lies outside unless the value is there itself; bisection to the last bit.
        out, inside = far, value
        for _ in range(60):
            middle = (out + inside) / 2.0
            out, inside = (middle, inside) if outside(middle) else (out, middle)
        ends.append(inside)
    return ends[0], ends[1]


def _expit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0
