"""The record of an operator's leading singular triplets: what was found, how good it is, and what it took."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Products:
    """Products of an operator with one direction, forward and reverse alike, by what they were for.

    Attributes:
        iteration: growing the left space until the values stand still; all rows of the matrix in the dense case.
        guard: looking again, from random directions, for a value that a small block has missed.
        verification: the residuals, by products of their own.
        norm: the probes of the Frobenius norm.
    """

    iteration: int = 0
    guard: int = 0
    verification: int = 0
    norm: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.iteration + self.guard + self.verification + self.norm


@dataclass(frozen=True, slots=True, eq=False)
class Triplets:
    """The k leading singular triplets of an operator A (rows x cols).

    Attributes:
        s: singular values, descending, (k,) float64; NaN where unconverged.
        estimate: the same without NaN: best estimates, for error messages and warm starts, never to be reported.
        u: left vectors, (rows, k) float64, unit.
        v: right vectors, (cols, k), of the operator's dtype, unit up to its rounding.
        residual: max of both residuals relative to s; relative to s_1 where s is 0 to rounding.
        converged: (k,) bool, residual <= tolerance.
        frobenius: ||A||_F; exact where the spectrum is complete, else a deflated Hutchinson estimate.
        frobenius_se: its standard error, 0 where exact.
        spectrum: all min(rows, cols) singular values, or None where they are not known.
        steps: block steps taken, the guard's among them; 0 for the dense case.
        block: directions a step; 0 for the dense case.
        refusals: times that memory was refused, each of which halved the block, where there was more than one.
        products: what it took, without attempts that were refused memory.
    """

    s: Tensor
    estimate: Tensor
    u: Tensor
    v: Tensor
    residual: Tensor
    converged: Tensor
    frobenius: float
    frobenius_se: float
    spectrum: Tensor | None
    steps: int
    block: int = 0
    refusals: int = 0
    products: Products = Products()

    @property
    def share(self) -> tuple[float, float]:
        """s_1^2 / ||A||_F^2 and its standard error; NaN where s_1 is unconverged or A is zero."""
        first = float(self.s[0])
        if not math.isfinite(first) or self.frobenius == 0.0:
            return math.nan, math.nan
        share = min(1.0, first**2 / self.frobenius**2)
        return share, 2.0 * share * self.frobenius_se / self.frobenius

    @property
    def effective_rank(self) -> float:
        """exp(entropy of s_i^2 / ||A||_F^2) over the whole spectrum (O2, Jacobian's Gram matrix); NaN if unknown."""
        if self.spectrum is None or not float(self.spectrum[0]) > 0.0:
            return math.nan
        p = self.spectrum.square() / self.spectrum.square().sum()
        return math.exp(float(torch.special.entr(p).sum()))
