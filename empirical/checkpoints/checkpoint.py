"""A Whisper checkpoint, loaded strictly or not at all: a directory, a model of the hub, or one of OpenAI's `.pt` files.

`from_pretrained` fills missing tensors with random numbers and only warns, and a file full of NaN loads. A measurement
of such a model would look like any other, so here each of these is an error that names the tensors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from empirical.checkpoints import hub, openai_checkpoint, openai_tokens
from empirical.checkpoints.device import resolve_device
from empirical.checkpoints.errors import CheckpointError, first_line, listed
from empirical.checkpoints.files import read_json, refuse_adapter, sha256_of, stored_dtypes, weight_files
from empirical.speech.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:  # transformers takes seconds to import, and half of what this package does goes without it
    from transformers import (
        GenerationConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

__all__ = [
    "DTYPES",
    "Checkpoint",
    "CheckpointError",
    "from_model",
    "load_checkpoint",
    "quiet_transformers",
]

DTYPES = MappingProxyType({"float32": torch.float32, "float64": torch.float64})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to be measured: evaluation mode, eager attention, no gradients.

    Attributes:
        model: in float32 or float64.
        processor: feature extractor and tokenizer together.
        feature_extractor: audio to log-mel.
        tokenizer: text to ids.
        name: last part of the directory's or the hub id's name; a file's without its suffix.
        ref: what was asked for.
        sha256: of the weight file; of the list of names and hashes where there are several.
        commit: of a hub model, the full hash of the commit that its files are of; "" for what was not of the hub.
        window_s: length of the audio window, seconds.
        window_samples: the same in samples at 16 kHz.
        dtype: "float32" or "float64".
        notes: codes of what was done on loading: "upcast:float16" and "upcast:bfloat16" (stored in half precision),
            "no_generation_config", "dither_off", "own_proj_out" (the file has an output projection of its own where
            the config ties it to the embedding), "commit:HASH", and of a `.pt` "openai_format", "tokenizer:FILE",
            "generation_defaults" (no generation_config.json beside it) and "head_size:N" (not OpenAI's 64: no tensor
            shows the number of heads).
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
    commit: str = ""

    @property
    def device(self) -> torch.device:
        """Where the model is, and everything that is measured of it."""
        return self.model.device

    def with_model(self, model: WhisperForConditionalGeneration, *notes: str) -> Checkpoint:
        """The same checkpoint around another model of the same config (a null model, say), marked by notes."""
        return dataclasses.replace(self, model=model.eval().requires_grad_(False), notes=(*self.notes, *notes))


def load_checkpoint(
    ref: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    companion: str | Path | None = None,
    device: str = "cpu",
) -> Checkpoint:
    """Load a Whisper from a directory, from one of OpenAI's `.pt` files, or from the hub by its id.

    Args:
        ref: a checkpoint directory of `WhisperForConditionalGeneration`; a `.pt` file; or a hub id where no such path
            exists, "openai/whisper-tiny", with "@" and a revision behind it if it is to be pinned there. A model of
            the hub is taken from the local cache if it is complete there.
        dtype: "float32" or "float64"; half precision is cast up, with a note.
        revision: branch, tag or commit of a hub model.
        companion: for a `.pt`, the directory with its tokenizer (tokenizer.json, vocab.json, or OpenAI's
            multilingual.tiktoken or gpt2.tiktoken), and, where they are to stand instead of OpenAI's defaults,
            generation_config.json and preprocessor_config.json. By default the tokenizer is looked for beside the
            file, in the directory of its name without the suffix, and in OpenAI's package where that is installed.
        device: where the model goes once it is loaded and checked, of `device.DEVICES`.

    Raises:
        CheckpointError: with one of `CheckpointError.CODES`.
        DeviceError: if it cannot be measured on that device.
        ValueError: for another dtype, a revision of what is no hub id, a companion of what is no `.pt`.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}")
    place = resolve_device(device)
    path = Path(ref)
    pickled = path.is_file() and path.suffix in openai_checkpoint.SUFFIXES
    if companion is not None and not pickled:
        raise ValueError(f"companion belongs to a .pt file; got {str(ref)!r}")
    if path.exists() and revision is not None:
        raise ValueError(f"revision must be of a hub id; got the path {str(ref)!r}")
    if pickled:
        return _placed(_load_openai(path, dtype, None if companion is None else Path(companion)), place)
    name, directory, commit = _directory(str(ref), revision)
    refuse_adapter(str(ref), directory)
    config = read_json(directory, "config.json")
    if config.get("model_type") != "whisper":
        found = config.get("model_type", "no model type")
        raise CheckpointError("not_whisper", f"{ref}: config.json must be of model_type 'whisper'; got {found!r}")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method", "some method") if isinstance(quantised, Mapping) else quantised
        detail = f"its weights are quantised ({method}), and have no derivatives to measure; pass the model before that"
        raise CheckpointError("bad_weights", f"{ref}: {detail}")
    weights = weight_files(directory)
    stored = stored_dtypes(str(ref), weights)
    with quiet_transformers():
        feature_extractor = _feature_extractor(directory)
        tokenizer = _tokenizer(directory)
        _check_agreement(str(ref), config, feature_extractor, tokenizer)
        model = _model(str(ref), directory, dtype, config)
    notes = _upcasts(set(stored.values()))
    if model.config.tie_word_embeddings and model.proj_out.weight is not model.model.decoder.embed_tokens.weight:
        notes.append("own_proj_out")
    if (directory / "generation_config.json").is_file():
        read_json(directory, "generation_config.json")  # transformers would fall back in silence on a broken one
    else:
        notes.append("no_generation_config")
    if commit:
        notes.append(f"commit:{commit}")
    loaded = from_model(
        model, feature_extractor, tokenizer, name=name, ref=str(ref), sha256=sha256_of(weights), notes=notes
    )
    return _placed(dataclasses.replace(loaded, commit=commit), place)


