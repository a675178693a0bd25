"""What this machine can run, and why not (`spi doctor`)."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from typing import Any

from bridge.running import provenance

HUB = ("huggingface.co", 443)
_HUB_TIMEOUT_S = 3.0


def examine(*, reach_hub: Callable[[], None] | None = None) -> dict[str, Any]:
    """Looks at everything a run may need; nothing that is missing is an error here.

    Args:
        reach_hub: raises OSError where the model hub cannot be reached; None means a TCP connection to it.

    Returns:
        versions, machine, threads, blas, and `checks`: name -> {"ok": bool, "detail": why, or why not}.
    """
    checks = {
        "torch": _check(_torch),
        "jax": _check(_jax),
        "cuda": _check(_cuda),
        "mps": _check(_mps),
        "organisms": _check(_organisms),
        "clips": _check(_clips),
        "espeak-ng": _check(_espeak),
        "hub": _check(lambda: _hub(reach_hub or _connect)),
    }
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME", "XLA_FLAGS")
    return {
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "available_memory_bytes": _available_memory(),
        "environment": {name: os.environ[name] for name in variables if name in os.environ},
        "blas": provenance.blas(),
        "checks": checks,
    }


def render(found: dict[str, Any]) -> str:
    """The examination as lines of text."""
    machine = found["machine"]
    lines = [
        f"{machine['system']}, {machine['architecture']}, {machine['processor']}, {machine['cores']} usable cores",
        f"memory {_gigabytes(machine['memory_bytes'])}, available {_gigabytes(found['available_memory_bytes'])}",
        "versions: " + ", ".join(f"{name} {version or 'missing'}" for name, version in found["versions"].items()),
    ]
    lines += [
        f"{entry['api']}: {entry['implementation']} {entry['version'] or ''} kernel {entry['kernel'] or '-'}, "
        f"{entry['threads']} threads"
        for entry in found["blas"]
    ]
    if found["environment"]:
        lines.append("environment: " + ", ".join(f"{name}={value}" for name, value in found["environment"].items()))
    width = max(len(name) for name in found["checks"])
    lines += [
        f"{'yes' if check['ok'] else 'no ':<3} {name:<{width}}  {check['detail']}"
        for name, check in found["checks"].items()
    ]
    return "\n".join(lines)


class _Missing(Exception):
    """Why something is not there."""


def _check(look: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"ok": True, "detail": look()}
    except _Missing as reason:
        return {"ok": False, "detail": str(reason)}
    except Exception as error:  # a broken installation may raise anything on import, and that is the finding
        return {"ok": False, "detail": " ".join(f"{type(error).__name__}: {error}".split())[:300]}


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads here, one in each worker of a run"


def _jax() -> str:
    import jax

    return ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices())


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        build = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no usable CUDA device"
        raise _Missing(f"{build}; runs use the CPU")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names)}; runs use the first one, with one worker, unless --device cpu is given"


def _mps() -> str:
    import torch

    if not torch.backends.mps.is_available():
        raise _Missing("no Apple GPU that torch can use; runs use the CPU")
    return "available, but without float64, so runs use the CPU all the same"


def _organisms() -> str:
    from empirical.organism import list_organisms

    names = [organism.name for organism in list_organisms()]
    if not names:
        raise _Missing("no bundled organism is installed; make one with `spi organism train`")
    return ", ".join(names)


def _clips() -> str:
    from empirical.speech.clips import ClipError, bundled_clips

    try:
        count = len(bundled_clips())
    except ClipError as error:
        raise _Missing(str(error)) from error
    return f"{count} bundled clips"


def _espeak() -> str:
    path = shutil.which("espeak-ng")
    if path is None:
        raise _Missing("not on the PATH; only `spi organism train` needs it")
    return path


def _hub(connect: Callable[[], None]) -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        raise _Missing("HF_HUB_OFFLINE is set; models must be directories or in the cache")
    try:
        connect()
    except OSError as error:
        raise _Missing(f"{HUB[0]} cannot be reached ({error}); models must be directories or in the cache") from error
    return f"{HUB[0]} answers"


def _connect() -> None:
    socket.create_connection(HUB, timeout=_HUB_TIMEOUT_S).close()


def _available_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
