"""OpenAI's `.pt` files: the model they hold is the transformers model, or nothing loads."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from empirical import analyze
from empirical.checkpoints.checkpoint import CheckpointError, load_checkpoint
from empirical.nulls import random_weights
from empirical.recognition.forward import rounding_bound
from empirical.recognition.transcribe import transcribe
from tests.helpers.openai_whisper import openai_content, openai_logits, write_openai
from tests.helpers.tiny_whisper import rewrite_json, write_tiny_whisper

torch.set_num_threads(1)

KINDS = {
    "multilingual": {},
    "english only": {"multilingual": False, "encoder_layers": 1, "decoder_layers": 2},
    "128 mels, 4 heads": {"mels": 128, "heads": 4, "width": 24, "language": None},
}


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint directory, and the same model as a `.pt` beside a directory of its name with the tokenizer."""
    directory = write_tiny_whisper(tmp_path_factory.mktemp("openai") / "made", **KINDS[request.param])
    file = write_openai(load_checkpoint(directory).model, directory.parent / "tiny.pt")
    shutil.copytree(directory, directory.parent / "tiny", ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    return directory, file


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_tiny_whisper(tmp_path_factory.mktemp("one") / "tokens")
    model = load_checkpoint(directory).model
    for name in ("config.json", "model.safetensors"):
        (directory / name).unlink()
    return write_openai(model, directory / "tiny.pt")


@pytest.fixture
def content(good: Path) -> dict[str, Any]:
    return torch.load(good, weights_only=True)


@pytest.fixture
def file(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good.parent, tmp_path / "copy")) / good.name


def error_of(path: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    assert caught.value.code in CheckpointError.CODES
    assert "\n" not in caught.value.message and caught.value.message.startswith(str(path))
    return caught.value


def sound(seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(24_000)).astype(np.float32)


def test_every_tensor_and_the_logits_are_the_transformers_model_s(pair: tuple[Path, Path]) -> None:
    directory, file = pair
    theirs, ours = load_checkpoint(directory, dtype="float64"), load_checkpoint(file, dtype="float64")
    expected = theirs.model.state_dict()
    assert ours.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.model.state_dict().items())
    config = ours.model.config
    mel = torch.randn(1, config.num_mel_bins, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[280, 7, 8, 9, 281]])
    with torch.no_grad():
        given = ours.model(input_features=mel, decoder_input_ids=tokens).logits
        same = theirs.model(input_features=mel, decoder_input_ids=tokens).logits
        direct = openai_logits(torch.load(file, weights_only=True), mel, tokens)
    # Sums of at most 4 d products in another order, some dozens of them one behind the other.
    bound = 1e3 * 4 * config.d_model * torch.finfo(torch.float64).eps
    assert max((given - other).abs().max() for other in (same, direct)) < bound * direct.abs().max()
    assert ours.model.proj_out.weight is ours.model.model.decoder.embed_tokens.weight


def test_transcripts_are_the_same_and_the_record_says_where_things_came_from(pair: tuple[Path, Path]) -> None:
    directory, file = pair
    theirs, ours = load_checkpoint(directory, dtype="float64"), load_checkpoint(file, dtype="float64")
    for seed in range(3):
        one, other = (transcribe(each, sound(seed), max_new_tokens=8) for each in (ours, theirs))
        assert (one.tokens, one.prompt_tokens, one.text) == (other.tokens, other.prompt_tokens, other.text)
        # generate rounds to float32, on either side of which the last bits of float64 may fall.
        assert one.log_probs == pytest.approx(other.log_probs, rel=4 * torch.finfo(torch.float32).eps)
    size = ours.model.config.d_model // ours.model.config.decoder_attention_heads
    assert ours.notes == ("openai_format", "tokenizer:tokenizer.json", f"head_size:{size}")
    assert (ours.name, ours.ref, ours.window_s, ours.commit) == ("tiny", str(file), 2.0, "")
    assert ours.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert ours.model.config._attn_implementation == "eager" and not ours.model.training
    assert not any(parameter.requires_grad for parameter in ours.model.parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_up_exactly_and_noted(file: Path, content: dict[str, Any], stored: torch.dtype) -> None:
    half = {name: tensor.to(stored) for name, tensor in content["model_state_dict"].items()}
    torch.save(content | {"model_state_dict": half}, file)
    loaded = load_checkpoint(file, dtype="float64")
    assert loaded.notes[0] == f"upcast:{str(stored).removeprefix('torch.')}"
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float64}
    weight = loaded.model.state_dict()["model.decoder.layers.1.encoder_attn.k_proj.weight"]
    assert torch.equal(weight, half["decoder.blocks.1.cross_attn.key.weight"].double())


