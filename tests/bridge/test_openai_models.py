"""`spi measure` takes OpenAI's `.pt` like any other model, and one that holds code ends it with one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from bridge.cli import run_command
from empirical.checkpoints.checkpoint import load_checkpoint
from tests.helpers.openai_whisper import openai_content, write_openai
from tests.helpers.tiny_whisper import write_tiny_whisper


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.pt` in half precision, the directory of its name with what a `.pt` does not carry, and a sound."""
    root = tmp_path_factory.mktemp("openai")
    made = write_tiny_whisper(root / "made")
    write_openai(load_checkpoint(made).model.half(), root / "tiny.pt")
    shutil.copytree(made, root / "tiny", ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    (root / "audio").mkdir()
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    soundfile.write(root / "audio" / "sound.wav", sound, 16_000)
    return root


def command(place: Path, model: str, out: str) -> list[str]:
    options = ["--conditions", "clean", "--states", "position", "--k", "2", "--workers", "1", "--quiet"]
    return [
        "measure",
        "--model",
        str(place / model),
        "--audio",
        str(place / "audio"),
        "--out",
        str(place / out),
        *options,
    ]


def test_a_pt_is_measured_and_recorded(place: Path) -> None:
    assert run_command(command(place, "tiny.pt", "run")) == 0
    layers = pq.read_table(place / "run" / "records" / "layers.parquet")
    assert set(layers.column("model").to_pylist()) == {"tiny"} and layers.num_rows == 3
    (model,) = json.loads((place / "run" / "provenance.json").read_text(encoding="utf-8"))["models"]
    loaded = load_checkpoint(place / "tiny.pt")
    assert (model["sha256"], tuple(model["notes"])) == (loaded.sha256, loaded.notes)
    assert model["notes"][:2] == ["upcast:float16", "openai_format"]


def test_a_pt_that_holds_code_ends_the_command_with_one_line(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (os.mkdir, (str(place / "executed"),))

    torch.save(openai_content(load_checkpoint(place / "tiny.pt").model) | {"x": Payload()}, place / "bad.pt")
    assert run_command(command(place, "bad.pt", "bad")) != 0
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "mkdir" in lines[0] and "none was run" in lines[0]
    assert not (place / "executed").exists() and not (place / "bad").exists()
