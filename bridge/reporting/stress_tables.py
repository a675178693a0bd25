"""Tables of the report about the audio: what was stressed how, as measured on the samples, and what was cut."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from bridge.comparison.achieved import achieved_values, stressed_samples
from bridge.comparison.analysis import Analysis
from bridge.reporting.wording import NOTHING, Table, percent

QUANTITIES = {
    "snr_db": "SNR (dB)",
    "sir_db": "target over others (dB)",
    "rate": "rate (×)",
    "speakers": "speakers",
    "talkers": "talkers",
    "drr_db": "direct over reverberant (dB)",
    "rt60_s": "RT60 (s)",
    "clipped_fraction": "clipped share",
}
"""What the quantities of `achieved` are called; others by their own name."""


def stressed(analysis: Analysis) -> Table:
    """Condition by condition: samples, seconds, what was achieved, and how many were cut at the window."""
    clips = analysis.tables.clips
    values = achieved_values(clips)
    models = clips["model"].nunique()
    rows = []
    for row in stressed_samples(clips).to_dict("records"):
        own = values[values["condition"] == row["condition"]]
        least, most = row["truncated_least"], row["truncated_most"]
        cut = percent(most, row["samples"]) if least == most else f"{percent(least, row['samples'])} to "
        cut += "" if least == most else percent(most, row["samples"])
        rows.append(
            [
                row["condition"],
                str(row["samples"]),
                _range(row["seconds_median"], row["seconds_least"], row["seconds_most"]),
                _level(own),
                "; ".join(_said(one) for one in own.to_dict("records") if not _told_apart(one)) or NOTHING,
                cut,
                *([NOTHING if math.isnan(row["windows"]) else str(int(row["windows"]))] if "windows" in clips else []),
                *([str(int(row["short_pool"]))] if "stress_notes" in clips else []),
            ]
        )
    headers = [
        "condition", "samples", "seconds", "level (dBFS)", "achieved, median (range)", "cut at the window",
        *(["most windows"] if "windows" in clips else []),
        *(["pool too small"] if "stress_notes" in clips else []),
    ]  # fmt: skip
    differ = " (of the model that cuts fewest to the one that cuts most)" if models > 1 else ""
    return Table(
        "What was done to the audio, as measured on the samples themselves; a sample that several models heard counts "
        f"once. Cut: longer than the model's window{differ}; such samples are counted apart wherever failures are.",
        headers,
        rows,
        [False, True, True, True, False] + [True] * (len(headers) - 5),
    )


def _level(own: pd.DataFrame) -> str:
    found = own[own["quantity"] == "level_dbfs"]
    return NOTHING if found.empty else _range(*found[["median", "least", "most"]].iloc[0])


def _told_apart(one: dict[str, Any]) -> bool:
    """Whether a quantity has a column of its own, is of the source, or changed nothing."""
    name = str(one["quantity"]).rpartition(".")[2]
    unscaled = name == "scale" and one["least"] == one["most"] == 1.0
    return unscaled or name in ("duration_s", "level_dbfs") or name.startswith("source_")


def _said(one: dict[str, Any]) -> str:
    part, _, name = str(one["quantity"]).rpartition(".")
    name, _, place = name.rpartition("_") if name[-1:].isdigit() else (name, "", "")
    title = QUANTITIES.get(name, "scaled by" if name == "scale" else name.replace("_", " "))
    title += f", part {place}" if place else ""  # the same quantity of a later part of a composition
    return f"{part + ': ' if part else ''}{title} {_range(one['median'], one['least'], one['most'])}"


def _range(median: Any, least: Any, most: Any) -> str:
    """'3.5 (3.2 to 3.8)', or the one number where all are the same to three digits."""
    if median is None or pd.isna(median):
        return NOTHING
    middle, *ends = (_tidy(value) for value in (median, least, most))
    return middle if ends[0] == ends[1] else f"{middle} ({ends[0]} to {ends[1]})"


def _tidy(value: Any) -> str:
    """Three digits without trailing zeros; what is 0 to a thousandth is 0, not 1.9e-09."""
    return "0" if abs(value) < 5e-4 else f"{float(value):.3g}".replace("-", "−")


def limit_of_labels(analysis: Analysis) -> str:
    """What the filter of the paper and the labels can say of a hallucination, for the limits."""
    filtered = "WER above 0.5 is what the paper filters by; it holds of a cut or a deleted sentence as well."
    if not analysis.tables.rescored:
        return f"{filtered} This run's transcripts carry no labels that tell these apart (spi rescore)."
    return (
        f"{filtered} What such failures are stands under “What the failures are”: labels by rules on text and scores, "
        "which overlap and are not added up. “Fluent but unrelated” is told without a language model, by a threshold "
        "chosen on half of the clips; its errors on the other half stand there. No person has read these transcripts."
    )
