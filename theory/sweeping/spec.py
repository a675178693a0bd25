"""What a sweep is asked for: grids of chains, what is measured of them, and the injections they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from theory.phase.critical_context import PhaseThresholds
from theory.sweeping._grids import axis, chosen, items, whole

__all__ = [
    "INJECTIONS",
    "Injection",
    "ResidualSweepSpec",
    "SweepSpec",
    "default_sweep",
    "injections_of",
    "ratio_floor",
    "require_spec",
]

Grid = Sequence[float] | NDArray[np.float64]
Counts = Sequence[int] | NDArray[np.int64]

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class Injection:
    """B_l = along u_l w^T + across Q_l, the same two sizes in every layer.

    Attributes:
        name: its label on the axis `injection`.
        along: beta, of the coherent part, >= 0. Units of the chain.
        across: b, of the random frame Q_l, >= 0; along and across are not both 0. Units of the chain.
        frame: "across": Q_l is Haar across u_l; "isotropic": Haar in R^d.

    Raises:
        ValueError: if a value leaves its range.
    """

    name: str
    along: float
    across: float
    frame: str = "across"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a word; got {self.name!r}")
        for label in ("along", "across"):
            value = getattr(self, label)
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                raise ValueError(f"{label} must be a number; got {value!r}")
            if not 0 <= value <= _LARGEST:
                raise ValueError(f"{label} must be finite and not negative; got {value!r}")
            object.__setattr__(self, label, float(value))
        if self.along == self.across == 0:
            raise ValueError("along and across must not both be 0: J_L would be 0; got such an injection")
        chosen(self.frame, "frame", ("across", "isotropic"))


INJECTIONS = {
    "coherent": Injection("coherent", 1.0, 0.3, "across"),
    "random": Injection("random", 0.0, 1.0, "isotropic"),
    "mixed": Injection("mixed", 1.0, 1.0, "isotropic"),
}
"""The injections that have a name of their own."""


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A grid of chains. Every cell holds `seeds` random chains with the same numbers in every layer.

    Attributes:
        gain: rho = sigma kappa, dimensionless, >= 0, finite.
        alignment: kappa, dimensionless, in [0, 1].
        gap: xi, dimensionless, in [0, 1].
        depth: number of layers L, >= 1.
        dimension: d, >= 1.
        seeds: number of chains a cell, >= 1; the standard errors need 2, the intervals at level 0.95 need 6.
        seed: of the whole sweep, >= 0. A cell's chains depend on (seed, depth, dimension) and the cell's own numbers,
            never on the rest of the grid. Critical values are sought from the grid of sizes outwards, and depend on it
            in their last digits.
        residual: "flat", "low_rank" or "quarter_circle", as in `theory.simulators.simulate`.
        rank: of a low-rank residual, else None.
        quantities: of "product" (norm and ratio of P_L) and "early" (the earliest injection alone, P_{L:2} u_1).
        injections: names of `INJECTIONS` or `Injection`s: for each the spectrum of J_L. () or None: no J_L.
        context_dimension: m, directions of the context, 1 or 2.
        thresholds: what counts as turned.
        level: of the intervals, in (0, 1).
        dtype: "float64" or "float32", of the simulation of J_L.
        simulator: "auto" or the name of one.
        engine: "auto", "numpy" or "jax".

    Raises:
        ValueError: if a grid is empty, repeats a value, or leaves its range; if an option is unknown.
    """

    gain: Grid
    alignment: Grid
    gap: Grid
    depth: Counts
    dimension: Counts
    seeds: int = 16
    seed: int = 0
    _: KW_ONLY
    residual: str = "flat"
    rank: int | None = None
    quantities: Sequence[str] = ("product",)
    injections: Sequence[str | Injection] = ()
    context_dimension: int = 2
    thresholds: PhaseThresholds = field(default_factory=PhaseThresholds)
    level: float = 0.95
    dtype: str = "float64"
    simulator: str = "auto"
    engine: str = "auto"

    def __post_init__(self) -> None:
        kinds = {"gain": "size", "alignment": "fraction", "gap": "fraction", "depth": "count", "dimension": "count"}
        settle(self, {name: axis(getattr(self, name), name, kind) for name, kind in kinds.items()})
        chosen(self.residual, "residual", ("flat", "low_rank", "quarter_circle"))
        if (self.rank is not None) != (self.residual == "low_rank"):
            raise ValueError(f"rank must be given for residual 'low_rank' and for no other; got {self.rank!r}")
        rank = None if self.rank is None else whole(self.rank, "rank", 1)
        quantities = items(self.quantities, "quantities", (str,))
        for name in quantities:
            chosen(name, "quantities", ("product", "early"))
        settle(self, {"rank": rank, "quantities": tuple(dict.fromkeys(quantities))})
        if not isinstance(self.simulator, str):
            raise ValueError(f"simulator must be 'auto' or the name of one; got {self.simulator!r}")
        chosen(self.engine, "engine", ("auto", "numpy", "jax"))
        settle_common(self)
        if not self.quantities and not self.injections:
            raise ValueError("quantities and injections must not both be empty; got such a sweep")


