"""The true value of everything that is bounded, from a dense chain in float64, and what rounding may have added."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.bounds._scaled import ScaledMatrix, dense_layers, scaled, shifted
from theory.bounds._wide import Wide, wide
from theory.chains.chain import Chain

__all__ = ["Truth", "chain_truth"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Truth:
    """Natural logarithms of the true values (`theory.bounds.hypotheses.Quantity`) and of their rounding.

    Attributes:
        values: by quantity; NaN where it is 0 / 0.
        rounding: by quantity, what rounding may have added, in the quantity's own unit.
    """

    values: dict[str, float]
    rounding: dict[str, float]


def chain_truth(chain: Chain) -> Truth:
    """Every bounded quantity of one chain.

    Plain products of n layers of size d err by at most about n d eps of the product of the norms, and sums by as much
    of the sum of the norms; 4 covers the decompositions and the generator of the chain besides.

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if it is batched, empty or not finite.
    """
    a, b = dense_layers(chain)
    depth, dimension = a.shape[:2]
    size = max(dimension, b.shape[2])
    unit = math.log(4 * depth * size * _EPS)
    u, v = np.asarray(chain.u, dtype=np.float64), np.asarray(chain.v, dtype=np.float64)
    sigma = [wide(float(value)) for value in np.asarray(chain.sigma)]

    layers = [scaled(one) for one in a]
    product, first, jacobian = layers[0], scaled(b[0]), scaled(b[0])
    whole, later, injected = sigma[0], wide(1.0), scaled(b[0]).norm()
    path, overlaps = sigma[0], [1.0]
    for index in range(1, depth):
        layer, injection = layers[index], scaled(b[index])
        product, first, jacobian = layer @ product, layer @ first, layer @ jacobian + injection
        whole, later = whole * sigma[index], later * sigma[index]
        injected = sigma[index] * injected + injection.norm()
        overlaps.append(float(v[index] @ u[index - 1]))
        path = path * sigma[index] * wide(overlaps[-1])

    values, rounding = {}, {}
    values["product_norm"], rounding["product_norm"] = product.norm().log(), unit + whole.log()
    singular = product.singular_values()
    known = dimension > 1 and singular[0].fraction > 0
    values["product_ratio"] = (singular[1] / singular[0]).log() if known else -math.inf if dimension == 1 else math.nan
    rounding["product_ratio"] = unit + math.log(2.0) + whole.log() - singular[0].log()
    direction = np.outer(u[-1], v[0])
    values["path_error"], rounding["path_error"] = _path_error(product, path, direction, unit + whole.log(), overlaps)
    start = scaled(b[0]).norm()
    values["first_injection"], rounding["first_injection"] = first.norm().log(), unit + (later * start).log()
    for index, value in enumerate(jacobian.singular_values()):
        name = "context_norm" if index == 0 else f"context_sigma_{index + 1}"
        values[name], rounding[name] = value.log(), unit + injected.log()
    values["noise_ratio"], rounding["noise_ratio"] = _noise_ratio(jacobian, u[-1], unit + injected.log())
    return Truth(values, {name: _of_logarithms(value, rounding[name], sigma, b) for name, value in values.items()})


def _of_logarithms(log_value: float, log_rounding: float, sigma: list[Wide], b: NDArray[np.float64]) -> float:
    """`log_rounding` with what sums of logarithms add: eps of the sum of their sizes, relative to the value."""
    if not math.isfinite(log_value):
        return log_rounding
    sizes = [abs(one.log()) for one in sigma if one.fraction] + [abs(log_value)]
    largest = float(np.max(np.abs(b)))
    total = 1.0 + sum(sizes) + (abs(math.log(largest)) if largest > 0 else 0.0)
    return float(np.logaddexp(log_rounding, log_value + math.log(4 * _EPS * total)))


def _path_error(
    product: ScaledMatrix, path: Wide, direction: NDArray[np.float64], rounding: float, overlaps: list[float]
) -> tuple[float, float]:
    # an overlap is known to within rounding of 1, and where it is no more than that there is no path
    lost = sum(8 * len(direction) * _EPS / abs(overlap) if overlap else math.inf for overlap in overlaps)
    if path.fraction == 0 or lost >= 0.5:
        return math.nan, math.inf
    ideal = scaled(path.fraction * direction, path.exponent)
    size = Wide(abs(path.fraction), path.exponent)
    error = ((product - ideal).norm() / size).log()
    return error, float(np.logaddexp(rounding - size.log(), math.log(2 * lost) + np.logaddexp(0.0, error)))


def _noise_ratio(jacobian: ScaledMatrix, u: NDArray[np.float64], rounding: float) -> tuple[float, float]:
    along = u @ jacobian.matrix
    size = float(np.linalg.norm(along))
    if size == 0:
        return math.nan, math.inf
    log_size = shifted(size, jacobian.exponent).log()
    ratio = (scaled(jacobian.matrix - np.outer(u, along)).norm() / wide(size)).log()
    # both parts err by `rounding`; once that reaches the part along u the ratio is not resolved
    left = -math.inf if rounding >= log_size else log_size + math.log(-math.expm1(rounding - log_size))
    return ratio, math.inf if left == -math.inf else float(np.logaddexp(0.0, ratio)) + rounding - left
