"""Samples heard together: what alone would be found, each refused for its own reason, nothing lost."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import empirical.listening as listening
from empirical.activations import COMPONENTS, capture
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.hearing import Told, prepare
from empirical.listening import ListenRecords, listen
from empirical.recognition.forward import rounding_bound
from empirical.recognition.transcribe import encode, encoder_states, transcribe
from empirical.recognition.transcribe_windows import windows_of
from empirical.speech.audio import load_audio
from empirical.speech.clips import Clip
from empirical.speech.samples import Sample, sound_pool
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Five voices of half a second to one second and a half, and one of five, longer than the window of two."""
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    found = []
    for number, seconds in enumerate((0.5, 0.75, 1.0, 1.25, 1.5, 5.0)):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * generator.standard_normal(int(16_000 * seconds)), 16_000)
        found.append(Clip(path.stem, path, "some words here", f"s{number}"))
    return found


def crossed(clips: list[Clip], *conditions: str) -> list[Sample]:
    return [Sample(clip, condition, 3) for clip in clips for condition in conditions]


def assert_close(checkpoint: Checkpoint, one: ListenRecords, two: ListenRecords) -> None:
    """The same rows up to what the rounding of a batch of another size may do."""
    config = checkpoint.model.config
    bound = rounding_bound(checkpoint.model.dtype, config.encoder_layers + config.decoder_layers, config.d_model)
    rounded = {"avg_logprob", "no_speech_prob"}
    for a, b in zip(one.clips, two.clips, strict=True):
        assert {k: v for k, v in a.items() if k not in rounded} == {k: v for k, v in b.items() if k not in rounded}
        # Logits of this model are of size 30 at most.
        assert all(a[name] == pytest.approx(b[name], rel=30 * bound, abs=30 * bound) for name in rounded)
    for a, b in zip(one.vectors, two.vectors, strict=True):
        assert {k: v for k, v in a.items() if k != "x"} == {k: v for k, v in b.items() if k != "x"}
        np.testing.assert_allclose(a["x"], b["x"], rtol=0, atol=bound * np.abs(b["x"]).max())
    assert [(row["clip"], row["condition"]) for row in one.activations] == [
        (row["clip"], row["condition"]) for row in two.activations
    ]
    assert one.refused == two.refused


def test_tables_of_a_batch_are_those_of_each_sample_alone(checkpoint: Checkpoint, clips: list[Clip]):
    samples = crossed(clips, "clean", "noise", "mix")
    pool = sound_pool(clips)
    together = listen(checkpoint, samples, pool=pool, batch=4)
    assert [(row["clip"], row["condition"]) for row in together.clips] == [(s.clip.name, s.condition) for s in samples]
    assert together.refused == []
    assert_close(checkpoint, together, listen(checkpoint, samples, pool=pool, batch=1))
    assert_close(checkpoint, together, listen(checkpoint, samples, pool=pool, batch=100))
    again = listen(checkpoint, samples, pool=pool, batch=4)
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(together.vectors, again.vectors, strict=True))
    assert together.clips == again.clips


def test_rows_say_what_transcribe_and_capture_say(checkpoint: Checkpoint, clips: list[Clip]):
    (row,) = listen(checkpoint, crossed(clips[2:3], "clean")).clips
    records = listen(checkpoint, crossed(clips[2:3], "clean"))
    samples = load_audio(clips[2].path)
    said = transcribe(checkpoint, samples)
    assert row["tokens"] == list(said.tokens) and row["transcript"] == said.text
    assert (row["avg_logprob"], row["no_speech_prob"]) == (said.avg_logprob, said.no_speech_prob)
    assert (row["windows"], row["window_tokens"], row["prompt_tokens"]) == (1, [len(said.tokens)], said.prompt_tokens)
    assert row["reference_words"] == 3 and row["wer"] >= 0.0 and not row["truncated"]
    assert row["duration_s"] == 1.0 and row["seed"] == 3 and row["stress_notes"] == []
    assert len(row["source_sha256"]) == len(row["result_sha256"]) == 64 and json.loads(row["achieved"])["scale"] == 1.0
    found = capture(checkpoint, encoder_states(checkpoint, encode(checkpoint, samples)[0]), said.tokens)
    assert len(records.vectors) == len(records.activations) == len(found) == 3 * len(COMPONENTS)
    for vector in records.vectors:
        x = found[vector["component"], vector["layer"]]
        assert np.array_equal(vector["x"].reshape(vector["n_tokens"], vector["d_model"]), x)
    for activation in records.activations:
        assert "x" not in activation and activation["n_tokens"] == row["n_tokens"]
        assert all(math.isfinite(activation[name]) for name in ("effective_rank_10", "kirchhoff_10", "alpha_10"))


