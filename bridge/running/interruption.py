"""Ctrl-C and SIGTERM during work in this process: neither is lost, and both end it alike."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SWALLOWING = "_xla_gc_callback"
"""JAX's hook on garbage collection, a Python function. What is raised in it is printed and forgotten."""


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Yields:
        To be called between steps: raises for a signal whose KeyboardInterrupt was swallowed, which happens in hooks
        and finalisers that run wherever Python collects garbage; while JAX traces, often.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if frame is None or frame.f_code.co_name != _SWALLOWING:
            raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    # A SIGINT that is ignored, as of a job in the background of a script, stays ignored.
    replaced = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        yield check
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)
