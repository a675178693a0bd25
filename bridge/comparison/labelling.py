"""What the failures of a run are: labels of its clips table, their shares, and how far they agree.

The paper keeps what has WER > 0.5 and calls it hallucination. Here that filter is one label among seven
(`empirical.recognition.labels`), and `composition` says how much of what it keeps is what.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison.conditions import CLEAN, alike, conditions_of
from bridge.comparison.statistics import LEVEL, MIN_CLUSTERS, RESAMPLES
from empirical.recognition.labels import LABELS, MEASURES, Heard, Rules, judge_unrelated, label
from empirical.recognition.relatedness import Calibration, Told, calibrate, share

FILTER = "wer_above_half"
NONE_OF_THESE = "none_of_these"
EVERYTHING = "all"
STRESSED = "stressed"
"""In the column `condition`: all rows of a model, and all but the clean ones (what the paper calls its Hell set)."""

SCORES = ("wer", "substitutions", "deletions", "insertions", "reference_words", "compression_ratio")
"""Columns of the clips table that follow from its texts alone."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A clips table with labels.

    Attributes:
        clips: the table with SCORES computed anew, and the columns of LABELS (nullable booleans) and MEASURES.
        calibrations: by model, where "unrelated" begins and how well that is told.
        rules: by model, the thresholds that were used.
    """

    clips: pd.DataFrame
    calibrations: dict[str, Calibration]
    rules: dict[str, Rules]

    def identity(self) -> dict[str, Any]:
        """Rules and calibrations as JSON values, NaN as None."""
        return {
            name: {"rules": self.rules[name].identity(), "calibration": _json(asdict(self.calibrations[name]))}
            for name in self.rules
        }


def label_clips(clips: pd.DataFrame, rules: Rules | None = None, *, seed: int = 0) -> Labelled:
    """Scores and labels of every row, from its texts and numbers alone.

    Args:
        clips: rows with model, clip, condition, reference, transcript, avg_logprob and truncated.
        rules: thresholds, phrases and spellings; `unrelated` is overwritten for each model by its calibration.
        seed: which half of the clips the calibration is made on.

    Returns:
        The rows in their order.

    Raises:
        ValueError: naming the columns that are missing.
    """
    needed = ("model", "clip", "condition", "reference", "transcript", "avg_logprob", "truncated")
    if missing := [name for name in needed if name not in clips]:
        raise ValueError(f"clips must have the columns {', '.join(needed)}; missing: {', '.join(missing)}")
    rules = Rules() if rules is None else rules
    table = clips.drop(columns=[name for name in (*LABELS, *MEASURES) if name in clips and name not in needed])
    calibrations, by_model = {}, {}
    columns: dict[int, dict[str, Any]] = {}
    for model, rows in table.reset_index(drop=True).groupby("model", sort=False):
        heard = [_heard(row) for row in rows.to_dict("records")]
        found = [label(one, rules) for one in heard]
        told = [
            Told(str(clip), one.said, one.wrote, one.errors.wer) for clip, one in zip(rows["clip"], found, strict=True)
        ]
        calibrations[str(model)] = calibrate(told, seed)
        mine = by_model[str(model)] = replace(rules, unrelated=calibrations[str(model)].threshold)
        for index, one, labels in zip(rows.index, heard, found, strict=True):
            errors = {name: getattr(labels.errors, name) for name in SCORES[:-1]}
            ratio = {"compression_ratio": labels.compression_ratio}
            columns[int(index)] = errors | ratio | judge_unrelated(labels, one, mine).columns()
    fresh = pd.DataFrame.from_records([columns[index] for index in range(len(table))], index=table.index)
    for name in (*SCORES, *LABELS, *MEASURES):
        # Three-valued: a plain bool column would turn "no answer" into something else.
        values = fresh[name] if name in fresh else pd.Series(dtype=object)
        table[name] = values.astype("boolean") if name in LABELS and name not in needed else values
    return Labelled(table, calibrations, by_model)


def label_shares(clips: pd.DataFrame) -> pd.DataFrame:
    """How often each label holds: one row a model x condition x label, and over all conditions.

    Returns:
        condition (`STRESSED` and `EVERYTHING` among them), label, n (rows where the label has an answer), clips (of
        these), count, share, low, high (95 %, Wilson; over several conditions as wide as the number of clips has it;
        under digital silence as one clip has it, since to a model all are the same),
        unknown (rows without an answer).
    """
    records = []
    for keys, rows in _cells(clips):
        records += [keys | _share_of(rows, rows[name].astype("boolean"), name) for name in LABELS]
    return pd.DataFrame.from_records(records)


def composition(clips: pd.DataFrame) -> pd.DataFrame:
    """How much of "WER > 0.5" is what: one row a model x condition x other label, and `NONE_OF_THESE`.

    Labels overlap, so the shares need not add up to 1; a label without an answer counts for "none of these" as one
    that does not hold. `substituted`, `deleted` and `inserted` are those errors' shares of all errors of the rows.

    Returns:
        Columns as `label_shares`, and those three.
    """
    others = [name for name in LABELS if name != FILTER]
    records = []
    for keys, rows in _cells(clips):
        kept = rows[rows[FILTER].astype("boolean").fillna(False).to_numpy(dtype=bool)]
        counts = kept[["substitutions", "deletions", "insertions"]].sum().to_numpy(dtype=np.float64)
        made = counts / counts.sum() if counts.sum() else np.full(3, np.nan)
        errors = dict(zip(("substituted", "deleted", "inserted"), map(float, made), strict=True))
        flags = {name: kept[name].astype("boolean") for name in others}
        any_other = np.zeros(len(kept), dtype=bool)
        for flag in flags.values():
            any_other |= flag.fillna(False).to_numpy(dtype=bool)
        flags[NONE_OF_THESE] = pd.Series(~any_other, index=kept.index, dtype="boolean")
        records += [keys | _share_of(kept, flag, name) | errors for name, flag in flags.items()]
    return pd.DataFrame.from_records(records)


def agreement_of_labels(clips: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Cohen's kappa (1960) of every pair of labels, by model, over all conditions.

    kappa = (p_o - p_e) / (1 - p_e), p_o the share of rows on which two labels agree, p_e that share if they were
    independent with the same margins: 1 for the same label, 0 for chance. The interval is a percentile bootstrap over
    clips. Where a label is rare kappa is small whatever agrees, so the four counts stand beside it; where one of them
    holds everywhere or nowhere, kappa would be 0 whatever the other does, and is NaN.

    Args:
        clips: a labelled table.
        seed: of the resampling.
        resamples: number of them.

    Returns:
        model, first, second, n (rows where both have an answer), clips, both, first_only, second_only, neither,
        kappa, low, high, code: "ok", "constant", "too_few_clusters" (below MIN_CLUSTERS clips), or "undefined" where a
        label is constant in more than a twentieth of the resamples.
    """
    records = []
    for model, rows in clips.groupby("model", sort=False):
        pairs, tables = [], []
        answers = {name: rows[name].astype("boolean") for name in LABELS}
        codes, _ = pd.factorize(rows["clip"], sort=True)
        for first, second in itertools.combinations(LABELS, 2):
            kept = (answers[first].notna() & answers[second].notna()).to_numpy(dtype=bool)
            a, b = (answers[name][kept].to_numpy(dtype=bool) for name in (first, second))
            pairs.append((first, second))
            tables.append(_counts_by_clip(a, b, codes[kept]))
        found = _kappas(tables, seed=seed, resamples=resamples)
        for (first, second), kappa in zip(pairs, found, strict=True):
            records.append({"model": str(model), "first": first, "second": second} | kappa)
    return pd.DataFrame.from_records(records)


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Kappa of tables of counts.

    Args:
        counts: (..., 4): both, first only, second only, neither; any weights.

    Returns:
        (...): NaN where either label is constant, or there is no row.
    """
    both, first, second, neither = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    total = both + first + second + neither
    constant = (both + first) * (second + neither) * (both + second) * (first + neither) == 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed = (both + neither) / total
        one, other = (both + first) / total, (both + second) / total
        chance = one * other + (1.0 - one) * (1.0 - other)
        return np.where(constant, np.nan, (agreed - chance) / (1.0 - chance))


def changed_scores(before: pd.DataFrame, after: pd.DataFrame) -> list[dict[str, Any]]:
    """Where SCORES differ between two tables of the same rows: one mapping a value, with what it was and is.

    Integers differ where they are not the same, reals where they are more than rounding apart.
    """
    found = []
    for name in SCORES:
        if name not in before:
            continue
        old = pd.to_numeric(before[name]).to_numpy(dtype=np.float64)
        new = pd.to_numeric(after[name]).to_numpy(dtype=np.float64)
        same = np.isclose(old, new, rtol=1e-12, atol=0.0, equal_nan=True)
        for index in np.flatnonzero(~same):
            where = {key: str(before[key].iloc[index]) for key in ("model", "clip", "condition")}
            found.append(where | {"column": name, "before": float(old[index]), "after": float(new[index])})
    return found


def _heard(row: Mapping[Any, Any]) -> Heard:
    return Heard(
        reference=None if _absent(row["reference"]) else str(row["reference"]),
        transcript="" if _absent(row["transcript"]) else str(row["transcript"]),
        avg_logprob=float("nan") if _absent(row["avg_logprob"]) else float(row["avg_logprob"]),
        condition=str(row["condition"]),
        truncated=bool(row["truncated"]),
    )


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _cells(clips: pd.DataFrame) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    """Rows by model and condition, and each model's together, without its clean ones and with them."""
    for model, rows in clips.groupby("model", sort=False):
        for condition in conditions_of(rows):
            yield {"model": str(model), "condition": condition}, rows[rows["condition"] == condition]
        stressed = rows[rows["condition"] != CLEAN]
        if stressed["condition"].nunique() > 1:
            yield {"model": str(model), "condition": STRESSED}, stressed
        yield {"model": str(model), "condition": EVERYTHING}, rows


