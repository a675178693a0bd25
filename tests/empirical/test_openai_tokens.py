"""Tokenizer and generation defaults of a `.pt` that has only OpenAI's byte pairs beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI

from empirical.checkpoints import openai_tokens
from empirical.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from empirical.recognition.transcribe import transcribe
from tests.helpers.openai_whisper import write_openai
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)

PIECES = {"gpt2.tiktoken": 50_256, "multilingual.tiktoken": 50_257}
SIZES = {
    51_864: ("gpt2.tiktoken", 80, 50_256, 99),
    51_865: ("multilingual.tiktoken", 80, 50_257, 99),
    51_866: ("multilingual.tiktoken", 128, 50_257, 100),
}
"""Vocabulary: byte pairs, mels, the end token, languages; as in OpenAI's tokenizer.py and model cards."""


def byte_order() -> list[int]:
    """Bytes in the order of GPT-2's ranks: those that print, then the others; a space is the 220th."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [byte for byte in range(256) if byte not in printable]


def write_ranks(file: Path, count: int) -> Path:
    """Bytes, pairs of bytes, and last, as OpenAI's multilingual file has it, a piece of no bytes."""
    order = byte_order()
    pieces = [bytes([byte]) for byte in order] + [bytes([left, right]) for left in order for right in order]
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces[:count])]
    if file.name == "multilingual.tiktoken":
        lines[-1] = f"= {count - 1}"
    file.write_text("\n".join(lines) + "\n", encoding="ascii")
    return file


def write_model(path: Path, vocabulary: int, mels: int, seed: int = 0) -> Path:
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=mels,
        d_model=8,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=32,
    )
    model = WhisperForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.embed_positions" not in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator) + ("norm.weight" in name))
    return write_openai(model, path)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ranks")
    for name, count in PIECES.items():
        write_ranks(directory / name, count)
    return directory


@pytest.fixture(scope="module", params=list(SIZES))
def loaded(request: pytest.FixtureRequest, directory: Path) -> Checkpoint:
    return load_checkpoint(write_model(directory / f"{request.param}.pt", request.param, SIZES[request.param][1]))


def sound(seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(24_000)).astype(np.float32)


def test_special_tokens_stand_where_openai_has_them(loaded: Checkpoint) -> None:
    vocabulary = loaded.model.config.vocab_size
    name, _, end, languages = SIZES[vocabulary]
    ids = loaded.tokenizer.get_vocab()
    assert len(ids) == len(loaded.tokenizer) == vocabulary
    assert (ids["<|endoftext|>"], ids["<|startoftranscript|>"], ids["<|en|>"]) == (end, end + 1, end + 2)
    last = end + 2 + languages
    order = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps", "0.00")
    assert [ids[f"<|{token}|>"] for token in order] == list(range(last, last + 7))
    assert ids["<|30.00|>"] == vocabulary - 1
    assert ("<|yue|>" in ids) == (vocabulary == 51_866)
    assert loaded.notes == ("openai_format", f"tokenizer:{name}", "head_size:4", "generation_defaults")
    assert loaded.window_s == 2.0 and loaded.feature_extractor.feature_size == loaded.model.config.num_mel_bins


