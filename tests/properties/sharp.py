"""Named chains that attain a bound: what shows a mutant that only loosens it.

All live in a plane (or in three dimensions where a bound needs a third), with u_l the first axis: one layer is
sigma [[kappa, t s], [xi s, -t xi kappa]], t = 1 the fastest and t = -1 the slowest of (T11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from observables import ChainParameters
from tests.properties.examples import Example

__all__ = ["EDGES", "SHARP", "Sharp", "plane"]

SLOW, FAST = -1.0, 1.0


@dataclass(frozen=True)
class Sharp:
    """Examples whose slacks, weighted and added, are 0: one example that attains a bound, or two depths of a chain that
    attains its rate.

    Attributes:
        name: which chain.
        terms: weights and examples.
        tolerance: largest size of the sum: rounding for one example; for two, what is left of a transient that falls
            with depth by the square of the layer's second eigenvalue over its first.
    """

    name: str
    terms: tuple[tuple[float, Example], ...]
    tolerance: float = 1e-9


def plane(
    alignment: Sequence[float],
    gap: Sequence[float],
    *,
    sense: float | Sequence[float],
    sigma: float | Sequence[float] = 1.0,
    injections: Sequence[Sequence[float]] | None = None,
    dimension: int = 2,
) -> Example:
    """A chain of twisted layers with given numbers and injections B_l of one column, (L, d) entries."""
    depth = len(alignment)
    kappa, xi = np.array(alignment, dtype=float), np.array(gap, dtype=float)
    s, sizes = np.sqrt((1 - kappa) * (1 + kappa)), np.broadcast_to(np.asarray(sigma, dtype=float), depth)
    t = np.broadcast_to(np.asarray(sense, dtype=float), depth)
    layers = np.zeros((depth, dimension, dimension))
    layers[:, 0, 0], layers[:, 0, 1] = kappa, t * s
    layers[:, 1, 0], layers[:, 1, 1] = xi * s, -t * xi * kappa
    layers[:, range(2, dimension), range(2, dimension)] = xi[:, None]
    columns = np.zeros((depth, dimension)) if injections is None else np.array(injections, dtype=float)
    u = np.tile(np.eye(dimension)[0], (depth, 1))
    zero = np.zeros(depth, dtype=np.int64)
    across = np.linalg.norm(columns[:, 1:], axis=1)
    return Example(
        family="named",
        parameters=ChainParameters(sizes, xi, kappa, np.abs(columns[:, 0]), across, columns[:, 0]),
        layers=sizes[:, None, None] * layers,
        injections=columns[:, :, None],
        u=u,
        v=layers[:, 0],
        layer_exponents=zero,
        injection_exponents=zero,
        across_frobenius=across,
    )


def _one(name: str, example: Example) -> Sharp:
    return Sharp(name, ((1.0, example),))


def _rate(name: str, kappa: float, gap: float, sense: float, sigma: float = 1.0) -> Sharp:
    """Two depths of one repeated layer: the slack that both share is the transient's constant."""
    short, long = (plane([kappa] * n, [gap] * n, sense=sense, sigma=sigma) for n in (14, 19))
    return Sharp(name, ((-1.0, short), (1.0, long)), 1e-6)


def _ended(depth: int, sense: float, kappa: float = 0.9, gap: float = 0.1) -> Example:
    """Rank 1 in its first and last layer, so that the cone's edge is all there is."""
    kappas = kappa + 0.02 * np.arange(depth)
    return plane(kappas.tolist(), [0.0, *[gap + 0.03 * n for n in range(depth - 2)], 0.0], sense=sense, sigma=1.2)


def _one_layer(along: float = 1.3, across: float = 0.4) -> Example:
    return plane([0.5], [0.3], sense=SLOW, sigma=1.7, injections=[[along, across]])


def _aligned_series(depth: int, sigma: float | Sequence[float]) -> Example:
    """One dimension: for one sigma J_L = 0.7 (1 + sigma + ... + sigma^(L-1))."""
    ones, sizes = np.ones((depth, 1, 1)), np.broadcast_to(np.asarray(sigma, dtype=float), depth)
    return Example(
        family="named",
        parameters=ChainParameters(sizes, np.zeros(depth), np.ones(depth), np.full(depth, 0.7), np.zeros(depth)),
        layers=sizes[:, None, None] * ones,
        injections=0.7 * ones,
        u=ones[:, 0],
        v=ones[:, 0],
        layer_exponents=np.zeros(depth, dtype=np.int64),
        injection_exponents=np.zeros(depth, dtype=np.int64),
        across_frobenius=np.zeros(depth),
    )


