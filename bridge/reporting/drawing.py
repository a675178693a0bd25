"""The figures of a report: each drawn wide and narrow, written to files, and kept for the page by its section."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from bridge.comparison.analysis import Analysis
from bridge.comparison.conditions import ENCODER_STATES
from bridge.ledger.activation_claims import final_points
from bridge.ledger.theory_claims import usual_check
from bridge.reporting import figures
from bridge.reporting.figures import detectors, labels, severity
from bridge.reporting.figures.compact import compact
from bridge.reporting.figures.drawing import Shown


def draw(analysis: Analysis, directory: Path) -> dict[str, list[Shown]]:
    """Makes every figure, wide and narrow; writes the wide ones as PNG and SVG. Grouped by section of the report.

    What was not measured is not drawn: a run that only listened has no figure of layers, hypotheses or regimes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    easel = _Easel(directory)
    if analysis.measured:
        _phase(easel, analysis)
        for model in analysis.tables.models:
            _depth(easel, analysis, model)
            _hypotheses(easel, analysis, model)
        _subspaces(easel, analysis)
        _regimes(easel, analysis)
    _errors(easel, analysis)
    for section, maker in (("wer", severity), ("failures", labels), ("detectors", detectors)):
        for one in maker.drawings(analysis):
            easel.add(section, one.name, one.title, one.how_to_read, one.draw)
    _paper(easel, analysis)
    _training(easel)
    return easel.shown


