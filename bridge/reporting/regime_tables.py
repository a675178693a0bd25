"""Tables of the report about regimes: predicted against observed, the certificate, and what thresholds do."""

from __future__ import annotations

from bridge.comparison import regimes
from bridge.comparison.analysis import Analysis
from bridge.comparison.compare import PREDICTOR_TITLES, PREDICTORS
from bridge.reporting.wording import NOTHING, Table, number, with_interval


def agreement(analysis: Analysis, predictor: str) -> Table:
    """Predicted (rows) against observed (columns), counts over clips and conditions, by model and state."""
    columns = [*regimes.REGIMES, regimes.UNDECIDED]
    rows = []
    counts = analysis.agreement[analysis.agreement["predictor"] == predictor]
    for (model, state, predicted), part in counts.groupby(["model", "state", "predicted"], sort=False):
        by_observed = part.groupby("observed")["count"].sum()
        agree, disagree = int(part["agree"].sum()), int(part["disagree"].sum())
        rows.append(
            [str(model), str(state), str(predicted)]
            + [str(int(by_observed.get(name, 0)) or NOTHING) for name in columns]
            + [f"{agree} of {agree + disagree}" if agree + disagree else NOTHING]
        )
    return Table(
        f"Predicted by the {PREDICTOR_TITLES[predictor]} (rows) against observed (columns).",
        ["model", "state", "predicted", *columns, "agree, of decided"],
        rows,
        [False] * 3 + [True] * 6,
    )


def agreement_by_condition(analysis: Analysis) -> Table:
    """Agreeing, of decided, by model, state and condition, all predictors."""
    rows = []
    for (model, state, condition), part in analysis.comparison.groupby(["model", "state", "condition"], sort=False):
        cells = [str(model), str(state), str(condition), str(len(part))]
        observed = part["observed"].value_counts()
        cells.append(", ".join(f"{name} {count}" for name, count in observed.items()))
        free = part["observed_scale_free"].value_counts()
        cells.append(", ".join(f"{name} {count}" for name, count in free.items()))
        for name in PREDICTORS:
            column = part[f"agrees_{name}"]
            decided = int(column.notna().sum())
            cells.append(f"{int(column.fillna(False).sum())} of {decided}" if decided else NOTHING)
        rows.append(cells)
    return Table(
        "Observed regimes by condition, as measured and scale-free (O8), and how many predictions agree, of those "
        "decided.",
        ["model", "state", "condition", "n", "observed", "scale-free"]
        + [PREDICTOR_TITLES[name] for name in PREDICTORS],
        rows,
        [False] * 3 + [True, False, False] + [True] * 3,
    )


def clip_regimes(analysis: Analysis) -> Table:
    """Every clip: predicted and observed regime with margins."""
    rows = [
        [
            row.model,
            row.state,
            row.condition,
            row.clip,
            f"{row.predicted_paper} ({number(row.predicted_paper_margin, 2)})",
            f"{row.predicted_certificate} ({number(row.predicted_certificate_margin, 2)})",
            f"{row.predicted_mean_field} ({number(row.predicted_mean_field_margin, 2)})",
            f"{row.observed} ({number(row.observed_margin, 2)})",
            with_interval(row.growth, row.growth_low, row.growth_high, 2),
            number(row.share, 2),
            number(row.share_null95, 2),
            number(row.norm),
            row.reason or row.prediction_reason or NOTHING,
        ]
        for row in analysis.comparison.itertuples()
    ]
    headers = [
        "model", "state", "condition", "clip", "paper's rule", "certificate", "mean field", "observed",
        "growth g", "share",
        "null 95 %", "‖J_L‖", "why undecided",
    ]  # fmt: skip
    return Table(
        "Each clip; margins in brackets, in log units (negative: inside the error).",
        headers,
        rows,
        [False] * 8 + [True] * 4,
    )


def certificate(analysis: Analysis) -> Table:
    """How vacuous the certificate is."""
    rows = [
        [
            row.model,
            row.state,
            row.condition,
            str(row.n),
            number(row.norm),
            number(row.upper_over_norm),
            f"{row.lower_positive} of {row.n}",
            str(row.violations) if row.state == "sequence" else f"{row.violations} (chain approximate)",
            number(row.chain_error, 2),
        ]
        for row in analysis.tightness.itertuples()
    ]
    headers = [
        "model", "state", "condition", "n", "‖J_L‖, median", "upper bound / ‖J_L‖", "lower bound > 0", "norms outside",
        "chain error",
    ]  # fmt: skip
    return Table(
        "The certificate's interval (T15) against the measured norm; a factor of 1 would be tight. What blocks of "
        "several layers and the other certificates give stands under “Are the theorem's hypotheses met?”.",
        headers,
        rows,
        [False] * 3 + [True] * 6,
    )


def sensitivity(analysis: Analysis) -> Table:
    """Observed regimes with each threshold halved and doubled."""
    names = [*regimes.REGIMES, regimes.UNDECIDED]
    rows = [
        [row["model"], row["state"], row["threshold"], *(str(row[name]) for name in names)]
        for row in analysis.sensitivity.to_dict("records")
    ]
    return Table(
        "How the observed regimes move when each threshold of (O7) is halved or doubled.",
        ["model", "state", "threshold", *names],
        rows,
        [False] * 3 + [True] * 5,
    )
