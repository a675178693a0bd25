"""A sweep on disk: the same bits however it was interrupted, by whom it was computed, and what was damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from theory.sweeping import plan as planning
from theory.sweeping import sweep as sweeping
from theory.sweeping.identity import digest
from theory.sweeping.plan import SweepTooLargeError, plan_sweep
from theory.sweeping.spec import Injection, ResidualSweepSpec, SweepSpec
from theory.sweeping.store import OtherSweepError
from theory.sweeping.sweep import sweep

SPEC = SweepSpec(
    gain=(0.5, 2.0),
    alignment=(0.0, 0.4, 0.9),
    gap=(0.1, 0.9),
    depth=(5, 2),
    dimension=(6, 30),
    seeds=8,
    quantities=("product", "early"),
    injections=("coherent", Injection("mine", 0.5, 0.5)),
)


NAMES = ["parts", "spec.json", "sweep.nc", "sweep.nc.sha256", "timings.json"]


def contents(directory: Path) -> dict[str, bytes]:
    """What a directory holds, timings apart: they are the one thing that may differ."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "timings.json")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    directory = tmp_path_factory.mktemp("sweep") / "deep" / "down"
    return directory, sweep(SPEC, directory=directory)


def test_a_directory_changes_no_bit_and_reads_as_what_was_returned(whole) -> None:
    directory, found = whole
    assert found.identical(sweep(SPEC))
    with xr.open_dataset(directory / "sweep.nc", engine="scipy") as read:
        assert read.attrs == found.attrs and set(read.data_vars) == set(found.data_vars)
        for name in found.variables:
            np.testing.assert_array_equal(read[name].values, found[name].values, err_msg=str(name))
            assert read[name].dims == found[name].dims and read[name].attrs == found[name].attrs
    assert sorted(path.name for path in directory.iterdir()) == NAMES
    assert set(json.loads((directory / "timings.json").read_text())["seconds"]) == {
        path.stem for path in (directory / "parts").iterdir()
    }
    assert json.loads((directory / "spec.json").read_text())["digest"] == digest(SPEC) == found.attrs["digest"]


def test_every_variable_says_what_it_is(whole) -> None:
    for name, variable in whole[1].data_vars.items():
        assert variable.attrs["long_name"]
        assert ("code_meanings" in variable.attrs) if str(name).endswith("code") else variable.attrs["units"]
    for name, coordinate in whole[1].coords.items():
        assert coordinate.attrs["long_name"], name


def test_a_complete_sweep_is_read_and_not_computed(whole, tmp_path: Path, monkeypatch) -> None:
    directory = shutil.copytree(whole[0], tmp_path / "copy")

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("theory.sweeping.workers.compute_part", never)
    assert sweep(SPEC, directory=directory).identical(whole[1])
    shutil.rmtree(directory / "parts")
    calls: list[tuple[float, float, str]] = []
    assert sweep(SPEC, directory=directory, progress=lambda *call: calls.append(call)).identical(whole[1])
    assert len(calls) == 1 and calls[0][0] == calls[0][1]


def test_a_damaged_whole_is_put_together_anew(whole, tmp_path: Path) -> None:
    directory = shutil.copytree(whole[0], tmp_path / "copy")
    whole_file = directory / "sweep.nc"
    original = whole_file.read_bytes()
    for at in (-5, len(original) // 2, original.index(b"mine") + 1):  # a coordinate, a value, an attribute
        damaged = bytearray(original)
        damaged[at] ^= 4
        whole_file.write_bytes(damaged)
        assert sweep(SPEC, directory=directory).identical(whole[1])
        assert whole_file.read_bytes() == original
    whole_file.write_bytes(original[:-100])
    (directory / "parts" / "product-of-another-cut.nc").write_bytes(b"old")
    assert sweep(SPEC, directory=directory).identical(whole[1])
    assert contents(directory) == contents(whole[0])


def test_interruptions_lose_no_part_and_no_bit(whole, tmp_path: Path) -> None:
    def interrupt(done: float, total: float, text: str) -> None:
        calls.append((done, total, text))
        if len(calls) == 4:
            raise KeyboardInterrupt

    for resumed in range(2):
        calls: list[tuple[float, float, str]] = []
        with pytest.raises(KeyboardInterrupt):
            sweep(SPEC, directory=tmp_path, progress=interrupt)
        assert len(list((tmp_path / "parts").glob("*.nc"))) == 3 * (resumed + 1)
        assert not (tmp_path / "sweep.nc").exists()
        assert calls[0][2].startswith(f"{3 * resumed} of ")
    fractions: list[float] = []
    found = sweep(SPEC, directory=tmp_path, progress=lambda done, total, _: fractions.append(done / total))
    assert found.identical(whole[1]) and contents(tmp_path) == contents(whole[0])
    assert fractions[0] > 0 and fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)


