"""Random weights at the dimensions of published Whispers, as checkpoint directories like any other.

What depends on an architecture alone (memory, time, products, and how a chain looks before any training) can be
measured at the published dimensions where the published weights are not at hand. Such a checkpoint has the config of
the model it is named after and weights as transformers initialises them, and it says so: nobody should take it for the
model. Its tokenizer is a small one (by default a bundled organism's, some 200 tokens), whose ids are a part of the
vocabulary: the model may say tokens that the tokenizer has no text for, and a reference takes two to three times
as many tokens as by Whisper's own.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from empirical.checkpoints.checkpoint import quiet_transformers
from empirical.checkpoints.openai_checkpoint import HEAD_SIZE

if TYPE_CHECKING:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

STORED = MappingProxyType({"float16": torch.float16, "float32": torch.float32})
"""Types in which random weights can be written; they are drawn in float32, so that a seed names one set of them."""

ENCODER_POSITIONS, DECODER_POSITIONS = 1500, 448
"""The same in all of them: 30 s of audio at 50 positions a second, and the longest sequence of tokens."""

WEIGHTS_FILE = "model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
_ENGLISH = 51_864
_IDS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "begin_suppress_tokens")


@dataclass(frozen=True, slots=True)
class Published:
    """Dimensions of a published Whisper.

    Attributes:
        name: as its authors call it, without "whisper-".
        width: d, of encoder and decoder; heads are d / 64, the feed-forward blocks' inner width is 4 d.
        encoder_layers, decoder_layers: how many.
        vocabulary: 51864 (English-only), 51865, or 51866 (from large-v3 on).
        mels: mel bins, 80, or 128 from large-v3 on.
        millions: parameters as published, in millions, rounded as there.
        source: the hub id that has these dimensions, and where `millions` is said.
    """

    name: str
    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    mels: int
    millions: int
    source: str

    @property
    def heads(self) -> int:
        return self.width // HEAD_SIZE

    @property
    def english(self) -> bool:
        """English-only: no language or task tokens in the prompt."""
        return self.vocabulary == _ENGLISH


def _table() -> dict[str, Published]:
    openai, distil = "openai/whisper-{}; README of openai/whisper", "distil-whisper/{}; its model card"
    rows = (
        ("tiny", 384, 4, 4, 51_865, 80, 39, openai),
        ("base", 512, 6, 6, 51_865, 80, 74, openai),
        ("small", 768, 12, 12, 51_865, 80, 244, openai),
        ("medium", 1024, 24, 24, 51_865, 80, 769, openai),
        ("large", 1280, 32, 32, 51_865, 80, 1550, openai),  # the first of that name, as on the hub
        ("large-v2", 1280, 32, 32, 51_865, 80, 1550, openai),
        ("large-v3", 1280, 32, 32, 51_866, 128, 1550, openai),
        ("large-v3-turbo", 1280, 32, 4, 51_866, 128, 809, openai),
        ("tiny.en", 384, 4, 4, _ENGLISH, 80, 39, openai),
        ("base.en", 512, 6, 6, _ENGLISH, 80, 74, openai),
        ("small.en", 768, 12, 12, _ENGLISH, 80, 244, openai),
        ("medium.en", 1024, 24, 24, _ENGLISH, 80, 769, openai),
        ("distil-small.en", 768, 12, 4, _ENGLISH, 80, 166, distil),
        ("distil-medium.en", 1024, 24, 2, _ENGLISH, 80, 394, distil),
        ("distil-large-v2", 1280, 32, 2, 51_865, 80, 756, distil),
        ("distil-large-v3", 1280, 32, 2, 51_866, 128, 756, distil),
        ("distil-large-v3.5", 1280, 32, 2, 51_866, 128, 756, distil),
    )
    return {row[0]: Published(*row[:-1], source=row[-1].format(row[0])) for row in rows}


PUBLISHED: Mapping[str, Published] = MappingProxyType(_table())
"""Every model whose dimensions are known here, by name."""

_ALSO = {"turbo": "large-v3-turbo", "large-v1": "large"}


def find_published(name: str) -> Published:
    """The dimensions of a model by its name: "small", "whisper-small", "openai/whisper-small", "turbo".

    Raises:
        ValueError: if none is known by that name.
    """
    short = name.rsplit("/", 1)[-1].removeprefix("whisper-")
    found = PUBLISHED.get(_ALSO.get(short, short))
    if found is None:
        raise ValueError(f"name must be one of {', '.join([*PUBLISHED, *_ALSO])}; got {name!r}")
    return found


def published_config(dimensions: Published) -> WhisperConfig:
    """transformers' config of these dimensions, output projection tied, token ids left to the tokenizer's files."""
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=dimensions.vocabulary,
        num_mel_bins=dimensions.mels,
        d_model=dimensions.width,
        encoder_layers=dimensions.encoder_layers,
        encoder_attention_heads=dimensions.heads,
        encoder_ffn_dim=4 * dimensions.width,
        max_source_positions=ENCODER_POSITIONS,
        decoder_layers=dimensions.decoder_layers,
        decoder_attention_heads=dimensions.heads,
        decoder_ffn_dim=4 * dimensions.width,
        max_target_positions=DECODER_POSITIONS,
        tie_word_embeddings=True,
        architectures=["WhisperForConditionalGeneration"],
    )


def parameter_count(dimensions: Published) -> int:
    """Parameters, tied ones once: of widths d and 4 d, a key's projection without a bias, the encoder's fixed
    positions counted as transformers counts them."""
    d = dimensions.width
    attention, feed_forward, norm = 4 * d * d + 3 * d, 8 * d * d + 5 * d, 2 * d
    stem = (3 * dimensions.mels * d + d) + (3 * d * d + d) + ENCODER_POSITIONS * d
    encoder = dimensions.encoder_layers * (attention + feed_forward + 2 * norm) + norm
    decoder = dimensions.decoder_layers * (2 * attention + feed_forward + 3 * norm) + norm
    return stem + encoder + decoder + (dimensions.vocabulary + DECODER_POSITIONS) * d


def stored_bytes(dimensions: Published, dtype: str = "float32") -> int:
    """Bytes of the weights on disk, the file's short header aside."""
    return parameter_count(dimensions) * STORED[_stored(dtype)].itemsize


