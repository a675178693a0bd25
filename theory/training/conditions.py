"""Which experiments speak to claim C5: those that decide it, and those that say where it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from theory.training.spec import TrainingSpec

__all__ = ["Condition", "contrasts", "deciding_conditions", "further_conditions"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the claim.

    Attributes:
        name: in words, as sentences and files use it.
        spec: the experiment.
        decides: whether it enters the verdict.
    """

    name: str
    spec: TrainingSpec
    decides: bool


_USUAL = TrainingSpec()


def _condition(decides: bool, seeds: int, seed: int, **changes: Any) -> Condition:
    spec = TrainingSpec(seeds=seeds, seed=seed, **changes)
    rank = "full" if spec.rank == spec.width else str(spec.rank)
    words = [spec.network, f"rank {rank}", f"{spec.initial} start", spec.optimiser]
    for name in ("depth", "width", "samples", "steps"):
        usual = 2 * (spec.width + spec.context) if name == "samples" else getattr(_USUAL, name)
        if getattr(spec, name) != usual:
            words.append(f"{name} {getattr(spec, name)}")
    if spec.weight_decay:
        words.append(f"weight decay {spec.weight_decay:g}")
    return Condition(", ".join(words), spec, decides)


def deciding_conditions(seeds: int = 32, seed: int = 5) -> tuple[Condition, ...]:
    """The six conditions that decide C5: each network, a teacher of rank 1 and of full rank, as networks are trained.

    That is: a start at which signals keep their size over depth, and Adam. Fixed before any alignment was looked at.
    """
    return tuple(
        _condition(True, seeds, seed, network=network, rank=rank)
        for network in ("linear", "residual", "nonlinear")
        for rank in (1, _USUAL.width)
    )


def contrasts(seeds: int = 32, seed: int = 5) -> tuple[Condition, ...]:
    """Two of the further conditions, the least that shows what a small start changes."""
    return tuple(_condition(False, seeds, seed, network=network, initial="small") for network in ("linear", "residual"))


def further_conditions(seeds: int = 32, seed: int = 5) -> tuple[Condition, ...]:
    """Conditions one step away from the deciding ones: start, rank, optimiser, decay, length, depth, width, data."""
    full = _USUAL.width
    small: list[dict[str, Any]] = [{"initial": "small"}, {"initial": "small", "rank": full, "steps": 2000}]
    sizes: list[dict[str, Any]] = [{"depth": 4}, {"depth": 16}, {"width": 8, "context": 8}]
    sizes += [{"width": 64, "context": 64, "snapshots": 8}]
    usual: list[dict[str, Any]] = [{"rank": 4}, {"optimiser": "sgd", "steps": 2000}, {"steps": 8000}]
    linear: list[dict[str, Any]] = [
        *small,
        *({"initial": "orthogonal", "rank": rank} for rank in (1, full)),
        {"initial": "orthogonal", "optimiser": "sgd", "steps": 2000},
        # A small start leaves gradient descent on a plateau: the setting of gradient flow from near 0.
        {"initial": "small", "optimiser": "sgd", "learning_rate": 0.1, "steps": 8000},
        {"optimiser": "sgd", "weight_decay": 0.1, "steps": 16000},
        {"weight_decay": 0.1, "steps": 16000},
        {"weight_decay": 0.1, "steps": 8000, "rank": full},
        *usual,
        *sizes,
    ]
    residual = [*small, *({"weight_decay": 0.1, "steps": 8000, "rank": rank} for rank in (1, full)), *usual, *sizes]
    residual += [{"initial": "small", "optimiser": "sgd", "steps": 2000, "rank": rank} for rank in (1, full)]
    nonlinear = [*small, {"weight_decay": 0.1, "steps": 4000}, {"optimiser": "sgd", "steps": 2000}, {"samples": 256}]
    return tuple(
        _condition(False, seeds, seed, network=network, **one)
        for network, changes in (("linear", linear), ("residual", residual), ("nonlinear", nonlinear))
        for one in changes
    )
