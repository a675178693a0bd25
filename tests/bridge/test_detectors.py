"""The detectors' baseline: AUROC and its interval by independent computation, and what may be compared with what."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.detectors import (
    CONFIDENCE,
    JACOBIAN,
    MEAN_OF_LAYERS,
    PROXIES,
    baseline,
    best_of_each_kind,
    clustered_auroc,
    find_detectors,
)
from bridge.comparison.labelling import label_clips
from bridge.comparison.statistics import auroc
from empirical.recognition.relatedness import halves
from tests.bridge.test_labelling import table
from tests.helpers.records import COMPONENTS, activation_rows

LAYERS = 2


@pytest.fixture(scope="module")
def run() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Labelled clips whose log-probability tells failure, with one proxy that does so at one layer."""
    clips = label_clips(table(16)).clips
    rng = np.random.default_rng(0)
    failed = clips["wer_above_half"].to_numpy(dtype=bool)
    clips["avg_logprob"] = -0.5 - 1.0 * failed + 0.1 * rng.normal(size=len(clips))
    activations, layers = [], []
    for number, row in enumerate(clips.itertuples()):
        rows = activation_rows("toy", str(row.clip), str(row.condition), layers=LAYERS, d=4, n_tokens=2, seed=number)
        for one in rows:
            if (one["component"], one["layer"]) == (COMPONENTS[1], 2):
                one["alpha_10"] += 9.0 * failed[number]
        activations += rows
        names = {"model": "toy", "clip": row.clip, "condition": row.condition, "state": "position", "layers": LAYERS}
        for layer in range(1, LAYERS + 1):
            layers.append(names | {"layer": layer} | dict(zip(JACOBIAN, rng.random(len(JACOBIAN)), strict=True)))
    return clips, pd.DataFrame.from_records(activations), pd.DataFrame.from_records(layers)


def test_auroc_of_clusters_is_the_plain_one_and_delong_of_single_rows() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(40) < 0.4
    scores = np.round(rng.normal(size=40) + labels, 1)  # with ties
    found = clustered_auroc(scores, labels, np.arange(40))
    assert found.effect == pytest.approx(auroc(scores, labels.astype(float)), rel=1e-14)
    # DeLong et al. 1988, by their definition over all pairs.
    above = np.sign(scores[labels][:, None] - scores[~labels][None, :]) / 2 + 0.5
    s10, s01 = above.mean(axis=1).var(ddof=1), above.mean(axis=0).var(ddof=1)
    error = np.sqrt(s10 / labels.sum() + s01 / (~labels).sum())
    a = found.effect
    for end, sign in ((found.low, -1), (found.high, 1)):
        assert np.log(end / (1 - end)) == pytest.approx(
            np.log(a / (1 - a)) + sign * 1.959963984540054 * error / (a * (1 - a)), rel=1e-10
        )


def test_rows_copied_within_their_clusters_tell_nothing_new() -> None:
    rng = np.random.default_rng(2)
    labels, clusters = rng.random(60) < 0.5, np.repeat(np.arange(20), 3)
    scores = rng.normal(size=60) + labels
    once = clustered_auroc(scores, labels, clusters)
    four = clustered_auroc(*(np.repeat(one, 4) for one in (scores, labels, clusters)))
    assert (four.effect, four.low, four.high) == pytest.approx((once.effect, once.low, once.high), rel=1e-12)
    apart = clustered_auroc(*(np.repeat(one, 4) for one in (scores, labels)), np.arange(240))
    assert apart.high - apart.low < 0.7 * (four.high - four.low)


def test_error_of_clusters_is_that_of_leaving_each_out() -> None:
    """The jackknife over clusters agrees to order 1 / clusters; with 80 of them 15 % is far inside any wrong sign."""
    rng = np.random.default_rng(4)
    clusters, labels = np.repeat(np.arange(80), 4), np.tile([True, True, False, False], 80)
    scores = 2.0 * np.repeat(rng.normal(size=80), 4) + rng.normal(size=320) + labels
    left = np.array([auroc(scores[kept], labels[kept].astype(float)) for kept in clusters != np.arange(80)[:, None]])
    error = np.sqrt(79 / 80 * ((left - left.mean()) ** 2).sum())
    found = clustered_auroc(scores, labels, clusters)
    reach = np.log(found.high / (1 - found.high)) - np.log(found.effect / (1 - found.effect))
    assert reach * found.effect * (1 - found.effect) / 1.959963984540054 == pytest.approx(error, rel=0.15)


