"""From audio to measured chains in one call, for a reader with a checkpoint and some clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.hearing import TokensFrom, as_checkpoint, check_request, check_tokens_from, hear
from empirical.jacobians.measurement import ENCODER_STATES, STATES, State
from empirical.recognition.forward import WhisperFunction, check_determinism
from empirical.speech.clips import Clip
from empirical.task import LAYER_COLUMNS, chain_of, layer_rows, measure_state

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


def analyze(
    model: str | Path | Checkpoint | WhisperForConditionalGeneration,
    clips: Iterable[str | Path | Clip],
    conditions: Sequence[str] = ("clean",),
    states: Sequence[State] = ("position",),
    k: int = 8,
    dtype: str = "float64",
    *,
    seed: int = 0,
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
    device: str = "auto",
    noise_dir: str | Path | None = None,
    on_error: Literal["raise", "quarantine"] = "raise",
) -> pd.DataFrame:
    """Propagators, injections and context Jacobians of a Whisper on clips, layer by layer.

    Args:
        model: what `load_checkpoint` takes (checkpoint directory, `.pt` file, hub id), a loaded `Checkpoint`, or a
            model that `from_pretrained` made from a directory (its feature extractor and tokenizer are read there).
        clips: audio files, directories of them, or `Clip`s. A mix takes its other voices from the other clips. One
            longer than the model's window is cut there and marked truncated.
        conditions: stresses by the grammar of `empirical.stress.parse`, as "noise", "stretch:rate=2" or
            "reverberation+noise:snr_db=20/0"; a ladder ("/") stands for several. Rows have canonical labels.
        states: "position": the last position alone, with the exact Jacobian of that position beside it, and
            `chain_error` for how far the position chain is from it; "sequence": all positions, where (T2) is exact;
            "frame": the encoder's middle frame of the clip's own audio, and "frames": all its frames, as those two.
        k: leading singular values of each context Jacobian, at most d.
        dtype: "float32" or "float64", of the model and of all products.
        seed: of the stresses and of the iterations' starts.
        tokens: "own" measures along the model's own greedy transcript, "reference" along the clip's reference, every
            model and condition then on the same tokens; the column `tokens_from` says which.
        max_tokens: most tokens that a transcript may have beside its prompt; by default as `transcribe`'s.
        device: "cpu", "cuda", or "auto": a loaded model is measured where it is, any other on CUDA where that is.
        noise_dir: recordings that "noise:kind=folder" is taken from.
        on_error: "quarantine" leaves out a clip whose audio, stress or reference fails and lists it in
            `attrs["quarantine"]`.

    Returns:
        One row per clip x condition x state x layer, with `LAYER_COLUMNS`. A singular value that did not converge is
        NaN in `context_s` and False in `converged`. Where `gap` is 1, `alignment` is of one choice of u and v.
        `attrs["checkpoint"]` says which weights were measured, what loading did (ref, sha256, commit, notes), and how
        far the model is from the pure function that is differentiated (forward_error, relative, of its logits).

    Raises:
        AudioError, StressError, ReferenceTokensError: for the first clip that fails, unless on_error="quarantine".
        ClipError: if there are no recordings in `noise_dir`.
        CheckpointError: if the model cannot be loaded.
        ForwardError: if it gives other numbers at a second call.
        ValueError: if another argument is out of range.
    """
    if on_error not in ("raise", "quarantine"):
        raise ValueError(f"on_error must be 'raise' or 'quarantine'; got {on_error!r}")
    check_request(conditions, states)
    check_tokens_from(tokens)
    checkpoint = as_checkpoint(model, dtype, device)
    width = checkpoint.model.config.d_model
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= width:
        raise ValueError(f"k must lie in [1, {width}], the state's dimension at one position; got {k!r}")
    difference = check_determinism(WhisperFunction(checkpoint.model))
    quarantine: list[dict[str, str]] = []
    heard = hear(
        checkpoint,
        clips,
        conditions,
        dtype,
        seed=seed,
        tokens=tokens,
        max_tokens=max_tokens,
        noise_dir=noise_dir,
        quarantine=None if on_error == "raise" else quarantine,
    )
    rows: list[dict[str, Any]] = []
    for checkpoint, prepared in heard:
        chain, half, by_state = None, None, {}
        for state in sorted(states, key=STATES.index):
            if half != (state in ENCODER_STATES):  # one linearisation serves both states of a half
                chain, half = chain_of(checkpoint, prepared, state), state in ENCODER_STATES
            by_state[state] = layer_rows(checkpoint, prepared, measure_state(chain, prepared, state, k=k))
        rows += [row for state in states for row in by_state[state]]
    table = pd.DataFrame(rows, columns=list(LAYER_COLUMNS))
    table.attrs["quarantine"] = quarantine
    table.attrs["checkpoint"] = {
        "ref": checkpoint.ref,
        "sha256": checkpoint.sha256,
        "commit": checkpoint.commit,
        "notes": list(checkpoint.notes),
        "forward_error": difference,
    }
    return table
