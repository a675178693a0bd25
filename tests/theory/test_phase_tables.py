"""A sweep's dataset gives every table it can, and no other."""

from __future__ import annotations

import pytest

from theory.phase.tables import certified_table, phase_tables
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec
from theory.sweeping.sweep import sweep


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            SweepSpec((0.5, 1.0, 2.0), (0.3, 0.8), (0.1,), (4, 8), (16,), 16, injections=("coherent",)),
            "certified resolved misjudged offsets product_onset context_onset rank_one verdicts",
        ),
        (
            SweepSpec((1.0,), (0.3, 0.8), (0.1,), (4, 8), (16, 64), 16, quantities=("early",)),
            "finite_early verdicts",
        ),
        (
            SweepSpec((1.0,), (0.8,), (0.1,), (4, 8), (16, 64), 16),
            "offsets finite_product verdicts",
        ),
        (
            ResidualSweepSpec((0.5, 2.0), (0.5,), (0.0,), (1,), (4, 8), (64,), seeds=16),
            "residual_phases residual_verdicts",
        ),
    ],
    ids=["map", "early", "product", "residual"],
)
def test_tables_are_those_the_dataset_allows(spec, expected):
    tables = phase_tables(sweep(spec))
    assert list(tables) == expected.split()
    assert all(len(table) for table in tables.values())


def test_certified_areas_fill_the_box_of_the_grid():
    data = sweep(SweepSpec((0.5, 1.0, 2.0), (0.3, 0.8), (0.1, 0.5), (4,), (16,), 8))
    table = certified_table(data)
    assert list(table["gap"]) == [0.1, 0.5]
    assert (table["certified_I"] + table["certified_II"] + table["coexistence"]).to_numpy() == pytest.approx(
        table["total"]
    )
