"""A sweep's directory: its specification, its parts as they come, and the whole when all are there.

    spec.json       the specification, with the version of this software and the digest of both
    parts/*.nc      one file a part, complete or absent: each is written beside its place and moved there
    timings.json    seconds of each part, for whoever wants to know; nothing is decided by it
    sweep.nc        the dataset, once every part is there, with its checksum in sweep.nc.sha256

All of it is NetCDF 3 and JSON. A part carries a checksum of its numbers: one that is damaged, or was cut differently by
another version, counts as absent and is computed anew. Where sweep.nc is whole, parts/ may be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from theory.sweeping.identity import described, digest
from theory.sweeping.layout import variables
from theory.sweeping.parts import Part
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

__all__ = ["OtherSweepError", "SweepStore", "is_damaged", "write_netcdf"]


class OtherSweepError(ValueError):
    """The directory holds another sweep.

    Attributes:
        field: of the specification, that differs first; "spec.json" where none can be read.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class SweepStore:
    """The directory of one sweep.

    Args:
        directory: made where it is missing.
        spec: of the sweep.

    Raises:
        OtherSweepError: if it holds another sweep, naming the first field that differs.
        OSError: if it cannot be made or read.
    """

    def __init__(self, directory: Path, spec: SweepSpec | ResidualSweepSpec) -> None:
        self.directory = directory
        self.parts = directory / "parts"
        self.whole = directory / "sweep.nc"
        self._sum = directory / "sweep.nc.sha256"
        self._spec, self._digest = spec, digest(spec)
        self._timings: dict[str, float] = {}

    def check(self) -> None:
        """Refuses a directory of another sweep; writes nothing.

        Raises:
            OtherSweepError, OSError: as the class says.
        """
        if not self.directory.exists():
            return
        path = self.directory / "spec.json"
        if not path.exists():
            ours = (self.whole, self._sum, self.parts, self.directory / "timings.json")
            held = [one.name for one in ours if one.exists()]
            if held:
                raise OtherSweepError(
                    f"{self.directory} holds {held[0]} without spec.json, of an older version or something else; "
                    f"choose another directory",
                    "spec.json",
                )
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            held = found["spec"]
            differing = _difference(held, described(self._spec))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OtherSweepError(
                f"{path} is no specification of a sweep; choose another directory", "spec.json"
            ) from error
        if differing is not None:
            there, here = (_short(record.get(differing)) for record in (held, described(self._spec)))
            raise OtherSweepError(
                f"{self.directory} holds a sweep of another {differing}: {there} there, {here} asked for; "
                f"choose another directory",
                differing,
            )

    def open(self) -> None:
        """Makes the directory and its specification, where they are missing."""
        self.check()
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "spec.json"
        if not path.exists():  # the first file there: without it the others would be someone else's
            content = {"digest": self._digest, "spec": described(self._spec)}
            _replace(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
        self.parts.mkdir(exist_ok=True)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            timings = json.loads((self.directory / "timings.json").read_text(encoding="utf-8"))["seconds"]
            self._timings = {str(name): float(value) for name, value in timings.items()}

    def present(self) -> int:
        """Bytes of the sweep that are there already."""
        files = (self.whole, *self.parts.glob("*.nc")) if self.parts.is_dir() else ()
        return sum(path.stat().st_size for path in files if path.exists())

    def read(self, part: Part) -> dict[str, NDArray[Any]] | None:
        """A part's variables; None if its file is missing, damaged, or of another sweep."""
        path = self._path(part)
        if not path.exists():
            return None
        try:
            values, attrs = self._load(path)
            told = (attrs["digest"], attrs["at"], attrs["checksum"])
        except Exception:  # a damaged file may raise anything at all, deep inside the reader
            return None
        return values if told == (self._digest, json.dumps(part.at), _checksum(values)) else None

    def read_whole(self) -> dict[str, NDArray[Any]] | None:
        """All variables of a complete sweep, whose parts need not be there any more; None where there is none."""
        try:
            if self._sum.read_text(encoding="ascii") != _line(self.whole):
                return None
            values, attrs = self._load(self.whole)
        except (OSError, ValueError):
            return None
        return values if attrs["digest"] == self._digest else None

    def _load(self, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        with xr.open_dataset(path, engine="scipy") as data:
            data.load()
        table = variables(self._spec)
        kinds = {name: np.float64 if variable.codes is None else np.int64 for name, variable in table.items()}
        return {str(name): x.values.astype(kinds[str(name)]) for name, x in data.data_vars.items()}, data.attrs

    def write(self, part: Part, values: dict[str, NDArray[Any]]) -> None:
        """Writes a part, whole or not at all."""
        table = variables(self._spec)
        attrs = {"digest": self._digest, "at": json.dumps(part.at), "checksum": _checksum(values)}
        write_netcdf(xr.Dataset({n: (table[n].dims, x) for n, x in values.items()}, attrs=attrs), self._path(part))

    def write_whole(self, dataset: xr.Dataset, parts: Iterable[Part]) -> None:
        """Writes the dataset, whole or not at all, and clears away what is no part of it.

        That is what interrupted writers left, and parts cut otherwise by another version.
        """
        write_netcdf(dataset, self.whole)
        _replace(self._sum, _line(self.whole).encode())
        known = {self._path(part) for part in parts}
        stale = [path for path in self.parts.glob("*.nc") if path not in known]
        for path in (*stale, *self.directory.glob(".partial-*"), *self.parts.glob(".partial-*")):
            path.unlink(missing_ok=True)

    def timed(self, part: Part, seconds: float) -> None:
        """Notes how long a part took; `write_timings` writes it down."""
        self._timings[part.name] = round(seconds, 4)

    def write_timings(self) -> None:
        content = {"seconds": dict(sorted(self._timings.items()))}
        _replace(self.directory / "timings.json", (json.dumps(content, indent=1) + "\n").encode())

    def _path(self, part: Part) -> Path:
        return self.parts / f"{part.name}.nc"


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Writes NetCDF 3, which needs no library beyond SciPy, atomically; whole numbers become 32-bit, its largest."""
    narrow = {name: {"dtype": "int32"} for name, one in dataset.variables.items() if one.dtype.kind in "iu"}
    attrs = {name: str(x) if isinstance(x, int) and abs(x) >= 2**31 else x for name, x in dataset.attrs.items()}
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        dataset.assign_attrs(attrs).to_netcdf(temporary, engine="scipy", encoding=narrow)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_damaged(path: Path) -> bool:
    """Whether a sweep.nc is not what its checksum, if there is one beside it, says.

    Raises:
        OSError: if either cannot be read.
    """
    told = path.with_name(f"{path.name}.sha256")
    return told.exists() and told.read_bytes() != _line(path).encode()


def _line(path: Path) -> str:
    """What `sha256sum` says of a file."""
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def _checksum(values: dict[str, NDArray[Any]]) -> str:
    """SHA-256 of the numbers, in the byte order of NetCDF, so that it holds on any machine."""
    total = hashlib.sha256()
    for name in sorted(values):
        array = values[name]
        total.update(f"{name}{array.shape}".encode())
        total.update(np.ascontiguousarray(array, dtype=">f8" if array.dtype.kind == "f" else ">i8").tobytes())
    return total.hexdigest()


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first field in which two specifications differ; the kind comes first, the versions last."""
    for name in sorted({*there, *here}, key=lambda name: (name != "kind", name.endswith("version"), name)):
        if name not in there or name not in here or there[name] != here[name]:
            return name
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-12:]}"
