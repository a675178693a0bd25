"""The estimate: from the machine's speed where nothing is known, from recorded times where something is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.running.config import CONDITIONS, make_config
from bridge.running.estimate import (
    EFFICIENCY,
    LAYER_SECONDS,
    duration,
    estimate,
    listening_seconds,
    matrix_speed,
    operations,
    record_bytes,
)
from bridge.running.inputs import ClipInput, Inputs, ModelInput
from bridge.running.memory import listening_memory_bytes, worker_memory_bytes
from bridge.running.store import Part
from bridge.running.tasks import NullTask, make_shards, make_tasks

SMALL = ModelInput("small", "small", "00", 96, 2, 4, 4, 80, 300, 500, 10.0)
DEEP = ModelInput("deep", "deep", "11", 96, 2, 8, 4, 80, 300, 500, 10.0)
CLIPS = tuple(ClipInput(f"c{n}", f"c{n}.flac", None, None, "aa", 2.0) for n in range(3))
INPUTS = Inputs((SMALL, DEEP), CLIPS, CLIPS, ())
HEARD = {clip.name: CONDITIONS for clip in CLIPS}
TASKS = make_tasks(["small", "deep"], HEARD, make_config(None, {"sequence_clips": 1}))
SHARDS = make_shards(["small", "deep"], HEARD)


def _part(task: str, seconds: float) -> Part:
    return Part(task, "digest", {}, {}, seconds, 0)


def test_time_is_work_over_speed_shared_by_the_workers() -> None:
    one = estimate(INPUTS, TASKS, {}, 1, 1e9)
    models = {"small": SMALL, "deep": DEEP}
    work = sum(operations(models[t.model], CLIPS[0], t.condition, t.state) for t in TASKS)
    fixed = LAYER_SECONDS * sum(models[t.model].decoder_layers for t in TASKS)
    assert one.seconds == pytest.approx(work / EFFICIENCY / 1e9 + fixed, rel=1e-12)
    assert estimate(INPUTS, TASKS, {}, 2, 1e9).seconds == pytest.approx(one.seconds / 2, rel=1e-12)
    fast = estimate(INPUTS, TASKS, {}, 1, 4e9).seconds
    assert fast == pytest.approx(work / EFFICIENCY / 4e9 + fixed, rel=1e-12)
    assert (one.tasks, one.finished) == (len(TASKS), 0)


def test_workers_without_a_task_save_no_time() -> None:
    many, enough = (estimate(INPUTS, TASKS, {}, workers, 1e9) for workers in (10_000, len(TASKS)))
    assert many == enough and many.seconds > 0 and many.workers == len(TASKS)


def test_recorded_times_of_the_same_model_and_state_are_preferred() -> None:
    done = [t for t in TASKS if t.model == "small" and t.state == "position"][:3]
    finished = {t.id: _part(t.id, seconds) for t, seconds in zip(done, (1.0, 2.0, 30.0), strict=True)}
    others = [t for t in TASKS if t.model == "small" and t.state == "position" and t.id not in finished]
    rest = [t for t in TASKS if t.model == "deep" or t.state == "sequence"]
    found = estimate(INPUTS, TASKS, finished, 1, 1e9)
    expected = 2.0 * len(others) + estimate(INPUTS, rest, {}, 1, 1e9).seconds
    assert found.seconds == pytest.approx(expected, rel=1e-12)
    assert (found.tasks, found.finished) == (len(TASKS) - 3, 3)
    assert f"{len(others)} tasks by the times of finished ones" in found.basis


def test_what_is_heard_costs_its_samples_and_their_records() -> None:
    found = estimate(INPUTS, SHARDS, {}, 1, 1e9, batch=4)
    models = {"small": SMALL, "deep": DEEP}
    samples = [(models[shard.model], CLIPS[0], condition) for shard in SHARDS for _, condition in shard.samples]
    assert (found.tasks, found.samples) == (2, 2 * 3 * 4) == (2, len(samples))
    assert found.seconds == pytest.approx(sum(listening_seconds(*sample, 1e9, 4) for sample in samples), rel=1e-12)
    assert found.disk_bytes == 2 * 20_000 + sum(record_bytes(*sample) for sample in samples)
    assert "24 samples to hear" in str(found)


def test_shards_that_were_heard_tell_the_time_of_a_sample() -> None:
    clips = {f"c{n:02d}": CONDITIONS for n in range(12)}
    inputs = replace(INPUTS, clips=tuple(replace(CLIPS[0], name=name) for name in clips))
    first, second = make_shards(["small"], clips)
    assert (len(first.samples), len(second.samples)) == (32, 16)
    found = estimate(inputs, [first, second], {first.id: _part(first.id, 64.0)}, 1, 1e9)
    assert (found.seconds, found.samples) == (32.0, 16)


def test_a_stretch_is_as_long_as_its_label_says() -> None:
    costs = [
        listening_seconds(SMALL, CLIPS[0], label, 1e9, 8)
        for label in ("stretch:rate=0.5", "clean", "stretch:rate=2", "noise+stretch", "stretch:rate=4.5")
    ]
    assert costs == sorted(set(costs))
    assert listening_seconds(SMALL, CLIPS[0], "noise:snr_db=5", 1e9, 8) == costs[1]


def test_nothing_left_costs_nothing() -> None:
    found = estimate(INPUTS, TASKS, {task.id: _part(task.id, 1.0) for task in TASKS}, 2, 1e9)
    assert (found.tasks, found.seconds, found.disk_bytes) == (0, 0.0, 0)


def test_null_draws_count_as_tasks() -> None:
    assert estimate(INPUTS, [NullTask("small", 0)], {}, 1, 1e9).seconds > 0


def test_work_grows_with_depth_state_and_length() -> None:
    assert operations(DEEP, CLIPS[0], "clean", "position") > operations(SMALL, CLIPS[0], "clean", "position")
    assert operations(DEEP, CLIPS[0], "stretch", "sequence") > operations(DEEP, CLIPS[0], "clean", "sequence")
    assert record_bytes(DEEP, CLIPS[0], "clean") > record_bytes(SMALL, CLIPS[0], "clean")


def test_speed_is_the_median_of_what_the_clock_says() -> None:
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 22.0, 30.0, 39.0, 40.0, 42.0])
    assert matrix_speed(8, clock=lambda: next(ticks)) == 2 * 8**3 / 2.0


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (120, "2.0 min"), (7200, "2.0 h")])
def test_durations_are_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_it_is_called_an_estimate() -> None:
    assert "estimated" in str(estimate(INPUTS, TASKS, {}, 1, 1e9))


LARGE = ModelInput("large-v3", "l", "22", 1280, 32, 32, 20, 128, 51866, 1500, 30.0, parameters=1_543_490_560)


def test_hearing_holds_the_weights_the_attention_of_a_batch_and_the_activations_of_a_shard() -> None:
    need = {batch: listening_memory_bytes(LARGE, [30] * 32, batch=batch, dtype="float32") for batch in (1, 8)}
    assert need[1] > 8 * LARGE.parameters + 2 * 32 * 12 * 32 * 30 * 1280
    assert need[8] - need[1] >= 7 * 3 * 4 * 20 * 1500**2
    assert need[8] < 40e9
    assert listening_memory_bytes(LARGE, [], batch=1, dtype="float32") > 8 * LARGE.parameters


def test_memory_holds_at_least_what_must_be_there_at_once() -> None:
    for state, context in (("position", 1500 * 1280), ("sequence", 1500 * 1280), ("frames", 128 * 3000)):
        need = worker_memory_bytes(LARGE, 24, state, k=8, dtype="float32")
        assert need > 4 * LARGE.parameters + 4 * 8 * context  # the weights, and the k right vectors
        assert need < 40e9
    position = worker_memory_bytes(LARGE, 24, "position", k=8, dtype="float32")
    assert position < 20 * 2**30  # what issue 5 allows it
    double = worker_memory_bytes(LARGE, 24, "position", k=8, dtype="float64")
    assert position < double < 2 * position
    assert worker_memory_bytes(LARGE, 24, "position", k=16, dtype="float32") > position
    assert worker_memory_bytes(LARGE, 448, "sequence", k=8, dtype="float32") > worker_memory_bytes(
        LARGE, 24, "sequence", k=8, dtype="float32"
    )


def test_a_run_needs_the_largest_task_of_each_worker_and_says_so_where_that_is_not_free() -> None:
    inputs = Inputs((SMALL, LARGE), CLIPS, CLIPS, (), free_bytes=20 * 10**9)
    tasks = make_tasks(["small", "large-v3"], {"c0": CONDITIONS}, make_config(None, {"sequence_clips": 0}))
    found = estimate(inputs, tasks, {}, 2, 1e9, k=8)
    one = worker_memory_bytes(LARGE, 14, "position", k=8, dtype="float32")
    assert one <= found.memory_bytes < 1.05 * one  # a stretched clip has more tokens
    assert found.warning is not None and "--workers 1 would fit" in found.warning
    assert estimate(inputs, tasks[:1], {}, 2, 1e9).warning is None  # one task, of the small model
    assert replace(found, free_bytes=10**9).warning is not None
    assert "even one worker" in str(replace(found, free_bytes=10**9).warning)
    assert replace(found, free_bytes=None).warning is None
    assert estimate(inputs, [], {}, 2, 1e9).warning is None


def test_vectors_are_of_the_longer_side_and_the_float64_ones_of_the_shorter() -> None:
    """At large-v3's size the frames' state is longer than its context, so that the left space is the context's."""
    mebibyte = 2**20
    rows, context, directions = 1500 * 1280, 128 * 3000, 8 * 8 + 16
    kept = (directions + 6 * 8) * rows * 4 + 24 * directions * context
    need = {k: worker_memory_bytes(LARGE, 24, "frames", k=k, dtype="float32") for k in (8, 9)}
    assert need[8] > kept
    # one value more: 8 directions to search with and 6 to finish
    assert abs(need[9] - need[8] - (14 * rows * 4 + 24 * 8 * context)) < mebibyte


