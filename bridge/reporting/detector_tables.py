"""Tables of the report about what tells a failure: the detectors' baseline, as rescored.json and detectors.parquet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bridge.comparison.analysis import Analysis
from bridge.comparison.detectors import CIRCULAR, KINDS, MEAN_OF_LAYERS, SCOPES
from bridge.comparison.statistics import MIN_CLUSTERS
from bridge.reporting.label_tables import TITLES as LABEL_TITLES
from bridge.reporting.label_tables import records
from bridge.reporting.wording import NOTHING, Table, fixed_interval
from empirical.recognition.labels import LABELS

TITLES = {
    "avg_logprob": "low log-probability",
    "no_speech_prob": "no-speech probability",
    "compression_ratio": "compression ratio",
    "n_tokens": "number of tokens",
    "effective_rank_10": "low N_eff",
    "kirchhoff_10": "high K_f",
    "alpha_10": "high α",
    "context_share": "high share of J_L's first direction",
    "context_effective_rank": "low effective rank of J_L",
    "gap": "low gap ξ",
    "alignment": "high alignment κ",
    "gain": "high gain ρ",
}
"""What detectors are called, with the direction that was fixed beforehand."""

SCOPE_TITLES = {"all": "all conditions", "stressed": "stressed only"}


_ALONE = {"length": "number of tokens: AUROC"}
"""Kinds of one detector alone: its name stands once, at the head of the column."""

_EXPLAINED = (
    "Of each kind the detector that did best on one half of the clips, with its AUROC on the other half (95 % interval "
    "of Obuchowski 1997, clips as clusters). “With / without”: tested transcripts that have the label or not. The "
    "number of tokens stands beside, for a rank is bounded by it: a spectral number that does no better than that "
    "count tells no more than it. “Of n”: fewer transcripts have that number."
)


def sentences(analysis: Analysis) -> list[str]:
    """Plain paragraphs at the head of the section; none where nothing is told."""
    if not records(analysis, "best_detectors") and analysis.tables.detectors is None:
        return []
    circular = "; ".join(
        f"{LABEL_TITLES[label]}: {', '.join(TITLES[name] for name in names)}" for label, names in CIRCULAR.items()
    )
    return [
        "A detector is one number of one transcript; its AUROC is the chance that a transcript with the label scores "
        "above one without it: 0.5 is blind, 1 perfect. In which direction each number should go was fixed before any "
        "was looked at, and none is turned round: below 0.5 it goes the other way. Among all conditions a detector "
        "gains by telling stress from clean audio; among the stressed transcripts alone it must tell failures.",
        f"Left out as circular, since the label's own rule reads the number ({circular}). Truncated transcripts are "
        f"told apart from the others only. No interval where fewer than {MIN_CLUSTERS} clips have the label, or lack "
        "it.",
    ]


def shown(analysis: Analysis) -> list[Table]:
    """Tables that stand open: the best of each kind, chosen on one half of the clips and tested on the other."""
    return [found for scope in SCOPES if (found := best(analysis, scope)) is not None]


def folded(analysis: Analysis) -> list[tuple[str, Table]]:
    """Every detector for every label, one table a model and scope."""
    table = analysis.tables.detectors
    if table is None or table.empty:
        return []
    made = []
    for model in analysis.tables.models:
        for scope in SCOPES:
            part = table[(table["model"] == model) & (table["scope"] == scope)]
            if len(part):
                made.append((f"{model}: every detector, {SCOPE_TITLES[scope]}", every(part)))
    return made


def best(analysis: Analysis, scope: str) -> Table | None:
    """The best confidence, the length and the best spectral detector: a row a model and label.

    Args:
        analysis: of the run.
        scope: of SCOPES.
    """
    lines: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in records(analysis, "best_detectors"):
        if row["scope"] == scope:
            lines.setdefault((row["model"], row["label"]), {})[row["kind"]] = row
    if not lines:
        return None
    rows = []
    for (model, label), kinds in lines.items():
        # A spectral detector may lack some of the rows: the counts are of what has the most.
        most = max(kinds.values(), key=lambda one: one.get("positives", 0) + one.get("negatives", 0))
        counts = f"{most['positives']} / {most['negatives']}" if "positives" in most else NOTHING
        rows.append([model, LABEL_TITLES[label], counts, str(most["clips"])])
        for kind in KINDS:
            one = kinds.get(kind)
            named = [] if kind in _ALONE else [NOTHING if one is None else name_of(one, short=True)]
            rows[-1] += [*named, NOTHING if one is None else auroc(one) + _fewer(one, most)]
    heads = [[_ALONE[kind]] if kind in _ALONE else [f"best {kind}", "AUROC"] for kind in KINDS]
    return Table(
        f"The baseline to beat, {SCOPE_TITLES[scope]}. {_EXPLAINED if scope == SCOPES[0] else 'Columns as above.'}",
        ["model", "label", "with / without", "clips", *(name for head in heads for name in head)],
        rows,
        [False] * 2 + [True] * 2 + [place == len(head) - 1 for head in heads for place in range(len(head))],
    )


def every(part: pd.DataFrame) -> Table:
    """All detectors of one model and scope: a row a detector, a column a label.

    Args:
        part: rows of `comparison.detectors.baseline`.
    """
    labels = [name for name in LABELS if (part["label"] == name).any()]
    lines: dict[tuple[str, str, Any], dict[str, Any]] = {}
    for row in part.to_dict("records"):
        layer = None if pd.isna(row["layer"]) else int(row["layer"])
        lines.setdefault((row["detector"], row["part"], layer), {})[str(row["label"])] = row
    rows = []
    for (detector, where, layer), by_label in lines.items():
        told = [
            NOTHING if (one := by_label.get(name)) is None else auroc(one, circular=bool(one["circular"]))
            for name in labels
        ]
        rows.append([TITLES.get(detector, detector), _where(where, layer), *told])
    sizes = {name: most_rows(part[part["label"] == name]) for name in labels}
    heads = [f"{LABEL_TITLES[name]} ({holds} / {not_so})" for name, (holds, not_so) in sizes.items()]
    return Table(
        "AUROC with 95 % interval; in brackets how many transcripts have the label and how many have not. Chosen by "
        "looking down a column, the best of these looks better than it is.",
        ["detector", "of", *heads],
        rows,
        [False, False] + [True] * len(labels),
    )


def most_rows(rows: pd.DataFrame) -> tuple[int, int]:
    """Transcripts with and without the label, of the detector that has the most: a clip of few tokens has no proxy."""
    sizes = rows[["positives", "negatives"]].to_numpy(dtype=int)
    holds, not_so = sizes[int(sizes.sum(axis=1).argmax())]
    return int(holds), int(not_so)


def auroc(one: Any, *, circular: bool = False) -> str:
    """'0.71 [0.60, 0.80]', and why where there is no interval."""
    if circular:
        return "circular"
    text = fixed_interval(one["auroc"], one["low"], one["high"], 2, signed=False)
    if one["code"] == "no_data":
        return "none to test" if text == NOTHING else text
    return f"{text} (too few clips)" if one["code"] == "too_few_clusters" else text


def name_of(one: Any, *, short: bool = False) -> str:
    """A detector with where it is read: 'low N_eff, self-attention 4'."""
    layer = None if one["layer"] is None or pd.isna(one["layer"]) else int(one["layer"])
    title = TITLES.get(str(one["detector"]), str(one["detector"]))
    if one["part"] == "clip":
        return title
    where = _where(one["part"], layer)
    return f"{title}, {where.replace('layer ', '').replace(' of layers', '')}" if short else f"{title}, {where}"


def _fewer(one: dict[str, Any], most: dict[str, Any]) -> str:
    """' of 31' where a detector has fewer of the tested transcripts than another."""
    own, whole = (row.get("positives", 0) + row.get("negatives", 0) for row in (one, most))
    return f" of {own}" if own < whole else ""


def _where(part: str, layer: int | None) -> str:
    if part == "clip":
        return "transcript"
    if layer is None:
        return f"{part} state"
    return f"{part}, mean of layers" if layer == MEAN_OF_LAYERS else f"{part}, layer {layer}"