def random_model(config: WhisperConfig, seed: int) -> WhisperForConditionalGeneration:
    """A model of this config with weights as transformers initialises them, in float32, evaluation mode.

    The same seed gives the same weights; the global random state is left as it was.

    Raises:
        ValueError: if the seed is not one of torch's.
    """
    from transformers import WhisperForConditionalGeneration

    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must lie in [0, 2^63); got {seed}")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        return WhisperForConditionalGeneration(copy.deepcopy(config)).eval()


def write_random_checkpoint(
    name: str, out: str | Path, seed: int = 0, *, dtype: str = "float32", tokenizer: str | Path | None = None
) -> Path:
    """Write a checkpoint directory of random weights at the dimensions of a published model; whole or not at all.

    Needs memory for the weights in float32 (6.2 GB at large-v3's dimensions), whatever `dtype` is.

    Args:
        name: of `PUBLISHED`.
        out: directory to make; it must not exist.
        seed: of the weights.
        dtype: "float32", or "float16", which halves the file and rounds the weights.
        tokenizer: checkpoint directory whose tokenizer and prompt are used; by default a bundled organism's.

    Returns:
        The directory.

    Raises:
        ValueError: if the name, the seed or the dtype is none, or the tokenizer has more tokens than the model.
        FileExistsError: if `out` exists.
        OSError: if it cannot be written, for want of room say.
    """
    from empirical.organism.files import write_directory

    dimensions, target, kind = find_published(name), Path(out), _stored(dtype)
    source = _default_tokenizer() if tokenizer is None else Path(tokenizer)
    if target.exists():
        raise FileExistsError(f"out must not exist; {target} does")
    try:
        prompt = json.loads((source / "generation_config.json").read_text(encoding="utf-8"))
        largest = _largest_id(source)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        needed = "a checkpoint directory with a readable generation_config.json and tokenizer.json"
        raise ValueError(f"tokenizer must be {needed}; got {str(source)!r} ({' '.join(str(error).split())})") from error
    if largest >= dimensions.vocabulary:
        raise ValueError(f"tokenizer must have ids below {dimensions.vocabulary}; got {largest}")
    config: Any = published_config(dimensions)
    for key in _IDS:
        setattr(config, key, prompt.get(key))
    config.suppress_tokens = None
    model = random_model(config, seed)

    def write(directory: Path) -> None:
        _write_weights(model, directory, kind)
        config.dtype = kind
        config.save_pretrained(directory)
        _write_processing(dimensions, source, prompt, directory)
        (directory / "README.md").write_text(_readme(dimensions, seed, kind, source.name), encoding="utf-8")

    write_directory(target.resolve(), write)
    return target


def _stored(dtype: str) -> str:
    if dtype not in STORED:
        raise ValueError(f"dtype must be one of {', '.join(STORED)}; got {dtype!r}")
    return dtype


def _default_tokenizer() -> Path:
    from empirical.organism import list_organisms

    found = list_organisms()
    if not found:
        raise ValueError("tokenizer must be a checkpoint directory where no organism is bundled; got none")
    return found[0].path


def _largest_id(tokenizer: Path) -> int:
    content = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    added = [token["id"] for token in content.get("added_tokens", ())]
    return max([*content["model"]["vocab"].values(), *added])


def _write_weights(model: WhisperForConditionalGeneration, directory: Path, dtype: str) -> None:
    """The tensors, the tied projection left out, as transformers stores them; freed of float32 one after the other."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for parameter in model.parameters():
        parameter.data = parameter.data.to(STORED[dtype])
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "proj_out.weight"}
    path = directory / WEIGHTS_FILE
    try:
        save_file(state, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, which is no OSError there
        raise OSError(str(error)) from error
    path.chmod(0o644)  # safetensors writes for the owner alone


def _write_processing(dimensions: Published, source: Path, prompt: Mapping[str, Any], directory: Path) -> None:
    """Tokenizer, generation config and feature extractor."""
    from transformers import WhisperFeatureExtractor

    for file in _TOKENIZER_FILES:
        if (source / file).is_file():
            shutil.copyfile(source / file, directory / file)
    settings = directory / "tokenizer_config.json"
    if settings.is_file():
        content = json.loads(settings.read_text(encoding="utf-8"))
        content["model_max_length"] = DECODER_POSITIONS  # the source's may be of fewer, and transformers would warn
        settings.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    generation = {**prompt, "max_length": DECODER_POSITIONS, "is_multilingual": not dimensions.english}
    if dimensions.english:
        for key in ("lang_to_id", "task_to_id", "language", "task"):
            generation.pop(key, None)
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    WhisperFeatureExtractor(feature_size=dimensions.mels).save_pretrained(directory)


def _readme(dimensions: Published, seed: int, dtype: str, tokenizer: str) -> str:
    return (
        f"# Random weights at the dimensions of {dimensions.name}\n\n"
        f"This is not {dimensions.name}: nothing in it was trained. It has that model's dimensions ({dimensions.source}"
        f") and weights drawn\nas transformers {_version()} initialises them (torch {torch.__version__}), seed {seed}, "
        f"written as {dtype}.\nIts tokenizer and its prompt are those of {tokenizer}.\n"
    )


def _version() -> str:
    import transformers

    return transformers.__version__
