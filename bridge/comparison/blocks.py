"""What the certificates say of a measured chain in blocks of m layers, and how vacuous they are (T15, T17, T27).

For each block size the numbers of its blocks, and nothing else, go into `theory.certify` and `theory.certify_cone`;
what comes out is an interval for the norm of the chain's J_L. It is held against that norm as measured: an upper bound
of three times the norm says little, a lower bound of 0 says nothing. Beside it stands the bound that the triangle
inequality gives of sigma_l and ||B_l|| alone: what the certificate is worth is what it gains on that. Blocks of more
than L / 2 layers are listed but never a headline: at m = L the chain is J_L itself and nothing is predicted (T17).

The chain of one position only approximates dh_L/dE, so its certificate holds of the chain, and `exact_over_chain` says
how far the two norms are apart; the chain of the sequence is exact.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import theory
from observables import ChainParameters
from theory.regimes.thresholds import PAPER_ALIGNMENT, PAPER_FIRST_ORDER_ERROR

KEYS = ("model", "clip", "condition", "state", "block")

# What a chain's numbers may be off by, relative: the residual to which a singular value counts as converged.
_TOLERANCE = {"float64": 1e-7, "float32": 1e-2}

_BELOW = 1 - 1e-9  # beyond rounding

_REQUIRED = (
    *KEYS,
    *("index", "blocks", "layers", "dtype", "sigma", "gap", "alignment", "misalignment", "bulk_gap"),
    *("injection_along", "injection_across", "injection_norm", "injection_coherent"),
    *("propagator_converged", "injection_converged"),
    *("context_norm", "context_sigma2", "context_along", "context_across", "context_converged", "exact_norm"),
)


def block_chain(rows: pd.DataFrame) -> ChainParameters:
    """The chain whose layers are the blocks of one size of one model x clip x condition x state.

    Args:
        rows: its blocks, one row each, any order, in the columns of `empirical.block_parameters`.

    Raises:
        ValueError: if a block is missing or repeated, or a number that the theory reads is not converged.
    """
    rows = rows.sort_values("index")
    if list(rows["index"]) != list(range(1, int(rows["blocks"].iloc[0]) + 1)):
        raise ValueError(f"rows must be blocks 1..{int(rows['blocks'].iloc[0])}, once each; got {list(rows['index'])}")
    for column in ("propagator_converged", "injection_converged"):
        held = rows[column].to_numpy(dtype=bool)
        if not held.all():
            raise ValueError(f"{column} must hold in every block; not in {rows['index'].to_numpy()[~held].tolist()}")
    names = ("sigma", "gap", "alignment", "injection_along", "injection_across", "misalignment", "bulk_gap")
    take = {name: rows[name].to_numpy(dtype=np.float64) for name in names}
    coherent = rows["injection_coherent"].to_numpy(dtype=np.float64)
    return ChainParameters(**take, injection_coherent=coherent if np.isfinite(coherent).all() else None)


def certify_measured_blocks(blocks: pd.DataFrame) -> pd.DataFrame:
    """The certificates of every block size beside the measured truth.

    Args:
        blocks: rows of `empirical.block_parameters`.

    Returns:
        One row per model x clip x condition x state x block size. Ratios are of norms, dimensionless:

        * headline: block <= L / 2.
        * gap_smallest, gap_largest, bulk_gap_largest, alignment_smallest, alignment_largest: over blocks l >= 2; NaN
          for one block, which follows nothing.
        * first_order_error: N xi / kappa of (P1) with N the number of blocks, the largest xi and the smallest kappa.
        * gap_small, alignment_near_one: whether that error is below, and the smallest kappa above, the paper's
          thresholds (`theory.PaperThresholds`); missing for one block.
        * critical_alignment: kappa_c of the largest gap (T7); regime: (T14).
        * upper_over_norm, lower_over_norm: (T15), and cone_upper_over_norm, cone_lower_over_norm: (T27) with (T15),
          (T16), (T28); the bounds on ||J_L|| over its measured value. A lower one of 0 says nothing.
        * trivial_over_norm: sum of ||B'_k|| prod_{l>k} sigma_l over the measured value, which needs neither gaps nor
          alignments.
        * coherent_over_norm: z_L of (T16), the better of w and -w, over the measured value; at most 0 it says nothing.
        * sigma2_upper_over_sigma2: the better of both bounds over the measured second singular value.
        * noise_ratio, noise_ratio_upper: measured across over along by u of the last block, and the better bound.
        * cone, cone_direction, cone_since: whether a cone stands at the last block ((T27)'s hypotheses), of which
          direction, and since which block.
        * coherence: share of the along parts' squares that lies in one direction of the context.
        * exact_over_chain: ||dh_L/dE|| over the chain's ||J_L||; 1 for the sequence.
        * violated: the measured norm, or second value, lies outside the interval by more than the products' tolerance.
        * reason: why nothing was certified, "" where it was; all numbers of the certificate are then NaN.

    Raises:
        ValueError: if a column is missing or there are no rows.
    """
    if missing := [name for name in _REQUIRED if name not in blocks]:
        raise ValueError(f"blocks must have the columns of empirical.block_parameters; missing {missing}")
    if blocks.empty:
        raise ValueError("blocks must hold at least one row; got none")
    records = []
    for key, rows in blocks.groupby(list(KEYS), sort=True):
        records.append(dict(zip(KEYS, key, strict=True)) | _one(rows))
    table = pd.DataFrame.from_records(records)
    for name in ("gap_small", "alignment_near_one", "violated"):
        table[name] = table[name].astype("boolean")  # three-valued: no answer is not False
    return table


def summarise_blocks(certified: pd.DataFrame) -> pd.DataFrame:
    """Medians over clips by model, state, condition and block size, with how often the hypotheses were met.

    Args:
        certified: rows of `certify_measured_blocks`.

    Returns:
        One row each: n (clips certified), uncertified, medians of the numbers, the most favourable gap and alignment
        that any block of any clip had, counts of clips with `gap_small`, `alignment_near_one`, both, a cone, a positive
        lower bound, an upper bound below the triangle inequality's, and of violations.
    """
    medians = (
        *("gap_largest", "bulk_gap_largest", "alignment_smallest", "first_order_error", "critical_alignment"),
        *("upper_over_norm", "cone_upper_over_norm", "cone_lower_over_norm", "trivial_over_norm"),
        *("sigma2_upper_over_sigma2", "coherence", "exact_over_chain"),
    )
    records = []
    for key, rows in certified.groupby(["model", "state", "condition", "block"], sort=True):
        known = rows[rows["reason"] == ""]
        met = known["gap_small"].fillna(False) & known["alignment_near_one"].fillna(False)
        records.append(
            dict(zip(("model", "state", "condition", "block"), key, strict=True))
            | {
                "blocks": int(rows["blocks"].iloc[0]),
                "headline": bool(rows["headline"].iloc[0]),
                "n": len(known),
                "uncertified": len(rows) - len(known),
            }
            | {name: float(known[name].median()) if len(known) else math.nan for name in medians}
            | {
                "gap_least": float(known["gap_smallest"].min()) if len(known) else math.nan,
                "alignment_most": float(known["alignment_largest"].max()) if len(known) else math.nan,
                "gap_small": int(known["gap_small"].fillna(False).sum()),
                "alignment_near_one": int(known["alignment_near_one"].fillna(False).sum()),
                "both": int(met.sum()),
                "cone": int(known["cone"].sum()),
                # at most the triangle inequality by construction: below it only where gap and alignment add something
                "below_trivial": int((known["cone_upper_over_norm"] < _BELOW * known["trivial_over_norm"]).sum()),
                "lower_positive": int((known["cone_lower_over_norm"] > 0).sum()),
                "violations": int(known["violated"].fillna(False).sum()),
            }
        )
    return pd.DataFrame.from_records(records)


def headline_blocks(summary: pd.DataFrame) -> pd.DataFrame:
    """By model, state and condition the block size, of those up to L / 2, with the least median upper bound."""
    rows = summary[summary["headline"] & np.isfinite(summary["cone_upper_over_norm"])]
    best = rows.groupby(["model", "state", "condition"])["cone_upper_over_norm"].idxmin()
    return rows.loc[best].reset_index(drop=True)


def describe_blocks(summary: pd.DataFrame) -> list[str]:
    """One sentence by model, state and condition: were the theorem's hypotheses met, and what is the certificate worth.

    Args:
        summary: rows of `summarise_blocks`.
    """
    lines = []
    for key, rows in summary.groupby(["model", "state", "condition"], sort=True):
        name = ", ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
        if not rows["n"].sum():
            lines.append(f"{name}: nothing was certified, so that whether the hypotheses were met is not known.")
            continue
        met = rows[rows["both"] > 0]
        where = "on no clip at any block size that was measured"
        if len(met):
            sizes = met[["block", "both", "n"]].itertuples(index=False)
            where = "; ".join(f"at m = {size} on {both} of {n} clips" for size, both, n in sizes)
        line = (
            f"{name}: xi << 1 (N xi / kappa < {PAPER_FIRST_ORDER_ERROR:g}) and kappa near 1 (> {PAPER_ALIGNMENT:g}) "
            f"were met together {where}; of the blocks after the first the smallest xi is "
            f"{rows['gap_least'].min():.3g}, the largest kappa {rows['alignment_most'].max():.3g}."
        )
        best = headline_blocks(rows)
        if len(best):
            row = best.iloc[0]
            line += (
                f" Up to m = L/2 the certificate is tightest at m = {int(row['block'])}: an upper bound of "
                f"{row['cone_upper_over_norm']:.3g} times the measured norm (median), where the triangle inequality "
                f"gives {row['trivial_over_norm']:.3g} (gap and alignment improve on it on {int(row['below_trivial'])} "
                f"of {int(row['n'])} clips), and a lower bound 0 on {int(row['n'] - row['lower_positive'])} of "
                f"{int(row['n'])} clips."
            )
        lines.append(line)
    return lines


def _one(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.sort_values("index").iloc[0]
    size, layers = int(first["block"]), int(first["layers"])
    # NaN where it did not converge; context_converged also asks for the second value and the parts of other sizes
    norm = float(first["context_norm"])
    record: dict[str, Any] = {
        "blocks": int(first["blocks"]),
        "layers": layers,
        "headline": 2 * size <= layers,
        "norm": norm,
        "exact_over_chain": _ratio(float(first["exact_norm"]), norm),
        **dict.fromkeys(_NUMBERS, math.nan),
        "gap_small": None,
        "alignment_near_one": None,
        "regime": "",
        "cone": False,
        "cone_direction": "none",
        "cone_since": 0,
        "violated": None,
        "reason": "",
    }
    try:
        chain = block_chain(rows)
    except ValueError as error:
        return record | {"reason": str(error)}
    if not norm > 0.0:
        return record | {"reason": "the norm of J_L is 0 or not converged"}
    return record | _hypotheses(chain) | _certified(chain, rows, norm)


def _hypotheses(chain: ChainParameters) -> dict[str, Any]:
    if chain.depth < 2:
        return {}
    gap, kappa = chain.gap[1:], chain.alignment[1:]
    bulk = chain.bulk_gap if chain.bulk_gap is not None else np.full(chain.depth, math.nan)
    error = float(theory.first_order_error(chain.depth, float(kappa.min()), float(gap.max())))
    return {
        "gap_smallest": float(gap.min()),
        "gap_largest": float(gap.max()),
        "bulk_gap_largest": float(bulk[1:].max()),
        "alignment_smallest": float(kappa.min()),
        "alignment_largest": float(kappa.max()),
        "first_order_error": error,
        "gap_small": error < PAPER_FIRST_ORDER_ERROR,
        "alignment_near_one": bool(kappa.min() > PAPER_ALIGNMENT),
        "critical_alignment": float(theory.critical_alignment(float(gap.max()))),
    }


def _certified(chain: ChainParameters, rows: pd.DataFrame, norm: float) -> dict[str, Any]:
    first = rows.sort_values("index").iloc[0]
    sizes = rows.sort_values("index")["injection_norm"].to_numpy(dtype=np.float64)
    certificate, cone = theory.certify(chain), theory.certify_cone(chain, injection_norm=sizes)
    log_norm, second = math.log(norm), float(first["context_sigma2"])
    trivial = 0.0
    for sigma, size in zip(chain.sigma, sizes, strict=True):
        trivial = sigma * trivial + size
    second_upper = min(certificate.log_sigma2_upper, cone.log_sigma2_upper)
    noise = min(_log(certificate.noise_ratio_upper), cone.log_noise_ratio_upper)
    slack = _TOLERANCE[str(first["dtype"])]
    outside = log_norm > cone.log_norm_upper + slack or log_norm < cone.log_norm_lower - slack
    outside = outside or (second > slack * norm and math.log(second) > second_upper + slack)
    c, along = chain.injection_coherent, chain.injection_along
    known = c is not None and bool((along > 0).any())
    coherent = math.nan
    if c is not None:  # (T16) of w and of -w, either of which may be called the direction
        lowers = [theory.certify(replace(chain, injection_coherent=sign * c)).coherent_lower for sign in (1.0, -1.0)]
        coherent = max(lower for lower in lowers if lower is not None)
    return {
        "upper_over_norm": _exp(certificate.log_norm_upper - log_norm),
        "lower_over_norm": _exp(certificate.log_norm_lower - log_norm),
        "cone_upper_over_norm": _exp(cone.log_norm_upper - log_norm),
        "cone_lower_over_norm": _exp(cone.log_norm_lower - log_norm),
        "trivial_over_norm": trivial / norm,
        "coherent_over_norm": coherent / norm,
        "sigma2_upper_over_sigma2": _exp(second_upper - math.log(second)) if second > 0.0 else math.nan,
        "noise_ratio": _ratio(float(first["context_across"]), float(first["context_along"])),
        "noise_ratio_upper": _exp(noise),
        "coherence": float((c**2).sum() / (along**2).sum()) if c is not None and known else math.nan,
        "regime": certificate.regime,
        "cone": cone.direction != "none",
        "cone_direction": cone.direction,
        "cone_since": cone.since,
        "violated": outside,
    }


_NUMBERS = (
    *("gap_smallest", "gap_largest", "bulk_gap_largest", "alignment_smallest", "alignment_largest"),
    *("first_order_error", "critical_alignment", "upper_over_norm", "lower_over_norm"),
    *("cone_upper_over_norm", "cone_lower_over_norm", "trivial_over_norm", "coherent_over_norm"),
    *("sigma2_upper_over_sigma2", "noise_ratio", "noise_ratio_upper", "coherence"),
)


def _ratio(value: float, other: float) -> float:
    return value / other if other > 0.0 else math.nan


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf


def _exp(value: float) -> float:
    """exp, inf beyond float64."""
    return math.exp(value) if value < 709.0 else math.inf
