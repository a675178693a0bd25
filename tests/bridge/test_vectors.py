"""Vectors read from parts are those of the table they were written from, whatever lies in which row group."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge.comparison.vectors import PartVectors, TableVectors, VectorSource
from tests.helpers.records import activation_rows

COLUMNS = ["model", "clip", "condition", "component", "layer", "n_tokens", "d_model", "x"]


def table(clips: int = 5, d: int = 6) -> pd.DataFrame:
    rows = [
        row
        for model in ("a", "b")
        for index in range(clips)
        for condition in ("clean", "noise:snr_db=5")
        if (index, condition) != (1, "clean")  # a sample that was refused
        for row in activation_rows(model, f"c{index}", condition, layers=2, d=d, n_tokens=3 + index)
    ]
    return pd.DataFrame.from_records(rows)[COLUMNS]


def write_parts(directory: Path, frame: pd.DataFrame, *, shard: int = 2, digest: str = "d", layers_apart: bool = True):
    """As a run writes them: a directory for each model and shard of clips, one row group a (component, layer)."""
    for model, rows in frame.groupby("model"):
        names = sorted(set(rows["clip"]))
        for start in range(0, len(names), shard):
            part = rows[rows["clip"].isin(names[start : start + shard])].sort_values(["component", "layer", "clip"])
            whole = pa.Table.from_pandas(part, preserve_index=False)
            whole = whole.set_column(7, "x", whole.column("x").cast(pa.list_(pa.float32())))
            whole = whole.replace_schema_metadata({b"spi": json.dumps({"settings": digest}).encode()})
            place = directory / f"{model}--listen--{start:04d}"
            place.mkdir(parents=True)
            with pq.ParquetWriter(place / "vectors.parquet", whole.schema) as writer:
                keys = [(c, n) for c, n in zip(part["component"], part["layer"], strict=True)]
                for key in sorted(set(keys)) if layers_apart else [None]:
                    writer.write_table(whole if key is None else whole.filter(pa.array([one == key for one in keys])))
    return directory


@pytest.mark.parametrize("layers_apart", [True, False])
def test_parts_hold_what_the_table_held(tmp_path, layers_apart):
    frame = table()
    parts = PartVectors(write_parts(tmp_path, frame, layers_apart=layers_apart), "d")
    whole = TableVectors(frame)
    assert isinstance(parts, VectorSource)
    assert isinstance(whole, VectorSource)
    assert parts.groups() == whole.groups() == sorted(parts.groups())
    assert len(parts.groups()) == 2 * 3 * 2
    for model in ("a", "b"):
        assert parts.lengths(model) == whole.lengths(model)
    assert parts.lengths("a")["c1"] == {"noise:snr_db=5": 4}
    for group in whole.groups():
        found, expected = dict(parts.clips(group)), dict(whole.clips(group))
        assert found.keys() == expected.keys()
        for clip, conditions in expected.items():
            assert found[clip].keys() == conditions.keys()
            for condition, x in conditions.items():
                np.testing.assert_array_equal(found[clip][condition], x)  # float32 survives the file bit by bit
                assert found[clip][condition].dtype == np.float64


def test_parts_of_other_settings_and_unfinished_ones_are_left_out(tmp_path):
    frame = table(clips=2)
    write_parts(tmp_path, frame)
    write_parts(tmp_path / ".partial-x", frame)
    for path in (tmp_path / ".partial-x").iterdir():
        path.rename(tmp_path / f".partial-{path.name}")
    assert not PartVectors(tmp_path, "other")
    assert sorted(PartVectors(tmp_path, "d").lengths("a")) == ["c0", "c1"]
    assert PartVectors(tmp_path).groups() == PartVectors(tmp_path, "d").groups()


def test_a_clip_in_two_parts_is_refused(tmp_path):
    frame = table(clips=2)
    frame.loc[frame["clip"] == "c0", "clip"] = "c1"
    for place, half in (("x", frame.iloc[:6]), ("y", frame.iloc[6:12])):
        write_parts(tmp_path / place, half)
        (tmp_path / place / "a--listen--0000").rename(tmp_path / place / f"{place}--a")
        (tmp_path / place / f"{place}--a").rename(tmp_path / f"{place}--a")
    with pytest.raises(ValueError, match="one part; got c1"):
        PartVectors(tmp_path, "d").lengths("a")


def test_what_cannot_be_read_is_named(tmp_path):
    write_parts(tmp_path, table(clips=1))
    path = next(tmp_path.glob("*/vectors.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"vectors\.parquet cannot be read"):
        PartVectors(tmp_path, "d")
    short = table(clips=1).assign(n_tokens=99)
    with pytest.raises(ValueError, match="n_tokens x d_model = 99 x 6"):
        next(TableVectors(short).clips(("a", "cross-attention", 1)))
