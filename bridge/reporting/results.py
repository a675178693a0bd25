"""results.json: everything the report shows, as strict JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison import paper, tables
from bridge.comparison.achieved import achieved_values, stressed_samples
from bridge.comparison.analysis import Analysis
from bridge.comparison.records import RunTables
from bridge.comparison.regimes import THRESHOLDS
from bridge.ledger import claims
from bridge.reporting.headline import headline
from bridge.reporting.hypothesis_tables import sentences
from bridge.running.files import write_json

SCHEMA_VERSION = 1


def strict(value: Any) -> Any:
    """The value with only what strict JSON knows: NaN, infinities and missing values become None.

    Raises:
        TypeError: for a type that has no obvious JSON form.
    """
    if value is None or value is pd.NA or isinstance(value, str | bool):
        return value if value is not pd.NA else None
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): strict(one) for key, one in value.items()}
    if isinstance(value, pd.DataFrame):
        return [strict(row) for row in value.to_dict("records")]
    if isinstance(value, list | tuple):
        return [strict(one) for one in value]
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def ledger(run: RunTables | Analysis | str | Path) -> list[dict[str, Any]]:
    """The ledger of claims as strict JSON values."""
    return strict(claims(run))


def results(analysis: Analysis, found: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Everything derived from a run as one tree of strict JSON values.

    Args:
        analysis: what was derived.
        found: the ledger where it was already made.
    """
    run = analysis.tables
    ledger_lines = claims(analysis) if found is None else found
    return strict(
        {
            "schema_version": SCHEMA_VERSION,
            "measured": analysis.measured,
            "models": [_model(analysis, name) for name in run.models],
            "headline": headline(analysis, ledger_lines),
            "claims": ledger_lines,
            "regimes": analysis.comparison,
            "agreement": analysis.agreement,
            "certificate": analysis.tightness,
            "hypotheses": {
                "blocks": analysis.block_summary,
                "subspaces": analysis.subspace_summary,
                "subspaces_by_layer": analysis.subspace_layers,
                "split": analysis.split,
                "said": sentences(analysis),
            },
            "effort": analysis.effort,
            "sensitivity": analysis.sensitivity,
            "thresholds": {name: getattr(THRESHOLDS, name) for name in THRESHOLDS.__slots__},
            "tables": {
                "paper": [
                    {"component": row.component, "model": row.model, "d_n_eff_pct": row.n_eff_pct}
                    | {"d_log10_kf": row.log10_kf, "d_alpha": row.alpha, "source": row.source}
                    for row in paper.TABLES
                ],
                "changes": analysis.pooled.summary,
                "changes_by_layer": analysis.pooled.layers,
                "clip_tests": analysis.pooled.tests,
                "layers": analysis.layer_medians,
                "profile": analysis.profile,
                "paired": analysis.paired,
            },
            "stressed": {"samples": stressed_samples(run.clips), "achieved": achieved_values(run.clips)},
            "wer": analysis.wer,
            "labels": {name: value for name, value in run.rescored.items() if name != "changes"},
            "detectors": run.detectors,
            "hallucinated": tables.failures(run.clips, truncated=False),
            "failed_truncated": tables.failures(run.clips, truncated=True),
            "quarantine": {"count": len(run.quarantine), "by_code": quarantine_counts(run), "samples": run.quarantine},
            "failures": run.failures,
            "settings": run.settings,
            "provenance": run.provenance,
            "timings": run.timings,
        }
    )


def quarantine_counts(run: RunTables) -> dict[str, int]:
    """Quarantined samples by reason code, most frequent first."""
    codes = pd.Series([str(entry.get("code", "unknown")) for entry in run.quarantine], dtype=str)
    return {str(code): int(count) for code, count in codes.value_counts().items()}


def _model(analysis: Analysis, name: str) -> dict[str, Any]:
    rows = analysis.tables.layers[analysis.tables.layers["model"] == name]
    heard = analysis.tables.clips[analysis.tables.clips["model"] == name]
    d_model, depth = analysis.tables.dimensions(name)
    identity = analysis.identities[name]
    settings = analysis.tables.model_settings(name)
    return {
        "name": name,
        "d_model": d_model,
        "decoder_layers": depth,
        "sha256": settings.get("sha256"),
        "counts_as": identity.family,
        "why": identity.why,
        "heard": {"clips": int(heard["clip"].nunique()), "samples": len(heard)},
        "clips": {str(state): int(part["clip"].nunique()) for state, part in rows.groupby("state")},
        "dtype": sorted(set(rows["dtype"])),
    }


def write_results(path: Path, analysis: Analysis, found: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Writes results.json atomically and returns what it holds."""
    content = results(analysis, found)
    json.dumps(content, allow_nan=False)  # refuses what `strict` let through before a file exists
    write_json(path, content)
    return content
