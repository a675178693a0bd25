"""Conditions and states by name, in the order that tables and figures have."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

import empirical.stress as stress

CLEAN = "clean"
ENCODER_STATES = ("frame", "frames")
CONDITION_ORDER = ("clean", "stretch", "mix", "noise")


def conditions_of(frame: pd.DataFrame) -> list[str]:
    """Conditions present, clean first, then in the order of the stresses."""
    return in_order(frame["condition"])


def in_order(names: Iterable[str]) -> list[str]:
    """Each condition once, in the order of the grammar; what it does not know comes last, by name."""
    return sorted({str(name) for name in names}, key=_place)


def speaks(condition: str) -> bool:
    """Whether something of the utterance is left under this condition."""
    removes = getattr(stress, "removes_speech", None)
    try:
        return not (removes and removes(condition))
    except stress.StressError:  # no stress of ours: a label that someone else gave
        return True


def _place(name: str) -> tuple[bool, object]:
    try:
        return False, stress.order_key(name) if hasattr(stress, "order_key") else CONDITION_ORDER.index(name)
    except (stress.StressError, ValueError):
        return True, name
