"""Chains a second: propagation and generation, against the NumPy loop a user would write and against batched torch.

Propagation: from batched chains at L = 32 to J_L (m = 4) and P_{L:1}, each with a running log-scale, and the two top
singular values of either. Everyone is given the same chains; the peers take `chain.propagators`, all layers at once,
and go on from there. Its rate is printed too, and its time is part of theirs, as putting the layers together is part of
ours. The same work on chains of reflections, which have the same law (T24) and no dense layer, is printed beside it,
with no limit. Generation: flat chains with Haar-random isometries and their injections, the dense A_l and B_l out of
the peers, the chains out of ours.

One thread each, float64, one run, interleaved, medians of 5; a ratio is the median of those within one round. Limits:
never below either peer, and at least 5 times the NumPy loop at d = 16. The growth in d, L and batch is printed:
exponents of the time in each, fitted over doublings.

Cost of ours: O(L d^2 (d + m)) a chain for propagation (O(L d^2 m) without the product) and O(L d^3) for generation; for
both O(batch). At small d the exponents lie below, where the cost of a call is shared by more work.
"""

import math
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

import theory
from observables import ChainParameters
from theory.propagation.recurrence import context_jacobians_and_products

DEPTH, CONTEXT, ROUNDS = 32, 4, 5
BATCHES = {16: 512, 64: 32, 256: 4}
LEAST_OVER_PEER = 1.0
LEAST_OVER_LOOP_AT_16 = 5.0


def parameters(depth: int) -> ChainParameters:
    return ChainParameters(
        sigma=np.full(depth, 1.1),
        gap=np.full(depth, 0.5),
        alignment=np.full(depth, 0.8),
        injection_along=np.ones(depth),
        injection_across=np.full(depth, 0.3),
    )


def make(d: int, batch: int, depth: int = DEPTH, seed: int = 0) -> theory.Chain:
    rng = np.random.default_rng(seed)
    return theory.make_chain(parameters(depth), d, rng, context_dimension=CONTEXT, batch=(batch,))


def reflections(d: int, batch: int) -> theory.Chain:
    rng = np.random.default_rng(0)
    chain = theory.flat_chain(DEPTH, d, rng, sigma=1.1, gap=0.5, alignment=0.8, isometry="reflection", batch=(batch,))
    return theory.inject_coherent(chain, rng, along=1.0, across=0.3, context_dimension=CONTEXT)


def propagate(chain: theory.Chain) -> tuple[np.ndarray, np.ndarray]:
    """ln of the two leading singular values of J_L and P_{L:1}."""
    found = context_jacobians_and_products(chain)
    jacobian, product = (np.log(scaled.singular_values()[..., :2]) + scaled.log_scale[..., None] for scaled in found)
    return jacobian, product


def propagate_by_loop(chain: theory.Chain) -> tuple[np.ndarray, np.ndarray]:
    layers, injections = chain.propagators, chain.injections
    both: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for a_chain, b_chain in zip(layers, injections, strict=True):
        product, product_log = np.eye(a_chain.shape[-1]), 0.0
        jacobian, jacobian_log = np.zeros(b_chain.shape[1:]), 0.0
        for a, b in zip(a_chain, b_chain, strict=True):
            product = a @ product
            size = np.linalg.norm(product)
            product, product_log = product / size, product_log + math.log(size)
            jacobian = a @ jacobian + math.exp(-jacobian_log) * b
            size = np.linalg.norm(jacobian)
            jacobian, jacobian_log = jacobian / size, jacobian_log + math.log(size)
        both[0].append(np.log(np.linalg.svd(jacobian, compute_uv=False)[:2]) + jacobian_log)
        both[1].append(np.log(np.linalg.svd(product, compute_uv=False)[:2]) + product_log)
    return np.array(both[0]), np.array(both[1])


def propagate_by_torch(chain: theory.Chain) -> tuple[torch.Tensor, torch.Tensor]:
    layers, injections = torch.from_numpy(chain.propagators), torch.from_numpy(chain.injections)
    n, depth, d = layers.shape[:3]
    product, product_log = torch.eye(d, dtype=layers.dtype).expand(n, d, d), torch.zeros(n, dtype=layers.dtype)
    jacobian, jacobian_log = torch.zeros_like(injections[:, 0]), torch.zeros(n, dtype=layers.dtype)
    for layer in range(depth):
        product = torch.matmul(layers[:, layer], product)
        size = torch.linalg.matrix_norm(product)
        product, product_log = product / size[:, None, None], product_log + size.log()
        scaled = torch.exp(-jacobian_log)[:, None, None] * injections[:, layer]
        jacobian = torch.matmul(layers[:, layer], jacobian) + scaled
        size = torch.linalg.matrix_norm(jacobian)
        jacobian, jacobian_log = jacobian / size[:, None, None], jacobian_log + size.log()
    of_jacobian = torch.linalg.svdvals(jacobian)[:, :2].log() + jacobian_log[:, None]
    return of_jacobian, torch.linalg.svdvals(product)[:, :2].log() + product_log[:, None]


