"""The list of tasks: deterministic, complete, and one directory name each."""

from __future__ import annotations

import re

import pytest

from bridge.running.config import CONDITIONS, RunConfig, make_config
from bridge.running.tasks import (
    SHARD_SAMPLES,
    ListenTask,
    NullTask,
    Task,
    costly_conditions,
    make_shards,
    make_tasks,
    working_order,
)

CLIPS = {f"clip-{n:02d}": CONDITIONS for n in range(14)}


def test_default_measures_position_everywhere_and_sequence_on_twelve_clips_clean_and_noisy() -> None:
    tasks = make_tasks(["a", "b"], CLIPS, RunConfig())
    position = [task for task in tasks if task.state == "position"]
    sequence = [task for task in tasks if task.state == "sequence"]
    assert len(position) == 2 * 14 * 4
    assert {(t.clip, t.condition) for t in sequence} == {(c, s) for c in list(CLIPS)[:12] for s in ("clean", "noise")}
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
    five = dict(list(CLIPS.items())[:5])
    few = {task.id for task in make_tasks(["a"], five, RunConfig())}
    many = {task.id for task in make_tasks(["a"], CLIPS, RunConfig())}
    assert few < many


def test_position_may_be_limited_to_the_first_clips_and_full_overrules_it() -> None:
    tasks = make_tasks(["a"], CLIPS, make_config(None, {"states": "position", "position_clips": 3}))
    assert {task.clip for task in tasks} == {"clip-00", "clip-01", "clip-02"} and len(tasks) == 3 * 4
    assert make_tasks(["a"], CLIPS, make_config(None, {"position_clips": 0, "sequence_clips": 0})) == []
    assert len(make_tasks(["a"], CLIPS, make_config(None, {"position_clips": 0, "full": True}))) == 14 * 4 * 2


def test_without_states_nothing_is_differentiated() -> None:
    assert make_tasks(["a"], CLIPS, make_config(None, {"states": "none", "full": True})) == []


@pytest.mark.parametrize(
    ("labels", "costly"),
    [
        (CONDITIONS, ("clean", "noise")),
        (("clean", "mix", "noise:snr_db=10"), ("clean", "mix")),
        (("clean", "stretch"), ("clean", "stretch")),
        (("mix",), ("mix",)),
        (("clean",), ("clean",)),
    ],
)
def test_costly_states_are_measured_clean_and_under_noise_or_the_first_stress(
    labels: tuple[str, ...], costly: tuple[str, ...]
) -> None:
    assert costly_conditions(labels) == costly


def test_shards_hold_every_sample_once_and_whole_clips() -> None:
    ladder = {f"c{n:03d}": [f"noise:snr_db={m}" for m in range(1 + n % 7)] for n in range(100)}
    shards = make_shards(["b", "a"], ladder)
    for model in ("a", "b"):
        samples = [sample for shard in shards if shard.model == model for sample in shard.samples]
        assert samples == [(clip, label) for clip, labels in ladder.items() for label in labels]
        mine = [shard.samples for shard in shards if shard.model == model]
        homes = [{clip for clip, _ in shard} for shard in mine]
        assert sum(map(len, homes)) == len(set().union(*homes)) == 100
        assert all(SHARD_SAMPLES - 7 < len(shard) <= SHARD_SAMPLES for shard in mine[:-1])
    assert [shard.number for shard in shards if shard.model == "a"] == list(range(len(shards) // 2))
    assert len({shard.id for shard in shards}) == len(shards)
    assert sorted(shard.id for shard in shards if shard.model == "a") == [s.id for s in shards if s.model == "a"]


def test_a_clip_of_more_conditions_than_a_shard_has_one_of_its_own() -> None:
    (first, second) = make_shards(["a"], {"c": [f"noise:snr_db={n}" for n in range(50)], "d": ["clean"]})
    assert (len(first.samples), len(second.samples)) == (50, 1)


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
    made = (Task(name, name, name, "position"), NullTask(name, 0), ListenTask(name, 12345, ((name, name),)))
    for identity in (task.id for task in made):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", identity)
        assert len(identity) < 200


def test_names_that_look_alike_have_ids_of_their_own() -> None:
    alike = [("a/b", "c"), ("a-b", "c"), ("a b", "c"), ("a", "b/c"), ("a", "b-c"), ("A/b", "c")]
    ids = {Task(model, clip, "clean", "position").id.lower() for model, clip in alike}
    assert len(ids) == len(alike)
