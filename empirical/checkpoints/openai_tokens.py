"""What OpenAI's `.pt` does not carry: tokenizer, feature extractor, and what `generate` sets before it decodes.

The feature extractor follows from the dimensions. The byte pairs do not, and transformers does not ship them: they are
read from a tokenizer.json or vocab.json, or from the files that OpenAI's package has (multilingual.tiktoken,
gpt2.tiktoken). The special tokens have fixed places above them, and with those and the lists in transformers' Whisper
configuration stand the defaults of generation, where no generation_config.json says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empirical.checkpoints.errors import CheckpointError
from empirical.checkpoints.openai_checkpoint import Dimensions
from empirical.speech.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperTokenizer

ENGLISH_ONLY = 51_864
"""Vocabulary of OpenAI's English-only models: the byte pairs of GPT-2."""

MULTILINGUAL = {51_865: 99, 51_866: 100}
"""Vocabularies of OpenAI's multilingual models, and how many languages they name (the larger is large-v3's)."""

HOP_SAMPLES = 160
"""From one mel frame to the next, at 16 kHz; the encoder has one position for two frames."""

TIMESTAMPS = 1501
"""From 0.00 to 30.00 s by 0.02 s, whatever the window."""

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_START, _END, _SILENT = "<|startoftranscript|>", "<|endoftext|>", "<|nospeech|>"
_AFTER_LANGUAGES = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", _SILENT, "<|notimestamps|>")


def tiktoken_name(dims: Dimensions) -> str | None:
    """OpenAI's file of byte pairs for a vocabulary of this size; None if it is none of OpenAI's."""
    if dims.n_vocab == ENGLISH_ONLY:
        return "gpt2.tiktoken"
    return "multilingual.tiktoken" if dims.n_vocab in MULTILINGUAL else None


def find_companion(path: Path, dims: Dimensions, named: Path | None) -> Path:
    """The tokenizer file for a `.pt`: in the directory the user names; else beside the file, in the directory of its
    name without the suffix, or in OpenAI's package if that is installed (which is not imported).

    Raises:
        CheckpointError: "missing_file" with what to pass.
    """
    theirs = tiktoken_name(dims)
    names = (*_TOKENIZER_FILES, *((theirs,) if theirs else ()))
    for directory in [named] if named is not None else [path.parent, path.with_suffix(""), _assets()]:
        for name in names:
            if directory is not None and (directory / name).is_file():
                return directory / name
    where = f"in {named}" if named is not None else "beside it or in the directory of its name"
    advice = f"a directory with {' or '.join(names)} must be passed as companion=, or lie there"
    raise CheckpointError("missing_file", f"{path}: a .pt has no tokenizer, and there is none {where}; {advice}")


def tokenizer_of(file: Path, dims: Dimensions) -> WhisperTokenizer:
    """Byte pairs of OpenAI's, and above them the special tokens where its models have them.

    Raises:
        CheckpointError: "bad_tokenizer".
    """
    from tokenizers import AddedToken
    from transformers import WhisperTokenizer

    ranks = _read_ranks(file)
    special = [_START, *languages_of(dims), *_AFTER_LANGUAGES]
    whole = len(ranks) + 1 + len(special) + TIMESTAMPS
    if whole != dims.n_vocab:
        detail = f"with its {len(ranks)} byte pairs a model has {whole} tokens; this one has {dims.n_vocab}"
        raise CheckpointError("bad_tokenizer", f"{file}: {detail}")
    vocabulary = {_as_text(piece): rank for piece, rank in ranks.items()} | {_END: len(ranks)}
    merges = [tuple(map(_as_text, _last_merge(piece, ranks))) for piece in ranks if len(piece) > 1]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=special)
    times: list[Any] = [
        AddedToken(f"<|{0.02 * index:.2f}|>", normalized=False, special=False) for index in range(TIMESTAMPS)
    ]
    tokenizer.add_tokens(times)
    return tokenizer