def test_vectors_are_sorted_by_component_and_layer_and_then_as_asked(checkpoint: Checkpoint, clips: list[Clip]):
    records = listen(checkpoint, crossed(clips[:3], "noise", "clean"), batch=2)
    keys = [(row["component"], row["layer"]) for row in records.vectors]
    assert keys == sorted(keys) and Counter(keys) == dict.fromkeys(keys, 6)
    order = [(row["clip"], row["condition"]) for row in records.vectors[:6]]
    assert order == [(clip, condition) for clip in "012" for condition in ("noise", "clean")]


def test_each_sample_is_refused_for_its_own_reason_and_the_others_go_on(
    checkpoint: Checkpoint, clips: list[Clip], tmp_path: Path
):
    (tmp_path / "text.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    bad = Clip("bad", tmp_path / "text.wav", "x", None)
    silent = Clip("silent", tmp_path / "silent.wav", None, None)
    samples = [
        Sample(bad, "clean", 0),
        *crossed(clips[:1], "clean", "mix"),
        Sample(silent, "noise", 0),
        Sample(silent, "clean", 0),
        Sample(clips[5], "clean", 0),
        *crossed(clips[1:2], "clean"),
        Sample(bad, "noise", 0),
    ]
    records = listen(checkpoint, samples, pool=sound_pool(clips[:1]), batch=3, long="refuse")
    assert [(row["clip"], row["type"], row["code"], row["stage"]) for row in records.refused] == [
        ("bad", "AudioError", "not_audio", "load"),
        ("0", "StressError", "pool_empty", "stress"),
        ("silent", "AudioError", "silent", "load"),
        ("silent", "AudioError", "silent", "load"),
        ("5", "ListeningError", "too_long", "window"),
        ("bad", "AudioError", "not_audio", "load"),
    ]
    assert all(set(row) == {"clip", "condition", "type", "code", "detail", "stage"} for row in records.refused)
    assert all(row["detail"] and f"[{row['code']}]" not in row["detail"] for row in records.refused)
    assert [(row["clip"], row["condition"]) for row in records.clips] == [
        ("0", "clean"),
        ("1", "clean"),
    ]
    assert len(records.clips) + len(records.refused) == len(samples)


def test_a_sample_that_breaks_the_model_is_refused_alone(
    checkpoint: Checkpoint, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
):
    fine = listen(checkpoint, crossed(clips[:5], "clean"), batch=5)

    def broken(checkpoint: Checkpoint, features: torch.Tensor) -> torch.Tensor:
        states = encoder_states(checkpoint, features)
        states[2, 5, 7] = math.nan
        return states

    monkeypatch.setattr(listening, "encoder_states", broken)
    records = listen(checkpoint, crossed(clips[:5], "clean"), batch=5)
    assert [(row["clip"], row["type"], row["code"]) for row in records.refused] == [
        ("2", "NonFiniteError", "non_finite")
    ]
    assert records.refused[0]["stage"] == "listen" and "encoder states must be finite" in records.refused[0]["detail"]
    expected = ListenRecords(
        [row for row in fine.clips if row["clip"] != "2"],
        [row for row in fine.activations if row["clip"] != "2"],
        [row for row in fine.vectors if row["clip"] != "2"],
        records.refused,
    )
    assert_close(checkpoint, records, expected)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_batch_without_memory_is_halved(
    checkpoint: Checkpoint, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, error: Exception
):
    samples = crossed(clips[:5], "clean", "noise")
    expected = listen(checkpoint, samples, batch=2)
    sizes: list[int] = []
    monkeypatch.setattr(listening, "capture_batch", scarce(listening.capture_batch, sizes, 2, error))
    assert_close(checkpoint, listen(checkpoint, samples, batch=8), expected)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]  # it stays where there was room
    monkeypatch.setattr(listening, "capture_batch", scarce(listening.capture_batch, sizes, 0, error))
    with pytest.raises(type(error)):  # one window alone: no sample's fault, so none is refused
        listen(checkpoint, samples, batch=4)


