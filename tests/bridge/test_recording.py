"""What a run writes down of samples that could not be heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.running.inputs import Inputs
from bridge.running.recording import Outcomes, write_log
from bridge.running.store import RunStore
from bridge.running.tasks import make_shards
from tests.helpers.fake_runs import lines_of

CONDITIONS = {"a": ("clean", "noise"), "b": ("clean", "noise")}


def _refused(clip: str, condition: str) -> dict[str, Any]:
    """The same words whatever the condition, as of a source that is not the manifest's."""
    row = {"type": "ManifestError", "code": "changed_source", "detail": f"{clip}: another file", "stage": "manifest"}
    return {"clip": clip, "condition": condition, **row}


def test_every_sample_is_listed_once_whatever_conditions_and_models_share_its_reason(tmp_path: Path) -> None:
    outcomes = Outcomes()
    rows = [_refused("a", "clean"), _refused("a", "noise"), _refused("b", "noise")]
    for shard in make_shards(["m", "n"], CONDITIONS):
        outcomes.refuse(shard, rows, {"a": "a.flac", "b": "b.flac"})
    inputs = Inputs(models=(), clips=(), pool=(), quarantine=())
    quarantine = write_log(RunStore(tmp_path, {}), inputs, outcomes)
    assert quarantine == lines_of(tmp_path / "quarantine.jsonl")
    assert [(each["path"], each["condition"]) for each in quarantine] == [
        ("a.flac", "clean"),
        ("a.flac", "noise"),
        ("b.flac", "noise"),
    ]
