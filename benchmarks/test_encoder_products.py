"""One product with the encoder's J_L, all frames, beside a forward pass and beside autograd of the same encoder.

Peers: `torch.func.jvp` and `torch.autograd.grad` (its graph made anew, as one product needs it), of the same encoder.
Limit: a JVP or VJP of ours takes at most 2 forward passes. All are timed in one run, interleaved, by the CPU time of
the one thread, at an organism's dimensions and at tiny's (random weights), float32.

Cost of ours, S frames: 24 S d^2 + 10 S^2 d operations a layer, against 24 S d^2 + 4 S^2 d of the forward pass: the
derivative of attention has four products where attention has two, and its weights are made again. By that 1.6 forward
passes at tiny's dimensions; 1.2 were measured, since the forward pass spends more of its time outside GEMMs.
"""

import statistics
import time

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from empirical.jacobians.encoder_chain import EncoderChain
from empirical.recognition.forward import WhisperFunction

LIMIT = 2.0
SIZES = {"organism": (128, 2, 4, 400, 9), "tiny": (384, 4, 6, 1500, 3)}


@pytest.mark.parametrize("name", SIZES)
def test_encoder_products_against_forward_passes(benchmark, name):
    torch.set_num_threads(1)
    width, layers, heads, frames, rounds = SIZES[name]
    model, features = random_encoder(width, layers, heads, frames)
    chain, function = EncoderChain(model, features), WhisperFunction(model)
    operator = chain.context_jacobian(layers)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((operator.shape[1], 1), generator=generator)
    y = torch.randn((operator.shape[0], 1), generator=generator)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return function.encode(features[None])

    def jvp_by_func() -> torch.Tensor:
        with torch.no_grad():
            return torch.func.jvp(function.encode, (features[None],), (x.view_as(features)[None],))[1]

    def vjp_by_autograd() -> torch.Tensor:
        return chain.autograd_pull(layers, y[:, 0])

    # Float32 sums over S d terms taken in another order.
    torch.testing.assert_close(operator.rmatmat(y)[:, 0], vjp_by_autograd(), rtol=1e-3, atol=1e-4)
    timed = {
        "forward": forward,
        "JVP": lambda: operator.matmat(x),
        "VJP": lambda: operator.rmatmat(y),
        "torch.func.jvp": jvp_by_func,
        "autograd VJP": vjp_by_autograd,
    }
    times: dict[str, list[float]] = {label: [] for label in timed}
    for _ in range(rounds):
        for label, run in timed.items():
            start = time.process_time()
            run()
            times[label].append(time.process_time() - start)
    passes = {label: statistics.median(t) / statistics.median(times["forward"]) for label, t in times.items()}
    benchmark.extra_info |= {"limit": LIMIT} | {label: round(value, 3) for label, value in passes.items()}
    benchmark.pedantic(timed["VJP"], rounds=rounds, warmup_rounds=1)
    print(f"\n{name}, in forward passes of {statistics.median(times['forward']):.3f} s (limit {LIMIT}): ", end="")
    print(", ".join(f"{label} {value:.2f}" for label, value in passes.items() if label != "forward"))


def random_encoder(
    width: int, layers: int, heads: int, frames: int
) -> tuple[WhisperForConditionalGeneration, torch.Tensor]:
    """A Whisper of these dimensions with transformers' own random weights; drawn log-mel features, (80, 2 frames)."""
    config = WhisperConfig(
        vocab_size=60,
        num_mel_bins=80,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=1,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=frames,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config).eval().requires_grad_(False)
    return model, torch.randn((80, 2 * frames), generator=torch.Generator().manual_seed(0))
