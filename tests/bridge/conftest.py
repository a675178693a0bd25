"""What tests of whole runs share: jobs without models, and clips for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.fake_runs import CLIPS, write_audio


@pytest.fixture
def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs call the jobs of `fake_jobs`."""
    monkeypatch.setattr("bridge.running.inputs.JOBS", "tests.bridge.fake_jobs")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A directory of the six clips."""
    return write_audio(tmp_path / "audio", CLIPS)