@dataclass(frozen=True, slots=True)
class ResidualSweepSpec:
    """A grid of residual chains A_l = I + tau X_l C_l^T (T32), what real layers look like.

    Attributes:
        strength: tau = ||F||, dimensionless, >= 0.
        alignment: kappa, overlap of what F reads with what the layer before wrote, dimensionless, in [0, 1].
        persistence: omega, overlap of what two layers write, dimensionless, in [0, 1].
        rank: r of F, >= 1.
        depth: number of layers L, >= 1.
        dimension: d, >= 2.
        injections: names of `INJECTIONS` or `Injection`s; u_l is the first column of X_l.
        seeds, seed, context_dimension, thresholds, level, dtype: as in `SweepSpec`.

    Raises:
        ValueError: if a grid is empty, repeats a value, or leaves its range; if an option is unknown.
    """

    strength: Grid
    alignment: Grid
    persistence: Grid
    rank: Counts
    depth: Counts
    dimension: Counts
    injections: Sequence[str | Injection] = ("coherent",)
    seeds: int = 16
    seed: int = 0
    _: KW_ONLY
    context_dimension: int = 2
    thresholds: PhaseThresholds = field(default_factory=PhaseThresholds)
    level: float = 0.95
    dtype: str = "float64"

    def __post_init__(self) -> None:
        kinds = {"strength": "size", "alignment": "fraction", "persistence": "fraction"}
        kinds |= dict.fromkeys(("rank", "depth", "dimension"), "count")
        settle(self, {name: axis(getattr(self, name), name, kind) for name, kind in kinds.items()})
        settle_common(self)
        if not self.injections:
            raise ValueError("injections must be at least one; got ()")


def default_sweep() -> SweepSpec:
    """The grid of the default phase map: 41 gains, 31 alignments, 3 gaps, 3 depths, d = 128, 16 chains a cell."""
    return SweepSpec(
        gain=np.round(np.geomspace(0.25, 4.0, 41), 12),
        alignment=np.round(np.linspace(0.02, 1.0, 31), 12),
        gap=(0.1, 0.5, 0.9),
        depth=(4, 8, 32),
        dimension=(128,),
        seeds=16,
        seed=0,
    )


def require_spec(spec: Any) -> None:
    """Refuses what is no specification.

    Raises:
        ValueError: with what came.
    """
    if not isinstance(spec, SweepSpec | ResidualSweepSpec):
        raise ValueError(f"spec must be a SweepSpec or a ResidualSweepSpec; got {spec!r}")


def settle(spec: Any, values: Mapping[str, Any]) -> None:
    """Puts checked values into a frozen specification."""
    for name, value in values.items():
        object.__setattr__(spec, name, value)


def settle_common(spec: Any) -> None:
    """Checks what the specifications have in common.

    Raises:
        ValueError: naming the field, the rule and what came.
    """
    values: dict[str, Any] = {name: whole(getattr(spec, name), name, n) for name, n in (("seeds", 1), ("seed", 0))}
    values["context_dimension"] = whole(spec.context_dimension, "context_dimension", 1)
    if values["context_dimension"] > 2:
        raise ValueError(f"context_dimension must be 1 or 2; got {spec.context_dimension!r}")
    values["injections"] = _injections(spec.injections)
    thresholds: Any = spec.thresholds
    if isinstance(thresholds, Mapping):
        values["thresholds"] = thresholds = _record(PhaseThresholds, thresholds, "thresholds")
    elif not isinstance(thresholds, PhaseThresholds):
        raise ValueError(f"thresholds must be PhaseThresholds; got {thresholds!r}")
    if isinstance(spec.level, bool) or not isinstance(spec.level, int | float) or not 0 < spec.level < 1:
        raise ValueError(f"level must lie in (0, 1); got {spec.level!r}")
    values["level"] = float(spec.level)
    chosen(spec.dtype, "dtype", ("float64", "float32"))
    settle(spec, values)
    ratio = thresholds.ratio
    least = float(np.exp(ratio_floor(spec)))
    if spec.injections and spec.context_dimension == 2 and ratio < least:
        raise ValueError(f"thresholds.ratio must be above what {spec.dtype} resolves, {least:.2g}; got {ratio!r}")


def injections_of(spec: SweepSpec | ResidualSweepSpec) -> tuple[Injection, ...]:
    """The injections of a specification, which holds no names any more."""
    return cast("tuple[Injection, ...]", spec.injections)


def ratio_floor(spec: SweepSpec | ResidualSweepSpec) -> float:
    """ln of the sigma_2 / sigma_1 of J_L below which rounding decides, at the greatest depth."""
    return float(np.log(4 * (spec.context_dimension + 2) * float(np.finfo(spec.dtype).eps) * max(spec.depth)))


def _injections(values: Any) -> tuple[Injection, ...]:
    found = []
    for item in items(values, "injections", (str, Injection, Mapping)):
        if isinstance(item, Mapping):
            item = _record(Injection, item, "injections")
        elif isinstance(item, str):
            item = INJECTIONS[chosen(item, "injections", tuple(INJECTIONS))]
        elif not isinstance(item, Injection):
            raise ValueError(f"injections must be names or Injection; got {item!r}")
        found.append(item)
    names = [item.name for item in found]
    if len(set(names)) < len(names):
        raise ValueError(f"injections must have names of their own; got {names!r}")
    return tuple(found)


def _record(kind: type, values: Mapping[Any, Any], name: str) -> Any:
    """A record from a mapping of its fields.

    Raises:
        ValueError: if a key is none of its fields, or one without a default is missing.
    """
    known = {one.name: one.default is MISSING for one in fields(kind)}
    if any(key not in known for key in values) or any(must and key not in values for key, must in known.items()):
        wanted = ", ".join(key if must else f"{key} (optional)" for key, must in known.items())
        raise ValueError(f"{name} must have the keys {wanted}; got {', '.join(map(repr, values)) or 'none'}")
    return kind(**values)
