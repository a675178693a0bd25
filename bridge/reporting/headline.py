"""The report's opening: what was measured, what agrees and what does not, in plain sentences made from the records."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from bridge.comparison.analysis import Analysis
from bridge.comparison.compare import PINNED_LOG_CHANGE, PREDICTOR_TITLES, PREDICTORS
from bridge.comparison.conditions import CLEAN, conditions_of
from bridge.comparison.labelling import STRESSED
from bridge.comparison.statistics import bootstrap_mean
from bridge.reporting.condition_wording import defaults, named, numbered
from bridge.reporting.hypothesis_tables import verdict
from bridge.reporting.label_tables import TITLES, cells, records
from bridge.reporting.wording import with_interval
from observables.thresholds import FAILED_WER


def headline(analysis: Analysis, ledger: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Sentences of the opening, each {"topic", "text"}; every number in them comes from the records."""
    parts = [
        ("Measured", _measured(analysis)),
        ("Do the models listen?", _listening(analysis)),
        ("What the failures are", _failures(analysis)),
        ("What the layers are like", _layers(analysis)),
        ("Are the hypotheses met?", verdict(analysis)),
        ("What the context Jacobian does", _observed(analysis)),
        ("Decay of what?", _parts(analysis)),
        ("Predicted against observed", _agreement(analysis)),
        ("The certificate", _certificate(analysis)),
        ("The paper's claims", _claims(ledger)),
    ]
    return [{"topic": topic, "text": text} for topic, text in parts if text]


def _measured(analysis: Analysis) -> str:
    run = analysis.tables
    states = run.layers.drop_duplicates(["model", "clip", "condition", "state"]).groupby("state").size()
    counts = " and ".join(f"{count} in the {state} state" for state, count in states.items())
    jacobians = f"context Jacobians of {counts}" if counts else f"{len(run.clips)} samples heard, no Jacobian measured"
    kind = (
        "None of them counts as a published Whisper checkpoint, so claims about trained large models stay untested."
        if not any(one.family for one in analysis.identities.values())
        else "As published Whisper checkpoints count: "
        + ", ".join(f"{one.model} ({one.family})" for one in analysis.identities.values() if one.family)
        + "."
    )
    return (
        f"{len(run.models)} model{'s' if len(run.models) > 1 else ''} on {run.clips['clip'].nunique()} clips under "
        f"{named(run.clips['condition'])}: "
        f"{jacobians}. {kind}"
    )


def _listening(analysis: Analysis) -> str:
    pieces = []
    for model, rows in analysis.wer.groupby("model", sort=False):
        if not np.isfinite(rows["wer"]).any():
            pieces.append(f"{model}: no reference transcripts")
            continue
        known = rows[rows["wer"].notna()]
        rates = numbered(dict(zip(known["condition"].astype(str), known["wer"].astype(float), strict=True)))
        deaf = rows[(rows["condition"] == CLEAN) & (rows["wer"] > FAILED_WER)]
        remark = " (it does not transcribe these clips even when they are clean)" if len(deaf) else ""
        pieces.append(f"{model}: WER {rates}{remark}")
    return "; ".join(pieces) + "."


def _failures(analysis: Analysis) -> str:
    """Of what the paper's filter keeps of the stressed transcripts, how much each label holds for."""
    pieces = []
    for (model, condition), labels in cells(records(analysis, "composition")).items():
        kept = max((int(one["n"]) + int(one["unknown"]) for one in labels.values()), default=0)
        if condition != STRESSED or not kept:
            continue
        shares = sorted((-float(one["share"]), name) for name, one in labels.items() if one["count"])
        said = ", ".join(f"“{TITLES[name]}” {-share:.0%}" for share, name in shares)
        pieces.append(
            f"{model}: of {kept} stressed transcripts with WER above {FAILED_WER:g}, {said or 'none labelled'}"
        )
    return "; ".join(pieces) + ". Labels overlap." if pieces else ""


def _layers(analysis: Analysis) -> str:
    pieces = []
    layers = analysis.tables.layers
    chosen = layers[(layers["layer"] >= 2) & analysis.in_headline_state(layers)]
    for (model, state), rows in chosen.groupby(["model", "state"], sort=False):
        pinning = rows["sigma"] * rows["bulk_gap"]
        low, high = pinning.quantile(0.05), pinning.quantile(0.95)
        below = float((rows["alignment"] < rows["bulk_gap"]).mean())
        rho = float((rows["gain"] < 1).mean())
        pieces.append(
            f"{model} ({state} state): σ ξ_F between {low:.2f} and {high:.2f} in nine layers of ten (2..L), "
            f"κ below ξ_F in {below:.0%}, ρ below 1 in {rho:.0%}"
        )
    if not pieces:
        return ""
    return (
        "; ".join(pieces)
        + ". Where σ ξ_F is near 1 and κ is below ξ_F the residual stream itself pins the bulk: it neither decays nor "
        "grows, whatever ρ is (T26). The paper's rule reads ρ below 1 as decay (Regime I)."
    )


