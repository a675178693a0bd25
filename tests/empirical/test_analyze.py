"""From audio to tables: what a reader and what a run call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration

from empirical.analysis import analyze
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.hearing import Told
from empirical.jacobians.measurement import State, measure_chain
from empirical.listening import listen
from empirical.recognition.transcribe import encode, transcribe
from empirical.speech.audio import AudioError, load_audio
from empirical.speech.clips import find_clips
from empirical.speech.samples import Sample
from empirical.stress import PoolClip, StressError
from empirical.task import LAYER_COLUMNS, measure_task
from tests.helpers.tiny_whisper import write_random_whisper_tiny, write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(directory: Path) -> Checkpoint:
    return load_checkpoint(directory)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven voices of one second, and a clip of three, one longer than the model's window."""
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    for name in "abcdefg":
        soundfile.write(folder / f"{name}.wav", 0.1 * generator.standard_normal(16_000), 16_000)
    soundfile.write(folder / "long.wav", 0.1 * generator.standard_normal(48_000), 16_000)
    return folder


def pool_of(audio: Path) -> list[PoolClip]:
    def loader(path: Path):
        return lambda: soundfile.read(path, dtype="float32")[0]

    return [PoolClip(clip.name, clip.speaker, loader(clip.path)) for clip in find_clips(audio)]


def same(one: list[dict], two: list[dict]) -> bool:
    def plain(row: dict) -> dict:
        return {key: repr(np.asarray(value).tolist()) for key, value in row.items() if key != "seconds"}

    return [plain(row) for row in one] == [plain(row) for row in two]


def test_table_has_one_row_per_clip_condition_state_and_layer(directory: Path, audio: Path):
    table = analyze(
        str(directory), [audio / "a.wav", str(audio / "b.wav")], ("clean", "noise"), ("position", "sequence"), k=3
    )
    assert list(table.columns) == list(LAYER_COLUMNS)
    assert len(table) == 2 * 2 * 2 * 3
    assert not table.duplicated(["clip", "condition", "state", "layer"]).any()
    assert set(table["dtype"]) == {"float64"}
    assert table["alignment"].isna().equals(table["layer"] == 1)
    assert table["gap"].between(0.0, 1.0).all() and table["bulk_gap"].between(0.0, 1.0).all()
    assert all(all(row) for row in table["converged"])
    assert all(max(row) < 1e-8 for row in table["residual"])
    assert (table.loc[table["state"] == "sequence", "chain_error"] < 1e-9).all()
    assert table["tokens"].map(len).equals(table["n_tokens"])
    assert not table["truncated"].any()
    assert table.attrs["quarantine"] == []


def test_all_stresses_with_the_other_clips_as_pool(checkpoint: Checkpoint, audio: Path):
    conditions = ("clean", "stretch", "mix", "noise")
    table = analyze(checkpoint, find_clips(audio)[:6], conditions, k=2, dtype="float32")
    assert set(table["condition"]) == set(conditions)
    assert len(table) == 6 * 4 * 3
    stretched = table[table["condition"] == "stretch"]
    assert stretched["truncated"].all()  # 3.5 s into a window of 2 s
    assert not table.loc[table["condition"] == "mix", "truncated"].any()
    with pytest.raises(StressError):
        analyze(checkpoint, [audio / "a.wav"], ("mix",), dtype="float32")


def test_a_clip_longer_than_the_window_is_cut_marked_and_measured(checkpoint: Checkpoint, audio: Path):
    table = analyze(checkpoint, [audio / "long.wav"], k=2, dtype="float32")
    assert table["truncated"].all() and len(table) == 3


def test_float32_agrees_with_float64(directory: Path, audio: Path):
    one = analyze(directory, [audio / "a.wav"], k=4)
    two = analyze(directory, [audio / "a.wav"], k=4, dtype="float32")
    if list(one["tokens"]) != list(two["tokens"]):  # greedy ties may fall otherwise; then there is nothing to compare
        pytest.fail("the two precisions transcribe differently: choose another clip")
    # float32 states of size O(1) through a few layers: relative errors near 1e-6, 1e-3 for what a Gram matrix halves.
    for column in ("sigma", "gap", "bulk_gap", "injection_along", "arrival", "context_frobenius", "hidden_rms"):
        assert np.allclose(one[column], two[column], rtol=1e-3), column
    assert np.allclose(np.stack(one["context_s"]), np.stack(two["context_s"]), rtol=1e-3)


def test_models_already_loaded(directory: Path, checkpoint: Checkpoint, audio: Path):
    clips = [audio / "a.wav"]
    expected = analyze(directory, clips, k=2, dtype="float32").drop(columns="seconds")
    bare = WhisperForConditionalGeneration.from_pretrained(directory)
    for model in (checkpoint, bare):
        assert analyze(model, clips, k=2, dtype="float32").drop(columns="seconds").equals(expected)
    doubled = analyze(checkpoint, clips, k=2)
    assert set(doubled["dtype"]) == {"float64"}
    assert checkpoint.model.dtype == torch.float32  # what was passed in is not changed
    bare.name_or_path = ""
    with pytest.raises(ValueError, match="must know the directory"):
        analyze(bare, clips)
    with pytest.raises(ValueError, match="got int"):
        analyze(3, clips)  # type: ignore[arg-type]


