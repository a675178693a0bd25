"""Which activations are pooled against which: contrasts of a stress with clean, and the sets of rows they share.

A contrast pools pairs, a stressed sample and the clean one of its clip. Its two sides at one length are sets of rows,
and contrasts share rows: the failed pairs are among all pairs. So rows are summed in *atoms* (role x length x stress x
failed or not), which merge into sides exactly, and sides of the same rows are decomposed once.

"together" pools the stresses that `conditions.judged` names as one condition, one stressed sample a clip: where a run
put several on each clip, one is drawn by seed, as a "Hell" set with one stress an utterance would have it. All of them
against clean rows that come once a pair would compare, at three stresses, three times as many different rows with the
same ones thrice, and the small eigenvalues of a covariance grow with the number of different rows: 24 clips of 10
tokens in d = 128 lose 8 % of N_eff stress by stress, and seem to lose none that way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from bridge.comparison.conditions import CLEAN, in_order, judged
from bridge.comparison.vectors import Rows
from observables.thresholds import FAILED_WER

Kept = Literal["all", "failed"]
TOGETHER = "together"
"""Stressed samples of all conditions pooled as one, one a clip, against their clean ones: the paper's "Hell" set."""

LENGTHS = ("matched", "none")
Pair = tuple[str, str]
"""Clip, stressed condition."""


@dataclass(frozen=True, slots=True)
class Atom:
    """Rows that every side takes or leaves together.

    Attributes:
        role: "clean", "stressed", or "cloud" for all clips of a condition, paired or not.
        length: "matched" or "none".
        stress: of the pairs, or TOGETHER; of a cloud its condition.
        part: "passed" or "failed" by the stressed transcript; "other" of TOGETHER, failed pairs of clips of which
            another pair, that did not fail, was drawn.
    """

    role: str
    length: str
    stress: str
    part: str = ""


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
        pairs: the pairs, one a clip.
        sides: of each length the numbers of the clean and the stressed side in the plan.
    """

    stress: str
    kept: Kept
    pairs: frozenset[Pair]
    sides: dict[str, tuple[int, int]]


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
        uses: of each clip the stress of an atom, the stressed sample it takes, and the atom's part.
    """

    everyone: list[str]
    contrasts: list[Contrast] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)
    clouds: dict[str, int] = field(default_factory=dict)
    partners: dict[str, list[str]] = field(default_factory=dict)
    failed: frozenset[Pair] = frozenset()
    uses: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

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
        for stress, sample, part in self.uses.get(clip, ()):
            clean, stressed = conditions[CLEAN], conditions[sample]
            shorter = min(len(clean), len(stressed))
            for role, rows in (("clean", clean), ("stressed", stressed)):
                for length in LENGTHS:
                    atom = Atom(role, length, stress, part)
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


def plan(lengths: Mapping[str, Mapping[str, int]], failed: frozenset[Pair] = frozenset(), *, seed: int = 0) -> Plan:
    """What is pooled of a model with these samples.

    Conditions that leave nothing of the utterance are contrasts of their own; "together" is of speech under stress.

    Args:
        lengths: clips and the conditions each was measured in (`VectorSource.lengths`).
        failed: pairs whose stressed transcript failed; others than those measured are left out.
        seed: of the draw of one stress a clip.
    """
    conditions = in_order({condition for clip in lengths.values() for condition in clip})
    stresses = [condition for condition in conditions if condition != CLEAN]
    paired = {clip: [one for one in stresses if one in found] for clip, found in lengths.items() if CLEAN in found}
    pairs = frozenset((clip, stress) for clip, found in paired.items() for stress in found)
    made = Plan(sorted(lengths), partners=paired, failed=failed & pairs)
    meant = judged(stresses)
    chosen: dict[tuple[str, Kept], dict[Pair, Atom]] = {}
    for clip, found in paired.items():
        uses = [(stress, stress, "failed" if (clip, stress) in made.failed else "passed") for stress in found]
        uses += _drawn(clip, [one for one in found if one in meant], made.failed, seed)
        made.uses[clip] = uses
        for stress, sample, part in uses:
            if part != "other":
                chosen.setdefault((stress, "all"), {})[clip, sample] = Atom("", "", stress, part)
            if part != "passed":
                chosen.setdefault((stress, "failed"), {})[clip, sample] = Atom("", "", stress, part)
    numbers: dict[Any, int] = {}
    kept: Kept
    for kept in ("all", "failed"):
        for stress in (*stresses, TOGETHER):
            if mine := chosen.get((stress, kept)):
                made.contrasts.append(_contrast(made, numbers, stress, kept, mine))
    for condition in conditions:
        clips = [clip for clip, found in lengths.items() if condition in found]
        key = _key("clean" if condition == CLEAN else "stressed", "none", [(clip, condition) for clip in clips])
        made.clouds[condition] = _side(made, numbers, key, (Atom("cloud", "none", condition),), clips)
    for contrast in made.contrasts:
        if contrast.stress == TOGETHER and contrast.kept == "all":
            made.clouds[TOGETHER] = contrast.sides["none"][1]
    return made


def _drawn(clip: str, stresses: list[str], failed: frozenset[Pair], seed: int) -> list[tuple[str, str, str]]:
    """The sample that stands for a clip among all stresses as one, and among the failed ones: the same if it failed."""
    if not stresses:
        return []
    chance = int.from_bytes(hashlib.sha256(f"together\0{seed}\0{clip}".encode()).digest()[:8])
    one = stresses[chance % len(stresses)]
    if (clip, one) in failed:
        return [(TOGETHER, one, "failed")]
    others = [stress for stress in stresses if (clip, stress) in failed]
    more = [(TOGETHER, others[chance % len(others)], "other")] if others else []
    return [(TOGETHER, one, "passed"), *more]


def _contrast(made: Plan, numbers: dict[Any, int], stress: str, kept: Kept, pairs: Mapping[Pair, Atom]) -> Contrast:
    sides = {}
    clips = [clip for clip, _ in pairs]
    parts = sorted({atom.part for atom in pairs.values()})
    for length in LENGTHS:
        ends = []
        for role in ("clean", "stressed"):
            atoms = tuple(Atom(role, length, stress, part) for part in parts)
            ends.append(_side(made, numbers, _key(role, length, pairs), atoms, clips))
        sides[length] = (ends[0], ends[1])
    return Contrast(stress, kept, frozenset(pairs), sides)


def _key(role: str, length: str, pairs: Collection[Pair]) -> Any:
    """Names the rows of a side: uncut clean rows are a clip's, whatever it is paired with, and no clip comes twice."""
    if role == "clean" and length == "none":
        return role, length, frozenset(clip for clip, _ in pairs)
    return role, length, frozenset(pairs)


def _side(made: Plan, numbers: dict[Any, int], key: Any, atoms: tuple[Atom, ...], clips: Collection[str]) -> int:
    if key not in numbers:
        numbers[key] = len(made.sides)
        made.sides.append(Side(atoms, tuple(sorted(set(clips)))))
    return numbers[key]