def test_model_outlives_its_file(file: Path) -> None:
    """A model that were a view of the mapped file would change with it in the middle of a run."""
    loaded = load_checkpoint(file)
    before = loaded.model.proj_out.weight.clone()
    with open(file, "r+b") as handle:
        handle.write(os.urandom(file.stat().st_size))
    assert torch.equal(loaded.model.proj_out.weight, before)


def test_measuring_goes_end_to_end(pair: tuple[Path, Path], tmp_path: Path) -> None:
    directory, file = pair
    soundfile.write(tmp_path / "clip.wav", sound(), 16_000)
    ours = analyze(str(file), [tmp_path / "clip.wav"], k=2, dtype="float64")
    theirs = analyze(directory, [tmp_path / "clip.wav"], k=2, dtype="float64")
    assert set(ours.model) == {"tiny"} and len(ours) == len(theirs) > 0
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    loaded = load_checkpoint(file)
    record = {"ref": str(file), "sha256": loaded.sha256, "commit": "", "notes": list(loaded.notes)}
    said = dict(ours.attrs["checkpoint"])
    config = loaded.model.config
    depth = config.encoder_layers + config.decoder_layers
    assert said.pop("forward_error") <= rounding_bound(torch.float64, depth, config.d_model)
    assert said == record
    # Singular values of the same operators, converged to residuals of 1e-3 at the least: their squares' errors.
    np.testing.assert_allclose(ours.sigma.to_numpy(), theirs.sigma.to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(np.stack(ours.context_s.tolist()), np.stack(theirs.context_s.tolist()), rtol=1e-6)


def test_code_in_a_pickle_is_never_run(file: Path, content: dict[str, Any], tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    for layout in (content | {"extra": Payload()}, Payload(), content | {"dims": Payload()}):
        for options in ({}, {"_use_new_zipfile_serialization": False}):
            torch.save(layout, file, **options)
            error = error_of(file)
            assert error.code == "holds_code" and "mkdir" in error.message and "none was run" in error.message
    file.write_bytes(pickle.dumps(Payload()))
    assert error_of(file).code == "bad_weights"
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Payload()))  # the payload does run where it is let
    assert (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_archive_is_refused(file: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))
    assert error_of(file).code == "bad_weights"


def test_cut_or_foreign_file_is_refused(file: Path, content: dict[str, Any]) -> None:
    whole = file.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"not a pickle", whole[100:]):
        file.write_bytes(data)
        assert error_of(file).code == "bad_weights"
    for other in ({"state_dict": {}}, [1, 2], {}, content | {"model_state_dict": {}}, {"dims": content["dims"]}):
        torch.save(other, file)
        assert error_of(file).code == "bad_weights"


@pytest.mark.parametrize("name", ["decoder.blocks.1.mlp.2.bias", "encoder.positional_embedding", "decoder.ln.weight"])
def test_missing_tensor_is_fatal_and_named(file: Path, content: dict[str, Any], name: str) -> None:
    del content["model_state_dict"][name]
    torch.save(content, file)
    error = error_of(file)
    assert error.code == "missing_tensors" and name in error.message


