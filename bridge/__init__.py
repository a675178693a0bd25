"""Predicted against observed: the run, its records, the comparison, the ledger of claims, the report, `spi`.

What a command does, one function call does. The functions are imported when they are first asked for, so that
`import bridge` and the command line start without pandas, JAX or torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.comparison.compare import compare, parameters
    from bridge.errors import ExitCode, SpiError
    from bridge.ledger import claims
    from bridge.reporting.report import write_report
    from bridge.running.config import RunConfig, make_config
    from bridge.running.pipeline import RunSummary, run

__all__ = [
    "ExitCode",
    "RunConfig",
    "RunSummary",
    "SpiError",
    "claims",
    "compare",
    "make_config",
    "parameters",
    "run",
    "write_report",
]

_HOMES = {
    "ExitCode": "bridge.errors",
    "RunConfig": "bridge.running.config",
    "RunSummary": "bridge.running.pipeline",
    "SpiError": "bridge.errors",
    "claims": "bridge.ledger",
    "compare": "bridge.comparison.compare",
    "make_config": "bridge.running.config",
    "parameters": "bridge.comparison.compare",
    "run": "bridge.running.pipeline",
    "write_report": "bridge.reporting.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
