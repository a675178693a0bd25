"""Jacobians of one model x sample x state, deterministic, with the rows of the tables they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from empirical.blocks import block_rows
from empirical.checkpoints.checkpoint import Checkpoint
from empirical.hearing import Prepared, TokensFrom, Told, heard_columns, prepare
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.measurement import ENCODER_STATES, ChainMeasurement, State, measure_linearised
from empirical.jacobians.positional import POSITIONAL_FIELDS
from empirical.recognition.transcribe_windows import Long
from empirical.speech.samples import Sample
from empirical.stress import PoolClip
from empirical.subspaces import subspace_rows

LAYER_COLUMNS = (
    *("model", "clip", "condition", "state", "layer", "layers", "d_model", "tokens", "n_tokens"),
    *("tokens_from", "positions", "position", "transcript"),
    *("truncated", "dtype", "sigma", "gap", "bulk_gap", "bulk_gap_se", "alignment", "misalignment", "gain"),
    *("injection_along", "injection_across", "injection_norm"),
    *("propagator_residual", "propagator_converged", "injection_converged"),
    *("context_s", "residual", "converged", "block", "refusals"),
    *("context_frobenius", "context_frobenius_se", "context_share"),
    *("context_share_se", "context_effective_rank", "chain_error", "arrival", "arrival_converged"),
    *POSITIONAL_FIELDS,
    *("hidden_rms_before", "hidden_rms", "products", "seconds"),
)
"""Columns of the layers table, in order."""


@dataclass(frozen=True, slots=True)
class TaskRecords:
    """Rows of the tables. The encoder's states have no rows of blocks and subspaces: they have one injection, hence no
    block to compose."""

    layers: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    subspaces: list[dict[str, Any]]


def measure_task(
    checkpoint: Checkpoint,
    sample: Sample,
    state: State,
    *,
    told: Told | None = None,
    k: int = 8,
    seed: int | None = None,
    pool: Sequence[PoolClip] = (),
    noises: Sequence[PoolClip] = (),
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    long: Long = "cut",
    memory_bytes: int | None = None,
) -> TaskRecords:
    """Measure one model x sample x state.

    Args:
        checkpoint: the model, whose dtype the measurement has.
        sample: clip, condition and the stress's seed. Of a clip longer than the model's window the first window is
            measured.
        state: of `STATES`.
        told: what `listen` found the model to say of it (`Told.from_row`); None transcribes it here.
        k: leading singular values of each context Jacobian.
        seed: of the iterations' starts; by default the sample's.
        pool: utterances that a mix may take from.
        noises: recordings that a noise from a folder is taken from.
        tokens: "own" measures along the model's own greedy transcript, "reference" along the clip's reference.
        max_tokens: most tokens that the transcript may have beside its prompt; by default as `transcribe`'s.
        long: as of `listen`, which decides where the first window ends.
        memory_bytes: most that the vectors of one context Jacobian may take; by default most of what is left.

    Raises:
        AudioError, StressError, ManifestError: if the sample cannot be made.
        ListeningError, ReferenceTokensError: if it is too long, or has not the reference that it is measured along.
        ValueError: if another argument is out of range.
        NonFiniteError: if the model gives anything that is not finite.
        OutOfMemoryError: if there is no memory for one direction at a time.
    """
    prepared = prepare(
        checkpoint, sample, pool=pool, noises=noises, tokens=tokens, max_tokens=max_tokens, long=long, told=told
    )
    chain = chain_of(checkpoint, prepared, state)
    seed = prepared.seed if seed is None else seed
    measured = measure_state(chain, prepared, state, k=k, seed=seed, memory_bytes=memory_bytes)
    blocks, subspaces = [], []
    if state not in ENCODER_STATES:
        blocks = block_rows(checkpoint, prepared, chain, state, measured=measured, seed=seed)
        subspaces = subspace_rows(checkpoint, prepared, chain, state, seed=seed)
    return TaskRecords(layers=layer_rows(checkpoint, prepared, measured), blocks=blocks, subspaces=subspaces)


def chain_of(checkpoint: Checkpoint, prepared: Prepared, state: State) -> Any:
    """The chain that a state is of: the decoder's along the clip's tokens, or the encoder's on its log-mel."""
    if state not in ENCODER_STATES:
        return DecoderChain(checkpoint.model, prepared.states, prepared.tokens)
    from empirical.jacobians.encoder_chain import EncoderChain

    return EncoderChain(checkpoint.model, prepared.features)


def measure_state(
    chain: Any,
    prepared: Prepared,
    state: State,
    *,
    k: int,
    seed: int | None = None,
    memory_bytes: int | None = None,
) -> ChainMeasurement:
    """A chain measured in one state: the decoder's last position, or the middle frame of the clip's own audio."""
    return measure_linearised(
        chain,
        state,
        k,
        tokens=prepared.tokens,
        position=prepared.frame if state in ENCODER_STATES else None,
        seed=prepared.seed if seed is None else seed,
        memory_bytes=memory_bytes,
    )


def layer_rows(checkpoint: Checkpoint, prepared: Prepared, measured: ChainMeasurement) -> list[dict[str, Any]]:
    """Rows of the layers table, one a layer."""
    own = heard_columns(checkpoint, prepared)
    return [{name: (own | row)[name] for name in LAYER_COLUMNS} for row in measured.rows()]
