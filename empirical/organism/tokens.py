"""The organisms' tokenizer: a small byte-level BPE with Whisper's special tokens in Whisper's order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import WhisperTokenizer

END_OF_TEXT = "<|endoftext|>"
START = "<|startoftranscript|>"
LANGUAGE = "<|en|>"
TRANSLATE = "<|translate|>"
TRANSCRIBE = "<|transcribe|>"
START_OF_PREVIOUS = "<|startofprev|>"
NO_SPEECH = "<|nospeech|>"
NO_TIMESTAMPS = "<|notimestamps|>"
SPACE = "Ġ"
"""A lone space, as byte-level BPE writes it."""
# Whisper's order. The language must directly follow the start token: transformers counts languages from there.
SPECIAL_TOKENS = (
    END_OF_TEXT,
    START,
    LANGUAGE,
    TRANSLATE,
    TRANSCRIBE,
    "<|startoflm|>",
    START_OF_PREVIOUS,
    NO_SPEECH,
    NO_TIMESTAMPS,
)


def build_tokenizer(sentences: Sequence[str], pieces: int, out_dir: Path) -> WhisperTokenizer:
    """Learn a byte-level BPE and save it in every form that transformers 4.57 and 5.x read.

    Args:
        sentences: text to learn from, without leading spaces.
        pieces: number of BPE pieces, special tokens not counted.
        out_dir: existing directory that receives vocab.json, merges.txt, tokenizer.json and the rest.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    learner.train_from_iterator(
        [" " + sentence for sentence in sentences],
        trainers.BpeTrainer(vocab_size=pieces, special_tokens=[], show_progress=False),
    )
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = dict(sorted(learnt["vocab"].items(), key=lambda item: item[1]))
    merges = [tuple(pair) for pair in learnt["merges"]]
    # The end token is part of the vocabulary proper, as in every published Whisper.
    vocabulary[END_OF_TEXT] = len(vocabulary)
    tokenizer = WhisperTokenizer(
        vocab=vocabulary,
        merges=merges,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        language="en",
        task="transcribe",
    )
    tokenizer.save_pretrained(out_dir)
    # transformers 5 writes tokenizer.json alone; 4.57 asks for the older files as well.
    (out_dir / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (out_dir / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config_path = out_dir / "tokenizer_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    # 5 writes the special tokens under a name that 4.57 expects a mapping under; both read the older name.
    config.pop("extra_special_tokens", None)
    config["additional_special_tokens"] = list(SPECIAL_TOKENS[1:])
    config["tokenizer_class"] = "WhisperTokenizer"
    config["model_max_length"] = 64
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    special_map = special | {"additional_special_tokens": list(SPECIAL_TOKENS[1:])}
    (out_dir / "special_tokens_map.json").write_text(json.dumps(special_map, indent=2) + "\n", encoding="utf-8")
    return WhisperTokenizer.from_pretrained(out_dir)


def prompt_ids(tokenizer: WhisperTokenizer) -> list[int]:
    """Ids of the prompt that `generate` starts from: start, language, task, no timestamps."""
    return [token_id(tokenizer, token) for token in (START, LANGUAGE, TRANSCRIBE, NO_TIMESTAMPS)]


def text_ids(tokenizer: WhisperTokenizer, sentence: str) -> list[int]:
    """Ids of a sentence, with the leading space that Whisper writes."""
    return list(tokenizer(" " + sentence, add_special_tokens=False).input_ids)


def token_id(tokenizer: WhisperTokenizer, token: str) -> int:
    """Id of one token.

    Raises:
        ValueError: if the tokenizer does not have it.
    """
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int) or (token != END_OF_TEXT and found == tokenizer.unk_token_id):
        raise ValueError(f"tokenizer must know {token}; it does not")
    return found