def generate_by_loop(d: int, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The dense layers and injections of flat chains, layer by layer, as they are defined."""
    numbers = parameters(DEPTH)
    layers, injections = np.empty((batch, DEPTH, d, d)), np.empty((batch, DEPTH, d, CONTEXT))

    def unit() -> np.ndarray:
        x = rng.standard_normal(d)
        return x / np.linalg.norm(x)

    def haar(size: int) -> np.ndarray:
        q, r = np.linalg.qr(rng.standard_normal((size, size)))
        return q * np.sign(np.diag(r))

    def complement(axis: np.ndarray) -> np.ndarray:
        normal = axis.copy()
        normal[0] += 1.0 if axis[0] >= 0 else -1.0
        return (np.eye(d) - 2 * np.outer(normal, normal) / (normal @ normal))[:, 1:]

    for n in range(batch):
        before = unit()
        for layer in range(DEPTH):
            kappa = numbers.alignment[layer] if layer else 1.0
            across = unit()
            across -= (across @ before) * before
            across /= np.linalg.norm(across)
            v = kappa * before + math.sqrt(1 - kappa**2) * across
            u = unit()
            base = complement(u)
            residual = base @ haar(d - 1) @ complement(v).T
            layers[n, layer] = numbers.sigma[layer] * (np.outer(u, v) + numbers.gap[layer] * residual)
            frame, _ = np.linalg.qr(base @ rng.standard_normal((d - 1, CONTEXT)))
            injections[n, layer] = numbers.injection_across[layer] * frame
            injections[n, layer, :, 0] += numbers.injection_along[layer] * u
            before = u
    return layers, injections


def generate_by_torch(d: int, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The same chains, every layer of the batch at once."""
    numbers = parameters(DEPTH)
    shape = (batch, DEPTH)

    def normals(*tail: int) -> torch.Tensor:
        return torch.randn(*shape, *tail, dtype=torch.float64, generator=generator)

    def unit(x: torch.Tensor) -> torch.Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    def complement(axis: torch.Tensor) -> torch.Tensor:
        normal = axis.clone()
        normal[..., 0] += torch.where(axis[..., 0] >= 0, 1.0, -1.0)
        square = (normal * normal).sum(-1)[..., None, None]
        return (torch.eye(d, dtype=axis.dtype) - 2 * normal[..., :, None] * normal[..., None, :] / square)[..., 1:]

    u = unit(normals(d))
    before = torch.cat([unit(normals(d))[:, :1], u[:, :-1]], dim=1)
    across = normals(d)
    across = unit(across - (across * before).sum(-1, keepdim=True) * before)
    kappa = torch.as_tensor(np.concatenate([[1.0], numbers.alignment[1:]]))[:, None]
    v = kappa * before + torch.sqrt(1 - kappa**2) * across
    base = complement(u)
    q, r = torch.linalg.qr(normals(d - 1, d - 1))
    turn = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[..., None, :]
    residual = base @ turn @ complement(v).transpose(-1, -2)
    gap, sigma = torch.as_tensor(numbers.gap.copy()), torch.as_tensor(numbers.sigma.copy())
    layers = u[..., :, None] * v[..., None, :] + gap[:, None, None] * residual
    frame, _ = torch.linalg.qr(base @ normals(d - 1, CONTEXT))
    injections = torch.as_tensor(numbers.injection_across.copy())[:, None, None] * frame
    injections[..., 0] += torch.as_tensor(numbers.injection_along.copy())[:, None] * u
    return sigma[:, None, None] * layers, injections


def times(functions: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each in every round, interleaved, after one warm-up."""
    found: dict[str, list[float]] = {label: [] for label in functions}
    for round_ in range(ROUNDS + 1):
        for label, function in functions.items():
            start = time.perf_counter()
            function()
            if round_:
                found[label].append(time.perf_counter() - start)
    return found


def judge(benchmark, what: str, d: int, seconds: dict[str, list[float]]) -> None:
    """Print the rates and hold the ratios to their limits; a ratio is the median of those within one round."""
    rates = {label: BATCHES[d] / statistics.median(found) for label, found in seconds.items()}
    over = {
        peer: statistics.median(theirs / ours for theirs, ours in zip(seconds[peer], seconds["ours"], strict=True))
        for peer in ("numpy loop", "torch")
    }
    least = {"numpy loop": LEAST_OVER_LOOP_AT_16 if d == 16 else LEAST_OVER_PEER, "torch": LEAST_OVER_PEER}
    benchmark.extra_info |= {label: round(rate, 1) for label, rate in rates.items()}
    parts = [
        f"{label} {rate:.1f}" + (f" ({over[label]:.2f}x, limit {least[label]})" if label in over else "")
        for label, rate in rates.items()
    ]
    print(f"\n{what}, d = {d}, L = {DEPTH}, batch {BATCHES[d]}: chains/s {', '.join(parts)}")
    for peer, ratio in over.items():
        assert ratio >= least[peer], f"{what} at d = {d} against {peer}"


@pytest.fixture(autouse=True)
def one_thread():
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # `make bench` sets it. BLAS reads it when it is loaded, so that it is too late to set here.
        pytest.skip("set OMP_NUM_THREADS=1: the comparison is of one thread each")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("d", BATCHES)
def test_propagation(benchmark, d):
    chain = make(d, BATCHES[d])
    functions = {
        "ours": lambda: propagate(chain),
        "numpy loop": lambda: propagate_by_loop(chain),
        "torch": lambda: propagate_by_torch(chain),
    }
    # sigma_2 of a product of 32 layers: rounding of sigma_1 over the ratio, which is at least (gap / rate)^32.
    for ours, loop, peer in zip(*(function() for function in functions.values()), strict=True):
        np.testing.assert_allclose(ours, loop, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours, peer.numpy(), rtol=0, atol=1e-6)
    reflected = reflections(d, BATCHES[d])
    others = {"assembly": lambda: chain.propagators, "reflections": lambda: propagate(reflected)}
    seconds = times(functions | others)
    benchmark.pedantic(functions["ours"], rounds=1)
    judge(benchmark, "propagation", d, seconds)


@pytest.mark.parametrize("d", BATCHES)
def test_generation(benchmark, d):
    batch = BATCHES[d]
    generator = torch.Generator().manual_seed(0)
    functions = {
        "ours": lambda: make(d, batch),
        "numpy loop": lambda: generate_by_loop(d, batch, np.random.default_rng(0)),
        "torch": lambda: generate_by_torch(d, batch, generator),
    }
    for layers, injections in (functions["numpy loop"](), [t.numpy() for t in functions["torch"]()]):
        numbers = theory.measure(layers[-1], injections[-1])
        np.testing.assert_allclose(numbers.gap, 0.5, atol=1e-12)
        np.testing.assert_allclose(numbers.alignment[1:], 0.8, atol=1e-12)
        np.testing.assert_allclose(numbers.injection_across, 0.3, atol=1e-12)
    seconds = times(functions | {"reflections": lambda: reflections(d, batch)})
    benchmark.pedantic(functions["ours"], rounds=1)
    judge(benchmark, "generation", d, seconds)


def exponent(sizes: list[int], seconds: dict[str, list[float]]) -> float:
    return float(np.polyfit(np.log(sizes), np.log([statistics.median(found) for found in seconds.values()]), 1)[0])


@pytest.mark.parametrize("axis", ["d", "L", "batch"])
def test_growth(axis):
    sizes = {"d": [32, 64, 128, 256], "L": [16, 32, 64, 128], "batch": [16, 32, 64, 128]}[axis]
    arguments = [{"d": (size, 4, 16), "L": (32, 16, size), "batch": (32, size, 16)}[axis] for size in sizes]
    chains = [make(d, batch, depth) for d, batch, depth in arguments]
    run = times({str(size): lambda c=chain: propagate(c) for size, chain in zip(sizes, chains, strict=True)})
    made = times({str(size): lambda a=a: make(*a) for size, a in zip(sizes, arguments, strict=True)})
    print(
        f"\ngrowth in {axis} over {sizes}: propagation {axis}^{exponent(sizes, run):.2f}, "
        f"generation {axis}^{exponent(sizes, made):.2f}"
    )
