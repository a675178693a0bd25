"""The subspaces table: how the leading subspaces of consecutive decoder layers meet (T25), one row a layer and rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from empirical.hearing import Prepared, check_request, hear, heard_columns
from empirical.jacobians.blocks import decoder_position
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.measurement import State
from empirical.jacobians.subspaces import RANKS, measure_subspaces
from empirical.speech.clips import Clip

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from empirical.checkpoints.checkpoint import Checkpoint

SUBSPACE_COLUMNS = (
    *("model", "clip", "condition", "state", "layer", "layers", "d_model", "dimension", "rank"),
    *("tokens", "n_tokens", "tokens_from", "transcript", "truncated", "dtype"),
    *("overlap", "cosines", "largest_cosine", "smallest_cosine", "null_overlap", "null_overlap_sd"),
    *("null_overlap_high", "null_largest_cosine_high", "chance"),
    *("kept_overlap", "kept_overlap_high", "kept_chance"),
    *("boundary_gap", "boundary_gap_before", "residual", "converged"),
)
"""Columns of the subspaces table, in order."""


def subspace_rows(
    checkpoint: Checkpoint,
    prepared: Prepared,
    chain: DecoderChain,
    state: State,
    ranks: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of the subspaces table of one clip in one state, along depth and by rank.

    Args:
        checkpoint: the model, whose name the rows have.
        prepared: what it heard.
        chain: its decoder, linearised along that transcript.
        state: "position", the last one, or "sequence".
        ranks: r, each at most the state's dimension; by default those of `RANKS` that are.
        seed: of the iterations' starts and of the null's samples.

    Returns:
        One dict with `SUBSPACE_COLUMNS` a layer l >= 2 and rank, plain Python values; NaN where unconverged.

    Raises:
        ValueError: if the state or a rank is out of range.
        NonFiniteError: if a propagator is not finite.
    """
    position = decoder_position(state)
    if ranks is None:
        ranks = [rank for rank in RANKS if rank <= chain.state_size(chain.rows(position))]
    own = heard_columns(checkpoint, prepared) | {"state": state}
    rows = measure_subspaces(chain, ranks, position, seed=seed)
    return [{name: (own | row)[name] for name in SUBSPACE_COLUMNS} for row in rows]


def subspace_alignment(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    ranks: Sequence[int] = RANKS,
    conditions: Sequence[str] = ("clean",),
    states: Sequence[State] = ("position",),
    dtype: str = "float64",
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Principal angles between the leading singular subspaces of consecutive decoder layers, beside chance.

    Args:
        model: what `load_checkpoint` takes, a loaded `Checkpoint`, or a Whisper model loaded from a directory.
        clips: audio files, directories of them, or `Clip`s.
        ranks: r, each at most the state's dimension.
        conditions: as `empirical.stress.parse` reads them.
        states: "position", the last one, or "sequence".
        dtype: "float32" or "float64", of the model and of all products.
        seed: of the stresses, of the iterations' starts and of the null's samples.

    Returns:
        One row per clip x condition x state x layer l >= 2 x rank, with `SUBSPACE_COLUMNS`: overlap and cosines of the
        right space of layer l with the left space of layer l - 1, mean, standard deviation and 95 % quantile of the
        overlap of random subspaces, that quantile of their largest cosine, and the chance of the overlap among them
        (one-sided; one layer's, not corrected for how many layers there are).

    Raises:
        AudioError, StressError: for the first clip that fails.
        CheckpointError: if the model cannot be loaded.
        ValueError: if another argument is out of range.
    """
    wanted = tuple(ranks)
    check_request(conditions, states)
    for state in states:
        decoder_position(state)
    rows: list[dict[str, Any]] = []
    for checkpoint, prepared in hear(model, clips, conditions, dtype, seed=seed):
        chain = DecoderChain(checkpoint.model, prepared.states, prepared.tokens)
        for state in states:
            rows += subspace_rows(checkpoint, prepared, chain, state, wanted, seed=seed)
    return pd.DataFrame(rows, columns=list(SUBSPACE_COLUMNS))
