"""Column types of the records, so that a column that is empty in one part has the same type as in the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

_TEXT, _REAL, _WHOLE, _YES = pa.string(), pa.float64(), pa.int64(), pa.bool_()

CLIPS: dict[str, pa.DataType] = {
    "model": _TEXT,
    "clip": _TEXT,
    "condition": _TEXT,
    "speaker": _TEXT,
    "reference": _TEXT,
    "transcript": _TEXT,
    "tokens": pa.list_(_WHOLE),
    "n_tokens": _WHOLE,
    "prompt_tokens": _WHOLE,
    "windows": _WHOLE,
    "window_tokens": pa.list_(_WHOLE),
    "wer": _REAL,
    "substitutions": _WHOLE,
    "deletions": _WHOLE,
    "insertions": _WHOLE,
    "reference_words": _WHOLE,
    "avg_logprob": _REAL,
    "no_speech_prob": _REAL,
    "compression_ratio": _REAL,
    "truncated": _YES,
    "duration_s": _REAL,
    "achieved": _TEXT,
    "stress_parameters": _TEXT,
    "stress_notes": pa.list_(_TEXT),
    "source_sha256": _TEXT,
    "result_sha256": _TEXT,
    "seed": _WHOLE,
}
"""One row per model x clip x condition that was heard."""

LAYERS: dict[str, pa.DataType] = {
    "model": _TEXT,
    "clip": _TEXT,
    "condition": _TEXT,
    "state": _TEXT,
    "layer": _WHOLE,
    "layers": _WHOLE,
    "d_model": _WHOLE,
    "tokens": pa.list_(_WHOLE),
    "n_tokens": _WHOLE,
    "tokens_from": _TEXT,
    "positions": _WHOLE,
    "position": _WHOLE,
    "transcript": _TEXT,
    "truncated": _YES,
    "dtype": _TEXT,
    "sigma": _REAL,
    "gap": _REAL,
    "bulk_gap": _REAL,
    "bulk_gap_se": _REAL,
    "alignment": _REAL,
    "misalignment": _REAL,
    "gain": _REAL,
    "injection_along": _REAL,
    "injection_across": _REAL,
    "injection_norm": _REAL,
    "propagator_residual": _REAL,
    "propagator_converged": _YES,
    "injection_converged": _YES,
    "context_s": pa.list_(_REAL),
    "residual": pa.list_(_REAL),
    "converged": pa.list_(_YES),
    "block": _WHOLE,
    "refusals": _WHOLE,
    "context_frobenius": _REAL,
    "context_frobenius_se": _REAL,
    "context_share": _REAL,
    "context_share_se": _REAL,
    "context_effective_rank": _REAL,
    "chain_error": _REAL,
    "arrival": _REAL,
    "arrival_converged": _YES,
    "alignment_largest": _REAL,
    "alignment_positional_rms": _REAL,
    "alignment_positional_q95": _REAL,
    "alignment_positional_chance": _REAL,
    "hidden_rms_before": _REAL,
    "hidden_rms": _REAL,
    "products": _WHOLE,
    "seconds": _REAL,
}
"""One row per model x clip x condition x state x layer."""

_CHAIN: dict[str, pa.DataType] = {
    "model": _TEXT,
    "clip": _TEXT,
    "condition": _TEXT,
    "state": _TEXT,
}

_HEARD: dict[str, pa.DataType] = {
    "tokens": pa.list_(_WHOLE),
    "n_tokens": _WHOLE,
    "tokens_from": _TEXT,
    "transcript": _TEXT,
    "truncated": _YES,
    "dtype": _TEXT,
}

BLOCKS: dict[str, pa.DataType] = {
    **_CHAIN,
    **dict.fromkeys(("block", "index", "blocks", "first", "last", "layers", "d_model"), _WHOLE),
    **_HEARD,
    **dict.fromkeys(("sigma", "gap", "bulk_gap", "bulk_gap_se", "alignment", "misalignment", "gain"), _REAL),
    **dict.fromkeys(("injection_along", "injection_across", "injection_norm", "injection_coherent"), _REAL),
    "propagator_residual": _REAL,
    "propagator_converged": _YES,
    "injection_converged": _YES,
    **dict.fromkeys(("context_norm", "context_sigma2", "context_along", "context_across"), _REAL),
    "context_converged": _YES,
    "exact_norm": _REAL,
    "exact_converged": _YES,
}
"""One row per model x clip x condition x state x block size x block; `block` is m, the layers in a block (T17)."""

SUBSPACES: dict[str, pa.DataType] = {
    **_CHAIN,
    **dict.fromkeys(("layer", "layers", "d_model", "dimension", "rank"), _WHOLE),
    **_HEARD,
    "overlap": _REAL,
    "cosines": pa.list_(_REAL),
    **dict.fromkeys(("largest_cosine", "smallest_cosine", "null_overlap", "null_overlap_sd"), _REAL),
    **dict.fromkeys(("null_overlap_high", "null_largest_cosine_high", "chance"), _REAL),
    **dict.fromkeys(("kept_overlap", "kept_overlap_high", "kept_chance"), _REAL),
    **dict.fromkeys(("boundary_gap", "boundary_gap_before", "residual"), _REAL),
    "converged": _YES,
}
"""One row per model x clip x condition x state x layer >= 2 x rank."""

ACTIVATIONS: dict[str, pa.DataType] = {
    "model": _TEXT,
    "clip": _TEXT,
    "condition": _TEXT,
    "component": _TEXT,
    "layer": _WHOLE,
    "n_tokens": _WHOLE,
    "d_model": _WHOLE,
    "effective_rank_10": _REAL,
    "kirchhoff_10": _REAL,
    "alpha_10": _REAL,
}
"""One row per model x clip x condition x component x layer: what one clip's own activations say."""

