"""A Whisper checkpoint, loaded strictly or not at all.

`from_pretrained` fills missing tensors with random numbers and only warns, and a file full of NaN loads. A measurement
of such a model would look like any other, so here each of these is an error that names the tensors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from empirical import hub
from empirical.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:  # transformers takes seconds to import, and half of what this package does goes without it
    from transformers import (
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

DTYPES = MappingProxyType({"float32": torch.float32, "float64": torch.float64})

_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_NAMES_SHOWN = 3


class CheckpointError(ValueError):
    """A checkpoint that cannot be measured.

    Attributes:
        code: one of `CODES`.
        message: one line; two for "unreachable": what was tried, and how to pass a directory.
    """

    CODES: ClassVar[MappingProxyType[str, str]] = MappingProxyType(
        {
            "missing": "no such directory, and not the id of a model on the hub",
            "unreachable": "a hub id, not in the local cache, and the hub cannot be reached",
            "not_found": "a hub id that the hub does not know or does not give out",
            "not_a_directory": "a file where a checkpoint directory was expected",
            "missing_file": "a directory without one of the files of a checkpoint",
            "bad_config": "a JSON file of the checkpoint that cannot be read",
            "not_whisper": "a model of another architecture",
            "bad_weights": "a weight file that cannot be read",
            "missing_tensors": "tensors of the architecture that the weight files do not have",
            "unexpected_tensors": "tensors in the weight files that the architecture does not have",
            "mismatched_tensors": "tensors of another shape than the config says",
            "non_finite": "tensors with NaN or infinite values",
            "wrong_mels": "a feature extractor with another number of mel bins than the model",
            "wrong_window": "a feature extractor whose frames do not fill the encoder's positions",
            "wrong_sample_rate": "a feature extractor for another rate than 16 kHz",
            "bad_tokenizer": "a tokenizer that cannot be read or has more tokens than the model",
        }
    )

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise KeyError(f"code must be one of CheckpointError.CODES; got {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[CheckpointError], tuple[str, str]]:
        return (type(self), (self.code, self.message))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to be measured: evaluation mode, eager attention, no gradients, on the CPU.

    Attributes:
        model: in float32 or float64.
        processor: feature extractor and tokenizer together.
        feature_extractor: audio to log-mel.
        tokenizer: text to ids.
        name: last part of the directory's or the hub id's name.
        ref: what was asked for.
        sha256: of the weight file; of the list of names and hashes where there are several.
        window_s: length of the audio window, seconds.
        window_samples: the same in samples at 16 kHz.
        dtype: "float32" or "float64".
        notes: codes of what was done on loading: "upcast:float16", "no_generation_config", "dither_off".
    """

    model: WhisperForConditionalGeneration
    processor: WhisperProcessor
    feature_extractor: WhisperFeatureExtractor
    tokenizer: WhisperTokenizer
    name: str
    ref: str
    sha256: str
    window_s: float
    window_samples: int
    dtype: str
    notes: tuple[str, ...]

    def with_model(self, model: WhisperForConditionalGeneration, *notes: str) -> Checkpoint:
        """The same checkpoint around another model of the same config (a null model, say), marked by notes."""
        return dataclasses.replace(self, model=model.eval().requires_grad_(False), notes=(*self.notes, *notes))


