"""`spi attack`: what it writes, what it refuses, and that stopping loses nothing."""

import gc
import json
import os
import signal

import numpy as np
import pytest

import theory
from bridge.cli import run_command
from bridge.errors import ExitCode
from bridge.running import interruption

SMALL = ["attack", "--bound", "P2", "--depth", "4", "--restarts", "2", "--steps", "200"]


def test_a_search_writes_its_result_its_chain_and_its_state(tmp_path, capsys):
    out = tmp_path / "whole"
    assert run_command([*SMALL, "--out", str(out), "--json"]) == ExitCode.OK
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert said.err == ""  # no progress bar where there is no terminal
    assert {path.name for path in out.iterdir()} == {"attack.json", "chain.npz", "search.npz"}
    assert json.loads((out / "attack.json").read_text()) == outcome
    chain = theory.load_chain(out / "chain.npz")
    measured = theory.measure(chain)
    # an SVD of a 4 x 4 matrix errs by a few eps
    np.testing.assert_allclose(measured.gap, outcome["gap"], atol=1e-14)
    np.testing.assert_allclose(measured.alignment[1:], outcome["alignment"][1:], atol=1e-14)
    assert outcome["sup_gain"] == pytest.approx(float(np.max(measured.gain[1:])), rel=1e-14)
    assert outcome["sup_gain"] < 1 and outcome["violated"] and outcome["measured"] > 1
    assert outcome["complete"] and outcome["steps_done"] == 200

    # Stopped for time and called again, it arrives at the same chain; a finished search is only read.
    parts = tmp_path / "parts"
    assert run_command([*SMALL, "--out", str(parts), "--seconds", "1e-9", "--json"]) == ExitCode.OK
    stopped = json.loads(capsys.readouterr().out)
    assert stopped["steps_done"] == 100 and not stopped["complete"]
    for _ in range(2):
        assert run_command([*SMALL, "--out", str(parts), "--json"]) == ExitCode.OK
        resumed = json.loads(capsys.readouterr().out)
        assert {k: v for k, v in resumed.items() if k not in ("seconds", "chain", "result")} == {
            k: v for k, v in outcome.items() if k not in ("seconds", "chain", "result")
        }
        assert (parts / "chain.npz").read_bytes() == (out / "chain.npz").read_bytes()

    # In words, the verdict; another search in the same directory is refused by what differs.
    assert run_command([*SMALL, "--out", str(parts)]) == ExitCode.OK
    assert "verdict: violated: growth a layer" in capsys.readouterr().out
    assert run_command([*SMALL, "--out", str(parts), "--seed", "1"]) == ExitCode.OTHER_SETTINGS
    assert "seed was 0, not 1; choose another --out" in capsys.readouterr().err


def test_an_interruption_is_said_with_its_exit_code_and_keeps_the_best(tmp_path, capsys, monkeypatch):
    search = theory.attack

    def interrupted(spec, *, seconds, checkpoint, progress):
        def stop(steps: int, best: float) -> None:
            progress(steps, best)
            raise KeyboardInterrupt

        return search(spec, seconds=seconds, checkpoint=checkpoint, progress=stop)

    monkeypatch.setattr(theory, "attack", interrupted)
    assert run_command([*SMALL, "--out", str(tmp_path / "o")]) == ExitCode.INTERRUPTED
    assert "interrupted after 100 of 200 steps" in capsys.readouterr().err
    assert json.loads((tmp_path / "o" / "attack.json").read_text())["interrupted"] is True


def test_ctrl_c_while_jax_has_python_collect_garbage_is_not_lost(tmp_path, capsys, monkeypatch):
    search = theory.attack

    def _xla_gc_callback() -> None:  # stands for JAX's hook of this name, which swallows what is raised in it
        os.kill(os.getpid(), signal.SIGINT)

    def interrupted(spec, *, seconds, checkpoint, progress):
        _xla_gc_callback()
        return search(spec, seconds=seconds, checkpoint=checkpoint, progress=progress)

    monkeypatch.setattr(theory, "attack", interrupted)
    assert run_command([*SMALL, "--out", str(tmp_path / "o")]) == ExitCode.INTERRUPTED
    assert "interrupted after 100 of 200 steps" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_hook_that_swallows_interruptions_still_has_its_name():
    assert any(getattr(hook, "__name__", "") == interruption._SWALLOWING for hook in gc.callbacks)


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert run_command(["attack", "--bound", "p1", "--out", str(tmp_path / "o"), "--dry-run", "--json"]) == ExitCode.OK
    plan = json.loads(capsys.readouterr().out)
    assert (
        plan["attacks"].startswith("P1: ")
        and plan["gradient_steps"] == 128 * 2000
        and plan["ranges"]["alignment"] == [0.05, 0.95]
    )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bound", "P9"], "bound must be one of growth, decay, P1"),
        (["--steps", "0"], "steps must be an integer of at least 1; got 0"),
        (["--seconds", "0"], "seconds must be positive; got 0.0"),
        (["--gap", "1.2"], "gap must lie in [0, 1]; got 1.2"),
        (["--alignment", "-1"], "alignment must lie in [0, 1]; got -1.0"),
        (["--dimension", "1"], "dimension must be an integer of at least 2; got 1"),
        (["--sigma", "nan"], "sigma must be finite and positive; got nan"),
        (["--depth", "1000000000"], "memory; 1000000000, 4 and 128 take about 327680000000000 bytes and"),
        (["--seed", "-1"], "seed must be an integer of at least 0; got -1"),
    ],
)
def test_a_bad_option_is_one_clear_line(options, said, tmp_path, capsys):
    assert run_command(["attack", "--out", str(tmp_path / "o"), *options]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert run_command(["attack", "--out", str(tmp_path)]) == ExitCode.OTHER_SETTINGS
    assert "holds notes.txt and no search; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "search.npz").write_text("mine too")
    assert run_command(["attack", "--out", str(tmp_path)]) == ExitCode.OTHER_SETTINGS
    assert "is no checkpoint of a search" in capsys.readouterr().err
    assert (tmp_path / "search.npz").read_text() == "mine too"
    assert run_command(["attack", "--out", str(tmp_path / "notes.txt")]) == ExitCode.OTHER_SETTINGS
