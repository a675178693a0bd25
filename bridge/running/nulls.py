"""Null models in a run: records that ship with a model, or draws that are measured because they were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bridge.running.config import RunConfig
from bridge.running.files import read_provenance, write_table
from bridge.running.inputs import Inputs, ModelInput
from bridge.running.store import RunStore
from bridge.running.tasks import NullTask

NULLS_FILE = "nulls.parquet"
"""Name under which a model directory may hold the records of its null models."""


def shipped_nulls(model: ModelInput) -> Path | None:
    """The null records that lie beside a model's weights, if they are of these very weights.

    Records that name no weights in their metadata are taken at their word; records of other weights are not used.
    """
    path = Path(model.reference) / NULLS_FILE
    if not path.is_file():
        return None
    try:
        recorded = read_provenance(path).get("model", {})
    except (OSError, ValueError, pa.ArrowException):
        return None
    sha256 = recorded.get("sha256") if isinstance(recorded, Mapping) else None
    return path if sha256 in (None, model.sha256) else None


def unused_nulls(inputs: Inputs) -> list[Path]:
    """Null records that lie beside a model's weights and cannot be used: unreadable, or of other weights."""
    paths = [Path(model.reference) / NULLS_FILE for model in inputs.models if shipped_nulls(model) is None]
    return [path for path in paths if path.is_file()]


def null_tasks(inputs: Inputs, config: RunConfig) -> list[NullTask]:
    """One task for each draw asked for, of every model that ships no null records."""
    return [
        NullTask(model.name, draw)
        for model in inputs.models
        if config.nulls and shipped_nulls(model) is None
        for draw in range(config.nulls)
    ]


def gather_nulls(store: RunStore, inputs: Inputs, measured: Sequence[NullTask], stamp: Mapping[str, Any]) -> int:
    """Writes records/nulls.parquet: shipped records under the run's name of the model, then measured draws.

    Returns:
        number of rows; where it is 0 there is no file, and nothing is said about collapse beyond the nulls.
    """
    tables = []
    for model in inputs.models:
        path = shipped_nulls(model)
        if path is not None:
            table = pq.ParquetFile(path).read().replace_schema_metadata(None)
            names = pa.array([model.name] * table.num_rows, pa.string())
            tables.append(table.set_column(table.schema.get_field_index("model"), "model", names))
    tables += [store.read_part(null.id, "nulls").replace_schema_metadata(None) for null in measured]
    if not tables:
        return 0
    table = pa.concat_tables(tables, promote_options="permissive")
    write_table(store.records / NULLS_FILE, table, {**stamp, "settings": store.digest})
    return table.num_rows
