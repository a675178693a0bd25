"""Many conditions in running text: a ladder of one stress is named once, with its range; only defaults stand alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bridge.comparison.conditions import in_order
from bridge.comparison.severity import LEAST_STEPS, Ladder, ladders
from bridge.reporting.wording import fixed

MOST_NAMED = 10
"""Conditions and ladders that a sentence names; of others it gives the count."""


def grouped(conditions: Iterable[str]) -> list[str | Ladder]:
    """Conditions in order, those of a ladder as one where its first stands; each belongs to one ladder at most."""
    names = in_order(conditions)
    member: dict[str, Ladder] = {}
    for ladder in ladders(names):
        steps = tuple(step for step in ladder.steps if step[1] not in member)
        if len(steps) >= LEAST_STEPS:
            own = Ladder(ladder.name, ladder.parameter, steps)
            member |= dict.fromkeys((label for _, label in steps), own)
    return list(dict.fromkeys(member.get(name, name) for name in names))


def defaults(conditions: Iterable[str]) -> list[str]:
    """Conditions outside any ladder, and of each ladder the step that its bare name stands for."""
    names = list(conditions)
    kept = [one if isinstance(one, str) else one.name for one in grouped(names)]
    return [name for name in kept if name in names]


def named(conditions: Iterable[str]) -> str:
    """'clean, stretch (rate 1.5 to 3.5, 5 steps), mix'."""
    return _listed([one if isinstance(one, str) else f"{one.name} ({_range(one)})" for one in grouped(conditions)])


def numbered(values: Mapping[str, float], decimals: int = 2) -> str:
    """'clean 0.01, noise 0.28 (0.86 at snr_db=−10, 0.02 at 20)': of a ladder its ends, and its greatest between them.

    Args:
        values: by condition.
        decimals: of the numbers.
    """
    return _listed(
        [
            f"{one} {fixed(values[one], decimals)}" if isinstance(one, str) else _ends(one, values, decimals)
            for one in grouped(values)
        ]
    )


def _ends(ladder: Ladder, values: Mapping[str, float], decimals: int) -> str:
    first, *_, last = steps = [(value, values[label]) for value, label in ladder.steps]
    greatest = max(steps, key=lambda step: step[1])
    shown = [first, *([] if greatest in (first, last) else [greatest]), last]
    said = [f"{fixed(found, decimals)} at {_short(value)}" for value, found in shown]
    said[0] = f"{fixed(first[1], decimals)} at {ladder.parameter}={_short(first[0])}"
    default = f" {fixed(values[ladder.name], decimals)}" if ladder.name in values else ""
    return f"{ladder.name}{default} ({', '.join(said)})"


def _range(ladder: Ladder) -> str:
    low, high = ladder.steps[0][0], ladder.steps[-1][0]
    return f"{ladder.parameter} {_short(low)} to {_short(high)}, {len(ladder.steps)} steps"


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _listed(pieces: list[str]) -> str:
    more = len(pieces) - MOST_NAMED
    return ", ".join(pieces[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
