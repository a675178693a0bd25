"""One self-contained report.html from the records of a run: no network, no script, figures inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from bridge.comparison import paper, tables
from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.compare import PREDICTOR_TITLES, PREDICTORS
from bridge.comparison.conditions import ENCODER_STATES
from bridge.ledger import claims
from bridge.ledger.activation_claims import final_points
from bridge.ledger.theory_claims import usual_check
from bridge.reporting import (
    bookkeeping_tables,
    figures,
    hypothesis_tables,
    layer_tables,
    regime_tables,
    report_tables,
)
from bridge.reporting.figures.activations import COMPONENTS
from bridge.reporting.results import quarantine_counts, strict, write_results
from bridge.reporting.wording import number, symbols, with_interval

_SECTIONS = ("phase", "depth", "hypotheses", "regimes", "wer", "paper")
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure in the report.

    Attributes:
        name: file name without ending.
        title: of the figure.
        how_to_read: one or two sentences under it.
        wide, narrow: data URIs of the two layouts.
    """

    name: str
    title: str
    how_to_read: str
    wide: str
    narrow: str


def write_report(run_dir: str | Path) -> Path:
    """Writes report.html, results.json and figures/*.png, *.svg from the records in a run directory alone.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: if a record is missing.
    """
    root = Path(run_dir)
    analysis = analyse(root)
    ledger = claims(analysis)
    shown = draw(analysis, root / "figures")
    results = write_results(root / "results.json", analysis, ledger)
    text = render(analysis, results, shown)
    path = root / "report.html"
    temporary = path.with_name(".partial-report.html")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def draw(analysis: Analysis, directory: Path) -> dict[str, list[Shown]]:
    """Makes every figure, wide and narrow; writes the wide ones as PNG and SVG. Grouped by section of the report."""
    directory.mkdir(parents=True, exist_ok=True)
    run = analysis.tables
    easel = _Easel(directory)
    if run.sweep is not None:
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
    for model in run.models:
        states = sorted(set(run.layers.loc[run.layers["model"] == model, "state"]))
        slug = _slug(model)
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
        if analysis.block_summary is not None:
            summary = analysis.block_summary
            easel.add(
                "hypotheses",
                f"hypotheses-{slug}",
                f"{model}: were the hypotheses met, and what is the certificate worth?",
                "Medians over clips. Left: the theorem needs the hollow marks (ξ) near 0 and the filled ones (κ) above "
                "the dashed line. Middle: its error term, which should lie below the dashed line. Right: on the dashed "
                "line the certificate would equal the measured norm; the dotted line is what σ and ‖B‖ alone give, so "
                "that only the distance between both is owed to gap and alignment. Grey: blocks of more than half the "
                "layers, where little is left to predict.",
                lambda narrow, m=model, s=summary: figures.hypotheses_by_block(s, m, narrow=narrow),
            )
        easel.add(
            "paper",
            f"figure-1-{slug}",
            f"{model}: changes by layer and component (the paper's Figure 1)",
            "Change from clean under each stress with 95 % intervals over clips; an interval across the zero line is "
            "no change seen.",
            lambda narrow, m=model: figures.changes_by_layer(analysis.pooled, m, narrow=narrow),
        )
        easel.add(
            "paper",
            f"figure-3-{slug}",
            f"{model}: tail eigenvalue ratio (the paper's Figure 3)",
            "Above the dashed line a mode has more energy under stress than clean; bands are 95 % over clips.",
            lambda narrow, m=model: figures.tail_ratios(analysis.pooled, m, narrow=narrow),
        )
    if analysis.subspace_summary is not None:
        overlaps = analysis.subspace_summary
        easel.add(
            "hypotheses",
            "subspaces",
            "How much of its leading directions a layer hands to the next",
            "Where ξ is near 1, one direction is an arbitrary choice and κ says little; the r leading ones together "
            "say more. 1 would be a space handed on whole. The grey lines are what two random spaces share; the dashed "
            "one is the same for spaces that keep their energy by position, which judges in the sequence state.",
            lambda narrow: figures.subspace_overlaps(overlaps, run.models, narrow=narrow),
        )
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
    if run.clips["wer"].notna().any():  # without reference transcripts there is nothing to draw
        easel.add(
            "wer",
            "wer",
            "Word error rates",
            "Each mark is a clip, hollow where its audio was cut at the model's window; the black bar is the mean with "
            "its 95 % interval. "
            "Above the dashed line a transcript counts as failed.",
            lambda narrow: figures.error_rates(analysis.wer, run.clips, narrow=narrow),
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


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def render(analysis: Analysis, results: dict[str, Any], shown: dict[str, list[Shown]]) -> str:
    """The report as HTML text; everything that came from records is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["symbols"] = symbols
    run = analysis.tables
    return environment.get_template("report.html.j2").render(
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        run_name=run.directory.resolve().name,
        headline=results["headline"],
        cards=_cards(analysis, results),
        figures={section: shown.get(section, []) for section in _SECTIONS},
        claim_figures={"C5": shown.get("C5", [])},
        models=report_tables.models(analysis),
        layer_medians=layer_tables.layer_medians(analysis),
        layer_nulls=layer_tables.layer_nulls(analysis),
        profile=hypothesis_tables.profile(analysis),
        split=hypothesis_tables.split(analysis),
        effort=hypothesis_tables.effort(analysis),
        said=hypothesis_tables.sentences(analysis),
        blocks=hypothesis_tables.blocks(analysis),
        subspaces=hypothesis_tables.subspaces(analysis),
        subspaces_by_layer=hypothesis_tables.subspaces_by_layer(analysis),
        agreements=[regime_tables.agreement(analysis, name) for name in PREDICTORS],
        by_condition=regime_tables.agreement_by_condition(analysis),
        clip_regimes=regime_tables.clip_regimes(analysis),
        certificate=regime_tables.certificate(analysis),
        sensitivity=regime_tables.sensitivity(analysis),
        wer=report_tables.wer(analysis),
        paired=report_tables.paired(analysis),
        paper_matched=[report_tables.paper_form(analysis, component, "matched") for component in COMPONENTS],
        paper_uncut=[report_tables.paper_form(analysis, component, "none") for component in COMPONENTS],
        paper_also=paper.ALSO,
        citation=paper.CITATION,
        hallucinated=bookkeeping_tables.sample_rows(tables.failures(run.clips, truncated=False)),
        truncated=bookkeeping_tables.sample_rows(tables.failures(run.clips, truncated=True)),
        ledger=[_claim(line) for line in results["claims"]],
        quarantine=bookkeeping_tables.quarantine(analysis, quarantine_counts(run)),
        failures=run.failures,
        versions=bookkeeping_tables.flat("Versions", _find(run.provenance, "versions"), depth=1),
        machine=bookkeeping_tables.flat("Machine", _find(run.provenance, "machine")),
        settings=bookkeeping_tables.flat("Settings, seeds and hashes", run.settings),
        sessions=bookkeeping_tables.flat("Sessions", {"sessions": _commands(run.provenance)}),
        timings=bookkeeping_tables.timings(analysis),
    )


def _find(provenance: dict[str, Any], key: str) -> dict[str, Any]:
    """A part of the provenance, from the run's own file if there is one, else from the records' metadata."""
    inner = provenance.get("provenance", {})
    found = inner.get(key, provenance.get(key, {}))
    return found if isinstance(found, dict) else {key: found}


def _commands(provenance: dict[str, Any]) -> list[str]:
    sessions = provenance.get("provenance", {}).get("sessions", [])
    return [f"{one.get('started', '')}: {' '.join(one.get('command', []))}" for one in sessions]


def _cards(analysis: Analysis, results: dict[str, Any]) -> list[dict[str, str]]:
    comparison = analysis.comparison
    cards = [
        {
            "value": str(len(comparison)),
            "label": "context Jacobians measured",
            "note": f"{_count(len(analysis.tables.models), 'model')}, "
            f"{_count(comparison['clip'].nunique(), 'clip')}, {_count(comparison['condition'].nunique(), 'condition')}",
        }
    ]
    headline = comparison[analysis.in_headline_state(comparison)]
    states = " and ".join(sorted(set(headline["state"])))
    for name in PREDICTORS:
        column = headline[f"agrees_{name}"]
        decided = int(column.notna().sum())
        cards.append(
            {
                "value": f"{int(column.fillna(False).sum())} / {decided}",
                "label": f"{PREDICTOR_TITLES[name]} agrees",
                "note": f"{states} state, of those decided on both sides; {len(headline) - decided} without an answer"
                + ("; for which reason, see “Decay of what?”" if name == "paper" else ""),
            }
        )
    verdicts = [line["verdict"] for line in results["claims"]]
    counted = [f"{verdicts.count(name)} {name}" for name in ("supported", "refuted", "unresolved") if name in verdicts]
    cards.append(
        {
            "value": f"{len(verdicts) - verdicts.count('not tested')} / {len(verdicts)}",
            "label": "claims tested",
            "note": ", ".join(counted) or "none",
        }
    )
    return cards


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_CLAIM_TEXTS = ("id", "title", "statement", "source", "verdict", "scope", "test", "why", "command", "n")


def _claim(line: dict[str, Any]) -> dict[str, Any]:
    """One line of the ledger as text."""
    low, high = line["interval"] or (None, None)
    return {
        **{key: line[key] for key in _CLAIM_TEXTS},
        "slug": str(line["verdict"]).replace(" ", "-"),
        "effect": with_interval(line["effect"], low, high, signed=False) if line["effect"] is not None else "",
        "least": f"{'above' if line['direction'] == 'greater' else 'below'} {number(line['least_effect'])}",
        "organisms": [
            {
                "model": one["model"],
                "what": one["what"],
                "effect": with_interval(one["effect"], one["interval"][0], one["interval"][1], signed=False),
                "n": str(one["n"]),
                "least": f"{'above' if one['direction'] == 'greater' else 'below'} {number(one['least_effect'])}",
                "side": one["side"],
                "note": one["note"],
            }
            for one in strict(line["organisms"])
        ],
    }
