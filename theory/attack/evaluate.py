"""What a found chain does, recomputed in float64 on the host by plain products and the scalar theory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from observables import ChainParameters
from theory.attack.frames import Box, Free, layers, numbers
from theory.attack.objectives import ACROSS, ALONG, injections, second_compound
from theory.attack.spec import AttackSpec
from theory.bounds.certificate import certify
from theory.bounds.cone import certify_cone
from theory.bounds.perturbation import perturbation_error
from theory.bounds.products import log_product_lower, log_product_ratio_upper, log_product_upper
from theory.bounds.rates import first_order_error, max_rate, min_rate
from theory.chains.chain import Chain
from theory.propagation.recurrence import context_jacobians

__all__ = ["Evaluation", "evaluate", "log_norms"]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One chain against what is claimed of it. Logarithms are natural.

    Attributes:
        chain: unbatched, u_l = e_1 in every layer, context dimension 2.
        parameters: its numbers, as prescribed (they hold to rounding).
        quantity: what was measured, in words.
        log_measured: its logarithm; for P2 the growth a layer of the chain whose layers 2..L are repeated for ever.
        log_claimed: logarithm of what the bound allows; NaN where it has no value (T9 below kappa_c).
        log_excess: how far the measured number is on the wrong side of the claim; <= 0 where the claim holds.
        margin: what rounding may have made of log_excess.
        violated: whether log_excess exceeds the margin.
        log_rate: growth of ln ||P_{l:1}|| a layer over the second half of the layers.
        share_of_max_rate: exp(log_rate) over the geometric mean of sigma_l Lambda_max(kappa_l, sup xi) there (T5).
        upper_slack: least of ln bound - ln ||P_{l:1}|| over all l >= 2, bound (T8): below -margin never.
        score: what the search ranks by; log_excess, or the growth itself where nothing is claimed.
    """

    chain: Chain
    parameters: ChainParameters
    quantity: str
    log_measured: float
    log_claimed: float
    log_excess: float
    margin: float
    violated: bool
    log_rate: float
    share_of_max_rate: float
    upper_slack: float
    score: float


_RATES = {
    "T9-product": (min_rate, True, True),
    "product-upper": (max_rate, False, False),
    "product-lower": (min_rate, False, True),
}
"""Products of rates: which rate, whether with the largest gap of all layers, whether a lower bound."""


def evaluate(free: Free, box: Box, spec: AttackSpec) -> Evaluation:
    """Builds the chain of one start and measures it; call under `jax.enable_x64(True)`."""
    chain, parameters = _build(free, box, spec)
    a = np.asarray(chain.propagators)
    norms = log_norms(a)
    quantity, measured, claimed, lower = _compare(spec.bound, a, chain, parameters, norms)
    excess = claimed - measured if lower else measured - claimed
    margin = _margin(spec.bound, a, chain, parameters, norms)
    log_sigma = np.log(parameters.sigma)
    half = spec.depth // 2
    rate = float(norms[-1] - norms[half - 1]) / (spec.depth - half)
    widest = float(np.max(parameters.gap))
    log_max = log_sigma[1:] + np.log(max_rate(parameters.alignment[1:], widest))
    upper = log_sigma[0] + np.concatenate([[0.0], np.cumsum(log_max)])
    return Evaluation(
        chain=chain,
        parameters=parameters,
        quantity=quantity,
        log_measured=measured,
        log_claimed=claimed,
        log_excess=excess,
        margin=margin,
        violated=bool(excess > margin),
        log_rate=rate,
        share_of_max_rate=math.exp(rate - float(np.mean(log_max[half - 1 :]))),
        upper_slack=float(np.min((upper - norms)[1:])),
        score=-measured if spec.bound == "decay" else excess,
    )


