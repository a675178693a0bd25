"""Conditions and states by name, in the order that tables and figures have."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pandas as pd

from empirical import stress
from empirical.recognition.labels import leaves_no_speech

CLEAN = "clean"
PAPER_STRESSES = ("stretch", "mix", "noise")
"""The three the paper put on speech: 3.5 times as long, six speakers, white noise at 0 dB."""
ENCODER_STATES = ("frame", "frames")


def conditions_of(frame: pd.DataFrame) -> list[str]:
    """Conditions present, clean first, then in the order of the stresses."""
    return in_order(frame["condition"])


def in_order(names: Iterable[str]) -> list[str]:
    """Each condition once, in the order of the grammar; what it does not know comes last, by name."""
    return sorted({str(name) for name in names}, key=_place)


def speaks(condition: str) -> bool:
    """Whether something of the utterance is left under this condition."""
    return not leaves_no_speech(condition)


@functools.cache
def alike(condition: str) -> bool:
    """Whether a model hears the same of every clip under this condition: digital zeros, up to its window."""
    try:
        kind = stress.parse(condition)
    except stress.StressError:
        return False
    parts = kind.parts if isinstance(kind, stress.Composition) else (kind,)
    return any(isinstance(part, stress.Silence) and part.level_dbfs is None for part in parts)


def judged(conditions: Iterable[str]) -> list[str]:
    """The stresses over which claims are averaged: the paper's own where any is among them, so that steps of a ladder
    beside them move no verdict; else all that leave something of the utterance."""
    stresses = [one for one in in_order(conditions) if one != CLEAN]
    own = [one for one in stresses if one in PAPER_STRESSES]
    return own or [one for one in stresses if speaks(one)]


@functools.cache
def _place(name: str) -> tuple[bool, tuple[object, ...]]:
    try:
        return False, stress.order_key(name)
    except stress.StressError:
        return True, (name,)
