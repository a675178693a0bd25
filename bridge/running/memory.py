"""What a worker's memory will hold at its largest, said before a run starts and called an estimate.

    libraries + 2 weights + encoder + chain + dense + vectors

in the products' numbers of 4 or 8 bytes, but for what is float64 always. Term by term:

libraries: torch, transformers and their working room, measured: 480 MB once imported, 100 to 130 MB more at work.
    The worker that makes the theory's sweep holds JAX besides, 0.3 to 0.5 GB that are not counted here.
weights: once as parameters and once as the file they are read from.
encoder: one layer's attention weights over all S frames, H heads, and its softmax; the states themselves are small.
chain: what the linearised layers keep. Decoder: keys, values and their likes, 4 S d a layer, attention over T tokens,
    2 H T S. Encoder: attention weights, H S^2 a layer, up to 2 GiB; beyond it they are made again at each product.
dense: at one position A and B B^T of every layer and of every block's product, float64; for the sequence the blocks'
    running products while they fit in 512 MiB; of one frame the injection's d rows over the whole log-mel.
vectors: J is R x C, R the state's size and C the context's (S d, or mels x 2 S). The iteration keeps p directions of
    the longer side, p = 8 k + 16 (up to 65 were seen at k = 8, and room is made for 16 at a time), with 6 k more to
    finish; and of the shorter side Q and Z, float64, while each is copied into a longer one. Where the shorter side
    has at most 160 rows and J fits in 256 MiB, it is dense: three matrices of its size.

What is too large for the vectors does not fail: the iteration keeps fewer and the record says how often that was.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.running.inputs import ModelInput

LIBRARIES_BYTES = 600_000_000
KEPT_ATTENTION_BYTES = 2 * 2**30
DENSE_BYTES = 512 * 2**20
DENSE_JACOBIAN_ROWS = 160
DENSE_JACOBIAN_BYTES = 256 * 2**20


def worker_memory_bytes(model: ModelInput, tokens: int, state: str, *, k: int, dtype: str) -> int:
    """Largest resident memory of a worker that measures one task, bytes.

    Args:
        model: its dimensions.
        tokens: T, decoder input ids.
        state: of `STATES`.
        k: leading singular values of each Jacobian.
        dtype: "float32" or "float64".
    """
    number = 8 if dtype == "float64" else 4
    d, frames, heads = model.d_model, model.positions, model.heads
    encoder = state in ("frame", "frames")
    depth = model.encoder_layers if encoder else model.decoder_layers
    context = model.mels * 2 * frames if encoder else frames * d
    rows = d * {"position": 1, "frame": 1, "sequence": tokens, "frames": frames}[state]
    attention = heads * frames**2
    if encoder:
        kept = min(KEPT_ATTENTION_BYTES, depth * attention * number) + 12 * depth * frames * d * number
    else:
        kept = depth * (4 * frames * d + 2 * heads * tokens * frames) * number
    dense = {
        "position": 32 * depth * d * d,
        "frame": 32 * depth * d * d + 2 * d * context * number,
        "sequence": min(DENSE_BYTES, 8 * depth * (tokens * d) ** 2),
        "frames": 0,
    }[state]
    vectors = _vector_bytes(*sorted((rows, context)), k=k, number=number)
    return LIBRARIES_BYTES + (2 * model.parameters + 2 * attention) * number + kept + dense + vectors


def listening_memory_bytes(model: ModelInput, tokens: Sequence[int], *, batch: int, dtype: str) -> int:
    """Largest resident memory of a worker that hears a shard, bytes.

    The attention weights of one encoder layer over a batch, twice with their softmax; keys and values of the decoder
    over it; and the activations of the whole shard, as the model gave them and once more while they are written.

    Args:
        model: its dimensions.
        tokens: of each sample of the shard.
        batch: samples that are heard at once.
        dtype: "float32" or "float64".
    """
    number = 8 if dtype == "float64" else 4
    attention = batch * model.heads * model.positions**2
    keys = batch * 2 * model.decoder_layers * model.positions * model.d_model
    logits = batch * max(tokens, default=0) * model.vocabulary
    vectors = 2 * 12 * model.decoder_layers * sum(tokens) * model.d_model
    return LIBRARIES_BYTES + (2 * model.parameters + 3 * attention + keys + logits) * number + vectors


def _vector_bytes(short: int, long: int, *, k: int, number: int) -> int:
    """What the iteration of the context Jacobian keeps, or its dense matrix; an entry takes `number` bytes."""
    if short <= DENSE_JACOBIAN_ROWS and short * long * number <= DENSE_JACOBIAN_BYTES:
        return 3 * short * long * number
    directions = min(8 * k + 16, short)
    return (directions + 6 * k) * long * number + 24 * directions * short
