"""Who a sweep is: its specification as JSON, and a digest of that and of the software that decides its numbers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from typing import Any

from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

__all__ = ["described", "digest", "resolved_engine"]


def resolved_engine(spec: SweepSpec | ResidualSweepSpec) -> str:
    """The engine that "auto" stands for on this machine: the engines draw different random numbers."""
    asked = getattr(spec, "engine", "numpy")
    if asked != "auto":
        return asked
    import jax

    return "numpy" if jax.default_backend() == "cpu" else "jax"


def described(spec: SweepSpec | ResidualSweepSpec) -> dict[str, Any]:
    """The specification as JSON holds it, with its kind, the engine and the version of this software."""
    content = json.loads(json.dumps(asdict(spec)))
    return {"kind": type(spec).__name__, **content, "engine": resolved_engine(spec), "version": _version()}


def digest(spec: SweepSpec | ResidualSweepSpec) -> str:
    """SHA-256 of what decides the numbers of a sweep."""
    return hashlib.sha256(json.dumps(described(spec), sort_keys=True).encode()).hexdigest()


def _version() -> str | None:
    try:
        return importlib.metadata.version("spi")
    except importlib.metadata.PackageNotFoundError:
        return None
