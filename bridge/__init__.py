"""Predicted against observed: the run, its records, the comparison, the ledger of claims, the report, `spi`.

What a command does, one function call does. The functions are imported when they are first asked for, so that
`import bridge` and the command line start without pandas, JAX or torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.comparison.blocks import certify_measured_blocks
    from bridge.comparison.compare import compare, parameters
    from bridge.comparison.labelling import agreement_of_labels, composition, label_clips
    from bridge.errors import ExitCode, SpiError
    from bridge.ledger import claims
    from bridge.reporting.report import write_report
    from bridge.running.config import RunConfig, make_config
    from bridge.running.pipeline import RunSummary, run
    from bridge.running.rescoring import rescore

__all__ = [
    "ExitCode",
    "RunConfig",
    "RunSummary",
    "SpiError",
    "agreement_of_labels",
    "certify_measured_blocks",
    "claims",
    "compare",
    "composition",
    "label_clips",
    "make_config",
    "parameters",
    "rescore",
    "run",
    "write_report",
]

_HOMES = {
    "ExitCode": "bridge.errors",
    "RunConfig": "bridge.running.config",
    "RunSummary": "bridge.running.pipeline",
    "SpiError": "bridge.errors",
    "agreement_of_labels": "bridge.comparison.labelling",
    "certify_measured_blocks": "bridge.comparison.blocks",
    "claims": "bridge.ledger",
    "compare": "bridge.comparison.compare",
    "composition": "bridge.comparison.labelling",
    "label_clips": "bridge.comparison.labelling",
    "make_config": "bridge.running.config",
    "parameters": "bridge.comparison.compare",
    "rescore": "bridge.running.rescoring",
    "run": "bridge.running.pipeline",
    "write_report": "bridge.reporting.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
