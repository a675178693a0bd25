"""The form of the ledger: readings of models, and the one rule that turns them into a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.comparison import paper
from bridge.comparison.statistics import Direction, Interval, Verdict, together, verdict

SIDES = {"supported": "on the claimed side", "refuted": "on the other side", "unresolved": "undecided"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one model says about one claim.

    Attributes:
        model: its name.
        family: the paper's name of it ("tiny", "small", "large") if it counts as such, else None.
        what: the effect, in words.
        interval: effect with interval.
        least_effect: least effect worth having, in the unit of the effect.
        direction: the claimed side of it.
        note: what else is to be known.
        decides: whether it enters the verdict (further numbers are shown, not judged).
    """

    model: str
    family: str | None
    what: str
    interval: Interval
    least_effect: float
    direction: Direction
    note: str = ""
    decides: bool = True

    @property
    def verdict(self) -> Verdict:
        """Where the interval lies."""
        return verdict(self.interval, self.least_effect, self.direction)

    def as_dict(self) -> dict[str, Any]:
        """The reading as JSON values; an organism gets a side, never a verdict."""
        return {
            "model": self.model,
            "counts_as": self.family,
            "what": self.what,
            "effect": self.interval.effect,
            "interval": self.interval.as_list(),
            "n": self.interval.n,
            "least_effect": self.least_effect,
            "direction": self.direction,
            "side": SIDES[self.verdict] if self.interval.known else f"no interval ({self.interval.code})",
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Test:
    """How a claim is put to the data.

    Attributes:
        id: C1..C15.
        test: what is computed.
        speaks_of: the paper's models that the claim is about; only readings of these decide.
        least_effect: least effect worth having.
        direction: the claimed side.
        readings: of every model measured.
        untested: why it is not tested where no reading decides.
    """

    __test__ = False  # not a pytest class, whatever its name

    id: str
    test: str
    speaks_of: tuple[str, ...]
    least_effect: float
    direction: Direction
    readings: Sequence[Reading] = field(default_factory=tuple)
    untested: str = ""


def settle(test: Test, command: str) -> dict[str, Any]:
    """One line of the ledger about trained models: a verdict only from models that the claim speaks of."""
    deciding = [one for one in test.readings if one.decides and one.family in test.speaks_of]
    others = [one for one in test.readings if one not in deciding]
    found = together([one.verdict for one in deciding])
    absent = [name for name in test.speaks_of if name not in {one.family for one in deciding}]
    if found == "supported" and absent:
        found = "unresolved"  # one model can refute a claim about several, but not carry it alone
    first = deciding[0].interval if deciding else None
    names = ", ".join(test.speaks_of)
    if deciding:
        seen = "; ".join(
            f"{one.model} (as {one.family}): {one.what} {number(one.interval)}, {SIDES[one.verdict]}"
            for one in deciding
        )
        why = seen + ("." if len(deciding) == 1 else ". All parts must hold.")
        if absent:
            why += f" The claim speaks of Whisper {', '.join(absent)} too, not measured in this run."
    elif test.untested:
        why = test.untested
    else:
        why = f"The claim speaks of trained Whisper {names}; none was measured in this run."
    return line(
        test.id,
        test=test.test,
        found=found,
        interval=first,
        least_effect=test.least_effect,
        direction=test.direction,
        command=command,
        why=why,
    ) | {"organisms": [one.as_dict() for one in others]}


def line(
    identity: str,
    *,
    test: str,
    found: Verdict,
    interval: Interval | None,
    least_effect: float,
    direction: str,
    command: str,
    why: str,
    scope: str = "",
) -> dict[str, Any]:
    """One line of the ledger, with the paper's statement beside it; scope: "only for ..." where its parts disagree."""
    said = next(one for one in paper.CLAIMS if one.id == identity)
    return {
        "id": identity,
        "title": said.title,
        "statement": said.says,
        "source": said.source,
        "verdict": found,
        "scope": scope,
        "effect": None if interval is None else interval.effect,
        "interval": None if interval is None else interval.as_list(),
        "n": 0 if interval is None else interval.n,
        "least_effect": least_effect,
        "direction": direction,
        "test": test,
        "command": command,
        "why": why,
        "organisms": [],
    }


def number(interval: Interval) -> str:
    """'0.12 [0.05, 0.19], n = 24' for sentences."""
    if not interval.known:
        return f"{interval.effect:.3g} (no interval: {interval.code}), n = {interval.n}"
    return f"{interval.effect:.3g} [{interval.low:.3g}, {interval.high:.3g}], n = {interval.n}"
