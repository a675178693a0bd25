"""The baseline of detectors: how well each number of a clip tells a failed transcript from the others.

Every detector is a number of one model x clip x condition, and a direction in which it should rise where the model
fails, fixed beforehand: confidence as Whisper has it, length, the spectral proxies of each component and layer, and
the Jacobian's. An AUROC below 1/2 says that it goes the other way; no direction is turned round after looking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    "text_on_non_speech": ("compression_ratio", "n_tokens"),
    "fluent_unrelated": ("avg_logprob", "compression_ratio"),
}
"""Detectors that a label's own rule reads, or that follow from it (no text has no token and compresses to 0): their
AUROC for it says nothing."""

KINDS = ("confidence", "length", "spectral")
"""Kinds of detector: a number of the clip that a decoder knows anyway, its tokens, and what the paper looks at."""

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


@dataclass(frozen=True, slots=True)
class _Target:
    """One label's answers among rows of one model.

    Attributes:
        keys: model, scope and label.
        places: (m,) rows of the model's table.
        truth: (m,) bool, the answers.
    """

    keys: dict[str, str]
    places: NDArray[np.intp]
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Board:
    """One model's rows with every detector's score, so that none need be looked up again for each label.

    Attributes:
        names: (n,) clip of each row.
        codes: (n,) the clips numbered.
        scores: (n, detectors) float64, NaN where a row has none.
        targets: the labels that vary.
    """

    names: NDArray[Any]
    codes: NDArray[np.intp]
    scores: NDArray[np.float64]
    targets: list[_Target]

    def told(
        self, target: _Target, detector: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp], NDArray[np.bool_]]:
        """Scores, answers and clips of the rows that have a finite score; and which of the target's rows these are."""
        values = self.scores[target.places, detector]
        kept = np.isfinite(values)
        return values[kept], target.truth[kept], self.codes[target.places][kept], kept

    def within(self, target: _Target, half: frozenset[str]) -> _Target:
        """The target's rows whose clip is in this half."""
        kept = np.isin(self.names[target.places].astype(str), sorted(half))
        return replace(target, places=target.places[kept], truth=target.truth[kept])


