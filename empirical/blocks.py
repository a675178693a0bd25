"""The blocks table: a measured decoder in blocks of m layers (T17), one row a block, as `measure_blocks` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from empirical.hearing import Prepared, check_request, hear, heard_columns
from empirical.jacobians.blocks import decoder_position, measure_blocks
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.measurement import ChainMeasurement, State
from empirical.speech.clips import Clip

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from empirical.checkpoints.checkpoint import Checkpoint

BLOCK_COLUMNS = (
    *("model", "clip", "condition", "state", "block", "index", "blocks", "first", "last", "layers", "d_model"),
    *("tokens", "n_tokens", "tokens_from", "transcript", "truncated", "dtype"),
    *("sigma", "gap", "bulk_gap", "bulk_gap_se", "alignment", "misalignment", "gain"),
    *("injection_along", "injection_across", "injection_norm", "injection_coherent"),
    *("propagator_residual", "propagator_converged", "injection_converged"),
    *("context_norm", "context_sigma2", "context_along", "context_across", "context_converged"),
    *("exact_norm", "exact_converged"),
)
"""Columns of the blocks table, in order."""


def task_blocks(depth: int, state: State) -> list[int]:
    """Block sizes that a run measures: all of them at one position, where they are dense algebra; for the sequence,
    where each block takes iterations, 1, 2, 4, ... up to L / 2 (beyond it a block is no prediction, T17)."""
    if state == "position":
        return list(range(1, depth + 1))
    return [2**power for power in range(max(1, depth // 2).bit_length())]


def block_rows(
    checkpoint: Checkpoint,
    prepared: Prepared,
    chain: DecoderChain,
    state: State,
    blocks: Iterable[int] | None = None,
    *,
    measured: ChainMeasurement | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of the blocks table of one clip in one state, by block size and then along depth.

    Args:
        checkpoint: the model, whose name the rows have.
        prepared: what it heard.
        chain: its decoder, linearised along that transcript.
        state: "position", the last one, or "sequence".
        blocks: block sizes m, 1 <= m <= L; by default `task_blocks`.
        measured: what the task has measured of this chain in this state; its layers and its J_L are not measured again.
        seed: of the iterations' starts.

    Returns:
        One dict a block with `BLOCK_COLUMNS`, plain Python values; NaN where unconverged.

    Raises:
        ValueError: if the state or a block size is out of range.
        NonFiniteError: if anything measured is not finite.
    """
    position = decoder_position(state)
    if measured is not None and measured.state != state:
        raise ValueError(f"measured must be of the {state} state; got that of {measured.state}")
    deepest = None if measured is None else measured.contexts[-1]  # None too where that depth was not asked for
    table = measure_blocks(
        chain,
        task_blocks(chain.depth, state) if blocks is None else blocks,
        position,
        layers=None if measured is None else measured.layers,
        context=None if deepest is None else deepest.triplets,
        seed=seed,
    )
    own = heard_columns(checkpoint, prepared) | {"d_model": chain.width, "state": state}
    return [{name: (own | row)[name] for name in BLOCK_COLUMNS} for row in table.rows()]


def block_parameters(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    blocks: Iterable[int] | None = None,
    conditions: Sequence[str] = ("clean",),
    states: Sequence[State] = ("position",),
    dtype: str = "float64",
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """What the theorem reads of a Whisper decoder on clips, in blocks of m layers (T17).

    Args:
        model: what `load_checkpoint` takes, a loaded `Checkpoint`, or a Whisper model loaded from a directory.
        clips: audio files, directories of them, or `Clip`s.
        blocks: block sizes m, 1 <= m <= L; by default all of 1..L. A last block may be shorter.
        conditions: as `empirical.stress.parse` reads them.
        states: "position", the last one (the chain then only approximates dh_L/dE: `exact_norm` stands beside
            `context_norm`), or "sequence", exact.
        dtype: "float32" or "float64", of the model and of all products.
        seed: of the stresses and of the iterations' starts.

    Returns:
        One row per clip x condition x state x block size x block, with `BLOCK_COLUMNS`; `block` is m, `index` the
        number of the block and `blocks` how many there are. Unconverged values are NaN.

    Raises:
        AudioError, StressError: for the first clip that fails.
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    wanted = None if blocks is None else list(blocks)
    check_request(conditions, states)
    for state in states:
        decoder_position(state)
    rows: list[dict[str, Any]] = []
    for checkpoint, prepared in hear(model, clips, conditions, dtype, seed=seed):
        chain = DecoderChain(checkpoint.model, prepared.states, prepared.tokens)
        for state in states:
            sizes = range(1, chain.depth + 1) if wanted is None else wanted
            rows += block_rows(checkpoint, prepared, chain, state, sizes, seed=seed)
    return pd.DataFrame(rows, columns=list(BLOCK_COLUMNS))
