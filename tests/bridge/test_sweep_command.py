"""`spi sweep`: options to a specification, a directory that is resumed, one-line errors, figures from records alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.cli import run_command
from bridge.commands.sweep_options import KEYS, make_request
from bridge.commands.sweep_run import seconds_left
from bridge.errors import ConfigError
from bridge.running.phasemap import read_sweep

SMALL = {
    "gain": "0.5:2:5",
    "alignment": "0.3,0.6,0.9",
    "gap": "0.1,0.5",
    "depth": "2,6",
    "dimension": "24",
    "seeds": "8",
    "injections": "coherent",
}


def _arguments(out: Path, **changes: str) -> list[str]:
    options = SMALL | {"out": str(out)} | changes
    return ["sweep", *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "run"
    assert run_command(_arguments(out)) == 0
    return out


def test_a_sweep_leaves_its_records_and_its_figures(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = read_sweep(finished / "sweep.nc")
    assert dict(dataset.sizes)["gain"] == 5 and dataset["gain"].values[2] == pytest.approx(1.0)
    names = {path.stem for path in finished.glob("*.svg")}
    assert {
        "phase_map",
        "singular_ratio",
        "injection_map",
        "boundary_depth_coherent",
        "context_share_coherent",
    } <= names
    for name in names:
        assert (finished / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (finished / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_command_again_computes_nothing_and_another_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "sweep.nc").read_bytes()
    assert run_command([*_arguments(finished), "--json", "--no-figures"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["complete"] and not said["computed"]
    assert said["cells"] == 5 * 3 * 2 * 2 and said["jacobians"] == said["cells"] * 8 and said["figures"] == []
    assert (finished / "sweep.nc").read_bytes() == before
    for more in ([], ["--dry-run"]):
        assert run_command([*_arguments(finished, seed="3"), *more]) == 5
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "another seed: 0 there, 3 asked for" in err
    assert (finished / "sweep.nc").read_bytes() == before


def test_limited_runs_end_where_one_run_does(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*_arguments(tmp_path / "run", limit="1"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not said["complete"] and said["parts_done"] == 1 < said["parts"]
    assert not list((tmp_path / "run").glob("*.svg"))
    assert run_command([*_arguments(tmp_path / "run"), "--json", "--no-figures"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["complete"] and said["computed"] and said["parts_done"] == said["parts"]
    assert (tmp_path / "run" / "sweep.nc").read_bytes() == (finished / "sweep.nc").read_bytes()


def test_a_dry_run_writes_nothing_and_says_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*_arguments(tmp_path / "run"), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    said = dict(line.split(": ", 1) for line in out.splitlines())
    assert said["grid"] == "5 gain x 3 alignment x 2 gap x 2 depth x 1 dimension"
    assert said["cells"] == "60" and said["jacobians"] == "480"
    assert {"seconds", "disk", "memory", "simulators", "distinct chains"} <= set(said)
    assert err == "" and list(tmp_path.iterdir()) == []


def test_plot_draws_from_the_records_alone_and_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    alone = tmp_path / "records" / "sweep.nc"
    alone.parent.mkdir()
    alone.write_bytes((finished / "sweep.nc").read_bytes())
    chosen = ["--only", "phase_map,context_growth_coherent"]
    assert run_command(["sweep", "plot", str(alone.parent), "--out", str(tmp_path / "figures"), *chosen]) == 0
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert len(drawn) == 6
    assert drawn == {name: (finished / name).read_bytes() for name in drawn}
    assert [path.name for path in alone.parent.iterdir()] == ["sweep.nc"]
    assert run_command(["sweep", "plot", str(alone), "--narrow", "--only", "phase_map"]) == 0
    assert sorted(path.suffix for path in alone.parent.glob("phase_map_narrow.*")) == [".pdf", ".png", ".svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gain", "1,nan"], "gain must be finite values a,b,c or first:last:count; got '1,nan'"),
        (["--gain", ""], "gain must be finite values a,b,c or first:last:count; got ''"),
        (["--depth", "2.5"], "depth must"),
        (["--depth", "0"], "depth must"),
        (["--gap", "1.5"], "gap must lie in [0, 1]; got 1.5"),
        (["--gain", "1:2:10000000000"], "gain must have at most a million values"),
        (["--family", "odd"], "family must be one of flat, low-rank, quarter-circle, residual; got 'odd'"),
        (["--family", "low-rank"], "rank must be given for the family low-rank"),
        (["--rank", "2"], "rank has no meaning for the family flat"),
        (["--strength", "1"], "strength has no meaning for the family flat"),
        (["--family", "residual", "--gap", "0.5"], "gap has no meaning for the family residual"),
        (["--study", "residual", "--family", "flat"], "study residual is of the family residual; got the family flat"),
        (["--study", "none"], "study must be one of boundary, "),
        (["--injections", "odd"], "injections must be"),
        (["--quantities", "odd"], "quantities must be"),
        (["--workers", "0"], "workers must be a whole number of at least 1; got 0"),
        (["--limit", "0"], "limit must be a whole number of at least 1; got 0"),
        (["--level", "2"], "level must lie in (0, 1); got 2.0"),
        (["--config", "absent.yaml"], "config file absent.yaml cannot be read"),
        (["plot", "absent"], "no finished sweep"),
        (["plot", ""], "directory must be a directory's name; got ''"),
        (["plot", "absent", "--out", ""], "out must be a directory's name; got ''"),
        (["--out", ""], "out must be a directory's name; got ''"),
        (["--out", " "], "out must be a directory's name; got ' '"),
        (["--seeds", "4", "plot", "absent"], "options of plot come after its name"),
        (
            ["--gain", ".5:2:100000", "--alignment", "0.1:1:1000", "--gap", "0:1:100"],
            "GiB are free. Take a smaller grid",
        ),
        (["--seeds", "100000000000"], "(100,000,000,000 seeds, depth 32 and dimension 128 at most)"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["sweep", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.startswith("spi: error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_plot_refuses_what_is_no_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.nc").write_bytes(b"CDF\x01 and then nothing")
    assert run_command(["sweep", "plot", str(tmp_path)]) == 2
    assert "cannot be read as a sweep" in capsys.readouterr().err


def test_plot_names_the_figures_there_are(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sweep", "plot", str(finished), "--only", "odd"]) == 2
    assert "figure must be one of phase_map, " in capsys.readouterr().err


@pytest.mark.parametrize("axis", ["gain", "alignment", "gap", "depth"])
def test_plot_refuses_a_sweep_without_one_of_its_axes(
    axis: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_sweep(finished / "sweep.nc").isel({axis: 0}, drop=True).to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    assert run_command(["sweep", "plot", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"lacks the axis {axis}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]


@pytest.mark.parametrize("only", [[], ["--only", "phase_map"]])
def test_plot_says_where_there_is_nothing_to_draw(
    only: list[str], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_sweep(finished / "sweep.nc")
    data.drop_vars(list(data.data_vars)).drop_dims(["injection"]).to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    assert run_command(["sweep", "plot", str(tmp_path), "--out", str(tmp_path / "figures"), *only]) == 2
    err = capsys.readouterr().err
    assert "this sweep has none; got 'phase_map'" in err if only else "nothing that a figure shows" in err
    assert err.count("\n") == 1 and not (tmp_path / "figures").exists()


def test_plot_refuses_a_damaged_sweep(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((finished / "sweep.nc").read_bytes())
    content[-9] ^= 1
    (tmp_path / "sweep.nc").write_bytes(content)
    (tmp_path / "sweep.nc.sha256").write_bytes((finished / "sweep.nc.sha256").read_bytes())
    assert run_command(["sweep", "plot", str(tmp_path), "--only", "phase_map"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "sweep.nc is damaged: sweep.nc.sha256 tells another checksum" in err
    assert len(list(tmp_path.iterdir())) == 2


def test_every_file_of_a_figure_is_told(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "plot", str(finished), "--out", str(tmp_path / "figures"), "--only", "phase_map"]
    assert run_command([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["figures"]
    assert sorted(told) == sorted(str(path) for path in (tmp_path / "figures").iterdir()) and len(told) == 3


@pytest.mark.parametrize("held", ["settings.json", "phase_map.svg", "photo.png", "timings.json", "parts"])
def test_a_directory_of_something_else_is_left_alone(
    held: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / held).write_text("mine")
    for more in ([], ["--dry-run"]):
        assert run_command([*_arguments(tmp_path), *more]) == 5
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "choose another directory" in err
    assert (tmp_path / held).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_dry_run_tells_what_is_left_to_do(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def left(out: Path, *more: str) -> tuple[int, float]:
        assert run_command([*_arguments(out), "--dry-run", "--json", *more]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["seconds_to_compute"] <= told["seconds"]
        return told["parts_to_compute"], told["seconds_to_compute"]

    whole, seconds = left(tmp_path / "run")
    assert whole > 1 and left(tmp_path / "run", "--limit", "1")[0] == 1
    assert left(tmp_path / "run", "--limit", "1")[1] < seconds
    assert run_command([*_arguments(tmp_path / "run", limit="1"), "--json"]) == 0
    capsys.readouterr()
    assert left(tmp_path / "run")[0] == whole - 1 and left(tmp_path / "run", "--limit", "1") == (0, 0.0)
    assert left(finished) == (0, 0.0)


def test_no_memory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from theory.sweeping import plan, workers

    def none(*_: Any, **__: Any) -> Any:
        raise MemoryError("Unable to allocate 1.16 TiB")

    monkeypatch.setattr(workers, "compute_part", none)
    assert run_command(_arguments(tmp_path / "run")) == 6
    out, err = capsys.readouterr()
    said = "spi: error: no memory to go on: Unable to allocate 1.16 TiB; the parts that are done stay"
    assert out == "" and "Traceback" not in err and err.splitlines()[-1] == said
    monkeypatch.setattr(plan, "parts_of", none)
    assert run_command([*_arguments(tmp_path / "run"), "--dry-run"]) == 2
    assert "Unable to allocate 1.16 TiB; take a smaller grid" in capsys.readouterr().err


def test_a_config_file_holds_the_same_options_and_loses_to_them(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "gain: 0.5:2:3\nalignment: [0.2, 0.8]\ngap: 0.5\ndepth: [4, 8]\ndimension: 64\nseeds: 8\n"
        "injections: [coherent, {name: loud, along: 3.0, across: 0.1}]\ncontext-dimension: 1\n",
        encoding="utf-8",
    )
    request = make_request(path, {"seeds": 12, "gap": "0.1,0.2"})
    spec = request.spec
    assert spec.gain == (0.5, 1.0, 2.0) and spec.depth == (4, 8) and spec.gap == (0.1, 0.2)
    assert (spec.seeds, spec.context_dimension, str(request.out)) == (12, 1, "runs/sweep")
    assert [one.name for one in spec.injections] == ["coherent", "loud"]
    path.write_text("study: [boundary]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study must be one of boundary, .*; got \['boundary'\]"):
        make_request(path, {})
    path.write_text("seed: 1\ngains: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown key 'gains'; known: study, family, gain, "):
        make_request(path, {})


def test_every_option_is_a_key_and_every_key_an_option() -> None:
    from typer.main import get_command

    from bridge.commands.sweep import app

    options = {parameter.name for parameter in get_command(app).params} - {"help"}
    assert options == {*KEYS, "config", "dry_run", "figures", "as_json"}


def test_families_and_studies_become_specifications() -> None:
    low = make_request(None, {"family": "low-rank", "rank": "3"}).spec
    assert (low.residual, low.rank) == ("low_rank", 3)
    residual = make_request(None, {"family": "residual", "strength": "0.5:8:5", "rank": "1,4", "seeds": 8}).spec
    assert residual.rank == (1, 4) and np.allclose(np.diff(np.log(residual.strength)), np.log(2))
    boundary = make_request(None, {"study": "boundary", "dimension": "64"}).spec
    assert boundary.dimension == (64,) and len(boundary.gain) == 64


def test_what_is_left_is_told_by_the_plan_first_and_then_by_the_pace() -> None:
    assert seconds_left(0.0, 0.0, 100.0, 2) == pytest.approx(50.0)
    assert seconds_left(1.0, 0.01, 100.0, 1) == pytest.approx(120.0, rel=0.01)  # not the 10,000 of one small part
    assert seconds_left(300.0, 99.0, 100.0, 1) == pytest.approx(3.0, rel=0.05)
    assert seconds_left(300.0, 100.0, 100.0, 1) == 0.0 == seconds_left(1.0, 0.0, 0.0, 1)


# SIGINT and SIGTERM are sent to a child process: Windows has no such signals.
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_exits_130_and_goes_on(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = {"seeds": "600", "depth": "2,30", "alignment": "0.05:0.95:24", "quantities": "product"}
    arguments = _arguments(out, **more)
    # A shell's job in the background ignores SIGINT, and its children do: the test must not.
    process = subprocess.Popen(
        [sys.executable, "-c", _RESTORED, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not list((out / "parts").glob("[!.]*.nc")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert said == "" and "Traceback" not in err and "the same command goes on" in err
    done = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("[!.]*.nc")}
    assert done and not (out / "sweep.nc").exists()
    assert run_command([*_arguments(out, **more, limit=str(len(done) + 1)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts_done"] == len(done) + 1
    after = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("[!.]*.nc")}
    assert {name: after[name] for name in done} == done  # what was there was read, not made again


_RESTORED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from bridge.cli import main
main(sys.argv[1:])
"""
