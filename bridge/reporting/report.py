"""One self-contained report.html from the records of a run: no network, no script, figures inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bridge.comparison import paper, tables
from bridge.comparison.analysis import Analysis, analyse
from bridge.comparison.compare import PREDICTOR_TITLES, PREDICTORS
from bridge.comparison.conditions import CLEAN
from bridge.comparison.pooled import Progress
from bridge.ledger import claims
from bridge.reporting import (
    bookkeeping_tables,
    detector_tables,
    hypothesis_tables,
    label_tables,
    layer_tables,
    paper_tables,
    regime_tables,
    report_tables,
    stress_tables,
)
from bridge.reporting.drawing import draw
from bridge.reporting.figures.drawing import Shown
from bridge.reporting.results import quarantine_counts, strict, write_results
from bridge.reporting.wording import capped, header_width, number, symbols, with_interval
from observables.thresholds import FAILED_WER

_SECTIONS = ("phase", "depth", "hypotheses", "regimes", "wer", "failures", "detectors", "paper")
TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS = 400
"""Of a table with a row for every clip; the records have all."""
MOST_SAMPLES = 60
"""Failed transcripts that are printed; the records have all."""


def write_report(run_dir: str | Path, *, progress: Progress | None = None) -> Path:
    """Writes report.html, results.json and figures/*.png, *.svg from the records in a run directory alone.

    Args:
        run_dir: the run.
        progress: as of `analyse`.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: if a record is missing.
    """
    root = Path(run_dir)
    analysis = analyse(root, progress=progress)
    ledger = claims(analysis)
    shown = draw(analysis, root / "figures")
    results = write_results(root / "results.json", analysis, ledger)
    text = render(analysis, results, shown)
    path = root / "report.html"
    temporary = path.with_name(".partial-report.html")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


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
    environment.filters["header_width"] = header_width
    run = analysis.tables
    told = _told(analysis)
    whole, cut = (tables.failures(run.clips, truncated=truncated) for truncated in (False, True))
    return environment.get_template("report.html.j2").render(
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        run_name=run.directory.resolve().name,
        measured=analysis.measured,
        headline=results["headline"],
        cards=_cards(analysis, results),
        figures={section: shown.get(section, []) for section in _SECTIONS},
        claim_figures={"C5": shown.get("C5", [])},
        models=report_tables.models(analysis),
        **(_of_jacobians(analysis) if analysis.measured else {}),
        stressed=stress_tables.stressed(analysis),
        wer=report_tables.wer(analysis),
        ladder=paper_tables.severity_steps(analysis),
        told=told,
        has_told={name: bool(shown.get(name)) or any(map(bool, one.values())) for name, one in told.items()},
        paper_sections=paper_tables.paper_sections(analysis),
        together=paper_tables.together_explained(analysis),
        paper_also=paper.ALSO,
        citation=paper.CITATION,
        failed={"whole": len(whole), "cut": len(cut)},
        hallucinated=bookkeeping_tables.sample_rows(bookkeeping_tables.picked(whole, MOST_SAMPLES)),
        truncated=bookkeeping_tables.sample_rows(bookkeeping_tables.picked(cut, MOST_SAMPLES)),
        ledger=[_claim(line) for line in results["claims"]],
        limit_of_labels=stress_tables.limit_of_labels(analysis),
        quarantine=bookkeeping_tables.quarantine(analysis, quarantine_counts(run)),
        failures=run.failures,
        versions=bookkeeping_tables.flat("Versions", _find(run.provenance, "versions"), depth=1),
        machine=bookkeeping_tables.flat("Machine", _find(run.provenance, "machine")),
        settings=bookkeeping_tables.flat("Settings, seeds and hashes", run.settings),
        sessions=bookkeeping_tables.flat("Sessions", {"sessions": _commands(run.provenance)}),
        timings=bookkeeping_tables.timings(analysis),
    )


def _told(analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Of the sections on labels and on detectors: sentences, open tables and folded ones; none without labels."""
    return {
        section: {"sentences": made.sentences(analysis), "shown": made.shown(analysis), "folded": made.folded(analysis)}
        for section, made in (("failures", label_tables), ("detectors", detector_tables))
    }


def _of_jacobians(analysis: Analysis) -> dict[str, Any]:
    """What the sections on layers, hypotheses and regimes show."""
    return {
        "layer_medians": layer_tables.layer_medians(analysis),
        "layer_nulls": layer_tables.layer_nulls(analysis),
        "profile": hypothesis_tables.profile(analysis),
        "split": hypothesis_tables.split(analysis),
        "effort": hypothesis_tables.effort(analysis),
        "said": hypothesis_tables.sentences(analysis),
        "blocks": hypothesis_tables.blocks(analysis),
        "subspaces": hypothesis_tables.subspaces(analysis),
        "subspaces_by_layer": hypothesis_tables.subspaces_by_layer(analysis),
        "agreements": [regime_tables.agreement(analysis, name) for name in PREDICTORS],
        "by_condition": regime_tables.agreement_by_condition(analysis),
        "clip_regimes": capped(regime_tables.clip_regimes(analysis), MOST_ROWS, "results.json"),
        "certificate": regime_tables.certificate(analysis),
        "sensitivity": regime_tables.sensitivity(analysis),
        "paired": report_tables.paired(analysis),
    }


def _find(provenance: dict[str, Any], key: str) -> dict[str, Any]:
    """A part of the provenance, from the run's own file if there is one, else from the records' metadata."""
    inner = provenance.get("provenance", {})
    found = inner.get(key, provenance.get(key, {}))
    return found if isinstance(found, dict) else {key: found}


def _commands(provenance: dict[str, Any]) -> list[str]:
    sessions = provenance.get("provenance", {}).get("sessions", [])
    return [f"{one.get('started', '')}: {' '.join(one.get('command', []))}" for one in sessions]


def _cards(analysis: Analysis, results: dict[str, Any]) -> list[dict[str, str]]:
    cards = _regime_cards(analysis) if analysis.measured else _listening_cards(analysis)
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


def _regime_cards(analysis: Analysis) -> list[dict[str, str]]:
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
    return cards


def _listening_cards(analysis: Analysis) -> list[dict[str, str]]:
    clips = analysis.tables.clips
    known = clips[clips["wer"].notna()]
    clean = known["condition"] == CLEAN
    failed = known["wer"] > FAILED_WER
    cut = known["truncated"].astype(bool)
    cards = [
        {
            "value": str(len(clips)),
            "label": "samples heard",
            "note": f"{_count(len(analysis.tables.models), 'model')}, {_count(clips['clip'].nunique(), 'clip')}, "
            f"{_count(clips['condition'].nunique(), 'condition')}",
        }
    ]
    for label, rows in (("clean", clean), ("stressed", ~clean)):
        here = rows & ~cut
        cards.append(
            {
                "value": f"{int((failed & here).sum())} / {int(here.sum())}",
                "label": f"{label} transcripts failed",
                "note": f"WER above {FAILED_WER:g}, audio not cut; {int((rows & cut).sum())} were cut",
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
