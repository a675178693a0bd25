"""Jobs for the tests of the worker pool: importable by a spawned worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


class CodedError(ValueError):
    """An error with a code and a detail, as the audio gate raises."""

    code = "silent"
    detail = "no variation"


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def process(pause_s: float = 0.0) -> int:
    """Id of the worker."""
    time.sleep(pause_s)
    return os.getpid()


def note_process(path: str, pause_s: float) -> None:
    """Writes the worker's id, and is then at work for a while."""
    Path(f"{path}.partial").write_text(str(os.getpid()), encoding="utf-8")
    Path(f"{path}.partial").rename(path)
    time.sleep(pause_s)


def environment(names: list[str]) -> dict[str, str | None]:
    """Environment variables of the worker."""
    return {name: os.environ.get(name) for name in names}


def fail() -> None:
    """Raises an error that has a code."""
    raise CodedError("nothing is heard")


def die() -> None:
    """Ends the worker as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_self() -> str:
    """What Ctrl-C on the terminal does to every process of the group."""
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"
