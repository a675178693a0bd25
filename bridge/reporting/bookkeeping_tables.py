"""Tables of the report about the run itself: what was kept out, settings, times, and failed transcripts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import in_order
from bridge.reporting.wording import NOTHING, Table, mebibytes, number, percent, seconds


def quarantine(analysis: Analysis, counts: dict[str, int]) -> Table:
    """Quarantined samples by reason, at which stage and under which conditions, with an example."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in analysis.tables.quarantine:
        entries.setdefault(str(entry.get("code", "unknown")), []).append(entry)
    total = sum(counts.values())
    rows = []
    for code, count in counts.items():
        found = entries.get(code, [{}])
        rows.append(
            [
                code,
                str(count),
                percent(count, total),
                ", ".join(dict.fromkeys(str(one["stage"]) for one in found if one.get("stage"))) or NOTHING,
                ", ".join(in_order(one["condition"] for one in found if one.get("condition"))) or NOTHING,
                _example(found[0]),
            ]
        )
    return Table(
        "Samples that were not measured, by reason; quarantine.jsonl names every one.",
        ["code", "samples", "share", "stage", "conditions", "for example"],
        rows,
        [False, True, True],
    )


def _example(entry: dict[str, Any]) -> str:
    where = str(entry.get("path") or entry.get("utterance") or "")
    detail = str(entry.get("detail") or "")
    return ": ".join(part for part in (where, detail) if part) or NOTHING


def flat(title: str, tree: Any, *, depth: int = 3) -> Table:
    """A mapping as two columns, nested keys joined by dots; long lists say how many they are."""
    rows: list[list[str]] = []

    def walk(prefix: str, value: Any, left: int) -> None:
        if isinstance(value, dict) and left:
            for key, one in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), one, left - 1)
        elif isinstance(value, list | tuple):
            plain = all(not isinstance(one, dict | list) for one in value)
            short = ", ".join(str(one) for one in value)
            rows.append([prefix, short if plain and len(short) < 400 else f"{len(value)} entries"])
        else:
            rows.append([prefix, NOTHING if value is None else str(value)])

    walk("", tree, depth)
    return Table(title, ["", ""], rows)


def timings(analysis: Analysis) -> Table:
    """Wall time by stage, worker time by model and state, peak memory."""
    found = analysis.tables.timings
    rows = [[f"stage: {name}", seconds(value)] for name, value in dict(found.get("stages", {})).items()]
    for name, entry in dict(found.get("worker_seconds", {})).items():
        rows.append([f"worker time: {name}", f"{seconds(entry.get('seconds'))} in {int(entry.get('tasks', 0))} tasks"])
    if "total" in found:
        rows.append(["whole run so far", seconds(found["total"])])
    memory = found.get("peak_rss_bytes", {})
    if isinstance(memory, dict):
        if memory.get("parent") is not None:
            rows.append(["peak memory, main process", mebibytes(memory["parent"])])
        rows += [[f"peak memory, worker {i}", mebibytes(value)] for i, value in enumerate(memory.get("workers", []), 1)]
    return Table(
        "Wall time and memory (the report's own stage is added once it is written).", ["", ""], rows, [False, True]
    )


def picked(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, the same number of each model and condition as far as they go, in their order."""
    if len(table) <= most:
        return table
    turn = table.groupby(["model", "condition"], sort=False).cumcount()
    return table.loc[turn.sort_values(kind="stable").index[:most].sort_values()]


def sample_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Failed transcripts as text for the report."""
    return [
        {
            "model": str(row.model),
            "condition": str(row.condition),
            "clip": str(row.clip),
            "wer": number(row.wer, 3),
            "logprob": number(row.avg_logprob, 3),
            "compression": number(row.compression_ratio, 3),
            "reference": str(row.reference or ""),
            "transcript": str(row.transcript or "").strip() or "(nothing)",
        }
        for row in table.itertuples()
    ]
