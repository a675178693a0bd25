"""The theory's sweep on disk: NetCDF with the digest of its specification, made once for a specification."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.running.provenance import versions

if TYPE_CHECKING:
    import xarray as xr

    from theory import SweepSpec


def sweep_digest(spec: SweepSpec) -> str:
    """SHA-256 of a specification and of the version of this software, which decide the sweep's numbers."""
    content = {**asdict(spec), "spi": versions()["spi"]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sweep(spec: SweepSpec, path: Path) -> bool:
    """Computes a sweep and writes it, unless the file holds it already.

    Args:
        spec: the grid.
        path: of the NetCDF file; another sweep in it is replaced, atomically.

    Returns:
        whether it was computed.
    """
    import theory

    digest = sweep_digest(spec)
    if _digest_in(path) == digest:
        return False
    dataset = theory.sweep(spec).assign_attrs(spi_digest=digest)
    # NetCDF 3, which needs no library beyond SciPy, has no 64-bit whole numbers.
    whole = {name: {"dtype": "int32"} for name, variable in dataset.variables.items() if variable.dtype.kind in "iu"}
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    dataset.to_netcdf(temporary, engine="scipy", encoding=whole)
    temporary.replace(path)
    return True


def holds_other_sweep(spec: SweepSpec, path: Path) -> bool:
    """Whether there is a file that is not the sweep of this specification."""
    return path.exists() and _digest_in(path) != sweep_digest(spec)


def read_sweep(path: Path) -> xr.Dataset:
    """A sweep that was written, in memory.

    Raises:
        OSError, ValueError, TypeError: if the file is missing or is no NetCDF 3.
    """
    import xarray as xr

    with xr.open_dataset(path, engine="scipy") as dataset:
        return dataset.load()


def _digest_in(path: Path) -> str | None:
    try:
        return read_sweep(path).attrs.get("spi_digest")
    except (OSError, ValueError, TypeError, KeyError):
        return None
