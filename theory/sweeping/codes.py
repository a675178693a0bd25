"""What the result codes of a sweep say."""

from __future__ import annotations

from theory.phase._crossing import CROSSING_CODES

__all__ = ["CODE_MEANINGS", "CONTEXT_CODE_MEANINGS", "GAIN_CODE_MEANINGS", "NOT_COMPUTED", "meanings"]

NOT_COMPUTED = 7
"""Code, in every variable of codes, of what a limited or interrupted sweep has not computed yet."""

_COMMON = {NOT_COMPUTED: "not computed", 8: "could not be simulated; the values are NaN"}

CODE_MEANINGS = {
    0: "ok",
    1: "alignment is 0: sigma = gain / alignment has no value, log_norm is NaN",
    2: "gain is 0: the product is 0, log_norm is -inf and log_ratio NaN",
    3: "gap is 0: the product has rank 1, log_ratio is -inf",
    4: "gap and alignment are 0: the product is 0 beyond the first layer",
    5: "dimension 1 has alignment 1 and no residual: this alignment or gap does not exist there",
    6: "dimension 1 has no second singular value, log_ratio is NaN",
    **_COMMON,
}
"""What each value of `code` in a sweep says."""

CONTEXT_CODE_MEANINGS = {
    0: "ok",
    1: "alignment is 0: sigma = gain / alignment has no value",
    2: "gain is 0: J_L is the last injection alone, and is not simulated",
    3: "dimension is too small for the context directions, or for the rank",
    4: "context_log_ratio lies below what the precision resolves: -inf stands for it",
    5: "some chain has no finite number for a statistic, which is NaN",
    **_COMMON,
}
"""What each value of `context_code` says."""

GAIN_CODE_MEANINGS = {**CROSSING_CODES, **_COMMON}
"""What the codes of critical gains and critical strengths say."""


def meanings(codes: dict[int, str]) -> str:
    """As the attribute `code_meanings`."""
    return "; ".join(f"{number}: {text}" for number, text in sorted(codes.items()))
