"""What the stresses did to the audio, as it was measured on the samples: by condition, over clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison.conditions import conditions_of

SHORT_POOL = "short_pool"
"""Remark of a mix that found fewer other speakers than it asked for."""

LEVEL_CHANGE = "level_change_db"


def achieved_values(clips: pd.DataFrame) -> pd.DataFrame:
    """Median and range of every number that was measured on the stressed audio.

    Args:
        clips: the clips records; `achieved` is JSON, an object of numbers (of objects of them where stresses are
            composed). The same sample heard by several models counts once.

    Returns:
        One row a condition x quantity: n (samples that have it), median, least, most. Quantities of a composition are
        named "part.quantity"; "level_change_db" is the level after the stress over the level before, sample by sample.
    """
    records: dict[tuple[str, str], list[float]] = {}
    samples = _samples(clips)
    for condition in conditions_of(samples):
        for text in samples.loc[samples["condition"] == condition, "achieved"]:
            found = dict(_numbers(json.loads(text) if isinstance(text, str) and text else {}))
            if {"level_dbfs", "source_level_dbfs"} <= set(found):
                found[LEVEL_CHANGE] = found["level_dbfs"] - found["source_level_dbfs"]
            for name, value in found.items():
                records.setdefault((condition, name), []).append(value)
    return pd.DataFrame.from_records(
        [
            {
                "condition": condition,
                "quantity": name,
                "n": len(values),
                "median": float(np.median(values)),
                "least": min(values),
                "most": max(values),
            }
            for (condition, name), values in records.items()
        ],
        columns=["condition", "quantity", "n", "median", "least", "most"],
    )


def stressed_samples(clips: pd.DataFrame) -> pd.DataFrame:
    """How many samples each condition has, how many were cut or split at the window, and how many pools were short.

    Returns:
        One row a condition: samples (distinct clips), least and most seconds (NaN where the records have none),
        truncated_least and truncated_most (samples that were cut, of the model that cut fewest and most: windows
        differ), windows (most of any sample; NaN in records that do not tell), short_pool (mixes and babbles of fewer
        speakers than asked; NaN where the records have no remarks).
    """
    samples = _samples(clips)
    records = []
    for condition in conditions_of(clips):
        rows, once = (table[table["condition"] == condition] for table in (clips, samples))
        cut = rows["truncated"].astype(bool).groupby(rows["model"]).sum()
        seconds = once["duration_s"].astype(float) if "duration_s" in once else pd.Series(dtype=float)
        records.append(
            {
                "condition": condition,
                "samples": len(once),
                "seconds_least": seconds.min(),
                "seconds_median": seconds.median(),
                "seconds_most": seconds.max(),
                "truncated_least": int(cut.min()),
                "truncated_most": int(cut.max()),
                "windows": float(rows["windows"].max()) if "windows" in rows else np.nan,
                "short_pool": _short(once),
            }
        )
    return pd.DataFrame.from_records(records)


def _samples(clips: pd.DataFrame) -> pd.DataFrame:
    """One row a clip x condition, whichever model heard it."""
    return clips.drop_duplicates(["clip", "condition"])


def _numbers(tree: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Leaves that are finite numbers, with keys joined by dots."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree, start=1):
            yield from _numbers(value, f"{prefix}.{index}" if prefix else str(index))
    elif isinstance(tree, int | float) and not isinstance(tree, bool) and np.isfinite(tree):
        yield prefix, float(tree)


def _short(once: pd.DataFrame) -> float:
    if "stress_notes" not in once:
        return float("nan")
    return float(sum(SHORT_POOL in (notes if notes is not None else ()) for notes in once["stress_notes"]))