def test_damaged_and_foreign_parts_are_computed_anew(whole, tmp_path: Path) -> None:
    directory = shutil.copytree(whole[0], tmp_path / "copy")
    parts = sorted((directory / "parts").glob("*.nc"))
    flipped = bytearray(parts[0].read_bytes())
    flipped[-9] ^= 1
    parts[0].write_bytes(flipped)
    parts[1].write_bytes(parts[1].read_bytes()[:700])
    parts[2].write_bytes(b"")
    parts[3].write_bytes(b"not NetCDF at all")
    parts[4].write_bytes(parts[5].read_bytes())
    (directory / "parts" / ".partial-1-x.nc").write_bytes(b"left by one that was killed")
    (directory / "sweep.nc").unlink()
    (directory / "timings.json").write_text("{")
    calls: list[str] = []
    found = sweep(SPEC, directory=directory, progress=lambda *call: calls.append(call[2]))
    assert len(calls) == 1 + 5
    assert found.identical(whole[1]) and contents(directory) == contents(whole[0])


def test_worker_processes_give_the_same_bytes(whole, tmp_path: Path) -> None:
    found = sweep(SPEC, directory=tmp_path, workers=2)
    assert found.identical(whole[1]) and contents(tmp_path) == contents(whole[0])


SCRIPT = """
import sys
from tests.theory.test_sweep_store import SPEC
from theory.sweeping.sweep import sweep

if __name__ == "__main__":
    sweep(SPEC, directory=sys.argv[1], workers=int(sys.argv[2]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_sweep_goes_on_where_it_was_and_leaves_no_process(whole, tmp_path: Path, workers: int) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    directory = tmp_path / "killed"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(directory), str(workers)]
    process = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(directory.glob("parts/*.nc")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (directory / "sweep.nc").exists()
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    assert sweep(SPEC, directory=directory).identical(whole[1])
    assert contents(directory) == contents(whole[0])


def _alive(group: int) -> bool:
    """Whether the session started by this process has any member left: a worker, which must end with its parent."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            return True
    return False


def test_a_limit_leaves_the_rest_not_computed(tmp_path: Path, whole) -> None:
    some = sweep(SPEC, directory=tmp_path, limit=2)
    assert len(list((tmp_path / "parts").glob("*.nc"))) == 2 and not (tmp_path / "sweep.nc").exists()
    done = some.code != 7
    assert done.any() and not done.all()
    np.testing.assert_array_equal(some.log_norm.where(done), whole[1].log_norm.where(done))
    assert (some.context_code == 7).all() and some.context_log_norm.isnull().all()
    assert "7: not computed" in some.context_code.attrs["code_meanings"]
    assert sweep(SPEC, limit=10**6).identical(whole[1])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gain": (0.5, 3.0)}, "gain"),
        ({"seed": 1}, "seed"),
        ({"injections": ("coherent",)}, "injections"),
        ({"level": 0.9}, "level"),
        ({"residual": "low_rank", "rank": 2}, "rank"),
    ],
)
def test_a_directory_of_another_sweep_is_refused_by_field(whole, change: dict, field: str) -> None:
    before = contents(whole[0])
    with pytest.raises(OtherSweepError, match=f"holds a sweep of another {field}: .* there, .* asked for") as error:
        sweep(replace(SPEC, **change), directory=whole[0])
    assert error.value.field == field
    assert contents(whole[0]) == before


def test_foreign_directories_are_refused(tmp_path: Path, whole) -> None:
    (tmp_path / "sweep.nc").write_bytes(b"something")
    with pytest.raises(OtherSweepError, match=r"without spec\.json"):
        sweep(SPEC, directory=tmp_path)
    (tmp_path / "spec.json").write_text("[1, 2]")
    with pytest.raises(OtherSweepError, match="no specification of a sweep"):
        sweep(SPEC, directory=tmp_path)
    residual = ResidualSweepSpec((1.0,), (0.5,), (0.0,), (1,), (3,), (9,), seeds=8)
    with pytest.raises(OtherSweepError, match="another kind"):
        sweep(residual, directory=whole[0])
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match="file"):
        sweep(SPEC, directory=file)


