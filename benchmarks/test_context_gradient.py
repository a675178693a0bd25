"""All rows of the last position's context Jacobian J_L, against autograd replaying the decoder.

The peer is the obvious way: one graph through Hugging Face's own decoder, all d cotangents in one batched backward
pass to the encoder states. Limit: ours takes at most half of that. Both are timed in one run, interleaved, and give
the same rows. Cost of ours: O(d L (T d^2 + S H T d)), S frames, T tokens, H heads; the peer's is
O(d L (T d^2 + S d^2)) and bound by memory traffic of the (d, S, d) buffers.
"""

import statistics
import time

import pytest
import torch

from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.jacobians.chain import DecoderChain
from empirical.organism import organism_path

LIMIT = 0.5
TOKENS = 10
ROUNDS = 5


@pytest.mark.parametrize("name", ["organism-wide", "organism-deep"])
def test_context_rows_against_autograd(benchmark, name):
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(organism_path(name))
    model = checkpoint.model
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(model.config.max_source_positions, model.config.d_model, generator=generator)
    tokens = torch.randint(0, 200, (TOKENS,), generator=generator).tolist()
    width = model.config.d_model
    cotangents = torch.eye(width)

    chain = DecoderChain(model, states, tokens)
    operator = chain.context_jacobian(chain.depth, TOKENS - 1)

    def ours() -> torch.Tensor:
        return operator.rmatmat(cotangents).T

    leaf = states.clone()[None].requires_grad_(True)
    last = {}
    handle = model.model.decoder.layers[-1].register_forward_hook(lambda _m, _i, out: last.update(h=out))
    model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=leaf, use_cache=False)
    handle.remove()
    hidden = last["h"][0] if isinstance(last["h"], tuple) else last["h"]
    row = hidden[0, -1]

    def autograd() -> torch.Tensor:
        (rows,) = torch.autograd.grad(row, leaf, cotangents, retain_graph=True, is_grads_batched=True)
        return rows.flatten(1)

    # Rows of float32 sums over S d terms taken in another order.
    torch.testing.assert_close(ours(), autograd(), rtol=1e-3, atol=1e-4)
    times: dict[str, list[float]] = {"ours": [], "autograd": []}
    for _ in range(ROUNDS):
        for label, function in (("ours", ours), ("autograd", autograd)):
            start = time.perf_counter()
            function()
            times[label].append(time.perf_counter() - start)
    ratio = statistics.median(times["ours"]) / statistics.median(times["autograd"])
    benchmark.extra_info |= {"peer": "torch.autograd, batched", "ratio": round(ratio, 3), "limit": LIMIT}
    benchmark.pedantic(ours, rounds=ROUNDS, warmup_rounds=1)
    print(f"\n{name}: ours / autograd = {ratio:.3f} (limit {LIMIT})")
