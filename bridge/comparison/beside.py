"""Measured gaps and alignments beside their nulls: three kinds of null model, and random directions exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from observables import RandomAlignment

NULL_KINDS = {
    "random_weights": "weights",
    "random_singular_vectors": "singular vectors",
    "shuffled_layers": "order",
}
"""Kinds of null model, and in a word what each makes random; records may hold fewer."""

BAND = (0.025, 0.975)
"""Quantiles between which a null's gaps are given: a trained gap may lie to either side."""

LEVEL = 0.95
"""Quantile of a null's alignments that a trained one must exceed to be above it."""

_CELL = ["model", "state", "layer"]


def beside_nulls(table: pd.DataFrame, layers: pd.DataFrame, nulls: pd.DataFrame | None) -> pd.DataFrame:
    """Adds to a table by model, state, condition and layer what the nulls have there.

    Quantiles are over draws, clips and conditions of the null models' records. A layer's alignments on different
    clips share its weights: the median over clips is held against the law of a single pair, which is strict.

    Args:
        table: one row a model x state x condition x layer, with `alignment`.
        layers: the measured rows it was made of.
        nulls: rows of the null models, None if there are none; old records lack some kinds.

    Returns:
        The table with gap_KIND_low, gap_KIND_high and alignment_KIND_q95 of each of NULL_KINDS (NaN where it was not
        measured), alignment_directions_mean, _rms and _q95 of random directions in the state's dimension (T22; NaN at
        layer 1), alignment_positions_rms and _q95 of directions turned inside each position alone (T35; medians over
        clips, NaN at one position, where that is (T22), and in old records), alignment_positions_beyond and _n: on how
        many clips, of how many, the alignment has a chance below 0.05 under that law, and alignment_above: the nulls
        whose quantile the alignment exceeds, None where it has no value.
    """
    for law in (random_directions(layers), positions_kept(layers)):
        table = table.merge(law, on=["model", "state", "condition", "layer"], how="left")
    for kind in NULL_KINDS:
        rows = layers.iloc[:0] if nulls is None else nulls[nulls["null"] == kind]
        grouped = rows.groupby(_CELL)
        band = pd.DataFrame(
            {
                f"gap_{kind}_low": grouped["gap"].quantile(BAND[0]),
                f"gap_{kind}_high": grouped["gap"].quantile(BAND[1]),
                f"alignment_{kind}_q95": grouped["alignment"].quantile(LEVEL),
            },
            dtype=np.float64,
        )
        table = (
            table.merge(band.reset_index(), on=_CELL, how="left")
            if len(band)
            else table.assign(**dict.fromkeys(band.columns, np.nan))
        )
    limits = {word: table[f"alignment_{kind}_q95"] for kind, word in NULL_KINDS.items()}
    limits["directions"] = table["alignment_directions_q95"]
    limits["positions"] = table["alignment_positions_q95"]
    return table.assign(alignment_above=_above(table["alignment"], limits))


def state_dimension(layers: pd.DataFrame) -> pd.Series:
    """Dimension of each row's state: d at one position, T d for a sequence of T, S d for all S frames."""
    count = layers["n_tokens"].where(layers["state"] == "sequence", 1)
    if "positions" in layers:  # old records have none, and no states of the encoder
        count = layers["positions"].where(layers["positions"].notna(), count)
    return layers["d_model"].astype(int) * count.astype(int)


def random_directions(layers: pd.DataFrame) -> pd.DataFrame:
    """What alignments are where sigma, gap and dimension of every layer are kept and u, v drawn at random (T22).

    Args:
        layers: measured rows, old ones too: state, d_model and n_tokens are all that is read of them.

    Returns:
        model, state, condition, layer, and alignment_directions_mean, _rms and _q95: exact at one position; in the
        sequence state medians over clips, whose lengths differ. NaN at layer 1.
    """
    dimensions = state_dimension(layers)
    laws = {dimension: RandomAlignment(dimension) for dimension in map(int, dimensions.unique())}
    numbers = {
        "mean": {dimension: law.mean for dimension, law in laws.items()},
        "rms": {dimension: law.rms for dimension, law in laws.items()},
        "q95": {dimension: law.quantile(LEVEL) for dimension, law in laws.items()},
    }
    keys = ["model", "state", "condition", "layer"]
    columns = {f"alignment_directions_{name}": dimensions.map(value) for name, value in numbers.items()}
    medians = layers[keys].assign(**columns).groupby(keys, sort=False).median().reset_index()
    # The first layer has none before it to be aligned with.
    medians.loc[medians["layer"] < 2, list(columns)] = np.nan
    return medians


def positions_kept(layers: pd.DataFrame) -> pd.DataFrame:
    """What alignments are where each singular vector's energy by position is kept and its directions are not (T35).

    Args:
        layers: measured rows; old ones lack the law's columns.

    Returns:
        model, state, condition, layer, and alignment_positions_rms, _q95 (medians over clips), _beyond and _n (clips
        whose alignment the law gives a chance below 1 - LEVEL, and clips that have one); NaN and 0 where it says
        nothing new: at layer 1, and in states of one position.
    """
    keys = ["model", "state", "condition", "layer"]
    several = layers["state"].isin(("sequence", "frames"))
    blank = pd.Series(np.nan, index=layers.index)
    law = {name: layers.get(f"alignment_positional_{name}", blank) for name in ("rms", "q95", "chance")}
    found = {name: column.where(several).astype(float) for name, column in law.items()}
    grouped = (
        layers[keys]
        .assign(
            alignment_positions_rms=found["rms"],
            alignment_positions_q95=found["q95"],
            alignment_positions_beyond=(found["chance"] < 1 - LEVEL).astype(int),
            alignment_positions_n=found["chance"].notna().astype(int),
        )
        .groupby(keys, sort=False)
    )
    return grouped.agg(
        alignment_positions_rms=("alignment_positions_rms", "median"),
        alignment_positions_q95=("alignment_positions_q95", "median"),
        alignment_positions_beyond=("alignment_positions_beyond", "sum"),
        alignment_positions_n=("alignment_positions_n", "sum"),
    ).reset_index()


def _above(alignment: pd.Series, limits: dict[str, pd.Series]) -> pd.Series:
    found = [
        None if np.isnan(value) else [name for name, limit in limits.items() if value > limit.iloc[index]]
        for index, value in enumerate(alignment)
    ]
    return pd.Series(found, index=alignment.index, dtype=object)
