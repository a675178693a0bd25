"""The list of tasks: deterministic, complete, and one directory name each."""

from __future__ import annotations

import re

import pytest

from bridge.running.config import RunConfig, make_config
from bridge.running.tasks import NullTask, Task, make_tasks, working_order

CLIPS = [f"clip-{n:02d}" for n in range(14)]


def test_default_measures_position_everywhere_and_sequence_on_twelve_clips_clean_and_noisy() -> None:
    tasks = make_tasks(["a", "b"], CLIPS, RunConfig())
    position = [task for task in tasks if task.state == "position"]
    sequence = [task for task in tasks if task.state == "sequence"]
    assert len(position) == 2 * 14 * 4
    assert {(t.clip, t.condition) for t in sequence} == {(c, s) for c in CLIPS[:12] for s in ("clean", "noise")}
    assert len(sequence) == 2 * 12 * 2
    assert len(set(tasks)) == len(tasks)


def test_full_measures_both_states_everywhere() -> None:
    tasks = make_tasks(["a"], CLIPS, make_config(None, {"full": True, "sequence_clips": 0}))
    assert len(tasks) == 14 * 4 * 2


@pytest.mark.parametrize(("states", "expected"), [("position", 14 * 4), ("sequence", 12 * 2)])
def test_states_are_limited_to_those_asked_for(states: str, expected: int) -> None:
    tasks = make_tasks(["a"], CLIPS, make_config(None, {"states": states}))
    assert len(tasks) == expected
    assert {task.state for task in tasks} == {states}


def test_more_clips_append_tasks_and_change_no_id() -> None:
    few = {task.id for task in make_tasks(["a"], CLIPS[:5], RunConfig())}
    many = {task.id for task in make_tasks(["a"], CLIPS, RunConfig())}
    assert few < many


def test_order_is_model_clip_condition_state() -> None:
    tasks = make_tasks(["b", "a"], CLIPS, RunConfig())
    assert [task.model for task in tasks[:4]] == ["b"] * 4
    assert [(t.condition, t.state) for t in tasks[:6]] == [
        ("clean", "position"),
        ("clean", "sequence"),
        ("stretch", "position"),
        ("mix", "position"),
        ("noise", "position"),
        ("noise", "sequence"),
    ]


def test_working_order_keeps_models_together_and_long_tasks_first() -> None:
    tasks = make_tasks(["b", "a"], CLIPS, RunConfig())
    order = working_order(tasks)
    assert sorted(task.id for task in order) == sorted(task.id for task in tasks)
    models = [task.model for task in order]
    assert models == sorted(models, reverse=True)
    states = [task.state for task in order if task.model == "a"]
    assert states == sorted(states, reverse=True)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/c", "", ".", "x" * 300, "é" * 90, "-rf"])
def test_ids_are_safe_names_of_directories(name: str) -> None:
    for identity in (Task(name, name, "clean", "position").id, NullTask(name, 0).id):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", identity)
        assert len(identity) < 200


def test_names_that_look_alike_have_ids_of_their_own() -> None:
    alike = [("a/b", "c"), ("a-b", "c"), ("a b", "c"), ("a", "b/c"), ("a", "b-c"), ("A/b", "c")]
    ids = {Task(model, clip, "clean", "position").id.lower() for model, clip in alike}
    assert len(ids) == len(alike)
