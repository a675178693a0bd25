"""The activations X of a run, read group by group and clip by clip, so that no table of them is ever held whole.

A group is one component of one layer of one model. Clips are the unit of pairing and of chance, and all conditions of a
clip lie in one part of a run: whoever pools walks through the clips of a group and has a clip's conditions together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Group = tuple[str, str, int]
"""Model, component, layer (1..L)."""

Rows = NDArray[np.float64]
"""X of one clip under one condition, (tokens, d)."""

FILE = "vectors.parquet"
_CUT = 64
"""Writers may cut the bounds of longer texts short, which then say nothing of equality."""


@runtime_checkable
class VectorSource(Protocol):
    """Where the activations of a run are read from."""

    def groups(self) -> list[Group]:
        """Every group, sorted."""
        ...

    def lengths(self, model: str) -> dict[str, dict[str, int]]:
        """Tokens of each clip of a model under each condition it was measured in, without reading a vector."""
        ...

    def clips(self, group: Group) -> Iterator[tuple[str, dict[str, Rows]]]:
        """Each clip of a group with its conditions' X, float64, one clip at a time; the same order at every call."""
        ...


class TableVectors:
    """The vectors of a table in memory, one row a model x clip x condition x component x layer.

    Args:
        table: columns model, clip, condition, component, layer, n_tokens, d_model, x (row-major list).
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._groups: dict[Group, dict[str, dict[str, tuple[int, int, Any]]]] = {}
        ordered = table.sort_values(["model", "component", "layer", "clip"], kind="stable")
        names = ("model", "component", "layer", "clip", "condition", "n_tokens", "d_model", "x")
        for model, part, layer, clip, condition, *sized in zip(*(ordered[name] for name in names), strict=True):
            group = self._groups.setdefault((str(model), str(part), int(layer)), {})
            group.setdefault(str(clip), {})[str(condition)] = (int(sized[0]), int(sized[1]), sized[2])

    def groups(self) -> list[Group]:
        """Every group, sorted."""
        return list(self._groups)

    def lengths(self, model: str) -> dict[str, dict[str, int]]:
        """Tokens by clip and condition, of the model's first group."""
        clips = next((clips for group, clips in self._groups.items() if group[0] == model), {})
        return {clip: {condition: row[0] for condition, row in rows.items()} for clip, rows in clips.items()}

    def clips(self, group: Group) -> Iterator[tuple[str, dict[str, Rows]]]:
        """Clips in the order of their names."""
        for clip, rows in self._groups[group].items():
            yield clip, {condition: _matrix(np.asarray(x), n, d) for condition, (n, d, x) in rows.items()}


@dataclass(frozen=True, slots=True)
class _Place:
    """A row group of a part's file."""

    path: Path
    number: int


