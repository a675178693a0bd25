"""Where a number came from: versions, machine, threads and the kernels that did the arithmetic."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "spi",
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "librosa",
    "soundfile",
    "soxr",
    "jiwer",
    "pyarrow",
    "pandas",
    "xarray",
    "matplotlib",
)


@cache
def versions() -> dict[str, str | None]:
    """Version of Python and of every package a number may depend on; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Operating system, processor, cores usable by this process and memory, as far as the system tells.

    Returns:
        system, architecture, processor, cores (int), memory_bytes (int or None).
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
    }


def usable_cores() -> int:
    """Processor cores this process may use, at least 1."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:
        return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory of the machine, or the control group's limit where that is smaller; None where unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total


def blas() -> list[dict[str, Any]]:
    """Linear-algebra and threading libraries loaded in this process.

    Returns:
        one mapping per library: api, implementation, version, kernel (the architecture it chose), threads.
        Empty where threadpoolctl is not installed: nothing is guessed.
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    libraries = [
        {
            "api": entry.get("user_api"),
            "implementation": entry.get("internal_api"),
            "version": entry.get("version"),
            "kernel": entry.get("architecture"),
            "threads": entry.get("num_threads"),
        }
        for entry in threadpool_info()
    ]
    return sorted(libraries, key=lambda entry: tuple(str(value) for value in entry.values()))


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, read in blocks.

    Raises:
        OSError: if it cannot be read.
    """
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
