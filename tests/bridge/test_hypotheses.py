"""Blocks, subspaces, arrivals and effort in a report: their tables against plain arithmetic, and old runs without."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.beside import beside_nulls, positions_kept, state_dimension
from bridge.comparison.profiles import context_split, depth_profile, effort
from bridge.comparison.records import load_run
from bridge.comparison.subspaces import describe_subspaces, subspaces_by_layer, summarise_subspaces
from bridge.ledger.measured_claims import alignment
from bridge.reporting.figures import hypotheses_by_block, subspace_overlaps
from bridge.reporting.report import render
from bridge.reporting.report_tables import models
from bridge.reporting.results import results
from tests.bridge import test_blocks as dense
from tests.helpers.records import layer_rows, run_tables, write_run


def space(layer: int, rank: int, overlap: float, **changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": "m",
        "clip": "a",
        "condition": "clean",
        "state": "position",
        "layer": layer,
        "layers": 3,
    }
    row |= {"dimension": 12, "rank": rank, "overlap": overlap, "largest_cosine": overlap**0.5, "smallest_cosine": 0.0}
    row |= {"null_overlap": rank / 12, "null_overlap_high": 0.4, "boundary_gap": 0.9, "boundary_gap_before": 0.8}
    return row | {"converged": not math.isnan(overlap)} | changed


def spaces() -> pd.DataFrame:
    rows = [space(2, 1, 0.5), space(2, 1, 0.1, clip="b"), space(2, 1, math.nan, clip="c")]
    return pd.DataFrame([*rows, space(3, 1, 0.3), space(2, 2, 0.25), space(3, 2, 0.75)])


def test_subspaces_by_layer_are_medians_of_what_converged():
    table: Any = subspaces_by_layer(spaces()).set_index(["layer", "rank"])
    one = table.loc[2, 1]
    assert (one["n"], one["unconverged"], one["above"]) == (2, 1, 1)
    assert one["overlap"] == pytest.approx(0.3)
    assert table.loc[3, 2]["overlap"] == 0.75


def test_a_summary_counts_pairs_of_layers_and_chance():
    table: Any = summarise_subspaces(spaces()).set_index("rank")
    assert table.loc[1, "n"] == 3 and table.loc[2, "n"] == 2 and table.loc[1, "clips"] == 3
    assert table.loc[1, "overlap"] == pytest.approx(0.3)
    assert table.loc[2, "over_chance"] == pytest.approx(0.5 / (2 / 12))
    assert table.loc[2, "boundary_gap"] == 0.9  # the larger of both layers'
    (line,) = describe_subspaces(table.reset_index())
    assert "r = 1: 0.3 where chance gives 0.083 (above its 95 % in 1 of 3" in line
    kept = spaces().assign(kept_overlap=0.2, kept_overlap_high=[0.6, 0.05, 0.5, 0.2, 0.3, 0.9])
    kept_table: Any = summarise_subspaces(kept).set_index("rank")
    assert kept_table["above_kept"].tolist() == [2, 0] and table["above_kept"].tolist() == [0, 0]
    assert "with positions kept 0.2, 2 of 3" in describe_subspaces(kept_table.reset_index())[0]
    with pytest.raises(ValueError, match="missing \\['rank'\\]"):
        summarise_subspaces(spaces().drop(columns="rank"))


def test_the_profile_is_the_arrival_over_what_was_injected():
    rows: Any = pd.concat([layer_rows(clip=name, seed=seed) for seed, name in enumerate("abc")])
    table: Any = depth_profile(rows).set_index("layer")
    own = rows[rows["layer"] == 2]
    assert table.loc[2, "n"] == 3
    assert table.loc[2, "transmission"] == pytest.approx(np.median(own["arrival"] / own["injection_norm"]))
    assert table.loc[2, "context_norm"] == pytest.approx(np.median([values[0] for values in own["context_s"]]))
    silent: Any = depth_profile(rows.assign(injection_norm=0.0)).set_index("layer")
    assert silent["transmission"].isna().all()
    assert depth_profile(rows.drop(columns="injection_norm"))["injection_norm"].isna().all()


def test_the_split_of_a_rank_one_jacobian_lies_along_u():
    """Aligned chains of one injected direction put nearly all of J_L along u_L; broad ones do not."""
    for kind, clear in ((dense.ALIGNED, True), (dense.BROAD, False)):
        blocks: Any = dense.records(kind)
        a, b = dense.stacked(kind)
        jacobian = dense.recurrence(a, b)
        s = np.linalg.svd(jacobian, compute_uv=False)
        last: dict[str, Any] = {
            "model": "m",
            "clip": "a",
            "condition": "clean",
            "state": "sequence",
            "layer": 8,
            "layers": 8,
        }
        last |= {"context_frobenius": np.linalg.norm(jacobian), "context_share": s[0] ** 2 / (s**2).sum()}
        (row,) = context_split(blocks, pd.DataFrame([last])).to_dict("records")
        u = np.linalg.svd(a[-1])[0][:, 0]
        psi = u @ jacobian
        assert row["along"] == pytest.approx(np.linalg.norm(psi) / s[0])
        assert row["across"] == pytest.approx(np.linalg.norm(jacobian - np.outer(u, psi), 2) / s[0])
        assert row["energy"] == pytest.approx((psi @ psi) / (s**2).sum())
        assert row["energy"] <= row["share"] * (1 + 1e-12)
        assert (row["energy"] > 0.99) is clear
        # At one position the records' Frobenius norm is the true Jacobian's, of another scale than the chain's.
        true = pd.DataFrame([last | {"context_frobenius": last["context_frobenius"] / 3}])
        (apart,) = context_split(blocks, true).to_dict("records")
        assert apart["energy"] <= apart["share"] * (1 + 1e-12) and apart["energy"] == row["energy"]
        # A part that did not converge at another block size leaves the split as it is.
        (loose,) = context_split(blocks.assign(context_converged=False), true).to_dict("records")
        assert loose == apart


def test_effort_counts_triplets_and_takes_the_worst_residual_of_those_that_converged():
    rows: Any = layer_rows(depth=3)
    rows.at[1, "converged"] = [True, True, False, False]
    rows.at[1, "residual"] = [1e-9, 3e-4, 0.5, math.nan]
    rows["block"], rows["refusals"] = [2, 4, 0], [0, 3, 0]
    (row,) = effort(rows).to_dict("records")
    assert row["triplets"] == 12 and row["converged"] == pytest.approx(10 / 12)
    assert row["worst_residual"] == 3e-4
    assert (row["block_least"], row["block_most"], row["refusals"]) == (2, 4, 3)
    assert row["products"] == rows["products"].sum()
    (old,) = effort(rows.drop(columns=["block", "refusals"])).to_dict("records")
    assert math.isnan(old["refusals"]) and math.isnan(old["block_least"])


def test_positions_kept_speak_of_states_of_several_positions_only():
    rows: Any = layer_rows(state="sequence").assign(alignment_positional_q95=0.7, alignment_positional_rms=0.4)
    rows["alignment_positional_chance"] = [math.nan, 0.01, 0.5, 0.04, 0.6, 0.7]
    table: Any = positions_kept(rows).set_index("layer")
    assert table["alignment_positions_beyond"].tolist() == [0, 1, 0, 1, 0, 0]
    assert table["alignment_positions_n"].tolist() == [0, 1, 1, 1, 1, 1]
    single = positions_kept(rows.assign(state="position"))
    assert single["alignment_positions_q95"].isna().all() and (single["alignment_positions_n"] == 0).all()
    # the measured alignment is above the law of uniform directions, and not above that of its own positions
    medians: Any = rows.assign(alignment=0.69)[["model", "state", "condition", "layer", "alignment"]]
    above = beside_nulls(medians, rows, None)["alignment_above"]
    assert all("directions" in one and "positions" not in one for one in above[1:])


def test_frames_have_the_dimension_of_all_positions():
    rows: Any = layer_rows(state="frames").assign(positions=500)
    assert (state_dimension(rows) == 500 * 12).all()


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    frames = run_tables({"m": "dispersive growth"}, clips=2, conditions=("clean",), depth=8)
    # the encoder's chain injects once: arrivals of the other layers are 0
    encoder: Any = layer_rows(model="m", clip="s1-c-0000", state="frame", depth=2)
    encoder.loc[1, ["injection_norm", "injection_along", "injection_across", "arrival"]] = 0.0
    frames["layers"] = pd.concat([frames["layers"], encoder], ignore_index=True)
    frames["blocks"] = dense.records(dense.BROAD, clip="s1-c-0000").assign(state="sequence")
    frames["subspaces"] = spaces().assign(clip="s1-c-0000")
    return write_run(tmp_path_factory.mktemp("hypotheses") / "toy", frames)


@pytest.fixture(scope="module")
def analysis(directory: Path) -> Analysis:
    return analyse(directory)


def test_results_say_whether_the_hypotheses_were_met(analysis):
    found = results(analysis, [])
    assert len(found["hypotheses"]["blocks"]) == 8 and found["hypotheses"]["split"][0]["n"] == 1
    assert {row["both"] for row in found["hypotheses"]["blocks"]} == {0}
    assert any("met together on no clip at any block size" in line for line in found["hypotheses"]["said"]["blocks"])
    said = {part["topic"]: part["text"] for part in found["headline"]}
    assert "met together in 0 of 4 chains of m = 1, 2, 3, 4 layers a block" in said["Are the hypotheses met?"]
    assert any("overlap of the 2 leading directions" in one.what for one in alignment(analysis).readings)


def test_alignment_of_the_sequence_is_held_against_the_law_that_keeps_positions_in_the_claim_too(analysis):
    """(T22) in T d dimensions is exceeded for shared positions alone: the claim's note must not stop there."""
    tables = analysis.tables
    layers = tables.layers.assign(state="sequence", alignment_positional_rms=0.2, alignment_positional_q95=0.4)
    layers["alignment_positional_chance"] = np.where(layers["layer"] == 2, 0.01, 0.5)
    spaces = tables.subspaces.assign(state="sequence", kept_overlap=0.3, kept_overlap_high=0.9)
    comparison = analysis.comparison.assign(state="sequence")
    found = alignment(replace(analysis, tables=replace(tables, layers=layers, subspaces=spaces), comparison=comparison))
    counted = layers[layers["layer"] >= 2]["alignment"].notna().sum()
    beyond = layers[layers["layer"] == 2]["alignment"].notna().sum()
    notes = {one.what: one.note for one in found.readings if one.note.startswith("sequence")}
    note = notes["mean alignment of layers 2..L"]
    assert f"positions kept (95 % quantile 0.400), beyond it in {beyond} of {counted}" in note
    assert (
        "positions kept 0.300 (95 % quantile 0.900), exceeded in 0 of"
        in notes["mean overlap of the 2 leading directions, layers 2..L"]
    )
    # at one position that law is the one of random directions, and is not said twice
    assert all("positions kept" not in one.note for one in alignment(analysis).readings if one.note[:8] == "position")