class PartVectors:
    """The vectors that the parts of a run hold: parts/<task>/vectors.parquet, one row group a (component, layer).

    Only the files' footers are read here; a walk through a group then reads one row group at a time, so memory is that
    of one part's samples in one layer. Files whose row groups hold several layers are read right too, only slower.

    Args:
        parts: the run's `parts` directory.
        digest: of the run's settings; parts of other settings are left out, as the run itself leaves them out. None
            takes every part.

    Raises:
        ValueError: naming a file that cannot be read.
    """

    def __init__(self, parts: str | Path, digest: str | None = None) -> None:
        self._places: dict[Group, list[_Place]] = {}
        for path in sorted(Path(parts).glob(f"*/{FILE}")):
            if path.parent.name.startswith("."):  # what an interrupted run left
                continue
            self._add(path, digest)
        self._places = dict(sorted(self._places.items()))

    def __bool__(self) -> bool:
        """Whether there is any vector."""
        return bool(self._places)

    def groups(self) -> list[Group]:
        """Every group, sorted."""
        return list(self._places)

    def lengths(self, model: str) -> dict[str, dict[str, int]]:
        """Tokens by clip and condition, from one row group of each part.

        Raises:
            ValueError: if a clip lies in two parts, where its conditions could not be paired.
        """
        group = next((one for one in self._places if one[0] == model), None)
        found: dict[str, dict[str, int]] = {}
        if group is None:
            return found
        for place in self._places[group]:
            table = _read(place, ["model", "clip", "condition", "component", "layer", "n_tokens"], group)
            here: dict[str, dict[str, int]] = {}
            names = (table.column(name).to_pylist() for name in ("clip", "condition", "n_tokens"))
            for clip, condition, tokens in zip(*names, strict=True):
                here.setdefault(clip, {})[condition] = tokens
            if twice := found.keys() & here.keys():
                raise ValueError(f"all conditions of a clip must lie in one part; got {min(twice)} in two of {model}")
            found |= here
        return found

    def clips(self, group: Group) -> Iterator[tuple[str, dict[str, Rows]]]:
        """Clips part by part, in the order of the parts' names and then of the rows."""
        for place in self._places[group]:
            table = _read(place, None, group)
            where: dict[str, dict[str, int]] = {}
            names = (table.column(name).to_pylist() for name in ("clip", "condition"))
            for row, (clip, condition) in enumerate(zip(*names, strict=True)):
                where.setdefault(clip, {})[condition] = row
            tokens, width = (table.column(name).to_pylist() for name in ("n_tokens", "d_model"))
            x = table.column("x").combine_chunks()
            offsets, values = x.offsets.to_numpy(), x.values.to_numpy(zero_copy_only=False)
            for clip, rows in where.items():
                yield (
                    clip,
                    {
                        condition: _matrix(values[offsets[row] : offsets[row + 1]], tokens[row], width[row])
                        for condition, row in rows.items()
                    },
                )

    def _add(self, path: Path, digest: str | None) -> None:
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        with file:
            stamp = json.loads((file.schema_arrow.metadata or {}).get(b"spi", b"{}"))
            if digest is not None and stamp.get("settings") != digest:
                return
            for number in range(file.num_row_groups):
                for group in _groups_of(file, number):
                    self._places.setdefault(group, []).append(_Place(path, number))


def _groups_of(file: pq.ParquetFile, number: int) -> list[Group]:
    """Which groups a row group holds: from its statistics where each column has one value, else from the columns."""
    columns = ("model", "component", "layer")
    ends = _single_values(file.metadata.row_group(number), columns)
    if ends is not None:
        return [(str(ends["model"]), str(ends["component"]), int(ends["layer"]))]
    table = file.read_row_group(number, columns=list(columns))
    return sorted(set(zip(*(table.column(name).to_pylist() for name in columns), strict=True)))


def _single_values(row_group: Any, columns: tuple[str, ...]) -> Mapping[str, Any] | None:
    found = {}
    for index in range(row_group.num_columns):
        column = row_group.column(index)
        if column.path_in_schema in columns:
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
                return None
            if len(str(statistics.min)) >= _CUT:
                return None
            found[column.path_in_schema] = statistics.min
    return found if len(found) == len(columns) else None


def _read(place: _Place, columns: list[str] | None, group: Group) -> pa.Table:
    """The rows of one group in one row group of a file."""
    try:
        with pq.ParquetFile(place.path, page_checksum_verification=True) as file:
            table = file.read_row_group(place.number, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{place.path} cannot be read: {error}") from error
    names = zip(*(table.column(name).to_pylist() for name in ("model", "component", "layer")), strict=True)
    kept = [one == group for one in names]
    return table if all(kept) else table.filter(pa.array(kept))


def _matrix(values: NDArray[Any], tokens: int, width: int) -> Rows:
    if values.size != tokens * width:
        raise ValueError(f"x must hold n_tokens x d_model = {tokens} x {width} numbers; got {values.size}")
    return values.astype(np.float64).reshape(tokens, width)
