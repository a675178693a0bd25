"""Claim C5 (the paper's section 2.4): whether training drives consecutive layers into alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.chains.alignment import mean_random_alignment
from theory.claims.check import ClaimCheck, mean_interval
from theory.training.conditions import Condition, contrasts, deciding_conditions
from theory.training.task import LABELS
from theory.training.trajectory import Trajectory, train

__all__ = ["FITTED_LOSS", "LEAST_ALIGNMENT_GAIN", "check_c5", "side", "summary"]

LEAST_ALIGNMENT_GAIN = 0.1
"""Least rise of the mean alignment of layers 2..L worth having; alignments lie in [0, 1]."""

FITTED_LOSS = 0.1
"""Median final loss, over that of answering 0, up to which a network counts as trained."""

Run = Callable[[Condition], dict[str, Any]]


def summary(condition: Condition, trajectory: Trajectory) -> dict[str, Any]:
    """What one experiment says, in plain numbers.

    Returns:
        name, decides, spec, n (seeds), steps, fitted; chance (mean alignment of random directions in this width, T22);
        start, end and end_shuffled of alignment, gap and gain (means over seeds); the differences, paired by seed, of
        which `differences` holds one value a seed: change (true labels, end minus start), change_shuffled, and
        against_shuffled (true minus shuffled, both at the end); each with a 95 % t interval; regime_one and regime_two
        (shares of the trained chains that the paper's rule puts there); curves (quartiles over seeds by snapshot).
    """
    spec = condition.spec
    kappa = trajectory.alignment
    values = {
        "change": kappa[0, -1] - kappa[0, 0],
        "change_shuffled": kappa[1, -1] - kappa[1, 0],
        "against_shuffled": kappa[0, -1] - kappa[1, -1],
    }
    row: dict[str, Any] = {
        "name": condition.name,
        "decides": condition.decides,
        "spec": asdict(spec),
        "n": spec.seeds,
        "chance": float(mean_random_alignment(spec.width)),
        "loss": float(np.median(trajectory.loss[0, -1])),
        "loss_shuffled": float(np.median(trajectory.loss[1, -1])),
        "regime_one": float(trajectory.regime_one[0].mean()),
        "regime_two": float(trajectory.regime_two[0].mean()),
        "differences": {name: value.tolist() for name, value in values.items()},
    }
    row["fitted"] = row["loss"] <= FITTED_LOSS
    for name, value in values.items():
        row[name], row[f"{name}_interval"] = mean_interval(value)
    curves: dict[str, Any] = {"steps": trajectory.steps.tolist()}
    for name in ("alignment", "gap", "gain"):
        array: NDArray[np.float64] = getattr(trajectory, name)
        row[name] = {
            "start": float(array[0, 0].mean()),
            "end": float(array[0, -1].mean()),
            "end_shuffled": float(array[1, -1].mean()),
        }
        quartiles = np.quantile(array, [0.25, 0.5, 0.75], axis=2)  # (3, labels, snapshots)
        curves[name] = {label: quartiles[:, index].tolist() for index, label in enumerate(LABELS)}
    return row | {"curves": curves}


def _run(condition: Condition) -> dict[str, Any]:
    return summary(condition, train(condition.spec))


def side(interval: tuple[float, float]) -> str:
    """Where an interval lies, seen from LEAST_ALIGNMENT_GAIN: "above", "below", or "across"."""
    low, high = interval
    return "above" if low > LEAST_ALIGNMENT_GAIN else "below" if high < LEAST_ALIGNMENT_GAIN else "across"


def check_c5(
    seed: int = 5,
    seeds: int = 8,
    *,
    further: Sequence[Condition] | None = None,
    run: Run = _run,
) -> ClaimCheck:
    """Claim C5: does training drive consecutive layers into alignment?

    Deep linear, residual and nonlinear residual chains, trained on a task that needs the context and, from the same
    start on the same inputs, on shuffled labels. The effect in one condition is the mean alignment of layers 2..L at
    the end of training minus that at the start, paired by seed.

    The rule, fixed before any alignment was looked at. C5 is stated of networks in general, without a condition; so it
    must hold in each of six ordinary ones (`deciding_conditions`): three kinds of network, a teacher of rank 1 and of
    full rank, the usual start, Adam. Their t intervals are widened to hold together with 95 % (Bonferroni over the
    six), since one of them can refute. A condition in which the network did not learn (`FITTED_LOSS`) is across
    whatever its interval. The claim is supported if all six lie above LEAST_ALIGNMENT_GAIN, refuted as stated if any
    lies below, unresolved else; where they disagree its scope names those in which it holds. Small and orthogonal
    starts, other optimisers, ranks, depths and widths never decide; they say where else it holds. The shuffled control
    does not decide either, since the claim speaks of training, not of what is learnt: it says whether the task or the
    training makes the alignment. Afterwards, with the rule and the sides unchanged, the length of training was cut from
    2,000 to 1,000 steps to save time, and some further conditions were added (longer training, weight decay of full
    rank and by gradient descent, gradient descent from small residual and orthogonal starts).

    Args:
        seed: of all chance.
        seeds: chains of each deciding condition, at least 2.
        further: conditions that do not decide, run and reported as well; None: the two of `contrasts`.
        run: makes a condition's `summary`; replace it to keep and re-use them.

    Returns:
        The effect and interval of the condition that carries the verdict: the least among those on the deciding side.
        details: rows (every `summary`, with "simultaneous", the widened interval, and "side" where it decides).
    """
    deciding = deciding_conditions(seeds, seed)
    level = 1 - 0.05 / len(deciding)
    rows = []
    for condition in (*deciding, *(contrasts(seeds, seed) if further is None else further)):
        row = dict(run(condition))
        interval = row["change_interval"]
        if condition.decides:
            _, interval = mean_interval(np.array(row["differences"]["change"]), level)
            row["simultaneous"] = interval
        row["side"] = side(interval) if row["fitted"] else "across"
        rows.append(row)
    judged = [row for row in rows if row["decides"]]
    sides = {row["side"] for row in judged}
    carries = "below" if "below" in sides else "across" if "across" in sides else "above"
    least = min((row for row in judged if row["side"] == carries), key=lambda row: row["change"])
    return ClaimCheck(
        "C5",
        "rise of the mean alignment of layers 2..L in training, in the condition that decides; claimed: at least 0.1",
        least["change"],
        least["simultaneous"],
        least["n"],
        {"condition": least["name"], "carries": carries, "rows": rows},
    )
