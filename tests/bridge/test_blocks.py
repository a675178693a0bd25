"""Certificates of measured blocks against `theory.certify_blocks` on the dense chains that the records were made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import theory
from bridge.comparison.blocks import (
    block_chain,
    certify_measured_blocks,
    describe_blocks,
    headline_blocks,
    summarise_blocks,
)
from tests.helpers.records import dense_chain

DEPTH, WIDTH, CONTEXT = 8, 6, 9
ALIGNED = {"sigma": 1.5, "kappa": 0.99, "xi": 0.002, "rank": 1}
BROAD = {"sigma": 1.6, "kappa": 0.2, "xi": 0.9, "rank": 4}


def stacked(kind: dict, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    a, b = dense_chain(DEPTH, WIDTH, CONTEXT, **kind, rng=np.random.default_rng(seed))
    return np.stack(a), np.stack(b)


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def recurrence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = b[0]
    for one, other in zip(a[1:], b[1:], strict=True):
        total = one @ total + other
    return total


def records(kind: dict, *, clip: str = "a", seed: int = 0, direction: np.ndarray | None = None) -> pd.DataFrame:
    """Rows of every block size, in the columns of `empirical.block_parameters`, from the dense matrices."""
    a, b = stacked(kind, seed)
    jacobian = recurrence(a, b)
    s = np.linalg.svd(jacobian, compute_uv=False)
    rows = []
    for size in range(1, DEPTH + 1):
        chain = theory.coarse_grain(a, size, b, direction=direction)
        starts = list(range(0, DEPTH, size))
        product = np.linalg.multi_dot([np.eye(WIDTH), *a[starts[-1] :][::-1], np.eye(WIDTH)])
        u = np.linalg.svd(product)[0][:, 0]
        for index, start in enumerate(starts):
            part = recurrence(a[start : start + size], b[start : start + size])
            names = ("sigma", "gap", "alignment", "injection_along", "injection_across", "misalignment", "bulk_gap")
            assert chain.misalignment is not None and chain.bulk_gap is not None
            coherent = chain.injection_coherent
            rows.append(
                {"model": "m", "clip": clip, "condition": "clean", "state": "sequence", "block": size}
                | {"index": index + 1, "blocks": len(starts), "layers": DEPTH, "dtype": "float64"}
                | {name: getattr(chain, name)[index] for name in names}
                | {
                    "injection_norm": float(np.linalg.norm(part, 2)),
                    "injection_coherent": math.nan if coherent is None else coherent[index],
                    "propagator_converged": True,
                    "injection_converged": True,
                    "context_norm": s[0],
                    "context_sigma2": s[1],
                    "context_along": float(np.linalg.norm(u @ jacobian)),
                    "context_across": float(np.linalg.norm(jacobian - np.outer(u, u @ jacobian), 2)),
                    "context_converged": True,
                    "exact_norm": s[0],
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kind", [ALIGNED, BROAD])
@pytest.mark.parametrize("coherent", [False, True])
def test_looseness_is_that_of_the_theory_on_the_dense_chain(kind, coherent):
    direction = np.eye(CONTEXT)[0] if coherent else None
    table = certify_measured_blocks(records(kind, direction=direction))
    known = theory.certify_blocks(*stacked(kind), direction=direction)
    assert table["block"].tolist() == [row.block for row in known.rows]
    for ours, theirs in zip(_plain(table), known.rows, strict=True):
        # the recursion's own rounding grows with its amplification, here at most exp(40)
        assert math.isclose(math.log(ours["cone_upper_over_norm"]), theirs.log_upper_over_true, abs_tol=1e-6)
        assert math.isclose(math.log(ours["upper_over_norm"]), theirs.log_norm_upper - known.log_norm, abs_tol=1e-6)
        if theirs.log_true_over_lower < math.inf:
            assert math.isclose(-math.log(ours["cone_lower_over_norm"]), theirs.log_true_over_lower, abs_tol=1e-6)
        else:
            assert ours["cone_lower_over_norm"] == 0.0
        assert ours["headline"] == theirs.headline == (ours["block"] <= DEPTH / 2)
        assert not ours["violated"] and ours["reason"] == ""
        assert ours["cone"] == (theirs.cone.direction != "none")


def test_hypotheses_are_met_where_they_are_and_not_where_not():
    aligned = certify_measured_blocks(records(ALIGNED, direction=np.eye(CONTEXT)[0]))
    broad = certify_measured_blocks(records(BROAD))
    layers = aligned.iloc[0]
    assert math.isclose(layers["gap_largest"], 0.002) and math.isclose(layers["alignment_smallest"], 0.99)
    assert math.isclose(layers["first_order_error"], DEPTH * 0.002 / 0.99)
    assert layers["gap_small"] and layers["alignment_near_one"] and layers["cone"] and layers["regime"] == "II"
    assert layers["noise_ratio"] <= layers["noise_ratio_upper"] < 0.3
    broad_layers = broad.iloc[0]
    assert not broad_layers["gap_small"] and not broad_layers["alignment_near_one"]
    assert broad_layers["regime"] == "coexistence" and broad_layers["noise_ratio_upper"] == math.inf
    for table in (aligned, broad):  # one block follows nothing: no answer, not "not met"
        assert table.iloc[-1]["gap_small"] is pd.NA and bool(np.isnan(table["gap_largest"].iloc[-1]))


def test_the_bound_of_the_triangle_inequality_bounds_and_is_what_it_says():
    a, b = stacked(BROAD)
    table = certify_measured_blocks(records(BROAD)).set_index("block")
    norms = [np.linalg.norm(one, 2) for one in b]
    sizes = [np.linalg.norm(one, 2) for one in a]
    by_hand = sum(norms[k] * math.prod(sizes[k + 1 :]) for k in range(DEPTH))
    truth = np.linalg.norm(recurrence(a, b), 2)
    assert math.isclose(table["trivial_over_norm"].iloc[0], by_hand / truth, rel_tol=1e-12)
    assert (table["trivial_over_norm"] >= 1.0 - 1e-12).all()
    assert math.isclose(table["trivial_over_norm"].iloc[-1], 1.0, rel_tol=1e-12)


def test_coherence_is_one_where_all_injections_share_a_direction():
    table = certify_measured_blocks(records(ALIGNED, direction=np.eye(CONTEXT)[0]))
    assert np.allclose(table["coherence"], 1.0)
    assert (table["coherent_over_norm"] > 0).all() and (table["coherent_over_norm"] <= 1.0 + 1e-9).all()
    assert certify_measured_blocks(records(ALIGNED))["coherence"].isna().all()


@pytest.mark.parametrize("column", ["context_norm", "context_sigma2"])
def test_a_truth_outside_the_interval_is_called_a_violation(column):
    rows = records(BROAD)
    bound = certify_measured_blocks(rows).iloc[0]
    scale = bound["cone_upper_over_norm"] if column == "context_norm" else bound["sigma2_upper_over_sigma2"]
    for factor, expected in ((scale * 0.999, False), (scale * 1.001, True)):
        moved = rows.assign(**{column: rows[column] * factor})
        if column == "context_sigma2":  # keep the norm where it was: only the second value leaves
            moved["context_norm"] = rows["context_norm"]
        assert bool(certify_measured_blocks(moved).iloc[0]["violated"]) is expected


def test_what_did_not_converge_is_not_certified_and_spoils_nothing_else():
    rows = records(BROAD)
    broken = (rows["block"] == 2) & (rows["index"] == 3)
    rows.loc[broken, ["sigma", "gap"]] = math.nan
    rows.loc[broken, "propagator_converged"] = False
    table = certify_measured_blocks(rows).set_index("block")
    assert table.loc[2, "reason"] == "propagator_converged must hold in every block; not in [3]"
    assert np.isnan(table["cone_upper_over_norm"][2]) and table.loc[2, "violated"] is pd.NA
    others = table.drop(index=2)
    assert (others["reason"] == "").all()
    untouched = certify_measured_blocks(records(BROAD)).set_index("block").drop(index=2)
    assert others["cone_upper_over_norm"].equals(untouched["cone_upper_over_norm"])
    summary = summarise_blocks(table.reset_index()).set_index("block")
    assert summary.loc[2, "n"] == 0 and summary.loc[2, "uncertified"] == 1
    unknown = records(BROAD).assign(context_converged=False, context_norm=math.nan)
    assert (certify_measured_blocks(unknown)["reason"] == "the norm of J_L is 0 or not converged").all()
    (line,) = describe_blocks(summarise_blocks(certify_measured_blocks(unknown)))
    assert line.endswith("nothing was certified, so that whether the hypotheses were met is not known.")


def test_a_norm_that_is_known_is_held_against_the_certificate_whatever_else_did_not_converge():
    """The flag of J_L speaks of its second value and of the parts at every block size, too."""
    rows = records(BROAD).assign(context_converged=False, context_sigma2=math.nan)
    rows.loc[rows["block"] == 4, "context_across"] = math.nan
    table = certify_measured_blocks(rows).set_index("block")
    whole = certify_measured_blocks(records(BROAD)).set_index("block")
    assert (table["reason"] == "").all() and table["cone_upper_over_norm"].equals(whole["cone_upper_over_norm"])
    assert table["sigma2_upper_over_sigma2"].isna().all() and not table["violated"].any()
    assert np.isnan(table.loc[4, "noise_ratio"]) and table.loc[2, "noise_ratio"] == whole.loc[2, "noise_ratio"]


def test_summary_takes_medians_over_clips_and_the_headline_keeps_to_half_the_depth():
    rows = pd.concat([records(BROAD, clip=clip, seed=seed) for clip, seed in (("a", 0), ("b", 1), ("c", 2))])
    table = certify_measured_blocks(rows)
    summary = summarise_blocks(table)
    assert summary["n"].tolist() == [3] * DEPTH
    layers = table[table["block"] == 1]
    assert summary.loc[0, "cone_upper_over_norm"] == np.median(layers["cone_upper_over_norm"])
    assert summary.loc[0, "gap_least"] == layers["gap_smallest"].min()
    assert summary["violations"].sum() == 0 and summary["both"].sum() == 0
    best = headline_blocks(summary)
    assert len(best) == 1 and best["block"].iloc[0] <= DEPTH / 2
    within = summary[summary["block"] <= DEPTH / 2]["cone_upper_over_norm"]
    assert best.loc[0, "cone_upper_over_norm"] == within.min() > summary["cone_upper_over_norm"].min()


def test_the_words_follow_the_numbers():
    (broad,) = describe_blocks(summarise_blocks(certify_measured_blocks(records(BROAD))))
    assert "met together on no clip at any block size" in broad and "lower bound 0 on 1 of 1 clips" in broad
    aligned = summarise_blocks(certify_measured_blocks(records(ALIGNED, direction=np.eye(CONTEXT)[0])))
    (line,) = describe_blocks(aligned)
    assert "met together at m = 1 on 1 of 1 clips" in line and "lower bound 0 on 0 of 1 clips" in line
    (half,) = headline_blocks(aligned).to_dict("records")
    assert f"at m = {half['block']}" in line
    for row in aligned.to_dict("records"):
        assert 2 * row["block"] <= DEPTH or f"tightest at m = {row['block']}" not in line


def test_bad_records_are_named():
    rows = records(BROAD)
    with pytest.raises(ValueError, match=r"missing \['sigma'\]"):
        certify_measured_blocks(rows.drop(columns="sigma"))
    with pytest.raises(ValueError, match="at least one row"):
        certify_measured_blocks(rows.iloc[:0])
    size = rows[rows["block"] == 4]
    with pytest.raises(ValueError, match=r"rows must be blocks 1..2, once each; got \[1, 1, 2, 2\]"):
        block_chain(pd.concat([size, size]))
