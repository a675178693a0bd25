"""Labels of a table: three-valued, in the rows' order, and counted apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.labelling import (
    EVERYTHING,
    NONE_OF_THESE,
    agreement_of_labels,
    changed_scores,
    cohen_kappa,
    composition,
    label_clips,
    label_shares,
)
from empirical.recognition.labels import LABELS, Rules
from empirical.recognition.relatedness import share
from tests.helpers.records import clip_row

NOUNS = ("soldier", "river", "house", "apple", "teacher", "garden", "kitchen", "letter", "window", "market", "horse")


def sentence(index: int) -> str:
    return " ".join(("the", NOUNS[index % 11], "sees", NOUNS[(3 * index + 1) % 11], "and", NOUNS[(5 * index + 2) % 11]))


def table(clips: int = 12) -> pd.DataFrame:
    """Clean transcripts are right, noisy ones another sentence, stretched ones a loop and mixed ones are empty."""
    wrote = {"clean": sentence, "noise": lambda i: "my wolf carried every cold boat", "mix": lambda i: ""}
    wrote["stretch"] = lambda i: "no " * 12
    rows = []
    for index in range(clips):
        for condition, text in wrote.items():
            record = {"reference": sentence(index), "transcript": text(index), "avg_logprob": -0.3}
            rows.append(clip_row("toy", f"c-{index}", condition, wer=9.0, **record))
    return pd.DataFrame.from_records(rows)


def test_labels_stand_beside_their_rows_whatever_the_order_and_index() -> None:
    clips = table()
    shuffled = clips.sample(frac=1.0, random_state=1)
    first, second = label_clips(clips).clips, label_clips(shuffled).clips
    assert list(second.index) == list(shuffled.index)
    pd.testing.assert_frame_equal(first, second.sort_index())
    for condition, held in (
        ("clean", {}),
        ("noise", {"wer_above_half", "fluent_unrelated"}),
        ("mix", {"wer_above_half"}),
        ("stretch", {"wer_above_half", "insertion_heavy", "looping"}),
    ):
        rows = first[first["condition"] == condition]
        for name in ("wer_above_half", "insertion_heavy", "looping", "fluent_unrelated"):
            assert rows[name].eq(name in held).all(), (condition, name)
    assert first["hallucination_phrase"].isna().all() and first["text_on_non_speech"].isna().all()
    # Scores that stood there are computed anew, and what changed is told.
    assert (first.loc[first["condition"] == "clean", "wer"] == 0).all()
    changed = changed_scores(clips, first)
    assert {one["column"] for one in changed} >= {"wer"} and not changed_scores(first, first)


def test_shares_and_composition_count_rows() -> None:
    clips = label_clips(table()).clips
    shares = label_shares(clips).set_index(["condition", "label"])
    assert shares.loc[(EVERYTHING, "wer_above_half"), ["n", "count"]].tolist() == [48, 36]
    assert shares.loc[("noise", "fluent_unrelated"), "share"] == 1.0
    assert shares.loc[("noise", "hallucination_phrase"), ["n", "unknown"]].tolist() == [0, 12]
    whole, one = shares.loc[(EVERYTHING, "wer_above_half")], shares.loc[("mix", "wer_above_half")]
    twelve = share(36, 48, independent=12)  # rows of one clip are not independent
    assert (whole["low"], whole["high"]) == (twelve.low, twelve.high) and one["low"] == share(12, 12).low
    made = composition(clips).set_index(["condition", "label"])
    assert made.loc[("mix", NONE_OF_THESE), "share"] == 1.0 and made.loc[("mix", NONE_OF_THESE), "deleted"] == 1.0
    assert made.loc[("noise", NONE_OF_THESE), "count"] == 0 and made.loc[("clean", NONE_OF_THESE), "n"] == 0
    assert made.loc[(EVERYTHING, "looping"), "count"] == 12
    assert "wer_above_half" not in made.index.get_level_values("label")


def test_kappa_by_its_definition_and_its_limits() -> None:
    # Cohen 1960: observed 0.7, expected 0.5.
    assert cohen_kappa(np.array([20, 5, 10, 15])) == pytest.approx((0.7 - 0.5) / (1 - 0.5), rel=1e-14)
    assert cohen_kappa(np.array([3, 0, 0, 8])) == 1.0
    # Independent labels of margins 1/2 and 1/4.
    assert cohen_kappa(np.array([1, 3, 1, 3])) == pytest.approx(0.0, abs=1e-15)
    assert np.isnan(cohen_kappa(np.array([[0, 5, 0, 9], [0, 0, 0, 0], [4, 0, 3, 0]]))).all()


def test_kappa_of_a_table_and_its_interval_over_clips() -> None:
    clips = label_clips(table()).clips
    found = agreement_of_labels(clips, seed=0, resamples=200).set_index(["first", "second"])
    assert len(found) == len(LABELS) * (len(LABELS) - 1) // 2
    pair = found.loc["wer_above_half", "fluent_unrelated"]
    counts = pair[["both", "first_only", "second_only", "neither"]].to_numpy(dtype=float)
    assert pair["kappa"] == cohen_kappa(counts) and counts.tolist() == [12, 24, 0, 12]
    # Every clip has the same four rows, so resampling clips changes nothing.
    assert pair["low"] == pytest.approx(pair["kappa"]) == pair["high"] and pair["clips"] == 12
    assert found.loc["looping", "truncated"]["code"] == "constant"
    assert found.loc["wer_above_half", "text_on_non_speech"]["n"] == 0
    few = agreement_of_labels(label_clips(table(4)).clips, seed=0, resamples=50).set_index(["first", "second"])
    assert few.loc["wer_above_half", "looping"]["code"] == "too_few_clusters"


def test_without_references_only_what_needs_none_is_answered() -> None:
    clips = table(6).assign(reference=None)
    found = label_clips(clips)
    answered = {name for name in LABELS if found.clips[name].notna().any()}
    assert answered == {"looping", "truncated"} and found.calibrations["toy"].code == "too_few_clips"
    assert found.clips["wer"].isna().all() and found.identity()["toy"]["calibration"]["threshold"] is None
    assert composition(found.clips)["n"].sum() == 0


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"missing: reference, truncated"):
        label_clips(table(5).drop(columns=["reference", "truncated"]), Rules())


def test_digital_silence_is_one_case_whatever_the_number_of_clips() -> None:
    rows = [
        clip_row("toy", f"c-{index}", condition, wer=0.0, reference="", transcript="you", avg_logprob=-0.3)
        for index in range(40)
        for condition in ("silence", "silence:level_dbfs=-40", "non_speech")
    ]
    shares = label_shares(label_clips(pd.DataFrame.from_records(rows)).clips)
    shares = shares[shares["label"] == "text_on_non_speech"].set_index("condition")
    assert (shares["share"] == 1.0).all() and (shares.drop(["stressed", "all"])["clips"] == 40).all()
    one, many = share(1, 1), share(40, 40)
    for condition, expected in (("silence", one), ("silence:level_dbfs=-40", many), ("non_speech", many)):
        assert shares.loc[condition, "low"] == pytest.approx(expected.low, rel=1e-12)
    assert shares.loc["all", "low"] == pytest.approx(many.low, rel=1e-12)  # 120 transcripts of 40 clips
