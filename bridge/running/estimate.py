"""How long a run will take and how much it will write, said before it starts and called an estimate.

The work of a task follows from the model's dimensions; what a second of this machine does is measured with one matrix
product, and the share of that speed the tasks reach was measured once (below). Where this run already has finished
tasks of a kind, their recorded times are used instead.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.running.inputs import ClipInput, Inputs, ModelInput
from bridge.running.store import Part
from bridge.running.tasks import NullTask, Task

EFFICIENCY = 0.25
"""Share of a matrix product's speed that measuring reaches, beyond `LAYER_SECONDS`."""

LAYER_SECONDS = 0.05
"""What a decoder layer costs a task whatever its size, where a worker does about 130 GFLOP/s.

Both from the two bundled organisms and a random Whisper of tiny's size, each state, on one machine: predicted to
within 20 %.
"""

STRETCH = 3.5
"""How much longer the stretch makes a clip (empirical.speech.stress)."""

_NULL_CHAINS = 12  # three kinds of null model, each along two clips under two conditions (empirical.nulls)

TOKENS_PER_SECOND = 5.0
PROMPT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to cost.

    Attributes:
        tasks: how many are to be measured.
        finished: how many are there already.
        seconds: wall time of the measuring, with the workers it has.
        disk_bytes: size of its records.
        basis: what the seconds rest on.
    """

    tasks: int
    finished: int
    seconds: float
    disk_bytes: int
    basis: str

    def __str__(self) -> str:
        size = self.disk_bytes / 1e6
        return (
            f"{self.tasks} tasks to measure, {self.finished} finished; measuring estimated at {duration(self.seconds)} "
            f"and {size:.1f} MB ({self.basis})"
        )


def estimate(
    inputs: Inputs,
    tasks: Sequence[Task],
    nulls: Sequence[NullTask],
    finished: Mapping[str, Part],
    workers: int,
    speed: float,
) -> Estimate:
    """Cost of the tasks that are not finished.

    Args:
        inputs: models and clips.
        tasks: all measuring tasks of the run.
        nulls: all draws of null models.
        finished: parts that are there, by task id.
        workers: processes that share the work.
        speed: floating-point operations per second of one worker, by `matrix_speed`.
    """
    models = {model.name: model for model in inputs.models}
    clips = {clip.name: clip for clip in inputs.clips}
    recorded: dict[tuple[str, str], list[float]] = defaultdict(list)
    for task in [*tasks, *nulls]:
        if task.id in finished:
            recorded[_kind(task)].append(finished[task.id].seconds)
    waiting = [task for task in [*tasks, *nulls] if task.id not in finished]
    seconds, disk, by_record = 0.0, 0, 0
    for task in waiting:
        model = models[task.model]
        known = recorded.get(_kind(task))
        if known:
            seconds += statistics.median(known)
            by_record += 1
        elif isinstance(task, Task):
            seconds += _seconds(model, operations(model, clips[task.clip], task.condition, task.state), speed)
        else:
            seconds += _NULL_CHAINS * _seconds(model, operations(model, inputs.clips[0], "clean", "position"), speed)
        disk += record_bytes(model, clips[task.clip], task.condition) if isinstance(task, Task) else 20_000
    basis = f"{speed / 1e9:.0f} GFLOP/s a worker, workers {workers}"
    if by_record:
        basis += f"; {by_record} tasks by the times of finished ones"
    return Estimate(len(waiting), len(tasks) + len(nulls) - len(waiting), seconds / workers, disk, basis)


def _seconds(model: ModelInput, work: float, speed: float) -> float:
    return work / (speed * EFFICIENCY) + LAYER_SECONDS * model.decoder_layers


def _kind(task: Task | NullTask) -> tuple[str, str]:
    return task.model, task.state if isinstance(task, Task) else "null"


def operations(model: ModelInput, clip: ClipInput, condition: str, state: str) -> float:
    """Floating-point operations of one task, roughly: transcribing, and the products its Jacobians take."""
    d, positions = model.d_model, model.positions
    tokens = _tokens(model, clip, condition)
    encoder = model.encoder_layers * positions * (24 * d * d + 4 * positions * d)
    keys = 4 * positions * d * d
    layer = tokens * (32 * d * d + 4 * positions * d) + keys
    forward = encoder + model.decoder_layers * layer
    if state == "position":
        products = d * model.decoder_layers * (keys + 4 * positions * d)
    else:
        products = 60 * model.decoder_layers * model.decoder_layers * layer
    return float(2 * forward + products)


def record_bytes(model: ModelInput, clip: ClipInput, condition: str) -> int:
    """Size of one task's records: mostly its activations, three components a layer in float32."""
    return 20_000 + 12 * model.decoder_layers * _tokens(model, clip, condition) * model.d_model


def matrix_speed(size: int = 384, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations per second of a float32 matrix product on this machine, now: the median of five.

    The product may use several threads; a worker has one, so this errs on the fast side where nothing limits them.
    """
    matrix = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    np.matmul(matrix, matrix)
    times = []
    for _ in range(5):
        start = clock()
        np.matmul(matrix, matrix)
        times.append(clock() - start)
    return 2.0 * size**3 / max(statistics.median(times), 1e-9)


def duration(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "3.5 min", "2.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _tokens(model: ModelInput, clip: ClipInput, condition: str) -> int:
    length = clip.duration_s * (STRETCH if condition == "stretch" else 1.0)
    return PROMPT_TOKENS + round(TOKENS_PER_SECOND * min(length, model.window_s))