def test_the_report_has_their_section(analysis):
    text = render(analysis, results(analysis, []), {})
    (section,) = re.findall(r'<section id="hypotheses">.*?</section>', text, re.S)
    for caption in ("By block size", "Leading subspaces beside chance", "Leading subspaces by layer", "u_L"):
        assert caption.replace("u_L", "u<sub>L</sub>") in section
    assert "8 (&gt; L/2)" in section and "0 of 1" in section
    assert "Convergence, memory and time" in text and "What each layer injects, and what arrives" in text


@pytest.mark.parametrize("narrow", [False, True])
def test_their_figures_show_limits_and_n(analysis, narrow):
    for figure, axes_count, words in (
        (hypotheses_by_block(analysis.block_summary, "m", narrow=narrow), 3, "n = 1 clips"),
        (subspace_overlaps(analysis.subspace_summary, ["m"], narrow=narrow), 1, "n = 2 to 3 pairs of layers"),
    ):
        assert len(figure.axes) == axes_count
        assert all(axes.get_xlabel() and axes.get_ylabel() and axes.get_title(loc="left") for axes in figure.axes)
        assert any(words in text.get_text() for axes in figure.axes for text in axes.texts)
    assert "no blocks" in hypotheses_by_block(analysis.block_summary, "other").axes[0].texts[0].get_text()


