"""The parts of a sweep in this process or in several: the same bits either way, every library on one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from theory.sweeping.parts import Part, compute_part
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec
from theory.sweeping.store import SweepStore

__all__ = ["computed_parts"]

Done = tuple[Part, dict[str, NDArray[Any]], float]

_POLL_S = 0.25


def computed_parts(
    spec: SweepSpec | ResidualSweepSpec, parts: Sequence[Part], directory: Path | None, workers: int
) -> Generator[Done, None, None]:
    """Computes parts and yields each with its variables and the seconds it took, in any order.

    A part is in the directory, if there is one, before it is yielded. Worker processes are spawned: a script that asks
    for more than one must guard its main part, as `multiprocessing` says.

    Raises:
        RuntimeError: if a worker dies (out of memory, a crash in native code).
        Whatever a part raises, here or in a worker.
    """
    if min(workers, len(parts)) < 2:
        store = SweepStore(directory, spec) if directory is not None else None
        with threadpool_limits(1):
            for part in parts:
                yield _timed(spec, part, store)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(parts)), context, _settle, (spec, directory, stop))
    waiting: set[Future[Done]] = set()
    try:
        queue = iter(parts)
        for part in queue:
            waiting.add(pool.submit(_work, part))
            if len(waiting) < 2 * workers:
                continue
            yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
    except BrokenProcessPool as error:
        raise RuntimeError("a worker of the sweep died, out of memory perhaps; the parts that are done stay") from error
    finally:
        # Set in every case: after an interruption the workers stop at once, in the midst of their parts.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(waiting: set[Future[Done]]) -> Iterator[Done]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        waiting.remove(future)
        yield future.result()


def _timed(spec: SweepSpec | ResidualSweepSpec, part: Part, store: SweepStore | None) -> Done:
    begin = time.perf_counter()
    values = compute_part(spec, part)
    seconds = time.perf_counter() - begin
    if store is not None:
        store.write(part, values)
    return part, values, seconds


_state: dict[str, Any] = {}


def _settle(spec: SweepSpec | ResidualSweepSpec, directory: Path | None, stop: Any) -> None:
    """Prepares a worker, which ends with its parent, however that ended, or when told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _state.update(spec=spec, store=SweepStore(directory, spec) if directory is not None else None)
    _state["threads"] = threadpool_limits(1)  # for as long as the process lives
    parent = multiprocessing.parent_process()

    def watch() -> None:
        while not stop.wait(_POLL_S):
            if parent is not None and not parent.is_alive():
                break
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(part: Part) -> Done:
    return _timed(_state["spec"], part, _state["store"])
