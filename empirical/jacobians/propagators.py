"""What a layer does to the stream it is given: sigma, gap, bulk gap, alignment, gain; and how its injection lies.

    A_l = sigma_l u_l v_l^T + R_l                                     (T3)
    gap xi_l = sigma_2 / sigma_1,   bulk gap xi_F = ||R_l||_F / (sigma_l sqrt(d' - 1)), d' the state's dimension (T18)
    alignment kappa_l = |<v_l, u_{l-1}>|,   misalignment ||u_{l-1} - <v_l, u_{l-1}> v_l||,   gain = sigma_l kappa_l
    injection norm ||B_l||, along ||u_l^T B_l||, across ||(I - u_l u_l^T) B_l||,   arrival ||P_{L:l+1} B_l||

The norm is measured on its own: hypot(along, across) lies between ||B_l|| and sqrt(2) ||B_l|| and is not it. At l = L
norm and arrival are one number, computed once.

Where the gap is 1, u and v are any vectors of a space of two or more dimensions: sigma is still right, but alignment,
gain and the split of the injection are then of *one* choice. They are kept, since the gap beside them says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from empirical.jacobians.decompositions import gram_singular_values, svd
from empirical.jacobians.krylov import DENSE_ROWS, leading_triplets
from empirical.jacobians.operators import DenseOperator, LinearOperator
from empirical.jacobians.protocol import Chain

# A propagator of at most this size is made dense: its Frobenius norm, hence the bulk gap, is then exact.
_DENSE_BYTES = 64 * 2**20
_WANTED = 3
# Forward and reverse products round differently, by a few eps a layer: 10 eps is the most that was seen, at any width.
_ADJOINT_ROUNDINGS = 100


@dataclass(frozen=True, slots=True, eq=False)
class LayerMeasurement:
    """One layer of the chain. Dimensionless but for the streams' scale; NaN where unconverged or without meaning."""

    sigma: float
    gap: float
    bulk_gap: float
    bulk_gap_se: float
    alignment: float
    misalignment: float
    gain: float
    injection_along: float
    injection_across: float
    injection_norm: float
    injection_converged: bool
    arrival: float
    arrival_converged: bool
    propagator_residual: float
    propagator_converged: bool
    u: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Injection:
    along: float
    across: float
    norm: float
    converged: bool
    arrival: float
    arrival_converged: bool


_UNKNOWN = _Injection(math.nan, math.nan, math.nan, False, math.nan, False)


@dataclass(frozen=True, slots=True, eq=False)
class Dominant:
    """The dominant path of one propagator and what lies beside it; sigma and gap are NaN where unconverged."""

    sigma: float
    gap: float
    bulk_gap: float
    bulk_gap_se: float
    u: Tensor
    v: Tensor
    residual: float
    converged: bool


def measure_position_layers(
    chain: Chain, position: int = -1, *, seed: int = 0, injections: bool = True
) -> list[LayerMeasurement]:
    """Every layer at one position, all other positions held fixed: dense d x d algebra in float64, exact.

    Where d is large and not every layer sees the context, those that do are measured by iteration: the few dozen
    products that the norms of an encoder's B_1 take cost less than the d that its rows do (2.5 s for 14 s at tiny's
    dimensions), to the tolerance of the iteration.

    Args:
        chain: a linearised chain.
        position: which.
        seed: of the Krylov starts, where there are any.
        injections: False leaves out what is said of B_l (NaN): sigma, gap, alignment and gain do without.
    """
    every = range(1, chain.depth + 1)
    if injections and (chain.width <= DENSE_ROWS or all(chain.injects(layer) for layer in every)):
        return _by_blocks([chain.position_blocks(layer, position) for layer in every])
    propagators = [_dense(chain.propagator(layer, position)) for layer in every]
    dominant = [dense_dominant(a) for a in propagators]
    found = [_UNKNOWN] * chain.depth
    if injections:
        onward = torch.eye(chain.width, dtype=torch.float64, device=chain.device)
        for layer in reversed(every):
            found[layer - 1] = _injection(chain, layer, dominant[layer - 1], seed, position, onward)
            onward = onward @ propagators[layer - 1]
    return [_layer(own, before, its) for before, own, its in zip([None, *dominant], dominant, found, strict=False)]


