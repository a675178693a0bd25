"""Random weights at whisper-tiny's dimensions (d 384, 4 layers, 1,500 frames, 24 tokens), beside peers in one run.

Six ratios, each with its limit. The peers are what one would write first: Hugging Face's own eager forward pass, a
loop of backward passes, `jacrev` and an SVD of its matrix. Timings of both sides are interleaved and medians taken.
They are printed and not asserted; values are checked.

1. One JVP, one VJP of J_L in the sequence state, one direction and a block of 12, against a forward pass: at most 1.3.
2. The leading 8 values of J_L (T d x S d), residual 1e-3, in forward-equivalents, the norm's probes not counted: at
   most 120; and the leading 5 in at most 60 products, on an organism.
3. The leading 5 of the context Jacobian at one position against dense jacrev (and an SVD, which is not counted, in the
   peer's favour): at least 20 times faster. A sixth of jacrev's rows is timed, for the whole takes over a minute.
4. The Jacobian of one layer at one position (d x d) against a loop of d VJPs: at least 12 times faster.
5. Capturing activations against the forward pass: at most 1.3.
6. Effective rank, Kirchhoff index and spectral alpha of what was captured, against capturing it: at most 0.1.

And the growth of the leading k of J_L in d, T, L and k: exponents fitted to seconds and to products. A product through
L layers costs O(L (T d^2 + S H T d)), as the forward pass without its keys and values; their number depends on k and on
how fast the spectrum falls.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from empirical.activations import COMPONENTS, capture
from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.krylov import leading_triplets
from empirical.organism import organism_path

TOKENS = 24
ROUNDS = 5


@pytest.fixture(scope="module")
def tiny():
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.set_num_threads(1)
    config = WhisperConfig(
        d_model=384,
        encoder_layers=1,  # its states are drawn here
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config).eval().requires_grad_(False)
        states = torch.randn(config.max_source_positions, config.d_model)
        tokens = torch.randint(0, config.vocab_size, (TOKENS,)).tolist()
    return model, states, tokens, DecoderChain(model, states, tokens)


def interleaved(ours: Callable, peer: Callable, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of both, taken in turns: the machine's load falls on both alike."""
    ours()
    peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for kept, function in zip(times, (ours, peer), strict=True):
            start = time.perf_counter()
            function()
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def forward(model, states, tokens) -> None:
    with torch.no_grad():
        model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=states[None], use_cache=False)


def said(benchmark, name: str, ratio: float, limit: float, unit: str = "") -> None:
    benchmark.extra_info |= {"ratio": round(ratio, 3), "limit": limit}
    print(f"\n{name}: {ratio:.2f}{unit} (limit {limit})")


@pytest.mark.parametrize("directions", [1, 12])
@pytest.mark.parametrize("kind", ["JVP", "VJP"])
def test_a_product_against_a_forward_pass(benchmark, tiny, kind, directions):
    model, states, tokens, chain = tiny
    operator = chain.context_jacobian(chain.depth)
    block = torch.randn(directions, operator.shape[1 if kind == "JVP" else 0]).T
    product = operator.matmat if kind == "JVP" else operator.rmatmat
    ours, peer = interleaved(lambda: product(block), lambda: forward(model, states, tokens))
    benchmark.pedantic(product, args=(block,), rounds=1)
    said(benchmark, f"one {kind} of {directions} / forward pass", ours / directions / peer, 1.3)


def test_top_eight_in_forward_passes(benchmark, tiny):
    model, states, tokens, chain = tiny
    found = []

    def ours() -> None:
        operator = chain.context_jacobian(chain.depth)
        found.append((leading_triplets(operator, 8, tolerance=1e-3, frobenius=False), operator.products))

    seconds, peer = interleaved(ours, lambda: forward(model, states, tokens), rounds=1)
    assert bool(found[-1][0].converged.all())
    benchmark.pedantic(lambda: None, rounds=1)
    said(benchmark, f"tiny, random weights, top 8 of J_L, {found[-1][1]} products", seconds / peer, 120, " forwards")