class _Easel:
    """Draws figures twice, writes the wide one to files, and keeps both for the report."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shown: dict[str, list[Shown]] = {}

    def add(self, section: str, name: str, title: str, how: str, make: Callable[[bool], Figure]) -> None:
        wide = figures.save(make(False), self.directory, name)
        narrow = figures.svg_of(make(True), salt=f"{name}-narrow")
        self.shown.setdefault(section, []).append(Shown(name, title, how, _uri(wide), _uri(narrow)))


def _phase(easel: _Easel, analysis: Analysis) -> None:
    run = analysis.tables
    if run.sweep is None:
        return
    sweep = run.sweep
    easel.add(
        "phase",
        "phase-map",
        "Phase map of synthetic chains, with the measured layers",
        "Colour is the growth of ‖P_L‖ per layer of random chains with this gain and alignment: orange grows, "
        "purple decays. Lines are the boundaries the theory draws. Marks are the models' layers 2..L (medians "
        "over clips; filled clean, hollow stressed), on the panel whose gap is nearest to their bulk gap ξ_F: the "
        "swept chains have flat residuals, for which both are one, and ξ_F sets the colour; the certified lines "
        "would use the models' larger ξ. (Below the swept gains the map is carried on exactly: ‖P_L‖ scales with "
        "ρ to the power L.)",
        lambda narrow: figures.phase_map(sweep, run.decoder_layers, narrow=narrow),
    )


def _depth(easel: _Easel, analysis: Analysis, model: str) -> None:
    run, slug = analysis.tables, _slug(model)
    states = sorted(set(run.layers.loc[run.layers["model"] == model, "state"]))
    if not states:
        return
    for state in states:
        easel.add(
            "depth",
            f"layers-{state}-{slug}",
            f"{model}: σ, gap, alignment and gain by layer, {state} state",
            "Lines are medians over clips, the blue band the middle half of clean clips. Grey: the same numbers "
            "of random weights, and hatched of shuffled layers and of random singular vectors, where these null "
            "models were measured. The dotted line under κ: 95 % of random directions of this dimension align "
            "less (exact). σ ξ_F on the dashed line means that the bulk neither grows "
            "nor decays; ρ below its dashed line is what the paper's rule calls decay.",
            lambda narrow, m=model, s=state: figures.layer_profiles(run.layers, run.nulls, m, s, narrow=narrow),
        )
    for state in states:
        easel.add(
            "depth",
            f"context-{state}-{slug}",
            f"{model}: spectra of the context Jacobian along depth, {state} state",
            "Solid clean, dashed stressed, the same clips; thick is s₁. A rank-1 collapse would pull s₁ away from "
            "the rest and lift the share of the first direction above the dashed line.",
            lambda narrow, m=model, s=state: figures.context_spectra(run.layers, run.nulls, m, s, narrow=narrow),
        )
    decoder = [state for state in states if state not in ENCODER_STATES]
    easel.add(
        "depth",
        f"arrival-{slug}",
        f"{model}: what each layer's injection is worth at the output",
        "Left is the first layer, right the last. A line falling to the right means that early injections arrive "
        "larger (growth, g > 0); rising means that they decay. The middle panels divide by the injection's own "
        "size: what is left is the propagators' doing. Scale-free: propagators divided by the growth of the "
        "residual stream.",
        lambda narrow, m=model, s=decoder: figures.arrival(run.layers, m, s, narrow=narrow),
    )


def _hypotheses(easel: _Easel, analysis: Analysis, model: str) -> None:
    if analysis.block_summary is None:
        return
    summary = analysis.block_summary
    easel.add(
        "hypotheses",
        f"hypotheses-{_slug(model)}",
        f"{model}: were the hypotheses met, and what is the certificate worth?",
        "Medians over clips. Left: the theorem needs the hollow marks (ξ) near 0 and the filled ones (κ) above "
        "the dashed line. Middle: its error term, which should lie below the dashed line. Right: on the dashed "
        "line the certificate would equal the measured norm; the dotted line is what σ and ‖B‖ alone give, so "
        "that only the distance between both is owed to gap and alignment. Grey: blocks of more than half the "
        "layers, where little is left to predict.",
        lambda narrow, m=model, s=summary: figures.hypotheses_by_block(s, m, narrow=narrow),
    )


def _subspaces(easel: _Easel, analysis: Analysis) -> None:
    if analysis.subspace_summary is None:
        return
    overlaps, models = analysis.subspace_summary, analysis.tables.models
    easel.add(
        "hypotheses",
        "subspaces",
        "How much of its leading directions a layer hands to the next",
        "Where ξ is near 1, one direction is an arbitrary choice and κ says little; the r leading ones together "
        "say more. 1 would be a space handed on whole. The grey lines are what two random spaces share; the dashed "
        "one is the same for spaces that keep their energy by position, which judges in the sequence state.",
        lambda narrow: figures.subspace_overlaps(overlaps, models, narrow=narrow),
    )


def _regimes(easel: _Easel, analysis: Analysis) -> None:
    easel.add(
        "regimes",
        "regimes",
        "Observed regimes",
        "Each mark is one transcript. Right of the vertical line early injections arrive larger than late ones; "
        "above the dashed "
        "line J_L is one direction. A bar that crosses the vertical line is undecided.",
        lambda narrow: figures.regime_plane(analysis.comparison, narrow=narrow),
    )
    easel.add(
        "regimes",
        "certificate",
        "How tight the certificate is",
        "On the dashed diagonal the certified bound would equal the measured norm; the distance above it is how much "
        "the bound gives "
        "away. In the position state the chain is approximate, and the bound is not a certificate of the true norm.",
        lambda narrow: figures.certificate_gap(analysis.comparison, narrow=narrow),
    )


def _errors(easel: _Easel, analysis: Analysis) -> None:
    clips = analysis.tables.clips
    if clips["wer"].notna().any():  # without reference transcripts there is nothing to draw
        easel.add(
            "wer",
            "wer",
            "Word error rates",
            "Each mark is a clip, hollow where its audio was cut at the model's window; the black bar is the mean with "
            "its 95 % interval. "
            "Above the dashed line a transcript counts as failed. Where a few lie far above the others the axis ends "
            "below them: triangles at its upper edge stand for these, and a note counts them.",
            lambda narrow: figures.error_rates(analysis.wer, clips, narrow=narrow),
        )


def _paper(easel: _Easel, analysis: Analysis) -> None:
    run = analysis.tables
    for model in run.models:
        slug = _slug(model)
        easel.add(
            "paper",
            f"figure-1-{slug}",
            f"{model}: changes by layer and component (the paper's Figure 1)",
            "Change from clean under each stress with 95 % intervals over clips; an interval across the zero line is "
            "no change seen. With more than four stresses only all of them as one condition, dashed, keep theirs; the "
            "paper's tables have every one.",
            lambda narrow, m=model: figures.changes_by_layer(analysis.pooled, m, narrow=narrow),
        )
        easel.add(
            "paper",
            f"figure-3-{slug}",
            f"{model}: tail eigenvalue ratio (the paper's Figure 3)",
            "Above the dashed line a mode has more energy under stress than clean; bands are 95 % over clips; "
            "with more than four stresses only all of them as one condition, dashed, keep theirs.",
            lambda narrow, m=model: figures.tail_ratios(analysis.pooled, m, narrow=narrow),
        )
    easel.add(
        "paper",
        "figure-2",
        "Final decoder layer, N_eff against α (the paper's Figure 2)",
        "One colour a model; filled clean, hollow stressed. Two separate clouds would be the paper's two clusters; "
        "note that width, depth and "
        "transcript length move both axes too.",
        lambda narrow: figures.clouds(analysis.pooled, final_points(run.activations), run.models, narrow=narrow),
    )


def _training(easel: _Easel) -> None:
    trained = usual_check("C5").details["rows"]
    easel.add(
        "C5",
        "training",
        "Alignment along training, synthetic chains",
        "Lines are medians over seeds, bands the middle half; solid lines are trained on the task, dashed ones, from "
        "the same start, on shuffled labels. Where both rise alike it is training that aligns, not the task. The "
        "dotted line is the mean alignment of random directions.",
        lambda narrow: figures.training_curves(trained, narrow=narrow),
    )


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(compact(svg).encode()).decode()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
