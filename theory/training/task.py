"""The task: labels that a teacher of given rank makes of input and context, and the same labels shuffled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.training.spec import TrainingSpec

__all__ = ["LABELS", "Task", "draw_task", "moments", "orthonormal"]

LABELS = ("true", "shuffled")
"""Both sides of every experiment, in the order of the leading axis of its arrays."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """The data of one chain.

    Attributes:
        inputs: rows [x_n, c_n], standard normal, shape (N, d + m).
        labels: y_n true and shuffled, shape (2, N, d), of mean square 1 an entry. The shuffled ones are the same rows
            in another order: same rank, same moments, nothing to learn.
    """

    inputs: Array
    labels: Array


def orthonormal(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """A Haar-random frame of orthonormal columns, shape (rows, columns); the sign fix is what makes it Haar."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.sign(np.diagonal(r))


def draw_task(spec: TrainingSpec, rng: np.random.Generator) -> Task:
    """A teacher and its data.

    Linear and residual networks: y = U D V^T [x; c] with random orthonormal U (d x r), V ((d + m) x r) and singular
    values D in the proportions r, r - 1, ..., 1 (equal ones would leave the leading direction undetermined). A chain
    that ignores c is left with m / (d + m) of the variance. Nonlinear network: y = U D ((V_x^T x) o (V_c^T c)), which
    nothing that ignores c can fit at all.
    """
    d, m, rank = spec.width, spec.context, spec.rank
    inputs = rng.standard_normal((spec.samples, d + m))
    out = orthonormal(d, rank, rng) * np.arange(rank, 0, -1)
    if spec.network == "nonlinear":
        directions = rng.standard_normal((m, rank))
        directions /= np.linalg.norm(directions, axis=0)  # m < rank leaves no orthonormal frame
        features = (inputs[:, :d] @ orthonormal(d, rank, rng)) * (inputs[:, d:] @ directions)
    else:
        features = inputs @ orthonormal(d + m, rank, rng)
    labels = features @ out.T
    labels /= np.sqrt(np.mean(labels**2))
    return Task(inputs, np.stack([labels, labels[rng.permutation(spec.samples)]]))


def moments(task: Task) -> dict[str, Array]:
    """What a linear network sees of the data: second moments (k, k) and cross moments (2, d, k), k = d + m.

    The loss of a linear map W is tr(W S W^T) - 2 tr(W C^T) + tr(Y Y^T) / N, so loss and gradient need no data points.
    """
    z, n = task.inputs, len(task.inputs)
    return {"second": z.T @ z / n, "cross": np.swapaxes(task.labels, 1, 2) @ z / n}
