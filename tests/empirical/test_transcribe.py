"""Transcription is `generate`'s own greedy path, and its numbers are Whisper's."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint, quiet_transformers
from empirical.recognition.transcribe import (
    encode,
    encoder_states,
    normaliser_identity,
    transcribe,
    transcribe_batch,
    word_errors,
)
from tests.helpers.tiny_whisper import rewrite_json, write_random_whisper_tiny, write_tiny_whisper

torch.set_num_threads(1)


def sound(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(16_000 * seconds))).astype(np.float32)


@pytest.fixture(scope="module", params=["english fixed", "english only", "language detected"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    options = {"english fixed": {}, "english only": {"multilingual": False}, "language detected": {"language": None}}
    path = tmp_path_factory.mktemp("transcribe")
    return load_checkpoint(write_tiny_whisper(path / "w", **options[request.param]), dtype="float64")


@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_those_of_generate(checkpoint: Checkpoint, seed: int) -> None:
    x = sound(seed=seed)
    ours = transcribe(checkpoint, x, max_new_tokens=12)
    features = checkpoint.feature_extractor(x, sampling_rate=16_000, return_tensors="pt").input_features.double()
    with quiet_transformers(), torch.no_grad():
        theirs = checkpoint.model.generate(features, num_beams=1, do_sample=False, max_new_tokens=12)[0].tolist()
    assert list(ours.tokens[ours.prompt_tokens :]) == theirs
    names = checkpoint.tokenizer.convert_ids_to_tokens(list(ours.tokens[: ours.prompt_tokens]))
    config = checkpoint.model.generation_config
    if not config.is_multilingual:
        assert names == ["<|startoftranscript|>", "<|notimestamps|>"]
    else:
        assert names[0] == "<|startoftranscript|>" and names[2:] == ["<|transcribe|>", "<|notimestamps|>"]
        assert names[1] in ({"<|en|>"} if getattr(config, "language", None) else {"<|en|>", "<|de|>"})


def test_confidence_is_recomputed_from_a_full_forward_pass(checkpoint: Checkpoint) -> None:
    x = sound(seed=5)
    ours = transcribe(checkpoint, x, max_new_tokens=12)
    states = encoder_states(checkpoint, encode(checkpoint, x)[0])
    model, config = checkpoint.model, checkpoint.model.generation_config
    with torch.no_grad():
        logits = model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([ours.tokens])).logits[0].float()
    no_speech = checkpoint.tokenizer.convert_tokens_to_ids("<|nospeech|>")
    # generate rounds the logits of the float64 model to float32, and so do we: 12 sums of 2^-24-sized errors.
    assert ours.no_speech_prob == pytest.approx(float(logits[0].softmax(-1)[no_speech]), rel=1e-5)
    logits[:, config.suppress_tokens] = -math.inf
    logits[ours.prompt_tokens - 1, config.begin_suppress_tokens] = -math.inf
    rows = logits[ours.prompt_tokens - 1 :].log_softmax(-1)
    generated = ours.tokens[ours.prompt_tokens :]
    expected = [float(rows[step, token]) for step, token in enumerate(generated)]
    if ours.ended:
        expected.append(float(rows[len(generated), config.eos_token_id]))
    np.testing.assert_allclose(ours.log_probs, expected, rtol=1e-5, atol=1e-6)
    assert ours.avg_logprob == pytest.approx(np.mean(expected), rel=1e-5)


def test_end_token_stops_and_is_left_out(checkpoint: Checkpoint) -> None:
    x = sound()
    free = transcribe(checkpoint, x, max_new_tokens=10)
    assert not free.ended and free.max_new_tokens == len(free.log_probs) == 10
    third = free.tokens[free.prompt_tokens + 2]
    first = free.tokens[free.prompt_tokens :].index(third)
    end = checkpoint.model.generation_config.eos_token_id
    try:
        checkpoint.model.generation_config.eos_token_id = third
        stopped = transcribe(checkpoint, x, max_new_tokens=10)
    finally:
        checkpoint.model.generation_config.eos_token_id = end
    assert stopped.ended and stopped.tokens == free.tokens[: free.prompt_tokens + first]
    assert len(stopped.log_probs) == first + 1
    assert stopped.log_probs == pytest.approx(free.log_probs[: first + 1])


def test_limit_of_tokens_by_default_and_by_argument(checkpoint: Checkpoint) -> None:
    out = transcribe(checkpoint, sound())
    assert out.max_new_tokens == 44  # 48 positions less the prompt's four
    for bad in (0, 45):
        with pytest.raises(ValueError, match=rf"max_new_tokens must lie in \[1, 44\]; got {bad}"):
            transcribe(checkpoint, sound(), max_new_tokens=bad)


def test_window_is_padded_or_cut_and_the_cut_recorded(checkpoint: Checkpoint) -> None:
    x = sound(2.5)
    whole, cut = encode(checkpoint, x)
    window, not_cut = encode(checkpoint, x[: checkpoint.window_samples])
    short, _ = encode(checkpoint, x[:1000])
    assert cut and not not_cut
    assert whole.shape == window.shape == short.shape == (1, 80, 200) and whole.dtype == torch.float64
    assert torch.equal(whole, window) and not torch.equal(short, window)
    out = transcribe(checkpoint, x, max_new_tokens=2)
    assert out.truncated and out.duration_s == 2.5


def test_what_the_feature_extractor_would_take_without_a_word_is_refused(checkpoint: Checkpoint) -> None:
    for bad in (np.zeros(16_000, np.int16), np.zeros((16_000, 2), np.float32), np.zeros(0, np.float32)):
        with pytest.raises(ValueError, match=r"samples must be \(n,\) floats"):
            encode(checkpoint, bad)
    with pytest.raises(ValueError, match="samples must be finite"):
        encode(checkpoint, np.array([0.0, np.nan]))


def test_checkpoint_s_own_sampling_settings_do_not_matter(tmp_path: Path) -> None:
    path = write_tiny_whisper(tmp_path / "w")
    greedy = transcribe(load_checkpoint(path), sound(), max_new_tokens=8)
    rewrite_json(path / "generation_config.json", num_beams=3, do_sample=True, temperature=5.0, return_timestamps=True)
    assert transcribe(load_checkpoint(path), sound(), max_new_tokens=8).tokens == greedy.tokens


def test_checkpoint_without_generation_config_or_no_speech_token(tmp_path: Path) -> None:
    path = write_tiny_whisper(tmp_path / "w")
    (path / "generation_config.json").unlink()
    text = (path / "tokenizer.json").read_text().replace("<|nospeech|>", "<|other|>")
    (path / "tokenizer.json").write_text(text)
    config = path / "tokenizer_config.json"
    config.write_text(config.read_text().replace("<|nospeech|>", "<|other|>"))
    checkpoint = load_checkpoint(path)
    out = transcribe(checkpoint, sound(), max_new_tokens=3)
    assert checkpoint.notes == ("no_generation_config",)
    assert out.prompt_tokens == 1 and math.isnan(out.no_speech_prob)


def test_compression_ratio_is_whisper_s(checkpoint: Checkpoint) -> None:
    out = transcribe(checkpoint, sound(), max_new_tokens=12)
    assert out.compression_ratio == len(out.text.encode()) / len(zlib.compress(out.text.encode()))


def test_true_dimensions_of_whisper_tiny_go_through(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_random_whisper_tiny(tmp_path / "tiny"))
    config = checkpoint.model.config
    assert (config.vocab_size, config.d_model, config.max_source_positions) == (51_865, 384, 1500)
    out = transcribe(checkpoint, sound(3.0), max_new_tokens=3)
    assert out.tokens[:4] == (50_258, 50_259, 50_359, 50_363) and len(out.log_probs) == 3
    assert 0 < out.no_speech_prob < 1 and math.isfinite(out.avg_logprob)
    first, second = transcribe_batch(checkpoint, [sound(3.0), sound(1.0, seed=1)], max_new_tokens=3)
    assert first.tokens == out.tokens and second.tokens[:4] == out.tokens[:4]
    # Of 51,865 tokens each is about as likely: a log-probability near ln of that, and float32 logits of that size.
    assert first.log_probs == pytest.approx(out.log_probs, abs=1e-4)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer", "counts"),
    [
        ("A HOUSE AND A HORSE", " a house, and a horse.", 0.0, (0, 0, 0)),
        ("a house and a horse", "the house and a horse sleeps", 0.4, (1, 0, 1)),
        ("one apple", "", 1.0, (0, 2, 0)),
        ("hello", "hello hello hello", 2.0, (0, 0, 2)),
        ("it's twenty one", "it is 21", 0.0, (0, 0, 0)),
    ],
)
def test_word_errors_by_hand(reference: str, hypothesis: str, wer: float, counts: tuple[int, int, int]) -> None:
    errors = word_errors(reference, hypothesis)
    assert errors.wer == pytest.approx(wer) and errors.reason == "ok"
    assert (errors.substitutions, errors.deletions, errors.insertions) == counts
    words = errors.reference_words
    assert errors.wer == (errors.substitutions + errors.deletions + errors.insertions) / words


def test_no_reference_and_a_reference_without_words() -> None:
    assert word_errors(None, "a").reason == "no_reference" and math.isnan(word_errors(None, "a").wer)
    for reference in ("", "[noise]", "uh, um"):
        errors = word_errors(reference, "two words")
        assert math.isnan(errors.wer) and errors.reason == "empty_reference" and errors.insertions == 2


def test_normaliser_is_identified() -> None:
    identity = normaliser_identity()
    assert identity["name"].endswith("EnglishTextNormalizer")
    assert len(identity["code_sha256"]) == len(identity["spelling_map_sha256"]) == 64
    assert word_errors("colour", "color").wer == 1.0  # the map of spellings is empty, as the identity says
