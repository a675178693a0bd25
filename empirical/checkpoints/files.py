"""The files of a checkpoint, before a model is made of them: which there are, what they hold, and what they hash to."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from empirical.checkpoints.errors import CheckpointError, first_line, listed

_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, in the order in which they are looked for: safetensors first.

    Raises:
        CheckpointError: "missing_file" or "bad_config".
    """
    for single, index in zip(_WEIGHT_FILES, _INDEX_FILES, strict=True):
        if (directory / single).is_file():
            return [directory / single]
        if (directory / index).is_file():
            names = sorted(set(read_json(directory, index).get("weight_map", {}).values()))
            for name in names:
                if not (directory / name).is_file():
                    raise CheckpointError("missing_file", f"{directory}: {index} names {name}, which is not there")
            return [directory / name for name in names]
    raise CheckpointError("missing_file", f"{directory}: no model.safetensors (nor pytorch_model.bin) in it")


def read_json(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    if not path.is_file():
        raise CheckpointError("missing_file", f"{directory}: no {name} in it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError("bad_config", f"{path}: not readable as JSON ({first_line(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError("bad_config", f"{path}: must hold a JSON object")
    return content


def load_pickle(path: Path, *, map_location: str = "cpu") -> Any:
    """What `torch.save` wrote to a file, if it is tensors and plain containers alone.

    Raises:
        CheckpointError: "holds_code" or "bad_weights".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them is an error below
            # Mapped into memory where the format has it: large-v3 is 3 GB.
            return torch.load(path, map_location=map_location, weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if asked := _asked_for(path, error):
            detail = f"asks for {listed(asked)} on loading; weights need no code, and none was run"
            advice = "save it again as tensors and plain numbers"
            raise CheckpointError("holds_code", f"{path}: {detail}: {advice}") from None
        # Torch's own text advises to load it without the check.
        detail = "not a file of torch.save with tensors and plain containers alone"
        raise CheckpointError("bad_weights", f"{path}: {detail}") from None
    except Exception as error:  # zip, pickle and torch each have their own
        raise CheckpointError("bad_weights", f"{path}: not readable as weights ({first_line(error)})") from None


def stored_dtypes(ref: str, weights: Sequence[Path]) -> dict[str, str]:
    """Names and types of the stored tensors, "float16" say; read without the tensors, and without running code.

    Raises:
        CheckpointError: "bad_weights", "holds_code", or "adapter" where the names are those of an adapter.
    """
    from safetensors import safe_open

    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    found: dict[str, str] = {}
    for path in weights:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    kinds = {key: str(file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118
            except Exception as error:  # the reader's own class, or the system's
                raise CheckpointError("bad_weights", f"{path}: not readable as weights ({first_line(error)})") from None
            found |= {key: names.get(kind, kind.lower()) for key, kind in kinds.items()}
        else:
            content = load_pickle(path, map_location="meta")
            if not isinstance(content, Mapping):
                raise CheckpointError("bad_weights", f"{path}: must map names to tensors")
            tensors = {key: each for key, each in content.items() if isinstance(each, torch.Tensor)}
            found |= {str(key): str(each.dtype).removeprefix("torch.") for key, each in tensors.items()}
    if adapted := sorted(name for name in found if is_adapter_name(name)):
        detail = "belong to an adapter that is not merged; merge it (peft: merge_and_unload) and save the model again"
        raise CheckpointError("adapter", f"{ref}: {listed(adapted)} {detail}")
    return found


def refuse_adapter(ref: str, directory: Path) -> None:
    """An adapter's weights are not in the model's own, and without peft transformers passes over them in silence."""
    if not (directory / "adapter_config.json").is_file():
        return
    content = read_json(directory, "adapter_config.json")
    base, kind = content.get("base_model_name_or_path") or "its base model", content.get("peft_type") or "peft"
    merge = "merge it with PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(directory)"
    detail = f"adapter_config.json says that it is a {kind} adapter of {base}; {merge} and pass that directory"
    if (directory / "config.json").is_file():
        detail += ", or remove adapter_config.json if its weights are merged already"
    raise CheckpointError("adapter", f"{ref}: {detail}")


def is_adapter_name(name: str) -> bool:
    """Whether a tensor of this name belongs to an adapter that is not merged (peft's names)."""
    return any(part.startswith(("lora_", "base_layer", "ia3_", "modules_to_save")) for part in name.split("."))


def sha256_of(weights: list[Path]) -> str:
    digests: list[tuple[str, str]] = []
    for path in weights:
        with open(path, "rb") as file:
            digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests).encode()).hexdigest()


def _asked_for(path: Path, error: Exception) -> list[str]:
    """Functions and classes that a pickle names beyond what weights need, read from its text; [] if it names none."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # not a zip of torch's; then the first one, which the error names
        return re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
