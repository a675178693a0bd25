"""C12-C15: what the paper infers of alignment and the context Jacobian; models beside C5. C11: `confidence_claim`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bridge.comparison import statistics
from bridge.comparison.analysis import Analysis
from bridge.comparison.beside import LEVEL, random_directions
from bridge.comparison.conditions import CLEAN
from bridge.ledger.activation_claims import final_points
from bridge.ledger.settling import Reading, Test
from theory.claims.training import LEAST_ALIGNMENT_GAIN
from theory.regimes.thresholds import PAPER_ALIGNMENT

LEAST_CORRELATION = -0.3
COLLAPSED_SHARE = 0.9


def training_alignment(analysis: Analysis) -> list[Reading]:
    """What stands beside C5: alignment of trained models against random weights of the same configuration.

    Two points of a trajectory: they do not say what training did on the way, and never decide.
    """
    readings = []
    nulls = analysis.tables.nulls
    for name, identity in analysis.identities.items():
        trained = _alignment_rows(analysis.tables.layers, name, "position")
        trained = trained[trained["condition"] == CLEAN]
        if nulls is None or nulls.empty or trained.empty:
            continue
        random = _alignment_rows(nulls[nulls["null"] == "random_weights"], name, "position")
        if random.empty:
            continue
        found = statistics.bootstrap_difference(
            trained["alignment"],
            list(trained["clip"]),
            random["alignment"],
            list(random["draw"]),
            seed=analysis.tables.seed,
        )
        readings.append(
            Reading(
                name,
                identity.paper_family,
                "mean alignment, trained minus random weights",
                found,
                LEAST_ALIGNMENT_GAIN,
                "greater",
                f"trained {trained['alignment'].mean():.3f}, random weights {random['alignment'].mean():.3f} "
                f"({random['draw'].nunique()} draws), position state, layers 2..L, clean",
                decides=False,
            )
        )
    return readings


def alignment(analysis: Analysis) -> Test:
    """C12: kappa between consecutive layers, measured."""
    readings = []
    nulls = analysis.tables.nulls
    for name, identity in analysis.identities.items():
        for state in _states(analysis, name):
            rows = _alignment_rows(analysis.tables.layers, name, state)
            found = statistics.bootstrap_mean(rows["alignment"], list(rows["clip"]), seed=analysis.tables.seed)
            note = f"{state} state; clean {rows.loc[rows['condition'] == CLEAN, 'alignment'].mean():.3f}"
            if nulls is not None and not nulls.empty:
                for kind, drawn in nulls.groupby("null"):
                    null = _alignment_rows(drawn, name, state)
                    if not null.empty:
                        note += f"; {str(kind).replace('_', ' ')} {null['alignment'].mean():.3f}"
                        note += f" (95 % quantile {null['alignment'].quantile(0.95):.3f})"
            law = random_directions(rows).median(numeric_only=True)
            note += f"; random directions {law['alignment_directions_mean']:.3f}"
            note += f" (95 % quantile {law['alignment_directions_q95']:.3f}, exact)"
            note += _positions_kept(rows, state)
            readings.append(
                Reading(
                    name,
                    identity.paper_family,
                    "mean alignment of layers 2..L",
                    found,
                    PAPER_ALIGNMENT,
                    "greater",
                    note,
                    decides=state == analysis.headline_state(name),
                )
            )
            readings += _overlaps(analysis, name, identity.paper_family, state)
    return Test(
        "C12",
        "Mean of kappa_l over layers 2..L and all conditions, measured from the propagators' singular vectors, beside "
        "its nulls; bootstrap over clips. Least effect: the alignment from which the paper's "
        "Regime II is read. Beside it, since one vector means little where the gap is near 1: the mean overlap of "
        "the r leading directions (T25), whose least effect is the square of that alignment.",
        ("large",),
        PAPER_ALIGNMENT,
        "greater",
        readings,
    )


def _positions_kept(rows: pd.DataFrame, state: str) -> str:
    """The law that keeps energy by position (T35), which judges in the sequence state; "" at one position, and for old
    records."""
    names = ("alignment_positional_q95", "alignment_positional_chance")
    if state != "sequence" or any(name not in rows for name in names):
        return ""
    known = rows.dropna(subset=list(names))
    if known.empty:
        return ""
    quantile, chance = known[names[0]].median(), known[names[1]]
    beyond = int((chance < 1 - LEVEL).sum())
    return f"; positions kept (95 % quantile {quantile:.3f}), beyond it in {beyond} of {len(known)}"


def _overlaps(analysis: Analysis, model: str, family: str | None, state: str) -> list[Reading]:
    """Leading subspaces of consecutive layers beside chance; they are shown, and decide nothing."""
    table = analysis.tables.subspaces
    if table is None:
        return []
    readings = []
    rows = table[(table["model"] == model) & (table["state"] == state) & table["converged"].astype(bool)]
    for rank, part in rows[rows["rank"] > 1].groupby("rank"):  # r = 1 is kappa^2
        found = statistics.bootstrap_mean(part["overlap"], list(part["clip"]), seed=analysis.tables.seed)
        above = int((part["overlap"] > part["null_overlap_high"]).sum())
        edge = part[["boundary_gap", "boundary_gap_before"]].max(axis=1).median()
        kept = ""
        if state == "sequence" and "kept_overlap" in part and part["kept_overlap"].notna().any():
            beyond = int((part["overlap"] > part["kept_overlap_high"]).sum())
            kept = (
                f"; positions kept {part['kept_overlap'].mean():.3f} (95 % quantile "
                f"{part['kept_overlap_high'].mean():.3f}), exceeded in {beyond} of {len(part)}"
            )
        readings.append(
            Reading(
                model,
                family,
                f"mean overlap of the {rank} leading directions, layers 2..L",
                found,
                PAPER_ALIGNMENT**2,
                "greater",
                f"{state} state; random spaces {part['null_overlap'].mean():.3f} (95 % quantile "
                f"{part['null_overlap_high'].mean():.3f}), exceeded in {above} of {len(part)}{kept}; boundary gap "
                f"{edge:.2f}",
                decides=False,
            )
        )
    return readings


def jacobian(analysis: Analysis) -> Test:
    """C13: growth below 0 in small models, one direction in large ones."""
    readings = []
    for name, identity in analysis.identities.items():
        for state in _states(analysis, name):
            rows = analysis.comparison
            rows = rows[(rows["model"] == name) & (rows["state"] == state)]
            counts = ", ".join(f"{regime} {count}" for regime, count in rows["observed"].value_counts().items())
            chosen = state == analysis.headline_state(name)
            note = f"{state} state; observed: {counts}"
            clips = list(rows["clip"])
            large = identity.paper_family == "large"
            seed = analysis.tables.seed
            growth = statistics.bootstrap_mean(rows["growth"], clips, seed=seed)
            share = statistics.bootstrap_mean(rows["share"], clips, seed=seed)
            family = identity.paper_family
            passed = statistics.bootstrap_mean(rows["growth_transmission"], clips, seed=seed)
            readings += [
                Reading(
                    name,
                    family,
                    "part of g that the propagators make (the rest is the injections' own size, ||B_l||)",
                    passed,
                    0.0,
                    "less",
                    f"{state} state",
                    decides=False,
                ),
                Reading(
                    name, family, "growth g, nats a layer", growth, 0.0, "less", note, decides=chosen and not large
                ),
                Reading(
                    name,
                    family,
                    "share of the first direction of J_L",
                    share,
                    COLLAPSED_SHARE,
                    "greater",
                    note,
                    decides=chosen and large,
                ),
            ]
    return Test(
        "C13",
        "Small models: mean growth g of the arrival below 0 (O7). Large models: mean share of ||J_L||_F^2 in its first "
        "direction above 0.9. All conditions; bootstrap over clips; sequence state where enough clips have it.",
        ("tiny", "small", "large"),
        0.0,
        "less",
        readings,
    )


def proxies(analysis: Analysis) -> Test:
    """C14: N_eff of activations falls where the Jacobian's share rises."""
    readings = []
    for name, identity in analysis.identities.items():
        points = final_points(analysis.tables.activations)
        points = points[points["model"] == name].rename(columns={"n_tokens": "rows"})
        state = analysis.headline_state(name)
        seen = analysis.quantities
        seen = seen[(seen["model"] == name) & (seen["state"] == state)]
        table = points.merge(seen, on=["model", "clip", "condition"])
        clips = list(table["clip"])
        rank, length = table["effective_rank_10"].to_numpy(), table["rows"].to_numpy(dtype=np.float64)
        share = table["share"].to_numpy(dtype=np.float64)
        seed = analysis.tables.seed
        found = statistics.bootstrap_statistic(statistics.partial_spearman, [rank, share, length], clips, seed=seed)
        plain = statistics.spearman(*_finite(rank, share))
        note = f"{state} state, {len(table)} transcripts; without holding the length: {plain:.2f}"
        readings.append(
            Reading(
                name,
                identity.paper_family,
                "rank correlation of N_eff (K = 10) with the share, given the length",
                found,
                LEAST_CORRELATION,
                "less",
                note,
            )
        )
        for column, target, what in (
            ("kirchhoff_10", "log_norm", "rank correlation of log10 K_f with ln ||J_L||, given the length"),
            ("alpha_10", "share", "rank correlation of alpha with the share, given the length"),
        ):
            arrays = [table[column].to_numpy(dtype=np.float64), table[target].to_numpy(dtype=np.float64), length]
            more = statistics.bootstrap_statistic(statistics.partial_spearman, arrays, clips, seed=seed)
            readings.append(
                Reading(name, identity.paper_family, what, more, 0.3, "greater", f"{state} state", decides=False)
            )
    return Test(
        "C14",
        "Spearman correlation over clips and conditions of the final layer's cross-attention N_eff (K = 10) with the "
        "share of the first direction of J_L, the number of tokens held fixed; bootstrap over clips. Tracking would "
        "be strongly negative.",
        ("tiny", "small", "large"),
        LEAST_CORRELATION,
        "less",
        readings,
    )


def onset(analysis: Analysis) -> Test:
    """C15: needs spectra token by token."""
    return Test(
        "C15",
        "Would need alpha of a sliding window of tokens, aligned at the first wrong word, against the same positions "
        "of transcripts that stay right.",
        (),
        0.0,
        "greater",
        (),
        "Spectra are measured over whole transcripts here; none is measured token by token before the failure.",
    )


def _states(analysis: Analysis, model: str) -> list[str]:
    rows = analysis.comparison
    return sorted(set(rows.loc[rows["model"] == model, "state"]))


def _alignment_rows(layers: pd.DataFrame, model: str, state: str) -> pd.DataFrame:
    chosen = (layers["model"] == model) & (layers["state"] == state) & (layers["layer"] >= 2)
    return layers[chosen].dropna(subset=["alignment"])


def _finite(*arrays: np.ndarray) -> list[np.ndarray]:
    keep = np.isfinite(np.stack([np.asarray(array, dtype=np.float64) for array in arrays])).all(axis=0)
    return [np.asarray(array, dtype=np.float64)[keep] for array in arrays]
