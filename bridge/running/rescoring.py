"""Scores and labels of a run's clips table, computed anew from its texts: no model and no audio is needed.

records/clips.parquet is replaced: the columns of `SCORES` by what they are now, those of `LABELS` and `MEASURES` added
or replaced, all others kept as they are. What was measured stays in parts/, which nothing here touches, and what
changed is told, value by value, in rescored.json beside the rules. records/detectors.parquet says how well each number
of the clips, and of activations and layers where the run has them, tells the labelled rows from the others.

Every run is labelled so after its records are merged, by the rules that it was given before (`running.label_rules`),
else by the defaults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bridge.comparison import detectors
from bridge.comparison.labelling import (
    SCORES,
    Labelled,
    agreement_of_labels,
    changed_scores,
    composition,
    label_clips,
    label_shares,
)
from bridge.errors import ConfigError, OtherSettingsError, reason
from bridge.running.files import read_provenance, write_json, write_table
from bridge.running.label_rules import read_rules, write_rules
from bridge.running.schema import CLIPS, to_table
from bridge.running.store import RunStore
from empirical.recognition.labels import LABELS, MEASURES, Rules

SCHEMA_VERSION = 2

MOST_CHANGES = 10_000
"""Values that differ which rescored.json lists one by one; of all it has the count."""

_TYPES: dict[str, pa.DataType] = {
    **{name: CLIPS[name] for name in SCORES},
    **dict.fromkeys(LABELS, pa.bool_()),
    **dict.fromkeys(("insertion_rate", "relatedness"), pa.float64()),
    **dict.fromkeys(("loop_period", "loop_repeats", "loop_words"), pa.int64()),
    "phrases": pa.list_(pa.string()),
}


@dataclass(frozen=True, slots=True)
class Rescored:
    """What was done.

    Attributes:
        clips: the table that was written.
        details: rescored.json, with rules, calibrations, changes, shares, composition, agreement and best detectors.
        detectors: records/detectors.parquet, None where no label varies, and so nothing is told.
        rows: of the table.
        changed: values that differ from what stood there, by column; empty where none does.
        labelled: labels with their shares over all conditions, one mapping a model x label.
    """

    clips: Path
    details: Path
    detectors: Path | None
    rows: int
    changed: dict[str, int]
    labelled: list[dict[str, Any]]


def rescore(directory: str | Path, rules: Rules | None = None) -> Rescored:
    """Scores and labels a run again.

    Args:
        directory: the run, finished or not.
        rules: thresholds, phrases and spellings, which the run keeps; None for those that it keeps already.

    Raises:
        ConfigError: if the directory is no run, its clips table cannot be read or lacks a column, or the rules that it
            keeps cannot be read.
        OtherSettingsError: if a run is at work in it, or it cannot be written.
    """
    root = Path(directory)
    path = root / "records" / "clips.parquet"
    try:
        settings = json.loads((root / "settings.json").read_text(encoding="utf-8"))
        seed = int(settings.get("config", settings).get("seed", 0))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{root} is not a run directory: it has no readable settings.json") from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing: {root} holds no records yet")
    try:
        with RunStore(root, settings).lock():
            return rescore_records(root, rules, seed)
    except OSError as error:
        raise OtherSettingsError(f"{root} cannot be written: {reason(error)}") from error


def rescore_records(root: Path, rules: Rules | None, seed: int) -> Rescored:
    """As `rescore`, for a caller that holds the run's lock.

    Args:
        root: the run.
        rules: as of `rescore`: None where a run is only merged again.
        seed: of the halves and the resampling.
    """
    path = root / "records" / "clips.parquet"
    given, rules = rules, read_rules(root) if rules is None else rules
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read().replace_schema_metadata(None)
        provenance = read_provenance(path)
        before = table.to_pandas()
        labelled = label_clips(before, rules, seed=seed)
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be scored: {' '.join(str(error).split())}") from error
    after = labelled.clips
    for name in (*SCORES, *LABELS, *MEASURES):
        column = pa.array([_plain(value) for value in after[name]], type=_TYPES[name])
        place = table.schema.get_field_index(name)
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    changes = changed_scores(before, after)
    shares = label_shares(after)
    if given is not None:
        write_rules(root, given)
    # The table first: what tells of it must not be there without it.
    write_table(path, table, provenance | {"rescored": labelled.identity()})
    best, detected = _detect(root, after, provenance | {"rescored": labelled.identity()}, seed)
    details = _details(labelled, provenance, changes, shares, seed) | {"best_detectors": best}
    write_json(root / "rescored.json", details)
    pooled = shares[(shares["condition"] == "all") & (shares["n"] > 0)]
    return Rescored(
        clips=path,
        details=root / "rescored.json",
        detectors=detected,
        rows=table.num_rows,
        changed={name: count for name in SCORES if (count := sum(one["column"] == name for one in changes))},
        labelled=_records(pooled[["model", "label", "n", "count", "share", "low", "high"]]),
    )


def _detect(
    root: Path, clips: pd.DataFrame, provenance: dict[str, Any], seed: int
) -> tuple[list[dict[str, Any]], Path | None]:
    """Writes the baseline of detectors; returns the best of each kind, and where it was written."""
    wanted = {
        "activations": ("component", "layer", *detectors.PROXIES),
        "layers": ("state", "layer", "layers", *detectors.JACOBIAN),
    }
    tables = []
    for name, columns in wanted.items():
        path = root / "records" / f"{name}.parquet"
        columns = (*detectors.KEYS, *columns)
        if not path.is_file():
            tables.append(pd.DataFrame(columns=list(columns)))
            continue
        # In old runs the activations themselves are most of that file, and are not looked at here.
        there = set(pq.read_schema(path).names)
        tables.append(pd.read_parquet(path, columns=[key for key in columns if key in there]))
    table = detectors.baseline(clips, *tables)
    target = root / "records" / "detectors.parquet"
    if table.empty:
        target.unlink(missing_ok=True)
        return [], None
    write_table(target, to_table("detectors", _records(table)), provenance)
    return _records(detectors.best_of_each_kind(clips, *tables, seed=seed)), target


def _details(
    labelled: Labelled, provenance: dict[str, Any], changes: list[dict[str, Any]], shares: pd.DataFrame, seed: int
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "models": labelled.identity(),
        "before": provenance.get("rescored"),
        "changed": len(changes),
        "changes": [{name: _plain(value) for name, value in change.items()} for change in changes[:MOST_CHANGES]],
        "shares": _records(shares),
        "composition": _records(composition(labelled.clips)),
        "agreement": _records(agreement_of_labels(labelled.clips, seed=seed)),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A value of a table as Arrow and JSON take it: what is missing is None."""
    if value is pd.NA or value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
