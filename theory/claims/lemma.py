"""Claim C1, Lemma 1 (P1): the error of the dominant path, measured on twisted chains."""

from __future__ import annotations

import numpy as np

from theory.bounds.perturbation import perturbation_error
from theory.bounds.rates import first_order_error
from theory.chains.twisted import twisted_chain
from theory.claims.check import ClaimCheck
from theory.counterexamples.collection import counterexamples

__all__ = ["check_p1", "dominant_path_error"]

P1_TABLE = ((0.1, 0.001, 10), (0.3, 0.01, 20), (0.5, 0.01, 32), (0.9, 0.01, 32), (0.99, 0.01, 64), (0.9, 0.05, 64))
"""(alignment, gap, depth) of the chains that `check_p1` builds; docs/equations.md, (T12)."""


def dominant_path_error(alignment: float, gap: float, depth: int) -> float:
    """||P - P*|| / ||P*|| of the fastest twisted chain (T11), measured on its dense product."""
    chain = twisted_chain(alignment, gap, depth)
    # Each layer is divided by kappa, so that ||P*|| = 1 / kappa at any depth.
    layers = np.asarray(chain.propagators) / alignment
    product = np.linalg.multi_dot(layers[::-1]) if depth > 1 else layers[0]
    path = np.outer(chain.u[-1], chain.v[0]) / alignment
    return float(np.linalg.norm(product - path, 2) * alignment)


def check_p1() -> ClaimCheck:
    """Lemma 1 (P1), claim C1: is the error of the dominant path at most L xi / kappa?

    Twisted chains (T11) over a small table. The effect is the worst measured error / (L xi / kappa); the lemma says at
    most 1. Deterministic, so its interval has no width. In details, beside the table, the smallest counterexamples.
    """
    rows = []
    for kappa, xi, depth in P1_TABLE:
        error, claimed = dominant_path_error(kappa, xi, depth), float(first_order_error(depth, kappa, xi))
        bound = float(perturbation_error(np.full(depth, kappa), np.full(depth, xi)))
        rows.append(
            {
                "alignment": kappa,
                "gap": xi,
                "depth": depth,
                "measured": error,
                "first_order": claimed,
                "bound": bound,
                "ratio": error / claimed,
            }
        )
    worst = max(row["ratio"] for row in rows)
    return ClaimCheck(
        "C1",
        "worst measured error of the dominant path / (L xi / kappa); claimed: at most 1",
        worst,
        (worst, worst),
        len(rows),
        {
            "rows": rows,
            "within_corrected_bound": all(row["measured"] <= row["bound"] for row in rows),
            "smallest": [
                {
                    "name": one.name,
                    "depth": one.parameters.depth,
                    "claimed": one.claimed,
                    "measured": one.measured,
                    "verified": one.verify(),
                    "line": one.line,
                }
                for one in counterexamples("P1")
            ],
        },
    )
