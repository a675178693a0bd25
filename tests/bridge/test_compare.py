"""Predictions beside observations: the join, the agreement rule and how vacuous the certificate is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import regimes
from bridge.comparison.compare import KEYS, PREDICTORS, agreement, agrees, compare, parameters, sensitivity, tightness
from tests.helpers.records import KINDS, layer_rows, null_rows, run_tables


def observation(regime: str, slope: float = 0.3, reason: str = "") -> regimes.Observation:
    line = regimes.Slope(slope, slope - 0.1, slope + 0.1, 4)
    return regimes.Observation(
        regime, reason, 0.1, line, line, line, line, regime, reason, 0.2, 0.0, line, 1.0, regimes.NullShare(0.1, 20)
    )


def test_parameters_are_what_the_rows_say():
    rows = layer_rows(depth=5)
    chain = parameters(rows.sample(frac=1.0, random_state=1))
    assert chain.depth == 5
    assert chain.sigma == pytest.approx(np.full(5, KINDS["dispersive decay"]["sigma"]))
    assert chain.alignment[1:] == pytest.approx(np.full(4, KINDS["dispersive decay"]["kappa"]))
    assert chain.bulk_gap is not None


def test_parameters_refuse_what_is_not_converged():
    rows = layer_rows(depth=4)
    rows.loc[2, "propagator_converged"] = False
    with pytest.raises(ValueError, match=r"propagator_converged .* \[3\]"):
        parameters(rows)
    table = compare(rows)
    assert table.loc[0, "predicted_paper"] == "undecided"
    assert "propagator_converged" in table.loc[0, "prediction_reason"]
    assert table.loc[0, "observed"] == "dispersive decay"


@pytest.mark.parametrize("kind", ["dispersive decay", "dispersive growth", "coherent decay", "attractor"])
def test_mean_field_foresees_isotropic_chains(kind):
    """Where its hypotheses hold the prediction and the observation must meet, whichever the phase (T18)."""
    table = compare(layer_rows(kind, depth=8), nulls=null_rows(0.3))
    row = table.iloc[0]
    assert row["predicted_mean_field"] == kind == row["observed"]
    assert bool(row["agrees_mean_field"])


def test_certificate_interval_holds_the_measured_norm():
    frames = [layer_rows(kind, clip=f"{kind}-{seed}", depth=5, seed=seed) for kind in KINDS for seed in range(6)]
    table = compare(pd.concat(frames, ignore_index=True))
    tight = tightness(table)
    assert tight["n"].sum() == 30
    assert tight["violations"].sum() == 0
    assert (table["norm_upper"] >= table["norm"] * (1 - 1e-9)).all()
    assert (table["sigma2_upper"] >= table["sigma2"] * (1 - 1e-9)).all()


def test_tightness_counts_violations():
    table = compare(layer_rows(depth=5))
    table["norm"] = table["norm_upper"] * 1.01
    assert tightness(table)["violations"].sum() == 1


@pytest.mark.parametrize(
    ("predicted", "seen", "expected"),
    [
        ("I", observation("dispersive decay", -0.3), True),
        ("I", observation("coherent decay", -0.3), True),
        ("I", observation("dispersive growth"), False),
        ("II", observation("attractor"), True),
        ("II", observation("dispersive growth"), False),
        ("outside the theorem", observation("attractor"), None),
        ("coexistence", observation("attractor"), None),
        ("I", observation("undecided"), None),
        ("attractor", observation("attractor"), True),
        ("attractor", observation("coherent decay", -0.3), False),
        # L g within 1/2 over its whole interval: 4 * [-0.08, 0.12].
        ("pinned", observation("undecided", 0.02, "interval of the growth contains 0"), True),
        # Straddling 1/2: a wide interval is no agreement.
        ("pinned", observation("undecided", 0.05, "interval of the growth contains 0"), None),
        ("pinned", observation("dispersive growth", 0.11), None),
        ("pinned", observation("undecided", 0.02, "an arrival norm is not converged"), None),
        ("pinned", observation("dispersive growth", 0.4), False),
        ("pinned", observation("dispersive decay", -0.4), False),
        ("pinned", observation("attractor", 0.02), False),
    ],
)
def test_agreement_rule(predicted, seen, expected):
    assert agrees(predicted, seen, depth=4) is expected


def test_agreement_counts_every_row_once_for_each_predictor():
    tables = run_tables(clips=3, depth=4)
    table = compare(tables["layers"], tables["clips"], tables["nulls"])
    counts = agreement(table)
    for name in PREDICTORS:
        rows = counts[counts["predictor"] == name]
        assert rows["count"].sum() == len(table)
        assert (rows["agree"] + rows["disagree"] + rows["no_answer"]).sum() == len(table)
    assert table["wer"].notna().all()
    assert not table.duplicated(KEYS).any()


def test_the_paper_calls_a_growing_residual_chain_regime_one():
    """T26's case: sup rho < 1, yet nothing decays; the table must show the disagreement, not hide it."""
    rows = layer_rows("dispersive growth", depth=8, sigma=1.25, xi=0.97, kappa=0.1)
    row = compare(rows, nulls=null_rows(0.3)).iloc[0]
    assert row["sup_gain"] < 1
    assert row["predicted_paper"] == "I"
    assert row["observed"] == "dispersive growth"
    assert not bool(row["agrees_paper"])


def test_sensitivity_keeps_the_total_and_moves_the_counts():
    frames = [layer_rows("attractor", clip=f"c{seed}", depth=5, seed=seed) for seed in range(4)]
    layers = pd.concat(frames, ignore_index=True)
    layers["context_share"] = 0.94
    table = sensitivity(layers, null_rows(0.3)).set_index("threshold")
    names = [*regimes.REGIMES, "undecided"]
    assert (table[names].sum(axis=1) == 4).all()
    assert table.loc["as fixed", "attractor"] == 4
    assert table.loc["noise ratio halved", "dispersive growth"] == 4  # 0.94 is below 0.973
    assert table.loc["null draws doubled", "undecided"] == 4
