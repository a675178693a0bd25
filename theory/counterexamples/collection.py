"""All counterexamples, by the claim they refute."""

from __future__ import annotations

from theory.counterexamples.published import against_collapse, against_decay, against_lemma
from theory.counterexamples.record import Counterexample
from theory.counterexamples.tempting import against_products
from theory.counterexamples.typical import against_decay_typically

__all__ = ["counterexamples"]


def counterexamples(claim: str | None = None) -> tuple[Counterexample, ...]:
    """Chains on which the published statements (P1)-(P3), and two tempting products of rates, fail.

    Args:
        claim: only those against this one: "P1", "P2", "P3", "T8 by layer" or "T9 by layer". None for all.

    Returns:
        Counterexamples, the smallest first within each claim; each checks itself by `verify()`.

    Raises:
        ValueError: if there is none against that claim.
    """
    everything = (
        *against_lemma(),
        *against_decay(),
        against_decay_typically(),
        *against_collapse(),
        *against_products(),
    )
    if claim is None:
        return everything
    chosen = tuple(one for one in everything if one.claim == claim)
    if not chosen:
        known = ", ".join(dict.fromkeys(one.claim for one in everything))
        raise ValueError(f"claim must be one of {known}; got {claim!r}")
    return chosen