def load_checkpoint(ref: str | Path, *, dtype: str = "float32", revision: str | None = None) -> Checkpoint:
    """Load a Whisper from a directory, or from the hub by its id ("openai/whisper-tiny").

    Args:
        ref: a checkpoint directory of `WhisperForConditionalGeneration`, or a hub id where no such path exists. A
            model of the hub is taken from the local cache if it is complete there.
        dtype: "float32" or "float64"; half precision is cast up, with a note.
        revision: branch, tag or commit of a hub model.

    Raises:
        CheckpointError: with one of `CheckpointError.CODES`.
        ValueError: for another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}")
    directory = _directory(str(ref), revision)
    config = _read_json(directory, "config.json")
    if config.get("model_type") != "whisper":
        found = config.get("model_type", "no model type")
        raise CheckpointError("not_whisper", f"{ref}: config.json must be of model_type 'whisper'; got {found!r}")
    weights = weight_files(directory)
    with quiet_transformers():
        feature_extractor = _feature_extractor(directory)
        tokenizer = _tokenizer(directory)
        _check_agreement(str(ref), config, feature_extractor, tokenizer)
        model = _model(str(ref), directory, dtype)
    notes = [f"upcast:{kind}" for kind in _stored_dtypes(weights) if kind not in ("float32", "float64")]
    if (directory / "generation_config.json").is_file():
        _read_json(directory, "generation_config.json")  # transformers would fall back in silence on a broken one
    else:
        notes.append("no_generation_config")
    return from_model(
        model,
        feature_extractor,
        tokenizer,
        name=Path(str(ref)).name if Path(str(ref)).name not in ("", ".", "..") else directory.resolve().name,
        ref=str(ref),
        sha256=_sha256(weights),
        notes=notes,
    )


def from_model(
    model: WhisperForConditionalGeneration,
    feature_extractor: WhisperFeatureExtractor,
    tokenizer: WhisperTokenizer,
    *,
    name: str,
    ref: str = "",
    sha256: str = "",
    notes: Sequence[str] = (),
) -> Checkpoint:
    """A checkpoint around a model that is in memory already; the model is set to evaluation and eager attention.

    Raises:
        CheckpointError: "wrong_mels", "wrong_window", "wrong_sample_rate", "bad_tokenizer" or "non_finite".
        ValueError: if the model is not in float32 or float64.
    """
    from transformers import WhisperProcessor

    dtype = next((name for name, kind in DTYPES.items() if kind == model.dtype), None)
    if dtype is None:
        raise ValueError(f"the model must be in float32 or float64; got {model.dtype}")
    _check_agreement(name, model.config.to_dict(), feature_extractor, tokenizer)
    _check_finite(name, model)
    model.set_attn_implementation("eager")
    model.eval().requires_grad_(False)
    if getattr(feature_extractor, "dither", 0.0):
        feature_extractor.dither = 0.0  # random noise from global state, another at every call
        notes = [*notes, "dither_off"]
    samples = int(feature_extractor.n_samples)
    return Checkpoint(
        model=model,
        processor=WhisperProcessor(feature_extractor, tokenizer),
        feature_extractor=feature_extractor,
        tokenizer=tokenizer,
        name=name,
        ref=ref or name,
        sha256=sha256,
        window_s=samples / SAMPLE_RATE_HZ,
        window_samples=samples,
        dtype=dtype,
        notes=tuple(notes),
    )


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, in the order in which they are looked for: safetensors first.

    Raises:
        CheckpointError: "missing_file" or "bad_config".
    """
    for single, index in zip(_WEIGHT_FILES, _INDEX_FILES, strict=True):
        if (directory / single).is_file():
            return [directory / single]
        if (directory / index).is_file():
            names = sorted(set(_read_json(directory, index).get("weight_map", {}).values()))
            for name in names:
                if not (directory / name).is_file():
                    raise CheckpointError("missing_file", f"{directory}: {index} names {name}, which is not there")
            return [directory / name for name in names]
    raise CheckpointError("missing_file", f"{directory}: no model.safetensors (nor pytorch_model.bin) in it")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off our user's terminal: what matters of them is an error here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _directory(ref: str, revision: str | None) -> Path:
    path = Path(ref)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError("not_a_directory", f"{ref}: a checkpoint is a directory, this is a file")
    if not hub.looks_like_id(ref):
        raise CheckpointError("missing", f"{ref}: no such directory, and not an id of the form owner/name")
    try:
        return hub.fetch(ref, revision)
    except hub.HubError as error:
        if error.reached:
            raise CheckpointError("not_found", f"{ref}: {error}") from None
        tried = f"{ref}: neither a directory here nor in the local cache, and the hub did not answer ({error})"
        advice = "without network, pass the directory of a downloaded checkpoint: --model /path/to/whisper-tiny"
        raise CheckpointError("unreachable", f"{tried}\n{advice}") from None


