"""Conditions and states by name, in the order that tables and figures have."""

from __future__ import annotations

import pandas as pd

CLEAN = "clean"
ENCODER_STATES = ("frame", "frames")
CONDITION_ORDER = ("clean", "stretch", "mix", "noise")


def conditions_of(frame: pd.DataFrame) -> list[str]:
    """Conditions present, clean first, then in the order of the stresses."""
    present = set(frame["condition"])
    return [name for name in CONDITION_ORDER if name in present] + sorted(present - set(CONDITION_ORDER))
