"""How long a run will take and how much it will write, said before it starts and called an estimate.

The work of a task follows from the model's dimensions; what a second of this machine does is measured with one matrix
product, and the share of that speed the tasks reach was measured once (below). Where this run already has finished
tasks of a kind, their recorded times are used instead.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.running.inputs import ClipInput, Inputs, ModelInput
from bridge.running.memory import listening_memory_bytes, worker_memory_bytes
from bridge.running.store import Part
from bridge.running.tasks import AnyTask, ListenTask, Task, kind_of

EFFICIENCY = 0.25
"""Share of a matrix product's speed that measuring reaches, beyond `LAYER_SECONDS`."""

LAYER_SECONDS = 0.05
"""What a decoder layer costs a task whatever its size, where a worker does about 130 GFLOP/s.

Both from the two bundled organisms and a random Whisper of tiny's size, each state, on one machine: predicted to
within 20 %.
"""

LISTEN_EFFICIENCY = 0.4
"""Share of a matrix product's speed at which samples are heard, beyond the seconds below."""

STEP_SECONDS = 0.0006
"""What one decoder layer costs one token of a batch, whatever its size and the batch's."""

SAMPLE_SECONDS = 0.02
"""What a sample costs beside the model: reading it, its log-mel, its rows and proxies."""

AUDIO_SECONDS = 0.003
"""What a second of stressed audio costs before the model hears it.

The four from the two bundled organisms (batches of 1 and 8) and a random Whisper of tiny's size, processor
time of one core at about 110 GFLOP/s: predicted to within 15 %. A worker's start, some seconds, is not in them.
"""

STRETCH = 3.5
"""How much longer the stretch makes a clip (empirical.stress)."""

_NULL_CHAINS = 12  # three kinds of null model, each along two clips under two conditions (empirical.nulls)

TOKENS_PER_SECOND = 5.0
PROMPT_TOKENS = 4

VECTORS_PACKED = 0.8
"""Share of the activations' bytes that is left on disk, measured on the bundled organisms'."""

_RATE = re.compile(r"\brate=([0-9]+(?:\.[0-9]*)?)")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to cost.

    Attributes:
        tasks: how many are to be measured, shards of samples to be heard among them.
        samples: how many samples those shards hold.
        finished: how many are there already.
        seconds: wall time of the measuring, with the workers it has.
        disk_bytes: size of its records.
        memory_bytes: largest resident memory of a worker (bridge.running.memory); 0 where nothing is left to do.
        workers: how many there are.
        free_bytes: memory that is left on the device, None where nothing tells.
        basis: what the seconds rest on.
    """

    tasks: int
    samples: int
    finished: int
    seconds: float
    disk_bytes: int
    memory_bytes: int
    workers: int
    free_bytes: int | None
    basis: str

    def __str__(self) -> str:
        size = f"{self.disk_bytes / 1e6:.1f} MB" if self.disk_bytes < 1e9 else f"{self.disk_bytes / 1e9:.1f} GB"
        return (
            f"{self.samples} samples to hear, {self.tasks} tasks in all, {self.finished} finished; estimated at "
            f"{duration(self.seconds)}, {size} on disk and {self.memory_bytes / 1e9:.1f} GB of memory a worker "
            f"({self.basis})"
        )

    @property
    def warning(self) -> str | None:
        """What is to be feared of the memory, or None. Nothing is refused: the estimate may be too large."""
        needed = self.workers * self.memory_bytes
        if self.free_bytes is None or needed <= self.free_bytes:
            return None
        most = self.free_bytes // self.memory_bytes
        advice = f"--workers {most} would fit" if most >= 1 else "even one worker may run out of it"
        return (
            f"{self.workers} workers may need {needed / 1e9:.1f} GB of memory, and {self.free_bytes / 1e9:.1f} GB are "
            f"free: {advice}; tasks that get none fail with the code out_of_memory, and the others go on"
        )


def estimate(
    inputs: Inputs,
    tasks: Sequence[AnyTask],
    finished: Mapping[str, Part],
    workers: int,
    speed: float,
    *,
    k: int = 8,
    dtype: str = "float32",
    batch: int = 8,
) -> Estimate:
    """Cost of the tasks that are not finished.

    Args:
        inputs: models and clips.
        tasks: all of the run: shards, Jacobians, draws of null models.
        finished: parts that are there, by task id.
        workers: processes that share the work.
        speed: floating-point operations per second of one worker, by `matrix_speed`.
        k: leading singular values of each Jacobian.
        dtype: of the models.
        batch: samples that are heard at once.
    """
    models = {model.name: model for model in inputs.models}
    clips = {clip.name: clip for clip in inputs.clips}
    recorded: dict[tuple[str, str], list[float]] = defaultdict(list)
    for task in tasks:
        if task.id in finished:
            recorded[_kind(task)].append(finished[task.id].seconds / _units(task))
    waiting = [task for task in tasks if task.id not in finished]
    seconds, disk, by_record, memory, samples = 0.0, 0, 0, 0, 0
    for task in waiting:
        model = models[task.model]
        known = recorded.get(_kind(task))
        if known:
            seconds += statistics.median(known) * _units(task)
            by_record += 1
        if isinstance(task, ListenTask):
            heard = [(clips[clip], condition) for clip, condition in task.samples]
            samples += len(heard)
            disk += 20_000 + sum(record_bytes(model, clip, condition) for clip, condition in heard)
            tokens = [_tokens(model, clip, condition) for clip, condition in heard]
            together = min(batch, len(heard))
            memory = max(memory, listening_memory_bytes(model, tokens, batch=together, dtype=dtype))
            if not known:
                seconds += sum(listening_seconds(model, clip, condition, speed, together) for clip, condition in heard)
            continue
        clip, condition, state = inputs.clips[0], "clean", "position"
        if isinstance(task, Task):
            clip, condition, state = clips[task.clip], task.condition, task.state
        if not known:
            chains = 1 if isinstance(task, Task) else _NULL_CHAINS
            seconds += chains * _seconds(model, operations(model, clip, condition, state), speed)
        memory = max(memory, worker_memory_bytes(model, _tokens(model, clip, condition), state, k=k, dtype=dtype))
        disk += 20_000
    basis = f"{speed / 1e9:.0f} GFLOP/s a worker, workers {min(workers, len(waiting)) or workers}"
    if by_record:
        basis += f"; {by_record} tasks by the times of finished ones"
    busy = min(workers, len(waiting))  # one without a task is never started
    return Estimate(
        tasks=len(waiting),
        samples=samples,
        finished=len(tasks) - len(waiting),
        seconds=seconds / max(busy, 1),
        disk_bytes=disk,
        memory_bytes=memory,
        workers=busy,
        free_bytes=inputs.free_bytes,
        basis=basis,
    )


def _units(task: AnyTask) -> int:
    """What a task's time is proportional to: the samples of a shard."""
    return len(task.samples) if isinstance(task, ListenTask) else 1


