"""Verdicts: data made by a law support it, data made by another refute it, few chains decide nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from theory.phase.judging import simultaneous
from theory.phase.verdicts import verdicts
from theory.simulators.cells import PhaseCells
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec
from theory.sweeping.studies import STUDY_QUESTIONS, studies
from theory.sweeping.sweep import sweep

SPEC = SweepSpec(
    gain=(1.0,),
    alignment=(0.2, 0.9),
    gap=(0.3,),
    depth=(16, 24),
    dimension=(10_000, 1_000_000),
    seeds=2048,
    quantities=("product", "early"),
)


@pytest.fixture(scope="module")
def swept():
    # Products at d = 10^6 barely differ; 64 of them do, and the early direction is cheap.
    product = sweep(replace(SPEC, seeds=64, quantities=("product",)))
    early = sweep(replace(SPEC, quantities=("early",)))
    return product, early


def found(frame, tag, scope, statement=""):
    rows = frame[
        (frame.tag == tag)
        & frame.scope.str.startswith(scope)
        & ~frame.scope.str.endswith("chance")
        & frame.statement.str.contains(statement)
    ]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_typical_chains_support_the_mean_field_and_T34(swept):
    product, early = (verdicts(data) for data in swept)
    assert found(product, "T18", "kappa > xi").verdict == "supported"
    assert found(product, "T34", "all kappa", "falls").verdict == "supported"
    assert found(product, "T19", "kappa > xi").verdict == "supported"
    assert found(product, "T10", "").verdict == "supported"
    assert found(early, "T18", "kappa > xi").verdict == "supported"
    assert found(early, "T20", "kappa > xi").verdict == "supported"
    assert found(early, "T34", "kappa > xi, all d").verdict == "supported"
    # 2,048 chains: 4 cells within 1.1 at 1.6 % each, 2.5 simultaneous errors are 4 %.
    assert found(early, "T34", "kappa > xi, all L and d", "predicted").verdict == "supported"
    assert found(early, "T34", "kappa < xi, all L and d", "predicted").verdict == "supported"
    assert (early["chains"] == 2048).all()


def test_each_verdict_turns_when_its_data_are_made_wrong(swept):
    product, early = swept
    off = early.assign(early_rate=early["early_rate"] + 0.05)
    assert found(verdicts(off), "T18", "kappa > xi").verdict == "refuted"
    wide = early.assign(early_width=early["early_width"] * 1.5)
    assert found(verdicts(wide), "T34", "kappa > xi, all L and d", "predicted").verdict == "refuted"
    turned = early.assign(
        {f"early_log_noise{end}": early[f"early_log_noise{end}"] + 0.3 for end in ("", "_low", "_high")}
    )
    assert found(verdicts(turned), "T20", "").verdict == "refuted"
    slow = product.assign(log_ratio=product["log_ratio"] * 0.8)
    assert found(verdicts(slow), "T19", "kappa > xi").verdict == "refuted"
    shifted = {f"log_ratio_median{end}": product[f"log_ratio_median{end}"] + 40 for end in ("", "_low", "_high")}
    broken = found(verdicts(product.assign(shifted)), "T10", "")
    assert broken.verdict == "refuted"
    assert broken.effect > 0


def test_large_errors_leave_a_prediction_unresolved(swept):
    _, early = swept
    vague = early.assign(early_rate_se=early["early_rate_se"] * 0 + 1.0, early_width_se=early["early_width"])
    frame = verdicts(vague)
    assert found(frame, "T18", "kappa > xi").verdict == "unresolved"
    assert found(frame, "T34", "kappa > xi, all L and d", "predicted").verdict == "unresolved"


def test_cells_near_the_split_or_of_chance_alignment_are_judged_apart():
    """At d = 128 chance aligns by 0.09: kappa = 0.02 grows faster than (T18) has it, kappa = 0.9 does not."""
    data = sweep(replace(SPEC, alignment=(0.02, 0.9), gap=(0.01,), dimension=(128,), seeds=256, quantities=("early",)))
    frame = verdicts(data)
    rows = frame[(frame.tag == "T18") & frame.scope.str.startswith("kappa > xi")].set_index("scope")
    assert list(rows["cells"]) == [2, 1]
    assert list(rows["verdict"]) == ["refuted", "supported"]
    assert rows["effect"].iloc[0] > 0.1


def test_T21_is_not_asked_where_it_is_infinite(swept):
    frame = verdicts(swept[1])
    asked = frame[frame.tag == "T21"]
    assert asked["statement"].str.contains("as predicted").any() and asked["statement"].str.contains("falls").any()
    assert asked["scope"].str.contains("kappa > xi").all()
    other = frame[frame["scope"].str.contains("kappa < xi") & frame["statement"].str.contains("falls")]
    assert list(other["tag"]) == ["T34", "T34"]


def test_no_scope_is_judged_twice(swept):
    """Both dimensions are large here and both depths the deepest: the large and deep scope is the whole."""
    for data in swept:
        frame = verdicts(data)
        assert not frame.duplicated(["tag", "statement", "scope"]).any()
        assert not frame["scope"].str.contains(r"d >= 1000(?:, L >= \d+)?$").any()
        assert not frame["scope"].str.endswith("chance").any()


def test_mean_field_verdicts_are_given_at_the_dimension_of_real_models_too():
    """At d = 10^6 chance cannot refute (T18); at 1280 kappa = xi is far off it."""
    data = sweep(replace(SPEC, alignment=(0.3, 0.9), dimension=(64, 1280, 1_000_000), seeds=512, quantities=("early",)))
    frame = verdicts(data)
    rates = frame[(frame.tag == "T18") & frame.scope.str.startswith("kappa = xi")]
    assert list(rates["scope"].str.extract(r"d = (\d+)")[0]) == ["1280", "1000000"]
    split = frame[(frame.tag == "T20")]
    assert list(split["scope"].str.extract(r"d = (\d+)")[0]) == ["1280", "1000000"]


def test_a_higher_level_never_gives_a_stronger_verdict(swept):
    """Intervals widen with the level: what is decided at 0.999 is decided the same way at 0.5."""
    for data in swept:
        frames = [verdicts(data, level=level) for level in (0.5, 0.95, 0.999)]
        for lower, higher in itertools.pairwise(frames):
            decided = higher["verdict"].isin(["supported", "refuted"])
            assert (lower["verdict"][decided] == higher["verdict"][decided]).all()
        for name in ("L", r"\(d - 1\)"):
            lines = [frame[frame["statement"].str.contains(f"falls like {name}")].iloc[0] for frame in frames]
            errors = [
                (line.high - line.low) / 2 / simultaneous(level, line.cells)
                for line, level in zip(lines, (0.5, 0.95, 0.999), strict=True)
            ]
            np.testing.assert_allclose(errors, errors[0], rtol=1e-9)


def test_studies_are_what_they_say():
    named = studies()
    assert set(named) == set(STUDY_QUESTIONS)
    assert all(question.endswith((".", "?")) for question in STUDY_QUESTIONS.values())
    great = named["boundary"]
    assert isinstance(great, SweepSpec)
    assert {"coherent", "random"} == {item.name for item in great.injections}
    sizes = [len(x) for x in (great.gain, great.alignment, great.gap, great.depth)]
    assert sizes == [64, 64, 8, 3]
    assert (great.depth, great.dimension, great.seeds, great.context_dimension) == ((4, 12, 32), (1280,), 256, 2)
    # 25 million context Jacobians for each kind of injection.
    assert np.prod(sizes) * great.seeds > 25e6
    assert isinstance(named["residual"], ResidualSweepSpec)
    assert max(named["finite-size"].depth) == 1000
    for spec in named.values():
        if isinstance(spec, SweepSpec):
            assert max(spec.alignment) < 1
            assert len(PhaseCells(1.0, spec.alignment[0], spec.gap)) == len(spec.gap)