def test_states_of_the_encoder_are_shown_and_not_compared(analysis):
    decoder = {"position", "sequence"}
    assert set(analysis.comparison["state"]) == set(analysis.tables.decoder_layers["state"]) == decoder
    (model,) = results(analysis, [])["models"]
    assert model["decoder_layers"] == 8  # and not the encoder's 2
    table = models(analysis)
    assert table.rows[0][2] == "8" and "frame: 1 clips" in table.rows[0][table.headers.index("encoder states")]
    assert set(analysis.layer_medians["state"]) == set(analysis.effort["state"]) == decoder | {"frame"}


def test_a_run_of_the_encoder_alone_says_what_is_missing(directory):
    tables = load_run(directory)
    alone = replace(tables, layers=tables.layers[tables.layers["state"] == "frame"])
    with pytest.raises(ValueError, match=r"states must hold one of the decoder.*got frame"):
        analyse(alone)


def test_an_old_run_without_blocks_still_reports(directory, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(directory, old)
    for name in ("blocks", "subspaces"):
        (old / "records" / f"{name}.parquet").unlink()
    layers: Any = pd.read_parquet(old / "records" / "layers.parquet")
    layers = layers[layers["state"] != "frame"].drop(columns=["block", "refusals", "positions", "position"])
    layers.to_parquet(old / "records" / "layers.parquet")
    found = analyse(old)
    content = results(found, [])
    text = render(found, content, {})
    assert "Blocks of layers and leading subspaces were not measured in this run." in text
    assert content["hypotheses"]["blocks"] is None
    assert "Are the hypotheses met?" not in {part["topic"] for part in content["headline"]}
