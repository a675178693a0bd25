"""The run directory: settings, parts written whole or not at all, and the tables merged from them.

settings.json                      what decides the numbers; another run's settings are refused
parts/<task id>/<table>.parquet    one finished task; the directory is renamed into place when it is complete
parts/<task id>/part.json          its tables' rows and hashes, and how long it took
records/<table>.parquet            all parts, in the order of the tasks
quarantine.jsonl, failures.jsonl   what was not measured, and why
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bridge.errors import OtherSettingsError, reason
from bridge.running.provenance import file_sha256
from bridge.running.schema import to_table

SETTINGS_SCHEMA = 2
_TEMPORARY = ".partial-"
_LOCK = ".lock"
_METADATA_KEY = b"spi"


@dataclass(frozen=True, slots=True)
class Part:
    """What a finished task left behind.

    Attributes:
        task: the task's id, also the name of its directory.
        settings: digest of the run's settings it was measured under.
        rows: number of rows by table name; a table without rows has no file.
        sha256: of each table's file, by table name.
        seconds: wall time of the task.
        peak_rss_bytes: largest resident memory of the worker while it was at work on it.
    """

    task: str
    settings: str
    rows: dict[str, int]
    sha256: dict[str, str]
    seconds: float
    peak_rss_bytes: int


class UnwritableError(RuntimeError):
    """A part cannot be written, for want of room say: the tasks after it could not be either."""

    code = "unwritable"


class RunStore:
    """One run directory.

    Args:
        root: the directory; it need not exist yet.
        settings: what decides the numbers of the run, JSON values only.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self.root = root
        self.settings = json.loads(json.dumps(dict(settings)))
        self.digest = settings_digest(self.settings)

    @property
    def parts(self) -> Path:
        """Directory of the finished tasks."""
        return self.root / "parts"

    @property
    def records(self) -> Path:
        """Directory of the merged tables."""
        return self.root / "records"

    def check(self, *, resume: bool = True) -> bool:
        """Whether the directory holds a run of these settings; changes nothing.

        Raises:
            OtherSettingsError: if it holds another run, something else, or any run where `resume` is off.
        """
        path = self.root / "settings.json"
        if path.exists():
            self._check_settings(path)
            if not resume:
                raise OtherSettingsError(f"{self.root} already holds this run; leave out --no-resume to go on with it")
            return True
        if self.root.exists() and not (self.root.is_dir() and all(_leaves_room(path) for path in self.root.iterdir())):
            raise OtherSettingsError(f"{self.root} exists and is not a run of spi; choose another --out")
        return False

    def open(self, *, resume: bool = True) -> None:
        """Makes the directory, or takes up a run of the same settings; to be called while `lock` is held, lest two
        runs that begin at once each take it for theirs.

        Raises:
            OtherSettingsError: as `check`, or if the directory cannot be made.
        """
        try:
            if not self.check(resume=resume):
                self.root.mkdir(parents=True, exist_ok=True)
                write_json(self.root / "settings.json", {**self.settings, "digest": self.digest})
            self.parts.mkdir(exist_ok=True)
            self.records.mkdir(exist_ok=True)
        except OSError as error:
            raise OtherSettingsError(f"{self.root} cannot be written: {reason(error)}") from error

    def sweep(self) -> int:
        """Removes what an interrupted run left unfinished, while `lock` is held; returns how many things that were."""
        stale = [path for place in (self.root, self.parts, self.records) for path in place.glob(f"{_TEMPORARY}*")]
        for path in stale:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(stale)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second run out of the directory, which is made, while this one is at work.

        Raises:
            OtherSettingsError: if another process holds the lock, or nothing can be written there.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = (self.root / _LOCK).open("w")
        except OSError as error:
            raise OtherSettingsError(f"{self.root} cannot be written: {reason(error)}") from error
        with handle:
            try:
                import fcntl
            except ImportError:  # no such lock on this system: two runs at once are the user's to avoid
                yield
                return
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OtherSettingsError(f"another spi run is at work in {self.root}") from error
            yield

    def finished(self, task: str) -> Part | None:
        """The part of a task if it is whole, readable and of these settings; else None, and the task is redone."""
        directory = self.parts / task
        try:
            part = Part(**json.loads((directory / "part.json").read_text(encoding="utf-8")))
            if part.task != task or part.settings != self.digest:
                return None
            for name, rows in part.rows.items():
                path = directory / f"{name}.parquet"
                if rows and (file_sha256(path) != part.sha256[name] or self.read_part(task, name).num_rows != rows):
                    return None
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
            return None
        return part

    def read_part(self, task: str, table: str) -> pa.Table:
        """One table of a finished task.

        Raises:
            OSError, ValueError, pa.ArrowException: if it is not there, not readable or of other settings.
        """
        return _read(self.parts / task / f"{table}.parquet", self.digest)

    def merge(self, tasks: Sequence[str], provenance: Mapping[str, Any]) -> dict[str, int]:
        """Writes records/<table>.parquet from the parts of these tasks, in their order; returns rows by table.

        Clips and activations belong to model x clip x condition, so a second state's copy of them is left out.
        """
        tables: dict[str, list[pa.Table]] = {}
        for task in tasks:
            part = json.loads((self.parts / task / "part.json").read_text(encoding="utf-8"))
            for name, rows in part["rows"].items():
                if rows:
                    table = self.read_part(task, name).replace_schema_metadata(None)
                    tables.setdefault(name, []).append(table)
        counts = {}
        for name, pieces in tables.items():
            table = pa.concat_tables(pieces, promote_options="permissive")
            key = _UNIQUE.get(name)
            if key is not None:
                table = _first_of_each(table, key)
            write_table(self.records / f"{name}.parquet", table, {**provenance, "settings": self.digest})
            counts[name] = table.num_rows
        return counts

    def _check_settings(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OtherSettingsError(f"{path} cannot be read: {error}") from error
        found.pop("digest", None) if isinstance(found, dict) else None
        difference = first_difference(found, self.settings)
        if difference is not None:
            raise OtherSettingsError(f"{self.root} is a run of other settings: {difference}; choose another --out")


_UNIQUE = {
    "clips": ("model", "clip", "condition"),
    "activations": ("model", "clip", "condition", "component", "layer"),
}


def write_part(
    parts: Path,
    task: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    settings: str,
    provenance: Mapping[str, Any],
    seconds: float,
    peak_rss_bytes: int,
) -> Part:
    """Writes a finished task: into a temporary directory first, which is then renamed into place.

    Args:
        parts: the run's `parts` directory.
        task: the task's id.
        tables: rows by table name.
        settings: digest of the run's settings.
        provenance: what is written into the metadata of every table.
        seconds: wall time of the task.
        peak_rss_bytes: largest resident memory of the worker while it was at work on it.

    Raises:
        UnwritableError: if it cannot be written; nothing of it is left.
    """
    temporary = parts / f"{_TEMPORARY}{task}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    stamp = {**provenance, "task": task, "settings": settings, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes}
    hashes = {}
    try:
        temporary.mkdir(parents=True)
        for name, rows in tables.items():
            if rows:
                path = temporary / f"{name}.parquet"
                write_table(path, to_table(name, rows), stamp)
                hashes[name] = file_sha256(path)
        lengths = {name: len(rows) for name, rows in tables.items()}
        part = Part(task, settings, lengths, hashes, seconds, peak_rss_bytes)
        write_json(temporary / "part.json", asdict(part))
        target = parts / task
        if target.exists():  # found unreadable, or of other settings
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UnwritableError(f"{parts} cannot be written: {reason(error)}") from error
    return part


def write_table(path: Path, table: pa.Table, provenance: Mapping[str, Any]) -> None:
    """Writes a Parquet file with page checksums and its provenance in the metadata; atomic."""
    stamped = table.replace_schema_metadata({_METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})
    with _replacing(path) as temporary:
        pq.write_table(stamped, temporary, compression="zstd", write_page_checksum=True)


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance that `write_table` put into a Parquet file; empty if it has none."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(_METADATA_KEY, b"{}"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, atomically."""
    _replace_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON lines, atomically; an empty file says that there was nothing to tell."""
    _replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as canonical JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def first_difference(found: Any, wanted: Any, where: str = "") -> str | None:
    """Says where two trees of JSON values first differ, in the order of the second; None if nowhere."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = first_difference(found.get(key), wanted.get(key), f"{where}.{key}" if where else str(key))
            if inner is not None:
                return inner
        return None
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for number, (mine, yours) in enumerate(zip(found, wanted, strict=True), start=1):
            inner = first_difference(mine, yours, f"{where}[{number}]")
            if inner is not None:
                return inner
        return None
    if found == wanted and type(found) is type(wanted):
        return None
    return f"{where} is {_short(found)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"{{{', '.join(map(str, value))}}}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _replace_text(path: Path, text: str) -> None:
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to be written beside `path` and put in its place; nothing of it is left where that fails."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _leaves_room(path: Path) -> bool:
    """Whether a directory that holds this is still free for a run: what one that came to nothing left behind."""
    return path.name == _LOCK or path.name.startswith(_TEMPORARY)


def _read(path: Path, digest: str) -> pa.Table:
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    stamp = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    if stamp.get("settings") != digest:
        raise ValueError(f"{path} was measured under other settings")
    return table


def _first_of_each(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    seen: set[tuple[Any, ...]] = set()
    keep = []
    for values in zip(*(table.column(name).to_pylist() for name in key), strict=True):
        keep.append(values not in seen)
        seen.add(values)
    return table.filter(pa.array(keep))
