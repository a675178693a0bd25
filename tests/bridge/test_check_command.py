"""`spi check`: the ledger's numbers again, bad input refused before the work, a stopped C5 goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import theory
from bridge.cli import run_command
from bridge.ledger import theory_claims
from bridge.ledger.training_claim import training_line
from bridge.reporting.figures import training_curves, training_effects
from bridge.reporting.results import strict
from theory.claims import training as claim
from theory.training import trajectory
from theory.training.conditions import Condition
from theory.training.spec import TrainingSpec


def spec(**changes) -> TrainingSpec:
    return TrainingSpec(**({"depth": 3, "width": 4, "context": 2, "seeds": 3, "steps": 12, "snapshots": 3} | changes))


@pytest.fixture
def small(monkeypatch) -> None:
    """C5 with conditions of a few milliseconds."""

    def deciding(seeds: int, seed: int) -> tuple[Condition, ...]:
        specs = [spec(network=network, seeds=3, seed=seed) for network in ("linear", "residual")]
        return tuple(Condition(f"{one.network}, rank 1, standard start, adam", one, True) for one in specs)

    def further(seeds: int, seed: int = 5) -> tuple[Condition, ...]:
        one = spec(initial="small", seed=seed)
        return (Condition("linear, rank 1, small start, adam", one, False),)

    monkeypatch.setattr(claim, "deciding_conditions", deciding)
    monkeypatch.setattr(claim, "contrasts", lambda seeds, seed: ())
    monkeypatch.setattr(theory_claims, "further_conditions", further)


def said(capsys) -> list[dict]:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["C1", "C2", "C4"])
def test_each_line_of_the_ledger_comes_again_from_its_own_command(name, capsys):
    expected = theory_claims.line_of(theory_claims.usual_check(name), theory_claims.command_of(name))
    assert expected["command"] == f"spi check {name}"
    assert run_command([*expected["command"].split()[1:], "--json"]) == 0
    (line,) = said(capsys)
    details = line.pop("details")
    assert line == strict(expected)
    assert details == strict(theory_claims.usual_check(name).details)


def test_another_seed_gives_other_numbers_and_names_itself(capsys):
    assert run_command(["check", "C4", "--seed", "9", "--json"]) == 0
    (line,) = said(capsys)
    usual = theory_claims.usual_check("C4")
    assert line["effect"] != usual.effect and line["n"] == usual.n
    assert line["command"] == "spi check C4 --seed 9"


def test_more_evidence_on_request(capsys):
    assert run_command(["check", "C4", "--full", "--json"]) == 0
    (line,) = said(capsys)
    assert line["n"] == 10 * theory_claims.usual_check("C4").n
    assert line["command"] == "spi check C4 --full"


def test_claims_come_once_and_in_order_whatever_was_asked(capsys, small):
    assert run_command(["check", "c2", "C1", "c1", "--json"]) == 0
    assert [line["id"] for line in said(capsys)] == ["C1", "C2"]


def test_a_stopped_check_goes_on_where_it_was_and_ends_with_the_same_bytes(capsys, small, monkeypatch, tmp_path: Path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command = ["check", "C5", "--full", "--quiet", "--out"]
    assert run_command([*command, str(whole)]) == 0
    train, made = trajectory.train, []

    def interrupted(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments[0])
        return train(*arguments)

    monkeypatch.setattr(trajectory, "train", interrupted)
    assert run_command([*command, str(stopped)]) == 130
    assert "the same command goes on from the 2 conditions of C5 in " in capsys.readouterr().err
    assert len(list((stopped / "conditions").glob("*.json"))) == 2
    first, second = sorted((stopped / "conditions").glob("*.json"))
    first.write_text("{", encoding="utf-8")  # torn: made anew
    made.clear()
    assert run_command([*command, str(stopped)]) == 0
    assert len(made) == 2  # the torn one and the one not reached
    assert second.read_bytes() == (whole / "conditions" / second.name).read_bytes()
    assert (stopped / "checks.json").read_bytes() == (whole / "checks.json").read_bytes()
    for name in ("training-curves.png", "training-effects.svg"):
        assert (stopped / name).stat().st_size > 1000
    (line,) = json.loads((stopped / "checks.json").read_text(encoding="utf-8"))["checks"]
    assert [row["decides"] for row in line["details"]["rows"]] == [True, True, False]
    assert "curves" not in line["details"]["rows"][0]
    assert line["command"] == "spi check C5 --full"


def test_words_say_effect_interval_and_verdict(capsys, small):
    assert run_command(["check", "C5", "--quiet"]) == 0
    text = capsys.readouterr().out
    line = theory_claims.line_of(theory_claims.check("C5"), "")
    assert text.startswith(f"C5  {line['verdict']}  Training creates alignment\n")
    assert f"effect {line['effect']:.4g} [" in text and line["why"] in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["C9"], 2, "claim must be one of C1, C2, C3, C4, C5 or all; got 'C9'"),
        (["C1", "--seed", "-1"], 2, "seed must be at least 0; got -1"),
        (["C1", "--out", "{file}"], 5, "cannot be made"),
        (["C1", "--out", "{other}"], 5, "was not written by spi check"),
    ],
)
def test_bad_input_is_refused_before_the_work(arguments, code, message, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(theory_claims, "check", None)  # to be called would be an error of another kind
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checks.json").write_text("[1]", encoding="utf-8")
    filled = [one.format(file=tmp_path / "file", other=tmp_path / "other") for one in arguments]
    assert run_command(["check", *filled]) == code
    assert message in capsys.readouterr().err


def row(name: str, side: str, rise: float, against: float, *, decides: bool = True) -> dict:
    return {
        "name": f"{name}, rank 1, standard start, adam",
        "decides": decides,
        "side": side,
        "n": 4,
        "fitted": True,
        "alignment": {"start": 0.2, "end": 0.2 + rise},
        "change": rise,
        "change_interval": (rise - 0.01, rise + 0.01),
        "change_shuffled_interval": (rise - against - 0.01, rise - against + 0.01),
        "against_shuffled": against,
        "against_shuffled_interval": (against - 0.01, against + 0.01),
        "regime_one": 0.5,
        "regime_two": 0.25,
    }


def made(*rows: dict, carries: str) -> dict:
    details = {"rows": list(rows), "condition": rows[0]["name"], "carries": carries}
    return training_line(theory.ClaimCheck("C5", "", rows[0]["change"], rows[0]["change_interval"], 4, details), "spi")


def test_the_line_of_c5_says_what_the_rows_say():
    agreed = made(row("linear", "above", 0.5, 0.3), row("residual", "above", 0.4, 0.2), carries="above")
    assert (agreed["verdict"], agreed["scope"]) == ("supported", "")
    assert "the task makes it in 2, and in 0 shuffled labels align as well" in agreed["why"]
    split = made(row("linear", "below", 0.0, 0.0), row("residual", "above", 0.4, 0.0), carries="below")
    assert split["verdict"] == "refuted"
    assert split["scope"] == "Only for: residual, rank 1. Not for: linear, rank 1."
    assert "the task makes it in 0, and in 1 shuffled labels align as well" in split["why"]
    assert "50% of the trained chains in its Regime I, 25% in Regime II" in split["why"]
    still_open = made(
        row("linear", "across", 0.1, 0.0), row("residual", "below", 0.0, 0.0, decides=False), carries="across"
    )
    assert still_open["verdict"] == "unresolved"
    assert still_open["scope"].startswith("For none of the conditions with certainty.")
    assert "in which training aligns" not in still_open["why"]


def test_figures_of_training_take_any_rows_and_say_when_there_are_none():
    one = Condition("linear, rank 1, standard start, adam", spec(), True)
    found = claim.summary(one, trajectory.train(one.spec)) | {"side": "across"}
    for narrow in (False, True):
        curves = training_curves([found], ("alignment", "gap", "gain"), narrow=narrow)
        assert len(curves.axes) == 3
        drawn = [line.get_ydata() for line in curves.axes[0].get_lines()]
        assert any(list(ys) == found["curves"]["alignment"]["true"][1] for ys in drawn)
        assert len(training_effects([found], narrow=narrow).axes) == 2
        assert len(training_curves([], narrow=narrow).axes[0].texts) == 1
        assert len(training_effects([], narrow=narrow).axes[0].texts) == 1