@pytest.mark.parametrize("name", ["organism-wide", "organism-deep"])
def test_top_of_an_organism_in_forward_passes_and_products(benchmark, name):
    torch.set_num_threads(1)
    model = load_checkpoint(organism_path(name)).model
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(model.config.max_source_positions, model.config.d_model, generator=generator)
    tokens = torch.randint(0, 200, (TOKENS // 2,), generator=generator).tolist()
    chain = DecoderChain(model, states, tokens)

    def ours() -> None:
        found = leading_triplets(chain.context_jacobian(chain.depth), 8, tolerance=1e-3, frobenius=False)
        assert bool(found.converged.all())

    seconds, peer = interleaved(ours, lambda: forward(model, states, tokens))
    operator = chain.context_jacobian(chain.depth)
    found = leading_triplets(operator, 5, tolerance=1e-3, frobenius=False)
    assert bool(found.converged.all())
    reference = leading_triplets(chain.context_jacobian(chain.depth), 5, block=9, tolerance=1e-3, frobenius=False)
    # Values are off by the square of their residual, and by the products' rounding.
    torch.testing.assert_close(found.s, reference.s, rtol=1e-5, atol=0)
    benchmark.pedantic(ours, rounds=1)
    said(benchmark, f"{name}, top 8 of J_L", seconds / peer, 120, " forwards")
    spent = found.products
    print(
        f"{name}, top 5 of J_L: {operator.products} products (limit 60): {spent.iteration} to find them, {spent.guard} "
        f"to look again, {spent.verification} to verify; worst residual {float(found.residual.max()):.1e}; blocks of 9 "
        f"take {reference.products.total}"
    )


def test_context_jacobian_at_one_position_against_jacrev(benchmark, tiny):
    model, states, tokens, chain = tiny
    caught: list[torch.Tensor] = []

    def last_position(e: torch.Tensor) -> torch.Tensor:
        caught.clear()
        model.model.decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=e[None], use_cache=False)
        return (caught[0][0] if isinstance(caught[0], tuple) else caught[0])[0, -1]

    hook = model.model.decoder.layers[-1].register_forward_hook(lambda _m, _i, out: caught.append(out))
    try:
        # All 384 rows at once are 0.9 GB a buffer; a chunk is what fits beside the graph's intermediates.
        start = time.perf_counter()
        rows = torch.func.jacrev(lambda e: last_position(e)[: chain.width // 6], chunk_size=32)(states).flatten(1)
        peer = 6 * (time.perf_counter() - start)
    finally:
        hook.remove()
    operator = chain.context_jacobian(chain.depth, -1)
    torch.testing.assert_close(operator.rmatmat(torch.eye(chain.width, len(rows))).T, rows, rtol=1e-3, atol=1e-6)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = leading_triplets(operator, 5, tolerance=1e-3, frobenius=False)
        times.append(time.perf_counter() - start)
        assert bool(found.converged.all())
    benchmark.pedantic(lambda: None, rounds=1)
    said(benchmark, "jacrev / top 5 at one position", peer / statistics.median(times), 20, "x")


def test_layer_jacobian_against_a_loop_of_vjps(benchmark, tiny):
    model, states, _, chain = tiny
    module, x = model.model.decoder.layers[1], chain.hidden[1]
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)[None, None]
    leaf = x[None, -1:].clone().requires_grad_(True)
    stream = torch.cat([x[None, :-1], leaf], 1)
    out = module(stream, attention_mask=mask, encoder_hidden_states=states[None], use_cache=False)
    row = (out[0] if isinstance(out, tuple) else out)[0, -1]
    operator = chain.propagator(2, -1)
    eye = torch.eye(chain.width)

    def loop() -> torch.Tensor:
        return torch.cat([torch.autograd.grad(row, leaf, g, retain_graph=True)[0].flatten(1) for g in eye])

    def ours() -> torch.Tensor:
        return operator.rmatmat(eye).T

    torch.testing.assert_close(ours(), loop(), rtol=1e-3, atol=1e-5)
    seconds, peer = interleaved(ours, loop)
    benchmark.pedantic(ours, rounds=1)
    said(benchmark, "loop of VJPs / layer Jacobian at one position", peer / seconds, 12, "x")


def test_capture_against_a_forward_pass(benchmark, tiny):
    from empirical.checkpoints.checkpoint import Checkpoint

    model, states, tokens, _ = tiny
    nothing = None  # capture reads the model alone
    checkpoint = Checkpoint(model, nothing, nothing, nothing, "tiny", "", "", 30.0, 480_000, "float32", ())  # type: ignore[arg-type]
    ours, peer = interleaved(
        lambda: capture(checkpoint, states[None], tokens), lambda: forward(model, states, tokens), rounds=11
    )
    assert len(capture(checkpoint, states[None], tokens)) == 4 * len(COMPONENTS)
    benchmark.pedantic(lambda: None, rounds=1)
    said(benchmark, "capture / forward pass", ours / peer, 1.3)


def test_proxies_against_capture(benchmark, tiny):
    import numpy as np

    from empirical.checkpoints.checkpoint import Checkpoint
    from observables import CovarianceSums, effective_rank, kirchhoff_index, spectral_alpha

    model, states, _, _ = tiny
    nothing = None  # capture reads the model alone
    checkpoint = Checkpoint(model, nothing, nothing, nothing, "tiny", "", "", 30.0, 480_000, "float32", ())  # type: ignore[arg-type]
    # Proxies are of a pooled covariance, once for all clips: here of as many as give it K = 50 modes.
    clips = 3
    generator = torch.Generator().manual_seed(1)
    heard = [
        (torch.randn(states.shape, generator=generator)[None], torch.randint(0, 1000, (TOKENS,), generator=generator))
        for _ in range(clips)
    ]

    def captured() -> list[dict]:
        return [capture(checkpoint, states, tokens.tolist()) for states, tokens in heard]

    found = captured()
    rows = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    spectra = {key: np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1] for key, x in rows.items()}

    def proxies() -> list[float]:
        out = []
        for eigenvalues in spectra.values():
            out += [effective_rank(eigenvalues), kirchhoff_index(eigenvalues), spectral_alpha(eigenvalues).slope]
        return out

    assert all(np.isfinite(proxies()))
    ours, peer = interleaved(proxies, captured)
    benchmark.pedantic(proxies, rounds=1)
    said(benchmark, f"three proxies of {len(spectra)} spectra / capture of {clips} clips", ours / peer, 0.1)

    def decomposed() -> None:
        for x in rows.values():
            CovarianceSums.from_rows(x).eigenvalues()

    ours, peer = interleaved(decomposed, captured, rounds=1)
    print(f"the covariances and their eigenvalues, once a condition / capture of {clips} clips: {ours / peer:.2f}")


BASE = {"d": 192, "T": 16, "L": 2, "k": 4}
GRID = {"d": (96, 192, 384), "T": (8, 16, 32, 64), "L": (1, 2, 4), "k": (2, 4, 8)}


def grown(d: int, T: int, L: int, k: int) -> tuple[float, int]:
    """Seconds and products of the leading k of J_L, sequence state, random weights, 750 frames."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=d,
        encoder_layers=1,
        decoder_layers=L,
        encoder_attention_heads=d // 32,
        decoder_attention_heads=d // 32,
        encoder_ffn_dim=d,
        decoder_ffn_dim=4 * d,
        max_source_positions=750,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config).eval().requires_grad_(False)
        chain = DecoderChain(model, torch.randn(750, d), torch.randint(0, 1000, (T,)).tolist())
    times, products = [], 0
    for _ in range(3):
        operator = chain.context_jacobian(L)
        start = time.process_time()
        found = leading_triplets(operator, k, tolerance=1e-3, frobenius=False)
        times.append(time.process_time() - start)
        products = found.products.total
        assert bool(found.converged.all())
    return min(times), products


@pytest.mark.parametrize("name", list(GRID))
def test_growth_of_the_leading_values(benchmark, name):
    torch.set_num_threads(1)
    points = [(value, *grown(**(BASE | {name: value}))) for value in GRID[name]]
    logs = torch.tensor(points, dtype=torch.float64).log()
    centred = logs - logs.mean(0)
    slopes = (centred[:, :1] * centred[:, 1:]).sum(0) / (centred[:, 0] ** 2).sum()
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info |= {"exponent_seconds": float(slopes[0]), "exponent_products": float(slopes[1])}
    listed = ", ".join(f"{value}: {seconds:.2f} s, {products}" for value, seconds, products in points)
    print(f"\ntop k of J_L: CPU seconds ~ {name}^{slopes[0]:.2f}, products ~ {name}^{slopes[1]:.2f} ({listed})")
