"""What a counterexample is: a chain, the statement it refutes, the numbers, and a check anyone can repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from observables import ChainParameters
from theory.bounds.hypotheses import Hypothesis
from theory.chains.chain import Chain
from theory.counterexamples.exact import Matrix

__all__ = ["Counterexample", "chain_of_rational_layers"]


@dataclass(frozen=True, slots=True, eq=False)
class Counterexample:
    """A chain on which a statement fails.

    Attributes:
        name: short, with hyphens.
        claim: tag of the statement, such as "P1", or of the tempting form of one, such as "T8 by layer".
        statement: what is claimed, in the paper's words where it is the paper's.
        chain: the chain, unbatched.
        parameters: its numbers.
        hypotheses: each hypothesis of the statement, evaluated on this chain.
        quantity: what is compared, in words.
        claimed: what the statement allows.
        measured: what the chain does.
        line: a Python expression that needs `np` (NumPy) alone and is True when the statement fails.
        found: how it was found, and in what sense it is smallest.
        layers: the layers as exact fractions; None for a chain of random directions.
        refutes: the exact (or, for a random chain, the numerical) check behind `verify`.
    """

    name: str
    claim: str
    statement: str
    chain: Chain
    parameters: ChainParameters
    hypotheses: tuple[Hypothesis, ...]
    quantity: str
    claimed: float
    measured: float
    line: str
    found: str
    layers: tuple[Matrix, ...] | None = field(repr=False)
    refutes: Callable[[], bool] = field(repr=False)

    @property
    def holds_paper_hypotheses(self) -> bool:
        """Whether every hypothesis of the statement holds on this chain."""
        return all(one.holds is True for one in self.hypotheses)

    def verify(self) -> bool:
        """Recompute everything: the hypotheses hold and the statement fails, exactly where the layers are rational."""
        return self.holds_paper_hypotheses and bool(self.refutes())


def chain_of_rational_layers(
    layers: tuple[Matrix, ...], injections: tuple[Matrix, ...] | None = None
) -> tuple[Chain, ChainParameters]:
    """The float64 chain of 2 x 2 layers with u_l = e_1, and its numbers, each the rounding of an exact root.

    Injections default to e_1 in every layer, for a context of one dimension. Their part across u_l is read from the
    second row, and their coherent part from the first column.
    """
    a = np.array([[[float(x) for x in row] for row in layer] for layer in layers])
    sigma = np.linalg.norm(a[:, 0], axis=1)
    v = a[:, 0] / sigma[:, None]
    # The gauge: u_1 = e_1, and <v_l, u_{l-1}> >= 0; these layers have a non-negative first entry.
    u = np.zeros_like(v)
    u[:, 0] = 1.0
    residual = a.copy()
    residual[:, 0] = 0.0
    if injections is None:
        b = np.tile(np.array([[1.0], [0.0]]), (len(layers), 1, 1))
    else:
        b = np.array([[[float(x) for x in row] for row in one] for one in injections])
    kappa, s = np.abs(v[:, 0]), np.abs(v[:, 1])
    kappa[0] = s[0] = np.nan
    parameters = ChainParameters(
        sigma=sigma,
        gap=np.linalg.norm(a[:, 1], axis=1) / sigma,
        alignment=kappa,
        injection_along=np.linalg.norm(b[:, 0], axis=1),
        injection_across=np.linalg.norm(b[:, 1], axis=1),
        injection_coherent=b[:, 0, 0].copy(),
        misalignment=s,
        bulk_gap=np.linalg.norm(a[:, 1], axis=1) / sigma,
    )
    return Chain(sigma=sigma, u=u, v=v, residual=residual, injection=b), parameters
