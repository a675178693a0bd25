"""Memory that is refused: by a budget, by the allocator, and products that do not depend on how they are cut."""

from __future__ import annotations

import pytest
import torch

from empirical.jacobians import chain as chain_module
from empirical.jacobians import cross_attention
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import measure_context
from empirical.jacobians.krylov import DENSE_ROWS, leading_triplets
from empirical.jacobians.operators import LinearOperator, OutOfMemoryError, is_out_of_memory
from tests.empirical.jacobian_models import encoder_states, small_whisper

ROWS, COLS = 2 * DENSE_ROWS, 500
SPECTRUM = 0.8 ** torch.arange(40, dtype=torch.float64)
TOKENS = [1, 5, 7, 3, 9]


def matrix(rows: int = ROWS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn((rows, 40), generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn((COLS, 40), generator=generator, dtype=torch.float64))[0]
    return (u * SPECTRUM) @ v.T


def refusing(a: torch.Tensor, most: int, error: type[Exception] = RuntimeError, text: str | None = None):
    """An operator whose products are refused for more than `most` directions, as torch's CPU allocator refuses."""
    asked: list[int] = []

    def guard(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        if len(x) > most:
            raise error(
                text or "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return x

    shape = (a.shape[0], a.shape[1])
    return LinearOperator(shape, lambda x: guard(x) @ a.T, lambda y: guard(y) @ a, dtype=a.dtype), asked


def free(a: torch.Tensor) -> LinearOperator:
    return LinearOperator((a.shape[0], a.shape[1]), lambda x: x @ a.T, lambda y: y @ a, dtype=a.dtype)


def bytes_of(vectors: int) -> int:
    return vectors * COLS * 8


def check(found, k: int, tolerance: float = 1e-8) -> None:
    assert bool(found.converged.all())
    # An error of a value is at most residual x value (Weyl).
    assert bool(((found.s - SPECTRUM[:k]).abs() <= tolerance * SPECTRUM[:k]).all())


def test_unlimited_memory_refuses_nothing():
    found = leading_triplets(free(matrix()), 3, memory_bytes=bytes_of(10_000))
    assert (found.refusals, found.block) == (0, 1)
    found = leading_triplets(free(matrix()), 3, block=7, memory_bytes=bytes_of(10_000))
    assert (found.refusals, found.block) == (0, 7)
    check(found, 3)


@pytest.mark.parametrize(("first", "vectors", "refusals", "block"), [(7, 20, 1, 3), (7, 8, 2, 1), (1, 8, 1, 1)])
def test_a_budget_that_refuses_halves_the_block_and_says_so(first, vectors, refusals, block):
    found = leading_triplets(free(matrix()), 3, block=first, memory_bytes=bytes_of(vectors))
    assert (found.refusals, found.block) == (refusals, block)
    check(found, 3)
    left = matrix().T @ found.u - found.v.double() * found.s
    assert float(left.norm(dim=0).max()) <= 1e-12
    assert float((matrix() @ found.v - found.u * found.s).norm(dim=0).max()) <= 1e-8


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_an_allocation_that_fails_halves_the_block(error):
    operator, asked = refusing(matrix(), 3, error)
    found = leading_triplets(operator, 3, block=7, frobenius=True)
    assert (found.refusals, found.block) == (1, 3)
    assert max(asked[1:]) <= 3  # the probes of the norm and the last vectors too
    check(found, 3)
    # Eight probes beside a deflated space: within five of their own standard errors.
    assert abs(found.frobenius - float(SPECTRUM.norm())) <= 5 * found.frobenius_se + 1e-9


def test_a_dense_matrix_that_is_refused_is_iterated_on():
    small = matrix(60)
    found = leading_triplets(free(small), 3, memory_bytes=bytes_of(40))
    assert found.refusals == 1 and found.block == 1
    check(found, 3)
    operator, _ = refusing(small, 10)
    found = leading_triplets(operator, 3, block=7)
    assert found.refusals == 1 and found.block == 7
    check(found, 3)


def test_no_memory_for_one_vector_is_said_in_one_line():
    with pytest.raises(OutOfMemoryError, match=r"no memory for one direction a step and 3 vectors of a 320 x 500"):
        leading_triplets(free(matrix()), 3, memory_bytes=100)
    operator, _ = refusing(matrix(), 0)
    with pytest.raises(OutOfMemoryError, match=r"no memory for one direction .* can't allocate memory"):
        leading_triplets(operator, 3)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    operator, asked = refusing(matrix(), 0, RuntimeError, "shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        leading_triplets(operator, 3)
    assert len(asked) == 1


def test_the_allocator_itself_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52, dtype=torch.float64)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_multiple_value_is_found_again_from_a_block_of_one():
    s = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    u = torch.linalg.qr(torch.randn((ROWS, 3), generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn((COLS, 3), generator=generator, dtype=torch.float64))[0]
    found = leading_triplets(free((u * s) @ v.T), 3, memory_bytes=bytes_of(6), frobenius=False)
    assert found.block == 1
    # Nothing wrong is reported: what is said to have converged is one of the values, the largest among them.
    assert float(found.s[0]) == pytest.approx(2.0, rel=1e-8)
    known = found.s[found.converged]
    assert float((known[:, None] - torch.tensor([2.0, 1.0, 0.0])).abs().min(1).values.max()) <= 1e-8


@pytest.mark.parametrize("position", [-1, None])
def test_a_context_jacobian_short_of_memory_has_the_same_values(position):
    model = small_whisper()
    chain = DecoderChain(model, encoder_states(model), TOKENS)
    rich = measure_context(chain, 2, position)
    vectors = 10
    poor = measure_context(chain, 2, position, memory_bytes=vectors * chain.frames * chain.width * 8)
    for a, b in zip(rich, poor, strict=True):
        assert a.triplets.refusals == 0 and b.triplets.refusals > 0
        assert bool(b.triplets.converged.all())
        torch.testing.assert_close(a.triplets.s, b.triplets.s, rtol=2e-8, atol=0)
        assert b.triplets.v.numel() == 0  # not kept for every depth
    with pytest.raises(OutOfMemoryError):
        measure_context(chain, 2, position, memory_bytes=1)


@pytest.mark.parametrize("position", [-1, None])
def test_products_do_not_depend_on_groups_and_chunks(position, monkeypatch):
    model = small_whisper()
    chain = DecoderChain(model, encoder_states(model), TOKENS)
    operators = [chain.context_jacobian(3, position), chain.injection(2, position), chain.arrival(1)]
    generator = torch.Generator().manual_seed(0)
    for operator in operators:
        x = torch.randn((operator.shape[1], 11), generator=generator, dtype=torch.float64)
        y = torch.randn((operator.shape[0], 11), generator=generator, dtype=torch.float64)
        whole = operator.matmat(x), operator.rmatmat(y)
        with monkeypatch.context() as patch:
            patch.setattr(chain_module, "_CHUNK_BYTES", 1)
            patch.setattr(chain_module, "GROUP_BYTES", 1)
            assert (chain.chunk, chain.group) == (2, 2)
            cut = operator.matmat(x), operator.rmatmat(y)
            patch.setattr(chain_module, "GROUP_BYTES", 2**30)
            assert chain.group > 11
            grouped = operator.matmat(x), operator.rmatmat(y)
        for one, two, three in zip(whole, cut, grouped, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(one, three, rtol=1e-12, atol=1e-12)


def test_a_local_pull_is_the_rows_of_the_whole_one():
    model = small_whisper()
    layer = DecoderChain(model, encoder_states(model), TOKENS).layers[1]
    g = torch.randn((4, 2, layer.width), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = slice(2, 4)
    whole, heads = layer.pull(g, rows)
    local, same = layer.pull(g, rows, local=True)
    torch.testing.assert_close(local, whole[:, rows], rtol=1e-13, atol=1e-13)
    assert torch.equal(heads, same)


def test_query_maps_are_the_sum_over_frames_at_any_cut(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand((2, 7, 9), generator=generator, dtype=torch.float64)
    value, key = torch.randn((2, 2, 9, 3), generator=generator, dtype=torch.float64)
    expected = torch.einsum("hts,hsj,hsk->htjk", weights, value, key)
    for size in (1, 4000, 2**30):
        monkeypatch.setattr(cross_attention, "_MIXED_BYTES", size)
        torch.testing.assert_close(cross_attention._mixed(weights, value, key), expected, rtol=1e-13, atol=1e-13)