def find_detectors(clips: pd.DataFrame, activations: pd.DataFrame, layers: pd.DataFrame) -> list[Detector]:
    """All detectors that the tables have; columns that old records lack are left out, and of a table without rows all.

    A run that only listened has no layers, and so no detector of the Jacobian.
    """
    found = [
        Detector(name, "clip", None, sign * clips.set_index(KEYS)[name].astype(float))
        for name, sign in CONFIDENCE.items()
        if name in clips
    ]
    for name, sign in PROXIES.items():
        if name not in activations or activations.empty:
            continue
        for component, rows in activations.groupby("component", sort=False):
            values = rows.set_index([*KEYS, "layer"])[name]
            wide = sign * values[~values.index.duplicated()].unstack("layer").astype(float)
            by_model = wide.groupby(level="model")
            standard = (wide - by_model.transform("mean")) / by_model.transform("std")
            # Models differ in depth: a layer that a model has not is missing in all its rows, and is no reason for NaN.
            found.append(Detector(name, str(component), MEAN_OF_LAYERS, standard.mean(axis=1)))
            found += [Detector(name, str(component), int(str(layer)), wide[layer]) for layer in wide]
    for state, rows in layers.groupby("state", sort=False) if len(layers) else ():
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
    confidence = next((index for index, one in enumerate(found) if one.name == "avg_logprob"), None)
    for board in _boards(clips, found, labels, scopes):
        for target in board.targets:
            # Detectors of one table miss the same rows: what log-probability does on these is asked once.
            beside: dict[bytes, float] = {}
            for index, detector in enumerate(found):
                scores, truth, clip, same = board.told(target, index)
                if not truth.any() or truth.all():
                    continue
                if (key := same.tobytes()) not in beside:
                    beside[key] = math.nan
                    if confidence is not None:
                        own = board.scores[target.places[same], confidence]
                        known = np.isfinite(own)
                        beside[key] = auroc(own[known], target.truth[same][known].astype(np.float64))
                interval = clustered_auroc(scores, truth, clip)
                records.append(
                    target.keys
                    | {"detector": detector.name, "part": detector.part, "layer": detector.layer}
                    | {"auroc": interval.effect, "low": interval.low, "high": interval.high}
                    | {"positives": int(truth.sum()), "negatives": int((~truth).sum())}
                    | {"clips": interval.n, "code": interval.code}
                    | {"circular": detector.name in CIRCULAR.get(target.keys["label"], ())}
                    | {"auroc_avg_logprob": beside[key]}
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
        model, scope, label, kind (of `KINDS`), detector, part, layer, chosen_auroc (first half), auroc, low, high,
        clips, positives, negatives and code (second half). A kind without a value in the first half has no row.
    """
    records = []
    found = find_detectors(clips, activations, layers)
    for board in _boards(clips, found, labels, scopes):
        for target in board.targets:
            chosen, tested = (board.within(target, half) for half in halves(map(str, board.names[target.places]), seed))
            for kind in KINDS:
                members = [
                    index
                    for index, one in enumerate(found)
                    if kind_of(one.name, one.part) == kind and one.name not in CIRCULAR.get(target.keys["label"], ())
                ]
                values = [_auroc(*board.told(chosen, index)[:2]) for index in members]
                if not any(map(math.isfinite, values)):
                    continue
                place = members[int(np.nanargmax(values))]
                scores, truth, clip, _ = board.told(tested, place)
                best, interval = found[place], clustered_auroc(scores, truth, clip)
                records.append(
                    target.keys
                    | {"kind": kind, "detector": best.name, "part": best.part, "layer": best.layer}
                    | {"chosen_auroc": float(np.nanmax(values))}
                    | {"auroc": interval.effect, "low": interval.low, "high": interval.high, "clips": interval.n}
                    | {"positives": int(truth.sum()), "negatives": int((~truth).sum())}
                    | {"code": interval.code}
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
    clusters = np.asarray(clusters)
    if not np.issubdtype(clusters.dtype, np.integer):
        clusters = clusters.astype(str)
    names, codes = np.unique(clusters, return_inverse=True)
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


def kind_of(detector: str, part: str) -> str:
    """Which of `KINDS` a detector is of, from its name and part."""
    if part != "clip":
        return "spectral"
    return "length" if detector in LENGTH else "confidence"


def _boards(
    clips: pd.DataFrame, found: Sequence[Detector], labels: Sequence[str], scopes: Sequence[str]
) -> Iterator[_Board]:
    """Each model's rows with all scores, one model at a time: they are the largest thing held here."""
    if missing := [name for name in labels if name not in clips]:
        raise ValueError(f"clips must be labelled; missing: {', '.join(missing)}")
    for model, rows in clips.groupby("model", sort=False):
        index = pd.MultiIndex.from_frame(rows[KEYS])
        scores = np.full((len(rows), len(found)), np.nan)
        places: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        before = None
        for column, detector in enumerate(found):
            if detector.scores.index is not before:  # layers of one table have one index
                before = detector.scores.index
                places = before.get_indexer(index)
            scores[places >= 0, column] = detector.scores.to_numpy(dtype=np.float64)[places[places >= 0]]
        codes, _ = pd.factorize(rows["clip"])
        targets = _targets(rows, labels, scopes)
        yield _Board(
            rows["clip"].to_numpy(),
            codes,
            scores,
            [replace(one, keys={"model": str(model)} | one.keys) for one in targets],
        )


def _targets(rows: pd.DataFrame, labels: Sequence[str], scopes: Sequence[str]) -> list[_Target]:
    """Each label's answers among one model's rows by scope, rows without an answer left out."""
    targets = []
    cut = rows["truncated"].to_numpy(dtype=bool)
    stressed = (rows["condition"] != CLEAN).to_numpy(dtype=bool)
    for scope in scopes:
        for name in labels:
            flag = rows[name].astype("boolean")
            kept = flag.notna().to_numpy(dtype=bool) & (stressed | (scope == "all")) & ((name == "truncated") | ~cut)
            truth = flag.fillna(False).to_numpy(dtype=bool)[kept]
            if truth.any() and not truth.all():
                targets.append(_Target({"scope": scope, "label": name}, np.flatnonzero(kept), truth))
    return targets


def _auroc(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    return auroc(scores, truth.astype(np.float64))


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
