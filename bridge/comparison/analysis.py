"""Everything derived from the records of a run, computed once and shared by the ledger, the figures and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bridge.comparison import pooled as pooling
from bridge.comparison import tables as tabling
from bridge.comparison.blocks import certify_measured_blocks, summarise_blocks
from bridge.comparison.compare import agreement, compare, sensitivity, tightness
from bridge.comparison.identity import Identity, identify
from bridge.comparison.profiles import context_split, depth_profile, effort
from bridge.comparison.records import RunTables, load_run
from bridge.comparison.statistics import MIN_CLUSTERS
from bridge.comparison.subspaces import subspaces_by_layer, summarise_subspaces


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
        profile: what the layers inject and what of it reaches the output.
        effort: convergence, memory and time by model and state.
        block_summary: the certificates of blocks of m layers, and whether the theorem's hypotheses were met (T17); None
            where no blocks were measured, as in old runs.
        split: J_L along u_L and across it; None likewise.
        subspace_layers, subspace_summary: leading subspaces beside chance (T25), by layer and over all; None likewise.
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
    profile: pd.DataFrame
    effort: pd.DataFrame
    block_summary: pd.DataFrame | None
    split: pd.DataFrame | None
    subspace_layers: pd.DataFrame | None
    subspace_summary: pd.DataFrame | None
    identities: dict[str, Identity]

    @property
    def measured(self) -> bool:
        """Whether any Jacobian was measured; without one the tables of regimes and layers have no rows."""
        return self.tables.measured

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


def analyse(run: RunTables | str | Path, *, progress: pooling.Progress | None = None) -> Analysis:
    """Derives everything from a run's records; nothing is measured again.

    A run that only listened has no layers: its regimes, layers and quantities are tables without rows.

    Args:
        run: the tables, or the run directory they are read from.
        progress: told how many groups of activations are pooled, which takes longest where clips are thousands.

    Raises:
        FileNotFoundError: if a record is missing.
        ValueError: if only states of the encoder were measured, whose regimes are not compared.
    """
    tables = run if isinstance(run, RunTables) else load_run(run)
    if tables.measured and tables.decoder_layers.empty:
        states = ", ".join(sorted(set(tables.layers["state"])))
        raise ValueError(f"states must hold one of the decoder, position or sequence, to be compared; got {states}")
    layers, blocks, subspaces = tables.decoder_layers, tables.blocks, tables.subspaces
    comparison = compare(layers, tables.clips, tables.nulls)
    quantities = tabling.clip_quantities(layers, comparison, tables.clips)
    return Analysis(
        tables=tables,
        comparison=comparison,
        agreement=agreement(comparison),
        tightness=tightness(comparison),
        sensitivity=sensitivity(layers, tables.nulls),
        pooled=pooling.pool(tables.held_vectors, tables.clips, seed=tables.seed, progress=progress),
        quantities=quantities,
        paired=tabling.paired_changes(quantities, seed=tables.seed),
        wer=tabling.wer_table(tables.clips, seed=tables.seed),
        layer_medians=tabling.layer_table(tables.layers, tables.nulls) if tables.measured else pd.DataFrame(),
        profile=depth_profile(tables.layers),
        effort=effort(tables.layers),
        block_summary=None if blocks is None else summarise_blocks(certify_measured_blocks(blocks)),
        split=None if blocks is None else context_split(blocks, layers),
        subspace_layers=None if subspaces is None else subspaces_by_layer(subspaces),
        subspace_summary=None if subspaces is None else summarise_subspaces(subspaces),
        identities={name: identify(tables, name) for name in tables.models},
    )
