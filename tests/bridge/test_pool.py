"""The worker pool: no job is lost, none is done twice, and a worker that dies costs its own job only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.running.pool import Job, WorkerPool
from tests.helpers.processes import alive

JOBS = "tests.bridge.pool_jobs"


def test_every_job_is_answered_once_whatever_the_number_of_workers() -> None:
    for workers in (1, 2):
        with WorkerPool(workers) as pool:
            replies = list(pool.run(Job(str(n), f"{JOBS}:double", {"number": n}) for n in range(7)))
        assert sorted((reply.key, reply.value) for reply in replies) == [(str(n), 2 * n) for n in range(7)]


def test_workers_outlive_their_jobs_and_are_as_many_as_asked_for() -> None:
    with WorkerPool(2) as pool:
        first = {r.value for r in pool.run(Job(str(n), f"{JOBS}:process", {"pause_s": 0.2}) for n in range(4))}
        second = {r.value for r in pool.run(Job(str(n), f"{JOBS}:process", {"pause_s": 0.2}) for n in range(4))}
    assert len(first) == 2
    assert first == second
    assert os.getpid() not in first


def test_one_worker_is_a_process_of_its_own_with_one_thread() -> None:
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE"]
    before = {name: os.environ.get(name) for name in names}
    with WorkerPool(1, {"HF_HUB_OFFLINE": "1"}) as pool:
        (reply,) = pool.run([Job("a", f"{JOBS}:environment", {"names": names})])
    assert reply.value == dict.fromkeys(names, "1")
    assert {name: os.environ.get(name) for name in names} == before


def test_a_failure_keeps_its_type_code_and_detail() -> None:
    with WorkerPool(1) as pool:
        bad, good = pool.run([Job("bad", f"{JOBS}:fail"), Job("good", f"{JOBS}:double", {"number": 1})])
    assert bad.failure is not None
    assert (bad.failure.type, bad.failure.code, bad.failure.detail) == ("CodedError", "silent", "no variation")
    assert bad.failure.message == "nothing is heard"
    assert "pool_jobs.py" in bad.failure.trace
    assert good.value == 2 and good.failure is None and good.peak_rss_bytes > 1_000_000


def test_a_worker_that_dies_costs_its_own_job_only() -> None:
    jobs = [Job("0", f"{JOBS}:double", {"number": 0}), Job("die", f"{JOBS}:die")]
    jobs += [Job(str(n), f"{JOBS}:double", {"number": n}) for n in range(1, 4)]
    with WorkerPool(1) as pool:
        replies = {reply.key: reply for reply in pool.run(jobs)}
    assert replies.keys() == {"0", "die", "1", "2", "3"}
    assert replies["die"].failure is not None and replies["die"].failure.code == "worker_died"
    assert [replies[str(n)].value for n in range(4)] == [0, 2, 4, 6]


def test_ctrl_c_is_answered_by_the_parent_alone() -> None:
    with WorkerPool(1) as pool:
        (reply,) = pool.run([Job("a", f"{JOBS}:interrupt_self")])
    assert reply.value == "still here"


def test_stop_ends_jobs_at_work_and_leaves_no_process() -> None:
    pool = WorkerPool(2)
    (pid,) = {reply.value for reply in pool.run([Job("a", f"{JOBS}:process")])}
    running = pool.run([Job("long", f"{JOBS}:process", {"pause_s": 60}), Job("b", f"{JOBS}:process")])
    other = next(running).value
    start = time.perf_counter()
    pool.stop()
    assert time.perf_counter() - start < 10
    for gone in (pid, other):
        with pytest.raises(ProcessLookupError):
            os.kill(gone, 0)


def test_workers_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        WorkerPool(0)


def test_a_worker_at_work_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    noted = tmp_path / "worker"
    job = f'Job("a", "tests.bridge.pool_jobs:note_process", {{"path": {str(noted)!r}, "pause_s": 600.0}})'
    program.write_text(
        "from bridge.running.pool import Job, WorkerPool\n"
        f"if __name__ == '__main__':\n    list(WorkerPool(1).run([{job}]))\n",
        encoding="utf-8",
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, str(program)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        assert _becomes(lambda: noted.exists() or process.poll() is not None)
        worker = int(noted.read_text(encoding="utf-8"))
    finally:
        process.kill()
        process.wait()
    assert _becomes(lambda: not alive(worker))


def _becomes(true: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 60.0
    while not true() and time.monotonic() < limit:
        time.sleep(0.005)
    return true()