def languages_of(dims: Dimensions) -> list[str]:
    """Language tokens in their order; English-only models have a place for each, though nothing puts one there."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    count = MULTILINGUAL.get(dims.n_vocab, 99)
    return [f"<|{code}|>" for code in list(LANGUAGES)[:count]]


def feature_extractor_of(dims: Dimensions) -> WhisperFeatureExtractor:
    """Log-mel of the model's mels, over the window that fills its encoder.

    Raises:
        CheckpointError: "wrong_window" if that window is no whole number of seconds.
    """
    from transformers import WhisperFeatureExtractor

    samples = 2 * dims.n_audio_ctx * HOP_SAMPLES
    if samples % SAMPLE_RATE_HZ:
        detail = f"n_audio_ctx must be 50 positions a second of a whole number of seconds; got {dims.n_audio_ctx}"
        raise CheckpointError("wrong_window", detail)
    return WhisperFeatureExtractor(
        feature_size=dims.n_mels, sampling_rate=SAMPLE_RATE_HZ, chunk_length=samples // SAMPLE_RATE_HZ
    )


def generation_defaults(path: Path, dims: Dimensions, tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Greedy transcription as OpenAI's own: language detected where there is a choice, the task token of transcription,
    no timestamps; non-speech tokens, and at the start silence, suppressed.

    Raises:
        CheckpointError: "missing_file" for a vocabulary that is not OpenAI's, "bad_tokenizer" for a tokenizer whose
            special tokens are not where OpenAI's are.
    """
    from transformers import GenerationConfig
    from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI

    if tiktoken_name(dims) is None:
        known = ", ".join(str(size) for size in (ENGLISH_ONLY, *MULTILINGUAL))
        detail = f"a vocabulary of {dims.n_vocab} is none of OpenAI's ({known}), so its prompt is not known"
        raise CheckpointError("missing_file", f"{path}: {detail}; put a generation_config.json beside its tokenizer")
    multilingual = dims.n_vocab in MULTILINGUAL
    check_places(path, dims, tokenizer)
    ids, end = _places(dims), _places(dims)[_END]
    silent = {ids[name] for name in (_START, "<|startoflm|>", "<|startofprev|>", _SILENT)}
    tasks = {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}
    non_speech = {token for token in (NON_SPEECH_TOKENS_MULTI if multilingual else NON_SPEECH_TOKENS) if token < end}
    config: Any = GenerationConfig(
        decoder_start_token_id=ids[_START],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=dims.n_text_ctx,
        suppress_tokens=sorted(non_speech | silent | set(tasks.values())),
        begin_suppress_tokens=[220, end],  # a space alone, or nothing at all
        no_timestamps_token_id=ids["<|notimestamps|>"],
        is_multilingual=multilingual,
        return_timestamps=False,
    )
    if multilingual:  # by name, for `update` passes over names that a config does not have yet
        config.lang_to_id = {token: ids[token] for token in languages_of(dims)}
        config.task_to_id = tasks
        config.task = "transcribe"
    return config


def check_start(path: Path, config: GenerationConfig, tokenizer: WhisperTokenizer) -> None:
    """A generation config and a tokenizer from one directory must mean the same by the start of a transcript.

    Raises:
        CheckpointError: "bad_tokenizer".
    """
    place = tokenizer.get_vocab().get(_START)
    if place is None or place != config.decoder_start_token_id:
        detail = f"{_START} is {place} to its tokenizer and {config.decoder_start_token_id} to its generation config"
        raise CheckpointError("bad_tokenizer", f"{path}: {detail}")


def check_places(path: Path, dims: Dimensions, tokenizer: WhisperTokenizer) -> None:
    """A vocabulary of OpenAI's size must have its special tokens in OpenAI's places: what lies beside a file need not
    belong to it, and any smaller tokenizer would fit.

    Raises:
        CheckpointError: "bad_tokenizer".
    """
    if tiktoken_name(dims) is None:
        return
    vocabulary = tokenizer.get_vocab()
    # A space: where it is not there, the lists of non-speech tokens mean other words.
    needed = {**_places(dims), "Ġ": 220}
    if _SILENT not in vocabulary:  # as transformers' checkpoints name it
        needed["<|nocaptions|>"] = needed.pop(_SILENT)
    for token, place in needed.items():
        if vocabulary.get(token) != place:
            found = "nowhere" if token not in vocabulary else f"at {vocabulary[token]}"
            detail = f"{token} must be token {place} of this model; its tokenizer has it {found}"
            raise CheckpointError("bad_tokenizer", f"{path}: {detail}")


def _places(dims: Dimensions) -> dict[str, int]:
    """Special tokens of OpenAI's vocabularies, timestamps left out."""
    end = 50_257 if dims.n_vocab in MULTILINGUAL else 50_256
    return {token: end + place for place, token in enumerate([_END, _START, *languages_of(dims), *_AFTER_LANGUAGES])}


def _assets() -> Path | None:
    """Where OpenAI's package keeps its byte pairs; None if it is not installed."""
    try:
        spec = importlib.util.find_spec("whisper")
    except (ImportError, ValueError):
        return None
    places: Any = spec.submodule_search_locations if spec else None
    return next((Path(place) / "assets" for place in places or []), None)


def _read_ranks(file: Path) -> dict[bytes, int]:
    """Lines of "base64 rank", ranks from 0 without a gap; the multilingual file ends with a piece of no bytes, "="."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines() if line]
        ranks = {base64.b64decode("" if piece == "=" else piece, validate=True): int(rank) for piece, rank in lines}
    except (OSError, ValueError, binascii.Error):
        raise CheckpointError("bad_tokenizer", f"{file}: each line must be a base64 piece and its rank") from None
    if list(ranks.values()) != list(range(len(lines))) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise CheckpointError("bad_tokenizer", f"{file}: ranks must run from 0 without a gap, all bytes among them")
    return ranks


def _last_merge(piece: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that byte-pair encoding joins last to make a piece: all merges of lower rank done first."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        joined = [ranks.get(left + right, len(ranks)) for left, right in itertools.pairwise(parts)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] >= ranks[piece]:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    if len(parts) != 2:
        raise CheckpointError("bad_tokenizer", f"{piece!r} is made of no two pieces of lower rank")
    return parts[0], parts[1]


def _as_text(piece: bytes) -> str:
    return "".join(_BYTES[byte] for byte in piece)


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself where it prints, else a character from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


_BYTES = _byte_characters()
