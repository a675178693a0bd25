"""One clip's chain, measured: propagators, injections, arrivals and the context Jacobian at every depth."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import ContextMeasurement, measure_context
from empirical.jacobians.positional import positional_fields
from empirical.jacobians.propagators import LayerMeasurement, measure_position_layers, measure_sequence_layers
from empirical.recognition.transcribe import encoder_states as encode_features

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from empirical.checkpoints.checkpoint import Checkpoint
    from empirical.jacobians.protocol import Chain

State = Literal["position", "sequence", "frame", "frames"]
STATES: tuple[State, ...] = ("position", "sequence", "frame", "frames")
"""The decoder's last position (d numbers, its chain an approximation), all its positions (T d, exact), one frame of the
encoder (d, an approximation) and all its frames (S d, exact). The context is the encoder states for the first two, the
log-mel features for the others."""

DECODER_STATES: tuple[State, ...] = ("position", "sequence")
ENCODER_STATES: tuple[State, ...] = ("frame", "frames")
WHOLE_STATES: tuple[State, ...] = ("sequence", "frames")

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
    """Everything measured of one chain in one state.

    Attributes:
        state: of `STATES`; of one position it is an approximation, which `chain_error` sizes.
        tokens: decoder input ids; of an encoder state those that the clip is measured along otherwise.
        width, dtype: d and the products' dtype.
        positions: of the state: 1, T or S.
        position: which one it is, from 0; None for all of them.
        layers: one entry a layer.
        contexts: one entry a layer, None where J_l was not asked for.
        hidden_rms: r.m.s. over the state's positions of ||h_l||, l = 0..L.
        products: layer-level Jacobian products in all.
        seconds: wall time.
    """

    state: State
    tokens: tuple[int, ...]
    width: int
    dtype: str
    positions: int
    position: int | None
    layers: list[LayerMeasurement]
    contexts: list[ContextMeasurement | None]
    hidden_rms: list[float]
    products: int
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """One dict a layer, plain Python values, in the columns of the layers table.

        `products` is the layer's own share: its depth's context Jacobian plus an equal part of the propagators' work;
        `seconds` an equal part of the whole.
        """
        depth = len(self.layers)
        positional = positional_fields(self.layers, self.width)
        shared = self.products - sum(context.products for context in self.contexts if context is not None)
        return [
            {
                "state": self.state,
                "layer": index + 1,
                "layers": depth,
                "d_model": self.width,
                "tokens": list(self.tokens),
                "n_tokens": len(self.tokens),
                "positions": self.positions,
                "position": self.position,
                "dtype": self.dtype,
                **{name: getattr(layer, name) for name in _LAYER_FIELDS},
                **positional[index],
                **_context_fields(context),
                "hidden_rms_before": self.hidden_rms[index],
                "hidden_rms": self.hidden_rms[index + 1],
                "products": (0 if context is None else context.products) + shared // depth,
                "seconds": self.seconds / depth,
            }
            for index, (layer, context) in enumerate(zip(self.layers, self.contexts, strict=True))
        ]


def _context_fields(context: ContextMeasurement | None) -> dict[str, Any]:
    if context is None:
        unknown = ("context_frobenius", "context_frobenius_se", "context_share", "context_share_se")
        unknown += ("context_effective_rank", "chain_error")
        return {"context_s": [], "residual": [], "converged": [], "block": 0, "refusals": 0} | dict.fromkeys(
            unknown, math.nan
        )
    triplets = context.triplets
    share, share_se = triplets.share
    return {
        "context_s": triplets.s.tolist(),
        "residual": triplets.residual.tolist(),
        "converged": triplets.converged.tolist(),
        "context_frobenius": triplets.frobenius,
        "context_frobenius_se": triplets.frobenius_se,
        "context_share": share,
        "context_share_se": share_se,
        "context_effective_rank": triplets.effective_rank,
        "block": triplets.block,
        "refusals": triplets.refusals,
        "chain_error": context.chain_error,
    }


def measure_linearised(
    chain: Chain,
    state: State,
    k: int = 8,
    *,
    tokens: Sequence[int] = (),
    position: int | None = None,
    depths: Collection[int] | None = None,
    injections: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> ChainMeasurement:
    """Measure a chain that is there already.

    Args:
        chain: the decoder's for "position" and "sequence", the encoder's for "frame" and "frames".
        state: of `STATES`.
        k: leading singular values of each J_l.
        tokens: what the records say the clip is measured along.
        position: of a state of one position; by default the decoder's last, the encoder's middle one.
        depths: layers l whose J_l is measured, 1 <= l <= L; by default all. None of them is cheapest: `()`.
        injections: False leaves out injections and arrivals, which are then NaN.
        seed: of the Krylov starts and probes.
        memory_bytes: most that the vectors of one J_l may take; by default most of what the machine has left.

    Raises:
        ValueError: if an argument is out of range, k larger than the operator included.
        NonFiniteError: if anything measured is not finite.
        OutOfMemoryError: if there is no memory for one direction at a time.
    """
    if state not in STATES:
        raise ValueError(f"state must be one of {STATES}; got {state!r}")
    began, before = time.perf_counter(), chain.products
    if state in WHOLE_STATES:
        position = None
    elif position is None:
        position = chain.positions // 2 if state in ENCODER_STATES else -1
    rows = chain.rows(position)
    largest = min(chain.state_size(rows), chain.context_size)
    if not 1 <= k <= largest:
        raise ValueError(f"k must lie in [1, {largest}] for the {state} state of this model; got {k}")
    if position is None:
        layers = measure_sequence_layers(chain, seed=seed, injections=injections)
    else:
        layers = measure_position_layers(chain, position, seed=seed, injections=injections)
    wanted = range(1, chain.depth + 1) if depths is None else sorted(set(depths))
    if any(not 1 <= depth <= chain.depth for depth in wanted):
        raise ValueError(f"depths must lie in [1, {chain.depth}]; got {list(wanted)}")
    contexts: dict[int, ContextMeasurement] = {}
    if wanted:
        chosen: dict[str, Any] = {} if depths is None else {"depths": list(wanted)}
        found = measure_context(chain, k, position, seed=seed, memory_bytes=memory_bytes, **chosen)
        contexts = dict(zip(wanted, found, strict=True))
    norms = [float(torch.linalg.vector_norm(h[rows].double(), dim=1).square().mean().sqrt()) for h in chain.hidden]
    return ChainMeasurement(
        state=state,
        tokens=tuple(int(token) for token in tokens),
        width=chain.width,
        dtype=str(chain.dtype).removeprefix("torch."),
        positions=chain.positions if position is None else 1,
        position=None if position is None else rows.start,
        layers=layers,
        contexts=[contexts.get(layer) for layer in range(1, chain.depth + 1)],
        hidden_rms=norms,
        products=chain.products - before,
        seconds=time.perf_counter() - began,
    )


def measure_decoder(
    model: WhisperForConditionalGeneration,
    encoder_states: Tensor,
    tokens: Sequence[int],
    state: State = "position",
    k: int = 8,
    *,
    depths: Collection[int] | None = None,
    injections: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> ChainMeasurement:
    """Measure a decoder along one transcript.

    Args:
        model: `WhisperForConditionalGeneration`, eval mode, float32 or float64.
        encoder_states: E, (S, d) or (1, S, d).
        tokens: decoder input ids, prompt included.
        state: "position", the last position, or "sequence".
        k, depths, injections, seed, memory_bytes: as of `measure_linearised`.

    Raises:
        ValueError: if an argument is out of range, k larger than the operator included.
        NonFiniteError: if anything measured is not finite.
        LinearisationError: if the chain does not reproduce the model.
    """
    if state not in DECODER_STATES:
        raise ValueError(f"state must be one of {DECODER_STATES}, a decoder's; got {state!r}")
    chain = DecoderChain(model, encoder_states, tokens)
    return measure_linearised(
        chain, state, k, tokens=tokens, depths=depths, injections=injections, seed=seed, memory_bytes=memory_bytes
    )


def measure_encoder(
    model: WhisperForConditionalGeneration,
    features: Tensor,
    state: State = "frame",
    k: int = 8,
    *,
    frame: int | None = None,
    tokens: Sequence[int] = (),
    depths: Collection[int] | None = None,
    injections: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> ChainMeasurement:
    """Measure an encoder on one clip's log-mel features.

    Args:
        model: `WhisperForConditionalGeneration`, eval mode, float32 or float64.
        features: log-mel, (1, mels, frames), as `encode` gives them.
        state: "frame" or "frames".
        frame: the encoder position of state "frame"; by default the middle one of the window.
        k, tokens, depths, injections, seed, memory_bytes: as of `measure_linearised`.

    Raises: as `measure_decoder`.
    """
    if state not in ENCODER_STATES:
        raise ValueError(f"state must be one of {ENCODER_STATES}, an encoder's; got {state!r}")
    from empirical.jacobians.encoder_chain import EncoderChain

    chain = EncoderChain(model, features)
    return measure_linearised(
        chain,
        state,
        k,
        tokens=tokens,
        position=frame,
        depths=depths,
        injections=injections,
        seed=seed,
        memory_bytes=memory_bytes,
    )


def measure_chain(
    checkpoint: Checkpoint,
    features: Tensor,
    tokens: Sequence[int],
    state: State = "position",
    k: int = 8,
    *,
    frame: int | None = None,
    depths: Collection[int] | None = None,
    injections: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> ChainMeasurement:
    """A checkpoint measured on log-mel features, (1, mels, frames), as `encode` gives them, in any state."""
    if state in ENCODER_STATES:
        return measure_encoder(
            checkpoint.model,
            features,
            state,
            k,
            frame=frame,
            tokens=tokens,
            depths=depths,
            injections=injections,
            seed=seed,
            memory_bytes=memory_bytes,
        )
    states = encode_features(checkpoint, features)
    return measure_decoder(
        checkpoint.model,
        states,
        tokens,
        state,
        k,
        depths=depths,
        injections=injections,
        seed=seed,
        memory_bytes=memory_bytes,
    )
