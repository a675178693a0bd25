"""`spi rescore`: a run's texts scored again, its other columns kept to the bit, its parts untouched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from bridge.commands.rescore import rescore as command
from bridge.comparison.labelling import SCORES
from bridge.comparison.records import load_run
from bridge.errors import ConfigError, OtherSettingsError
from bridge.running.files import read_provenance, write_table
from bridge.running.label_rules import read_rules
from bridge.running.rescoring import rescore, rescore_records
from bridge.running.schema import to_table
from bridge.running.store import RunStore
from empirical.recognition.labels import LABELS, MEASURES, Rules
from empirical.recognition.phrases import phrase_list
from empirical.recognition.words import Spellings
from tests.bridge.test_labelling import table
from tests.helpers.records import COMPONENTS, run_tables, write_run

CHOSEN = Rules(phrases=phrase_list(["every cold boat"], "ours"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose clips table has wrong scores."""
    directory = write_run(tmp_path / "run", run_tables({"toy": "dispersive decay"}, clips=2, conditions=("clean",)))
    put_clips(directory, table())
    return directory


def put_clips(run: Path, clips: pd.DataFrame) -> None:
    """The clips table as merging leaves it."""
    rows = [{str(name): value for name, value in row.items()} for row in clips.to_dict("records")]
    write_table(run / "records" / "clips.parquet", to_table("clips", rows), {"seed": 0, "versions": {"x": "1"}})


def test_scores_are_replaced_labels_added_and_the_rest_is_kept(run: Path) -> None:
    path = run / "records" / "clips.parquet"
    before = pq.read_table(path)
    found = rescore(run)
    after = pq.read_table(path)
    kept = [name for name in before.column_names if name not in (*SCORES, *LABELS)]
    assert after.select(kept).equals(before.select(kept))
    assert after.column_names == [
        *before.column_names,
        *(n for n in (*LABELS, *MEASURES) if n not in before.schema.names),
    ]
    assert found.rows == 48 and found.changed["wer"] == 48
    details = json.loads(found.details.read_text())
    assert len(details["changes"]) == sum(found.changed.values()) and details["before"] is None
    assert {
        "model": "toy",
        "clip": "c-0",
        "condition": "clean",
        "column": "wer",
        "before": 9.0,
        "after": 0.0,
    } in details["changes"]
    assert read_provenance(path)["versions"] == {"x": "1"} and "toy" in read_provenance(path)["rescored"]
    assert not load_run(run).clips["wer_above_half"].iloc[0]
    assert found.detectors is not None and "toy" in read_provenance(found.detectors)["rescored"]
    assert not list(run.glob("**/.partial-*"))


def test_a_run_that_only_listened_has_the_detectors_of_what_it_heard(run: Path) -> None:
    keys = table()[["model", "clip", "condition"]]
    for name, columns in {"layers": ("gap", "gain"), "activations": ("alpha_10",)}.items():
        values = keys.assign(**{column: np.arange(len(keys)) / len(keys) for column in columns})
        values = values.assign(state="position", layer=1, layers=1, component=COMPONENTS[0])
        values.to_parquet(run / "records" / f"{name}.parquet")
    assert set(pd.read_parquet(str(rescore(run).detectors))["part"]) == {"clip", COMPONENTS[0], "position"}
    (run / "records" / "layers.parquet").unlink()
    assert set(pd.read_parquet(str(rescore(run).detectors))["part"]) == {"clip", COMPONENTS[0]}
    (run / "records" / "activations.parquet").unlink()
    alone = rescore(run)
    assert set(pd.read_parquet(str(alone.detectors))["part"]) == {"clip"}
    kinds = {one["kind"] for one in json.loads(alone.details.read_text())["best_detectors"]}
    assert kinds == {"confidence", "length"}


def test_where_no_label_varies_there_is_no_baseline(run: Path) -> None:
    rescore(run)
    clips = table()
    put_clips(run, clips[clips["condition"] == "clean"])
    found = rescore(run)
    assert found.detectors is None and json.loads(found.details.read_text())["best_detectors"] == []
    assert not (run / "records" / "detectors.parquet").exists()