def _seconds(model: ModelInput, work: float, speed: float) -> float:
    return work / (speed * EFFICIENCY) + LAYER_SECONDS * model.decoder_layers


def _kind(task: AnyTask) -> tuple[str, str]:
    return task.model, kind_of(task)


def operations(model: ModelInput, clip: ClipInput, condition: str, state: str) -> float:
    """Floating-point operations of one Jacobian task, roughly: encoding, and the products its Jacobians take."""
    d, positions = model.d_model, model.positions
    encoder, keys, layer = _forward_operations(model, _tokens(model, clip, condition))
    forward = encoder + model.decoder_layers * layer
    if state == "position":
        products = d * model.decoder_layers * (keys + 4 * positions * d)
    elif state == "sequence":
        products = 60 * model.decoder_layers * model.decoder_layers * layer
    else:  # each product goes through all the layers below, over all frames
        products = 60 * model.encoder_layers * encoder
    return float(forward + products)


def listening_operations(model: ModelInput, tokens: int) -> float:
    """Floating-point operations of hearing one sample, roughly: the encoder, and the decoder once token by token and
    once, for the activations, along all of them."""
    encoder, _, layer = _forward_operations(model, tokens)
    return float(encoder + 2 * model.decoder_layers * layer + 4 * tokens * model.d_model * model.vocabulary)


def listening_seconds(model: ModelInput, clip: ClipInput, condition: str, speed: float, batch: int) -> float:
    """Time of a worker for hearing one sample of a batch, s."""
    tokens = _tokens(model, clip, condition)
    steps = STEP_SECONDS * model.decoder_layers * tokens / batch
    audio = SAMPLE_SECONDS + AUDIO_SECONDS * clip.duration_s * _stretching(condition)
    return listening_operations(model, tokens) / (speed * LISTEN_EFFICIENCY) + steps + audio


def _forward_operations(model: ModelInput, tokens: int) -> tuple[int, int, int]:
    """Operations of the whole encoder, of one decoder layer's keys and values, and of that layer along the tokens."""
    d, positions = model.d_model, model.positions
    encoder = model.encoder_layers * positions * (24 * d * d + 4 * positions * d)
    keys = 4 * positions * d * d
    return encoder, keys, tokens * (32 * d * d + 4 * positions * d) + keys


def record_bytes(model: ModelInput, clip: ClipInput, condition: str) -> int:
    """Size of one sample's records: mostly its activations, three components a layer in float32, packed to 0.8."""
    return 5_000 + round(VECTORS_PACKED * 12 * model.decoder_layers * _tokens(model, clip, condition) * model.d_model)


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
    length = clip.duration_s * _stretching(condition)
    return PROMPT_TOKENS + round(TOKENS_PER_SECOND * min(length, model.window_s))


def _stretching(condition: str) -> float:
    """How much longer a condition makes a clip, by its label."""
    rate = 1.0
    for part in condition.split("+"):
        if part.startswith("stretch"):
            found = _RATE.search(part)
            rate *= STRETCH if found is None else float(found[1])
    return rate
