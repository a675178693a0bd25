"""What a sweep refuses before it starts, by name and rule, and what it takes although it looks odd."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from theory.sweeping import identity, plan, store
from theory.sweeping.plan import SweepTooLargeError, plan_sweep, refuse_too_large, work_left
from theory.sweeping.spec import Injection, ResidualSweepSpec, SweepSpec
from theory.sweeping.store import OtherSweepError, is_damaged
from theory.sweeping.sweep import sweep

GRID: dict[str, Any] = {"gain": [0.5, 2.0], "alignment": 0.5, "gap": [0.1, 0.6], "depth": [2, 5], "dimension": 6}
SPEC = SweepSpec(**GRID, seeds=6)


def made(**changes: Any) -> SweepSpec:
    return SweepSpec(**(GRID | changes))


NO_NUMBERS = [True, [0.5, True], [np.True_, 0.5], "0.5", b"ab", {0.5: 1}, [1j], [0.5, 0.5j], ["0.5"], [None], [[0.5]]]


@pytest.mark.parametrize("name", ["gain", "gap", "depth"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, np.array(["2026-01-01"], dtype="datetime64[D]"), [[1.0], [1.0, 2.0]]])
def test_an_axis_takes_numbers_alone(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        made(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": [np.nan, np.nan]}, "^gain must be finite and not negative; got nan"),
        ({"gain": [10**400]}, "^gain must hold numbers that float64 can"),
        ({"depth": 10**30}, r"^depth must be an integer of at least 1 and below 2\^63"),
        ({"gap": [1.0, 1.0 + 4e-16]}, "^gap must not repeat"),
        ({"quantities": None}, "^quantities and injections must not both be empty"),
        ({"quantities": 3}, "^quantities must be a list; got 3"),
        ({"quantities": [["product"]]}, "^quantities must be 'product' or"),
        ({"injections": 3}, "^injections must be a list; got 3"),
        ({"injections": {"name": "a", "beyond": 1.0}}, "^injections must have the keys name, along, across, frame"),
        ({"injections": {"name": "a"}}, "^injections must have the keys name, along, across, frame"),
        ({"thresholds": {"beyond": 1.0}}, "^thresholds must have the keys share .*; got 'beyond'"),
        ({"dtype": np.array(["float64", "float32"])}, "^dtype must be"),
    ],
)
def test_a_specification_refuses_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**change)


def test_an_injection_of_an_immense_integer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^along must be finite and not negative"):
        Injection("a", float("inf"), 1.0)
    with pytest.raises(ValueError, match=r"^along must be finite and not negative"):
        Injection("a", 10**400, 1.0)


def test_an_axis_takes_arrays_of_any_kind_of_real_number() -> None:
    assert made(gap=np.array(0.3)).gap == (0.3,)
    assert made(gap=[Fraction(1, 2), 0.25]).gap == (0.5, 0.25)
    assert made(depth=(n for n in (2, 3))).depth == (2, 3)
    assert made(depth=np.array([4], dtype=np.uint8)).depth == (4,)
    assert made(injections=None).injections == ()
    with pytest.raises(ValueError, match="injections must be at least one"):
        ResidualSweepSpec((1.0,), (0.5,), (0.0,), (1,), (3,), (9,), injections=None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("call", [sweep, plan_sweep])
@pytest.mark.parametrize("spec", [None, {}, GRID, SweepSpec])
def test_what_is_no_specification_is_refused(call: Any, spec: Any) -> None:
    with pytest.raises(ValueError, match=r"^spec must be a SweepSpec or a ResidualSweepSpec; got"):
        call(spec)


@pytest.mark.parametrize("directory", ["", " ", 3])
def test_a_directory_has_a_name(directory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^directory must be a path; got"):
        sweep(SPEC, directory=directory)
    assert list(tmp_path.iterdir()) == []


def test_too_large_a_sweep_is_told_with_its_seeds_and_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = plan_sweep(SPEC)
    monkeypatch.setattr(plan, "available_bytes", lambda: 1000)
    with pytest.raises(SweepTooLargeError, match=r"\(6 seeds, depth 5 and dimension 6 at most\).* fewer seeds"):
        refuse_too_large(SPEC, costs, None, 0)


def test_the_work_left_is_what_sweep_then_does(tmp_path: Path) -> None:
    spec = SweepSpec(**GRID, seeds=6, injections="coherent", quantities=("product", "early"))
    parts = plan_sweep(spec).parts
    assert work_left(spec, tmp_path)[0] == parts > 2 and list(tmp_path.iterdir()) == []
    assert work_left(spec, tmp_path)[1] == pytest.approx(plan_sweep(spec).seconds)
    assert work_left(spec, tmp_path, limit=2)[0] == 2
    sweep(spec, directory=tmp_path, limit=2)
    assert work_left(spec, tmp_path, limit=2) == (0, 0.0)
    assert work_left(spec, tmp_path, limit=3)[0] == 1
    assert work_left(spec, tmp_path)[0] == parts - 2
    sweep(spec, directory=tmp_path)
    for path in (tmp_path / "parts").iterdir():
        path.unlink()
    assert work_left(spec, tmp_path) == (0, 0.0)


def test_numbers_of_another_version_are_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(SPEC, directory=tmp_path)
    monkeypatch.setattr(identity, "NUMBERS_VERSION", identity.NUMBERS_VERSION + 1)
    with pytest.raises(OtherSweepError, match="another numbers_version"):
        sweep(SPEC, directory=tmp_path)


@pytest.mark.parametrize("name", ["timings.json", "sweep.nc.sha256", "sweep.nc", "parts"])
def test_files_of_our_names_without_a_specification_are_someone_elses(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OtherSweepError, match=rf"holds {name} without spec\.json"):
        sweep(SPEC, directory=tmp_path)
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_checksum_tells_a_damaged_sweep(tmp_path: Path) -> None:
    sweep(SPEC, directory=tmp_path)
    path = tmp_path / "sweep.nc"
    assert not is_damaged(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert is_damaged(path)
    (tmp_path / "sweep.nc.sha256").unlink()
    assert not is_damaged(path)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        path.open("wb").close()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(store.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        sweep(SPEC, directory=tmp_path)
    assert not list(tmp_path.glob(".partial-*"))
