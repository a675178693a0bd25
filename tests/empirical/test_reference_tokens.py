"""Measured along the reference: the same tokens in every condition, and what cannot be forced is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from empirical.analysis import analyze
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.organism import list_organisms
from empirical.recognition.reference import ReferenceTokensError, reference_tokens
from empirical.speech.clips import Clip

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(list_organisms()[0].path)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    return path


def test_prompt_then_the_text_as_the_model_would_write_it(checkpoint: Checkpoint):
    prompt = (5, 6, 7)
    found = reference_tokens(checkpoint, "a cat  falls\nnow", prompt)
    assert found[:3] == prompt
    assert checkpoint.tokenizer.decode(found[3:]) == " a cat falls now"
    assert not set(found[3:]) & set(checkpoint.tokenizer.all_special_ids)
    assert reference_tokens(checkpoint, "A CAT FALLS NOW", prompt) == found  # as LibriSpeech's transcripts are written


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (None, "no_reference"),
        (" \n", "no_reference"),
        ("a cat <|endoftext|>", "bad_reference"),  # this vocabulary has no "<"; a larger one spells it as text
        ("a cät", "bad_reference"),
        ("a cat " * 400, "reference_too_long"),
    ],
)
def test_what_cannot_be_forced_says_why(checkpoint: Checkpoint, reference: str | None, code: str):
    with pytest.raises(ReferenceTokensError) as caught:
        reference_tokens(checkpoint, reference, (1,))
    assert caught.value.code == code
    assert pickle.loads(pickle.dumps(caught.value)).code == code  # it crosses from worker to parent


def test_every_condition_is_measured_on_the_same_tokens(checkpoint: Checkpoint, audio: Path):
    clips = [Clip("a", audio, "a cat falls now", None), Clip("b", audio, None, None)]
    table = analyze(
        checkpoint, clips, ("clean", "noise"), k=1, dtype="float32", tokens="reference", on_error="quarantine"
    )
    assert set(table["clip"]) == {"a"} and set(table["tokens_from"]) == {"reference"}
    assert len({tuple(tokens) for tokens in table["tokens"]}) == 1
    assert {(entry["clip"], entry["code"]) for entry in table.attrs["quarantine"]} == {("b", "no_reference")}
    own = analyze(checkpoint, clips[:1], k=1, dtype="float32", max_tokens=2)
    assert set(own["tokens_from"]) == {"own"}
    prompt = len(table["tokens"][0]) - len(checkpoint.tokenizer(" a cat falls now", add_special_tokens=False).input_ids)
    assert own["n_tokens"].max() <= prompt + 2
    with pytest.raises(ValueError, match="tokens must be one of own, reference; got 'both'"):
        analyze(checkpoint, clips, tokens="both")  # type: ignore[arg-type]
