"""Null models: fresh weights, permuted layers and singular vectors, measured along the trained model's transcripts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from empirical.analysis import analyze
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.nulls import (
    CONTEXTS,
    KINDS,
    measure_nulls,
    null_inputs,
    null_model,
    random_weights,
    shuffled_layers,
    write_nulls,
)
from empirical.nulls.models import Half
from empirical.speech.clips import find_clips
from empirical.task import LAYER_COLUMNS
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny", decoder_layers=3)


@pytest.fixture(scope="module")
def checkpoint(directory: Path) -> Checkpoint:
    return load_checkpoint(directory)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", 0.1 * generator.standard_normal(16_000), 16_000)
    return folder


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(checkpoint.model.state_dict())


def test_random_weights_follow_the_seed_alone_and_leave_the_global_state(checkpoint: Checkpoint):
    before = {name: value.clone() for name, value in weights(checkpoint).items()}
    torch.manual_seed(1)
    expected = torch.random.get_rng_state()
    one = random_weights(checkpoint, 5)
    assert torch.equal(torch.random.get_rng_state(), expected)
    torch.manual_seed(2)
    two, other = random_weights(checkpoint, 5), random_weights(checkpoint, 6)
    name = "model.decoder.layers.1.fc1.weight"
    assert all(torch.equal(value, weights(two)[key]) for key, value in weights(one).items())
    assert not torch.equal(weights(one)[name], weights(other)[name])
    assert not torch.equal(weights(one)[name], before[name])
    assert all(torch.equal(value, before[key]) for key, value in weights(checkpoint).items())
    assert one.notes[-1] == "null:random_weights:5"
    # transformers initialises linear layers with N(0, init_std): the mean square is within 5 of its own deviations.
    w = weights(one)[name]
    variance = checkpoint.model.config.init_std**2
    assert abs(float(w.square().mean()) - variance) < 5 * variance * math.sqrt(2 / w.numel())


def test_shuffled_layers_are_the_trained_ones_in_another_order(checkpoint: Checkpoint):
    layers = checkpoint.model.model.decoder.layers
    first = [layer.fc1.weight for layer in layers]
    orders = set()
    for draw in range(5):
        shuffled = shuffled_layers(checkpoint, 3, draw)
        moved = [layer.fc1.weight for layer in shuffled.model.model.decoder.layers]
        order = tuple(next(i for i, w in enumerate(first) if torch.equal(w, m)) for m in moved)
        assert sorted(order) == [0, 1, 2] and order != (0, 1, 2)
        assert shuffled.notes[-1] == "null:shuffled_layers:" + ",".join(str(i + 1) for i in order)
        assert [layer.self_attn.layer_idx for layer in shuffled.model.model.decoder.layers] == [0, 1, 2]
        orders.add(order)
    assert orders == set(itertools.permutations(range(3))) - {(0, 1, 2)}  # five draws, none repeated
    assert [layer.self_attn.layer_idx for layer in layers] == [0, 1, 2]


def test_deep_models_are_never_left_in_order(tmp_path: Path):
    deep = load_checkpoint(write_tiny_whisper(tmp_path / "deep", decoder_layers=8, width=8, encoder_layers=1))
    notes = {shuffled_layers(deep, 0, draw).notes[-1] for draw in range(20)}
    assert "null:shuffled_layers:1,2,3,4,5,6,7,8" not in notes
    assert len(notes) == 20
    assert shuffled_layers(deep, 0, 7).notes == shuffled_layers(deep, 0, 7).notes


def test_one_layer_has_no_other_order(tmp_path: Path, audio: Path):
    single = load_checkpoint(write_tiny_whisper(tmp_path / "single", decoder_layers=1))
    with pytest.raises(ValueError, match="at least 2; got 1"):
        shuffled_layers(single, 0)
    table = measure_nulls(single, null_inputs(single, find_clips(audio)[:1], ("clean",)), 1)
    assert set(table["null"]) == {"random_weights", "random_singular_vectors"}


def test_nulls_are_measured_along_the_trained_transcripts(checkpoint: Checkpoint, audio: Path):
    clips = find_clips(audio)
    inputs = null_inputs(checkpoint, clips, seed=4)
    seen = []
    table = measure_nulls(checkpoint, inputs, 2, seed=4, progress=lambda done, total: seen.append((done, total)))
    assert list(table.columns) == [*LAYER_COLUMNS, "null", "draw"]
    assert len(table) == len(KINDS) * 2 * 2 * 2 * 3
    assert seen == [(done, 2 * len(KINDS)) for done in range(1, 2 * len(KINDS) + 1)]
    trained = analyze(checkpoint, clips, ("clean", "noise"), dtype="float32", k=4, seed=4)
    tokens = {(row.clip, row.condition): row.tokens for row in trained.itertuples()}
    for row in table.itertuples():
        assert row.tokens == tokens[row.clip, row.condition]
        assert row.state == "position"
    layer = table[(table["layer"] == 3) & (table["clip"] == "a") & (table["condition"] == "clean")]
    assert layer["context_share"].nunique() == 2 * len(KINDS)  # each model another


def test_a_draw_is_the_same_whichever_others_are_made(checkpoint: Checkpoint, audio: Path):
    inputs = null_inputs(checkpoint, find_clips(audio)[:1], ("clean",))
    both = measure_nulls(checkpoint, inputs, 2, seed=1)
    alone = measure_nulls(checkpoint, inputs, [1], seed=1)
    again = both[both["draw"] == 1].reset_index(drop=True).drop(columns="seconds")
    assert again.equals(alone.drop(columns="seconds"))


def test_the_sequence_state_is_measured_where_it_is_asked_for(checkpoint: Checkpoint, audio: Path):
    inputs = null_inputs(checkpoint, find_clips(audio)[:1], ("clean",))
    kinds = ("random_singular_vectors",)
    both = measure_nulls(checkpoint, inputs, [1], seed=1, kinds=kinds, states=("position", "sequence"))
    assert both.groupby("state").size().to_dict() == {"position": 3, "sequence": 3}
    position = measure_nulls(checkpoint, inputs, [1], seed=1, kinds=kinds).drop(columns="seconds")
    found = both[both["state"] == "position"].reset_index(drop=True).drop(columns="seconds")
    pd.testing.assert_frame_equal(found, position, check_dtype=False, check_exact=True)
    # The leading singular value of the whole sequence is at least that of one position in it.
    tops = both.groupby("state", sort=False)["sigma"].apply(list)
    assert all(whole >= one * (1 - 1e-3) for one, whole in zip(tops["position"], tops["sequence"], strict=True))


@pytest.mark.parametrize("kind", ["shuffled_layers", "random_singular_vectors"])
@pytest.mark.parametrize("half", ["decoder", "encoder"])
def test_a_null_shares_what_it_keeps_and_changes_one_half(checkpoint: Checkpoint, kind: str, half: Half):
    null = null_model(checkpoint, kind, 0, 1, half=half)
    assert null.notes[-1].startswith(f"null:{kind}:" + ("encoder:" if half == "encoder" else ""))
    before = {id(tensor): name for name, tensor in checkpoint.model.named_parameters()}
    new = [name for name, tensor in null.model.named_parameters() if id(tensor) not in before]
    turned = [name for name, tensor in null.model.named_parameters() if f".{half}.layers." in name and tensor.ndim == 2]
    assert new == (turned if kind == "random_singular_vectors" else [])
    names = [name for name, _ in checkpoint.model.named_parameters()]
    old = [before.get(id(tensor)) for _, tensor in null.model.named_parameters()]
    moved = [name for name, was in zip(names, old, strict=True) if was is not None and was != name]
    assert (moved != []) == (kind == "shuffled_layers") and all(f".{half}.layers." in name for name in moved)


def test_a_null_of_the_encoder_is_measured_in_its_states(checkpoint: Checkpoint, audio: Path):
    inputs = null_inputs(checkpoint, find_clips(audio)[:1], ("clean",))
    table = measure_nulls(checkpoint, inputs, 1, states=("position", "frame"), contexts="last")
    depth = {"position": 3, "frame": 2}
    for (_, state), rows in table.groupby(["null", "state"]):
        assert list(rows["layer"]) == list(range(1, depth[str(state)] + 1))
        assert np.isfinite(rows[["sigma", "gap"]].to_numpy(float)).all()
        assert np.isnan(rows["context_share"].to_numpy(float)).tolist() == [True] * (depth[str(state)] - 1) + [False]
    assert set(table.loc[table["state"] == "frame", "position"]) == {inputs[0].frame}
    assert set(table["null"]) == set(KINDS)


def test_contexts_are_measured_where_they_are_asked_for(checkpoint: Checkpoint, audio: Path):
    inputs = null_inputs(checkpoint, find_clips(audio)[:1], ("clean",))
    kinds = ("random_weights",)
    every, last, none = (measure_nulls(checkpoint, inputs, 1, kinds=kinds, contexts=each) for each in CONTEXTS)
    same = ["sigma", "gap", "bulk_gap", "alignment", "gain"]
    assert every[same].equals(last[same]) and every[same].equals(none[same])
    fed = ["injection_norm", "injection_along", "arrival"]
    assert every[fed].equals(last[fed]) and none[fed].isna().all(axis=None)
    assert np.isfinite(every["context_share"]).all() and none["context_share"].isna().all()
    assert [len(values) for values in last["context_s"]] == [0, 0, 4]
    # A warm start moves a converged share by no more than the residual it is converged to.
    assert last["context_share"].iloc[-1] == pytest.approx(every["context_share"].iloc[-1], rel=1e-2)
    assert none["products"].sum() < last["products"].sum() < every["products"].sum()


def test_nulls_follow_the_reference_where_they_are_asked_to(checkpoint: Checkpoint, audio: Path):
    clips = [dataclasses.replace(clip, reference="a b") for clip in find_clips(audio)[:1]]
    inputs = null_inputs(checkpoint, clips, ("clean",), tokens="reference")
    table = measure_nulls(checkpoint, inputs, 1, kinds=("random_weights",), contexts="none")
    assert set(table["tokens_from"]) == {"reference"}
    assert (
        list(inputs[0].tokens) == table["tokens"].iloc[0]
        and inputs[0].tokens != null_inputs(checkpoint, clips, ("clean",))[0].tokens
    )


def test_written_nulls_are_small_and_say_where_they_come_from(directory: Path, audio: Path, tmp_path: Path):
    out = tmp_path / "sub" / "nulls.parquet"
    rows = write_nulls(directory, find_clips(audio)[:1], out, draws=1, seed=2)
    schema = pq.read_schema(out)
    assert pq.read_metadata(out).num_rows == rows == len(KINDS) * 2 * 3
    assert not {"tokens", "residual", "converged", "transcript"} & set(schema.names)
    provenance = json.loads(schema.metadata[b"spi"])
    assert provenance["model"]["sha256"] == load_checkpoint(directory).sha256
    assert provenance["kinds"] == list(KINDS) and provenance["states"] == ["position"]
    assert provenance["draws"] == 1 and provenance["seed"] == 2
    assert provenance["command"] == (
        "spi nulls --model tiny --out nulls.parquet --audio DIR --draws 1 --seed 2 --dtype float32 --limit 1"
    )
    assert str(tmp_path) not in str(schema.metadata)
    assert [path.name for path in out.parent.iterdir()] == ["nulls.parquet"]


def test_bad_arguments_are_named(checkpoint: Checkpoint, audio: Path):
    inputs = null_inputs(checkpoint, find_clips(audio)[:1], ("clean",))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        measure_nulls(checkpoint, inputs, 0)
    with pytest.raises(ValueError, match="at least one clip"):
        measure_nulls(checkpoint, [], 1)
    with pytest.raises(ValueError, match="kinds must be of"):
        measure_nulls(checkpoint, inputs, 1, kinds=("other",))
    with pytest.raises(ValueError, match="states must be of"):
        measure_nulls(checkpoint, inputs, 1, states=("other",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contexts must be one of"):
        measure_nulls(checkpoint, inputs, 1, contexts="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind must be of"):
        null_model(checkpoint, "other", 0, 0)
    with pytest.raises(ValueError, match="draw must be at least 0"):
        shuffled_layers(checkpoint, 0, -1)
