"""How well consecutive layers could align by chance if their leading vectors keep their energy by position (T35)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from empirical.jacobians.propagators import LayerMeasurement
from observables import positional_alignment

POSITIONAL_FIELDS = (
    "alignment_largest",
    "alignment_positional_rms",
    "alignment_positional_q95",
    "alignment_positional_chance",
)
"""Of v_l and u_{l-1}: W, the most that vectors of these energies can align; root mean square and 95 % quantile of
|<v, u>| by chance, each block turned inside its position; the chance of the measured alignment or more. At one
position W is 1 and the rest is (T22)."""

_LEAST_WIDTH = 3


def positional_fields(layers: Sequence[LayerMeasurement], width: int) -> list[dict[str, float]]:
    """`POSITIONAL_FIELDS` of every layer; NaN at the first, where the alignment has no value, or for widths below 3.

    Args:
        layers: l = 1..L, their u and v of T d numbers.
        width: d.
    """
    rows: list[dict[str, float]] = [dict.fromkeys(POSITIONAL_FIELDS, math.nan) for _ in layers]
    for row, own, before in zip(rows[1:], layers[1:], layers[:-1], strict=True):
        # A zero operator has no direction, and an alignment of 0 with anything.
        if width < _LEAST_WIDTH or math.isnan(own.alignment) or not own.sigma > 0.0 or not before.sigma > 0.0:
            continue
        law = positional_alignment(_numbers(own.v), _numbers(before.u), width)
        row["alignment_largest"] = law.largest
        row["alignment_positional_rms"] = law.rms
        row["alignment_positional_q95"] = law.quantile(0.95)
        row["alignment_positional_chance"] = law.exceeded(min(own.alignment, 1.0))
    return rows


def _numbers(vector: Tensor):
    return vector.detach().cpu().double().numpy()
