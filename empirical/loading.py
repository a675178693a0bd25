"""The next samples made by a thread while the model works on these."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_WAIT_S = 0.1


@contextlib.contextmanager
def prefetch(iterable: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Items of an iterable, in its order, up to `depth` of them made ahead by a thread of their own.

    A context manager, because the thread has to end with its user: on leaving it, after the last item, an exception or
    an interruption, the item in the making is finished and the iterable is closed by the thread that ran it. An
    exception of the iterable is raised by `next` where its item would have been. NumPy, torch and the decoders of audio
    let go of the interpreter's lock while they work, so a thread is enough and nothing is pickled.

    Args:
        iterable: run by the thread alone.
        depth: most items that wait; 0 makes each one when it is asked for, without a thread.

    Raises:
        ValueError: for a negative depth.
    """
    if depth < 0:
        raise ValueError(f"depth must be at least 0; got {depth}")
    if depth == 0:
        yield iter(iterable)
        return
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(item: tuple[bool, T | BaseException | None]) -> bool:
        """Whether anyone still wants it: a full queue is waited for only as long as its reader is there."""
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_WAIT_S)
                return True
        return False

    def work() -> None:
        source = iter(iterable)
        try:
            for item in source:
                if not put((True, item)):
                    break
            else:
                put((False, None))
        except BaseException as error:  # whatever it is, its place is where the items are read
            put((False, error))
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def items() -> Iterator[T]:
        while True:
            there, item = ready.get()
            if there:
                yield item  # type: ignore[misc]  # tagged: an item
            elif item is None:
                return
            else:
                raise item  # type: ignore[misc]  # tagged: the iterable's exception

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        left.set()
        thread.join()
