"""C11: which label decides, what stands beside it, and what is too little to say anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.labelling import label_clips
from bridge.comparison.records import RunTables, load_run
from bridge.ledger.confidence_claim import confidence
from bridge.ledger.settling import Reading
from empirical.recognition.relatedness import share
from tests.bridge.test_labelling import table
from tests.helpers.records import run_tables, write_run


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """A run that only listened; its clips are put in by each test."""
    tables = run_tables({"toy": "dispersive decay"}, clips=2, conditions=("clean", "noise"))
    run = load_run(
        write_run(
            tmp_path_factory.mktemp("run") / "run", {"clips": tables["clips"], "activations": tables["activations"]}
        )
    )
    return analyse(run)


def read(analysis: Analysis, clips: pd.DataFrame) -> dict[str, Reading]:
    labelled = label_clips(clips)
    tables: RunTables = replace(analysis.tables, clips=labelled.clips, rescored={"models": labelled.identity()})
    return {one.what: one for one in confidence(replace(analysis, tables=tables)).readings}


def clips_of(log_prob: dict[str, float], clips: int = 12) -> pd.DataFrame:
    """Clean is right, noise is another sentence, stretch a loop, mix empty; log-probability by condition, with a spread
    that no two share."""
    made = table(clips)
    spread = 0.01 * np.arange(len(made)) / len(made)
    return made.assign(avg_logprob=made["condition"].map(log_prob) + spread)


def test_the_papers_filter_decides_and_labels_stand_beside(analysis: Analysis) -> None:
    found = read(analysis, clips_of({"clean": -0.1, "noise": -0.5, "stretch": -0.9, "mix": -2.0}))
    decides = [one for one in found.values() if one.decides]
    assert [one.what for one in decides] == ["AUROC of low log-probability for WER > 0.5"]
    assert decides[0].interval.effect == 1.0 and decides[0].verdict == "refuted" and decides[0].interval.n == 12
    # Every stressed transcript fails, so among these alone there is nothing to tell.
    stressed = found["AUROC of low log-probability for WER > 0.5, stressed transcripts alone"]
    assert stressed.interval.code == "no_data" and not stressed.interval.known
    # Looping at -0.9 has 24 transcripts above it and 12 below.
    assert found["AUROC of low log-probability for looping"].interval.effect == pytest.approx(24 / 36)


def test_steps_of_a_ladder_do_not_decide(analysis: Analysis) -> None:
    clips = clips_of({"clean": -0.1, "noise": -0.5, "stretch": -0.9, "mix": -2.0})
    mild = clips[clips["condition"] == "clean"].assign(condition="noise:snr_db=20", avg_logprob=-5.0)
    decided = [
        next(one for one in read(analysis, rows).values() if one.decides)
        for rows in (clips, pd.concat([clips, mild], ignore_index=True))
    ]
    assert decided[0].interval == decided[1].interval


def test_how_sure_a_model_is_of_what_it_makes_up(analysis: Analysis) -> None:
    """The label fluent_unrelated asks for a high log-probability; the same text without that part is what is asked."""
    half = clips_of({"clean": -0.1, "noise": -0.5, "stretch": -0.9, "mix": -2.0})
    doubted = (half["condition"] == "noise") & half["clip"].isin([f"c-{index}" for index in range(3)])
    half.loc[doubted, "avg_logprob"] = -3.0
    found = read(analysis, half)
    sure = found["share of unrelated transcripts with mean log-probability above -1"]
    wilson = share(9, 12)
    assert (sure.interval.effect, sure.interval.low, sure.interval.high) == (0.75, wilson.low, wilson.high)
    assert not sure.decides and "9 of 12" in sure.note
    unrelated = found["AUROC of low log-probability for text unrelated to what was said, whatever its confidence"]
    # Three below all others; nine below the clean ones, and above the loops and the empty ones.
    assert unrelated.interval.effect == pytest.approx((3 * 36 + 9 * 12) / (12 * 36))


def test_truncated_audio_is_left_out_and_few_clips_settle_nothing(analysis: Analysis) -> None:
    level = {"clean": -0.1, "noise": -0.5, "stretch": -0.9, "mix": -2.0}
    cut = clips_of(level)
    cut.loc[cut["clip"] == "c-0", "truncated"] = True
    one = read(analysis, cut)["AUROC of low log-probability for WER > 0.5"]
    assert one.interval.n == 11 and "33 such of 44" in one.note
    few = read(analysis, clips_of(level, clips=4))
    assert few["AUROC of low log-probability for WER > 0.5"].verdict == "unresolved"
    assert few["AUROC of low log-probability for WER > 0.5"].interval.code == "too_few_clusters"


def test_a_run_without_labels_has_the_papers_filter_alone(analysis: Analysis) -> None:
    tables = replace(
        analysis.tables,
        clips=label_clips(clips_of({"clean": -0.1, "noise": -0.5, "stretch": -0.9, "mix": -2.0})).clips[
            table(1).columns
        ],
        rescored={},
    )
    found = confidence(replace(analysis, tables=tables)).readings
    assert [one.what.partition(" for ")[2] for one in found] == ["WER > 0.5", "WER > 0.5, stressed transcripts alone"]
