"""The ledger: the paper's claims C1-C15, each with its test, effect, interval, n and verdict."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.tables import RunTables
from bridge.ledger import activation_claims, measured_claims, theory_claims
from bridge.ledger.settling import Reading, Test, settle

__all__ = ["Reading", "Test", "claims"]


def claims(run: RunTables | Analysis | str | Path) -> list[dict[str, Any]]:
    """The ledger of a run.

    C1-C4 are mathematics and are tested on synthetic chains; C5-C15 speak of trained Whisper models and get a verdict
    only from models that count as such (`comparison.identity`). What others say stands beside, under `organisms`.

    Args:
        run: tables, their analysis, or a run directory.

    Returns:
        One mapping each, C1..C15: id, title, statement, source, verdict, effect, interval, n, least_effect, direction,
        test, command, why, organisms.
    """
    analysis = run if isinstance(run, Analysis) else analyse(run)
    command = measured_command(analysis.tables)
    tests = [
        measured_claims.training_alignment(analysis),
        activation_claims.rank_loss(analysis),
        activation_claims.compression(analysis),
        activation_claims.disintegration(analysis),
        activation_claims.clusters(analysis),
        activation_claims.tail(analysis),
        measured_claims.confidence(analysis),
        measured_claims.alignment(analysis),
        measured_claims.jacobian(analysis),
        measured_claims.proxies(analysis),
        measured_claims.onset(analysis),
    ]
    return [*theory_claims.lines(analysis), *(settle(test, command) for test in tests)]


def measured_command(run: RunTables) -> str:
    """The command that measured this run, from its provenance, and the one that reads the ledger from it."""
    sessions = run.provenance.get("provenance", {}).get("sessions", [])
    last = sessions[-1].get("command", []) if sessions else []
    directory = shlex.quote(str(run.directory))
    made = shlex.join(last) if last else f"spi run --out {directory}"
    return f"{made} && spi claims --json {directory}"
