"""What `from_pretrained` would take with a warning, or pass over: output projections, adapters, other architectures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
)

from empirical import analyze
from empirical.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tests.helpers.tiny_whisper import rewrite_json, write_tiny_whisper

torch.set_num_threads(1)

EMBEDDING, PROJECTION = "model.decoder.embed_tokens.weight", "proj_out.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("refusals") / "good")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def store(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def error_of(directory: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory)
    assert "\n" not in caught.value.message
    return caught.value


def weights_of(loaded: Checkpoint) -> tuple[torch.Tensor, torch.Tensor]:
    return loaded.model.model.decoder.embed_tokens.weight, loaded.model.proj_out.weight


def test_an_output_projection_that_is_tied_is_the_embedding(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    for tensors in (stored, stored | {PROJECTION: stored[EMBEDDING].clone()}):
        store(copy, tensors)
        loaded = load_checkpoint(copy)
        embedding, projection = weights_of(loaded)
        assert embedding is projection and torch.equal(embedding, stored[EMBEDDING]) and loaded.notes == ()


def test_an_output_projection_under_its_own_name_alone_is_the_embedding_too(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    only = {name: tensor for name, tensor in stored.items() if name != EMBEDDING} | {PROJECTION: stored[EMBEDDING]}
    store(copy, only)
    embedding, projection = weights_of(load_checkpoint(copy))
    assert torch.equal(embedding, stored[EMBEDDING]) and torch.equal(projection, stored[EMBEDDING])


def test_a_projection_of_its_own_where_the_config_ties_it_is_kept_and_noted(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    other = torch.randn(stored[EMBEDDING].shape, generator=torch.Generator().manual_seed(3))
    store(copy, stored | {PROJECTION: other})
    loaded = load_checkpoint(copy)
    embedding, projection = weights_of(loaded)
    assert torch.equal(embedding, stored[EMBEDDING]) and torch.equal(projection, other)
    assert loaded.notes == ("own_proj_out",)
    rewrite_json(copy / "config.json", tie_word_embeddings=False)
    untied = load_checkpoint(copy)
    assert torch.equal(untied.model.proj_out.weight, other) and untied.notes == ()


def test_a_missing_output_projection_is_never_filled_in(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    rewrite_json(copy / "config.json", tie_word_embeddings=False)
    error = error_of(copy)
    assert error.code == "missing_tensors" and PROJECTION in error.message
    rewrite_json(copy / "config.json", tie_word_embeddings=True)
    store(copy, {name: tensor for name, tensor in stored.items() if name != EMBEDDING})
    error = error_of(copy)
    assert error.code == "missing_tensors" and EMBEDDING in error.message


def test_every_single_tensor_is_needed(good: Path, copy: Path) -> None:
    """The sinusoids of the encoder too, which could be computed: a fine-tune may have others."""
    stored = load_file(good / "model.safetensors")
    layer = [name for name in stored if ".layers." not in name or "layers.1." in name]
    assert len(layer) == 11 + 15 + 24  # of the whole, of an encoder layer, of a decoder layer
    for name in layer:
        store(copy, {each: tensor for each, tensor in stored.items() if each != name})
        error = error_of(copy)
        assert error.code == "missing_tensors" and name in error.message


def test_an_adapter_directory_says_how_to_merge(tmp_path: Path, copy: Path) -> None:
    content = {"peft_type": "LORA", "base_model_name_or_path": "openai/whisper-small", "r": 8}
    alone = tmp_path / "adapter"
    alone.mkdir()
    (alone / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, alone / "adapter_model.safetensors")
    error = error_of(alone)
    assert error.code == "adapter" and "openai/whisper-small" in error.message and "LORA" in error.message
    assert "merge_and_unload" in error.message and "remove" not in error.message
    # Beside whole weights transformers without peft would pass over it, and measure the model that it adapts.
    shutil.copy(alone / "adapter_config.json", copy)
    error = error_of(copy)
    assert error.code == "adapter" and "or remove adapter_config.json" in error.message


@pytest.mark.parametrize("pickled", [False, True])
def test_weights_with_an_adapter_inside_are_refused(copy: Path, pickled: bool) -> None:
    stored = load_file(copy / "model.safetensors")
    name = "model.decoder.layers.0.self_attn.q_proj"
    tensors = {key.replace(f"{name}.weight", f"{name}.base_layer.weight"): tensor for key, tensor in stored.items()}
    tensors |= {
        f"{name}.lora_A.default.weight": torch.zeros(2, 16),
        f"{name}.lora_B.default.weight": torch.zeros(16, 2),
    }
    if pickled:
        (copy / "model.safetensors").unlink()
        torch.save(tensors, copy / "pytorch_model.bin")
    else:
        store(copy, tensors)
    error = error_of(copy)
    assert error.code == "adapter" and "base_layer" in error.message and "merge" in error.message


def test_a_wav2vec2_is_named(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    error = error_of(tmp_path)
    assert error.code == "not_whisper" and "'wav2vec2'" in error.message and "'whisper'" in error.message


def test_another_head_on_whisper_is_named(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    config = WhisperConfig.from_pretrained(good)
    WhisperForAudioClassification(config).save_pretrained(tmp_path)
    error = error_of(tmp_path)
    assert error.code == "not_whisper" and "WhisperForAudioClassification" in error.message


def test_quantised_weights_are_refused(copy: Path) -> None:
    rewrite_json(copy / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    error = error_of(copy)
    assert error.code == "bad_weights" and "bitsandbytes" in error.message


def test_a_bare_whisper_is_complete_since_its_head_is_tied(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    whole = WhisperForConditionalGeneration.from_pretrained(good)
    whole.model.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    expected = load_checkpoint(good).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pickled", [False, True])
def test_half_precision_is_cast_up_exactly_and_noted(tmp_path: Path, stored: torch.dtype, pickled: bool) -> None:
    directory = write_tiny_whisper(tmp_path / "half", dtype=stored)
    tensors = load_file(directory / "model.safetensors")
    if pickled:
        (directory / "model.safetensors").unlink()
        torch.save(tensors, directory / "pytorch_model.bin")
    loaded = load_checkpoint(directory, dtype="float64")
    assert loaded.notes == (f"upcast:{str(stored).removeprefix('torch.')}",)
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], tensor.double()) for name, tensor in tensors.items())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float64}


def test_a_half_precision_model_in_memory_is_cast_up_and_noted_and_stays_as_it_was(good: Path, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(good, dtype=torch.bfloat16)
    soundfile.write(tmp_path / "clip.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    table = analyze(model, [tmp_path / "clip.wav"], k=1, dtype="float32")
    assert table.attrs["checkpoint"]["notes"] == ["upcast:bfloat16"] and set(table.dtype) == {"float32"}
    assert model.dtype == torch.bfloat16
