"""Tables of the report about the audio: what was stressed how, as measured on the samples, and what was cut."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from bridge.comparison.achieved import LEVEL_CHANGE, achieved_values, stressed_samples
from bridge.comparison.analysis import Analysis
from bridge.reporting.wording import NOTHING, Table, percent
from empirical.recognition.labels import leaves_no_speech

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


_SCALED = "Scaled by: the factor that kept a sample within full scale. "


def stressed(analysis: Analysis) -> Table:
    """Condition by condition: samples, seconds, what was achieved, and how many were cut at the window."""
    clips = analysis.tables.clips
    values = achieved_values(clips)
    models = clips["model"].nunique()
    factors = values[values["quantity"] == "scale"]
    scaled = bool(((factors["least"] != 1.0) | (factors["most"] != 1.0)).any())
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
                _told(own, row["condition"]),
                *([_range(*_ends(own, "scale"))] if scaled else []),
                cut,
                *([NOTHING if math.isnan(row["windows"]) else str(int(row["windows"]))] if "windows" in clips else []),
                *([str(int(row["short_pool"]))] if "stress_notes" in clips else []),
            ]
        )
    headers = [
        "condition", "samples", "seconds", "level (dBFS)", "achieved, median (range)",
        *(["scaled by"] if scaled else []),
        "cut at the window",
        *(["most windows"] if "windows" in clips else []),
        *(["pool too small"] if "stress_notes" in clips else []),
    ]  # fmt: skip
    differ = " (of the model that cuts fewest to the one that cuts most)" if models > 1 else ""
    return Table(
        "What was done to the audio, as measured on the samples themselves; a sample that several models heard counts "
        f"once. {_SCALED if scaled else ''}Cut: longer than the model's window{differ}; such samples are counted apart "
        "wherever failures are.",
        headers,
        rows,
        [False, True, True, True, False] + [True] * (len(headers) - 5),
    )


def _level(own: pd.DataFrame) -> str:
    if NOTHING == (level := _range(*_ends(own, "level_dbfs"))) != _range(*_ends(own, "source_level_dbfs")):
        return "−∞"  # samples of a known level became zeros, whose level is no number
    return level


def _ends(own: pd.DataFrame, quantity: str) -> tuple[Any, Any, Any]:
    """Median, least and most of a quantity of one condition; three times None without it."""
    found = own.loc[own["quantity"] == quantity, ["median", "least", "most"]]
    return (None, None, None) if found.empty else tuple(found.iloc[0])


def _told(own: pd.DataFrame, condition: str) -> str:
    """What a stress achieved: its own quantities, or what stands in place of the utterance."""
    said = [_said(one) for one in own.to_dict("records") if not _told_apart(one)]
    if leaves_no_speech(condition):
        change = _range(*_ends(own, LEVEL_CHANGE))
        if change != NOTHING:
            said.insert(0, f"no speech left; level against the utterance (dB) {change}")
        else:
            said.insert(0, "no speech left" + ("; digital zeros" if _level(own) == "−∞" else ""))
    return "; ".join(said) or NOTHING


def _told_apart(one: dict[Any, Any]) -> bool:
    """Whether a quantity has a column of its own, or is of the source."""
    name = str(one["quantity"]).rpartition(".")[2]
    return name in ("duration_s", "level_dbfs", LEVEL_CHANGE, "scale") or name.startswith("source_")


def _said(one: dict[Any, Any]) -> str:
    part, _, name = str(one["quantity"]).rpartition(".")
    name, _, place = name.rpartition("_") if name[-1:].isdigit() else (name, "", "")
    title = QUANTITIES.get(name, name.replace("_", " "))
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
