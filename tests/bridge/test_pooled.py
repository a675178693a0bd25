"""Pooled covariances, their proxies and the bootstrap over clips."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison import pooled, pooled_clips, pooled_plan, pooled_spectra, pooled_sums
from bridge.comparison.vectors import PartVectors, TableVectors
from observables import CovarianceSums, covariance_eigenvalues
from tests.bridge.test_vectors import write_parts
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
        batch = pooled_spectra.batch_proxies(spectra, k)
        for index, spectrum in enumerate(spectra):
            alone = pooled_spectra.proxies(spectrum, k)
            for name, values in batch.items():
                # Sums of at most 50 terms in float64, in another order.
                assert values[index] == pytest.approx(alone[name], rel=1e-12)


def test_batch_proxies_know_no_value_where_eigenvalues_are_missing():
    spectrum = np.concatenate([np.ones(30), np.zeros(30)])[None]
    assert all(np.isnan(values).all() for values in pooled_spectra.batch_proxies(spectrum, 50).values())
    assert np.isfinite(pooled_spectra.batch_proxies(spectrum, 10)["n_eff"]).all()
    assert all(np.isnan(values).all() for values in pooled_spectra.batch_proxies(spectrum[:, :20], 50).values())


class Once:
    """Draws every clip once."""

    count = 1

    def of(self, clips):
        return np.ones((1, len(clips)))


def resampled(rows: list[np.ndarray], resamples, leading: int = 256) -> np.ndarray:
    names = [f"clip-{n:02d}" for n in range(len(rows))]
    found = pooled_sums.ResampledSpectrum(CovarianceSums.from_rows(np.concatenate(rows)), resamples, leading)
    for name, one in zip(names, rows, strict=True):
        found.add(name, one)
    return found.eigenvalues()


@pytest.mark.parametrize("clips", [3, 64, 129])
def test_drawing_every_clip_once_is_the_pooled_covariance(clips, monkeypatch):
    monkeypatch.setattr(pooled_sums, "BLOCK_NUMBERS", 8 * 100)  # several blocks of 100 rows where there are many clips
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(5 + index % 4, 8)) + 3 for index in range(clips)]
    expected = CovarianceSums.from_rows(np.concatenate(rows)).eigenvalues()
    # Eigenvalues of an 8 x 8 float64 covariance from two routes: errors of some eps times the largest; moments about
    # the mean of up to 900 rows add their rounding.
    bound = 64 * np.finfo(float).eps * expected[0] * np.sqrt(clips)
    assert resampled(rows, Once())[0] == pytest.approx(expected, abs=bound)
    assert resampled(rows, Once(), leading=3)[0] == pytest.approx(expected[:3], abs=bound)


def test_the_leading_variances_are_the_largest_of_all():
    rows = [np.random.default_rng(n).normal(size=(6, 20)) for n in range(9)]
    draws = pooled_sums.Resamples([f"clip-{n:02d}" for n in range(9)], 7, 1)
    found = pooled_sums.ResampledSpectrum(CovarianceSums.from_rows(np.concatenate(rows)), draws)
    for n, one in enumerate(rows):
        found.add(f"clip-{n:02d}", one)
    np.testing.assert_array_equal(found.eigenvalues(5), found.eigenvalues()[:, :5])


def test_a_clips_leading_eigenvalues_are_the_observables_own():
    rng = np.random.default_rng(6)
    for n, d in ((25, 40), (40, 25), (6, 30), (11, 11), (2, 5), (1, 5)):
        rows = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -2.0 + 5
        expected = np.zeros(10)
        if n > 1:
            values = covariance_eigenvalues(rows)[:10]
            expected[: values.size] = values
        found = pooled_clips._leading(rows)
        # Both from float64 rows of size 5: rounding of d eps times the square of that.
        assert found == pytest.approx(expected, abs=8 * d * np.finfo(float).eps * max(expected[0], 25.0))
        assert (found > 0).sum() == (expected > 0).sum() == min(n - 1, d, 10)


def test_sums_of_clips_are_those_of_their_rows():
    rng = np.random.default_rng(5)
    rows = [rng.normal(size=(n % 90, 7)) + 100 for n in range(1, 60)]
    running = pooled_sums.RunningSums()
    for one in rows:
        running.add(one)
    found, whole = running.result(), np.concatenate(rows)
    assert found is not None
    assert len(whole) > 2 * pooled_sums.BLOCK_ROWS
    assert found.n == len(whole)
    # Rounding of sums of n squares of size 100^2 in float64.
    assert found.m2 == pytest.approx(np.cov(whole.T) * (len(whole) - 1), abs=len(whole) * 1e4 * 8 * 2.2e-16)
    assert pooled_sums.RunningSums().result() is None
    assert pooled_sums.merged([None, found, None]) is found


def clustered(
    rng: np.random.Generator, decay: float = 1.5, d: int = 60, clips: int = 24, n: int = 10
) -> list[np.ndarray]:
    """Clips with offsets of their own, so that tokens of one clip belong together."""
    scale = np.arange(1, d + 1) ** (-decay / 2)
    return [(rng.normal(size=(n, d)) + 0.7 * rng.normal(size=d)) * scale for _ in range(clips)]


def test_resampled_spread_is_that_of_fresh_data():
    """The bootstrap's standard deviation against that of 60 data sets drawn anew; re-pooling would be 2-3 times it."""
    rng = np.random.default_rng(2)
    fresh = np.array([CovarianceSums.from_rows(np.concatenate(clustered(rng))).eigenvalues() for _ in range(60)])
    spread = {name: values.std() for name, values in pooled_spectra.batch_proxies(fresh, 50).items()}
    draws = pooled_sums.Resamples([f"clip-{n:02d}" for n in range(24)], 300, 1)
    drawn = [resampled(clustered(rng), draws) for _ in range(8)]
    for name, value in spread.items():
        found = np.mean([pooled_spectra.batch_proxies(one, 50)[name].std() for one in drawn])
        # 60 draws give a standard deviation to 9 %, and the first order is right to about 20 %: half to double is far.
        assert 0.6 * value < found < 1.6 * value, name