def _read_json(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    if not path.is_file():
        raise CheckpointError("missing_file", f"{directory}: no {name} in it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError("bad_config", f"{path}: not readable as JSON ({_line(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError("bad_config", f"{path}: must hold a JSON object")
    return content


def _feature_extractor(directory: Path) -> WhisperFeatureExtractor:
    from transformers import WhisperFeatureExtractor

    names = ("preprocessor_config.json", "processor_config.json")
    if not any((directory / name).is_file() for name in names):
        raise CheckpointError("missing_file", f"{directory}: no preprocessor_config.json in it")
    try:
        return WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # whatever a broken file makes of this library, it is one error here
        raise CheckpointError(
            "bad_config", f"{directory}: its feature extractor does not load ({_line(error)})"
        ) from None


def _tokenizer(directory: Path) -> WhisperTokenizer:
    from transformers import WhisperTokenizer

    if not ((directory / "tokenizer.json").is_file() or (directory / "vocab.json").is_file()):
        raise CheckpointError("missing_file", f"{directory}: no tokenizer.json (nor vocab.json) in it")
    try:
        return WhisperTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # as above
        raise CheckpointError("bad_tokenizer", f"{directory}: its tokenizer does not load ({_line(error)})") from None


def _model(ref: str, directory: Path, dtype: str) -> WhisperForConditionalGeneration:
    from transformers import WhisperForConditionalGeneration

    try:
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            directory,
            dtype=DTYPES[dtype],
            attn_implementation="eager",
            local_files_only=True,
            weights_only=True,
            ignore_mismatched_sizes=True,  # so that they are listed below, like the rest
            output_loading_info=True,
        )
    except Exception as error:  # as above
        raise CheckpointError("bad_weights", f"{ref}: its weights do not load ({_line(error)})") from None
    model, info = loaded
    for key, code, words in (
        ("mismatched_keys", "mismatched_tensors", "have another shape than the config says"),
        ("missing_keys", "missing_tensors", "are not in the weight file"),
        ("unexpected_keys", "unexpected_tensors", "are in the weight file and not in the model"),
    ):
        if info[key]:
            names = sorted(each if isinstance(each, str) else each[0] for each in info[key])
            raise CheckpointError(code, f"{ref}: {_listed(names)} {words}")
    return model


def _check_agreement(
    ref: str, config: dict[str, Any], feature_extractor: WhisperFeatureExtractor, tokenizer: WhisperTokenizer
) -> None:
    rate = feature_extractor.sampling_rate
    if rate != SAMPLE_RATE_HZ:
        raise CheckpointError("wrong_sample_rate", f"{ref}: the feature extractor must be for 16000 Hz; got {rate}")
    mels, wanted = feature_extractor.feature_size, config.get("num_mel_bins", 80)
    if mels != wanted:
        raise CheckpointError(
            "wrong_mels", f"{ref}: the model takes {wanted} mel bins, its feature extractor gives {mels}"
        )
    frames, positions = feature_extractor.nb_max_frames, config.get("max_source_positions", 1500)
    if frames != 2 * positions:  # the second convolution of the encoder has stride 2
        detail = f"its feature extractor gives {frames} frames, {positions} encoder positions take {2 * positions}"
        raise CheckpointError("wrong_window", f"{ref}: {detail}")
    tokens, vocabulary = len(tokenizer), config.get("vocab_size", 51865)
    if tokens > vocabulary:
        detail = f"its tokenizer has {tokens} tokens, the model {vocabulary}"
        raise CheckpointError("bad_tokenizer", f"{ref}: {detail}")


def _check_finite(ref: str, model: WhisperForConditionalGeneration) -> None:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = sorted(name for name, tensor in tensors if not torch.isfinite(tensor).all())
    if bad:
        raise CheckpointError("non_finite", f"{ref}: NaN or infinite values in {_listed(bad)}")


def _stored_dtypes(weights: list[Path]) -> list[str]:
    """Floating-point types of the stored tensors; none for files that are not safetensors."""
    from safetensors import safe_open

    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    found: set[str] = set()
    for path in weights:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - not a mapping
            found |= {names.get(str(kind), str(kind).lower()) for kind in kinds}
    return sorted(found)


def _sha256(weights: list[Path]) -> str:
    digests: list[tuple[str, str]] = []
    for path in weights:
        with open(path, "rb") as file:
            digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()


def _listed(names: list[str]) -> str:
    """ "a, b, c and 4 more"."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _line(error: BaseException) -> str:
    """An error's first line, shortened."""
    lines = str(error).strip().splitlines() or [""]
    return (lines[0][:160] or type(error).__name__).rstrip(". ")
