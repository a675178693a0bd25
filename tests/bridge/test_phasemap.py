"""The sweep on disk: the numbers that were computed, made once, and anew for another grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import theory
from bridge.running.phasemap import read_sweep, sweep_digest, write_sweep

SPEC = theory.SweepSpec(
    gain=(0.5, 2.0), alignment=(0.0, 0.5, 1.0), gap=(0.1, 0.9), depth=(2, 3), dimension=(5,), seeds=3
)


def test_what_is_read_is_what_was_computed(tmp_path: Path) -> None:
    path = tmp_path / "sweep.nc"
    assert write_sweep(SPEC, path)
    found, expected = read_sweep(path), theory.sweep(SPEC)
    assert set(found.data_vars) == set(expected.data_vars)
    for name in expected.variables:
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    assert found["log_norm"].dtype == np.float64 and found["code"].dtype.kind == "i"
    assert found["code"].attrs == expected["code"].attrs
    assert found.attrs["seeds"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.nc"]


def test_the_same_grid_is_not_computed_twice_and_another_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "sweep.nc", []
    compute = theory.sweep
    monkeypatch.setattr(theory, "sweep", lambda spec: calls.append(spec) or compute(spec))
    other = replace(SPEC, seed=1)
    assert [write_sweep(spec, path) for spec in (SPEC, SPEC, other, other)] == [True, False, True, False]
    assert calls == [SPEC, other]


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sweep.nc"
    path.write_bytes(b"CDF\x01 and then nothing")
    assert write_sweep(SPEC, path)
    assert read_sweep(path).attrs["digest"] == sweep_digest(SPEC)
