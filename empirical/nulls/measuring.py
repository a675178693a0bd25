"""Null models measured along the *trained* model's transcripts (teacher-forced), so that length is controlled.

A share of the first direction, a gap or an alignment means little beside nothing. The models are those of
`empirical.nulls.models`; the null that keeps sigma, gap and dimension of every layer and draws its directions at
random needs no measuring, since its alignment has a law in closed form: `observables.RandomAlignment` (T22).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.hearing import prepare
from empirical.jacobians.measurement import STATES, State, measure_chain
from empirical.nulls.models import KINDS, null_model
from empirical.speech.audio import load_audio
from empirical.speech.clips import Clip, bundled_clips
from empirical.speech.stress import PoolClip
from empirical.task import LAYER_COLUMNS

CONDITIONS = ("clean", "noise")
CLIPS = 2
"""Clips, and the conditions each is heard under, on which every draw is measured."""

_K = 4
# Lists of a draw that nothing reads; tokens and transcript are the trained model's, and the same in every draw.
_LEFT_OUT = ("tokens", "residual", "converged", "transcript")
_METADATA_KEY = b"spi"


@dataclass(frozen=True, slots=True, eq=False)
class NullInput:
    """What a null model hears and is forced to say: the trained model's transcript of one clip and condition.

    Attributes:
        clip, condition: names.
        features: log-mel, (1, mels, frames).
        tokens: decoder input ids of the trained model's transcript.
        transcript: its text.
        truncated: the audio was cut at the window.
    """

    clip: str
    condition: str
    features: Tensor
    tokens: tuple[int, ...]
    transcript: str
    truncated: bool


def null_inputs(
    checkpoint: Checkpoint, clips: Sequence[Clip], conditions: Sequence[str] = CONDITIONS, *, seed: int = 0
) -> list[NullInput]:
    """Hear and transcribe clips by the trained model, to be measured by the null models.

    Raises:
        AudioError, StressError: if a clip cannot be used.
    """
    pool = [PoolClip(clip.name, clip.speaker, lambda path=clip.path: load_audio(path)) for clip in clips]
    inputs = []
    for clip in clips:
        for condition in conditions:
            heard = prepare(checkpoint, clip, condition, seed=seed, pool=pool)
            said = heard.transcript
            inputs.append(NullInput(clip.name, condition, heard.features, said.tokens, said.text, said.truncated))
    return inputs


def measure_nulls(
    checkpoint: Checkpoint,
    inputs: Sequence[NullInput],
    draws: int | Iterable[int] = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    k: int = _K,
    kinds: Sequence[str] = KINDS,
    states: Sequence[State] = ("position",),
) -> pd.DataFrame:
    """Measure null models.

    Args:
        checkpoint: the trained model.
        inputs: of `null_inputs`.
        draws: how many of each kind, or their numbers: draw 7 is the same whichever others are made.
        seed: of weights, directions and permutations.
        progress: called with (models done, models in all).
        k: leading singular values of each context Jacobian.
        kinds: of `KINDS`; a decoder of one layer has no "shuffled_layers", which is then left out.
        states: of `STATES`; the sequence state costs some three times the position state.

    Returns:
        Columns of `analyze`, with `null` (the kind) and `draw`.

    Raises:
        ValueError: if there is nothing to measure.
    """
    numbers = list(range(draws)) if isinstance(draws, int) else [int(draw) for draw in draws]
    if not numbers or min(numbers) < 0:
        raise ValueError(f"draws must be at least 1, or numbers of at least 0; got {draws}")
    if not inputs:
        raise ValueError("inputs must hold at least one clip; got none")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kinds must be of {KINDS}; got {unknown}")
    if not states or (unknown := [state for state in states if state not in STATES]):
        raise ValueError(f"states must be of {STATES}; got {unknown if states else 'none'}")
    kinds = [kind for kind in kinds if kind != "shuffled_layers" or len(checkpoint.model.model.decoder.layers) > 1]
    rows: list[dict[str, Any]] = []
    for done, (kind, draw) in enumerate(itertools.product(kinds, numbers)):
        null = null_model(checkpoint, kind, seed, draw)
        for heard, state in itertools.product(inputs, states):
            measured = measure_chain(null, heard.features, heard.tokens, state, k, seed=seed)
            own = {
                "model": checkpoint.name,
                "clip": heard.clip,
                "condition": heard.condition,
                "transcript": heard.transcript,
                "truncated": heard.truncated,
            }
            rows += [own | row | {"null": kind, "draw": draw} for row in measured.rows()]
        if progress is not None:
            progress(done + 1, len(kinds) * len(numbers))
    return pd.DataFrame(rows, columns=[*LAYER_COLUMNS, "null", "draw"])


def write_nulls(
    checkpoint_ref: str | Path,
    clips: Sequence[Clip],
    out: str | Path,
    draws: int = 20,
    seed: int = 0,
    *,
    dtype: str = "float32",
    conditions: Sequence[str] = CONDITIONS,
    states: Sequence[State] = ("position",),
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Measure the null models of a checkpoint and write them as a Parquet file, atomically.

    The file leaves out columns that every draw would repeat or that nothing reads; its metadata (key "spi") name the
    weights, the inputs and the command that makes it again.

    Returns:
        Number of rows.

    Raises:
        CheckpointError, AudioError, StressError, ValueError: as loading and measuring do.
    """
    checkpoint = load_checkpoint(checkpoint_ref, dtype=dtype)
    inputs = null_inputs(checkpoint, clips, conditions, seed=seed)
    table = measure_nulls(checkpoint, inputs, draws, seed, progress, states=states)
    stored = pa.Table.from_pandas(table.drop(columns=list(_LEFT_OUT)), preserve_index=False)
    provenance = {
        "model": {"name": checkpoint.name, "sha256": checkpoint.sha256},
        "clips": [clip.name for clip in clips],
        "conditions": list(conditions),
        "kinds": list(dict.fromkeys(table["null"])),
        "states": list(states),
        "tokens": {f"{heard.clip}/{heard.condition}": list(heard.tokens) for heard in inputs},
        "draws": draws,
        "seed": seed,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__},
        "command": _command(checkpoint.name, clips, Path(out).name, draws, seed, dtype, states),
    }
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    stamped = stored.replace_schema_metadata({_METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})
    pq.write_table(stamped, temporary, compression="zstd", write_page_checksum=True)
    temporary.replace(target)
    return stored.num_rows


def _command(
    name: str, clips: Sequence[Clip], out: str, draws: int, seed: int, dtype: str, states: Sequence[State]
) -> str:
    """The command that makes the file again; directories stand as DIR, for records name no machine's paths."""
    bundled = {clip.path for clip in bundled_clips()}
    audio = "" if all(clip.path in bundled for clip in clips) else " --audio DIR"
    other = "" if tuple(states) == ("position",) else f" --states {','.join(states)}"
    return f"spi nulls --model {name} --out {out}{audio} --draws {draws} --seed {seed} --dtype {dtype}{other}"
