"""Random weights at published dimensions: the dimensions are the published ones, the checkpoint is like any other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import WhisperForConditionalGeneration

from bridge.cli import run_command
from bridge.errors import ExitCode
from empirical import load_checkpoint
from empirical.checkpoints import published
from empirical.checkpoints.published import (
    PUBLISHED,
    Published,
    find_published,
    parameter_count,
    published_config,
    random_model,
    stored_bytes,
    write_random_checkpoint,
)
from empirical.jacobians.measurement import measure_chain
from empirical.organism import list_organisms
from empirical.recognition.transcribe import encode, transcribe

torch.set_num_threads(1)

SMALL = Published("small-english", 64, 1, 2, 51_864, 128, 4, "a test")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Published:
    """Dimensions of a few million parameters, known by name as the published ones are."""
    monkeypatch.setattr(published, "PUBLISHED", {**PUBLISHED, SMALL.name: SMALL})
    return SMALL


@pytest.mark.parametrize("dimensions", PUBLISHED.values(), ids=PUBLISHED)
def test_parameters_are_as_many_as_published(dimensions: Published) -> None:
    # OpenAI's numbers count some tensors twice or round up, by 4 % at tiny; later ones are rounded to a million.
    exact = dimensions.name.startswith("distil") or dimensions.name.endswith("turbo")
    tolerance = 0.5e6 if exact else 0.04e6 * dimensions.millions
    assert abs(parameter_count(dimensions) - 1e6 * dimensions.millions) <= tolerance
    assert stored_bytes(dimensions) == 4 * parameter_count(dimensions) == 2 * stored_bytes(dimensions, "float16")


@pytest.mark.parametrize(
    "dimensions", [SMALL, PUBLISHED["tiny"], PUBLISHED["distil-small.en"]], ids=lambda one: one.name
)
def test_parameters_are_counted_as_transformers_counts_them(dimensions: Published) -> None:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(published_config(dimensions))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(dimensions)


def test_names_are_known_as_the_hub_and_openai_write_them() -> None:
    assert find_published("openai/whisper-large-v3-turbo") is find_published("turbo")
    assert find_published("distil-whisper/distil-small.en").decoder_layers == 4
    with pytest.raises(ValueError, match=r"name must be one of tiny, base, .*; got 'gigantic'"):
        find_published("gigantic")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_random_checkpoint_is_loaded_heard_and_measured_like_any_other(
    small: Published, tmp_path: Path, dtype: str
) -> None:
    state = torch.random.get_rng_state()
    made = write_random_checkpoint(small.name, tmp_path / "out", 5, dtype=dtype)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing half-written is left beside it
    checkpoint = load_checkpoint(made)
    assert checkpoint.notes == (("upcast:float16",) if dtype == "float16" else ())
    assert checkpoint.tokenizer.model_max_length == checkpoint.model.config.max_target_positions == 448
    assert checkpoint.window_s == 30 and checkpoint.feature_extractor.feature_size == small.mels
    model, drawn = checkpoint.model, random_model(checkpoint.model.config, 5)
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight
    for name, tensor in drawn.state_dict().items():
        stored = tensor.to(published.STORED[dtype]).float()
        assert torch.equal(stored, model.state_dict()[name]), name
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    said = transcribe(checkpoint, samples, max_new_tokens=3)
    assert said.prompt_tokens == 2  # English-only: the start and no timestamps, whatever the organism's prompt is
    measured = measure_chain(checkpoint, encode(checkpoint, samples)[0], said.tokens, k=2)
    assert len(measured.layers) == small.decoder_layers and measured.width == small.width


def test_the_prompt_of_a_multilingual_one_is_the_tokenizers(
    small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multilingual = dataclasses.replace(small, name="small-one", vocabulary=51_865)
    monkeypatch.setattr(published, "PUBLISHED", {multilingual.name: multilingual})
    organism = list_organisms()[0].path
    checkpoint = load_checkpoint(write_random_checkpoint("small-one", tmp_path / "out", 0, tokenizer=organism))
    samples = np.zeros(16_000, dtype=np.float32)
    own = transcribe(load_checkpoint(organism), samples, max_new_tokens=1)
    said = transcribe(checkpoint, samples, max_new_tokens=1)
    assert said.tokens[: said.prompt_tokens] == own.tokens[: own.prompt_tokens]


def test_the_same_seed_gives_the_same_file(small: Published, tmp_path: Path) -> None:
    files = [
        write_random_checkpoint(small.name, tmp_path / str(place), seed, dtype="float16") / published.WEIGHTS_FILE
        for place, seed in enumerate((3, 3, 4))
    ]
    same, again, other = (file.read_bytes() for file in files)
    assert same == again != other


def test_bad_arguments_are_named(small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="dtype must be one of float16, float32; got 'float64'"):
        write_random_checkpoint(small.name, tmp_path / "out", dtype="float64")
    with pytest.raises(ValueError, match="seed must lie in"):
        write_random_checkpoint(small.name, tmp_path / "out", -1)
    with pytest.raises(FileExistsError, match="out must not exist"):
        write_random_checkpoint(small.name, tmp_path)
    for tokenizer in (tmp_path / "nowhere", Path(__file__).parent):
        with pytest.raises(ValueError, match=r"tokenizer must be a checkpoint directory with .* got .*No such file"):
            write_random_checkpoint(small.name, tmp_path / "out", tokenizer=tokenizer)
    few = dataclasses.replace(small, name="few", vocabulary=100)
    monkeypatch.setattr(published, "PUBLISHED", {few.name: few})
    with pytest.raises(ValueError, match="ids below 100; got 208"):
        write_random_checkpoint(few.name, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    small: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    arguments = ["organism", "random", small.name, "--out", str(tmp_path / "out")]
    assert run_command(arguments) == ExitCode.OTHER_SETTINGS
    assert "out cannot be written: Error while serializing: I/O error: No space left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_says_the_size_and_refuses_what_it_cannot_write(
    small: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "out"
    arguments = ["organism", "random", small.name, "--out", str(out)]
    assert run_command(["organism", "random", "large-v3", "--out", str(out), "--dry-run"]) == ExitCode.OK
    assert "1,543,490,560 parameters, 32+32 layers of 1280; 6.17 GB on disk" in capsys.readouterr().out
    assert not out.parent.exists()
    usage = type("Usage", (), {"free": 1000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: usage)
        assert run_command(arguments) == ExitCode.OTHER_SETTINGS
    assert "0.00 GB are free there" in capsys.readouterr().err
    assert run_command([*arguments, "--dtype", "float16"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(out)
    assert run_command(arguments) == ExitCode.OTHER_SETTINGS
    assert run_command(["organism", "random", "gigantic", "--out", str(tmp_path / "new")]) == ExitCode.USAGE
