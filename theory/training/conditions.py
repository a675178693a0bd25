"""Which experiments speak to claim C5: those that decide it, and those that say where it holds."""

from __future__ import annotations

from dataclasses import dataclass

from theory.training.spec import TrainingSpec

__all__ = ["Condition", "deciding_conditions", "further_conditions"]


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


def _condition(decides: bool, seeds: int, seed: int, **changes: object) -> Condition:
    spec = TrainingSpec(seeds=seeds, seed=seed, **changes)  # pyright: ignore[reportArgumentType]
    rank = "full" if spec.rank == spec.width else str(spec.rank)
    words = [spec.network, f"rank {rank}", f"{spec.initial} start", spec.optimiser]
    for name, unit in (("depth", ""), ("width", ""), ("samples", ""), ("steps", "")):
        usual = 2 * (spec.width + spec.context) if name == "samples" else getattr(_USUAL, name)
        if getattr(spec, name) != usual:
            words.append(f"{name} {getattr(spec, name)}{unit}")
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


def further_conditions(seeds: int = 32, seed: int = 5) -> tuple[Condition, ...]:
    """Conditions one step away from the deciding ones: start, rank, optimiser, weight decay, depth, width, data."""
    d = _USUAL.width
    changes: list[dict[str, object]] = [
        *({"initial": "small", "rank": rank} for rank in (1, 4, d)),
        *({"initial": "orthogonal", "rank": rank} for rank in (1, d)),
        {"rank": 4},
        {"optimiser": "sgd"},
        # A small start leaves gradient descent on a plateau: the setting of gradient flow from near 0.
        {"optimiser": "sgd", "initial": "small", "learning_rate": 0.1, "steps": 8000},
        {"weight_decay": 0.1, "steps": 8000},
        *({"depth": depth} for depth in (4, 16)),
        *({"width": width, "context": width} for width in (8, 64)),
    ]
    changes += [
        {"network": "residual", **more}
        for more in (
            *({"initial": "small", "rank": rank} for rank in (1, d)),
            {"rank": 4},
            {"optimiser": "sgd"},
            {"weight_decay": 0.1, "steps": 8000},
            *({"depth": depth} for depth in (4, 16)),
            *({"width": width, "context": width} for width in (8, 64)),
        )
    ]
    changes += [
        {"network": "nonlinear", **more}
        for more in (*({"initial": "small", "rank": rank} for rank in (1, d)), {"optimiser": "sgd"}, {"samples": 256})
    ]
    return tuple(_condition(False, seeds, seed, **one) for one in changes)
