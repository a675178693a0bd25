"""How much memory a process has had resident at most, since it started or since it was told to forget."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): resets the peak resident set size to what is resident now


def forget_peak() -> None:
    """Count from here on, where the system can (Linux): else one large model's peak is said of every task after it."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since `forget_peak`, in bytes; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if os.uname().sysname == "Darwin" else peak * 1024)
