"""Predicted against observed: the run, its records, the comparison, the ledger of claims, the report, `spi`.

What a command does, one function call does. The functions are imported when they are first asked for, so that
`import bridge` and the command line start without pandas, JAX or torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.claims import claims
    from bridge.compare import compare
    from bridge.config import RunConfig, make_config
    from bridge.errors import ExitCode, SpiError
    from bridge.pipeline import RunSummary, run
    from bridge.report import write_report

__all__ = [
    "ExitCode",
    "RunConfig",
    "RunSummary",
    "SpiError",
    "claims",
    "compare",
    "make_config",
    "run",
    "write_report",
]

_HOMES = {
    "ExitCode": "bridge.errors",
    "RunConfig": "bridge.config",
    "RunSummary": "bridge.pipeline",
    "SpiError": "bridge.errors",
    "claims": "bridge.claims",
    "compare": "bridge.compare",
    "make_config": "bridge.config",
    "run": "bridge.pipeline",
    "write_report": "bridge.report",
}


class _Face(ModuleType):
    """Keeps `bridge.compare` and `bridge.claims` the functions, though modules of these names are imported."""

    def __getattribute__(self, name: str) -> Any:
        homes = super().__getattribute__("__dict__").get("_HOMES", {})
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Face
