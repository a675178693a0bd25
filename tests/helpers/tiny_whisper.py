"""Whispers with random weights as complete checkpoint directories, made offline: config, weights, generation config,
tokenizer, feature extractor."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

LANGUAGES_OF_WHISPER = 99
TIMESTAMPS_OF_WHISPER = 1501
TEXT_TOKENS_OF_WHISPER = 50_258


def write_tiny_whisper(
    directory: Path,
    *,
    width: int = 16,
    encoder_layers: int = 2,
    decoder_layers: int = 3,
    heads: int = 2,
    mels: int = 80,
    window_s: int = 2,
    positions: int = 48,
    multilingual: bool = True,
    language: str | None = "en",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A Whisper of small dimensions with some 290 tokens, whose weights are large enough to say many different things.

    Args:
        directory: made if need be.
        width: d.
        mels: mel bins, of the model and of its feature extractor.
        window_s: audio window, seconds; the encoder has 50 positions a second.
        positions: longest sequence of the decoder.
        multilingual: with language and task tokens, or an English-only checkpoint.
        language: what the generation config fixes; None leaves it to detection.
        seed: of the weights.
        dtype: of the stored weights.

    Returns:
        The directory.
    """
    return _write(
        directory,
        text_tokens=280,
        languages=("en", "de") if multilingual else ("en",),
        timestamps=0,
        multilingual=multilingual,
        language=language if multilingual else None,
        window_s=window_s,
        mels=mels,
        seed=seed,
        dtype=dtype,
        spread=0.3,
        max_target_positions=positions,
        d_model=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )


def write_random_whisper_tiny(directory: Path, *, seed: int = 0) -> Path:
    """A Whisper of the true dimensions of openai/whisper-tiny with random weights (75 MB, stored in float16).

    d 384, 4 + 4 layers, 6 heads, 80 mels, 1,500 encoder and 448 decoder positions, 51,865 tokens of which 50,258 are
    text and the rest stand where Whisper has them (start 50258, English 50259, transcribe 50359, no speech 50362, no
    timestamps 50363).
    """
    return _write(
        directory,
        text_tokens=TEXT_TOKENS_OF_WHISPER,
        languages=("en", *(f"x{number}" for number in range(1, LANGUAGES_OF_WHISPER))),
        timestamps=TIMESTAMPS_OF_WHISPER,
        multilingual=True,
        language="en",
        window_s=30,
        mels=80,
        seed=seed,
        dtype=torch.float16,
        spread=0.05,
        max_target_positions=448,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
    )


def tokenizer_of(text_tokens: int, special: list[str]) -> WhisperTokenizer:
    """A byte-level BPE of `text_tokens` pieces, the end token last: the 256 bytes, then pairs of bytes in order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(left, right) for left in alphabet for right in alphabet][: text_tokens - 1 - len(alphabet)]
    pieces = [*alphabet, *(left + right for left, right in pairs), "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return WhisperTokenizer(vocab=vocabulary, merges=pairs, additional_special_tokens=special)


def _write(
    directory: Path,
    *,
    text_tokens: int,
    languages: tuple[str, ...],
    timestamps: int,
    multilingual: bool,
    language: str | None,
    window_s: int,
    mels: int,
    seed: int,
    dtype: torch.dtype,
    spread: float,
    **dimensions: int,
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    special = ["<|startoftranscript|>", *(f"<|{code}|>" for code in languages), "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    if not multilingual:
        special = [token for token in special if token not in ("<|en|>", "<|translate|>", "<|transcribe|>")]
    tokenizer = tokenizer_of(text_tokens, special)
    end = text_tokens - 1
    ids = {token: text_tokens + index for index, token in enumerate(special)}
    config = WhisperConfig(
        vocab_size=text_tokens + len(special) + timestamps,
        num_mel_bins=mels,
        max_source_positions=50 * window_s,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        **dimensions,
    )
    _random_model(config, seed, spread).to(dtype).save_pretrained(directory)
    generation = GenerationConfig(
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
        max_length=dimensions["max_target_positions"],
        no_timestamps_token_id=ids["<|notimestamps|>"],
        suppress_tokens=[1, 2, ids["<|startoftranscript|>"]],
        begin_suppress_tokens=[5, end],
        is_multilingual=multilingual,
    )
    if multilingual:
        generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in languages}
        generation.task_to_id = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
        generation.task = "transcribe"
        if language is not None:
            generation.language = language
    generation.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=mels, chunk_length=window_s).save_pretrained(directory)
    return directory


def _random_model(config: WhisperConfig, seed: int, spread: float) -> WhisperForConditionalGeneration:
    model = WhisperForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.embed_positions" in name:
                continue  # fixed sinusoids
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
            if "layer_norm.weight" in name:
                parameter.add_(1.0)
            if "decoder.embed_positions" in name:
                parameter.mul_(4.0)  # else the tied embedding makes it repeat its first token
    return model


def rewrite_json(path: Path, **changes: object) -> None:
    """Change some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