def test_matched_lengths_use_as_many_tokens_of_both():
    layers = pooled.pool(table(), resamples=20).layers
    matched, uncut = (layers[layers["length"] == length] for length in ("matched", "none"))
    assert (matched["n_tokens_clean"] == 90).all()
    assert (matched["n_tokens_stressed"] == 90).all()
    assert (uncut["n_tokens_clean"] == 120).all()


def test_a_steeper_spectrum_loses_rank_and_the_interval_says_so():
    found = pooled.pool(table(clips=100, conditions={"clean": (1.0, 12), "noise": (1.6, 12)}), resamples=200)
    row = found.summary.query(
        "component == 'cross-attention' and length == 'matched' and k == 50 and stress == 'noise'"
    )
    row = row.iloc[0]
    assert row["d_n_eff_pct_high"] < 0
    assert row["d_alpha_low"] > 0
    assert row["d_log10_kf_low"] > 0
    assert row["d_alpha"] == pytest.approx(0.6, abs=0.25)  # the population slopes differ by 0.6; 1200 rows of 60
    assert row["n_layers"] == 2


def test_the_same_spectrum_under_both_conditions_covers_zero():
    found = pooled.pool(table(clips=100, conditions={"clean": (1.0, 12), "noise": (1.0, 12)}), resamples=200)
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


@pytest.mark.parametrize(("clips", "known"), [(60, {"n_eff_pct"}), (100, set(pooled.PROXIES))])
def test_few_clips_a_mode_give_numbers_and_no_interval_but_of_rank(clips, known):
    """60 clips of 12 tokens have rows enough for 50 modes and yet say too little of the smallest."""
    found = pooled.pool(table(clips=clips, conditions={"clean": (1.0, 12), "noise": (1.3, 12)}), resamples=20)
    for rows in (found.layers[found.layers["k"] == 50], found.summary[found.summary["k"] == 50]):
        assert rows[[f"d_{name}" for name in pooled.PROXIES]].notna().all(axis=None)
        for name in pooled.PROXIES:
            ends = rows[[f"d_{name}_low", f"d_{name}_high"]].notna()
            assert ends.all(axis=None) if name in known else not ends.any(axis=None), name
    tails = np.array([row for end in ("low", "high") for row in found.tails[end]])
    assert np.isfinite(tails).all() if "tail_log" in known else np.isnan(tails).all()


def test_summary_is_the_mean_over_layers_and_stresses():
    frame = table(conditions={"clean": (1.0, 12), "noise": (1.3, 12), "mix": (0.8, 12)})
    found = pooled.pool(frame, resamples=20)
    chosen = "component == 'feed-forward' and length == 'none' and k == 10"
    part = found.layers.query(f"{chosen} and stress != 'together'")
    total = found.summary.query(f"{chosen} and stress == 'all'")
    assert total.iloc[0]["d_alpha"] == pytest.approx(part["d_alpha"].mean())
    assert len(found.summary) == 3 * 2 * 2 * 4  # components, lengths, modes, two stresses, together and all


def test_pooling_is_its_seed():
    frame = table(clips=5)
    pd.testing.assert_frame_equal(
        pooled.pool(frame, seed=1, resamples=10).layers, pooled.pool(frame, seed=1, resamples=10).layers
    )


