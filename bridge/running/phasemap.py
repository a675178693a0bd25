"""The theory's sweep on disk: NetCDF with the digest of its specification, made once for a specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from theory import SweepSpec


def sweep_digest(spec: SweepSpec) -> str:
    """SHA-256 of a specification and of the version of this software, which decide the sweep's numbers."""
    from theory.sweeping.identity import digest

    return digest(spec)


def write_sweep(spec: SweepSpec, path: Path) -> bool:
    """Computes a sweep and writes it, unless the file holds it already.

    For sweeps of seconds, in one file. `theory.sweep` with a directory writes those that take longer, in parts.

    Args:
        spec: the grid.
        path: of the NetCDF file; another sweep in it is replaced, atomically.

    Returns:
        whether it was computed.
    """
    import theory
    from theory.sweeping.store import write_netcdf

    if _digest_in(path) == sweep_digest(spec):
        return False
    write_netcdf(theory.sweep(spec), path)
    return True


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
        return read_sweep(path).attrs.get("digest")
    except (OSError, ValueError, TypeError, KeyError):
        return None