def _observed(analysis: Analysis) -> str:
    pieces = []
    for state, rows in analysis.comparison.groupby("state"):
        counts = ", ".join(f"{name} {count}" for name, count in Counter(rows["observed"]).most_common())
        differs = int(rows["differs"].sum())
        share = rows["share"].dropna()
        collapse = (
            f"largest share of one direction {share.max():.2f}, median {share.median():.2f}" if len(share) else ""
        )
        pieces.append(
            f"{state} state: {counts} ({collapse}); scale-free the regime differs in {differs} of {len(rows)}"
        )
    return "; ".join(pieces) + "." if pieces else ""


def _parts(analysis: Analysis) -> str:
    """Whether g is made by the propagators or by the injections."""
    pieces, beside, disguised = [], [], []
    for (state, model), rows in analysis.comparison.groupby(["state", "model"], sort=False):
        whole, made, passed = (
            bootstrap_mean(rows[column], list(rows["clip"]), seed=analysis.tables.seed)
            for column in ("growth", "growth_injection", "growth_transmission")
        )
        by_condition = _growth_by_condition(rows, analysis.tables.seed)
        if state != analysis.headline_state(str(model)):
            beside.append(f"{model} ({state} state, n = {whole.n}) {by_condition}")
            continue
        pieces.append(
            f"{model} ({state} state, n = {whole.n} clips): "
            f"g = {with_interval(whole.effect, whole.low, whole.high, 2)} nats a layer, of which "
            f"{with_interval(made.effect, made.low, made.high, 2)} from the injections' own size and "
            f"{with_interval(passed.effect, passed.low, passed.high, 2)} from the propagators; "
            f"by condition: {by_condition}"
        )
        if whole.high < 0 < passed.low:
            disguised.append(str(model))
    if not pieces:
        return ""
    text = ". ".join(pieces) + "."
    if beside:
        text += " Beside it: " + "; ".join(beside) + "."
    if disguised:
        text += (
            f" In {' and '.join(disguised)} early injections arrive smaller because later layers inject more, not "
            "because propagators shrink what passes through them: the decay that the paper's rule foretells is seen, "
            "the mechanism it gives is not. “Pinned” speaks of the propagators, and they alone change what passes by "
            f"less than {PINNED_LOG_CHANGE:g} nats over the whole depth in "
            f"{_pinned(analysis.comparison[analysis.in_headline_state(analysis.comparison)])}."
        )
    return text


def _growth_by_condition(rows: pd.DataFrame, seed: int) -> str:
    parts = []
    for condition in defaults(conditions_of(rows)):
        chosen = rows[rows["condition"] == condition]
        g = bootstrap_mean(chosen["growth"], list(chosen["clip"]), seed=seed)
        parts.append(f"{condition} {with_interval(g.effect, g.low, g.high, 2)}")
    return ", ".join(parts)


def _pinned(comparison: pd.DataFrame) -> str:
    """'61 of 96 measurements of organism-deep; ...': how many transmissions stay within the pinned range."""
    pieces = []
    for model, rows in comparison.groupby("model", sort=False):
        total = (rows["growth_transmission"] * rows["layers"]).abs().dropna()
        pieces.append(f"{int((total < PINNED_LOG_CHANGE).sum())} of {len(total)} measurements of {model}")
    return " and ".join(pieces)


def _agreement(analysis: Analysis) -> str:
    pieces = []
    for state, rows in analysis.comparison.groupby("state", sort=False):
        said = []
        for name in PREDICTORS:
            column = rows[f"agrees_{name}"]
            decided = int(column.notna().sum())
            right = int(column.fillna(False).sum())
            common = Counter(rows[f"predicted_{name}"]).most_common(2)
            mostly = ", ".join(f"“{regime}” {count}" for regime, count in common)
            verdict = f"right in {right} of the {decided} that can be decided" if decided else "nothing to be decided"
            if decided and rows["model"].nunique() > 1:
                each = column.notna().groupby(rows["model"], sort=False).agg(["sum", "size"])
                verdict += (
                    " (" + ", ".join(f"{name}: {one['sum']} of {one['size']}" for name, one in each.iterrows()) + ")"
                )
            said.append(f"the {PREDICTOR_TITLES[name]} says {mostly}; {verdict}")
        pieces.append(f"{state} state: " + "; ".join(said) + ".")
    return " ".join(pieces)


def _certificate(analysis: Analysis) -> str:
    pieces = []
    for state, rows in analysis.tightness.groupby("state"):
        known = rows[rows["n"] > 0]
        if known.empty:
            continue
        factor = float(np.median(known["upper_over_norm"]))
        positive, total = int(known["lower_positive"].sum()), int(known["n"].sum())
        line = f"{state} state: bound over measured norm {factor:.3g} (median), "
        line += f"a positive lower bound in {positive} of {total}"
        if state == "sequence":
            outside = int(known["violations"].sum())
            line += f", {outside} norms outside their interval"
        else:
            line += (
                f", where the chain itself is an approximation with median error {known['chain_error'].median():.2f}"
            )
        pieces.append(line)
    return "; ".join(pieces) + "." if pieces else ""


def _claims(ledger: list[dict[str, Any]]) -> str:
    counts = Counter(str(line["verdict"]) for line in ledger)
    order = ("supported", "refuted", "unresolved", "not tested")
    said = ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
    refuted = [
        f"{line['id']} ({line['title']}{', as stated; see its scope' if line['scope'] else ''})"
        for line in ledger
        if line["verdict"] == "refuted"
    ]
    return f"{said}." + (f" Refuted: {'; '.join(refuted)}." if refuted else "")
