"""Dense chains whose parameters are known, and the truth about them at any scale.

A layer is kept as a matrix of ordinary size and a power of two, A_l = 2^e_l * layers[l], so that chains with operator
norms from 1e-150 to 1e150 in single layers are multiplied without overflow and scaled without any rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters

__all__ = ["EPS", "Example", "Jacobian", "pushed"]

EPS = float(np.finfo(np.float64).eps)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Jacobian:
    """J_L of an example in units of 2^exponent.

    Attributes:
        matrix: J_L, shape (d, m).
        exponent: its power of two.
        exponents: those of J_1 .. J_L, shape (L,).
        rows: u_l^T J_l in units of 2^exponents[l], shape (L, m).
        size: sum_k prod_{l>k} ||A_l|| ||B_k||_F, which rounding errors of J_L are relative to.
        sigma, along, across: sigma_l, beta_l and b_l in the units of J_l and J_{l-1}, shape (L,): what the
            certificate's recursion would see of the rescaled chain.
    """

    matrix: Array
    exponent: int
    exponents: NDArray[np.int64]
    rows: Array
    size: float
    sigma: Array
    along: Array
    across: Array


@dataclass(frozen=True, eq=False)
class Example:
    """One chain, dense, with its parameters.

    Attributes:
        family: name under which its slack is recorded.
        parameters: of the true chain, at its true scale.
        layers: A_l / 2^layer_exponents[l], shape (L, d, d).
        injections: B_l / 2^injection_exponents[l], shape (L, d, m).
        u, v: leading singular vectors in the gauge <v_l, u_{l-1}> >= 0, shape (L, d).
        layer_exponents, injection_exponents: powers of two, integers, shape (L,).
        across_frobenius: ||(I - u_l u_l^T) B_l||_F at true scale, shape (L,).
        angle_error: absolute error of kappa_l and s_l; 0 where the chain was built from them. Singular vectors from an
            SVD are those of a layer within 16 d eps of the given one (LAPACK is backward stable), so that they differ
            from those of *that* layer by its loss of orthonormality only, whatever the gap.
        isometries: O_l with A_l = sigma_l O_l (xi_l I + (1 - xi_l) v_l v_l^T), shape (L, d, d), for flat residuals.
        note: how to make it again.
    """

    family: str
    parameters: ChainParameters
    layers: Array
    injections: Array
    u: Array
    v: Array
    layer_exponents: NDArray[np.int64]
    injection_exponents: NDArray[np.int64]
    across_frobenius: Array
    angle_error: float = 0.0
    isometries: Array | None = None
    note: str = ""

    @property
    def depth(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def dimension(self) -> int:
        """d."""
        return self.layers.shape[1]

    @property
    def per_layer(self) -> float:
        """Relative rounding of one layer and of one multiplication by it.

        A layer is two orthonormal frames round a diagonal: each frame is orthonormal to about d eps and each product
        errs by d eps, seven operations in all: 16 d eps covers them with a factor of two. A product A X errs by at most
        d eps || |A| |X| || <= d eps ||A||_F ||X||_F <= d max(d, m) eps ||A|| ||X||.
        """
        d = self.dimension
        return (16 * d + d * max(d, self.injections.shape[2])) * EPS

    @property
    def rounding(self) -> float:
        """Relative rounding of L layers, their products and one SVD, in units of the product of the norms."""
        return (self.depth + 1) * self.per_layer

    @cached_property
    def unit_sigma(self) -> Array:
        """sigma_l / 2^layer_exponents[l]."""
        return np.ldexp(self.parameters.sigma, -self.layer_exponents)

    @cached_property
    def log_rounding(self) -> float:
        """Absolute rounding of a sum of logarithms of the layers' numbers: each is right to eps of its size, and the
        running sum errs by eps of its largest value at each of L additions."""
        with np.errstate(divide="ignore"):
            logs = np.abs(np.log(self.parameters.sigma))
        size = float(np.sum(logs[np.isfinite(logs)]))
        return 4 * EPS * self.depth * (4 + size)

    @cached_property
    def product(self) -> tuple[Array, int, float]:
        """P_{L:1} in units of 2^exponent, the exponent, and the absolute rounding of the matrix."""
        p = self.layers[0]
        for a in self.layers[1:]:
            p = a @ p
        return p, int(np.sum(self.layer_exponents)), self.rounding * float(np.prod(self.unit_sigma))

    @cached_property
    def singular_values(self) -> Array:
        """Of P_{L:1}, in the same units."""
        return np.asarray(np.linalg.svd(self.product[0], compute_uv=False), dtype=np.float64)

    @cached_property
    def second_compound(self) -> tuple[float, float]:
        """sigma_1 sigma_2 of P_{L:1} over the product of sigma_l^2 xi_l, and its relative rounding.

        By the product of second compounds, which keeps sigma_2 where the plain product has lost it. An error E of a
        layer changes its compound by at most 2 sigma ||E||, of a norm of sigma^2 xi; where that is all of it the
        rounding is given as inf. Gaps of 0 count as 1.
        """
        d = self.dimension
        gap = np.where(self.parameters.gap > 0, self.parameters.gap, 1.0)
        if gap.min() < 4 * self.per_layer:
            return 0.0, math.inf
        first, second = np.triu_indices(d, 1)
        a = self.layers / np.where(self.unit_sigma > 0, self.unit_sigma, 1.0)[:, None, None]
        rows, others = a[:, first], a[:, second]
        wedge = rows[:, :, first] * others[:, :, second] - rows[:, :, second] * others[:, :, first]
        wedge /= gap[:, None, None]
        total = wedge[0]
        for factor in wedge[1:]:
            total = factor @ total
        size = first.size
        relative = sum(2 * self.per_layer / g + size * size * EPS for g in gap)
        return float(np.linalg.norm(total, 2)), float(relative)

    @cached_property
    def jacobian(self) -> Jacobian:
        """J_L by the recurrence, rescaled in every layer so that `size` is near 1."""
        matrix, exponent, size = np.zeros_like(self.injections[0]), 0, 0.0
        sigma, exponents = np.zeros(self.depth), np.zeros(self.depth, dtype=np.int64)
        rows = np.zeros((self.depth, self.injections.shape[2]))
        norms = np.linalg.norm(self.injections, axis=(1, 2))
        for layer in range(self.depth):
            carried, fresh = float(self.unit_sigma[layer]) * size, float(norms[layer])
            up, new = exponent + int(self.layer_exponents[layer]), int(self.injection_exponents[layer])
            candidates = [up + math.frexp(carried)[1]] if carried > 0 else []
            candidates += [new + math.frexp(fresh)[1]] if fresh > 0 else []
            exponent = max(candidates, default=0)
            matrix = np.ldexp(self.layers[layer] @ matrix, up - exponent) if carried > 0 else 0.0 * matrix
            matrix = matrix + np.ldexp(self.injections[layer], new - exponent) if fresh > 0 else matrix
            size = math.ldexp(carried, up - exponent) if carried > 0 else 0.0
            size += math.ldexp(fresh, new - exponent) if fresh > 0 else 0.0
            sigma[layer] = math.ldexp(float(self.unit_sigma[layer]), up - exponent) if carried > 0 else 0.0
            exponents[layer] = exponent
            rows[layer] = self.u[layer] @ matrix
        along = np.ldexp(self.parameters.injection_along, -exponents)
        across = np.ldexp(self.parameters.injection_across, -exponents)
        return Jacobian(matrix, exponent, exponents, rows, size, sigma, along, across)

    def __repr__(self) -> str:
        return self.note or f"Example({self.family}, L = {self.depth}, d = {self.dimension})"


def pushed(example: Example, *, up: bool) -> ChainParameters:
    """The example's parameters pushed by as much as rounding may have moved them, for bounds that are monotone.

    Gap, misalignment and injections go up, sigma and alignment up or down as `up` says. 16 eps is twice what the six
    operations of one layer can do, seen backwards as a change of their inputs; an injection measured against u_l errs
    by another d eps of its norm in each of two products.
    """
    p = example.parameters
    sign = 1.0 if up else -1.0
    relative, angle = 16 * EPS, example.angle_error
    norms = np.ldexp(np.linalg.norm(example.injections, axis=(1, 2)), example.injection_exponents)
    measured = 4 * max(example.dimension, example.injections.shape[2]) * EPS * norms
    return replace(
        p,
        sigma=p.sigma * (1 + sign * relative),
        gap=np.clip(p.gap * (1 + relative) + angle, 0.0, 1.0),
        alignment=np.clip(p.alignment * (1 + sign * relative) + sign * angle, 0.0, 1.0),
        misalignment=np.clip(p.across * (1 + relative) + angle, 0.0, 1.0),
        injection_along=p.injection_along * (1 + relative) + measured,
        injection_across=p.injection_across * (1 + relative) + measured,
    )