def _by_blocks(blocks: list[tuple[Tensor, Tensor]]) -> list[LayerMeasurement]:
    """Layers of one position from every (A_l, B_l B_l^T)."""
    dominant = [dense_dominant(a) for a, _ in blocks]
    norms = [top_of_gram(gram) for _, gram in blocks]
    arrivals = norms[-1:]
    product = blocks[-1][0]
    for a, gram in reversed(blocks[:-1]):
        arrivals.insert(0, top_of_gram(product @ gram @ product.T))
        product = product @ a
    layers = []
    for index, ((_, gram), own) in enumerate(zip(blocks, dominant, strict=True)):
        along = math.sqrt(max(0.0, float(own.u @ gram @ own.u)))
        across = top_of_gram(project_out(gram, own.u))
        injection = _Injection(along, across, norms[index], True, arrivals[index], True)
        layers.append(_layer(own, dominant[index - 1] if index else None, injection))
    return layers


def measure_sequence_layers(chain: Chain, *, seed: int = 0, injections: bool = True) -> list[LayerMeasurement]:
    """Every layer of the state of all positions, P d x P d, by products; propagators dense where they fit.

    Args:
        chain: a linearised chain.
        seed: of the Krylov starts and probes.
        injections: False leaves out what is said of B_l (NaN): sigma, gap, alignment and gain do without.

    Raises:
        AdjointError: if forward and reverse products of the last propagator do not belong together.
    """
    require_adjoint(f"the propagator of layer {chain.depth}", chain.propagator(chain.depth), chain.depth, seed)
    layers: list[LayerMeasurement] = []
    before: Dominant | None = None
    for layer in range(1, chain.depth + 1):
        own = krylov_dominant(chain.propagator(layer), seed=seed)
        layers.append(_layer(own, before, _injection(chain, layer, own, seed) if injections else _UNKNOWN))
        before = own
    return layers


def require_adjoint(name: str, operator: LinearOperator, depth: int, seed: int = 0) -> None:
    """Two products that say whether a chain's forward and reverse ones, through `depth` layers, belong together.

    Raises:
        AdjointError: if they do not, to rounding.
    """
    operator.require_adjoint(name, _ADJOINT_ROUNDINGS * torch.finfo(operator.dtype).eps * depth**0.5, seed)


def _injection(
    chain: Chain, layer: int, own: Dominant, seed: int, position: int | None = None, onward: Tensor | None = None
) -> _Injection:
    """Norms of B_l, its parts and its arrival, by iteration; 0 without one where the layer never sees the context.

    At one position `onward` is P_{L:l+1} there, (d, d).
    """
    if not chain.injects(layer):
        return _Injection(0.0, 0.0, 0.0, True, 0.0, True)
    operator = chain.injection(layer, position)
    whole = leading_triplets(operator, 1, frobenius=False, seed=seed)
    along = float(torch.linalg.vector_norm(operator.rmatmat(own.u[:, None]).double()))
    across = leading_triplets(operator.deflate(own.u), 1, start=whole.u, frobenius=False, seed=seed)
    arrival = whole
    if layer < chain.depth:
        arriving = chain.arrival(layer) if onward is None else DenseOperator(onward.to(chain.dtype)) @ operator
        arrival = leading_triplets(arriving, 1, frobenius=False, seed=seed)
    return _Injection(
        along=along if own.converged else math.nan,
        across=float(across.s[0]) if own.converged else math.nan,
        norm=float(whole.s[0]),
        converged=own.converged and bool(across.converged[0]) and bool(whole.converged[0]),
        arrival=float(arrival.s[0]),
        arrival_converged=bool(arrival.converged[0]),
    )


def _dense(operator: LinearOperator) -> Tensor:
    return operator.materialise(operator.nbytes).matrix.double()


