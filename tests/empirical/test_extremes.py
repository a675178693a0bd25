"""The least and the most that can be measured: no words, all positions of the decoder, one frame, no memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bridge.running.holding import TaskMemoryError, memory_named
from empirical.analysis import analyze
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.hearing import Prepared, prepare
from empirical.jacobians.measurement import State
from empirical.jacobians.operators import OutOfMemoryError
from empirical.recognition.transcribe import PROMPT_ROOM
from empirical.speech.clips import Clip
from empirical.speech.samples import Sample
from empirical.task import chain_of, measure_state, measure_task
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    return Clip("a", path, None, None)


def along(checkpoint: Checkpoint, clip: Clip, tokens: int) -> Prepared:
    """The clip, to be measured along its first tokens, or along them and repetitions of the last one."""
    prepared = prepare(checkpoint, Sample(clip, "clean", 0))
    own = prepared.tokens
    return dataclasses.replace(prepared, tokens=(own + own[-1:] * tokens)[:tokens])


@pytest.mark.parametrize("state", ["position", "sequence"])
@pytest.mark.parametrize("which", ["the start token alone", "a prompt without a word", "every position"])
def test_no_words_and_all_positions_are_measured(checkpoint: Checkpoint, clip: Clip, state: State, which: str):
    most = checkpoint.model.config.max_target_positions
    count = {"the start token alone": 1, "a prompt without a word": PROMPT_ROOM, "every position": most}[which]
    prepared = along(checkpoint, clip, count)
    measured = measure_state(chain_of(checkpoint, prepared, state), prepared, state, k=2)
    rows = measured.rows()
    assert {row["n_tokens"] for row in rows} == {count}
    assert {row["positions"] for row in rows} == {1 if state == "position" else count}
    assert all(all(row["converged"]) and row["propagator_converged"] for row in rows)
    # (T2) is exact of all positions, and of one where it is the only one: float32 against autograd.
    if state == "sequence" or count == 1:
        assert max(row["chain_error"] for row in rows) < 1e-4


def test_one_token_too_many_is_refused(checkpoint: Checkpoint, clip: Clip):
    most = checkpoint.model.config.max_target_positions
    with pytest.raises(ValueError, match=f"tokens must number 1 to {most}; got {most + 1}"):
        chain_of(checkpoint, along(checkpoint, clip, most + 1), "position")


def test_the_frame_is_in_the_middle_of_the_clips_own_audio(checkpoint: Checkpoint, clip: Clip, tmp_path: Path):
    frames = checkpoint.model.config.max_source_positions  # 2 s of window; the clip has 1 s
    assert prepare(checkpoint, Sample(clip, "clean", 0)).frame == frames // 4
    short, long = tmp_path / "short.wav", tmp_path / "long.wav"
    noise = 0.1 * np.random.default_rng(1).standard_normal(80_000)
    soundfile.write(short, noise[:400], 16_000)  # two frames begin in it
    soundfile.write(long, noise, 16_000)  # longer than the window
    assert prepare(checkpoint, Sample(Clip("s", short, None, None), "clean", 0)).frame == 1
    assert prepare(checkpoint, Sample(Clip("l", long, None, None), "clean", 0)).frame == frames // 2


def test_both_states_of_the_encoder_are_measured(checkpoint: Checkpoint, clip: Clip):
    table = analyze(checkpoint, [clip], states=("frames", "frame"), k=2, dtype="float32")
    assert list(dict.fromkeys(table["state"])) == ["frames", "frame"]  # in the order asked for
    frames, frame = (table[table["state"] == state] for state in ("frames", "frame"))
    depth = checkpoint.model.config.encoder_layers
    assert len(frames) == len(frame) == depth
    assert set(frames["positions"]) == {checkpoint.model.config.max_source_positions} and set(frame["positions"]) == {1}
    # The log-mel comes in once, so what is injected beyond layer 1 is exactly nothing.
    assert (frames["injection_norm"].to_numpy()[1:] == 0.0).all() and frames["injection_norm"].iloc[0] > 0.0
    assert frames["chain_error"].max() < 1e-4 < frame["chain_error"].iloc[-1]
    assert all(all(converged) for converged in table["converged"])


def test_no_memory_for_one_vector_is_one_error_with_a_code(checkpoint: Checkpoint, clip: Clip):
    with pytest.raises(OutOfMemoryError, match="no memory for one direction"):
        measure_task(checkpoint, Sample(clip, "clean", 0), "position", k=2, memory_bytes=1)
    said = "t1 needs more memory than a worker has: no memory for one direction"
    with pytest.raises(TaskMemoryError, match=said) as caught, memory_named("t1"):
        measure_task(checkpoint, Sample(clip, "clean", 0), "position", k=2, memory_bytes=1)
    assert caught.value.code == "out_of_memory"
    with pytest.raises(ZeroDivisionError), memory_named("t1"):
        raise ZeroDivisionError


def test_little_memory_is_recorded(checkpoint: Checkpoint, clip: Clip):
    vector = 4 * checkpoint.model.config.max_source_positions * checkpoint.model.config.d_model
    scarce = measure_task(checkpoint, Sample(clip, "clean", 0), "sequence", k=2, memory_bytes=9 * vector)
    plenty = measure_task(checkpoint, Sample(clip, "clean", 0), "sequence", k=2)
    assert max(row["refusals"] for row in scarce.layers) > 0 == max(row["refusals"] for row in plenty.layers)
    for one, two in zip(scarce.layers, plenty.layers, strict=True):
        assert np.allclose(one["context_s"], two["context_s"], rtol=2e-3)  # residuals of 1e-3 each
