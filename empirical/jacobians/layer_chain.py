"""What both linearised chains share: states by positions, propagators and their products, batches in groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from empirical.errors import MeasuringError
from empirical.jacobians.decompositions import NonFiniteError, require_finite
from empirical.jacobians.operators import LinearOperator
from empirical.jacobians.pieces import ALL
from empirical.recognition.forward import rounding_bound

GROUP_BYTES = 64 * 2**20
GROUP_MOST = 64


class LinearisationError(MeasuringError):
    """The chain does not reproduce the model it was built from: no derivative of it would mean anything."""

    code = "not_linearised"


class _Layer(Protocol):
    def push_stream(self, tangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor: ...

    def pull_stream(self, cotangent: Tensor, rows: slice = ALL, *, local: bool = False) -> Tensor: ...


class LayerChain(ABC):
    """Layers with linearised streams, one after another; `DecoderChain` and `EncoderChain` add the context.

    Attributes:
        hidden: h_0 .. h_L, each (P, d).
        depth, width, positions: L, d, P.
        dtype, device: of the products.
        products: layer-level Jacobian products spent so far, JVP and VJP alike; one direction through one layer is one.
    """

    def __init__(self, hidden: list[Tensor], layers: Sequence[_Layer]) -> None:
        self.hidden = hidden
        self.depth = len(layers)
        self.positions, self.width = hidden[0].shape
        self.dtype, self.device = hidden[0].dtype, hidden[0].device
        self.products = 0
        self._streams = layers

    @property
    @abstractmethod
    def group(self) -> int:
        """Directions taken through the layers at once."""

    def rows(self, position: int | None) -> slice:
        """The positions of a state: one of them, or all (None).

        Raises:
            ValueError: if there is no such position.
        """
        if position is None:
            return ALL
        if not -self.positions <= position < self.positions:
            raise ValueError(f"position must lie in [-{self.positions}, {self.positions}); got {position}")
        position %= self.positions
        return slice(position, position + 1)

    def state_size(self, rows: slice) -> int:
        """Dimension of the state on these positions: R d."""
        return len(range(*rows.indices(self.positions))) * self.width

    def propagator(self, layer: int, position: int | None = None) -> LinearOperator:
        """A_l, 1 <= layer <= L: of one position with all others held fixed (d x d), or of all (P d x P d)."""
        self._exists(layer)
        linear, rows = self._streams[layer - 1], self.rows(position)
        size = self.state_size(rows)

        def push(x: Tensor, out: Tensor) -> None:
            self.products += len(x)
            out.copy_(linear.push_stream(x.reshape(len(x), -1, self.width), rows, local=True).flatten(1))

        def pull(y: Tensor, out: Tensor) -> None:
            self.products += len(y)
            out.copy_(linear.pull_stream(y.reshape(len(y), -1, self.width), rows, local=True).flatten(1))

        return self._operator((size, size), push, pull)

    def block_propagator(self, first: int, last: int, position: int | None = None) -> LinearOperator:
        """A_last ... A_first, of one position with all others held fixed, or of all positions (T17)."""
        self._ordered(first, last)
        operator = self.propagator(first, position)
        for layer in range(first + 1, last + 1):
            operator = self.propagator(layer, position) @ operator
        return operator

    def _operator(
        self,
        shape: tuple[int, int],
        push: Callable[[Tensor, Tensor], None],
        pull: Callable[[Tensor, Tensor], None],
    ) -> LinearOperator:
        """An operator of products that write a group of directions into a buffer."""

        def in_groups(function: Callable[[Tensor, Tensor], None], size: int) -> Callable[[Tensor], Tensor]:
            def run(x: Tensor) -> Tensor:
                out = torch.empty((len(x), size), dtype=self.dtype, device=self.device)
                with torch.no_grad():
                    for start in range(0, len(x), self.group):
                        part = slice(start, start + self.group)
                        function(x[part], out[part])
                return out

            return run

        forward, reverse = in_groups(push, shape[0]), in_groups(pull, shape[1])
        return LinearOperator(shape, forward, reverse, dtype=self.dtype, device=self.device)

    def _ordered(self, first: int, last: int) -> None:
        if not 1 <= first <= last <= self.depth:
            raise ValueError(f"a block must have 1 <= first <= last <= {self.depth}; got {first} and {last}")

    def _exists(self, layer: int) -> None:
        if not 1 <= layer <= self.depth:
            raise ValueError(f"layer must lie in [1, {self.depth}]; got {layer}")


def require_finite_hidden(name: str, module: torch.nn.Module, value: Tensor) -> Tensor:
    """Return a layer's output, or say which of its weights is to blame where it is not finite.

    Raises:
        NonFiniteError: naming the layer, and its first weight that is not finite if there is one.
    """
    try:
        return require_finite(f"the output of {name}", value)
    except NonFiniteError as error:
        for weight, tensor in module.named_parameters():
            if bad := int((~torch.isfinite(tensor)).sum()):
                raise NonFiniteError(
                    f"{name}: {weight} must be finite; got {bad} of {tensor.numel()} values not finite"
                ) from error
        raise


def require_reproduced(part: str, ours: Sequence[Tensor], theirs: Sequence[Tensor], depth: int) -> None:
    """Refuse a chain whose hidden states (P, d) differ from the model's own by more than rounding.

    Raises:
        LinearisationError: naming the first hidden state that differs.
    """
    tolerance = rounding_bound(ours[0].dtype, depth, ours[0].shape[1])
    for layer, (own, model) in enumerate(zip(ours, theirs, strict=True)):
        error = float((own - model).norm() / model.norm())
        if not error <= tolerance:
            raise LinearisationError(
                f"the linearised {part} must reproduce the model's hidden state {layer} to {tolerance:.1e}; "
                f"got a relative difference of {error:.1e}"
            )


def require_differentiable(model: torch.nn.Module, name: str, context: Tensor, weight: Tensor) -> None:
    """Refuse a model or a context of which no derivative can be trusted; `weight` is any of the model's.

    Raises:
        ValueError: if the context is in half precision or not in the model's dtype, or the model is in training mode.
    """
    if context.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"derivatives need float32 or float64; got {context.dtype}")
    if weight.dtype != context.dtype:
        raise ValueError(f"model and {name} must share a dtype; got {weight.dtype} and {context.dtype}")
    if model.training:
        raise ValueError("the model must be in eval mode; got training mode, where dropout makes it random")