def test_text_is_decoded_from_bytes_and_special_tokens_are_left_out(loaded: Checkpoint) -> None:
    tokenizer, start = loaded.tokenizer, loaded.model.config.decoder_start_token_id
    for text in (" a house", "Größe 你好 ♪", "it's  20\n"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert max(ids) < 50_256 and tokenizer.decode(ids) == text
        assert tokenizer.decode([start, *ids, start - 1], skip_special_tokens=True) == text
    assert len(tokenizer.encode(" ab", add_special_tokens=False)) < 3  # pairs are joined


def test_prompt_is_generate_s_own_and_openai_s(loaded: Checkpoint) -> None:
    """[start, language, transcribe, no timestamps], and of an English-only model [start, no timestamps]."""
    seen: list[list[int]] = []

    def record(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        seen.append(options["input_ids"][0].tolist())

    hook = loaded.model.model.decoder.register_forward_pre_hook(record, with_kwargs=True)
    features = loaded.feature_extractor(sound(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        loaded.model.generate(features, max_new_tokens=1)
    hook.remove()
    ours = transcribe(loaded, sound(), max_new_tokens=1)
    prompt = list(ours.tokens[: ours.prompt_tokens])
    assert prompt == seen[-1]
    ids, start = loaded.tokenizer.get_vocab(), loaded.model.config.decoder_start_token_id
    if loaded.model.config.vocab_size == 51_864:
        assert prompt == [start, ids["<|notimestamps|>"]]
    else:
        languages = SIZES[loaded.model.config.vocab_size][3]
        assert seen[0] == [start]  # the language is detected first
        assert start < prompt[1] <= start + languages
        assert prompt[0] == start and prompt[2:] == [ids["<|transcribe|>"], ids["<|notimestamps|>"]]


def test_suppressed_are_transformers_non_speech_tokens_and_every_token_of_a_prompt(loaded: Checkpoint) -> None:
    config, ids = loaded.model.generation_config, loaded.tokenizer.get_vocab()
    listed = NON_SPEECH_TOKENS if loaded.model.config.vocab_size == 51_864 else NON_SPEECH_TOKENS_MULTI
    text = {token for token in config.suppress_tokens if token < ids["<|endoftext|>"]}
    # The last four of transformers' lists are special tokens in the places of the 99-language vocabularies.
    assert text == set(listed[:-4])
    names = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")
    assert set(config.suppress_tokens) - text == {ids[f"<|{name}|>"] for name in names}
    assert config.begin_suppress_tokens == [ids["Ġ"], ids["<|endoftext|>"]]


def test_byte_pairs_of_the_other_kind_are_not_used(directory: Path, tmp_path: Path) -> None:
    file = write_model(tmp_path / "english.pt", 51_864, 80)
    (tmp_path / "multilingual.tiktoken").write_bytes((directory / "multilingual.tiktoken").read_bytes())
    with pytest.raises(CheckpointError, match=r"gpt2\.tiktoken must be passed") as caught:
        load_checkpoint(file)
    assert caught.value.code == "missing_file"
    write_ranks(tmp_path / "gpt2.tiktoken", 50_257)
    with pytest.raises(CheckpointError, match="51865 tokens; this one has 51864") as caught:
        load_checkpoint(file)
    assert caught.value.code == "bad_tokenizer"


def test_a_tokenizer_with_special_tokens_elsewhere_is_refused(
    directory: Path, loaded: Checkpoint, tmp_path: Path
) -> None:
    vocabulary = loaded.model.config.vocab_size
    other = {51_864: 51_865, 51_865: 51_864, 51_866: 51_865}[vocabulary]
    loaded.tokenizer.save_pretrained(tmp_path)
    file = write_model(tmp_path / "other.pt", other, 80)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    assert caught.value.code == "bad_tokenizer"


def test_another_model_s_small_tokenizer_that_lies_beside_the_file_is_refused(tmp_path: Path) -> None:
    """It would fit into the vocabulary, and its generation config agrees with it."""
    write_tiny_whisper(tmp_path)
    file = write_model(tmp_path / "other.pt", 51_865, 80)
    with pytest.raises(
        CheckpointError, match="must be token 50257 of this model; its tokenizer has it at 279"
    ) as caught:
        load_checkpoint(file)
    assert caught.value.code == "bad_tokenizer"


@pytest.mark.parametrize("text", ["no base64! 0\n", "YQ== 0 1\n", "YQ==\n", "YQ== 1\n", "YQ== 0\n", "ä 0\n", ""])
def test_unreadable_byte_pairs_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "gpt2.tiktoken").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        openai_tokens._read_ranks(tmp_path / "gpt2.tiktoken")
    assert caught.value.code == "bad_tokenizer" and "gpt2.tiktoken" in caught.value.message


def test_merges_are_those_that_byte_pair_encoding_does_last() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"bc": 257, b"abc": 258, b"abcab": 259}
    assert openai_tokens._last_merge(b"abc", ranks) == (b"ab", b"c")
    assert openai_tokens._last_merge(b"abcab", ranks) == (b"abc", b"ab")
    with pytest.raises(CheckpointError, match="no two pieces"):
        openai_tokens._last_merge(b"zzz", ranks | {b"zzz": 260})


def test_byte_pairs_are_found_in_openai_s_package_without_importing_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "whisper"
    (package / "assets").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (package / "assets" / "gpt2.tiktoken").write_bytes((directory / "gpt2.tiktoken").read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    loaded = load_checkpoint(write_model(tmp_path / "english.pt", 51_864, 80))
    assert "tokenizer:gpt2.tiktoken" in loaded.notes
