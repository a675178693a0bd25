"""Null models measured along the *trained* model's transcripts (teacher-forced), so that length is controlled.

A share of the first direction, a gap or an alignment means little beside nothing. The models are those of
`empirical.nulls.models`; the null that keeps sigma, gap and dimension of every layer and draws its directions at
random needs no measuring, since its alignment has a law in closed form: `observables.RandomAlignment` (T22).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.measurement import ENCODER_STATES, STATES, WHOLE_STATES, State, measure_linearised
from empirical.nulls.inputs import NullInput
from empirical.nulls.models import KINDS, Half, layer_count, null_model, singular_values
from empirical.recognition.transcribe import encoder_states
from empirical.task import LAYER_COLUMNS

Contexts = Literal["all", "last", "none"]
CONTEXTS: tuple[Contexts, ...] = ("all", "last", "none")
"""Depths at which a null's context Jacobian is measured; the last one's share is what a collapse is held against."""

_K = 4
_COLUMNS = (*LAYER_COLUMNS, "null", "draw")
_HALVES: tuple[Half, ...] = ("decoder", "encoder")


def check_null_request(kinds: Sequence[str], states: Sequence[State], contexts: Contexts | None) -> None:
    """Refuse unknown names before anything is loaded.

    Raises:
        ValueError: naming the argument.
    """
    if not kinds or (unknown := [kind for kind in kinds if kind not in KINDS]):
        raise ValueError(f"kinds must be of {KINDS}; got {unknown if kinds else 'none'}")
    if not states or (unknown := [state for state in states if state not in STATES]):
        raise ValueError(f"states must be of {STATES}; got {unknown if states else 'none'}")
    if contexts is not None and contexts not in CONTEXTS:
        raise ValueError(f"contexts must be one of {CONTEXTS}; got {contexts!r}")


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
    contexts: Contexts | None = None,
) -> pd.DataFrame:
    """Measure null models.

    Args:
        checkpoint: the trained model.
        inputs: of `null_inputs`.
        draws: how many of each kind, or their numbers: draw 7 is the same whichever others are made.
        seed: of weights, directions and permutations.
        progress: called with (models done, models in all).
        k: leading singular values of each context Jacobian.
        kinds: of `KINDS`; a half of one layer has no "shuffled_layers", which is then left out.
        states: of `STATES`; of the encoder's it is the encoder's layers that are shuffled or turned.
        contexts: "none" measures propagators only (sigma, gap, alignment, gain); "last" injections too, and the
            context Jacobian of the last layer; "all" that of every layer. By default all in a state of one position,
            and the last in a state of all positions, where a Jacobian costs some ten times as much.

    Returns:
        Columns of `analyze`, with `null` (the kind) and `draw`; what was not measured is NaN, or an empty list.

    Raises:
        ValueError: if there is nothing to measure.
    """
    numbers = list(range(draws)) if isinstance(draws, int) else [int(draw) for draw in draws]
    if not numbers or min(numbers) < 0:
        raise ValueError(f"draws must be at least 1, or numbers of at least 0; got {draws}")
    if not inputs:
        raise ValueError("inputs must hold at least one clip; got none")
    check_null_request(kinds, states, contexts)
    halves: dict[Half, list[State]] = {
        half: [state for state in states if (state in ENCODER_STATES) == (half == "encoder")] for half in _HALVES
    }
    pairs: list[tuple[str, Half]] = [
        (kind, half)
        for kind in kinds
        for half in _HALVES
        if halves[half] and (kind != "shuffled_layers" or layer_count(checkpoint, half) > 1)
    ]
    rows: list[dict[str, Any]] = []
    spectra: dict[Half, dict[str, Tensor]] = {}
    for done, ((kind, half), draw) in enumerate(itertools.product(pairs, numbers)):
        if kind == "random_singular_vectors" and half not in spectra:
            spectra[half] = singular_values(checkpoint, half)
        null = null_model(checkpoint, kind, seed, draw, half=half, spectra=spectra.get(half))
        for heard in inputs:
            own = {
                "model": checkpoint.name,
                "clip": heard.clip,
                "condition": heard.condition,
                "transcript": heard.transcript,
                "truncated": heard.truncated,
                "tokens_from": heard.tokens_from,
                "null": kind,
                "draw": draw,
            }
            chain = _chain(null, kind, half, heard)
            for state in halves[half]:
                depths = _depths(contexts, state, chain.depth)
                position = heard.frame if state == "frame" else None
                measured = measure_linearised(
                    chain,
                    state,
                    k,
                    tokens=heard.tokens,
                    position=position,
                    depths=depths,
                    injections=contexts != "none",
                    seed=seed,
                )
                rows += [{name: (own | row)[name] for name in _COLUMNS} for row in measured.rows()]
        if progress is not None:
            progress(done + 1, len(pairs) * len(numbers))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _chain(null: Checkpoint, kind: str, half: Half, heard: NullInput) -> Any:
    """The null model's chain on one input; the encoder runs only where it is not the trained one's."""
    if half == "encoder":
        from empirical.jacobians.encoder_chain import EncoderChain

        return EncoderChain(null.model, heard.features)
    states = encoder_states(null, heard.features) if kind == "random_weights" else heard.states
    return DecoderChain(null.model, states, heard.tokens)


def _depths(contexts: Contexts | None, state: State, depth: int) -> tuple[int, ...] | None:
    if contexts is None:
        contexts = "last" if state in WHOLE_STATES else "all"
    return None if contexts == "all" else (depth,) if contexts == "last" else ()
