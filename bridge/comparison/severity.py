"""Ladders of one stress from mild to severe: word errors and cross-attention rank against SNR, rate or whatever was
varied. A curve says what one severity cannot, whether the observables move before the transcript fails, or after."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison import statistics
from bridge.comparison.conditions import CLEAN, in_order
from bridge.comparison.pooled import Pooled
from empirical import stress

COMPONENT = "cross-attention"
LEAST_STEPS = 3
"""Severities that make a curve; two make a comparison, which the tables show."""

AXES = {
    "snr_db": "SNR (dB)",
    "rate": "stretch (times as long)",
    "speakers": "speakers, the target among them",
    "level_db": "level of each other speaker (dB)",
    "level_dbfs": "level (dBFS)",
    "rt60_s": "reverberation time RT60 (s)",
}


@dataclass(frozen=True, slots=True)
class Ladder:
    """Conditions that differ in one number alone.

    Attributes:
        name: the stress, without that number.
        parameter: the number's name.
        steps: (value, condition), ascending.
    """

    name: str
    parameter: str
    steps: tuple[tuple[float, str], ...]

    @property
    def axis(self) -> str:
        """The number with its unit, for an axis."""
        return AXES.get(self.parameter, self.parameter.replace("_", " "))


def ladders(conditions: Iterable[str]) -> list[Ladder]:
    """The ladders among these conditions, those with more steps first; labels of no stress of ours are left out."""
    described = {label: _described(label) for label in in_order(conditions) if label != CLEAN}
    groups: dict[tuple[Any, ...], dict[float, str]] = {}
    for label, fields in described.items():
        for path, value in fields.items():
            if isinstance(value, float):
                rest = tuple(sorted((name, repr(other)) for name, other in fields.items() if name != path))
                groups.setdefault((path, rest), {}).setdefault(value, label)
    found = [
        Ladder(_name(steps.values(), path), path[-1], tuple(sorted(steps.items())))
        for (path, _), steps in groups.items()
        if len(steps) >= LEAST_STEPS
    ]
    return sorted(found, key=lambda one: (-len(one.steps), one.name, one.parameter))


def _described(label: str) -> dict[tuple[str, ...], Any]:
    """Every parameter of a stress by its path, numbers as float; empty for a label that does not parse."""
    try:
        return dict(_fields(stress.parse(label), ()))
    except stress.StressError:
        return {}


def _fields(value: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    if dataclasses.is_dataclass(value):
        yield (*path, "is"), type(value).__name__
        for one in dataclasses.fields(value):
            yield from _fields(getattr(value, one.name), (*path, one.name))
    elif isinstance(value, tuple | list):
        yield (*path, "parts"), len(value)
        for number, one in enumerate(value):
            yield from _fields(one, (*path, str(number)))
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield path, float(value)
    else:
        yield path, repr(value)


def _name(labels: Iterable[str], path: tuple[str, ...]) -> str:
    """What the labels are called without the number that sets them apart."""
    texts = [
        "+".join(
            ":".join(piece for piece in part.split(":") if not piece.startswith(f"{path[-1]}="))
            for part in label.split("+")
        )
        for label in labels
    ]
    return max(set(texts), key=lambda text: (texts.count(text), text))


def severity_table(clips: pd.DataFrame, pooled: Pooled, *, seed: int) -> pd.DataFrame:
    """WER and change of cross-attention N_eff along every ladder of a run.

    Returns:
        One row a model x ladder x step: model, ladder, parameter, axis, value, achieved (median over clips of what was
        measured on the samples under that name, NaN where nothing was), condition, n clips, wer with low and high,
        truncated (share), d_n_eff_50 (pooled, K = 50, matched lengths, mean over layers, %) and d_n_eff_10 (mean over
        clips, K = 10, matched), each with _low and _high and its clips n_50, n_10; clean_wer of the model. No rows
        without a ladder.
    """
    records = []
    for model, rows in clips.groupby("model", sort=False):
        clean = rows.loc[rows["condition"] == CLEAN, "wer"]
        for ladder in ladders(rows["condition"]):
            for value, condition in ladder.steps:
                part = rows[rows["condition"] == condition]
                known = part[part["wer"].notna()]
                wer = statistics.bootstrap_mean(known["wer"], list(known["clip"]), seed=seed)
                records.append(
                    {"model": str(model), "ladder": ladder.name, "parameter": ladder.parameter, "axis": ladder.axis}
                    | {"value": value, "achieved": _achieved(part, ladder.parameter), "condition": condition}
                    | {"n": wer.n, "wer": wer.effect, "low": wer.low, "high": wer.high}
                    | {"truncated": float(part["truncated"].astype(bool).mean()), "clean_wer": float(clean.mean())}
                    | _changes(pooled.summary, {"model": model, "stress": condition, "k": 50}, "d_n_eff_pct", 50)
                    | _changes(pooled.tests, {"model": model, "stress": condition, "proxy": "n_eff_pct"}, "change", 10)
                )
    return pd.DataFrame.from_records(records)


def _changes(table: pd.DataFrame, wanted: Mapping[str, Any], column: str, k: int) -> dict[str, float]:
    """d_n_eff_<k> with its interval, of all pairs at matched lengths; NaN where it was not measured."""
    ends = {"": column, "_low": f"{column}_low", "_high": f"{column}_high"}
    if column == "change":
        ends |= {"_low": "low", "_high": "high"}
    rows = table
    if not rows.empty:
        wanted = dict(wanted) | {"component": COMPONENT, "length": "matched", "kept": "all"}
        for name, value in wanted.items():
            rows = rows[rows[name] == value]
        if "layer" in rows:
            rows = rows[rows["layer"].isna()]
    found = {
        f"d_n_eff_{k}{end}": float(rows[name].iloc[0]) if len(rows) else float("nan") for end, name in ends.items()
    }
    counted = "n" if column == "change" else "n_clips"
    return found | {f"n_{k}": int(rows[counted].iloc[0]) if len(rows) else 0}


def _achieved(rows: pd.DataFrame, parameter: str) -> float:
    found = [json.loads(text or "{}").get(parameter) for text in rows["achieved"]]
    numbers = [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]
    return float(np.median(numbers)) if numbers else float("nan")
