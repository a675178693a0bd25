"""Tables of the report about what the failures of a run are, from the labels that rescored.json tells of."""

from __future__ import annotations

from typing import Any

from bridge.comparison.analysis import Analysis
from bridge.comparison.labelling import EVERYTHING, FILTER, NONE_OF_THESE, STRESSED
from bridge.reporting.wording import NOTHING, Table, fixed, fixed_interval, number
from empirical.recognition.labels import LABELS
from empirical.recognition.relatedness import ACCURATE_WER, MIN_CLIPS

TITLES = {
    FILTER: "WER > 0.5",
    "insertion_heavy": "insertion-heavy",
    "looping": "looping",
    "hallucination_phrase": "listed phrase",
    "text_on_non_speech": "text on non-speech",
    "fluent_unrelated": "fluent, unrelated",
    "truncated": "cut at the window",
    NONE_OF_THESE: "none of these",
}
"""What labels are called in tables and figures."""

POOLED = {STRESSED: "all but clean", EVERYTHING: "all conditions"}
"""What the rows over several conditions are called."""

COMPOSED = (*(name for name in LABELS if name != FILTER), NONE_OF_THESE)
"""What WER > 0.5 may be made of, in the order of tables."""


def sentences(analysis: Analysis) -> list[str]:
    """Plain paragraphs at the head of the section; none where nothing is labelled."""
    labels = records(analysis, "shares")
    if not labels:
        return []
    told = [
        "WER > 0.5 is the paper's filter: it says that a transcript failed, not how. Seven labels say how, each by its "
        "own rule; they overlap and are never added up. Truncated audio is a label of its own: words that lie beyond "
        "the model's window cannot be heard by any model."
    ]
    missing = []
    for name, why in (
        ("hallucination_phrase", "no list of phrases was given (spi rescore --phrases FILE)"),
        ("text_on_non_speech", "every clip has words, and no condition takes them away"),
        ("fluent_unrelated", f"too few clips with a reference to calibrate it ({2 * MIN_CLIPS} at least)"),
    ):
        if not _answers(labels, name):
            missing.append(f"{TITLES[name]}: {why}")
    if missing:
        told.append("Without an answer in this run: " + "; ".join(missing) + ".")
    return told


def shown(analysis: Analysis) -> list[Table]:
    """Tables that stand open: what WER > 0.5 is made of, and how often each label holds."""
    made = [composition(analysis), shares(analysis)]
    return [one for one in made if one is not None]


def folded(analysis: Analysis) -> list[tuple[str, Table]]:
    """Tables that are folded away, each with the line that opens it."""
    made = [
        ("Each label's rule, with its threshold", rules(analysis)),
        ("Where “unrelated” begins: threshold and its errors on the other half of the clips", calibration(analysis)),
        ("Agreement of the labels, pair by pair", agreement(analysis)),
    ]
    return [(summary, table) for summary, table in made if table is not None]


def shares(analysis: Analysis) -> Table | None:
    """How often each label holds, by model and condition."""
    found = records(analysis, "shares")
    if not found:
        return None
    names = [name for name in LABELS if _answers(found, name)]
    rows, emphasised = [], set()
    for (model, condition), by_label in cells(found).items():
        transcripts = max(int(one["n"]) + int(one["unknown"]) for one in by_label.values())
        if condition in POOLED:
            emphasised.add(len(rows))
        told = [_share(by_label[name], transcripts) for name in names]
        rows.append([model, POOLED.get(condition, condition), str(transcripts), *told])
    return Table(
        "How often each label holds: share of transcripts in % with 95 % interval (Wilson; over several conditions as "
        "wide as the number of clips has it). “of n” where fewer transcripts have an answer. Labels overlap.",
        ["model", "condition", "transcripts", *(TITLES[name] for name in names)],
        rows,
        [False, False] + [True] * (1 + len(names)),
        frozenset(emphasised),
    )


def composition(analysis: Analysis) -> Table | None:
    """What the transcripts with WER > 0.5 are, by model and condition."""
    found = records(analysis, "composition")
    names = [name for name in COMPOSED if _answers(found, name)]
    if not names:
        return None
    rows, emphasised = [], set()
    for (model, condition), by_label in cells(found).items():
        kept = int(by_label[NONE_OF_THESE]["n"])
        if condition in POOLED:
            emphasised.add(len(rows))
        if not kept:
            rows.append([model, POOLED.get(condition, condition), "0", *[NOTHING] * (len(names) + 3)])
            continue
        errors = [_percent(by_label[NONE_OF_THESE][name]) for name in ("substituted", "deleted", "inserted")]
        told = [_share(by_label[name], kept) for name in names]
        rows.append([model, POOLED.get(condition, condition), str(kept), *told, *errors])
    return Table(
        "What “WER > 0.5” is made of: of the transcripts that the filter keeps, the share in % that each other label "
        "holds for, with 95 % interval (Wilson). Labels overlap, so a row need not add up to 100. Last, how the words "
        "of these transcripts are wrong, in % of all their word errors.",
        ["model", "condition", "WER > 0.5", *(TITLES[name] for name in names), "replaced", "left out", "made up"],
        rows,
        [False, False] + [True] * (4 + len(names)),
        frozenset(emphasised),
    )