def log_norms(propagators: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln ||P_{l:1}|| for every l, shape (L,), with a running scale; -inf from where the product is 0."""
    out = np.full(len(propagators), -np.inf)
    product, log_scale = np.eye(propagators.shape[-1]), 0.0
    for layer, a in enumerate(propagators):
        product = a @ product
        size = float(np.linalg.norm(product, 2))
        if size == 0.0:
            break
        product, log_scale = product / size, log_scale + math.log(size)
        out[layer] = log_scale
    return out


def _margin(
    bound: str, a: NDArray[np.float64], chain: Chain, parameters: ChainParameters, norms: NDArray[np.float64]
) -> float:
    """What rounding may have made of the logarithm of the measured number and of the bound.

    Layer l errs by 4 d eps ||A_l||: its own numbers hold to rounding, and so does its product with what came before.
    The layers behind it carry that to the end: sum_l ||P_{L:l+1}|| ||A_l|| ||P_{l-1:1}||, over what is measured. The
    scalar recursions err by a few eps a layer.
    """
    eps = float(np.finfo(np.float64).eps)
    log_size = np.log(parameters.sigma)
    behind = np.concatenate([log_norms(np.swapaxes(a[:0:-1], -1, -2))[::-1], [0.0]])
    if bound in ("T15", "T16", "T27"):
        jacobians = context_jacobians(chain).log_norm()
        before = np.logaddexp(np.concatenate([[-np.inf], jacobians[:-1]]) + log_size, math.log(ALONG + ACROSS))
        whole = float(jacobians[-1])
    else:
        before = np.concatenate([[0.0], norms[:-1]]) + log_size
        whole = float(norms[-1])
        if bound in ("P1", "T12"):
            whole = math.log(_path_error(a, parameters)) + log_size[0] + float(np.sum(np.log(parameters.gain[1:])))
    carried = float(np.exp(np.logaddexp.reduce(behind + before) - whole))
    powers = {"T10": 4}.get(bound, 1)  # sigma_1 sigma_2 / sigma_1^2: four singular values
    return eps * (4 * a.shape[-1] * powers * carried + 8 * len(a))


@partial(jax.jit, static_argnames=("bound", "depth"))
def _made(free: Free, box: Box, bound: str, depth: int) -> tuple[Any, ...]:
    chain = numbers(free, box, bound, depth)
    v, lower = layers(free, chain)
    return chain.alignment, chain.misalignment, chain.gap, chain.sigma, v, lower, injections(free, bound)


def _build(free: Free, box: Box, spec: AttackSpec) -> tuple[Chain, ChainParameters]:
    made = _made(free, box, spec.bound, spec.depth)
    kappa, s, xi, sigma, v, lower, b = (np.array(x) for x in made)
    u = np.zeros_like(v)
    u[:, 0] = 1.0
    residual = np.zeros((*v.shape, v.shape[-1]))
    residual[:, 1:, :] = sigma[:, None, None] * lower
    kappa[0] = s[0] = np.nan
    parameters = ChainParameters(
        sigma=sigma,
        gap=xi,
        alignment=kappa,
        injection_along=np.full(spec.depth, ALONG),
        injection_across=np.full(spec.depth, ACROSS),
        injection_coherent=np.full(spec.depth, ALONG) if spec.bound in ("T16", "T27") else None,
        misalignment=s,
    )
    return Chain(sigma=sigma, u=u, v=v, residual=residual, injection=b), parameters


def _compare(
    bound: str, a: NDArray[np.float64], chain: Chain, parameters: ChainParameters, norms: NDArray[np.float64]
) -> tuple[str, float, float, bool]:
    """What is measured, ln of it, ln of what is claimed, and whether the claim is a lower bound."""
    product = float(norms[-1])
    if bound in ("growth", "T8"):
        return "||P_{L:1}||", product, log_product_upper(parameters), False
    if bound in ("decay", "T9"):
        return "||P_{L:1}||", product, log_product_lower(parameters), True
    if bound in _RATES:
        rate, widest, lower = _RATES[bound]
        gap = float(np.max(parameters.gap)) if widest else parameters.gap[1:]
        claimed = float(np.sum(np.log(parameters.sigma)) + np.sum(np.log(rate(parameters.alignment[1:], gap))))
        return "||P_{L:1}||", product, claimed, lower
    if bound == "P2":
        return "growth a layer of layers 2..L repeated for ever", _periodic_growth(a[1:]), 0.0, False
    if bound == "T10":
        pair = float(log_norms(np.asarray(second_compound(a)))[-1])
        return "sigma_2 / sigma_1 of P_{L:1}", pair - 2 * product, log_product_ratio_upper(parameters), False
    if bound in ("P1", "T12"):
        kappa, xi = parameters.alignment, parameters.gap
        if bound == "P1":
            claimed = float(first_order_error(len(xi), float(np.min(kappa[1:])), float(np.max(xi))))
        else:
            claimed = float(perturbation_error(kappa, xi, parameters.misalignment))
        return "||P - P*|| / ||P*||", math.log(_path_error(a, parameters)), math.log(claimed), False
    jacobian = context_jacobians(chain).dense()[-1]
    if bound == "T27":
        norm = math.log(float(np.linalg.norm(jacobian, 2)))
        return "||J_L||", norm, certify_cone(parameters).log_norm_lower, True
    certificate = certify(parameters)
    if bound == "T16":
        measured = math.log(float(np.linalg.norm(jacobian[:, 0])))
        claimed = certificate.log_coherent_lower
        return "||J_L w||", measured, -math.inf if claimed is None or math.isnan(claimed) else claimed, True
    return "||J_L||", math.log(float(np.linalg.norm(jacobian, 2))), certificate.log_norm_upper, False


def _periodic_growth(a: NDArray[np.float64]) -> float:
    """ln of the spectral radius of A_L ... A_2, a layer.

    u_l = e_1 in every layer, so that the alignment of a layer is the same whatever layer comes before it: repeated, the
    layers form a chain of any depth with the same numbers, whose products grow at this rate for ever.
    """
    norms = log_norms(a)
    product = np.eye(a.shape[-1])
    for matrix, before, after in zip(a, [0.0, *norms[:-1]], norms, strict=True):
        product = matrix @ product * math.exp(before - after)
    radius = float(np.max(np.abs(np.linalg.eigvals(product))))
    return (math.log(radius) + float(norms[-1])) / len(a) if radius > 0 else -math.inf


def _path_error(a: NDArray[np.float64], parameters: ChainParameters) -> float:
    """||P - P*|| / ||P*||; u_l = e_1 and v_1 = e_1, so that P* / ||P*|| = e_1 e_1^T."""
    product = a[0] / parameters.sigma[0]
    for matrix, gain in zip(a[1:], parameters.gain[1:], strict=True):
        product = matrix @ product / gain
    product[0, 0] -= 1.0
    return float(np.linalg.norm(product, 2))
