"""Write docs/properties.md from the JSON that each law's run left.

Usage: python -m tests.properties.record RECORD_DIRECTORY docs/properties.md
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from tests.properties.laws import LAWS
from tests.properties.recipes import FAMILIES
from tests.properties.tally import Counts, Tally

__all__ = ["page"]

OPENING = """# Properties

Every rigorous bound of docs/equations.md is a law that no chain may break by more than rounding. `make properties`
tries each on {examples:,} chains drawn by Hypothesis (`make properties EXAMPLES=1000 SEED=7` for fewer, or others)
and writes this page. The last run: {laws} laws, {total:,} chains, {violations} violations, {seconds:.0f} s of processor
time ({slowest:.0f} s for the slowest law, {per:.1f} ms a chain on average).

The chains have d = 1..8, L = 1..12 or 40, and 1..5 context directions. Families: {families}.
Alignment and gap reach 0 and 1, in single layers or in all, and alignment also kappa_c and sqrt(1 - s^2) with s down
to 1e-12. Layers may be 0; operator norms and injections reach 1e-150 and 1e150, all alike or layer by layer.
Injections are none, coherent, coherent in part, random, adversarial (signed, in the direction in which the next layer
looks), sparse, or in the first layer only. The truth is multiplied out from dense layers, each with a power of two of
its own.

A chain is *checked* where the law says something of it and the truth stands out of its rounding, *below rounding*
where the truth is too small for that (it is still held to the bound plus its rounding), and *nothing claimed* where a
hypothesis of the law does not hold. Slack is the logarithm of bound over truth (of truth over bound for lower
bounds): 0 where a bound is attained. A small negative one is rounding: a truth of 1e-9 of the layers' norms is known to
1e-5 only, and *margin used* is the largest share of its margin that any chain needed. The margin of a chain adds what
rounding may do to the truth, (L + 1) (16 d + d max(d, m)) eps of the product of the norms, to how far the bound moves
when its inputs are pushed by 16 eps each; both are derived where they are computed
(`tests/properties/examples.py`, `laws_*.py`). In (T27) the second part is an estimate, four times that movement, and no
proof.

The laws bite: `tests/properties/test_bite.py` changes the code of the bounds at every place of its arithmetic, one at
a time (each constant 2 % up and down; s, kappa, xi, p+ and q+ exchanged; a term or a factor dropped; max and min
exchanged; hypot reduced to an argument; a comparison turned). Every change but the few listed there as equivalent, each
with its reason, is refuted: some chain breaks it, or a named chain no longer attains it, or it no longer speaks where
it should. (T27) is attained by few chains: there a change of what moves the cone is refuted or only loosens a bound,
and of the changes to its rank-one error some that tighten it are broken by no chain of the pool.
"""


def _slack(counts: Counts | None) -> str:
    if counts is None or counts.checked == 0 or math.isinf(counts.worst):
        return "–"
    return f"{counts.worst:.1e}" if abs(counts.worst) < 1e-3 else f"{counts.worst:.3f}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page(tallies: list[Tally]) -> str:
    """The whole page, from the laws' records."""
    order = {tag: index for index, tag in enumerate(LAWS)}
    tallies = sorted(tallies, key=lambda tally: order.get(tally.tag, len(order)))
    total, seconds = sum(tally.total("examples") for tally in tallies), sum(tally.seconds for tally in tallies)
    lines = [
        OPENING.format(
            examples=max(tally.total("examples") for tally in tallies),
            laws=len(tallies),
            total=total,
            violations=sum(tally.total("violations") for tally in tallies),
            seconds=seconds,
            slowest=max(tally.seconds for tally in tallies),
            per=1e3 * seconds / total,
            families=", ".join(FAMILIES),
        ),
        "## Counts",
        "",
        _row(
            ["law", "claim", "chains", "checked", "below rounding", "nothing claimed", "violations", "margin used", "s"]
        ),
        _row(["---"] * 9),
    ]
    for tally in tallies:
        counts = [tally.total(name) for name in ("examples", "checked", "below_rounding", "nothing_claimed")]
        numbers = [f"{count:,}" for count in counts] + [str(tally.total("violations"))]
        used = max(counted.margin_used for counted in tally.families.values())
        numbers += [f"{used:.2f}", f"{tally.seconds:.0f}"]
        lines.append(_row([tally.tag, f"`{tally.sentence}`", *numbers]))
    lines += ["", "## Least slack by family", "", _row(["law", *FAMILIES]), _row(["---"] * (len(FAMILIES) + 1))]
    lines += [_row([tally.tag, *(_slack(tally.families.get(family)) for family in FAMILIES)]) for tally in tallies]
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    """The command."""
    directory, target = (Path(argument) for argument in arguments)
    text = page([Tally.read(path) for path in sorted(directory.glob("*.json"))])
    target.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