def test_a_stress_that_lost_a_clip_draws_the_same_clips_as_the_others():
    everyone = [f"clip-{n}" for n in range(6)]
    draws = pooled_sums.Resamples(everyone, 40, 3)
    whole = draws.of(everyone)
    assert (whole.sum(axis=1) == 6).all()
    np.testing.assert_array_equal(draws.of(everyone[1:]), whole[:, 1:])


def clip_table(frame: pd.DataFrame, failed: set[tuple[str, str]], truncated: set[tuple[str, str]] = frozenset()):
    keys = frame[["model", "clip", "condition"]].drop_duplicates(ignore_index=True)
    names = list(zip(keys["clip"], keys["condition"], strict=True))
    return keys.assign(
        wer=[0.75 if name in failed | truncated else 0.25 for name in names],
        truncated=[name in truncated for name in names],
    )


def straightforward(frame: pd.DataFrame, pairs: list[tuple[str, str]], component: str, layer: int, length: str):
    """Both spectra of these pairs from all rows stacked, and their draws from each clip's moments, without a plan."""
    chosen = frame[(frame["component"] == component) & (frame["layer"] == layer)]
    x = {
        (row.clip, row.condition): np.asarray(row.x, dtype=np.float64).reshape(row.n_tokens, row.d_model)
        for row in chosen.itertuples()
    }
    sides = []
    for role in (0, 1):
        rows = []
        for clip, stress in pairs:
            both = x[clip, "clean"], x[clip, stress]
            shorter = min(map(len, both))
            rows.append((clip, both[role][:shorter] if length == "matched" else both[role]))
        sides.append(rows)
    everyone = sorted(set(frame["clip"]))
    weights = np.random.default_rng(4).multinomial(len(everyone), np.full(len(everyone), 1 / len(everyone)), size=30)
    found = []
    for rows in sides:
        stacked = np.concatenate([one for _, one in rows])
        covariance = np.cov(stacked.T)
        directions = np.linalg.eigh(covariance)[1]
        along = [(one - stacked.mean(axis=0)) @ directions for _, one in rows]
        w = np.stack([weights[:, everyone.index(clip)] for clip, _ in rows], axis=1).astype(float)
        n = (w @ [len(one) for one in along])[:, None]
        first, second = w @ [one.sum(axis=0) for one in along], w @ [(one**2).sum(axis=0) for one in along]
        found.append((np.linalg.eigvalsh(covariance)[::-1], np.sort((second - first**2 / n) / (n - 1))[:, ::-1]))
    return found


@pytest.mark.parametrize("length", ["matched", "none"])
@pytest.mark.parametrize(
    ("stress", "kept"), [("noise", "all"), ("together", "all"), ("mix", "failed"), ("together", "failed")]
)
def test_streamed_sides_are_those_of_all_rows_stacked(stress, kept, length, monkeypatch):
    for name in ("ROWS_A_MODE", "CLIPS_A_MODE"):  # a few rows say whether sums are right
        monkeypatch.setattr(pooled_spectra, name, 0)
    frame = table(clips=9, conditions={"clean": (1.0, 13), "mix": (1.4, 16), "noise": (0.8, 9)})
    frame = frame[(frame["clip"] != "c2") | (frame["condition"] != "mix")]  # one stress lost a clip
    failed = {(f"c{n}", "mix") for n in (0, 1, 3, 4, 6, 7)} | {(f"c{n}", "noise") for n in (1, 2, 5, 6)}
    clips = clip_table(frame, failed, truncated={("c8", "mix")})
    found = pooled.pool(frame, clips, seed=4, resamples=30)
    contrast = next(
        one
        for one in pooled_plan.plan(TableVectors(frame).lengths("toy"), frozenset(failed), seed=4).contrasts
        if (one.stress, one.kept) == (stress, kept)
    )
    pairs = sorted(contrast.pairs)
    if stress != "together":
        everyone = [(clip, stress) for clip in sorted(set(frame["clip"])) if (clip, stress) != ("c2", "mix")]
        assert pairs == [pair for pair in everyone if kept == "all" or pair in failed]
    (clean, clean_drawn), (stressed, stressed_drawn) = straightforward(frame, pairs, "self-attention", 2, length)
    row = found.layers.query(
        "component == 'self-attention' and layer == 2 and k == 10 and stress == @stress and kept == @kept"
        " and length == @length"
    ).squeeze()
    assert row["n_clips"] == len(pairs)
    expected = pooled_spectra.changes(pooled_spectra.proxies(clean, 10), pooled_spectra.proxies(stressed, 10))
    drawn = pooled_spectra.changes(*(pooled_spectra.batch_proxies(one, 10) for one in (clean_drawn, stressed_drawn)))
    for name in ("n_eff_pct", "log10_kf", "alpha"):
        # The first ten of 60 eigenvalues, within a factor 30 of each other: rounding of a few hundred eps, 1e-9 is far.
        assert row[f"d_{name}"] == pytest.approx(expected[name], rel=1e-9, abs=1e-11)
        low, high = pooled_spectra.interval(float(expected[name]), drawn[name])
        assert (row[f"d_{name}_low"], row[f"d_{name}_high"]) == pytest.approx((low, high), rel=1e-9, abs=1e-11)