def _dominant_path() -> tuple[Sharp, ...]:
    return (
        _one("one layer", plane([1.0], [0.3], sense=FAST)),
        _one("the second layer turns away", plane([1.0, 0.6], [0.0, 0.3], sense=FAST, sigma=1.4)),
        _one("and back", plane([1.0, 0.6, 0.7], [0.0, 0.3, 0.0], sense=FAST, sigma=0.8)),
        _one("and away again", plane([1.0, 0.6, 0.7, 0.8], [0.0, 0.3, 0.0, 0.4], sense=FAST)),
        _one("aligned", plane([1.0] * 4, [0.3, 0.5, 0.7, 0.9], sense=FAST)),
        _one("the first layer's gap comes back", plane([1.0, 0.6], [0.3, 0.0], sense=FAST)),
    )


def _third_direction() -> Example:
    """m = 0 and yet all of x in the residual's range: the branch hypot(p, q) of the certificate."""
    kappa, gap, along, across = 0.5, 0.7, 1.0, 1.5
    s = np.sqrt(1 - kappa**2)
    inside = kappa * along / s
    outside = np.sqrt(across**2 - inside**2)
    moved = np.array([s * along + kappa * inside, outside])
    last = 0.3 * moved / np.linalg.norm(moved)
    return plane(
        [1.0, kappa],
        [gap, gap],
        sense=SLOW,
        sigma=1.1,
        injections=[[along, inside, outside], [0.0, *last]],
        dimension=3,
    )


def _jacobian_upper() -> tuple[Sharp, ...]:
    ends: dict[str, Any] = {"alignment": [1.0, 0.6], "sigma": 1.2}
    return (
        _one("one layer", _one_layer()),
        _one("all of it along u", plane(gap=[0.3, 0.0], sense=FAST, injections=[[1.0, 0.5], [0.2, 0.0]], **ends)),
        _one(
            "three layers, all of it along u",
            plane([1.0, 0.6, 0.8], [0.0, 0.4, 0.0], sense=FAST, injections=[[1.0, 0.0], [0.2, 0.1], [0.3, 0.0]]),
        ),
    )


def _jacobian_second() -> tuple[Sharp, ...]:
    return (
        _one("one layer", _one_layer()),
        _one("two layers", plane([1.0, 0.8], [0.3, 0.4], sense=SLOW, injections=[[1.0, 0.3], [0.2, 0.1]], sigma=1.2)),
        _one("a third direction", _third_direction()),
    )


def _jacobian_lower() -> tuple[Sharp, ...]:
    return (
        _one("one layer", _one_layer()),
        _one("two layers, against", plane([1.0, 0.8], [0.3, 0.4], sense=SLOW, injections=[[1.0, 0.3], [-0.2, 0.1]])),
        _one(
            "three layers, against",
            plane(
                [1.0, 0.9, 0.8],
                [0.3, 0.2, 0.1],
                sense=SLOW,
                sigma=[1.0, 1.3, 1.2],
                injections=[[1.0, 0.1], [-0.2, 0.1], [-0.1, 0.0]],
            ),
        ),
        _one(
            "a large injection against what came before",
            plane([1.0, 0.6], [0.3, 0.2], sense=FAST, sigma=1.2, injections=[[0.3, 0.2], [-1.5, 0.1]]),
        ),
        _one(
            "the same after two layers",
            plane([1.0, 0.6, 0.7], [0.3, 0.2, 0.1], sense=FAST, injections=[[0.3, 0.0], [0.1, 0.05], [-1.5, 0.1]]),
        ),
    )


def _coherent() -> tuple[Sharp, ...]:
    columns = [[1.0, 0.3], [0.2, 0.1], [0.4, 0.0]]
    return tuple(
        _one(
            f"{depth} layers",
            plane([1.0, 0.8, 0.9][:depth], [0.3, 0.4, 0.2][:depth], sense=SLOW, sigma=1.1, injections=columns[:depth]),
        )
        for depth in (1, 2, 3)
    )


def _pairs(sense: float, sigma: float = 1.0) -> tuple[Sharp, ...]:
    return tuple(_rate(f"repeated, {k}, {x}", k, x, sense, sigma) for k, x in ((0.9, 0.1), (0.99, 0.2), (0.7, 0.05)))


EDGES: tuple[Example, ...] = (
    *(plane([k] * 2, [x] * 2, sense=SLOW) for k, x in ((0.985, 0.9), (0.74, 0.2), (0.27, 0.02))),
    _aligned_series(12, 1.01),
    _aligned_series(12, [0.985] * 6 + [0.01] + [0.985] * 5),
    plane([0.5] * 14, [0.0, *[0.9] * 13], sense=FAST, injections=[[1.0, 0.7]] * 14),
    plane([1.0, 0.9], [0.5, 0.0], sense=FAST),
)
"""Chains just outside a bound's hypotheses, where it must not speak, and some in which one layer is unlike the rest."""

