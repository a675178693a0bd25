"""What a worst-case search is asked for, and the ranges in which it may choose a chain's numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from theory._checks import natural
from theory.regimes.thresholds import PAPER_FIRST_ORDER_ERROR, PAPER_GAIN

__all__ = ["BOUNDS", "CONE_BOUNDS", "LARGEST_GAIN", "AttackSpec", "Ranges", "ranges", "real"]

BOUNDS = {
    "growth": "largest ||P_{L:1}|| at the given gap and alignment, compared with (T8)",
    "decay": "smallest ||P_{L:1}|| at the given gap and alignment, compared with (T9)",
    "P1": "error of the dominant path over L xi / kappa, where that is at most 0.3",
    "P2": "growth a layer where sup rho <= 0.95",
    "T8": "||P_{L:1}|| over its upper bound, numbers free in every layer",
    "T9": "the lower bound on ||P_{L:1}|| over it, numbers free in every layer",
    "T9-product": "prod sigma_l Lambda_min(kappa_l, sup xi) over ||P_{L:1}||, numbers free in every layer",
    "product-upper": "||P_{L:1}|| over prod sigma_l Lambda_max(kappa_l, xi_l), which is no bound",
    "product-lower": "prod sigma_l Lambda_min(kappa_l, xi_l) over ||P_{L:1}||, which is no bound",
    "T10": "sigma_2 / sigma_1 of P_{L:1} over its bound, numbers free in every layer",
    "T12": "error of the dominant path over its rigorous bound, numbers free in every layer",
    "T15": "||J_L|| over the certificate's upper bound, numbers free in every layer",
    "T16": "the coherent lower bound over ||J_L w||, numbers free in every layer",
    "T27": "the cone certificate's lower bound on ||J_L|| over it, searched as T16",
}
"""What each value of `AttackSpec.bound` maximises."""

CONE_BOUNDS = ("T9", "T9-product", "product-lower", "T10")
"""Bounds whose hypothesis is kappa >= kappa_c(sup xi) in every layer l >= 2."""

LARGEST_GAIN = 0.95 * PAPER_GAIN
"""sup rho of the chains that attack (P2): clearly inside its hypothesis."""


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One worst-case search.

    Attributes:
        bound: a key of `BOUNDS`: "growth" or "decay" at the given gap and alignment; "P1" or "P2", the published; "T8",
            "T9", "T9-product", "T10", "T12", "T15", "T16" or "T27", the rigorous; "product-upper" or "product-lower",
            which are no bounds.
        depth: number of layers L, >= 2.
        dimension: d >= 2. At d = 2 directions are signs, which restarts draw and no gradient moves: use 3 or more. At 4
            fewer starts than at 3 end in local optima.
        gap: xi of every layer, dimensionless, in [0, 1]; None leaves it to the search, within `ranges`.
        alignment: kappa of every layer l >= 2, dimensionless, in [0, 1]; None leaves it to the search.
        sigma: operator norm of every layer, > 0; None leaves it to the search for P2 and is 1 for the others, which
            do not depend on it.
        restarts: number of random starts, >= 1.
        steps: budget of gradient steps of every start, >= 1.
        seed: >= 0.

    Raises:
        ValueError: naming the argument, the rule and what came.
    """

    bound: str = "growth"
    depth: int = 24
    dimension: int = 4
    gap: float | None = None
    alignment: float | None = None
    sigma: float | None = None
    restarts: int = 128
    steps: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.bound, str) or self.bound not in BOUNDS:
            raise ValueError(f"bound must be one of {', '.join(BOUNDS)}; got {self.bound!r}")
        for name, least in (("depth", 2), ("dimension", 2), ("restarts", 1), ("steps", 1), ("seed", 0)):
            value = natural(getattr(self, name), name, least=least)
            if value.ndim:
                raise ValueError(f"{name} must be one integer; got {getattr(self, name)!r}")
            object.__setattr__(self, name, int(value))
        for name in ("gap", "alignment"):
            value = getattr(self, name)
            if value is not None:
                if not 0.0 <= real(value, name) <= 1.0:
                    raise ValueError(f"{name} must lie in [0, 1]; got {value!r}")
                object.__setattr__(self, name, float(value))
        if self.sigma is not None:
            if not (math.isfinite(real(self.sigma, "sigma")) and self.sigma > 0):
                raise ValueError(f"sigma must be finite and positive; got {self.sigma!r}")
            object.__setattr__(self, "sigma", float(self.sigma))
        _refuse_outside_hypotheses(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Closed ranges of the numbers of one search; a range of one point is a fixed number.

    Attributes:
        gap, alignment, sigma: (low, high).
        shared: the search has one free number for all layers, not one for each.
    """

    gap: tuple[float, float]
    alignment: tuple[float, float]
    sigma: tuple[float, float]
    shared: bool


def real(value: Any, name: str) -> float:
    """One number, which may be NaN or infinite.

    Raises:
        ValueError: for anything else, text that reads as a number included.
    """
    try:
        if isinstance(value, (str, bytes)) or np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a real number; got {value!r}") from None


def ranges(spec: AttackSpec) -> Ranges:
    """Where a search may choose gap, alignment and sigma; what the user fixed is fixed.

    The corners in which a bound is trivially attained (kappa = 1, xi = 0) lie outside, so that a small slack says
    something. (P1) moreover keeps xi <= 0.3 kappa / L, (P2) kappa <= 0.95 / sigma, and `CONE_BOUNDS` keep
    kappa >= kappa_c(sup xi): `theory.attack.frames.numbers` narrows the ranges by these.
    """
    gap = {"P1": (0.0, 1.0), "P2": (0.0, 0.5), "growth": (0.05, 0.05), "decay": (0.05, 0.05)}.get(
        spec.bound, (0.02, 0.2)
    )
    alignment = {"P1": (0.05, 0.95), "P2": (0.0, LARGEST_GAIN), "growth": (0.5, 0.5), "decay": (0.5, 0.5)}.get(
        spec.bound, (0.3, 0.95)
    )
    sigma = (1.0, 2.0) if spec.bound == "P2" else (1.0, 1.0)
    return Ranges(
        gap if spec.gap is None else (spec.gap, spec.gap),
        alignment if spec.alignment is None else (spec.alignment, spec.alignment),
        sigma if spec.sigma is None else (spec.sigma, spec.sigma),
        shared=spec.bound in ("P1", "P2"),
    )


def _refuse_outside_hypotheses(spec: AttackSpec) -> None:
    """What the user fixes must leave chains inside the attacked bound's hypotheses."""
    if spec.bound in ("P1", "T12") and spec.alignment == 0.0:
        raise ValueError(f"alignment must be positive for {spec.bound}, whose dominant path vanishes; got 0.0")
    if spec.bound == "P1" and spec.gap is not None:
        highest = 0.95 if spec.alignment is None else spec.alignment
        limit = PAPER_FIRST_ORDER_ERROR * highest / spec.depth
        if not 0.0 < spec.gap <= limit:
            raise ValueError(
                f"gap must lie in (0, {limit:.3g}] for P1, so that L xi / kappa <= {PAPER_FIRST_ORDER_ERROR:g}; "
                f"got {spec.gap!r}"
            )
    if spec.bound == "P2" and spec.alignment is not None:
        least = 1.0 if spec.sigma is None else spec.sigma
        if spec.alignment * least > LARGEST_GAIN:
            raise ValueError(
                f"alignment must be at most {LARGEST_GAIN / least:.3g} for P2, so that rho <= {LARGEST_GAIN:g}; "
                f"got {spec.alignment!r}"
            )
    if spec.bound in CONE_BOUNDS and spec.alignment is not None:
        gap = ranges(spec).gap[1]
        critical = 2 * math.sqrt(gap) / (1 + gap)
        if spec.alignment <= critical:
            raise ValueError(
                f"alignment must exceed kappa_c = {critical:.3g} for {spec.bound} at gap {gap:g}; "
                f"got {spec.alignment!r}"
            )
