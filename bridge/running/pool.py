"""A few worker processes that outlive their jobs, lose none of the good ones, and stop at once when asked.

Every worker is spawned afresh with one thread for every library, also where there is only one worker: a result
therefore has the same bits whatever the number of workers. A worker that dies (out of memory, a crash in native code)
costs the job it had, which is reported, and is replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from bridge.running.resident import forget_peak, peak_rss_bytes

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Job:
    """A function to be called in a worker.

    Attributes:
        key: identifies the job in its reply.
        target: "module:function", imported by the worker.
        arguments: keyword arguments, picklable.
    """

    key: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a job.

    Attributes:
        type: class name of the exception, or "WorkerDied".
        message: its text.
        code: its `code`, where the exception has one (audio, stress and checkpoint errors have).
        detail: its `detail`, where it has one.
        trace: the traceback, for the log.
    """

    type: str
    message: str
    code: str | None = None
    detail: str | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished job: its value, or its failure.

    Attributes:
        key: of the job.
        value: what the function returned; None if it failed.
        failure: None if it returned.
        peak_rss_bytes: largest resident memory of the worker while it was at work on it (since it began, off Linux).
    """

    key: str
    value: Any = None
    failure: Failure | None = None
    peak_rss_bytes: int = 0


class WorkerPool:
    """Worker processes to run jobs in; a context manager that leaves no process behind.

    Args:
        workers: number of processes, at least 1.
        environment: variables set in the workers beside the thread counts.

    Raises:
        ValueError: if `workers` is less than 1.
    """

    def __init__(self, workers: int, environment: Mapping[str, str] | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1; got {workers}")
        self.workers = workers
        self._environment = {**dict.fromkeys(_THREAD_VARIABLES, "1"), **(environment or {})}
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, Job] = {}
        self.peak_rss_bytes: dict[int, int] = {}
        """Largest resident memory of each worker so far, by process id."""

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, jobs: Iterable[Job]) -> Iterator[Reply]:
        """Runs jobs in the order given, on as many workers as there are, and yields replies as they come.

        Stopping the iteration early leaves the jobs at work running; `stop` ends them.
        """
        waiting = deque(jobs)
        while waiting or self._busy:
            while waiting and len(self._busy) < self.workers:
                worker = self._idle.pop() if self._idle else _Worker(self._environment)
                job = waiting.popleft()
                self._busy[worker] = job
                worker.send(job)
            ready = connection.wait([worker.connection for worker in self._busy])
            for worker in [worker for worker in self._busy if worker.connection in ready]:
                yield self._collect(worker)

    def stop(self) -> None:
        """Ends every worker; jobs at work are lost, and their temporary files are left for the store to sweep."""
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()

    def _collect(self, worker: _Worker) -> Reply:
        job = self._busy.pop(worker)
        try:
            reply: Reply = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(_GRACE_S)
            code = worker.process.exitcode
            worker.connection.close()
            message = f"the worker process ended while it was at work (exit status {code})"
            if code == -getattr(signal, "SIGKILL", 9):
                message += ": killed from outside, as a system does that has run out of memory; try --workers 1"
            return Reply(job.key, failure=Failure("WorkerDied", message, code="worker_died"))
        pid = worker.process.pid or 0
        self.peak_rss_bytes[pid] = max(self.peak_rss_bytes.get(pid, 0), reply.peak_rss_bytes)
        self._idle.append(worker)
        return reply


class _Worker:
    def __init__(self, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _set_environment(environment), _ignored_interrupt():
            self.process.start()
        theirs.close()

    def send(self, job: Job) -> None:
        # A worker that died while idle is noticed when its reply is collected.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(job)


def _serve(pipe: connection.Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        reply = _call(job)
        try:
            pipe.send(reply)
        except (BrokenPipeError, OSError):
            return


def _end_with_parent() -> None:
    """Ends the worker when the run is killed: else it would go on for as long as its job takes, and write what the run
    that is started again is measuring too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(job: Job) -> Reply:
    forget_peak()
    try:
        module, _, name = job.target.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return Reply(job.key, value=function(**job.arguments), peak_rss_bytes=peak_rss_bytes())
    except Exception as error:  # a failed job is a result: the others go on
        code, detail = getattr(error, "code", None), getattr(error, "detail", None)
        failure = Failure(
            type=type(error).__name__,
            message=str(error),
            code=None if code is None else str(code),
            detail=None if detail is None else str(detail),
            trace=traceback.format_exc(),
        )
        return Reply(job.key, failure=failure, peak_rss_bytes=peak_rss_bytes())


def limit_threads() -> None:
    """One thread for the libraries this process has not imported yet, unless the user's environment says otherwise.

    What is left to do outside the workers is many small matrices, which a second thread only makes slower.
    """
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


@contextlib.contextmanager
def _set_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _ignored_interrupt() -> Iterator[None]:
    # Ctrl-C reaches the whole process group; workers inherit "ignore", so that only the parent answers it.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