def test_what_does_not_fit_is_refused_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = np.linspace(0.01, 1, 10**5)
    with pytest.raises(SweepTooLargeError, match=r"100000 gains x 100000 alignments .* GiB of memory; .* GiB are free"):
        sweep(SweepSpec(many, many, many[:1000], [4], [10]), directory=tmp_path / "out")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(SweepTooLargeError, match=r"needs .* GiB of disk at .*; 9\.31e-07 GiB are free"):
        sweep(SPEC, directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sweep(SPEC, limit=1) is not None  # nothing is written without a directory


def test_the_plan_counts_what_the_sweep_does(whole) -> None:
    plan = plan_sweep(SPEC)
    directory, found = whole
    assert plan.parts == len(list((directory / "parts").glob("*.nc")))
    assert plan.cells == found.code.size == 2 * 3 * 2 * 2 * 2
    assert plan.jacobians == found.context_code.size * 8 == found.attrs["context_jacobians"]
    # Products: 2 depths x 2 dimensions; early and the injections, which share one frame: 2 dimensions each.
    assert plan.distinct_chains == 8 * (4 + 2 + 2) == found.attrs["distinct_chains"]
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert size <= plan.disk_bytes <= 4 * size
    assert set(plan.simulators) == {"product", "early", "context"}
    assert all(text.startswith("reduced: ") for text in plan.simulators.values())
    assert plan_sweep(SPEC, workers=2).seconds < plan.seconds


def test_a_plan_says_which_simulator_serves_and_refuses_where_none_does() -> None:
    spec = SweepSpec([1.0], [0.5], [0.3], [4], [3, 50], residual="low_rank", rank=8, injections=("random",))
    plan = plan_sweep(spec)
    assert "rank must be at most d - 1 = 2" in plan.simulators["product at d = 3"]
    assert plan.simulators["product at d = 50"].split(":")[0] in ("structured", "dense")
    with pytest.raises(ValueError, match="simulator must be able to serve"):
        plan_sweep(replace(spec, simulator="reduced"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be an integer of at least 1; got 0"),
        ({"limit": 0}, "limit must be an integer of at least 1; got 0"),
        ({"limit": 1.5}, "limit must be an integer"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep(SPEC, **options)


def test_a_worker_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    class Pool:
        def __init__(self, *_: object) -> None: ...

        def submit(self, *_: object) -> None:
            raise BrokenProcessPool

        def shutdown(self, **_: object) -> None: ...

    monkeypatch.setattr("theory.sweeping.workers.ProcessPoolExecutor", Pool)
    with pytest.raises(RuntimeError, match="a worker of the sweep died"):
        sweep(SPEC, workers=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantities": ("norm",)}, "quantities must be 'product' or 'early'; got 'norm'"),
        ({"quantities": (), "injections": ()}, "quantities and injections must not both be empty"),
        ({"injections": ("loud",)}, "injections must be 'coherent' or 'random' or 'mixed'; got 'loud'"),
        ({"injections": ("mixed", "mixed")}, "injections must have names of their own"),
        ({"injections": (3,)}, "injections must be names or Injection; got 3"),
        ({"residual": "round"}, "residual must be"),
        ({"rank": 2}, "rank must be given for residual 'low_rank' and for no other; got 2"),
        ({"residual": "low_rank"}, "rank must be given for residual 'low_rank'"),
        ({"residual": "low_rank", "rank": 0}, "rank must be an integer of at least 1"),
        ({"context_dimension": 3}, "context_dimension must be 1 or 2; got 3"),
        ({"level": 1.0}, r"level must lie in \(0, 1\); got 1\.0"),
        ({"level": float("nan")}, "level must lie"),
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32'; got 'float16'"),
        ({"engine": "torch"}, "engine must be"),
        ({"simulator": 3}, "simulator must be"),
        ({"thresholds": 0.1}, "thresholds must be PhaseThresholds; got 0.1"),
        ({"thresholds": {"ratio": 1e-15}}, "thresholds.ratio must be above what float64 resolves"),
        ({"seeds": [1, 2]}, "seeds must be one integer"),
        ({"depth": ()}, "depth must be a non-empty"),
        ({"gain": [np.nan]}, "gain must be finite and not negative; got nan"),
    ],
)
def test_bad_specifications_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name must be a word"),
        ({"along": -1.0}, r"along must be finite and not negative; got -1\.0"),
        ({"across": "much"}, "across must be a number; got 'much'"),
        ({"along": 0, "across": 0}, "along and across must not both be 0"),
        ({"frame": "round"}, "frame must be 'across' or 'isotropic'; got 'round'"),
    ],
)
def test_bad_injections_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Injection(**({"name": "x", "along": 1.0, "across": 1.0} | change))


def test_the_engine_is_part_of_who_a_sweep_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines draw different numbers: "auto" is what it stands for here, and another engine another sweep."""
    assert digest(SPEC) == digest(replace(SPEC, engine="numpy")) != digest(replace(SPEC, engine="jax"))
    with pytest.raises(ValueError, match="workers must be 1 with the engine 'jax'"):
        sweep(replace(SPEC, engine="jax"), workers=2)
    monkeypatch.setattr(sweeping, "resolved_engine", lambda _: "jax")
    with pytest.raises(ValueError, match="workers must be 1"):
        sweep(SPEC, workers=2)
