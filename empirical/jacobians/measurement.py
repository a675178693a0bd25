"""One clip's chain, measured: propagators, injections, arrivals and the context Jacobian at every depth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import ContextMeasurement, measure_context
from empirical.jacobians.propagators import LayerMeasurement, measure_position_layers, measure_sequence_layers
from empirical.recognition.transcribe import encoder_states as encode_features

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from empirical.checkpoints.checkpoint import Checkpoint

State = Literal["position", "sequence"]
STATES: tuple[State, ...] = ("position", "sequence")

_LAYER_FIELDS = (
    "sigma",
    "gap",
    "bulk_gap",
    "bulk_gap_se",
    "alignment",
    "misalignment",
    "gain",
    "injection_along",
    "injection_across",
    "injection_norm",
    "injection_converged",
    "propagator_residual",
    "propagator_converged",
    "arrival",
    "arrival_converged",
)


@dataclass(frozen=True, slots=True, eq=False)
class ChainMeasurement:
    """Everything measured of one transcript in one state.

    Attributes:
        state: "position" (the last one, d x d, an approximation that `chain_error` sizes) or "sequence" (exact).
        tokens: decoder input ids.
        width, dtype: d and the products' dtype.
        layers, contexts: one entry a layer.
        hidden_rms: r.m.s. over the state's positions of ||h_l||, l = 0..L.
        products: layer-level Jacobian products in all.
        seconds: wall time.
    """

    state: State
    tokens: tuple[int, ...]
    width: int
    dtype: str
    layers: list[LayerMeasurement]
    contexts: list[ContextMeasurement]
    hidden_rms: list[float]
    products: int
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """One dict a layer, plain Python values, in the columns of the layers table.

        `products` is the layer's own share: its depth's context Jacobian plus an equal part of the propagators' work;
        `seconds` an equal part of the whole.
        """
        depth = len(self.layers)
        shared = self.products - sum(context.products for context in self.contexts)
        rows = []
        for index, (layer, context) in enumerate(zip(self.layers, self.contexts, strict=True)):
            triplets = context.triplets
            share, share_se = triplets.share
            rows.append(
                {
                    "state": self.state,
                    "layer": index + 1,
                    "layers": depth,
                    "d_model": self.width,
                    "tokens": list(self.tokens),
                    "n_tokens": len(self.tokens),
                    "dtype": self.dtype,
                    **{name: getattr(layer, name) for name in _LAYER_FIELDS},
                    "context_s": triplets.s.tolist(),
                    "residual": triplets.residual.tolist(),
                    "converged": triplets.converged.tolist(),
                    "context_frobenius": triplets.frobenius,
                    "context_frobenius_se": triplets.frobenius_se,
                    "context_share": share,
                    "context_share_se": share_se,
                    "context_effective_rank": triplets.effective_rank,
                    "chain_error": context.chain_error,
                    "hidden_rms_before": self.hidden_rms[index],
                    "hidden_rms": self.hidden_rms[index + 1],
                    "products": context.products + shared // depth,
                    "seconds": self.seconds / depth,
                }
            )
        return rows


def measure_decoder(
    model: WhisperForConditionalGeneration,
    encoder_states: Tensor,
    tokens: Sequence[int],
    state: State = "position",
    k: int = 8,
    *,
    seed: int = 0,
) -> ChainMeasurement:
    """Measure a decoder along one transcript.

    Args:
        model: `WhisperForConditionalGeneration`, eval mode, float32 or float64.
        encoder_states: E, (S, d) or (1, S, d).
        tokens: decoder input ids, prompt included.
        state: "position", the last position, or "sequence".
        k: leading singular values of each J_l.
        seed: of the Krylov starts and probes.

    Raises:
        ValueError: if an argument is out of range, k larger than the operator included.
        NonFiniteError: if anything measured is not finite.
        LinearisationError: if the chain does not reproduce the model.
    """
    if state not in STATES:
        raise ValueError(f"state must be one of {STATES}; got {state!r}")
    began = time.perf_counter()
    chain = DecoderChain(model, encoder_states, tokens)
    position = -1 if state == "position" else None
    largest = chain.state_size(chain.rows(position))
    if not 1 <= k <= min(largest, chain.frames * chain.width):
        raise ValueError(f"k must lie in [1, {largest}] for the {state} state of this model; got {k}")
    layers = measure_sequence_layers(chain, seed=seed) if position is None else measure_position_layers(chain, position)
    contexts = measure_context(chain, k, position, seed=seed)
    rows = chain.rows(position)
    norms = [float(torch.linalg.vector_norm(h[rows].double(), dim=1).square().mean().sqrt()) for h in chain.hidden]
    return ChainMeasurement(
        state=state,
        tokens=tuple(int(token) for token in tokens),
        width=chain.width,
        dtype=str(chain.dtype).removeprefix("torch."),
        layers=layers,
        contexts=contexts,
        hidden_rms=norms,
        products=chain.products,
        seconds=time.perf_counter() - began,
    )


def measure_chain(
    checkpoint: Checkpoint,
    features: Tensor,
    tokens: Sequence[int],
    state: State = "position",
    k: int = 8,
    *,
    seed: int = 0,
) -> ChainMeasurement:
    """`measure_decoder` on a checkpoint's model and log-mel features, (1, mels, frames), as `encode` gives them."""
    return measure_decoder(checkpoint.model, encode_features(checkpoint, features), tokens, state, k, seed=seed)
