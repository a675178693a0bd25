"""The run directory: settings, parts written whole or not at all, and the tables merged from them.

settings.json                      what decides the numbers; another run's settings are refused
parts/<task id>/<table>.parquet    one finished task; the directory is renamed into place when it is complete
parts/<task id>/part.json          its tables' rows and hashes, and how long it took
records/<table>.parquet            all parts, in the order of the tasks; but for the activations themselves, which are
                                   most of a run's bytes, stay in parts/<task id>/vectors.parquet and are read there
quarantine.jsonl, failures.jsonl   what was not measured, and why
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bridge.errors import OtherSettingsError, reason
from bridge.running.files import (
    TEMPORARY,
    check_settings,
    merge_tables,
    read_table,
    write_groups,
    write_json,
    write_table,
)
from bridge.running.provenance import file_sha256
from bridge.running.schema import SCHEMAS, to_table

SETTINGS_SCHEMA = 3
_LOCK = ".lock"

VECTORS = "vectors"
"""The table that is never merged."""

_VECTORS_KEY = ("component", "layer")

_MERGED = SCHEMAS.keys() - {VECTORS, "nulls"}  # nulls are gathered by themselves


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
        stale = [path for place in (self.root, self.parts, self.records) for path in place.glob(f"{TEMPORARY}*")]
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
                if rows and not self._whole(directory / f"{name}.parquet", rows, part.sha256[name]):
                    return None
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
            return None
        return part

    def read_part(self, task: str, table: str) -> pa.Table:
        """One table of a finished task.

        Raises:
            OSError, ValueError, pa.ArrowException: if it is not there, not readable or of other settings.
        """
        return read_table(self.parts / task / f"{table}.parquet", self.digest)

    def merge(self, tasks: Sequence[str], provenance: Mapping[str, Any]) -> dict[str, int]:
        """Writes records/<table>.parquet from the parts of these tasks, in their order; returns rows by table.

        `VECTORS` are left where they are. A table that no part has rows of is removed, should an earlier merge have
        left one.
        """
        paths: dict[str, list[Path]] = {}
        for task in tasks:
            part = json.loads((self.parts / task / "part.json").read_text(encoding="utf-8"))
            for name, rows in part["rows"].items():
                if rows and name != VECTORS:
                    paths.setdefault(name, []).append(self.parts / task / f"{name}.parquet")
        for name in _MERGED - paths.keys():
            (self.records / f"{name}.parquet").unlink(missing_ok=True)
        return {
            name: merge_tables(found, self.records / f"{name}.parquet", provenance, self.digest)
            for name, found in paths.items()
        }

    def _whole(self, path: Path, rows: int, sha256: str) -> bool:
        """Whether a table is what was written; its hash tells, so that nothing of it need be decoded."""
        if file_sha256(path) != sha256:
            return False
        with pq.ParquetFile(path) as file:
            check_settings(path, file, self.digest)
            return file.metadata.num_rows == rows

    def _check_settings(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OtherSettingsError(f"{path} cannot be read: {error}") from error
        found.pop("digest", None) if isinstance(found, dict) else None
        difference = first_difference(found, self.settings)
        if difference is not None:
            raise OtherSettingsError(f"{self.root} is a run of other settings: {difference}; choose another --out")


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
    temporary = parts / f"{TEMPORARY}{task}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    stamp = {**provenance, "task": task, "settings": settings, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes}
    hashes = {}
    try:
        temporary.mkdir(parents=True)
        for name, rows in tables.items():
            if rows:
                path = temporary / f"{name}.parquet"
                if name == VECTORS:
                    write_groups(path, to_table(name, sorted(rows, key=_group)), _VECTORS_KEY, stamp)
                else:
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


def _leaves_room(path: Path) -> bool:
    """Whether a directory that holds this is still free for a run: what one that came to nothing left behind."""
    return path.name == _LOCK or path.name.startswith(TEMPORARY)


def _group(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _VECTORS_KEY)
