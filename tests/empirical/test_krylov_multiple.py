"""Multiple and clustered values, which a space grown from one vector could miss; and what each triplet cost."""

from __future__ import annotations

import pytest
import torch

from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.jacobians import krylov
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.krylov import DENSE_ROWS, leading_triplets
from empirical.jacobians.operators import LinearOperator
from empirical.organism import organism_path

ROWS, COLS = 2 * DENSE_ROWS, 400


def of(s: torch.Tensor, seed: int = 0, dtype: torch.dtype = torch.float64) -> LinearOperator:
    """An operator, ROWS x COLS, with these singular values and Haar vectors, known by its products."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn((ROWS, len(s)), generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn((COLS, len(s)), generator=generator, dtype=torch.float64))[0]
    a = ((u * s) @ v.T).to(dtype)
    return LinearOperator((ROWS, COLS), lambda x: x @ a.T, lambda y: y @ a, dtype=dtype)


def decaying(*leading: float, rate: float = 0.9) -> torch.Tensor:
    rest = min(leading) * rate ** torch.arange(1, 200, dtype=torch.float64)
    return torch.cat([torch.tensor(leading, dtype=torch.float64), rest])


@pytest.mark.parametrize("multiplicity", [2, 3, 4])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-8)])
def test_one_direction_a_step_finds_a_multiple_value_as_often_as_it_is_there(multiplicity, place, dtype, tolerance):
    s = decaying(*[3.0] * place, *[2.0] * multiplicity, 1.5, rate=0.8)
    found = leading_triplets(of(s, seed=multiplicity, dtype=dtype), 5, frobenius=False)
    assert found.block == 1
    assert bool(found.converged.all())
    # An error of a value is at most residual x value (Weyl), beside the rounding of the entries.
    assert torch.allclose(found.s, s[:5], rtol=tolerance + ROWS**0.5 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-10])
def test_a_cluster_narrower_than_the_tolerance_is_found_whole(gap):
    s = decaying(1.0, 1.0 - gap, 1.0 - 2.0 * gap, 0.8)
    for tolerance in (1e-3, 1e-7):
        found = leading_triplets(of(s), 4, tolerance=tolerance, frobenius=False)
        assert bool(found.converged.all())
        assert torch.allclose(found.s, s[:4], rtol=tolerance, atol=0)


def test_without_the_guard_a_double_value_is_missed(monkeypatch):
    s = decaying(2.0, 2.0, 1.0, rate=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(krylov, "_GUARD_STEPS", 0)
        alone = leading_triplets(of(s), 3, tolerance=1e-3, frobenius=False)
    assert float(alone.s[1]) == pytest.approx(1.0, rel=1e-3)
    found = leading_triplets(of(s), 3, tolerance=1e-3, frobenius=False)
    assert torch.allclose(found.s, s[:3], rtol=1e-3, atol=0)
    assert alone.products.guard == 0 < found.products.guard


@pytest.mark.parametrize("k", [1, 2, 5])
def test_identity(k):
    eye = LinearOperator((ROWS, ROWS), lambda x: x.clone(), lambda y: y.clone(), dtype=torch.float64)
    found = leading_triplets(eye, k)
    assert torch.allclose(found.s, torch.ones(k, dtype=torch.float64), rtol=1e-14, atol=0)
    assert bool(found.converged.all())
    # Rademacher probes beside the space have z' (I - Q Q') z = rows - p +- its spread: exact to their own error.
    assert abs(found.frobenius - ROWS**0.5) <= 5 * found.frobenius_se + 1e-12


def test_products_are_counted_by_what_they_were_for():
    for block in (None, 2, 9):
        operator = of(decaying(3.0, 2.0, 1.0))
        found = leading_triplets(operator, 5, block=block, tolerance=1e-3)
        assert found.products.total == operator.products
        assert found.products.norm == krylov._PROBES
        # One forward product a value, and one reverse product for all of them.
        assert found.products.verification == 6
        assert found.products.guard == (0 if block == 9 else 2 * krylov._GUARD_STEPS)
        assert found.block == (block or 1)
    dense = of(decaying(3.0, 2.0, 1.0))
    small = LinearOperator(
        (20, COLS), lambda x: dense._push(x)[:, :20], lambda y: dense._pull(pad(y)), dtype=dense.dtype
    )
    found = leading_triplets(small, 3)
    assert (found.products.iteration, found.products.verification, found.products.norm) == (20, 4, 0)


def pad(y: torch.Tensor) -> torch.Tensor:
    return torch.cat([y, y.new_zeros((len(y), ROWS - y.shape[1]))], 1)


def test_one_direction_a_step_takes_fewer_products_than_a_block_of_nine():
    s = 1.0 / torch.arange(1, 201, dtype=torch.float64) ** 0.5
    one, nine = (leading_triplets(of(s), 5, block=block, tolerance=1e-3, frobenius=False) for block in (None, 9))
    assert torch.allclose(one.s, nine.s, rtol=1e-3)
    assert one.products.total < 0.6 * nine.products.total


def test_a_sum_of_known_vectors_is_a_start_that_saves_products():
    s = 0.97 ** torch.arange(200, dtype=torch.float64)
    cold = leading_triplets(of(s), 5, frobenius=False)
    warm = leading_triplets(of(s), 5, start=cold.u, frobenius=False)
    assert warm.products.iteration < 0.9 * cold.products.iteration
    assert torch.allclose(warm.s, cold.s, rtol=1e-8)


def test_a_start_that_reaches_nothing_new_is_left():
    s = decaying(3.0, 2.0, 1.0)
    known = leading_triplets(of(s), 5, frobenius=False)
    # Vectors of values far below: a Krylov space of them alone never leaves their span.
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn((ROWS, len(s)), generator=generator, dtype=torch.float64))[0]
    found = leading_triplets(of(s), 5, start=u[:, 50:58], frobenius=False)
    assert torch.allclose(found.s, known.s, rtol=1e-8)


def test_a_reverse_product_that_is_off_refuses_the_values_it_is_wrong_about():
    s = decaying(3.0, 2.0, 1.0)
    right = of(s)
    u = torch.linalg.qr(torch.randn((ROWS, len(s)), generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    calls = []

    def drifting(y: torch.Tensor) -> torch.Tensor:
        """As it should be while the space grows, and off by a thousandth along u_2 when the residuals are measured."""
        calls.append(len(y))
        out = right._pull(y)
        return out if len(calls) <= limit else out + 1e-3 * (y @ u[:, 1:2]) * torch.ones(COLS, dtype=y.dtype)

    limit = 10**9
    operator = LinearOperator((ROWS, COLS), right._push, drifting, dtype=torch.float64)
    found = leading_triplets(operator, 3, frobenius=False)
    assert bool(found.converged.all())
    limit, calls[:] = len(calls) - 1, []
    found = leading_triplets(operator, 3, frobenius=False)
    assert found.converged.tolist() == [True, False, True]


def test_a_block_is_one_direction_at_least():
    with pytest.raises(ValueError, match="block must be at least 1; got 0"):
        leading_triplets(of(decaying(1.0)), 2, block=0)


def test_leading_five_of_an_organism_take_at_most_sixty_products():
    model = load_checkpoint(organism_path("organism-wide")).model
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(model.config.max_source_positions, model.config.d_model, generator=generator)
    chain = DecoderChain(model, states, torch.randint(0, 200, (12,), generator=generator).tolist())
    operator = chain.context_jacobian(chain.depth)
    found = leading_triplets(operator, 5, tolerance=1e-3, frobenius=False)
    assert bool(found.converged.all())
    assert operator.products == found.products.total <= 60
    blocks = leading_triplets(chain.context_jacobian(chain.depth), 5, block=9, tolerance=1e-3, frobenius=False)
    # Either is off by at most the square of its residual (values of A A^T), and by the products' rounding.
    assert torch.allclose(found.s, blocks.s, rtol=1e-5, atol=0)
