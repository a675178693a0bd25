"""C11: whether the log-probability of a transcript sees that it failed, and how sure a model is of what it makes up.

WER > 0.5 decides: it is the paper's own filter, and log-probability has no part in it. The label `fluent_unrelated`
cannot, for its rule asks for a high log-probability; beside the verdict stands the same label without that part, and
how much of it the model took for plausible.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import CLEAN, judged
from bridge.comparison.detectors import clustered_auroc
from bridge.comparison.identity import Identity
from bridge.comparison.statistics import MIN_CLUSTERS, Interval
from bridge.ledger.settling import Reading, Test
from empirical.recognition.labels import Rules
from empirical.recognition.relatedness import share
from observables.thresholds import FAILED_WER

# An AUROC below this would mean that log-probability hardly tells a failed transcript from a good one.
LEAST_AUROC = 0.6

CONFIDENT_SHARE = 0.5
"""Of unrelated transcripts, the share above Whisper's own log-probability of a failed decoding that would be most."""

BESIDE = {
    "insertion_heavy": "insertions above half of the reference",
    "looping": "looping",
    "hallucination_phrase": "a phrase of the list",
    "text_on_non_speech": "text where nothing was said",
}
"""Labels whose rules do not read the log-probability."""


def confidence(analysis: Analysis) -> Test:
    """C11: the transcript's own log-probability does not tell a failure from a success."""
    readings: list[Reading] = []
    clips = analysis.tables.clips
    for name, identity in analysis.identities.items():
        rows = clips[(clips["model"] == name) & ~clips["truncated"].astype(bool)]
        readings += _of_failures(rows, identity, name)
        readings += _of_labels(rows, identity, name)
        readings += _of_the_unrelated(analysis, rows, identity, name)
    return Test(
        "C11",
        "AUROC of minus the mean token log-probability for WER > 0.5, over all clips, clean and under the paper's "
        "stresses (under all that leave speech where none of these was run), truncated audio left out; interval of "
        "Obuchowski (1997) over clips. Blind would be 0.5; the claim needs less than 0.6. Beside it the same without "
        "the clean transcripts, for the labels that do not read the log-probability themselves, and of unrelated "
        "transcripts the share that the model took for plausible.",
        ("tiny", "small", "large"),
        LEAST_AUROC,
        "less",
        readings,
    )


def _of_failures(rows: pd.DataFrame, identity: Identity, name: str) -> list[Reading]:
    scored = rows[rows["wer"].notna() & rows["condition"].isin([CLEAN, *judged(rows["condition"])])]
    readings = []
    for part, what, decides in (
        (scored, "", True),
        (scored[scored["condition"] != CLEAN], ", stressed transcripts alone", False),
    ):
        if decides or (len(part) and part["condition"].nunique() < scored["condition"].nunique()):
            failed = (part["wer"] > FAILED_WER).to_numpy(dtype=bool)
            readings.append(_reading(part, failed, f"WER > 0.5{what}", identity, name, decides=decides))
    return readings


def _of_labels(rows: pd.DataFrame, identity: Identity, name: str) -> list[Reading]:
    readings = []
    for label, what in BESIDE.items():
        if label not in rows:
            continue
        known = rows[rows[label].notna()]
        holds = known[label].to_numpy(dtype=bool)
        if holds.any() and not holds.all():
            readings.append(_reading(known, holds, what, identity, name, decides=False))
    return readings


def _of_the_unrelated(analysis: Analysis, rows: pd.DataFrame, identity: Identity, name: str) -> list[Reading]:
    """Text that has nothing to do with what was said: whether log-probability tells it, and how sure the model is."""
    rules = analysis.tables.rescored.get("models", {}).get(name, {}).get("rules", {})
    threshold = rules.get("unrelated")
    if threshold is None or "relatedness" not in rows:
        return []
    known = rows[rows["relatedness"].notna()]
    words = np.array([len(str(text).split()) for text in known["transcript"].fillna("")], dtype=int)
    fluent = int(rules.get("fluent_words", Rules().fluent_words))
    spoken = (words >= fluent) & ~known["looping"].to_numpy(dtype=bool)
    unrelated = spoken & (known["relatedness"].to_numpy(dtype=np.float64) <= float(threshold))
    if not unrelated.any():
        return []
    made_up = known[unrelated & known["avg_logprob"].notna().to_numpy(dtype=bool)]
    least = float(rules.get("log_prob", Rules().log_prob))
    sure = (made_up["avg_logprob"] > least).to_numpy(dtype=bool)
    clips = made_up["clip"].nunique()
    found = share(int(sure.sum()), len(sure), independent=clips or None)
    interval = Interval(found.value, found.low, found.high, clips)
    if clips < MIN_CLUSTERS:
        interval = Interval(found.value, math.nan, math.nan, clips, code="too_few_clusters" if clips else "no_data")
    readings = [
        Reading(
            name,
            identity.paper_family,
            f"share of unrelated transcripts with mean log-probability above {least:g}",
            interval,
            CONFIDENT_SHARE,
            "greater",
            f"{int(sure.sum())} of {len(sure)} transcripts of {fluent} words or more that do not loop",
            decides=False,
        )
    ]
    if not unrelated.all():
        what = "text unrelated to what was said, whatever its confidence"
        readings.insert(0, _reading(known, unrelated, what, identity, name, decides=False))
    return readings


def _reading(
    rows: pd.DataFrame, holds: NDArray[np.bool_], what: str, identity: Identity, name: str, *, decides: bool
) -> Reading:
    scores = rows["avg_logprob"].to_numpy(dtype=np.float64)
    known = np.isfinite(scores)
    scores, holds = scores[known], holds[known]
    found = clustered_auroc(-scores, holds, rows["clip"].to_numpy()[known])
    means = [scores[side].mean() if side.any() else math.nan for side in (holds, ~holds)]
    return Reading(
        name,
        identity.paper_family,
        f"AUROC of low log-probability for {what}",
        found,
        LEAST_AUROC,
        "less",
        f"{int(holds.sum())} such of {len(holds)} transcripts, truncated ones left out; mean log-probability "
        f"{means[0]:.2f} of these, {means[1]:.2f} of the others",
        decides=decides,
    )
