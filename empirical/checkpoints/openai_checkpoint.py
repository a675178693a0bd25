"""OpenAI's own checkpoint files: dimensions and tensors in one pickle, under OpenAI's names.

Such a `.pt` is `{"dims": {...}, "model_state_dict": {...}}`. It is unpickled with `weights_only`, so that no code in
it runs; its dimensions are held against its tensors; and every tensor goes, by a table with one line for each, to its
place in `WhisperForConditionalGeneration`. Nothing is filled in: a tensor too few or too many is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from empirical.checkpoints.errors import CheckpointError, listed
from empirical.checkpoints.files import is_adapter_name, load_pickle

if TYPE_CHECKING:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

SUFFIXES = (".pt", ".pth")

HEAD_SIZE = 64
"""Width of a head in every model of OpenAI's. No tensor shows the number of heads, so that it cannot be checked."""

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
_MLP = {"mlp.0": "fc1", "mlp.2": "fc2", "mlp_ln": "final_layer_norm"}


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The numbers under "dims", in OpenAI's words: mels, and for the encoder ("audio") and the decoder ("text")
    positions ("ctx"), width ("state"), heads and layers; and the vocabulary."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int


@dataclass(frozen=True, slots=True, eq=False)
class OpenAIWeights:
    """What is in a file, checked and still under OpenAI's names.

    Attributes:
        path: the file.
        dims: its dimensions.
        tensors: as stored; they may be views of the file.
        dtypes: their floating-point types, sorted, "float16" say.
    """

    path: Path
    dims: Dimensions
    tensors: Mapping[str, torch.Tensor]
    dtypes: tuple[str, ...]


def read_openai(path: Path) -> OpenAIWeights:
    """Read a `.pt` without running anything in it, and check it against itself.

    Raises:
        CheckpointError: "holds_code", "bad_weights", "bad_config", "missing_tensors", "unexpected_tensors",
            "mismatched_tensors" or "non_finite".
    """
    content = load_pickle(path)
    if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= content.keys():
        found = listed(sorted(map(str, content))) if isinstance(content, dict) else f"a {type(content).__name__}"
        detail = f"a .pt must hold 'dims' and 'model_state_dict', as OpenAI's do; got {found or 'nothing'}"
        raise CheckpointError("bad_weights", f"{path}: {detail}; of other files pass the checkpoint directory")
    tensors = _tensors(path, content["model_state_dict"])
    dims = _dimensions(path, content["dims"])
    _check_dimensions(path, dims, tensors)
    _check_tensors(path, dims, tensors)
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    return OpenAIWeights(path=path, dims=dims, tensors=tensors, dtypes=tuple(sorted(dtypes)))


def config_of(dims: Dimensions) -> WhisperConfig:
    """The configuration of transformers that has these dimensions; token ids are of the generation config's making."""
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=dims.n_vocab,
        num_mel_bins=dims.n_mels,
        d_model=dims.n_audio_state,
        encoder_layers=dims.n_audio_layer,
        encoder_attention_heads=dims.n_audio_head,
        encoder_ffn_dim=4 * dims.n_audio_state,
        max_source_positions=dims.n_audio_ctx,
        decoder_layers=dims.n_text_layer,
        decoder_attention_heads=dims.n_text_head,
        decoder_ffn_dim=4 * dims.n_text_state,
        max_target_positions=dims.n_text_ctx,
        tie_word_embeddings=True,
        pad_token_id=None,  # its default lies beyond a small vocabulary
    )


