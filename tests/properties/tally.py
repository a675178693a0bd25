"""What was really executed: counts and the least slack of a law, by family of chains."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.properties.verdicts import Verdict

__all__ = ["Counts", "Tally"]


@dataclass
class Counts:
    """Examples of one family that one law saw.

    Attributes:
        checked: the law spoke and the truth stood out of its rounding.
        below_rounding: the law spoke, and the truth was too small to be told from rounding; checked against that.
        nothing_claimed: a hypothesis of the law did not hold.
        violations: bounds broken by more than the margin.
        worst: least slack of those checked, in log units.
        worst_note: how to make that example again.
        margin_used: largest share of its margin that a chain checked has used up; at most 1 without a violation.
    """

    checked: int = 0
    below_rounding: int = 0
    nothing_claimed: int = 0
    violations: int = 0
    worst: float = math.inf
    worst_note: str = ""
    margin_used: float = 0.0

    @property
    def examples(self) -> int:
        """All of them."""
        return self.checked + self.below_rounding + self.nothing_claimed

    def add(self, verdict: Verdict | None, note: str) -> None:
        """Count one example."""
        if verdict is None:
            self.nothing_claimed += 1
            return
        self.violations += verdict.violated
        if not verdict.resolved:
            self.below_rounding += 1
            return
        self.checked += 1
        if verdict.slack < 0 and verdict.margin > 0:
            self.margin_used = max(self.margin_used, -verdict.slack / verdict.margin)
        if verdict.slack < self.worst:
            self.worst, self.worst_note = verdict.slack, note


@dataclass
class Tally:
    """One law's record."""

    tag: str
    sentence: str
    seconds: float = 0.0
    families: dict[str, Counts] = field(default_factory=dict)

    def add(self, family: str, verdict: Verdict | None, note: str) -> None:
        """Count one example of a family."""
        self.families.setdefault(family, Counts()).add(verdict, note)

    def total(self, name: str) -> int:
        """Sum of one count over families."""
        return sum(getattr(counts, name) for counts in self.families.values())

    def write(self, directory: Path) -> None:
        """As JSON, one file a law."""
        directory.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() else "-" for c in self.tag)
        (directory / f"{name}.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Tally:
        """From its JSON."""
        data = json.loads(path.read_text(encoding="utf-8"))
        data["families"] = {name: Counts(**counts) for name, counts in data["families"].items()}
        return cls(**data)
