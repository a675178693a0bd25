"""Gaps and alignments beside their nulls: the numbers, what old records lack, and what the report says of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import regimes
from bridge.comparison.beside import NULL_KINDS, random_directions
from bridge.comparison.tables import layer_table
from bridge.reporting import figures, layer_tables
from bridge.reporting.results import strict
from bridge.reporting.wording import NOTHING
from empirical.nulls import KINDS
from observables import RandomAlignment
from tests.helpers.records import null_rows, run_tables


@pytest.fixture(scope="module")
def run() -> dict[str, pd.DataFrame]:
    return run_tables({"organism-a": "dispersive growth"}, clips=4)


def with_vectors(nulls: pd.DataFrame) -> pd.DataFrame:
    """The records with the kind that older ones lack."""
    rng = np.random.default_rng(3)
    new = nulls[nulls["null"] == "random_weights"].assign(null="random_singular_vectors")
    return pd.concat([nulls, new.assign(gap=rng.uniform(0.5, 0.9, len(new)))], ignore_index=True)


def test_every_kind_that_is_measured_is_shown():
    assert set(NULL_KINDS) == set(KINDS)
    assert [name for name, _, _ in figures.depth.NULL_LOOKS] == list(KINDS)


def test_quantiles_are_those_of_the_records_by_kind_and_layer(run: dict[str, pd.DataFrame]):
    nulls = with_vectors(run["nulls"])
    table = layer_table(run["layers"], nulls)
    assert len(table) == run["layers"].groupby(["model", "state", "condition", "layer"]).ngroups
    for row in table[table["state"] == "position"].to_dict("records"):
        for kind in NULL_KINDS:
            drawn = nulls[(nulls["null"] == kind) & (nulls["layer"] == row["layer"])]
            assert row[f"gap_{kind}_low"] == pytest.approx(np.quantile(drawn["gap"], 0.025))
            assert row[f"gap_{kind}_high"] == pytest.approx(np.quantile(drawn["gap"], 0.975))
            if row["layer"] > 1:
                assert row[f"alignment_{kind}_q95"] == pytest.approx(np.quantile(drawn["alignment"], 0.95))
    # The null models were measured in the position state alone.
    assert table.loc[table["state"] == "sequence", "gap_random_weights_low"].isna().all()


def test_random_directions_have_the_law_of_the_state_dimension_T22(run: dict[str, pd.DataFrame]):
    layers = run["layers"]
    width = int(layers["d_model"].iloc[0])
    table = random_directions(layers)
    for state, dimension in (("position", width), ("sequence", width * int(layers["n_tokens"].iloc[0]))):
        law, part = RandomAlignment(dimension), table[(table["state"] == state) & (table["layer"] > 1)]
        assert (part["alignment_directions_mean"] == law.mean).all()
        assert (part["alignment_directions_rms"] == law.rms).all()
        assert (part["alignment_directions_q95"] == law.quantile(0.95)).all()
    assert table.loc[table["layer"] == 1, "alignment_directions_mean"].isna().all()


def test_what_an_alignment_is_above_is_said_null_by_null(run: dict[str, pd.DataFrame]):
    nulls = with_vectors(run["nulls"])
    nulls.loc[nulls["null"] == "random_weights", "alignment"] = 0.3
    nulls.loc[nulls["null"] == "random_singular_vectors", "alignment"] = 0.5
    nulls.loc[nulls["null"] == "shuffled_layers", "alignment"] = 0.7
    layers = run["layers"].assign(d_model=10_000)
    for value, above in (
        (0.01, []),
        (0.2, ["directions"]),
        (0.4, ["weights", "directions"]),
        (0.6, ["weights", "singular vectors", "directions"]),
        (0.9, ["weights", "singular vectors", "order", "directions"]),
    ):
        table = layer_table(layers.assign(alignment=layers["alignment"].where(layers["layer"] < 2, value)), nulls)
        table = table[table["state"] == "position"]
        assert all(one == above for one in table.loc[table["layer"] > 1, "alignment_above"])
        assert all(one is None for one in table.loc[table["layer"] == 1, "alignment_above"])


@pytest.mark.parametrize("known", [None, (), ("random_weights",), ("random_weights", "shuffled_layers")])
def test_records_without_some_kinds_stay_readable(run: dict[str, pd.DataFrame], known: tuple[str, ...] | None):
    nulls = None if known is None else run["nulls"][run["nulls"]["null"].isin(known)]
    table = layer_table(run["layers"], nulls)
    json.dumps(strict(table), allow_nan=False)
    for kind in NULL_KINDS:
        measured = known is not None and kind in known
        position = table[(table["state"] == "position") & (table["layer"] > 1)]
        assert position[f"alignment_{kind}_q95"].notna().all() == measured
    assert table["alignment_null95"].equals(table["alignment_random_weights_q95"])
    shown = layer_tables.layer_nulls(SimpleNamespace(layer_medians=table))  # type: ignore[arg-type]
    assert len(shown.rows) == len(table) and all(len(row) == len(shown.headers) for row in shown.rows)
    column = shown.headers.index("κ, null of order")
    orders = {row[column] for row in shown.rows if row[3] != "1" and row[1] == "position"}
    assert (orders == {NOTHING}) == (known is None or "shuffled_layers" not in known)


def test_kinds_that_came_later_do_not_move_the_collapse_threshold_O7():
    old = null_rows(0.5, draws=20)
    new = old[old["null"] == "random_weights"].assign(null="random_singular_vectors", context_share=0.99)
    both = pd.concat([old, new], ignore_index=True)
    before, after = (regimes.null_share(one, model="toy", state="position") for one in (old, both))
    assert before is not None and before == after
    assert regimes.null_share(new, model="toy", state="position") is None
