"""Who a sweep is: its specification as JSON, and a digest of that and of the software that decides its numbers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from typing import Any

from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

__all__ = ["NUMBERS_VERSION", "described", "digest", "resolved_engine"]

NUMBERS_VERSION = 1
"""Raise it with any change after which the same specification gives other numbers, other names or shapes of variables,
or other meanings of codes: the draws, a simulator, a statistic, a search, a threshold's rule, `CODE_MEANINGS`. A
directory made before then counts as another sweep, where otherwise its old numbers would pass for the new ones. Speed,
words, attributes and how the grid is cut into parts need no new version."""


def resolved_engine(spec: SweepSpec | ResidualSweepSpec) -> str:
    """The engine that "auto" stands for on this machine: the engines draw different random numbers."""
    asked = getattr(spec, "engine", "numpy")
    if asked != "auto":
        return asked
    import jax

    return "numpy" if jax.default_backend() == "cpu" else "jax"


def described(spec: SweepSpec | ResidualSweepSpec) -> dict[str, Any]:
    """The specification as JSON holds it, with its kind, the engine and the versions that decide its numbers."""
    content = json.loads(json.dumps(asdict(spec)))
    versions = {"version": _version(), "numbers_version": NUMBERS_VERSION}
    return {"kind": type(spec).__name__, **content, "engine": resolved_engine(spec), **versions}


def digest(spec: SweepSpec | ResidualSweepSpec) -> str:
    """SHA-256 of what decides the numbers of a sweep."""
    return hashlib.sha256(json.dumps(described(spec), sort_keys=True).encode()).hexdigest()


def _version() -> str | None:
    try:
        return importlib.metadata.version("spi")
    except importlib.metadata.PackageNotFoundError:
        return None