def dense_dominant(a: Tensor) -> Dominant:
    """Leading triplet, gap and bulk gap of a square float64 matrix, exact."""
    u, s, vh = svd("the propagator", a)
    sigma = float(s[0])
    forward = torch.linalg.vector_norm(a @ vh[0] - sigma * u[:, 0])
    backward = torch.linalg.vector_norm(a.T @ u[:, 0] - sigma * vh[0])
    residual = float(torch.maximum(forward, backward)) / sigma if sigma > 0.0 else 0.0
    rest = float(torch.linalg.vector_norm(s[1:]))
    gap, bulk = _gaps(sigma, float(s[1]) if len(s) > 1 else 0.0, rest, len(s))
    return Dominant(sigma, gap, bulk, 0.0, u[:, 0], vh[0], residual, True)


def krylov_dominant(operator: LinearOperator, *, seed: int = 0) -> Dominant:
    """Leading triplet, gap and bulk gap of a square operator; made dense where it fits, NaN where unconverged."""
    size = operator.shape[0]
    exact = operator.nbytes <= _DENSE_BYTES
    if exact:
        operator = operator.materialise(_DENSE_BYTES)
    found = leading_triplets(operator, min(_WANTED, size), seed=seed, frobenius=not exact)
    norm, se = found.frobenius, found.frobenius_se
    if exact:
        norm, se = float(torch.linalg.vector_norm(operator.materialise().matrix.double())), 0.0
    sigma, second = float(found.s[0]), float(found.s[1]) if size > 1 else 0.0
    rest = math.sqrt(max(0.0, norm**2 - sigma**2)) if math.isfinite(sigma) else math.nan
    gap, bulk = _gaps(sigma, second, rest, size)
    # d rest = (norm / rest) d norm
    bulk_se = bulk * norm * se / rest**2 if se > 0.0 and rest > 0.0 else 0.0
    used = found.converged[: min(2, size)]
    v = found.v[:, 0].double()
    v = v / torch.linalg.vector_norm(v) if float(torch.linalg.vector_norm(v)) > 0.0 else v
    return Dominant(sigma, gap, bulk, bulk_se, found.u[:, 0], v, float(found.residual[:2].max()), bool(used.all()))


def _gaps(sigma: float, second: float, rest: float, size: int) -> tuple[float, float]:
    """(xi, xi_F); both 0 for a zero operator, which has nothing beside its dominant path."""
    if sigma == 0.0:
        return 0.0, 0.0
    bulk = rest / (sigma * math.sqrt(size - 1)) if size > 1 else 0.0
    return min(second / sigma, 1.0) if math.isfinite(second) else math.nan, min(bulk, 1.0)


def _layer(
    own: Dominant,
    before: Dominant | None,
    injection: _Injection,
) -> LayerMeasurement:
    alignment = misalignment = math.nan
    if before is not None and own.converged and before.converged:
        inner = float(own.v @ before.u)
        # |<v, u>| of unit vectors exceeds 1 by rounding; the misalignment is taken from vectors, since
        # sqrt(1 - kappa^2) loses every digit near kappa = 1.
        alignment = min(abs(inner), 1.0)
        misalignment = min(float(torch.linalg.vector_norm(before.u - inner * own.v)), 1.0)
    return LayerMeasurement(
        sigma=own.sigma,
        gap=own.gap,
        bulk_gap=own.bulk_gap,
        bulk_gap_se=own.bulk_gap_se,
        alignment=alignment,
        misalignment=misalignment,
        gain=own.sigma * alignment,
        injection_along=injection.along,
        injection_across=injection.across,
        injection_norm=injection.norm,
        injection_converged=injection.converged,
        arrival=injection.arrival,
        arrival_converged=injection.arrival_converged,
        propagator_residual=own.residual,
        propagator_converged=own.converged,
        u=own.u,
        v=own.v,
    )


def top_of_gram(gram: Tensor) -> float:
    """||M|| from M M^T."""
    return float(gram_singular_values("an injection's Gram matrix", gram)[0])


def project_out(gram: Tensor, u: Tensor) -> Tensor:
    """(I - u u^T) G (I - u u^T)."""
    left = gram - torch.outer(u, u @ gram)
    return left - torch.outer(left @ u, u)