def test_a_second_time_changes_nothing_and_other_rules_do(run: Path) -> None:
    rescore(run)
    path = run / "records" / "clips.parquet"
    first = path.read_bytes()
    again = rescore(run)
    assert path.read_bytes() == first and again.changed == {}
    listed = rescore(run, CHOSEN)
    clips = pd.read_parquet(path)
    assert listed.changed == {} and clips["hallucination_phrase"].sum() == 12
    assert clips.loc[clips["condition"] == "noise", "phrases"].iloc[0].tolist() == ["every cold boat"]
    details = json.loads(listed.details.read_text())
    assert details["before"]["toy"]["rules"]["phrases"] is None
    assert details["models"]["toy"]["rules"]["phrases"]["source"] == "ours"


def test_rules_stay_with_the_run_until_others_are_given(run: Path) -> None:
    """A resumed run merges its parts again, which have no labels, and is labelled by None: what it was given."""
    chosen = replace(CHOSEN, log_prob=-0.5, spellings=Spellings((("colour", "color"),), "ours.json"))
    rescore(run, chosen)
    labels = json.loads((run / "rescored.json").read_text())["models"]
    path = run / "records" / "clips.parquet"
    put_clips(run, table())
    assert read_rules(run) == chosen
    rescore_records(run, None, 0)
    assert json.loads((run / "rescored.json").read_text())["models"] == labels
    assert pd.read_parquet(path)["hallucination_phrase"].sum() == 12
    rescore(run, Rules())
    assert not (run / "rules.json").exists() and pd.read_parquet(path)["hallucination_phrase"].isna().all()


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 9}', '{"schema_version": 1, "unrelated": 0.5}'])
def test_rules_that_cannot_be_read_are_told_and_nothing_is_written(run: Path, content: str) -> None:
    (run / "rules.json").write_text(content)
    before = (run / "records" / "clips.parquet").read_bytes()
    with pytest.raises(ConfigError, match=r"rules\.json must hold rules as spi rescore keeps them"):
        rescore(run)
    assert (run / "records" / "clips.parquet").read_bytes() == before


def test_what_is_no_run_is_told_in_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a run directory: it has no readable settings\.json"):
        rescore(tmp_path / "nowhere")
    path = run / "records" / "clips.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"clips\.parquet cannot be scored"):
        rescore(run)
    assert path.read_bytes() == whole[: len(whole) // 2] and not (run / "rescored.json").exists()
    put_clips(run, table().drop(columns=["transcript"]))
    with pytest.raises(ConfigError, match="missing: transcript"):
        rescore(run)
    path.unlink()
    with pytest.raises(ConfigError, match="holds no records yet"):
        rescore(run)


def test_a_run_at_work_is_left_alone(run: Path) -> None:
    with RunStore(run, {"seed": 0, "k": 4}).lock(), pytest.raises(OtherSettingsError, match="another spi run"):
        rescore(run)


def test_command_says_what_changed(run: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    (tmp_path / "list.txt").write_text("every cold boat\n", encoding="utf-8")
    said = CliRunner().invoke(app, [str(run), "--phrases", str(tmp_path / "list.txt"), "--json"])
    assert said.exit_code == 0
    outcome = json.loads(said.stdout)
    assert outcome["rows"] == 48 and outcome["changed"]["wer"] == 48
    assert {"hallucination_phrase", "fluent_unrelated"} <= {row["label"] for row in outcome["labels"]}
    assert "no score" in CliRunner().invoke(app, [str(run)]).stdout
    assert read_rules(run).phrases is not None
    (tmp_path / "map.json").write_text('{"colour": "color"}', encoding="utf-8")
    CliRunner().invoke(app, [str(run), "--spellings", str(tmp_path / "map.json")])
    assert read_rules(run).phrases is not None and read_rules(run).spellings.source == "map.json"
    CliRunner().invoke(app, [str(run), "--default-rules"])
    assert read_rules(run) == Rules()
    refused = CliRunner().invoke(app, [str(run), "--phrases", str(tmp_path / "none.txt")])
    assert isinstance(refused.exception, ConfigError) and "none.txt" in str(refused.exception)
