"""Runs whose jobs are those of `tests/bridge/fake_jobs.py`: a clip is a text file, a model two lines of arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bridge.running import pipeline
from bridge.running.config import RunConfig, make_config
from bridge.running.pipeline import RunSummary

CLIPS = ("a1", "a2", "b1", "b2", "c1", "c2")
SHARDS = 2
"""Of a run of `CLIPS` with the default options: one a model."""
TASKS = 2 * (6 * 4 + 6 * 2)
"""Of the same run's second phase: position in four conditions, sequence in two, for two models."""
ALL = SHARDS + TASKS


def write_audio(directory: Path, names: tuple[str, ...]) -> Path:
    """A directory of clips of these names; what befalls one is in its name (see `fake_jobs`)."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.clip").write_text(name, encoding="utf-8")
    return directory


def config_of(audio: Path, out: Path, **options: Any) -> RunConfig:
    """Of one worker, unless the options say otherwise."""
    return make_config(None, {"audio": str(audio), "out": str(out), "workers": 1, **options})


def run_fake(audio: Path, out: Path, **options: Any) -> RunSummary:
    """The run, without a report."""
    return pipeline.run(config_of(audio, out, **options), report=False)


def tables_of(root: Path) -> dict[str, pa.Table]:
    """The records of a run, without the columns that time it."""
    tables = {path.stem: pq.read_table(path) for path in sorted((root / "records").glob("*.parquet"))}
    return {
        name: table.drop_columns([c for c in ("seconds", "peak_rss_bytes") if c in table.column_names])
        for name, table in tables.items()
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
