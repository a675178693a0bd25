"""Everything derived from the records of a run, computed once and shared by the ledger, the figures and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bridge.comparison import pooled as pooling
from bridge.comparison import tables as tabling
from bridge.comparison.compare import agreement, compare, sensitivity, tightness
from bridge.comparison.identity import Identity, identify
from bridge.comparison.statistics import MIN_CLUSTERS
from bridge.comparison.tables import RunTables, load_run


@dataclass(frozen=True, slots=True)
class Analysis:
    """A run and what follows from its records.

    Attributes:
        tables: the records.
        comparison: predicted and observed regime, one row a model x clip x condition x state.
        agreement: counts of predicted x observed.
        tightness: the certificate's interval against the measured norm.
        sensitivity: observed regimes with each threshold moved.
        pooled: pooled observables.
        quantities: one row a model x clip x condition x state with the compared numbers.
        paired: their changes from clean.
        wer: WER by model and condition.
        layer_medians: sigma, xi, xi_F, kappa, rho by layer.
        identities: what each model counts as.
    """

    tables: RunTables
    comparison: pd.DataFrame
    agreement: pd.DataFrame
    tightness: pd.DataFrame
    sensitivity: pd.DataFrame
    pooled: pooling.Pooled
    quantities: pd.DataFrame
    paired: pd.DataFrame
    wer: pd.DataFrame
    layer_medians: pd.DataFrame
    identities: dict[str, Identity]

    def headline_state(self, model: str) -> str:
        """The state that speaks for a model (O7): the exact sequence state where it was measured on enough clips for an
        interval, else the position state."""
        rows = self.comparison[self.comparison["model"] == model]
        counts = rows.groupby("state")["clip"].nunique()
        enough = counts.get("sequence", 0) >= MIN_CLUSTERS or "position" not in counts
        return "sequence" if enough else "position"

    def in_headline_state(self, rows: pd.DataFrame) -> pd.Series:
        """Which rows, of any table with model and state, are of the state that speaks for their model."""
        return rows["state"] == rows["model"].map({model: self.headline_state(model) for model in self.tables.models})


def analyse(run: RunTables | str | Path) -> Analysis:
    """Derives everything from a run's records; nothing is measured again.

    Args:
        run: the tables, or the run directory they are read from.
    """
    tables = run if isinstance(run, RunTables) else load_run(run)
    comparison = compare(tables.layers, tables.clips, tables.nulls)
    quantities = tabling.clip_quantities(tables.layers, comparison, tables.clips)
    return Analysis(
        tables=tables,
        comparison=comparison,
        agreement=agreement(comparison),
        tightness=tightness(comparison),
        sensitivity=sensitivity(tables.layers, tables.nulls),
        pooled=pooling.pool(tables.activations, seed=tables.seed),
        quantities=quantities,
        paired=tabling.paired_changes(quantities, seed=tables.seed),
        wer=tabling.wer_table(tables.clips, seed=tables.seed),
        layer_medians=tabling.layer_table(tables.layers, tables.nulls),
        identities={name: identify(tables, name) for name in tables.models},
    )