def test_same_bits_at_each_repetition(checkpoint: Checkpoint, audio: Path):
    sample = Sample(find_clips(audio)[0], "mix", 5)
    for state in ("position", "sequence"):
        one, two = (measure_task(checkpoint, sample, state, k=3, pool=pool_of(audio)) for _ in range(2))
        for name in ("layers", "blocks", "subspaces"):
            assert same(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("condition", ["noise", "stretch"])  # the second one is longer than the window
def test_what_was_told_is_what_would_have_been_found(checkpoint: Checkpoint, audio: Path, condition: str):
    sample = Sample(find_clips(audio)[0], condition, 5)
    (row,) = listen(checkpoint, [sample]).clips
    told = Told.from_row(row)
    assert told.truncated == (condition == "stretch")
    one, two = (measure_task(checkpoint, sample, "position", told=each, k=3) for each in (told, None))
    assert same(one.layers, two.layers) and same(one.blocks, two.blocks) and same(one.subspaces, two.subspaces)
    seeded = measure_task(checkpoint, sample, "position", told=told, k=3, seed=5)
    assert same(seeded.layers, one.layers)  # 5 is the sample's, which is the default
    other = replace(told, text="other words", tokens=told.tokens[:6])
    rows = measure_task(checkpoint, sample, "position", told=other, k=3).layers
    assert rows[0]["transcript"] == "other words" and rows[0]["tokens"] == list(told.tokens[:6])


def test_rows_of_a_task_are_of_its_state(checkpoint: Checkpoint, audio: Path):
    records = measure_task(checkpoint, Sample(find_clips(audio)[0], "clean", 0), "sequence", k=3)
    assert [row["layer"] for row in records.layers] == [1, 2, 3]
    for rows in (records.layers, records.blocks, records.subspaces):
        assert {row["state"] for row in rows} == {"sequence"}


@pytest.mark.parametrize("state", ["position", "sequence"])
def test_blocks_of_one_layer_and_subspaces_of_one_direction_are_the_layers_themselves(
    checkpoint: Checkpoint, audio: Path, state: State
):
    records = measure_task(checkpoint, Sample(find_clips(audio)[0], "clean", 0), state, k=3)
    single = [row for row in records.blocks if row["block"] == 1]
    first = {row["layer"]: row for row in records.subspaces if row["rank"] == 1}
    assert len(single) == len(records.layers) == 3 and set(first) == {2, 3}
    for block, layer in zip(single, records.layers, strict=True):
        for name in ("sigma", "gap", "alignment", "injection_norm"):
            # Both in float32, by the dense algebra or by iterations with residuals of at most 1e-3.
            assert np.isclose(block[name], layer[name], rtol=5e-3, equal_nan=True), name
        if layer["layer"] > 1:
            assert np.isclose(first[layer["layer"]]["overlap"], layer["alignment"] ** 2, rtol=2e-2, atol=1e-4)


def test_references_beside_the_audio_are_found_and_clashing_names_kept_apart(directory: Path, tmp_path: Path):
    generator = np.random.default_rng(1)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "x.wav", 0.1 * generator.standard_normal(8_000), 16_000)
    table = analyze(directory, [tmp_path / "one", tmp_path / "two" / "x.wav"], k=1, dtype="float32")
    assert sorted(table["clip"].unique()) == [str(tmp_path / "one" / "x.wav"), str(tmp_path / "two" / "x.wav")]


def test_bad_clips_raise_or_are_quarantined(checkpoint: Checkpoint, audio: Path, tmp_path: Path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all")
    with pytest.raises(AudioError) as caught:
        analyze(checkpoint, [bad], dtype="float32")
    assert caught.value.code == "not_audio"
    with pytest.raises(AudioError):
        analyze(checkpoint, [tmp_path / "none.wav"], dtype="float32")
    table = analyze(checkpoint, [bad, audio / "a.wav"], ("clean", "mix"), k=1, dtype="float32", on_error="quarantine")
    assert set(table["clip"]) == {"a"} and set(table["condition"]) == {"clean"}
    codes = {(entry["clip"], entry["condition"]): entry["code"] for entry in table.attrs["quarantine"]}
    assert codes == {("bad", "clean"): "not_audio", ("bad", "mix"): "not_audio", ("a", "mix"): "pool_empty"}


def test_no_clips_give_an_empty_table(checkpoint: Checkpoint):
    table = analyze(checkpoint, [], dtype="float32")
    assert isinstance(table, pd.DataFrame) and len(table) == 0 and list(table.columns) == list(LAYER_COLUMNS)


def test_bad_arguments_are_named(checkpoint: Checkpoint, audio: Path):
    clips = [audio / "a.wav"]
    for arguments, message in (
        ({"k": 0}, r"k must lie in \[1, 16\]"),
        ({"k": 17}, r"k must lie in \[1, 16\].*got 17"),
        ({"conditions": ("loud",)}, "'loud'"),
        ({"states": ("token",)}, "states must be of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"conditions": "clean"}, "sequences of names"),
        ({"on_error": "ignore"}, "on_error must be"),
    ):
        with pytest.raises(ValueError, match=message):
            analyze(checkpoint, clips, **({"dtype": "float32"} | arguments))
    with pytest.raises(ValueError, match="sequence of paths"):
        analyze(checkpoint, str(clips[0]), dtype="float32")


def test_random_whisper_of_the_true_dimensions_is_measured_matrix_free(tmp_path: Path, audio: Path):
    checkpoint = load_checkpoint(write_random_whisper_tiny(tmp_path / "whisper-tiny"))
    samples = load_audio(audio / "a.wav")
    features, _ = encode(checkpoint, samples)
    tokens = transcribe(checkpoint, samples, max_new_tokens=6).tokens  # random weights go on to any limit
    rows = measure_chain(checkpoint, features, tokens, k=4).rows()
    assert [row["layer"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["d_model"] == 384 and row["context_frobenius_se"] > 0.0
        assert row["propagator_converged"] and row["injection_converged"] and all(row["converged"])
        assert max(row["residual"]) <= 1e-3