def test_unexpected_mismatched_and_odd_tensors_are_fatal_and_named(file: Path, content: dict[str, Any]) -> None:
    state = content["model_state_dict"]
    for name, tensor, code in (
        ("decoder.blocks.0.extra.weight", torch.zeros(3), "unexpected_tensors"),
        ("decoder.blocks.0.mlp.0.bias", torch.zeros(3), "mismatched_tensors"),
        ("decoder.blocks.0.mlp.0.bias", torch.zeros(64, dtype=torch.int8), "bad_weights"),
        ("decoder.blocks.0.mlp.0.bias", "text", "bad_weights"),
        ("decoder.blocks.0.attn.query.lora_A.default.weight", torch.zeros(2, 16), "adapter"),
    ):
        torch.save(content | {"model_state_dict": state | {name: tensor}}, file)
        error = error_of(file)
        assert error.code == code and name in error.message


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_one_value_that_is_not_finite_is_fatal_and_named(file: Path, content: dict[str, Any], bad: float) -> None:
    content["model_state_dict"]["encoder.blocks.1.attn.key.weight"][3, 5] = bad
    torch.save(content, file)
    error = error_of(file)
    assert error.code == "non_finite" and "encoder.blocks.1.attn.key.weight" in error.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_mels", 128),
        ("n_audio_ctx", 1500),
        ("n_audio_layer", 1),
        ("n_audio_layer", 3),
        ("n_vocab", 51_865),
        ("n_text_ctx", 448),
        ("n_text_layer", 4),
    ],
)
def test_dimensions_are_held_against_the_tensors(file: Path, content: dict[str, Any], name: str, value: int) -> None:
    stored = content["dims"][name]
    torch.save(content | {"dims": content["dims"] | {name: value}}, file)
    error = error_of(file)
    assert error.code == "mismatched_tensors" and f"{name} {value} and {stored}" in error.message


@pytest.mark.parametrize(
    "change",
    [{"n_mels": 0}, {"n_vocab": 1.5}, {"n_text_head": True}, {"n_text_head": 3}, {"n_text_state": 32}, {"more": 1}],
)
def test_dimensions_must_make_a_whisper(file: Path, content: dict[str, Any], change: dict[str, Any]) -> None:
    torch.save(content | {"dims": content["dims"] | change}, file)
    error = error_of(file)
    assert error.code == "bad_config" and next(iter(change)) in error.message


def test_a_file_without_a_tokenizer_says_what_to_pass(good: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(good, tmp_path / "alone.pt"))
    error = error_of(alone)
    assert error.code == "missing_file" and "tokenizer.json" in error.message and "companion=" in error.message
    assert "beside it" in error.message
    (tmp_path / "empty").mkdir()
    assert f"in {tmp_path / 'empty'}" in error_of(alone, companion=tmp_path / "empty").message
    assert load_checkpoint(alone, companion=good.parent).notes[:2] == ("openai_format", "tokenizer:tokenizer.json")


def test_an_unknown_vocabulary_needs_its_generation_config(file: Path) -> None:
    (file.parent / "generation_config.json").unlink()
    error = error_of(file)
    assert error.code == "missing_file" and "generation_config.json" in error.message and "51865" in error.message


def test_what_lies_beside_it_must_belong_to_it(file: Path) -> None:
    def refused(name: str, **changes: Any) -> str:
        before = (file.parent / name).read_text(encoding="utf-8")
        rewrite_json(file.parent / name, **changes)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(file)
        (file.parent / name).write_text(before, encoding="utf-8")
        return caught.value.code

    assert refused("preprocessor_config.json", feature_size=128) == "wrong_mels"
    assert refused("preprocessor_config.json", chunk_length=30) == "wrong_window"
    assert refused("generation_config.json", decoder_start_token_id=7) == "bad_tokenizer"
    assert load_checkpoint(file).window_s == 2.0
    (file.parent / "preprocessor_config.json").unlink()  # then it follows from the dimensions
    assert load_checkpoint(file).window_s == 2.0
    (file.parent / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: not readable as JSON"):
        load_checkpoint(file)


def test_arguments_that_belong_to_other_references(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="revision must be of a hub id"):
        load_checkpoint(file, revision="main")
    with pytest.raises(ValueError, match=r"companion belongs to a \.pt file"):
        load_checkpoint(file.parent, companion=tmp_path)
    content = openai_content(load_checkpoint(file).model)
    torch.save(content, tmp_path / "other.bin")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "other.bin")
    assert caught.value.code == "not_a_directory"


def test_null_models_of_it_are_those_of_the_directory(pair: tuple[Path, Path]) -> None:
    """They are drawn from the config, which a `.pt` does not have and which is therefore made here."""
    drawn = [random_weights(load_checkpoint(each), seed=3) for each in pair]
    states = [each.model.state_dict() for each in drawn]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert drawn[1].notes[:1] == ("openai_format",) and drawn[1].notes[-1] == "null:random_weights:3"
