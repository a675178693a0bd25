"""Null models in a file: measured, stripped of what nothing reads, and stamped with how to make them again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.hearing import TokensFrom
from empirical.jacobians.measurement import State
from empirical.nulls.inputs import CLIPS, CONDITIONS, null_inputs
from empirical.nulls.measuring import Contexts, measure_nulls
from empirical.nulls.models import KINDS
from empirical.speech.clips import Clip, bundled_clips

# Lists of a draw that nothing reads; tokens and transcript are the trained model's, and the same in every draw.
_LEFT_OUT = ("tokens", "residual", "converged", "transcript")
_METADATA_KEY = b"spi"


def write_nulls(
    checkpoint_ref: str | Path,
    clips: Sequence[Clip],
    out: str | Path,
    draws: int = 20,
    seed: int = 0,
    *,
    dtype: str = "float32",
    conditions: Sequence[str] = CONDITIONS,
    kinds: Sequence[str] = KINDS,
    states: Sequence[State] = ("position",),
    contexts: Contexts | None = None,
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Measure the null models of a checkpoint and write them as a Parquet file, atomically.

    The file leaves out columns that every draw would repeat or that nothing reads; its metadata (key "spi") name the
    weights, the inputs and the command that makes it again. Arguments as of `null_inputs` and `measure_nulls`.

    Returns:
        Number of rows.

    Raises:
        CheckpointError, AudioError, StressError, ReferenceTokensError, ValueError: as loading and measuring do.
    """
    checkpoint = load_checkpoint(checkpoint_ref, dtype=dtype)
    inputs = null_inputs(checkpoint, clips, conditions, seed=seed, tokens=tokens, max_tokens=max_tokens)
    table = measure_nulls(checkpoint, inputs, draws, seed, progress, kinds=kinds, states=states, contexts=contexts)
    stored = pa.Table.from_pandas(table.drop(columns=list(_LEFT_OUT)), preserve_index=False)
    provenance = {
        "model": {"name": checkpoint.name, "sha256": checkpoint.sha256},
        "clips": [clip.name for clip in clips],
        "conditions": list(conditions),
        "kinds": list(dict.fromkeys(table["null"])),
        "states": list(states),
        "contexts": contexts or "all in a state of one position, last in a state of all",
        "tokens_from": tokens,
        "tokens": {f"{heard.clip}/{heard.condition}": list(heard.tokens) for heard in inputs},
        "draws": draws,
        "seed": seed,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__},
        "command": _command(
            checkpoint.name,
            clips,
            Path(out).name,
            {"draws": draws, "seed": seed, "dtype": dtype}
            | _changed(
                limit=len(clips),
                conditions=tuple(conditions),
                kinds=tuple(kinds),
                states=tuple(states),
                contexts=contexts,
                tokens=tokens,
                max_tokens=max_tokens,
            ),
        ),
    }
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    stamped = stored.replace_schema_metadata({_METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})
    try:
        pq.write_table(stamped, temporary, compression="zstd", write_page_checksum=True)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return stored.num_rows


def _changed(**given: Any) -> dict[str, Any]:
    """Options that are not as they are by default, as the command line takes them."""
    default = {"limit": CLIPS, "conditions": CONDITIONS, "kinds": KINDS, "states": ("position",), "tokens": "own"}
    changed = {name: value for name, value in given.items() if value is not None and value != default.get(name)}
    return {name: value if isinstance(value, (str, int)) else ",".join(value) for name, value in changed.items()}


def _command(name: str, clips: Sequence[Clip], out: str, options: dict[str, Any]) -> str:
    """The command that makes the file again; directories stand as DIR, for records name no machine's paths."""
    bundled = {clip.path for clip in bundled_clips()}
    audio = "" if all(clip.path in bundled for clip in clips) else " --audio DIR"
    said = "".join(f" --{option.replace('_', '-')} {value}" for option, value in options.items())
    return f"spi nulls --model {name} --out {out}{audio}{said}"