def test_interval_covers_about_as_often_as_it_says() -> None:
    """Scores share their clip's level. Of 300 draws 95 % cover; five standard errors of that share are 6 %."""
    rng = np.random.default_rng(3)
    clusters, covered = np.repeat(np.arange(24), 4), 0
    for _ in range(300):
        # Two of each clip's rows are positive, so nearly all pairs (23 in 24) are of two clips, sum variance 4.
        labels = np.tile([True, True, False, False], 24)
        scores = np.repeat(rng.normal(size=24), 4) + rng.normal(size=96) + labels
        found = clustered_auroc(scores, labels, clusters)
        truth = 23 / 24 * 0.6914624612740131 + 1 / 24 * 0.7602499389065233  # Phi(1/2), Phi(1/sqrt 2)
        covered += found.low <= truth <= found.high
    assert 0.95 - 5 * np.sqrt(0.95 * 0.05 / 300) <= covered / 300


def test_perfect_separation_is_no_certainty() -> None:
    labels = np.arange(20) < 10
    found = clustered_auroc(labels.astype(float), labels, np.arange(20))
    assert found.effect == found.high == 1.0 and 0.7 < found.low < 0.95
    turned = clustered_auroc(-labels.astype(float), labels, np.arange(20))
    assert turned.effect == turned.low == 0.0 and turned.high == pytest.approx(1 - found.low, rel=1e-9)
    flat = clustered_auroc(np.zeros(20), labels, np.arange(20))
    assert flat.effect == 0.5 and flat.low < 0.4 and flat.low + flat.high == pytest.approx(1.0)


def test_too_little_has_no_interval() -> None:
    labels = np.arange(20) < 10
    assert clustered_auroc(np.zeros(3), np.ones(3, dtype=bool), np.arange(3)).code == "no_data"
    few = clustered_auroc(np.arange(20.0), labels, np.where(labels, np.arange(20) % 4, np.arange(20)))
    assert few.code == "too_few_clusters" and few.effect == 0.0 and not few.known


