"""Pooled covariances, their proxies and the bootstrap over clips."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import pooled
from observables import CovarianceSums
from tests.helpers.records import activation_rows


def table(clips: int = 10, conditions: dict[str, tuple[float, int]] | None = None, d: int = 60) -> pd.DataFrame:
    conditions = conditions or {"clean": (1.0, 12), "noise": (1.3, 9)}
    return pd.DataFrame.from_records(
        [
            row
            for index in range(clips)
            for condition, (decay, tokens) in conditions.items()
            for row in activation_rows("toy", f"c{index}", condition, layers=2, d=d, n_tokens=tokens, decay=decay)
        ]
    )


def test_batch_proxies_are_the_observables_own():
    rng = np.random.default_rng(0)
    spectra = np.sort(rng.gamma(1.0, size=(5, 60)) + 1e-3, axis=1)[:, ::-1]
    for k in pooled.MODES:
        batch = pooled.batch_proxies(spectra, k)
        for index, spectrum in enumerate(spectra):
            alone = pooled.proxies(spectrum, k)
            for name, values in batch.items():
                # Sums of at most 50 terms in float64, in another order.
                assert values[index] == pytest.approx(alone[name], rel=1e-12)


def test_batch_proxies_know_no_value_where_eigenvalues_are_missing():
    spectrum = np.concatenate([np.ones(30), np.zeros(30)])[None]
    assert all(np.isnan(values).all() for values in pooled.batch_proxies(spectrum, 50).values())
    assert np.isfinite(pooled.batch_proxies(spectrum, 10)["n_eff"]).all()
    assert all(np.isnan(values).all() for values in pooled.batch_proxies(spectrum[:, :20], 50).values())


def test_drawing_every_clip_once_is_the_pooled_covariance():
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(n, 8)) + 3 for n in (5, 9, 7)]
    sums = pooled._pool(rows)
    found = pooled._Resampled(rows, sums).eigenvalues(np.ones((1, 3)))[0]
    expected = CovarianceSums.from_rows(np.concatenate(rows)).eigenvalues()
    # Eigenvalues of an 8 x 8 float64 covariance from two routes: errors of some eps times the largest.
    assert found == pytest.approx(expected, abs=64 * np.finfo(float).eps * expected[0])


def clustered(
    rng: np.random.Generator, decay: float = 1.5, d: int = 60, clips: int = 24, n: int = 10
) -> list[np.ndarray]:
    """Clips with offsets of their own, so that tokens of one clip belong together."""
    scale = np.arange(1, d + 1) ** (-decay / 2)
    return [(rng.normal(size=(n, d)) + 0.7 * rng.normal(size=d)) * scale for _ in range(clips)]


def test_resampled_spread_is_that_of_fresh_data():
    """The bootstrap's standard deviation against that of 60 data sets drawn anew; re-pooling would be 2-3 times it."""
    rng = np.random.default_rng(2)
    fresh = np.array([pooled._pool(clustered(rng)).eigenvalues() for _ in range(60)])
    spread = {name: values.std() for name, values in pooled.batch_proxies(fresh, 50).items()}
    names = [f"clip-{n:02d}" for n in range(24)]
    weights = pooled._weights(names, names, 300, 1)
    drawn = [
        pooled._Resampled(rows, pooled._pool(rows)).eigenvalues(weights) for rows in (clustered(rng) for _ in range(8))
    ]
    for name, value in spread.items():
        found = np.mean([pooled.batch_proxies(one, 50)[name].std() for one in drawn])
        # 60 draws give a standard deviation to 9 %, and the first order is right to about 20 %: half to double is far.
        assert 0.6 * value < found < 1.6 * value, name


def test_matched_lengths_use_as_many_tokens_of_both():
    layers = pooled.pool(table(), resamples=20).layers
    matched, uncut = (layers[layers["length"] == length] for length in ("matched", "none"))
    assert (matched["n_tokens_clean"] == 90).all()
    assert (matched["n_tokens_stressed"] == 90).all()
    assert (uncut["n_tokens_clean"] == 120).all()


def test_a_steeper_spectrum_loses_rank_and_the_interval_says_so():
    found = pooled.pool(table(clips=30, conditions={"clean": (1.0, 12), "noise": (1.6, 12)}), resamples=200)
    row = found.summary.query(
        "component == 'cross-attention' and length == 'matched' and k == 50 and stress == 'noise'"
    )
    row = row.iloc[0]
    assert row["d_n_eff_pct_high"] < 0
    assert row["d_alpha_low"] > 0
    assert row["d_log10_kf_low"] > 0
    assert row["d_alpha"] == pytest.approx(0.6, abs=0.25)  # the population slopes differ by 0.6; 360 rows of 60
    assert row["n_layers"] == 2


def test_the_same_spectrum_under_both_conditions_covers_zero():
    found = pooled.pool(table(clips=25, conditions={"clean": (1.0, 12), "noise": (1.0, 12)}), resamples=200)
    rows = found.layers.query("k == 50 and length == 'matched'")
    covered = [(row.d_alpha_low < 0 < row.d_alpha_high) for row in rows.itertuples()]
    # Six intervals of 95 % in which truth is 0: three or more misses have probability 0.002.
    assert sum(covered) >= 4


def test_too_few_tokens_give_a_reason_and_no_number():
    found = pooled.pool(table(clips=2), resamples=20).layers
    rows = found[found["k"] == 50]
    assert (rows["reason"] == "too_few_eigenvalues").all()
    assert rows[["d_n_eff_pct", "d_alpha", "d_log10_kf", "d_alpha_low"]].isna().all(axis=None)
    assert (found[found["k"] == 10]["reason"] == "ok").all()


def test_summary_is_the_mean_over_layers_and_stresses():
    frame = table(conditions={"clean": (1.0, 12), "noise": (1.3, 12), "mix": (0.8, 12)})
    found = pooled.pool(frame, resamples=20)
    part = found.layers.query("component == 'feed-forward' and length == 'none' and k == 10")
    total = found.summary.query("component == 'feed-forward' and length == 'none' and k == 10 and stress == 'all'")
    assert total.iloc[0]["d_alpha"] == pytest.approx(part["d_alpha"].mean())
    assert len(found.summary) == 3 * 2 * 2 * 3  # components, lengths, modes, two stresses and all


def test_pooling_is_its_seed():
    frame = table(clips=5)
    pd.testing.assert_frame_equal(
        pooled.pool(frame, seed=1, resamples=10).layers, pooled.pool(frame, seed=1, resamples=10).layers
    )


def test_a_stress_that_lost_a_clip_draws_the_same_clips_as_the_others():
    everyone = [f"clip-{n}" for n in range(6)]
    whole = pooled._weights(everyone, everyone, 40, 3)
    assert (whole.sum(axis=1) == 6).all()
    np.testing.assert_array_equal(pooled._weights(everyone[1:], everyone, 40, 3), whole[:, 1:])