def _placed(checkpoint: Checkpoint, device: torch.device) -> Checkpoint:
    checkpoint.model.to(device)  # type: ignore[arg-type]  # transformers' stubs hide nn.Module.to's overloads
    return checkpoint


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


def _load_openai(path: Path, dtype: str, companion: Path | None) -> Checkpoint:
    weights = openai_checkpoint.read_openai(path)
    dims = weights.dims
    file = openai_tokens.find_companion(path, dims, companion)
    notes = [*_upcasts(weights.dtypes), "openai_format", f"tokenizer:{file.name}"]
    heads = {dims.n_audio_state // dims.n_audio_head, dims.n_text_state // dims.n_text_head}
    notes += [f"head_size:{size}" for size in sorted(heads - {openai_checkpoint.HEAD_SIZE})]
    with quiet_transformers():
        whole = file.suffix != ".tiktoken"
        tokenizer = _tokenizer(file.parent) if whole else openai_tokens.tokenizer_of(file, dims)
        has_features = (file.parent / "preprocessor_config.json").is_file()
        features = _feature_extractor(file.parent) if has_features else openai_tokens.feature_extractor_of(dims)
        config = openai_checkpoint.config_of(dims)
        _check_agreement(str(path), config.to_dict(), features, tokenizer)
        openai_tokens.check_places(path, dims, tokenizer)
        if (file.parent / "generation_config.json").is_file():
            generation = _generation_config(file.parent)
            openai_tokens.check_start(file.parent, generation, tokenizer)
        else:
            generation = openai_tokens.generation_defaults(path, dims, tokenizer)
            notes.append("generation_defaults")
        model = openai_checkpoint.build_model(weights, config, DTYPES[dtype])
        _set_generation(model, generation)
    return from_model(model, features, tokenizer, name=path.stem, ref=str(path), sha256=sha256_of([path]), notes=notes)


def _set_generation(model: WhisperForConditionalGeneration, generation: GenerationConfig) -> None:
    """The generation config, and the ids that the model's own config repeats of it."""
    model.generation_config = generation
    for name in ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(generation, name))