def test_every_detector_has_a_row_for_every_label_that_varies(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    found = baseline(clips, activations, layers)
    many = len(CONFIDENCE) + len(PROXIES) * len(COMPONENTS) * (LAYERS + 1) + len(JACOBIAN)
    assert len(find_detectors(clips, activations, layers)) == many
    # Of rows without the clean ones every one fails, so WER > 0.5 has an answer among all rows alone.
    assert set(found.loc[found["label"] == "wer_above_half", "scope"]) == {"all"}
    assert {"looping", "insertion_heavy"} <= set(found.loc[found["scope"] == "stressed", "label"])
    assert not {"truncated", "hallucination_phrase", "text_on_non_speech"} & set(found["label"])
    told = found[(found["label"] == "wer_above_half")].set_index(["detector", "part", "layer"])
    assert told.loc[("alpha_10", COMPONENTS[1], 2), "auroc"] == 1.0
    assert told.loc[("alpha_10", COMPONENTS[1], MEAN_OF_LAYERS), "auroc"] > 0.9
    log_prob = found[(found["detector"] == "avg_logprob") & (found["label"] == "wer_above_half")].iloc[0]
    assert log_prob["auroc"] == 1.0 and log_prob["clips"] == 16 and log_prob["positives"] == 48
    assert found.loc[found["circular"], ["label", "detector"]].drop_duplicates().to_numpy().tolist() == [
        ["looping", "compression_ratio"],
        ["fluent_unrelated", "avg_logprob"],
        ["fluent_unrelated", "compression_ratio"],
    ]


def test_what_only_says_whether_there_is_text_is_circular_for_text_on_non_speech(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    text = np.arange(len(clips)) % 2 == 0
    silent = clips.assign(
        text_on_non_speech=pd.array(text, dtype="boolean"),
        compression_ratio=np.where(text, 0.7, 0.0),  # as of no text
        n_tokens=np.where(text, 9, 4),  # the prompt's alone
    )
    found = baseline(silent, activations, layers, labels=["text_on_non_speech"], scopes=["all"])
    sure = found[found["detector"].isin(["compression_ratio", "n_tokens"])]
    assert (sure["auroc"] == 1.0).all() and sure["circular"].all() and found["circular"].sum() == len(sure) == 2
    best = best_of_each_kind(silent, activations, layers, seed=0, labels=["text_on_non_speech"], scopes=["all"])
    assert not {"compression_ratio", "n_tokens"} & set(best["detector"])


def test_a_proxy_is_held_against_the_log_probability_on_its_own_rows(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    holes = activations.copy()
    holes.loc[holes["condition"] == "noise", list(PROXIES)] = np.nan
    noise = clips["condition"] == "noise"
    worse = clips.assign(avg_logprob=clips["avg_logprob"].where(~noise, 0.0))
    found = baseline(worse, holes, layers, labels=["wer_above_half"], scopes=["all"])
    proxy, own = found[found["detector"] == "alpha_10"], found[found["detector"] == "avg_logprob"].iloc[0]
    assert (proxy["positives"] == 32).all() and own["positives"] == 48
    assert (proxy["auroc_avg_logprob"] == 1.0).all() and own["auroc"] == own["auroc_avg_logprob"] < 0.7


def test_truncated_clips_stand_apart(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    cut = clips.assign(truncated=clips["clip"].isin(["c-0", "c-1"]))
    found = baseline(cut, activations, layers, labels=["wer_above_half", "truncated"], scopes=["all"])
    rows = found[found["detector"] == "avg_logprob"].set_index("label")
    assert rows.loc["wer_above_half", "clips"] == 14 and rows.loc["truncated", "clips"] == 16
    assert rows.loc["truncated", "code"] == "too_few_clusters"


def test_the_best_is_chosen_on_one_half_and_tested_on_the_other(run: tuple[pd.DataFrame, ...]) -> None:
    found = best_of_each_kind(*run, seed=0, labels=["wer_above_half"], scopes=["all"]).set_index("kind")
    assert found.loc["confidence", "detector"] == "avg_logprob"
    assert found.loc["length", "detector"] == "n_tokens" and set(found.index) == {"confidence", "length", "spectral"}
    best = found.loc["spectral"]
    assert (best["detector"], best["part"], best["layer"]) == ("alpha_10", COMPONENTS[1], 2)
    assert best["chosen_auroc"] == best["auroc"] == 1.0 and best["clips"] == 8 and best["low"] < 1.0


def test_the_number_of_tokens_is_no_confidence(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    failed = clips["wer_above_half"].to_numpy(dtype=bool)
    told = clips.assign(n_tokens=np.where(failed, 30, 10), avg_logprob=-1.0, no_speech_prob=0.0, compression_ratio=1.0)
    found = best_of_each_kind(told, activations, layers, seed=0, labels=["wer_above_half"], scopes=["all"])
    found = found.set_index("kind")
    assert found.loc["length", "auroc"] == 1.0 and found.loc["confidence", "auroc"] == 0.5


def test_a_proxy_good_by_chance_on_one_half_is_found_out_on_the_other(run: tuple[pd.DataFrame, ...]) -> None:
    clips, activations, layers = run
    first, second = halves(clips["clip"], 0)
    lucky = activations.copy()
    here = (lucky["component"] == COMPONENTS[1]) & (lucky["layer"] == 2) & lucky["clip"].isin(second)
    lucky.loc[here, "alpha_10"] *= -1.0
    best = best_of_each_kind(clips, lucky, layers, seed=0, labels=["wer_above_half"], scopes=["all"])
    row = best[best["kind"] == "spectral"].iloc[0]
    assert (row["chosen_auroc"], row["auroc"], len(first)) == (1.0, 0.0, row["clips"])


def test_unlabelled_clips_are_refused(run: tuple[pd.DataFrame, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips must be labelled; missing: wer_above_half"):
        baseline(table(3), *run[1:])