def test_a_small_jacobian_is_dense_and_its_size_does_not_grow_with_k() -> None:
    organism = ModelInput("deep", "d", "33", 96, 2, 8, 4, 80, 209, 400, 8.0, parameters=1_532_064)
    need = {k: worker_memory_bytes(organism, 12, "position", k=k, dtype="float32") for k in (1, 8)}
    assert need[1] == need[8] > 3 * 96 * 400 * 96 * 4
    assert worker_memory_bytes(organism, 12, "sequence", k=8, dtype="float32") > worker_memory_bytes(
        organism, 12, "sequence", k=1, dtype="float32"
    )


def test_the_dense_case_is_what_the_iteration_calls_one() -> None:
    from bridge.running import memory
    from empirical.jacobians import krylov, operators

    assert (memory.DENSE_JACOBIAN_ROWS, memory.DENSE_JACOBIAN_BYTES) == (
        krylov.DENSE_ROWS,
        operators.MATERIALISE_BUDGET_BYTES,
    )


def test_a_batch_is_no_larger_than_its_shard() -> None:
    largest = max(len(shard.samples) for shard in SHARDS)
    enough, vast = (estimate(INPUTS, SHARDS, {}, 1, 1e9, batch=batch) for batch in (largest, 10**6))
    assert vast == enough
    assert estimate(INPUTS, SHARDS, {}, 1, 1e9, batch=1).memory_bytes < enough.memory_bytes


def test_disk_is_said_in_a_unit_that_people_read() -> None:
    plan = estimate(INPUTS, SHARDS, {}, 1, 1e9)
    assert "12.0 MB on disk" in str(replace(plan, disk_bytes=12_000_000))
    assert "11.1 GB on disk" in str(replace(plan, disk_bytes=11_098_000_000))
