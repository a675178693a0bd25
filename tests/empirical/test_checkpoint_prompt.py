"""The prompt along which everything is measured is the one that `generate` itself feeds to the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empirical.checkpoints.checkpoint import load_checkpoint, quiet_transformers
from empirical.recognition.transcribe import transcribe
from tests.helpers.tiny_whisper import rewrite_json, write_tiny_whisper

torch.set_num_threads(1)

MADE: dict[str, dict[str, Any]] = {
    "english fixed": {},
    "german fixed": {"language": "de"},
    "language detected": {"language": None},
    "english only": {"multilingual": False},
    "128 mels": {"mels": 128, "language": None},
    "english only, 128 mels": {"multilingual": False, "mels": 128},
}


def sound(seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(24_000)).astype(np.float32)


def fed_by_generate(loaded: Any, samples: np.ndarray) -> list[int]:
    """The ids of the decoder's last call before the first token is chosen: after those that detect a language."""
    seen: list[list[int]] = []

    def record(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        seen.append(options["input_ids"][0].tolist())

    hook = loaded.model.model.decoder.register_forward_pre_hook(record, with_kwargs=True)
    features = loaded.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad(), quiet_transformers():
        loaded.model.generate(features.to(loaded.model.dtype), max_new_tokens=1, num_beams=1, do_sample=False)
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize("kind", list(MADE))
def test_prompt_is_generate_s_own(kind: str, tmp_path: Path) -> None:
    loaded = load_checkpoint(write_tiny_whisper(tmp_path / "w", **MADE[kind]))
    assert loaded.feature_extractor.feature_size == MADE[kind].get("mels", 80)
    languages = set()
    for seed in range(3):
        ours = transcribe(loaded, sound(seed), max_new_tokens=2)
        prompt = list(ours.tokens[: ours.prompt_tokens])
        assert prompt == fed_by_generate(loaded, sound(seed))
        names = loaded.tokenizer.convert_ids_to_tokens(prompt)
        if MADE[kind].get("multilingual", True):
            assert [names[0], *names[2:]] == ["<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"]
            languages.add(names[1])
        else:
            assert names == ["<|startoftranscript|>", "<|notimestamps|>"]
    fixed = MADE[kind].get("language", "en")
    if MADE[kind].get("multilingual", True):
        assert languages == {f"<|{fixed}|>"} if fixed else languages <= {"<|en|>", "<|de|>"}


@pytest.mark.parametrize("language", [None, 281])
def test_prompts_of_older_checkpoints_are_generate_s_own_too(tmp_path: Path, language: int | None) -> None:
    """openai/whisper-* on the hub name language and task by position, in `forced_decoder_ids`, with null for a
    language that is to be detected."""
    path = write_tiny_whisper(tmp_path / "w", language=None)
    made = load_checkpoint(path)
    task = made.tokenizer.convert_tokens_to_ids("<|transcribe|>")
    rewrite_json(
        path / "generation_config.json", task=None, language=None, forced_decoder_ids=[[1, language], [2, task]]
    )
    loaded = load_checkpoint(path)
    ours = transcribe(loaded, sound(0), max_new_tokens=2)
    prompt = list(ours.tokens[: ours.prompt_tokens])
    assert prompt == fed_by_generate(loaded, sound(0))
    assert prompt[2:] == [task, loaded.tokenizer.convert_tokens_to_ids("<|notimestamps|>")]
    detected = set(loaded.model.generation_config.to_dict()["lang_to_id"].values())
    assert prompt[1] == language if language else prompt[1] in detected
