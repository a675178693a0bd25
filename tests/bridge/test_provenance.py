"""Provenance: what is recorded is what is installed and what the machine has."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np
import pytest

from bridge.running import provenance


def test_versions_are_the_installed_ones() -> None:
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["torch"] == importlib.metadata.version("torch")
    assert set(provenance.PACKAGES) < set(found)


def test_a_missing_package_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-anywhere",))
    assert provenance.versions.__wrapped__()["no-such-package-anywhere"] is None


def test_machine_is_json_and_has_cores_and_memory() -> None:
    found = json.loads(json.dumps(provenance.machine()))
    assert found["cores"] >= 1 and found["processor"] and found["architecture"] == platform.machine()
    assert found["memory_bytes"] is None or found["memory_bytes"] > 2**28


def test_blas_names_its_kernel_where_it_can_be_asked() -> None:
    pytest.importorskip("threadpoolctl")
    np.ones((2, 2)) @ np.ones((2, 2))
    found = provenance.blas()
    assert any(entry["api"] == "blas" and entry["threads"] >= 1 for entry in found)


def test_file_hash_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"spectral" * 100_000)
    assert provenance.file_sha256(path) == hashlib.sha256(b"spectral" * 100_000).hexdigest()
