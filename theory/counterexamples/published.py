"""Smallest chains found that break (P1), (P2) and (P3) inside their own hypotheses."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from observables import ChainParameters
from theory.bounds.hypotheses import Hypothesis
from theory.bounds.published import published_bounds
from theory.counterexamples.exact import (
    Matrix,
    alignment_squared,
    gap_squared,
    matrix,
    norm_exceeds,
    product,
)
from theory.counterexamples.record import Counterexample, chain_of_rational_layers

__all__ = ["against_collapse", "against_decay", "against_lemma"]

LEMMA = "||P - P*|| / ||P*|| <= L xi / kappa, for P = A_L ... A_1 and P* = (prod sigma)(prod kappa) u_L v_1^T (Lemma 1)"
DECAY = "sup rho_l < 1 implies that early injections decay exponentially and ||J_L|| stays bounded in L (Regime I)"
COLLAPSE = (
    "rho_l >= 1, kappa_l close to 1, coherent injections and L xi / kappa << 1 imply J_L = u_L psi^T + noise with "
    "small relative noise: rank-1 collapse (Regime II)"
)


def _hypotheses(parameters: ChainParameters, claim: str) -> tuple[Hypothesis, ...]:
    return next(one.hypotheses for one in published_bounds(parameters) if one.tag == claim)


def against_lemma() -> tuple[Counterexample, ...]:
    """(P1): three equal 2 x 2 layers, and ten of them with a factor of ten.

    L = 2 cannot do it, in any dimension: E = P - P* has the blocks 0, v_2^T R_1, R_2 u_1 and R_2 R_1 in the bases
    (u_2, across) and (v_1, across), of norms at most 0, s xi, s xi and xi^2 (sigma = 1), so that
    ||E|| <= xi (xi + sqrt(xi^2 + 4 s^2)) / 2 <= 0.81 (2 xi), and ||P*|| = kappa.
    """
    return (
        _lemma(
            "lemma-three-layers",
            ((100, 300), (3, -1)),
            100,
            3,
            "np.linalg.norm(np.linalg.matrix_power([[1, 3], [.03, -.01]], 3) - [[1, 3], [0, 0]], 2) / 10**.5 "
            "> 3 * .01 * 10**.5",
            "least L (L = 2 is proved impossible); among equal layers [[1, t], [t x, -x]] t = 3 is the least integer, "
            "and x = 1/100 lies well inside L xi / kappa << 1",
        ),
        _lemma(
            "lemma-ten-times",
            ((1000, 10000), (10, -1)),
            1000,
            10,
            "np.linalg.norm(np.linalg.matrix_power([[1, 10], [.01, -.001]], 10) - [[1, 10], [0, 0]], 2) / 101**.5 "
            "> 10 * (10 * .001 * 101**.5)",
            "the same form with t = 10, x = 1/1000, L = 10: an error ten times what is allowed, and above 1",
        ),
    )


def _lemma(
    name: str, rows: tuple[tuple[int, int], ...], divisor: int, depth: int, line: str, found: str
) -> Counterexample:
    layer = matrix(rows, divisor)
    layers = (layer,) * depth
    chain, parameters = chain_of_rational_layers(layers)
    path = _dominant_path(layers)
    total = product(layers)
    gap = tuple(tuple(x - y for x, y in zip(p, q, strict=True)) for p, q in zip(total, path, strict=True))
    error = np.array([[float(x) for x in row] for row in gap])
    size = math.sqrt(float(sum((x * x for x in path[0]), Fraction(0))))
    first_order = depth**2 * gap_squared(layer) / alignment_squared(layer)

    def refutes() -> bool:
        # ||P - P*||^2 > (L xi / kappa)^2 ||P*||^2, all rational; P* has one row.
        return norm_exceeds(gap, first_order * sum((x * x for x in path[0]), Fraction(0)))

    return Counterexample(
        name=name,
        claim="P1",
        statement=LEMMA,
        chain=chain,
        parameters=parameters,
        hypotheses=_hypotheses(parameters, "P1"),
        quantity="||P - P*|| / ||P*||",
        claimed=math.sqrt(float(first_order)),
        measured=float(np.linalg.norm(error, 2)) / size,
        line=line,
        found=found,
        layers=layers,
        refutes=refutes,
    )


def _dominant_path(layers: tuple[Matrix, ...]) -> Matrix:
    """P* = sigma_1 u_L v_1^T prod_{l>=2} sigma_l kappa_l: A_1's first row times the later layers' first entries."""
    gain = Fraction(1)
    for layer in layers[1:]:
        gain *= layer[0][0]
    zero = tuple(Fraction(0) for _ in layers[0][0])
    return (tuple(gain * x for x in layers[0][0]), zero)


def against_decay() -> tuple[Counterexample, ...]:
    """(P2): one 2 x 2 layer, repeated, with an exact eigenvalue above 1 and rho below it."""
    return (
        _decay(
            "decay-no-gain",
            ((0, 2), (1, 0)),
            1,
            (1, 0),
            2,
            Fraction(2),
            "by hand: kappa = 0, so rho = 0, the smallest there is, and A^2 = 2 I",
        ),
        _decay(
            "decay-roundest",
            ((2, 6), (3, -1)),
            3,
            (2, 1),
            1,
            Fraction(5, 3),
            "least sum of integers and divisor among all [[r, b], [x b, -x r]] with r, x, b of denominators up to 5, "
            "0 < r < 1, 0 < x < 1 and a rational eigenvalue above 1",
        ),
        _decay(
            "decay-rational-numbers",
            ((117, 156), (48, -36)),
            130,
            (4, 1),
            1,
            Fraction(6, 5),
            "sigma = 3/2, kappa = 3/5, xi = 4/13 rational too, rho = 9/10; xi solves Lambda_max(3/5, xi) = 4/5",
        ),
    )


def _decay(
    name: str,
    rows: tuple[tuple[int, int], ...],
    divisor: int,
    vector: tuple[int, int],
    period: int,
    growth: Fraction,
    found: str,
) -> Counterexample:
    depth, layer = 12, matrix(rows, divisor)
    layers = (layer,) * depth
    chain, parameters = chain_of_rational_layers(layers)

    def refutes() -> bool:
        # An exact eigenvector: A^period x = growth x, growth > 1, while rho^2 = (first entry)^2 < 1.
        x = tuple((Fraction(entry),) for entry in vector)
        moved = product((x, *(layer,) * period))
        return growth > 1 and layer[0][0] < 1 and all(m[0] == growth * y[0] for m, y in zip(moved, x, strict=True))

    entries = f"np.array({[list(row) for row in rows]})"
    whole = entries if divisor == 1 else f"{entries} / {divisor}"
    power = f"({whole})" if period == 1 else f"np.linalg.matrix_power({whole}, {period})"
    return Counterexample(
        name=name,
        claim="P2",
        statement=DECAY,
        chain=chain,
        parameters=parameters,
        hypotheses=_hypotheses(parameters, "P2"),
        quantity="growth of ||P_{L:k}|| a layer; early injections decay only if it is below 1",
        claimed=1.0,
        measured=float(growth) ** (1 / period),
        line=f"{Fraction(rows[0][0], divisor)} < 1 < {growth} and "
        f"np.allclose({power} @ {list(vector)}, {growth} * np.array({list(vector)}))",
        found=found,
        layers=layers,
        refutes=refutes,
    )


def against_collapse() -> tuple[Counterexample, ...]:
    """(P3): two layers with gap 0, alignment 1 and gain 1, at which every condition is at its best.

    With A_l = e_1 e_1^T, J_L is the sum of the parts along u plus the last injection's part across, and conditions 3a-c
    say nothing about the latter.
    """
    layer = matrix(((1, 0), (0, 0)))
    return (
        _collapse(
            "collapse-across-injection",
            (layer,) * 2,
            matrix(((1, 0), (0, 2))),
            "sigma_2 / sigma_1 of J_L; collapse needs it small",
            "abs(np.linalg.cond(np.array([[1, 0], [0, 0]]) @ np.diag([1, 2]) + np.diag([1, 2])) - 1) < 1e-9",
            "by hand; the conditions leave the injections' part across u free: at L = 2 twice the part along is enough",
        ),
        _collapse(
            "collapse-equal-injection",
            (layer,) * 2,
            matrix(((1, 0), (0, 1))),
            "sigma_2 / sigma_1 of J_L; collapse needs it small",
            "abs(np.linalg.cond(np.array([[1, 0], [0, 0]]) + np.eye(2)) - 2) < 1e-9",
            "by hand; B_l = I: sigma_2 / sigma_1 = 1 / L, so that collapse in the operator norm takes depth, and in d "
            "dimensions the first direction's share of ||J_L||_F^2, L^2 / (L^2 + d - 1), falls to 0 with d at any L",
        ),
    )


def _collapse(
    name: str, layers: tuple[Matrix, ...], injection: Matrix, quantity: str, line: str, found: str
) -> Counterexample:
    chain, parameters = chain_of_rational_layers(layers, (injection,) * len(layers))
    depth = len(layers)

    def jacobian() -> tuple[Fraction, Fraction]:
        total = injection
        for layer in layers[1:]:
            moved = product((total, layer))
            total = tuple(
                tuple(x + y for x, y in zip(p, q, strict=True)) for p, q in zip(moved, injection, strict=True)
            )
        if total[0][1] or total[1][0]:
            raise ArithmeticError("the Jacobian of this counterexample is diagonal")
        return total[0][0], total[1][1]

    along, across = jacobian()
    return Counterexample(
        name=name,
        claim="P3",
        statement=COLLAPSE,
        chain=chain,
        parameters=parameters,
        hypotheses=_hypotheses(parameters, "P3"),
        quantity=quantity,
        claimed=0.0,
        measured=float(min(along, across) / max(along, across)),
        line=line,
        found=found,
        layers=layers,
        # What (P3)'s proof calls small is L xi / kappa, here 0.
        refutes=lambda: all(gap_squared(layer) == 0 for layer in layers[:depth]) and jacobian()[1] > 0,
    )
