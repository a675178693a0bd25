"""`spi organism clips`: more sentences that no organism was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from empirical.speech.clips import bundled_clips, find_clips


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="rendering speech needs espeak-ng")
def test_the_first_clips_have_the_bundled_ones_names_and_sentences(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["organism", "clips", "--out", str(tmp_path / "clips"), "--count", "3"])
    assert result.exit_code == 0, result.output
    made = {clip.name: clip.reference for clip in find_clips(tmp_path / "clips")}
    bundled = {clip.name: clip.reference for clip in bundled_clips()}
    assert len(made) == 3
    assert made.items() <= bundled.items()


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(app, ["organism", "clips", "--out", str(tmp_path), "--count", "1"])
    assert result.exit_code != 0
    assert "must be new, empty or hold clips already" in str(result.exception) + result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
