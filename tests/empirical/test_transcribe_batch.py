"""A batch says of each clip what the model says of it alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.organism import list_organisms
from empirical.recognition.forward import rounding_bound
from empirical.recognition.transcribe import Transcript, encode, encoder_states, transcribe, transcribe_batch
from empirical.speech.audio import load_audio
from empirical.speech.clips import bundled_clips
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)


def sound(seconds: float, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(16_000 * seconds))).astype(np.float32)


def alone(checkpoint: Checkpoint, clips: list[np.ndarray], **options) -> list[Transcript]:
    return [transcribe(checkpoint, clip, **options) for clip in clips]


def assert_same(checkpoint: Checkpoint, batch: list[Transcript], single: list[Transcript], largest: float) -> None:
    """Tokens are equal, and log-probabilities within the rounding of logits of that size.

    A log-probability moves by at most twice what a logit does. `generate` takes it in float32 whatever the model's
    dtype: 2^-24 of a logit, and the sum over the vocabulary as much again.
    """
    config = checkpoint.model.config
    depth = config.encoder_layers + config.decoder_layers
    bound = 2 * largest * (rounding_bound(checkpoint.model.dtype, depth, config.d_model) + 4 * 2**-24)
    for one, two in zip(batch, single, strict=True):
        assert one.tokens == two.tokens and one.text == two.text and one.ended == two.ended
        assert one.prompt_tokens == two.prompt_tokens and one.duration_s == two.duration_s
        assert (one.truncated, one.compression_ratio) == (two.truncated, two.compression_ratio)
        np.testing.assert_allclose(one.log_probs, two.log_probs, rtol=0, atol=bound)
        assert one.avg_logprob == pytest.approx(two.avg_logprob, abs=bound)
        # exp of a number that moves by `bound`
        assert one.no_speech_prob == pytest.approx(two.no_speech_prob, rel=math.expm1(bound), nan_ok=True)


def largest_logit(checkpoint: Checkpoint, clip: np.ndarray, said: Transcript) -> float:
    with torch.no_grad():
        features, _ = encode(checkpoint, clip)
        ids = torch.tensor([said.tokens])
        return float(checkpoint.model(input_features=features, decoder_input_ids=ids).logits.abs().max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("language", ["en", None])
def test_random_weights_with_a_fixed_and_a_detected_language(tmp_path: Path, dtype: str, language: str | None):
    # Of the first weights whose language is not the same for all of these noises.
    checkpoint = load_checkpoint(write_tiny_whisper(tmp_path / "w", language=language, seed=3), dtype=dtype)
    clips = [sound(0.2 + 0.25 * number, number) for number in range(9)]  # the last is longer than the window of 2 s
    single = alone(checkpoint, clips, max_new_tokens=12)
    batch = transcribe_batch(checkpoint, clips, max_new_tokens=12)
    assert_same(checkpoint, batch, single, largest_logit(checkpoint, clips[0], single[0]))
    assert [each.truncated for each in batch] == [False] * 8 + [True]
    assert len({each.tokens[1] for each in batch}) == (1 if language else 2)  # a language of its own for each row
    assert len({each.tokens for each in batch}) > 4  # the rows are not one row


@pytest.mark.parametrize("number", range(len(list_organisms())))
def test_organisms_with_rows_that_end_at_different_lengths(number: int):
    checkpoint = load_checkpoint(list_organisms()[number].path)
    clips = [load_audio(clip.path) for clip in bundled_clips()[:6]]
    clips += [sound(1.0, 0), np.zeros(16_000, np.float32), clips[0][:2_000]]  # noise, silence, less than a word
    single = alone(checkpoint, clips)
    batch = transcribe_batch(checkpoint, clips)
    assert_same(checkpoint, batch, single, largest_logit(checkpoint, clips[0], single[0]))
    assert len({len(each.tokens) for each in batch}) > 2 and all(each.ended for each in batch)
    assert transcribe_batch(checkpoint, clips[::-1])[-1].tokens == batch[0].tokens


def test_no_clip_states_at_hand_and_states_of_others(tmp_path: Path):
    checkpoint = load_checkpoint(write_tiny_whisper(tmp_path / "w"))
    assert transcribe_batch(checkpoint, []) == []
    clips = [sound(1.0, 1), sound(0.5, 2)]
    states = encoder_states(checkpoint, torch.cat([encode(checkpoint, clip)[0] for clip in clips]))
    assert transcribe_batch(checkpoint, clips, states=states) == transcribe_batch(checkpoint, clips)
    with pytest.raises(ValueError, match="states must have a row for each of 2 clips; got 1"):
        transcribe_batch(checkpoint, clips, states=states[:1])
    with pytest.raises(ValueError, match="max_new_tokens must lie in"):
        transcribe_batch(checkpoint, [], max_new_tokens=0)


def test_a_row_that_is_not_finite_leaves_the_others_alone(tmp_path: Path):
    checkpoint = load_checkpoint(write_tiny_whisper(tmp_path / "w"))
    clips = [sound(1.0, seed) for seed in range(3)]
    states = torch.cat([encoder_states(checkpoint, encode(checkpoint, clip)[0]) for clip in clips])
    fine = transcribe_batch(checkpoint, clips, states=states, max_new_tokens=8)
    states[1, 7, 3] = math.nan
    batch = transcribe_batch(checkpoint, clips, states=states, max_new_tokens=8)
    assert math.isnan(batch[1].avg_logprob)
    assert [batch[0].tokens, batch[2].tokens] == [fine[0].tokens, fine[2].tokens]
    assert batch[0].log_probs == fine[0].log_probs