def test_together_is_the_only_stress_where_there_is_one_and_needs_speech():
    frame = table(conditions={"clean": (1.0, 12), "noise": (1.3, 9), "silence": (2.0, 9)})
    found = pooled.pool(frame, resamples=5)
    assert set(found.layers["kept"]) == {"all"}  # nothing is known to have failed
    one, other = (
        found.layers[found.layers["stress"] == name].drop(columns="stress").reset_index(drop=True)
        for name in ("noise", "together")
    )
    pd.testing.assert_frame_equal(one, other)
    whole = found.summary[found.summary["stress"] == "all"]
    noise = found.summary[found.summary["stress"] == "noise"]
    assert whole["d_alpha"].tolist() == noise["d_alpha"].tolist()
    assert "silence" in set(found.summary["stress"])


def test_failed_pairs_leave_out_what_was_cut():
    frame = table(clips=3)
    clips = clip_table(frame, {("c0", "noise"), ("c0", "clean")}, truncated={("c1", "noise")})
    assert pooled_plan.failed_pairs(clips, "toy") == {("c0", "noise")}
    assert pooled_plan.failed_pairs(clips, "other") == frozenset()


def test_one_stress_an_utterance_pools_each_clip_once():
    frame = table(clips=9, conditions={"clean": (1.0, 12), "mix": (1.0, 12), "noise": (1.3, 9)})
    kept = [
        row.condition == "clean" or (int(row.clip[1:]) % 2 == 0) == (row.condition == "mix")
        for row in frame.itertuples()
    ]
    found = pooled.pool(frame[kept], resamples=5).layers.query("length == 'none' and layer == 1 and k == 10")
    counts = found.groupby("stress")["n_clips"].first().to_dict()
    assert counts == {"mix": 5, "noise": 4, "together": 9}
    row = found[(found["stress"] == "together") & (found["component"] == "feed-forward")].squeeze()
    assert (row["n_clips"], row["n_tokens_clean"], row["n_tokens_stressed"]) == (9, 108, 5 * 12 + 4 * 9)


def test_together_draws_one_stress_a_clip_by_seed_and_a_failed_one_where_there_is_any():
    clips = [f"c{n}" for n in range(200)]
    stresses = ["stretch", "mix", "noise"]
    lengths = {clip: dict.fromkeys(["clean", *stresses, "silence"], 9) for clip in clips}
    failed = frozenset((clip, "mix") for clip in clips[:50])

    def drawn(seed: int, kept: str) -> dict[str, str]:
        found = pooled_plan.plan(lengths, failed, seed=seed).contrasts
        return dict(next(one for one in found if (one.stress, one.kept) == ("together", kept)).pairs)

    one, other = drawn(1, "all"), drawn(2, "all")
    assert one == drawn(1, "all")
    assert set(one) == set(clips)
    assert set(one.values()) == set(stresses)  # silence leaves no speech
    # 200 draws of three, two thirds of which differ between seeds: 133 +- 7.
    assert 100 < sum(one[clip] != other[clip] for clip in clips) < 167
    assert drawn(1, "failed") == dict.fromkeys(clips[:50], "mix")


def test_progress_is_told_after_each_group_and_parts_pool_as_their_table(tmp_path):
    frame = table(clips=4)
    told = []
    write_parts(tmp_path, frame, shard=3)
    parts = pooled.pool(PartVectors(tmp_path, "d"), resamples=5, progress=lambda done, of: told.append((done, of)))
    assert told == [(n, 6) for n in range(1, 7)]
    whole = pooled.pool(frame, resamples=5)
    columns = ["component", "layer", "stress", "length", "k", "n_tokens_clean"]
    pd.testing.assert_frame_equal(parts.layers[columns], whole.layers[columns])
    # Clips come in the same order here, in blocks of one: only the rows' float32 went through a file, bit by bit.
    np.testing.assert_array_equal(parts.layers["d_alpha"], whole.layers["d_alpha"])


def test_nothing_to_pool_gives_empty_tables():
    assert pooled.pool(None).summary.empty
    lone = pooled.pool(table(clips=3, conditions={"noise": (1.0, 12)}), resamples=5)
    assert lone.layers.empty
    assert set(lone.clouds["condition"]) == {"noise"}
