"""C5: training creates alignment, as a line of the ledger."""

from __future__ import annotations

from typing import Any

import theory
from bridge.comparison.statistics import Interval, Verdict
from bridge.ledger.settling import line, number
from theory.claims.training import LEAST_ALIGNMENT_GAIN, side

_VERDICTS: dict[str, Verdict] = {"above": "supported", "below": "refuted", "across": "unresolved"}
_SAID = {"above": "above", "below": "below", "across": "undecided"}


def training_line(check: theory.ClaimCheck, command: str) -> dict[str, Any]:
    """C5 from `theory.check_c5`; the rule that makes the verdict is stated there."""
    rows = check.details["rows"]
    judged = [row for row in rows if row["decides"]]
    conditions = "; ".join(
        f"{short(row['name'])}: {row['alignment']['start']:.2f} to {row['alignment']['end']:.2f}, "
        f"{_change(row)}, {_SAID[row['side']]}" + ("" if row["fitted"] else " (it did not learn)")
        for row in judged
    )
    why = (
        f"Mean alignment of layers 2..L at the start and the end of training, its rise, and where that lies: "
        f"{conditions}. Refuting takes one of them, supporting all. {_control(rows)} {_regimes(judged)} "
        "Where to expect alignment: gradient flow keeps the imbalance A_{l+1}^T A_{l+1} - A_l A_l^T - B_l B_l^T of the "
        "start, which decay of A_l and B_l shrinks (T29), and layers align where it is small beside sigma^2 (T30)."
    )
    return line(
        "C5",
        test=f"Rise of the mean alignment of layers 2..L in training, in each of {len(judged)} conditions fixed "
        "beforehand: deep linear, residual and nonlinear residual chains, teacher of rank 1 and of full rank, usual "
        "start, Adam; a task that needs the context; intervals that hold together with 95 %. Shown is the condition "
        f"that carries the verdict: {short(check.details['condition'])}.",
        found=_VERDICTS[check.details["carries"]],
        interval=Interval(float(check.effect), float(check.interval[0]), float(check.interval[1]), int(check.n)),
        least_effect=LEAST_ALIGNMENT_GAIN,
        direction="greater",
        command=command,
        why=why,
        scope=_scope(rows),
    )


def short(name: str) -> str:
    """A condition's name without what is usual."""
    return name.replace(", standard start", "").replace(", adam", "").replace("rank full", "full rank")


def _change(row: dict[str, Any]) -> str:
    low, high = row.get("simultaneous", row["change_interval"])
    return f"{row['change']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _names(rows: list[dict[str, Any]]) -> str:
    return "; ".join(short(row["name"]) for row in rows)


def _scope(rows: list[dict[str, Any]]) -> str:
    """Where the claim holds, of everything that was run; empty where all agree."""
    by_side = {name: [row for row in rows if row["side"] == name] for name in _SAID}
    if sum(bool(found) for found in by_side.values()) == 1:
        return ""
    if by_side["above"]:
        text = f"Only for: {_names(by_side['above'])}."
    else:
        text = "For none of the conditions with certainty."
    if by_side["below"]:
        text += f" Not for: {_names(by_side['below'])}."
    if by_side["across"]:
        text += f" Undecided: {_names(by_side['across'])}."
    return text


def _control(rows: list[dict[str, Any]]) -> str:
    """What the shuffled labels say, for the conditions in which alignment rose and for all."""
    apart = {name: [row for row in rows if side(row["against_shuffled_interval"]) == name] for name in _SAID}
    text = (
        "Against the control, the same chains trained on shuffled labels, alignment at the end is higher by more than "
        f"{LEAST_ALIGNMENT_GAIN:g} in {len(apart['above'])} of {len(rows)} conditions, by less in "
        f"{len(apart['below'])}, undecided in {len(apart['across'])}."
    )
    risen = [row for row in rows if row["side"] == "above"]
    if risen:
        makes = sum(row in apart["above"] for row in risen)
        alike = sum(row in apart["below"] and side(row["change_shuffled_interval"]) == "above" for row in risen)
        text += (
            f" Of the {len(risen)} in which training aligns, the task makes it in {makes}, and in {alike} shuffled "
            "labels align as well: there it is training that aligns, not what is learnt."
        )
    most = max(rows, key=lambda row: row["against_shuffled"])
    low, high = most["against_shuffled_interval"]
    return text + (
        f" The largest difference is {number(Interval(most['against_shuffled'], low, high, most['n']))} "
        f"({short(most['name'])})."
    )


def _regimes(rows: list[dict[str, Any]]) -> str:
    one, two = (sum(row[name] for row in rows) / len(rows) for name in ("regime_one", "regime_two"))
    return (
        f"The paper's rule puts {one:.0%} of the trained chains in its Regime I, {two:.0%} in Regime II and the rest "
        "outside the theorem."
    )