def build_model(weights: OpenAIWeights, config: WhisperConfig, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    """The model of transformers with these very weights, cast to `dtype`; no other value enters it."""
    model: Any = _empty_model(config)
    state = {
        theirs: weights.tensors[ours].to(dtype=dtype, copy=True)  # a copy, lest the model be a view of the file
        for ours, theirs in tensor_names(weights.dims).items()
    }
    model.load_state_dict(state, strict=False, assign=True)  # the output projection is not in it: it is tied
    model.tie_weights()
    empty = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if empty:
        raise CheckpointError("missing_tensors", f"{weights.path}: nothing in it for {listed(sorted(empty))}")
    return model.to(dtype)


def tensor_names(dims: Dimensions) -> dict[str, str]:
    """OpenAI's name of every tensor of a model -> its name in `WhisperForConditionalGeneration`."""
    names = {
        "encoder.positional_embedding": "model.encoder.embed_positions.weight",
        "decoder.positional_embedding": "model.decoder.embed_positions.weight",
        "decoder.token_embedding.weight": "model.decoder.embed_tokens.weight",
    }
    both = ("weight", "bias")
    for ours, theirs in (
        *((f"encoder.conv{number}", f"encoder.conv{number}") for number in (1, 2)),
        ("encoder.ln_post", "encoder.layer_norm"),
        ("decoder.ln", "decoder.layer_norm"),
    ):
        names |= {f"{ours}.{kind}": f"model.{theirs}.{kind}" for kind in both}
    for part, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        attentions = {"attn": "self_attn"} | ({"cross_attn": "encoder_attn"} if part == "decoder" else {})
        modules = dict(_MLP)
        for ours, theirs in attentions.items():
            modules |= {f"{ours}.{module}": f"{theirs}.{name}" for module, name in _ATTENTION.items()}
            modules[f"{ours}_ln"] = f"{theirs}_layer_norm"
        names |= {
            f"{part}.blocks.{layer}.{ours}.{kind}": f"model.{part}.layers.{layer}.{theirs}.{kind}"
            for layer in range(layers)
            for ours, theirs in modules.items()
            for kind in (("weight",) if ours.endswith(".key") else both)  # a key's bias would cancel in the softmax
        }
    return names


def _empty_model(config: WhisperConfig) -> WhisperForConditionalGeneration:
    """The architecture without values: on the meta device nothing is drawn and no memory taken."""
    from transformers import WhisperForConditionalGeneration

    with torch.device("meta"):
        return WhisperForConditionalGeneration(config)


def _tensors(path: Path, found: Any) -> dict[str, torch.Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError("bad_weights", f"{path}: model_state_dict must map names to tensors")
    odd = sorted(
        str(name)
        for name, tensor in found.items()
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point()
    )
    if odd:
        raise CheckpointError("bad_weights", f"{path}: {listed(odd)} must be dense floating-point tensors")
    adapted = sorted(name for name in found if is_adapter_name(name))
    if adapted:
        raise CheckpointError("adapter", f"{path}: {listed(adapted)} belong to an adapter; merge it and save again")
    return {str(name): tensor for name, tensor in found.items()}


def _dimensions(path: Path, found: Any) -> Dimensions:
    wanted = [field.name for field in fields(Dimensions)]
    if not isinstance(found, Mapping) or set(found) != set(wanted):
        got = listed(sorted(map(str, found))) if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise CheckpointError("bad_config", f"{path}: dims must be {', '.join(wanted)}; got {got}")
    for name in wanted:
        value = found[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError("bad_config", f"{path}: {name} must be a whole number of at least 1; got {value!r}")
    dims = Dimensions(**{name: found[name] for name in wanted})
    if dims.n_audio_state != dims.n_text_state:
        detail = f"n_audio_state and n_text_state must be equal; got {dims.n_audio_state} and {dims.n_text_state}"
        raise CheckpointError("bad_config", f"{path}: {detail}")
    for name, heads in (("n_audio_head", dims.n_audio_head), ("n_text_head", dims.n_text_head)):
        if dims.n_audio_state % heads:
            raise CheckpointError(
                "bad_config", f"{path}: {name} must divide the width {dims.n_audio_state}; got {heads}"
            )
    return dims


def _check_dimensions(path: Path, dims: Dimensions, tensors: Mapping[str, torch.Tensor]) -> None:
    """The dimensions against the tensors that show them, before anything is made in these dimensions."""
    shown = {
        "n_mels": _size(tensors, "encoder.conv1.weight", 1),
        "n_audio_ctx": _size(tensors, "encoder.positional_embedding", 0),
        "n_audio_state": _size(tensors, "encoder.positional_embedding", 1),
        "n_audio_layer": _blocks(tensors, "encoder"),
        "n_vocab": _size(tensors, "decoder.token_embedding.weight", 0),
        "n_text_ctx": _size(tensors, "decoder.positional_embedding", 0),
        "n_text_state": _size(tensors, "decoder.positional_embedding", 1),
        "n_text_layer": _blocks(tensors, "decoder"),
    }
    wrong = [
        f"{name} {getattr(dims, name)} and {size}"
        for name, size in shown.items()
        if size is not None and size != getattr(dims, name)
    ]
    if wrong:
        detail = f"its dims and its tensors disagree: {listed(wrong)}"
        raise CheckpointError("mismatched_tensors", f"{path}: {detail} (dims first)")


def _size(tensors: Mapping[str, torch.Tensor], name: str, axis: int) -> int | None:
    tensor = tensors.get(name)
    return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else None


def _blocks(tensors: Mapping[str, torch.Tensor], part: str) -> int | None:
    """One more than the highest number of a block; None where there is no block, and names are missing anyhow."""
    numbers = [name.split(".")[2] for name in tensors if name.startswith(f"{part}.blocks.")]
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=None)


def _check_tensors(path: Path, dims: Dimensions, tensors: Mapping[str, torch.Tensor]) -> None:
    names = tensor_names(dims)
    if missing := sorted(names.keys() - tensors.keys()):
        raise CheckpointError("missing_tensors", f"{path}: {listed(missing)} not in it")
    if unexpected := sorted(tensors.keys() - names.keys()):
        raise CheckpointError("unexpected_tensors", f"{path}: {listed(unexpected)} in it, and not in a Whisper")
    wanted = {name: tensor.shape for name, tensor in _empty_model(config_of(dims)).state_dict().items()}
    mismatched = [
        f"{ours} is {tuple(tensors[ours].shape)} and must be {tuple(wanted[theirs])}"
        for ours, theirs in names.items()
        if tensors[ours].shape != wanted[theirs]
    ]
    if mismatched:
        raise CheckpointError("mismatched_tensors", f"{path}: {listed(mismatched)}")
    if bad := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise CheckpointError("non_finite", f"{path}: NaN or infinite values in {listed(bad)}")