def agreement(analysis: Analysis) -> Table | None:
    """Cohen's kappa of each pair of labels that has one."""
    found = records(analysis, "agreement")
    known = [row for row in found if row["code"] != "constant"]
    if not known:
        return None
    rows = [
        [
            row["model"],
            TITLES[row["first"]],
            TITLES[row["second"]],
            *(str(row[name]) for name in ("both", "first_only", "second_only", "neither")),
            f"{fixed_interval(row['kappa'], row['low'], row['high'], 2)}{_why(row['code'])}",
            str(row["clips"]),
        ]
        for row in known
    ]
    return Table(
        "Cohen's κ of two labels over all conditions, with 95 % bootstrap interval over clips: 1 for the same label, 0 "
        f"for chance. {len(found) - len(known)} pairs are left out, of which one label holds everywhere or nowhere. "
        "Where a label is rare κ is small whatever agrees: hence the four counts.",
        ["model", "label", "other label", "both", "first only", "second only", "neither", "κ [95 %]", "clips"],
        rows,
        [False] * 3 + [True] * 6,
    )


def calibration(analysis: Analysis) -> Table | None:
    """Where "unrelated" begins for each model, and how well that is told on clips that had no part in it."""
    rows = []
    for model, told in analysis.tables.rescored.get("models", {}).items():
        one = told.get("calibration", {})
        if one.get("code") != "ok":
            rows.append([str(model), str(one.get("code", NOTHING)).replace("_", " "), *[NOTHING] * 5])
            continue
        errors = [one[name] for name in ("missed", "false_alarms")]
        told = [text for error in errors for text in (_share(error | {"share": error["value"]}), str(error["n"]))]
        rows.append([str(model), number(one["threshold"]), str(one["pairs"]), *told])
    if not rows:
        return None
    return Table(
        "“Unrelated” is told without a language model: a transcript that resembles its own reference (the mean of "
        "words, letters and sounds in common) no more than 95 % of transcripts resemble the references of other clips. "
        "The threshold comes from one half of the clips; both errors are counted on the other half, in % with an "
        "interval as wide as the number of clips has it. Missed: pairs of a transcript and a foreign reference above "
        "the threshold, of which the rule aims at 5 %. False alarms: transcripts with WER up to "
        f"{ACCURATE_WER:g} at or below it.",
        ["model", "threshold", "chosen on pairs", "missed (%)", "of pairs", "false alarms (%)", "of transcripts"],
        rows,
        [False] + [True] * 6,
    )


def rules(analysis: Analysis) -> Table | None:
    """What each label asks, with the thresholds that were used."""
    models = analysis.tables.rescored.get("models", {})
    if not models:
        return None
    one: dict[str, Any] = next(iter(models.values()))["rules"]
    phrases = one.get("phrases")
    listed = f"{phrases['phrases']} phrases of {phrases['source']}" if phrases else "no list was given"
    said = {
        FILTER: f"word error rate above {one['wer']:g}, after {one['normaliser']['name'].rpartition('.')[2]}",
        "insertion_heavy": f"more than {one['insertion_rate']:g} made-up words a word of the reference",
        "looping": f"a block of words {one['loop_repeats']} times on end, {one['loop_words']} words beyond what the "
        f"reference repeats itself; or a compression ratio above {one['compression_ratio']:g}",
        "hallucination_phrase": f"a phrase of the list that the reference has not ({listed})",
        "text_on_non_speech": "words, where nothing was said: an empty reference, or a condition without the utterance",
        "fluent_unrelated": f"{one['fluent_words']} words or more, mean log-probability above "
        f"{fixed(one['log_prob'], 1)}, not looping, and unrelated to the reference (threshold by model, below)",
        "truncated": "the audio is longer than the model's window",
    }
    rows = [[TITLES[name], text] for name, text in said.items()]
    return Table("What each label asks of a transcript.", ["label", "holds where"], rows, [False, False])


def records(analysis: Analysis, name: str) -> list[dict[str, Any]]:
    """Rows of one table of rescored.json, models in the order of the run; none where nothing is labelled.

    Args:
        analysis: of the run.
        name: "shares", "composition", "agreement" or "best_detectors".
    """
    place = {model: index for index, model in enumerate(analysis.tables.models)}
    found = analysis.tables.rescored.get(name, [])
    return sorted(found, key=lambda row: place.get(row["model"], len(place)))


def cells(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Rows by model and condition, then by label, in the order they come."""
    by_cell: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in found:
        by_cell.setdefault((str(row["model"]), str(row["condition"])), {})[str(row["label"])] = row
    return by_cell


def _answers(found: list[dict[str, Any]], label: str) -> int:
    """Rows, over all conditions, where this label has an answer."""
    return sum(row["n"] for row in found if row["label"] == label)


def _share(one: dict[str, Any], whole: int | None = None) -> str:
    """'8.3 [2.3, 25.8]' in percent, with 'of n' where n is not the whole; a dash without an answer."""
    if not one["n"]:
        return NOTHING
    share, low, high = (_times(one[name]) for name in ("share", "low", "high"))
    text = fixed_interval(share, low, high, 1, signed=False)
    return text if whole is None or one["n"] == whole else f"{text} of {int(one['n'])}"


def _percent(value: Any) -> str:
    return fixed(_times(value), 0)


def _times(value: Any) -> float | None:
    return None if value is None else 100.0 * float(value)


def _why(code: str) -> str:
    """Why a kappa has no interval."""
    said = {"too_few_clusters": "too few clips", "undefined": "too rare"}.get(code)
    return f" ({said})" if said else ""
