"""The work of a run as a deterministic list of tasks: model x clip x condition x state."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.running.config import SEQUENCE_CONDITIONS, RunConfig


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to measure; its id names the directory its records are written to.

    Attributes:
        model: the model's name, unique in the run.
        clip: the clip's name, unique in the run.
        condition: stress applied to the clip.
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
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        return f"{_slug(self.model)}--{_slug(self.clip)}--{self.condition}--{self.state}--{digest}"


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
        digest = hashlib.sha256(self.model.encode()).hexdigest()[:10]
        return f"null--{_slug(self.model)}--{self.draw:03d}--{digest}"


def make_tasks(models: Sequence[str], clips: Sequence[str], config: RunConfig) -> list[Task]:
    """All tasks of a run, in the order its tables have: model, clip, condition, state.

    The position state is measured everywhere; the others on the first `sequence_clips` clips under
    `SEQUENCE_CONDITIONS`, or everywhere with `full`.

    Args:
        models: names of the models, in the order given.
        clips: names of the usable clips, sorted.
        config: the run's settings.
    """
    tasks = []
    for model in models:
        for number, clip in enumerate(clips):
            for condition in config.conditions:
                for state in config.states:
                    chosen = number < config.sequence_clips and condition in SEQUENCE_CONDITIONS
                    if state == "position" or config.full or chosen:
                        tasks.append(Task(model, clip, condition, state))
    return tasks


def working_order(tasks: Sequence[Task]) -> list[Task]:
    """The order in which tasks are handed out: by model, so that a worker loads each checkpoint once, and the long
    tasks of a model first, so that workers finish together."""
    models = list(dict.fromkeys(task.model for task in tasks))
    return sorted(tasks, key=lambda task: (models.index(task.model), task.state == "position"))


def _slug(name: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return slug[-40:].strip("-.") or "unnamed"
