"""Every bound behind one face: what a chain's numbers say under which hypotheses, and how far from the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.bounds._layers import product_layers, wide_layers
from theory.bounds.blocks import certify_blocks
from theory.bounds.certificate import certificate_recursion, certify
from theory.bounds.cone import certify_cone, cone_recursion
from theory.bounds.frames import FRAMES, FrameChoice, certify_frames
from theory.bounds.growth import log_product_growth
from theory.bounds.hypotheses import BoundResult, Hypothesis, at_least, below
from theory.bounds.perturbation import log_perturbation_error, log_perturbation_error_by_columns
from theory.bounds.products import (
    cone_margins,
    log_context_norm_bound,
    log_product_lower,
    log_product_lower_closed,
    log_product_lower_uniform,
    log_product_ratio_upper,
    log_product_upper,
    regime_one_rate,
)
from theory.bounds.published import PaperThresholds, published_bounds
from theory.bounds.rates import critical_alignment
from theory.bounds.truth import chain_truth
from theory.chains.chain import Chain

__all__ = ["evaluate_bounds"]

SAME_CHAIN = 1e-5
"""Relative difference of sigma that float32 chains may have from the numbers they were made with."""


def evaluate_bounds(
    parameters: ChainParameters,
    chain: Chain | None = None,
    *,
    thresholds: PaperThresholds | None = None,
    blocks: Iterable[int] | None = None,
    frames: Sequence[FrameChoice] = FRAMES,
    ranks: Sequence[int] = (1, 2, 4, 8),
    direction: NDArray[np.float64] | None = None,
) -> tuple[BoundResult, ...]:
    """All bounds on one chain: (P1)-(P3), (T8)-(T10), (T12), (T13), (T15), (T16), (T27) with (T28), (T31).

    With the chain itself also (T17) at every block size and (T25) for each choice of frames and rank; every result then
    carries its true value. At depth 1000 give a few `blocks` and no `frames`, whose costs grow with the square of it.

    Args:
        parameters: of the chain, as `make_chain` was given or `measure` gave them.
        chain: one dense chain with these parameters. Its own u and v say what lies along and across; parameters
            measured from a layer of gap 1, where they are not determined, may mean others.
        thresholds: of the published statements' "near" and "much less than".
        blocks: block sizes of (T17); by default all of 1..L.
        frames: choices of (T25).
        ranks: r of (T25); those above the chain's dimension are left out.
        direction: unit vector w of context space for the blocks' coherent part, which the parameters' own
            injection_coherent does not tell; without it (T17) takes the injections as not coherent.

    Returns:
        The results, published ones first. A bound whose hypotheses fail is there too, with `failed`; its value is NaN
        or inf where it is not defined.

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if the chain is batched, not finite, or of another depth or sigma than the parameters.
    """
    if chain is not None:
        if chain.depth != parameters.depth:
            raise ValueError(f"chain must have the {parameters.depth} layers of parameters; got {chain.depth}")
        sigma = np.asarray(chain.sigma, dtype=np.float64)
        off = ~np.isclose(sigma, parameters.sigma, rtol=SAME_CHAIN, atol=0.0)
        if sigma.ndim == 1 and off.any():
            layer = int(np.argmax(off))
            raise ValueError(
                f"chain must be the one that parameters describe; got sigma {float(sigma[layer])!r} where they have "
                f"{float(parameters.sigma[layer])!r}, layer {layer + 1}"
            )
    results = [*published_bounds(parameters, thresholds), *_of_products(parameters), *_of_jacobians(parameters)]
    if chain is None:
        return tuple(results)
    truth = chain_truth(chain)
    results += _of_blocks(chain, blocks, direction) + _of_frames(chain, frames, ranks)
    return tuple(
        result.against(truth.values[result.quantity], truth.rounding[result.quantity])
        for result in results
        if result.quantity in truth.values
    )


def _cone(parameters: ChainParameters) -> Hypothesis:
    margins = cone_margins(parameters)
    least = min(margins, default=1.0)
    statement = "each layer maps the cone of the one before into itself"
    if len(margins) < parameters.depth - 1:
        statement += f"; lost in layer {len(margins) + 1}"
    return Hypothesis("inf m > 0", statement, least > 0, least, 0.0, least)


def _of_products(parameters: ChainParameters) -> list[BoundResult]:
    xi = float(np.max(parameters.gap))
    kappa = float(np.min(parameters.alignment[1:])) if parameters.depth > 1 else 1.0
    critical = float(critical_alignment(xi))
    uniform = at_least("inf kappa >= kappa_c(sup xi)", "the slowest chain keeps a cone (T7)", kappa, critical)
    each = at_least("kappa_l >= kappa_c(sup xi)", "every layer keeps one common cone (T7)", kappa, critical)
    cone = _cone(parameters)
    path = at_least("kappa > 0", "every alignment is positive", kappa, 0.0, strict=True)
    product = cone_recursion(product_layers(parameters), coherent=True)
    # 0 / 0 where the product may vanish: a ratio is at most 1
    collapse = product.log_sigma2_upper - product.log_norm_lower if product.log_norm_lower > -math.inf else 0.0
    return [
        BoundResult("T8", "product_norm", "upper", log_product_upper(parameters)),
        BoundResult("T9", "product_norm", "lower", log_product_lower(parameters), (cone,)),
        BoundResult("T9 closed", "product_norm", "lower", log_product_lower_closed(parameters), (each,)),
        BoundResult("T9 uniform", "product_norm", "lower", log_product_lower_uniform(parameters), (uniform,)),
        BoundResult("T10", "product_ratio", "upper", log_product_ratio_upper(parameters), (cone,)),
        BoundResult("T12", "path_error", "upper", log_perturbation_error(parameters), (path,)),
        BoundResult("T31", "path_error", "upper", log_perturbation_error_by_columns(parameters), (path,)),
        BoundResult("T27 product", "product_norm", "lower", product.log_norm_lower),
        BoundResult("T28 product", "product_norm", "upper", log_product_growth(parameters)),
        BoundResult("T27 product", "product_ratio", "upper", min(0.0, collapse)),
    ]


def _of_jacobians(parameters: ChainParameters) -> list[BoundResult]:
    rate = regime_one_rate(parameters)
    regime = below("sup sigma Lambda_max < 1", "Regime I is certified", rate, 1.0)
    plain, cone = certify(parameters), certify_cone(parameters)
    _, q_high, p_low, _ = certificate_recursion(wide_layers(parameters))
    noise = (q_high / p_low).log() if p_low.fraction > 0 else math.inf
    stands = f"w is {cone.direction}, since layer {cone.since}" if cone.since else "no cone stands at the last layer"
    return [
        BoundResult("T13", "context_norm", "upper", log_context_norm_bound(parameters), (regime,)),
        BoundResult("T15", "context_norm", "upper", plain.log_norm_upper),
        BoundResult("T15", "context_norm", "lower", plain.log_norm_lower),
        BoundResult("T15", "context_sigma_2", "upper", plain.log_sigma2_upper),
        BoundResult("T15", "noise_ratio", "upper", noise),
        _coherent(plain.coherent_lower, plain.log_coherent_lower),
        BoundResult("T27", "context_norm", "upper", cone.log_norm_upper, note=stands),
        BoundResult("T27", "context_norm", "lower", cone.log_norm_lower, note=stands),
        BoundResult("T27", "context_sigma_2", "upper", cone.log_sigma2_upper, note=stands),
        BoundResult("T27", "noise_ratio", "upper", cone.log_noise_ratio_upper, note=stands),
    ]


def _coherent(lower: float | None, log_lower: float | None) -> BoundResult:
    statement = "the injections along one direction outweigh what the layers may turn aside"
    if lower is None or log_lower is None:
        unknown = Hypothesis("z > 0", f"{statement}; injection_coherent was not given", None, math.nan, 0.0, math.nan)
        return BoundResult("T16", "context_norm", "lower", math.nan, (unknown,))
    holds = Hypothesis("z > 0", statement, log_lower > -math.inf, lower, 0.0, lower)
    return BoundResult("T16", "context_norm", "lower", log_lower, (holds,))


def _of_blocks(chain: Chain, blocks: Iterable[int] | None, direction: NDArray[np.float64] | None) -> list[BoundResult]:
    results = []
    for row in certify_blocks(chain, blocks=blocks, direction=direction).rows:
        tag = f"T17 m={row.block}"
        note = "" if row.headline else "block > L / 2: nearly J_L itself, predicts nothing"
        results += [
            BoundResult(tag, "context_norm", "upper", row.cone.log_norm_upper, note=note),
            BoundResult(tag, "context_norm", "lower", row.cone.log_norm_lower, note=note),
            BoundResult(tag, "context_sigma_2", "upper", row.cone.log_sigma2_upper, note=note),
        ]
    return results


def _of_frames(chain: Chain, frames: Sequence[FrameChoice], ranks: Sequence[int]) -> list[BoundResult]:
    results = []
    for choice in frames:
        note = "reads J itself, predicts nothing" if choice in ("context", "backward") else ""
        for rank in ranks:
            if rank > chain.dimension:
                continue
            found = certify_frames(chain, choice, rank)
            tag = f"T25 {choice} r={rank}"
            results.append(BoundResult(tag, f"context_sigma_{rank + 1}", "upper", found.log_next_upper, note=note))
            for index in range(rank):
                name = "context_norm" if index == 0 else f"context_sigma_{index + 1}"
                results.append(BoundResult(tag, name, "upper", float(found.log_upper[index]), note=note))
                results.append(BoundResult(tag, name, "lower", float(found.log_lower[index]), note=note))
    return results
