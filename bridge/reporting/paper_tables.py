"""The paper's Tables 1-2 on this run's data, its numbers above ours, and the tests over single clips beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bridge.comparison import tables
from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import judged
from bridge.comparison.pooled import ALL_STRESSES, TOGETHER
from bridge.comparison.pooled_spectra import CLIPS_A_MODE, ROWS_A_MODE
from bridge.comparison.severity import severity_table
from bridge.comparison.statistics import MIN_CLUSTERS
from bridge.reporting.wording import NOTHING, Table, fixed, fixed_interval, number, percent

COMPONENTS = ("cross-attention", "self-attention", "feed-forward")
_CHANGES = (("n_eff_pct", "ΔN_eff (%)", 1), ("log10_kf", "Δlog₁₀ K_f", 2), ("alpha", "Δα", 2))
_HOW = {
    "matched": "both conditions cut to the shorter, clip by clip",
    "none": "whole transcripts, lengths differ",
}
_KEPT = {"all": "all pairs", "failed": "only pairs whose stressed transcript failed (WER > 0.5, audio not cut)"}


@dataclass(frozen=True, slots=True)
class PaperSection:
    """Tables that belong together in the report.

    Attributes:
        title: what sets them apart.
        tables: one a component.
        shown: whether they stand open; the others are folded away.
    """

    title: str
    tables: tuple[Table, ...]
    shown: bool = False


def paper_sections(analysis: Analysis) -> list[PaperSection]:
    """Every form of Tables 1-2 that the run gives: K = 50 and 10, matched lengths and none, all pairs and the failed
    ones, and the tests over clips; sections without a row of ours are left out."""
    sections = []
    for k in (50, 10):
        for kept in ("all", "failed"):
            for length in ("matched", "none"):
                found = tuple(paper_form(analysis, component, length, k=k, kept=kept) for component in COMPONENTS)
                if any(len(one.rows) > len(one.emphasised) for one in found):
                    title = f"Pooled over clips, K = {k}, {_KEPT[kept]}; {_HOW[length]}"
                    sections.append(PaperSection(title, found, shown=(k, kept, length) == (50, "all", "matched")))
    for kept in ("all", "failed"):
        for length in ("matched", "none"):
            found = tuple(clip_tests(analysis, component, length, kept=kept) for component in COMPONENTS)
            if any(one.rows for one in found):
                sections.append(PaperSection(f"Clip by clip, K = 10, {_KEPT[kept]}; {_HOW[length]}", found))
    return sections


def paper_form(analysis: Analysis, component: str, length: str, *, k: int = 50, kept: str = "all") -> Table:
    """One component of the paper's Tables 1-2 in its own form, its numbers above ours.

    Args:
        analysis: of the run.
        component: of the decoder layers.
        length: "matched" or "none".
        k: modes; the paper's numbers are of 50, and left out beside others.
        kept: "all" pairs, or the "failed" ones.
    """
    table = tables.paper_table(analysis.pooled, length=length, k=k, kept=kept)
    part = table[(table["component"] == component) & ((table["source"] == "ours") | (k == 50))]
    part = part.iloc[
        sorted(range(len(part)), key=lambda place: _row_order(part.iloc[place], list(analysis.identities)))
    ]
    rows, emphasised = [], set()
    for index, found in enumerate(part.to_dict("records")):
        row = {str(name): value for name, value in found.items()}
        if row["source"] == "paper":
            emphasised.add(index)
            cells = [f"the paper: {row['model']}", "as published", NOTHING]
            # As published, digit by digit.
            cells += [f"{row[f'd_{name}']:+g}".replace("-", "−") for name, _, _ in _CHANGES]
        else:
            cells = [str(row["model"]), stress_named(str(row["stress"])), str(int(row["n_clips"]))]
            cells += [_change(row, name, decimals) for name, _, decimals in _CHANGES]
        rows.append([*cells, _power_law(row)])
    return Table(
        f"{component}, K = {k}, mean over layers, {_KEPT[kept]}; {_HOW[length]}. 95 % intervals of a bootstrap over "
        f"clips; none below {MIN_CLUSTERS} clips, nor, except of N_eff, below {CLIPS_A_MODE * k} clips or "
        f"{ROWS_A_MODE * k} tokens. The prompt's tokens, which are the same in both, are among them.{_published(k)}",
        ["model", "stress", "clips", *(header for _, header, _ in _CHANGES), "clean spectra that are power laws"],
        rows,
        [False, False] + [True] * 5,
        frozenset(emphasised),
    )


def clip_tests(analysis: Analysis, component: str, length: str, *, kept: str = "all") -> Table:
    """Changes of the proxies of single clips (K = 10), mean over layers, with interval, d_z and q."""
    found = analysis.pooled.tests
    rows = []
    if not found.empty:
        part = found[
            (found["component"] == component)
            & (found["length"] == length)
            & (found["kept"] == kept)
            & found["layer"].isna()
        ]
        for (model, stress), one in part.groupby(["model", "stress"], sort=False):
            by_proxy = {row["proxy"]: row for row in one.to_dict("records")}
            first = by_proxy["n_eff_pct"]
            cells = [str(model), stress_named(str(stress)), str(int(first["n"])), str(int(first["without"]))]
            for name, _, decimals in _CHANGES:
                row = by_proxy[name]
                cells.append(fixed_interval(row["change"], row["low"], row["high"], decimals))
                cells += [fixed(row["d_z"], 2, signed=True), number(row["q"], 2)]
            rows.append(cells)
    return Table(
        f"{component}, every clip alone, K = 10, mean over layers, {_KEPT[kept]}; {_HOW[length]}. Mean change with its "
        f"95 % bootstrap interval over clips, d_z, and q (Wilcoxon signed rank, Benjamini-Hochberg over all tables of "
        "this kind). A pair counts where both spectra have ten positive eigenvalues, which takes eleven tokens; "
        "“too short” are the pairs without.",
        ["model", "stress", "clips", "too short", *(cell for _, name, _ in _CHANGES for cell in (name, "d_z", "q"))],
        rows,
        [False, False] + [True] * 11,
    )


def severity_steps(analysis: Analysis) -> Table | None:
    """The ladders step by step: what was asked and achieved, word errors, change of cross-attention N_eff; None where
    the run has no ladder."""
    table = severity_table(analysis.tables.clips, analysis.pooled, seed=analysis.tables.seed)
    if table.empty:
        return None
    rows = [
        [
            str(row["model"]),
            str(row["condition"]),
            str(row["axis"]),
            f"{row['value']:g}".replace("-", "−"),
            fixed(row["achieved"], 2),
            str(int(row["n"])),
            fixed_interval(row["wer"], row["low"], row["high"], 2, signed=False),
            percent(row["truncated"], 1.0),
            fixed_interval(row["d_n_eff_50"], row["d_n_eff_50_low"], row["d_n_eff_50_high"], 1),
            fixed_interval(row["d_n_eff_10"], row["d_n_eff_10_low"], row["d_n_eff_10_high"], 1),
            str(int(row["n_10"])),
        ]
        for row in table.to_dict("records")
    ]
    return Table(
        "Every ladder from one end to the other. Achieved: median over clips of what was measured on the samples. "
        "ΔN_eff of cross-attention, mean over layers, matched lengths: pooled over clips (K = 50), and the mean over "
        "single clips (K = 10). 95 % intervals over clips.",
        ["model", "condition", "varied", "asked", "achieved", "clips", "WER", "cut", "ΔN_eff (%), K = 50",
         "ΔN_eff (%), K = 10", "of clips"],
        rows,
        [False] * 3 + [True] * 8,
    )  # fmt: skip


def stress_named(stress: str) -> str:
    """A stress as tables call it."""
    return {ALL_STRESSES: "mean over stresses", TOGETHER: "all stresses as one condition"}.get(stress, stress)


def together_explained(analysis: Analysis) -> str:
    """How the two ways of taking all stresses at once differ, in a sentence; empty where there is only one stress."""
    stresses = judged(analysis.tables.clips["condition"])
    if len(stresses) < 2:
        return ""
    return (
        f"“Mean over stresses” averages the changes of {', '.join(stresses)}. “All stresses as one condition” pools "
        "one stressed sample a clip, its stress drawn among these by seed, into one covariance against the clean "
        "samples of the same clips, as the paper pools its stressed set: what the stresses do differently then adds "
        "directions of its own."
    )


def _row_order(row: pd.Series, models: list[str]) -> tuple[int, int]:
    """The paper's rows first, then the models as the run has them, each with what sums its stresses up before them."""
    if row["source"] == "paper":
        return -1, 0
    sums = (ALL_STRESSES, TOGETHER)
    return models.index(row["model"]), sums.index(row["stress"]) if row["stress"] in sums else len(sums)


def _change(row: dict[str, Any], name: str, decimals: int) -> str:
    if row["reason"] != "ok":
        return str(row["reason"]).replace("_", " ")
    effect, low, high = (row.get(f"d_{name}{end}") for end in ("", "_low", "_high"))
    return fixed_interval(effect, low, high, decimals)


def _power_law(row: dict[str, Any]) -> str:
    count = row.get("power_law_clean")
    return NOTHING if count is None or pd.isna(count) else f"{int(count)} of {int(row['rows'])}"


def _published(k: int) -> str:
    return " The paper's numbers stand first." if k == 50 else " The paper prints no numbers at this K."