VECTORS: dict[str, pa.DataType] = {
    **{name: ACTIVATIONS[name] for name in ("model", "clip", "condition", "component", "layer", "n_tokens", "d_model")},
    "x": pa.list_(pa.float32()),
}
"""The activations themselves, as ACTIVATIONS; `x` is row-major, n_tokens x d_model."""

REFUSED: dict[str, pa.DataType] = dict.fromkeys(
    ("model", "clip", "condition", "type", "code", "detail", "stage"), _TEXT
)
"""One row per model x clip x condition that could not be heard."""

NULLS: dict[str, pa.DataType] = {**LAYERS, "null": _TEXT, "draw": _WHOLE}
"""As LAYERS, of the null models."""

SCHEMAS = {
    "clips": CLIPS,
    "layers": LAYERS,
    "blocks": BLOCKS,
    "subspaces": SUBSPACES,
    "activations": ACTIVATIONS,
    "vectors": VECTORS,
    "refused": REFUSED,
    "nulls": NULLS,
}

TIMING_COLUMNS = ("seconds",)
"""Columns that differ from run to run; every other column of the same settings has the same bits."""


def to_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table: known columns first, in the order and with the types above, then the others by name.

    Args:
        name: of `SCHEMAS`, or any other, whose columns are then all inferred.
        rows: one mapping per row; a key that is missing in a row is null there.

    Raises:
        ValueError: naming the column whose values do not have its type.
    """
    known = SCHEMAS.get(name, {})
    present = {key for row in rows for key in row}
    names = [key for key in known if key in present] + sorted(present - set(known))
    columns = []
    for key in names:
        values = [_plain(row.get(key)) for row in rows]
        try:
            columns.append(pa.array(values, type=known.get(key), from_pandas=False))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise ValueError(f"{name}.{key} must hold {known.get(key, 'one type')}: {error}") from error
    return pa.table(columns, names=names)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as Arrow takes them in nested columns."""
    if hasattr(value, "ndim") and hasattr(value, "item"):
        return value.item() if value.ndim == 0 else value
    return list(value) if isinstance(value, tuple) else value
