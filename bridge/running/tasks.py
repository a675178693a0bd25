"""The work of a run as deterministic lists of tasks: shards of samples that are heard, then Jacobians of each sample.

Both lists follow from the run's settings alone, so that a run that was stopped finds its parts again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.running.config import RunConfig

SHARD_SAMPLES = 32
"""Samples that one worker hears before it writes them: what a kill may cost, and what a part's memory is made of."""

_CLEAN, _NOISE = "clean", "noise"


@dataclass(frozen=True, slots=True)
class ListenTask:
    """Samples to be heard by one model, all conditions of a clip among them.

    Attributes:
        model: the model's name, unique in the run.
        number: of the shard, from 0.
        samples: clip and condition of each.
    """

    model: str
    number: int
    samples: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """Directory name, as `Task.id`; in the order of the shards."""
        key = "\0".join((self.model, *(name for sample in self.samples for name in sample)))
        return f"listen--{_slug(self.model)}--{self.number:05d}--{_digest(key)}"


@dataclass(frozen=True, slots=True)
class Task:
    """Jacobians of one sample in one state; its id names the directory its records are written to.

    Attributes:
        model: the model's name, unique in the run.
        clip: the clip's name, unique in the run.
        condition: label of the stress put on the clip.
        state: of `STATES`.
    """

    model: str
    clip: str
    condition: str
    state: str

    @property
    def id(self) -> str:
        """Directory name: readable, safe on every file system, and unique by a hash of the exact names."""
        key = "\0".join((self.model, self.clip, self.condition, self.state))
        names = (self.model, self.clip, self.condition, self.state)
        return f"{'--'.join(_slug(name) for name in names)}--{_digest(key)}"


@dataclass(frozen=True, slots=True)
class NullTask:
    """One draw of the null models of one model.

    Attributes:
        model: the model's name, unique in the run.
        draw: number of the draw, from 0.
    """

    model: str
    draw: int

    @property
    def id(self) -> str:
        """Directory name, as `Task.id`."""
        return f"null--{_slug(self.model)}--{self.draw:03d}--{_digest(self.model)}"


AnyTask = ListenTask | Task | NullTask


def kind_of(task: AnyTask) -> str:
    """What a task does, in one word: its state, "listen" or "nulls"."""
    if isinstance(task, Task):
        return task.state
    return "listen" if isinstance(task, ListenTask) else "nulls"


def make_shards(models: Sequence[str], conditions: Mapping[str, Sequence[str]]) -> list[ListenTask]:
    """What is to be heard, in the order its tables have: model, clip, condition.

    A shard holds whole clips: as many as make `SHARD_SAMPLES` samples at most, and at least one.

    Args:
        models: names of the models, in the order given.
        conditions: labels by clip, in their order; clips sorted.
    """
    shards: list[tuple[tuple[str, str], ...]] = []
    waiting: list[tuple[str, str]] = []
    for clip, labels in conditions.items():
        if waiting and len(waiting) + len(labels) > SHARD_SAMPLES:
            shards.append(tuple(waiting))
            waiting = []
        waiting += [(clip, label) for label in labels]
    if waiting:
        shards.append(tuple(waiting))
    return [ListenTask(model, number, shard) for model in models for number, shard in enumerate(shards)]


def make_tasks(models: Sequence[str], conditions: Mapping[str, Sequence[str]], config: RunConfig) -> list[Task]:
    """All Jacobians of a run, in the order their tables have: model, clip, condition, state.

    The position state is measured of the first `position_clips` clips; the others of the first `sequence_clips`, under
    the two of `costly_conditions`; with `full` every state everywhere.

    Args:
        models: names of the models, in the order given.
        conditions: labels by clip, in their order; clips sorted.
        config: the run's settings.
    """
    tasks = []
    for model in models:
        for number, (clip, labels) in enumerate(conditions.items()):
            costly = costly_conditions(labels)
            everywhere = config.position_clips is None or number < config.position_clips
            for condition in labels:
                for state in config.states:
                    chosen = number < config.sequence_clips and condition in costly
                    if config.full or (everywhere if state == "position" else chosen):
                        tasks.append(Task(model, clip, condition, state))
    return tasks


def costly_conditions(labels: Sequence[str]) -> tuple[str, ...]:
    """Conditions under which the costly states are measured: clean and noise, or without noise the first stress."""
    stresses = [label for label in labels if label != _CLEAN]
    chosen = _NOISE if _NOISE in stresses else next(iter(stresses), None)
    return tuple(label for label in labels if label in (_CLEAN, chosen))


def working_order(tasks: Sequence[Task]) -> list[Task]:
    """The order in which tasks are handed out: by model, so that a worker loads each checkpoint once, and the long
    tasks of a model first, so that workers finish together."""
    models = list(dict.fromkeys(task.model for task in tasks))
    return sorted(tasks, key=lambda task: (models.index(task.model), task.state == "position"))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:10]


def _slug(name: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return slug[-40:].strip("-.") or "unnamed"
