"""What the measuring code asks of a linearised chain, whichever half of a Whisper it is of.

    h_l = F_l(h_{l-1}, c),   A_l = dF_l/dh_{l-1},   B_l = dF_l/dc,   J_l = dh_l/dc = A_l J_{l-1} + B_l,   J_0 = 0   (T2)

| chain | h_l | its P positions | context c | injects |
|---|---|---|---|---|
| `DecoderChain` | decoder's residual stream, T x d | tokens | encoder states, S x d | at every layer |
| `EncoderChain` | encoder's residual stream, S x d | frames | log-mel, mels x 2S | at layer 1 |

A state is all positions (`position=None`, P d numbers, (T2) exact) or one of them (d numbers, the others held fixed in
the propagators, hence an approximation; rows of the context Jacobian are exact all the same).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from empirical.jacobians.operators import LinearOperator


class Chain(Protocol):
    """A chain linearised at one input.

    Attributes:
        hidden: h_0 .. h_L, each (P, d).
        depth, width: L and d.
        positions: P.
        context_size: numbers in the context.
        dtype, device: of the products.
        products: layer-level Jacobian products spent so far; one direction through one layer is one.
    """

    hidden: list[Tensor]
    depth: int
    width: int
    positions: int
    context_size: int
    dtype: torch.dtype
    device: torch.device
    products: int

    def rows(self, position: int | None) -> slice:
        """The positions of a state: one of them, or all (None). ValueError if there is no such position."""
        ...

    def state_size(self, rows: slice) -> int:
        """Dimension of the state on these positions: R d."""
        ...

    def injects(self, layer: int) -> bool:
        """Whether B_l can differ from 0: a layer that never sees the context has nothing to iterate on."""
        ...

    def propagator(self, layer: int, position: int | None = None) -> LinearOperator:
        """A_l, R d x R d."""
        ...

    def injection(self, layer: int, position: int | None = None) -> LinearOperator:
        """B_l, R d x context_size."""
        ...

    def arrival(self, layer: int) -> LinearOperator:
        """P_{L:l+1} B_l of all positions, P d x context_size."""
        ...

    def context_jacobian(self, layer: int, position: int | None = None) -> LinearOperator:
        """J_l, R d x context_size, exact for one position too."""
        ...

    def position_chain(self, layer: int, position: int) -> LinearOperator:
        """J_l by (T2) on the A_k, B_k of one position alone, d x context_size."""
        ...

    def position_blocks(self, layer: int, position: int) -> tuple[Tensor, Tensor]:
        """(A_l, B_l B_l^T) of one position, both (d, d) float64."""
        ...

    def block_propagator(self, first: int, last: int, position: int | None = None) -> LinearOperator:
        """A_last ... A_first, R d x R d (T17)."""
        ...

    def block_injection(self, first: int, last: int, position: int | None = None) -> LinearOperator:
        """sum over k in [first, last] of P_{last:k+1} B_k, R d x context_size (T17)."""
        ...

    def autograd_pull(self, layer: int, cotangent: Tensor) -> Tensor:
        """J_l^T g, (context_size,), of all positions, by autograd of the model itself: the products' witness."""
        ...
