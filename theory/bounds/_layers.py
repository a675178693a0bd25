"""A chain's numbers layer by layer, each with an exponent of its own, as the recursions read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from observables import ChainParameters
from theory.bounds._wide import ONE, ZERO, Wide, wide, wide_sqrt

__all__ = ["WideLayer", "product_layers", "wide_layers"]


@dataclass(frozen=True, slots=True)
class WideLayer:
    """One layer as the certificates read it (T3).

    Attributes:
        sigma, xi, kappa, s: of the propagator; in layer 1, which follows nothing, kappa = 0 and s = 1.
        beta, b: the injection's norms along and across u_l.
        c: u_l^T B_l w for the direction of the coherent injections; 0 where there is none.
        aside: bound on ||(I - u_l u_l^T) B_l w|| for the same w; at most b.
        norm: bound on ||B_l||; None where no better one than hypot(beta, b) is known.
    """

    sigma: Wide
    xi: Wide
    kappa: Wide
    s: Wide
    beta: Wide
    b: Wide
    c: Wide
    aside: Wide
    norm: Wide | None = None

    @property
    def beta_across(self) -> Wide:
        """||u_l^T B_l (I - w w^T)||, from beta and c: sqrt(beta^2 - c^2)."""
        size = Wide(abs(self.c.fraction), self.c.exponent)
        left = self.beta - size
        # c beyond beta can only be rounding of a part that lies along w whole
        return wide_sqrt(left * (self.beta + size)) if left.fraction > 0 else ZERO


def wide_layers(parameters: ChainParameters) -> list[WideLayer]:
    """The layers of a chain; alignment[0] is not read.

    Raises:
        TypeError: if it is no ChainParameters; every certificate begins here.
    """
    if not isinstance(parameters, ChainParameters):
        raise TypeError(f"parameters must be ChainParameters; got {type(parameters).__name__}: see theory.measure")
    across, coherent = parameters.across, parameters.injection_coherent
    sizes = [wide(float(b)) for b in parameters.injection_across]
    return [
        WideLayer(
            sigma=wide(float(parameters.sigma[layer])),
            xi=wide(float(parameters.gap[layer])),
            kappa=wide(float(parameters.alignment[layer])) if layer else ZERO,
            s=wide(float(across[layer])) if layer else ONE,
            beta=wide(float(parameters.injection_along[layer])),
            b=sizes[layer],
            c=ZERO if coherent is None else wide(float(coherent[layer])),
            aside=sizes[layer],
        )
        for layer in range(parameters.depth)
    ]


def product_layers(parameters: ChainParameters) -> list[WideLayer]:
    """The layers of the chain whose J_L is the product P_{L:1}: B_1 = A_1 and no other injection, w = v_1."""
    first, *later = wide_layers(parameters)
    start = replace(first, beta=first.sigma, b=first.sigma * first.xi, c=first.sigma, aside=ZERO, norm=first.sigma)
    return [start, *(replace(layer, beta=ZERO, b=ZERO, c=ZERO, aside=ZERO, norm=ZERO) for layer in later)]