_LAYERS = ((0.7, 0.3), (0.2, 0.6), (0.95, 0.05), (0.0, 0.4), (1.0, 0.5), (0.6, 1.0))
_CONES = ((0.95, 0.2), (0.6, 0.05), (0.72, 0.1), (0.9, 0.3), (0.8, 0.0), (1.0, 0.3))

SHARP: dict[str, tuple[Sharp, ...]] = {
    "T5": tuple(_one(f"fastest, {k}, {x}", plane([k] * 2, [x] * 2, sense=FAST)) for k, x in _LAYERS),
    "T6": tuple(_one(f"slowest, {k}, {x}", plane([k] * 2, [x] * 2, sense=SLOW)) for k, x in _CONES),
    "T8": (
        _one("one layer", plane([1.0], [0.3], sense=FAST, sigma=1.7)),
        _one("aligned", plane([1.0] * 3, [0.3, 0.2, 0.1], sense=FAST, sigma=[1.7, 0.4, 1.2])),
        _one("no gap", plane([0.9] * 3, [0.0] * 3, sense=FAST, sigma=1.1)),
        *_pairs(FAST, 1.1),
    ),
    "T28": (
        _one("one layer", plane([1.0], [0.3], sense=FAST, sigma=1.7)),
        _one("aligned", plane([1.0, 1.0], [0.5, 0.01], sense=FAST, sigma=[1.7, 0.4])),
        _one("no gap", plane([0.9] * 3, [0.0] * 3, sense=FAST, sigma=1.1)),
        _one("across and back", plane([1.0, 0.0, 0.0, 0.0], [1.0, 0.3, 0.3, 0.3], sense=FAST)),
        *_pairs(FAST, 1.1),
    ),
    "T9 uniform": (
        _one("one layer", plane([1.0], [0.3], sense=FAST, sigma=1.7)),
        _one("aligned", plane([1.0] * 3, [0.3, 0.2, 0.1], sense=FAST, sigma=[1.7, 0.4, 1.2])),
        _one("no gap", plane([0.9] * 3, [0.0] * 3, sense=SLOW, sigma=1.1)),
        *_pairs(SLOW, 1.1),
    ),
    "T9 closed": (
        _one("one layer", plane([1.0], [0.3], sense=FAST, sigma=1.7)),
        _one("aligned", plane([1.0] * 3, [0.3, 0.2, 0.1], sense=FAST, sigma=[1.7, 0.4, 1.2])),
        _one("no gap", plane([1.0, 0.9, 0.6], [0.0] * 3, sense=SLOW, sigma=1.1)),
        *_pairs(SLOW, 1.1),
    ),
    "T9 by layer": tuple(_one(f"{n} layers, rank 1 at the ends", _ended(n, SLOW)) for n in (2, 3, 4, 5)),
    "T10": (
        _one("one layer", plane([1.0], [0.3], sense=FAST)),
        _one("equal singular values", plane([1.0, 1.0], [1.0, 1.0], sense=FAST)),
        *_pairs(SLOW),
    ),
    "T12": _dominant_path(),
    "T31": (
        *_dominant_path(),
        _one("the first layer's gap comes back and leaves again", plane([1.0, 0.6, 0.7], [0.3, 0.0, 0.4], sense=FAST)),
        _one("what turned away stays away", plane([1.0, 0.6, 1.0], [0.0, 0.3, 0.5], sense=FAST)),
    ),
    "T13": (
        _one("one layer", _one_layer()),
        _one("a geometric series", _aligned_series(12, 0.01)),
        _one("a long one", _aligned_series(2600, 0.985)),
    ),
    "T14 slow": _pairs(SLOW, 1.1),
    "T14 fast": _pairs(FAST, 1.1),
    "T15 upper": _jacobian_upper(),
    "T15 second": _jacobian_second(),
    "T15 lower": _jacobian_lower(),
    "T15 noise": (_jacobian_second()[0], _jacobian_lower()[1]),
    "T16": _coherent(),
    "T25": (
        _one(
            "frames u, what left comes back",
            plane(
                [1.0, 0.6, 0.8], [0.3, 0.0, 0.0], sense=FAST, injections=[[1.0, 0.5], [0.2, 0.1], [0.3, 0.0]], sigma=1.3
            ),
        ),
        _one(
            "frames u, what came back leaves again",
            plane(
                [1.0, 0.6, 0.0],
                [0.3, 0.0, 0.9],
                sense=FAST,
                sigma=[1.0, 1.0, 2.0],
                injections=[[1.0, 0.3], [0.2, 0.4], [0.0, 0.0]],
            ),
        ),
    ),
}
"""By law. (T24) is an identity and needs none; the Frobenius forms are those of rank-one injections."""
