"""Whether a process is still there."""

from __future__ import annotations

from pathlib import Path


def alive(process: int) -> bool:
    """Whether a process is there and is more than a name in the table of processes (a zombie of a vanished parent)."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
