"""What one training experiment is: network, task, initialisation, optimiser, seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from theory._checks import natural

__all__ = ["LEARNING_RATES", "TrainingSpec"]

NETWORKS = ("linear", "residual", "nonlinear")
INITIALS = ("small", "standard", "orthogonal")
LEARNING_RATES = {"adam": 3e-3, "sgd": 3e-2}
"""Learning rate of each optimiser where none is given; chosen by the loss of pilot runs, never by the alignment."""

_LEAST = {
    "depth": 2,
    "width": 1,
    "context": 1,
    "rank": 1,
    "steps": 1,
    "seeds": 2,
    "snapshots": 2,
    "seed": 0,
    "samples": 2,
}


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """One training experiment: `seeds` chains, each trained on true labels and, from the same start, on shuffled ones.

    Attributes:
        network: "linear" (T2), h_l = A_l h_{l-1} + B_l c; "residual", A_l = I + F_l; or "nonlinear",
            h_l = h_{l-1} + V_l tanh(W_l h_{l-1} + U_l c). All end in a trained linear readout.
        depth: number of layers L, at least 2 (one layer has no alignment).
        width: size d of the hidden state, of the input and of the labels.
        context: size m of the context.
        rank: rank of the teacher, at most the width.
        initial: size of the layers at the start. Linear: Gaussian of variance 1 / d ("standard"), 0.3^2 / d ("small"),
            or Haar ("orthogonal"). Residual and nonlinear: what a layer adds to the stream has variance 1 / (d L)
            ("standard", so that the stream keeps its size over depth) or 0.1^2 / (d L) ("small").
        optimiser: "adam" or "sgd", full batch; the gradient's norm is clipped at 1, which changes the speed of
            gradient descent but not its path.
        learning_rate: constant; None: that of LEARNING_RATES.
        weight_decay: decoupled, 0 or more.
        samples: size N of the data set; 0 at the call stands for 2 (d + m): enough to find a linear teacher, few enough
            that shuffled labels can be fitted too (a least-squares fit explains (d + m) / N of their variance).
        steps: of the optimiser.
        seeds: number of chains, at least 2; chain i is the same whatever their number.
        snapshots: how often the chains are looked at, evenly in the logarithm of the step, the first at step 0.
        seed: of all chance.

    Raises:
        ValueError: naming the field, the rule and what came.
    """

    network: str = "linear"
    depth: int = 8
    width: int = 16
    context: int = 16
    rank: int = 1
    initial: str = "standard"
    optimiser: str = "adam"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    samples: int = 0
    steps: int = 1000
    seeds: int = 32
    snapshots: int = 16
    seed: int = 5

    def __post_init__(self) -> None:
        for name, allowed in (("network", NETWORKS), ("initial", INITIALS), ("optimiser", tuple(LEARNING_RATES))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name, least in _LEAST.items():
            if name == "samples" and self.samples == 0:
                object.__setattr__(self, "samples", 2 * (self.width + self.context))
            value = natural(getattr(self, name), name, least=least)
            if value.ndim:
                raise ValueError(f"{name} must be one integer of at least {least}; got {getattr(self, name)!r}")
            object.__setattr__(self, name, int(value))
        if self.rank > self.width:
            raise ValueError(f"rank must be at most the width {self.width}; got {self.rank}")
        if self.initial == "orthogonal" and self.network != "linear":
            raise ValueError(f"initial must be small or standard for a {self.network} network; got 'orthogonal'")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be finite and above 0; got {self.learning_rate!r}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be finite and at least 0; got {self.weight_decay!r}")

    @property
    def rate(self) -> float:
        """The learning rate used."""
        return LEARNING_RATES[self.optimiser] if self.learning_rate is None else self.learning_rate