def scarce(capture_batch: Callable[..., Any], sizes: list[int], most: int, error: Exception) -> Callable[..., Any]:
    def wanting(checkpoint: Checkpoint, states: torch.Tensor, tokens: list[tuple[int, ...]]) -> Any:
        sizes.append(len(tokens))
        if len(tokens) > most:
            raise error
        return capture_batch(checkpoint, states, tokens)

    return wanting


def test_another_error_of_the_model_is_no_reason_to_halve(
    checkpoint: Checkpoint, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    monkeypatch.setattr(listening, "capture_batch", scarce(listening.capture_batch, sizes, 2, RuntimeError("other")))
    with pytest.raises(RuntimeError, match="other"):
        listen(checkpoint, crossed(clips[:4], "clean"), batch=4)
    assert sizes == [4]


def test_a_batch_begins_with_what_memory_allows(checkpoint: Checkpoint, clips: list[Clip], monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(listening, "capture_batch", scarce(listening.capture_batch, sizes, 100, MemoryError()))
    config = checkpoint.model.config
    window = (2 * config.decoder_layers + 16) * config.max_source_positions * config.d_model * 4
    listen(checkpoint, crossed(clips[:4], "clean"), batch=4, memory_bytes=2 * 2 * window)  # half of it may be taken
    listen(checkpoint, crossed(clips[:2], "clean"), batch=4, memory_bytes=1)
    assert sizes == [2, 2, 1, 1]


def test_a_model_that_says_nothing_keeps_its_row(checkpoint: Checkpoint, clips: list[Clip]):
    generation = checkpoint.model.generation_config
    first = transcribe(checkpoint, load_audio(clips[0].path)).tokens[4]
    end = generation.eos_token_id
    try:
        generation.eos_token_id = first
        records = listen(checkpoint, crossed(clips[:1], "clean"))
    finally:
        generation.eos_token_id = end
    (row,) = records.clips
    assert row["transcript"] == "" and row["n_tokens"] == row["prompt_tokens"] == 4
    assert row["wer"] == 1.0 and row["deletions"] == 3 and math.isfinite(row["avg_logprob"])
    assert {activation["n_tokens"] for activation in records.activations} == {4}
    assert all(math.isnan(activation["effective_rank_10"]) for activation in records.activations)  # 3 modes are not 10


def test_a_long_clip_is_cut_or_heard_window_by_window(checkpoint: Checkpoint, clips: list[Clip]):
    sample, samples = Sample(clips[5], "clean", 0), load_audio(clips[5].path)
    (cut,) = listen(checkpoint, [sample]).clips
    assert cut["truncated"] and cut["windows"] == 1 and cut["duration_s"] == 5.0
    mixed = [Sample(clips[0], "clean", 0), sample, Sample(clips[1], "clean", 0)]
    records = listen(checkpoint, mixed, long="chunk", batch=2)  # batches that begin and end within a clip
    first, row, last = records.clips
    assert [first["clip"], row["clip"], last["clip"]] == ["0", "5", "1"] and first["windows"] == last["windows"] == 1
    pieces = windows_of(samples, checkpoint.window_samples, "chunk")
    said = [transcribe(checkpoint, piece) for piece in pieces]
    assert row["windows"] == len(pieces) == 3 and not row["truncated"] and row["duration_s"] == 5.0
    assert row["transcript"] == " ".join(each.text for each in said)
    assert row["tokens"] == [token for each in said for token in each.tokens]
    assert row["window_tokens"] == [len(each.tokens) for each in said] and sum(row["window_tokens"]) == row["n_tokens"]
    every = [value for each in said for value in each.log_probs]
    assert row["avg_logprob"] == pytest.approx(np.mean(every), rel=1e-4)  # float32 of another batch
    assert {each["n_tokens"] for each in records.activations if each["clip"] == "5"} == {row["n_tokens"]}
    # Stacked in order: the first rows are the first window's.
    for vector in records.vectors:
        if vector["clip"] == "5":
            x = capture(checkpoint, encoder_states(checkpoint, encode(checkpoint, pieces[0])[0]), said[0].tokens)
            expected = x[vector["component"], vector["layer"]]
            got = vector["x"].reshape(-1, vector["d_model"])[: len(expected)]
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    told = Told.from_row(row)
    assert told == Told(None, said[0].tokens, said[0].prompt_tokens, False)
    one, two = (prepare(checkpoint, sample, long="chunk", told=each) for each in (told, None))
    assert one.transcript == two.transcript and one.transcript.text == said[0].text and one.length == len(pieces[0])
    assert torch.equal(one.states, two.states) and one.frame == two.frame


def test_along_a_reference(checkpoint: Checkpoint, clips: list[Clip], tmp_path: Path):
    soundfile.write(tmp_path / "none.wav", 0.1 * np.random.default_rng(9).standard_normal(16_000), 16_000)
    unknown = Clip("none", tmp_path / "none.wav", None, None)
    samples = [Sample(unknown, "clean", 0), *crossed([clips[0], clips[5]], "clean")]
    records = listen(checkpoint, samples, tokens="reference", long="chunk")
    assert [(row["clip"], row["code"], row["stage"]) for row in records.refused] == [
        ("none", "no_reference", "tokens"),
        ("5", "too_long", "window"),  # a reference does not say what of it belongs to a window
    ]
    (row,) = records.clips
    own = transcribe(checkpoint, load_audio(clips[0].path))
    assert row["tokens"] == list(own.tokens)  # what it said is its own all the same
    forced = prepare(checkpoint, crossed(clips[:1], "clean")[0], tokens="reference").tokens
    assert {each["n_tokens"] for each in records.activations} == {len(forced)} != {row["n_tokens"]}


def test_no_samples_and_arguments_out_of_range(checkpoint: Checkpoint):
    assert listen(checkpoint, []) == ListenRecords([], [], [], [])
    for arguments, message in (
        ({"batch": 0}, "batch must be a whole number of at least 1; got 0"),
        ({"tokens": "both"}, "tokens must be one of"),
        ({"long": "half"}, "long must be one of"),
        ({"max_tokens": 45}, r"max_new_tokens must lie in \[1, 44\]"),
    ):
        with pytest.raises(ValueError, match=message):
            listen(checkpoint, [], **arguments)  # type: ignore[arg-type]


def test_where_a_stress_leaves_nothing_of_the_speech_the_reference_has_no_word(
    checkpoint: Checkpoint, clips: list[Clip]
):
    samples = crossed(clips[:1], "clean", "noise", "silence", "silence:level_dbfs=-40", "non_speech", "noise+silence")
    rows = {row["condition"]: row for row in listen(checkpoint, samples, pool=sound_pool(clips)).clips}
    assert list(rows) == [sample.condition for sample in samples]
    for condition, row in rows.items():
        spoken = condition in ("clean", "noise")
        assert row["reference"] == ("some words here" if spoken else "")
        assert math.isnan(row["wer"]) != spoken and row["reference_words"] == (3 if spoken else 0)