def _generation_config(directory: Path) -> GenerationConfig:
    from transformers import GenerationConfig

    read_json(directory, "generation_config.json")
    try:
        return GenerationConfig.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # whatever a broken file makes of this library, it is one error here
        detail = f"its generation config does not load ({first_line(error)})"
        raise CheckpointError("bad_config", f"{directory}: {detail}") from None


def _directory(ref: str, revision: str | None) -> tuple[str, Path, str]:
    """The name of what was asked for, the directory that holds it, and its commit if it is of the hub."""
    path = Path(ref)
    if path.is_dir():
        return path.name if path.name not in ("", ".", "..") else path.resolve().name, path, ""
    if path.exists():
        detail = "a checkpoint is a directory or a .pt file of OpenAI's; this is another file"
        raise CheckpointError("not_a_directory", f"{ref}: {detail}")
    model, pinned = hub.split_revision(ref)
    if not hub.looks_like_id(model):
        detail = "no such directory or .pt file, and not an id of the form owner/name or owner/name@revision"
        raise CheckpointError("missing", f"{ref}: {detail}")
    if revision is not None and pinned is not None and revision != pinned:
        raise ValueError(f"revision must be the one in {ref!r} where there is one; got {revision!r}")
    pinned = pinned if revision is None else revision
    try:
        directory = hub.fetch(model, pinned)
    except hub.HubError as error:
        if error.reached:
            raise CheckpointError("no_revision" if error.revision else "not_found", f"{model}: {error}") from None
        tried = f"{ref}: neither a directory here nor in the local cache, and the hub did not answer ({error})"
        advice = "without network, pass the directory of a downloaded checkpoint: --model /path/to/whisper-tiny"
        raise CheckpointError("unreachable", f"{tried}\n{advice}") from None
    return model.split("/")[1], directory, hub.commit_of(directory)


def _feature_extractor(directory: Path) -> WhisperFeatureExtractor:
    from transformers import WhisperFeatureExtractor

    names = ("preprocessor_config.json", "processor_config.json")
    if not any((directory / name).is_file() for name in names):
        raise CheckpointError("missing_file", f"{directory}: no preprocessor_config.json in it")
    try:
        return WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # whatever a broken file makes of this library, it is one error here
        raise CheckpointError(
            "bad_config", f"{directory}: its feature extractor does not load ({first_line(error)})"
        ) from None


def _tokenizer(directory: Path) -> WhisperTokenizer:
    from transformers import WhisperTokenizer

    if not ((directory / "tokenizer.json").is_file() or (directory / "vocab.json").is_file()):
        raise CheckpointError("missing_file", f"{directory}: no tokenizer.json (nor vocab.json) in it")
    try:
        return WhisperTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # as above
        raise CheckpointError(
            "bad_tokenizer", f"{directory}: its tokenizer does not load ({first_line(error)})"
        ) from None


def _model(ref: str, directory: Path, dtype: str, config: Mapping[str, Any]) -> WhisperForConditionalGeneration:
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
        raise CheckpointError("bad_weights", f"{ref}: its weights do not load ({first_line(error)})") from None
    model, info = loaded
    for key, code, words in (
        ("mismatched_keys", "mismatched_tensors", "have another shape than the config says"),
        ("missing_keys", "missing_tensors", "are not in the weight file"),
        ("unexpected_keys", "unexpected_tensors", "are in the weight file and not in the model"),
    ):
        if info[key]:
            names = sorted(each if isinstance(each, str) else each[0] for each in info[key])
            kinds = config.get("architectures") or ["WhisperForConditionalGeneration"]
            if not {"WhisperForConditionalGeneration", "WhisperModel"} & set(kinds):
                detail = (
                    f"must be a WhisperForConditionalGeneration; got {listed(kinds)}, where {listed(names)} {words}"
                )
                raise CheckpointError("not_whisper", f"{ref}: {detail}")
            raise CheckpointError(code, f"{ref}: {listed(names)} {words}")
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
        raise CheckpointError("non_finite", f"{ref}: NaN or infinite values in {listed(bad)}")


def _upcasts(kinds: Iterable[str]) -> list[str]:
    return [f"upcast:{kind}" for kind in sorted(kinds) if kind not in ("float32", "float64")]
