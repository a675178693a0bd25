"""Which activations are pooled against which: contrasts of a stress with clean, and the sets of rows they share.

A contrast pools pairs, a stressed sample and the clean one of its clip. Its two sides at one length are sets of rows,
and many contrasts share rows: all failed pairs are among all pairs, all pairs of a stress are among those of all
stresses together. So rows are summed once in *atoms* (role x length x stress x failed or not), which merge into sides
exactly, and sides of the same rows are decomposed once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bridge.comparison.conditions import CLEAN, in_order, speaks
from observables.thresholds import FAILED_WER

Kept = Literal["all", "failed"]
TOGETHER = "together"
"""All stressed samples pooled as one condition against their clean ones: the paper's "Hell" set."""

LENGTHS = ("matched", "none")
Pair = tuple[str, str]
"""Clip, stressed condition."""

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Atom:
    """Rows that every side takes or leaves together.

    Attributes:
        role: "clean", "stressed", or "cloud" for all clips of a condition, paired or not.
        length: "matched" or "none".
        condition: the stress of the pairs; of a cloud its condition.
        failed: whether the stressed transcripts failed.
    """

    role: str
    length: str
    condition: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """One pooled covariance: the atoms it is merged from and the clips behind it."""

    atoms: tuple[Atom, ...]
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """A stress against clean, over some pairs.

    Attributes:
        stress: a condition, or TOGETHER.
        kept: "all" pairs, or the "failed" ones.
        pairs: the pairs.
        sides: of each length the numbers of the clean and the stressed side in the plan.
    """

    stress: str
    kept: Kept
    pairs: frozenset[Pair]
    sides: dict[str, tuple[int, int]]

    @property
    def n_clips(self) -> int:
        """Distinct clips, the units of chance."""
        return len({clip for clip, _ in self.pairs})


@dataclass(slots=True)
class Plan:
    """What is pooled of one model.

    Attributes:
        everyone: every clip of the model, sorted: what resamples draw from.
        contrasts: in the order of the conditions, TOGETHER last.
        sides: pooled covariances, each once.
        clouds: the side of each condition (all its clips, uncut), and of TOGETHER.
        partners: the stresses of each clip that has a clean sample.
        failed: pairs whose stressed transcript failed.
    """

    everyone: list[str]
    contrasts: list[Contrast] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    clouds: dict[str, int] = field(default_factory=dict)
    partners: dict[str, list[str]] = field(default_factory=dict)
    failed: frozenset[Pair] = frozenset()

    def atoms(self) -> dict[Atom, list[int]]:
        """The atoms that are needed, each with the sides it belongs to."""
        found: dict[Atom, list[int]] = {}
        for number, side in enumerate(self.sides):
            for atom in side.atoms:
                found.setdefault(atom, []).append(number)
        return found

    def blocks(
        self, clip: str, conditions: Mapping[str, Rows], needed: Collection[Atom]
    ) -> Iterator[tuple[Atom, Rows]]:
        """The rows of one clip, by the needed atoms that they belong to."""
        for stress in self.partners.get(clip, ()):
            clean, stressed = conditions[CLEAN], conditions[stress]
            shorter = min(len(clean), len(stressed))
            failed = (clip, stress) in self.failed
            for role, rows in (("clean", clean), ("stressed", stressed)):
                for length in LENGTHS:
                    atom = Atom(role, length, stress, failed)
                    if atom in needed:
                        yield atom, rows[:shorter] if length == "matched" else rows
        for condition, rows in conditions.items():
            atom = Atom("cloud", "none", condition)
            if atom in needed:
                yield atom, rows


def failed_pairs(clips: pd.DataFrame | None, model: str) -> frozenset[Pair]:
    """Pairs whose stressed transcript has WER > 0.5 though its audio was not cut: the paper's filter.

    Args:
        clips: the clips records; None: nothing is known to have failed.
        model: whose.
    """
    if clips is None or clips.empty:
        return frozenset()
    rows = clips[clips["model"] == model]
    bad = (rows["wer"] > FAILED_WER) & ~rows["truncated"].astype(bool) & (rows["condition"] != CLEAN)
    return frozenset(zip(rows.loc[bad, "clip"].astype(str), rows.loc[bad, "condition"].astype(str), strict=True))


def plan(lengths: Mapping[str, Mapping[str, int]], failed: frozenset[Pair] = frozenset()) -> Plan:
    """What is pooled of a model with these samples.

    Conditions that leave nothing of the utterance are contrasts of their own; "together" is of speech under stress.

    Args:
        lengths: clips and the conditions each was measured in (`VectorSource.lengths`).
        failed: pairs whose stressed transcript failed; others than those measured are left out.
    """
    conditions = in_order({condition for clip in lengths.values() for condition in clip})
    stresses = [condition for condition in conditions if condition != CLEAN]
    paired = {clip: [one for one in stresses if one in found] for clip, found in lengths.items() if CLEAN in found}
    pairs = frozenset((clip, stress) for clip, found in paired.items() for stress in found)
    made = Plan(sorted(lengths), partners=paired, failed=failed & pairs)
    numbers: dict[Any, int] = {}
    groups = {stress: {stress} for stress in stresses}
    if spoken := {one for one in stresses if speaks(one)}:
        groups[TOGETHER] = spoken
    for kept in ("all", "failed"):
        chosen = pairs if kept == "all" else made.failed
        for stress, members in groups.items():
            mine = frozenset(pair for pair in chosen if pair[1] in members)
            if mine:
                made.contrasts.append(_contrast(made, numbers, stress, kept, mine))
    for condition in conditions:
        clips = [clip for clip, found in lengths.items() if condition in found]
        key = _key("clean" if condition == CLEAN else "stressed", "none", [(clip, condition) for clip in clips])
        made.clouds[condition] = _side(made, numbers, key, (Atom("cloud", "none", condition),), clips)
    for contrast in made.contrasts:
        if contrast.stress == TOGETHER and contrast.kept == "all":
            made.clouds[TOGETHER] = contrast.sides["none"][1]
    return made


def _contrast(made: Plan, numbers: dict[Any, int], stress: str, kept: Kept, pairs: frozenset[Pair]) -> Contrast:
    sides = {}
    clips = [clip for clip, _ in pairs]
    for length in LENGTHS:
        ends = []
        for role in ("clean", "stressed"):
            atoms = {Atom(role, length, one, (clip, one) in made.failed) for clip, one in pairs}
            ordered = tuple(sorted(atoms, key=lambda atom: (atom.condition, atom.failed)))
            ends.append(_side(made, numbers, _key(role, length, pairs), ordered, clips))
        sides[length] = (ends[0], ends[1])
    return Contrast(stress, kept, pairs, sides)


def _key(role: str, length: str, pairs: Collection[Pair]) -> Any:
    """Names the rows of a side: uncut clean rows are a clip's, whatever it is paired with."""
    if role == "clean" and length == "none":
        return role, length, frozenset(Counter(clip for clip, _ in pairs).items())
    return role, length, frozenset(pairs)


def _side(made: Plan, numbers: dict[Any, int], key: Any, atoms: tuple[Atom, ...], clips: Collection[str]) -> int:
    if key not in numbers:
        numbers[key] = len(made.sides)
        made.sides.append(Side(atoms, tuple(sorted(set(clips)))))
    return numbers[key]
