"""A checkpoint loads strictly or not at all."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.checkpoints.checkpoint import CheckpointError, from_model, load_checkpoint
from empirical.checkpoints.hub import looks_like_id
from tests.helpers.tiny_whisper import rewrite_json, write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("checkpoints") / "small-one")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def error_of(ref: str | Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(ref)
    assert caught.value.code in CheckpointError.CODES
    return caught.value


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_good_checkpoint_is_ready_to_be_measured(good: Path, dtype: str) -> None:
    checkpoint = load_checkpoint(good, dtype=dtype)
    model = checkpoint.model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config._attn_implementation == "eager"
    assert (checkpoint.name, checkpoint.ref, checkpoint.dtype) == ("small-one", str(good), dtype)
    assert (checkpoint.window_s, checkpoint.window_samples, checkpoint.notes) == (2.0, 32_000, ())
    assert checkpoint.sha256 == hashlib.sha256((good / "model.safetensors").read_bytes()).hexdigest()
    stored, loaded = load_file(good / "model.safetensors"), model.state_dict()
    assert stored.keys() <= loaded.keys() and "model.decoder.layers.0.fc2.weight" in stored
    assert all(torch.equal(tensor.to(model.dtype), loaded[name]) for name, tensor in stored.items())


def test_half_precision_is_cast_up_and_noted(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_tiny_whisper(tmp_path / "half", dtype=torch.float16))
    assert checkpoint.notes == ("upcast:float16",) and checkpoint.model.dtype == torch.float32


def test_missing_tensor_is_fatal_and_named(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.__delitem__("model.decoder.layers.1.fc2.bias"))
    error = error_of(copy)
    assert error.code == "missing_tensors" and "model.decoder.layers.1.fc2.bias" in error.message


def test_unexpected_tensor_is_fatal_and_named(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.update({"model.decoder.layers.9.fc2.bias": torch.zeros(3)}))
    error = error_of(copy)
    assert error.code == "unexpected_tensors" and "model.decoder.layers.9.fc2.bias" in error.message


def test_mismatched_tensor_is_fatal_and_named(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.update({"model.decoder.layers.0.fc1.bias": torch.zeros(3)}))
    error = error_of(copy)
    assert error.code == "mismatched_tensors" and "model.decoder.layers.0.fc1.bias" in error.message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_tensor_is_fatal_and_named(copy: Path, bad: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.encoder.conv1.weight"].view(-1)[7] = bad

    edit_weights(copy, spoil)
    error = error_of(copy)
    assert error.code == "non_finite" and "model.encoder.conv1.weight" in error.message


def test_wrong_number_of_mels_is_fatal(copy: Path) -> None:
    rewrite_json(copy / "preprocessor_config.json", feature_size=64)
    error = error_of(copy)
    assert error.code == "wrong_mels" and "80" in error.message and "64" in error.message


def test_feature_extractor_must_fill_the_encoder_at_16_khz(copy: Path) -> None:
    rewrite_json(copy / "preprocessor_config.json", chunk_length=3)
    assert error_of(copy).code == "wrong_window"
    rewrite_json(copy / "preprocessor_config.json", chunk_length=2, sampling_rate=8000)
    assert error_of(copy).code == "wrong_sample_rate"


def test_another_architecture_is_refused(copy: Path) -> None:
    rewrite_json(copy / "config.json", model_type="wav2vec2")
    error = error_of(copy)
    assert error.code == "not_whisper" and "wav2vec2" in error.message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    error = error_of(copy)
    assert error.code == "missing_file" and name in error.message


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("config.json", "bad_config"),
        ("preprocessor_config.json", "bad_config"),
        ("tokenizer.json", "bad_tokenizer"),
        ("model.safetensors", "bad_weights"),
    ],
)
def test_unreadable_file_is_one_line(copy: Path, name: str, code: str) -> None:
    (copy / name).write_bytes(b"{ not json")
    error = error_of(copy)
    assert error.code == code and "\n" not in error.message


def test_cut_weight_file_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert error_of(copy).code == "bad_weights"


def test_pickled_weights_are_read_without_executing_them(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors, copy / "pytorch_model.bin")
    assert load_checkpoint(copy).model.dtype == torch.float32

    class Payload:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return (Path.touch, (copy / "executed",))

    torch.save({"x": Payload()}, copy / "pytorch_model.bin")
    error = error_of(copy)
    assert error.code == "holds_code" and "pathlib" in error.message and "\n" not in error.message
    assert not (copy / "executed").exists()


def test_sharded_weights_need_all_their_files(copy: Path) -> None:
    whole = load_checkpoint(copy).model
    shutil.rmtree(copy / "none", ignore_errors=True)
    (copy / "model.safetensors").unlink()
    whole.save_pretrained(copy, max_shard_size="20KB")
    shards = sorted(copy.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert len(load_checkpoint(copy).sha256) == 64
    shards[1].unlink()
    error = error_of(copy)
    assert error.code == "missing_file" and shards[1].name in error.message


def test_tokenizer_larger_than_the_model_is_refused(good: Path) -> None:
    checkpoint = load_checkpoint(good)
    checkpoint.tokenizer.add_tokens([f"more{number}" for number in range(3)])
    with pytest.raises(CheckpointError) as caught:
        from_model(checkpoint.model, checkpoint.feature_extractor, checkpoint.tokenizer, name="x")
    assert caught.value.code == "bad_tokenizer"


def test_dither_is_switched_off(copy: Path) -> None:
    rewrite_json(copy / "preprocessor_config.json", dither=0.1)
    checkpoint = load_checkpoint(copy)
    assert checkpoint.notes == ("dither_off",) and checkpoint.feature_extractor.dither == 0


def test_paths_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert error_of(tmp_path / "file").code == "not_a_directory"
    assert error_of(tmp_path / "none").code == "missing"
    assert error_of(tmp_path).code == "missing_file"
    with pytest.raises(ValueError, match="dtype must be float32 or float64; got 'float16'"):
        load_checkpoint(tmp_path, dtype="float16")
    with pytest.raises(KeyError, match=r"CheckpointError\.CODES"):
        CheckpointError("nonsense", "")


def test_hub_ids_are_not_paths() -> None:
    assert looks_like_id("openai/whisper-tiny") and looks_like_id("distil-whisper/distil-large-v3.5")
    for ref in ("whisper-tiny", "./a/b", "/a/b", "a/b/c", "../b", "a/", "~/b"):
        assert not looks_like_id(ref)


@pytest.mark.parametrize("offline", [True, False])
def test_hub_id_without_network_gives_two_lines_at_once(
    offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    start = time.perf_counter()
    error = error_of("openai/whisper-tiny")
    assert time.perf_counter() - start < 10
    tried, advice = error.message.split("\n")
    assert error.code == "unreachable"
    assert "openai/whisper-tiny" in tried and "--model /path/to/whisper-tiny" in advice
    assert pickle.loads(pickle.dumps(error)).message == error.message


def test_a_broken_generation_config_is_an_error_not_a_silent_default(tmp_path):
    directory = write_tiny_whisper(tmp_path / "tiny")
    (directory / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: not readable as JSON"):
        load_checkpoint(directory)
