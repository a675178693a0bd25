"""Which samples a run takes: all of a directory, its first clips, or those that a manifest names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import ConfigError, OtherSettingsError
from tests.helpers.fake_runs import CLIPS, lines_of, run_fake, tables_of, write_audio

pytestmark = pytest.mark.usefixtures("without_models")


def _manifest(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_manifest_says_which_samples_and_each_utterance_is_heard_clean_too(audio: Path, tmp_path: Path) -> None:
    lines = ("a1 noise", "b1 mix", "b1 stretch", "c2 noise", "zz mix")
    manifest = _manifest(tmp_path / "m.jsonl", *lines)
    summary = run_fake(audio, tmp_path / "run", model=["m"], manifest=str(manifest), sequence_clips=1)
    assert summary.heard == 3 + 4 and summary.quarantined == 1
    tables = tables_of(tmp_path / "run")
    heard = [(row["clip"], row["condition"]) for row in tables["clips"].to_pylist()]
    assert heard == [
        *(("a1", "clean"), ("a1", "noise"), ("b1", "clean"), ("b1", "mix"), ("b1", "stretch")),
        *(("c2", "clean"), ("c2", "noise")),
    ]
    sequence = {(row["clip"], row["condition"]) for row in tables["layers"].to_pylist() if row["state"] == "sequence"}
    assert sequence == {("a1", "clean"), ("a1", "noise")}
    (absent,) = lines_of(tmp_path / "run" / "quarantine.jsonl")
    assert (absent["utterance"], absent["code"]) == ("zz", "absent_audio")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert settings["manifest"]["lines"] == 5 and settings["manifest"]["versions"] == {"spi": "0"}
    assert settings["conditions"] == ["clean", "mix", "noise", "stretch"]
    assert (tmp_path / "run" / "manifest.jsonl").read_bytes() == manifest.read_bytes()


def test_a_limit_takes_the_first_utterances_of_a_manifest_and_another_manifest_is_another_run(
    audio: Path, tmp_path: Path
) -> None:
    manifest = _manifest(tmp_path / "m.jsonl", "b1 noise", "b2 mix", "c2 noise", "zz mix")
    options = {"model": ["m"], "manifest": str(manifest), "states": "none"}
    assert run_fake(audio, tmp_path / "run", limit=2, **options).heard == 4
    assert {row["clip"] for row in tables_of(tmp_path / "run")["clips"].to_pylist()} == {"b1", "b2"}
    assert lines_of(tmp_path / "run" / "quarantine.jsonl") == []
    manifest.rename(tmp_path / "moved.jsonl")
    options["manifest"] = str(tmp_path / "moved.jsonl")
    assert run_fake(audio, tmp_path / "run", limit=2, **options).tasks["ok"] == 1  # and is the same run
    _manifest(tmp_path / "moved.jsonl", "b1 noise", "b2 noise")
    with pytest.raises(OtherSettingsError, match=r"other settings: (conditions|manifest\.sha256)"):
        run_fake(audio, tmp_path / "run", limit=2, **options)


def test_a_manifest_that_cannot_be_read_is_one_line_and_nothing_is_written(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("a1 noise\nb1 mi", encoding="utf-8")
    with pytest.raises(ConfigError, match="breaks off"):
        run_fake(audio, tmp_path / "run", manifest=str(tmp_path / "m.jsonl"))
    assert not (tmp_path / "run").exists()


def test_limit_takes_the_first_usable_clips_and_opens_no_more(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", ("a-silent", "b1", "c1", "d-silent", "e1"))
    run_fake(audio, tmp_path / "run", limit=2, conditions="clean", states="position")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert [clip["name"] for clip in settings["clips"]] == ["b1", "c1"]
    assert [line["path"] for line in lines_of(tmp_path / "run" / "quarantine.jsonl")] == [str(audio / "a-silent.clip")]


def test_a_limited_run_mixes_with_clips_beyond_the_limit(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "run", limit=1, conditions="clean,mix", states="position")
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text(encoding="utf-8"))
    assert [clip["name"] for clip in inputs["clips"]] == ["a1"]
    assert [clip["name"] for clip in inputs["pool"]] == list(CLIPS)