def _share_of(rows: pd.DataFrame, flag: pd.Series, name: str) -> dict[str, Any]:
    known = flag.notna().to_numpy(dtype=bool)
    count, clips = int(flag[known].sum()), int(rows["clip"][known].nunique())
    same = clips > 0 and all(map(alike, rows["condition"][known].unique()))
    found = share(count, int(known.sum()), independent=1 if same else clips or None)
    return {
        "label": name,
        "n": found.n,
        "clips": clips,
        "count": count,
        "share": found.value,
        "low": found.low,
        "high": found.high,
        "unknown": int((~known).sum()),
    }


def _counts_by_clip(a: np.ndarray, b: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(clips, 4): rows of each clip where both hold, the first only, the second only, neither."""
    _, codes = np.unique(codes, return_inverse=True)
    cells = 2 * ~a + ~b
    return np.bincount(4 * codes + cells, minlength=4 * (int(codes.max(initial=-1)) + 1)).reshape(-1, 4).astype(float)


def _kappas(tables: Sequence[np.ndarray], *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """Kappa of each table of `_counts_by_clip`, with its interval.

    All tables of as many clips share their draws, which are made in batches: of 5,559 clips and 2,000 resamples the
    weights alone would be 90 MB, and the drawing of them takes longer than all else.
    """
    values = [float(cohen_kappa(by_clip.sum(axis=0))) for by_clip in tables]
    drawn: dict[int, np.ndarray] = {}
    usable = [i for i, one in enumerate(tables) if np.isfinite(values[i]) and len(one) >= MIN_CLUSTERS]
    for size in sorted({len(tables[index]) for index in usable}):
        members = [index for index in usable if len(tables[index]) == size]
        side = np.concatenate([tables[index] for index in members], axis=1)
        rng = np.random.default_rng(seed)
        step = max(1, 2**20 // size)
        sums = [
            rng.multinomial(size, np.full(size, 1.0 / size), size=min(step, resamples - start)) @ side
            for start in range(0, resamples, step)
        ]
        kappas = cohen_kappa(np.concatenate(sums).reshape(resamples, len(members), 4))
        drawn |= {index: kappas[:, place] for place, index in enumerate(members)}
    records = []
    for index, (by_clip, value) in enumerate(zip(tables, values, strict=True)):
        low = high = float("nan")
        code = "constant" if not np.isfinite(value) else "too_few_clusters"
        if index in drawn:
            finite = drawn[index][np.isfinite(drawn[index])]
            code = "ok" if len(finite) >= 0.95 * resamples else "undefined"
            if code == "ok":
                low, high = map(float, np.quantile(finite, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0]))
        total = by_clip.sum(axis=0)
        counts = dict(zip(("both", "first_only", "second_only", "neither"), map(int, total), strict=True))
        records.append(
            {"n": int(total.sum()), "clips": len(by_clip)}
            | counts
            | {"kappa": value, "low": low, "high": high, "code": code}
        )
    return records


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
