"""The ledger: the paper's claims C1-C15, each with its test, effect, interval, n and verdict."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.records import RunTables
from bridge.ledger import activation_claims, measured_claims, theory_claims
from bridge.ledger.confidence_claim import confidence
from bridge.ledger.settling import Reading, Test, settle

__all__ = ["Reading", "Test", "claims"]

OF_JACOBIANS = ("C12", "C13", "C14")
"""Claims that speak of propagators or context Jacobians."""
NO_JACOBIANS = (
    "It speaks of propagators and context Jacobians, and this run measured none: it only listened (--states none). "
    "spi run with --states position, and for a few clips sequence, measures them."
)


def claims(run: RunTables | Analysis | str | Path) -> list[dict[str, Any]]:
    """The ledger of a run.

    C1-C5 speak of networks in general and are tested on synthetic chains, the same in every run; C6-C15 speak of
    trained Whisper models and get a verdict only from models that count as such (`comparison.identity`). What others
    say stands beside, under `organisms`.

    Args:
        run: tables, their analysis, or a run directory.

    Returns:
        One mapping each, C1..C15: id, title, statement, source, verdict, scope, effect, interval, n, least_effect,
        direction, test, command, why, organisms.
    """
    analysis = run if isinstance(run, Analysis) else analyse(run)
    command = measured_command(analysis.tables)
    tests = [
        activation_claims.rank_loss(analysis),
        activation_claims.compression(analysis),
        activation_claims.disintegration(analysis),
        activation_claims.clusters(analysis),
        activation_claims.tail(analysis),
        confidence(analysis),
        measured_claims.alignment(analysis),
        measured_claims.jacobian(analysis),
        measured_claims.proxies(analysis),
        measured_claims.onset(analysis),
    ]
    simulated = theory_claims.lines()
    beside = [one.as_dict() for one in measured_claims.training_alignment(analysis)]
    simulated[-1] = simulated[-1] | {"organisms": beside}
    return [*simulated, *(settle(_told(test, analysis), command) for test in tests)]


def _told(test: Test, analysis: Analysis) -> Test:
    """The test, saying why nothing decides it where it reads Jacobians and none was measured."""
    if analysis.measured or test.id not in OF_JACOBIANS:
        return test
    return replace(test, readings=(), untested=NO_JACOBIANS)


def measured_command(run: RunTables) -> str:
    """The command that measured this run, from its provenance, and the one that reads the ledger from it."""
    sessions = run.provenance.get("provenance", {}).get("sessions", [])
    last = sessions[-1].get("command", []) if sessions else []
    directory = shlex.quote(str(run.directory))
    made = shlex.join(last) if last else f"spi run --out {directory}"
    return f"{made} && spi claims --json {directory}"
