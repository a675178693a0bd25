"""Why a stress cannot be applied."""

from __future__ import annotations

from types import MappingProxyType

from empirical.errors import CodedError


class StressError(CodedError, ValueError):
    """A stress that does not exist or cannot be applied."""

    CODES = MappingProxyType(
        {
            "unknown_stressor": "a name that no stressor has",
            "bad_parameter": "a parameter that its stressor does not have, or a value outside its range",
            "bad_samples": "samples that are not one-dimensional, finite floats",
            "silent": "no active speech to set a level by",
            "too_long": "a result of more than two hours",
            "too_short": "a result of no sample",
            "pool_empty": "no utterance of another speaker to mix in",
            "no_noises": "no usable recording of noise to take from",
            "pool_missing": "an utterance or recording that was recorded is not at hand",
        }
    )


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Refuse a parameter.

    Raises:
        StressError: "bad_parameter", naming rule and value, unless the rule holds.
    """
    if not holds:
        raise StressError("bad_parameter", f"{name} must {rule}; got {value}")
