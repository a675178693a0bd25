"""A model of which no number would mean anything: one clear line, with a code, wherever it is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.cli import run_command
from bridge.running.pool import Job, _call
from empirical.errors import MeasuringError
from empirical.jacobians.decompositions import NonFiniteError
from empirical.jacobians.layer_chain import LinearisationError
from empirical.jacobians.operators import AdjointError, OutOfMemoryError
from empirical.recognition.forward import ForwardError

CODES = {
    AdjointError: "not_adjoint",
    LinearisationError: "not_linearised",
    ForwardError: "not_reproduced",
    NonFiniteError: "non_finite",
}


@pytest.mark.parametrize("kind", [*CODES, OutOfMemoryError, MemoryError])
def test_nulls_of_a_model_that_cannot_be_measured_end_in_one_line(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise kind("what was wrong\nand a second line") if kind is OutOfMemoryError else kind("what was wrong")

    monkeypatch.setattr("empirical.nulls.write_nulls", refuse)
    out = tmp_path / "nulls.parquet"
    assert run_command(["nulls", "--model", "organism-wide", "--out", str(out), "--quiet"]) == 6
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("spi: error: organism-wide") and "what was wrong" in lines[0]
    assert not out.exists()


def test_other_errors_of_the_machine_are_not_called_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr("empirical.nulls.write_nulls", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run_command(["nulls", "--model", "organism-wide", "--out", str(tmp_path / "nulls.parquet"), "--quiet"])


def raises(name: str) -> None:
    raise next(kind for kind in CODES if kind.__name__ == name)("what was wrong")


@pytest.mark.parametrize("kind", CODES)
def test_a_run_gives_the_failure_its_code(kind: type[Exception]) -> None:
    failure = _call(Job("task", f"{__name__}:raises", {"name": kind.__name__})).failure
    assert failure is not None
    assert (failure.type, failure.code, failure.message) == (kind.__name__, CODES[kind], "what was wrong")


def test_each_is_a_refusal_to_report() -> None:
    assert {kind for kind in CODES if issubclass(kind, MeasuringError)} == set(CODES) - {NonFiniteError}
