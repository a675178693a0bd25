"""Singular triplets against matrices whose spectra are prescribed."""

from __future__ import annotations

import math

import pytest
import torch

from empirical.jacobians.decompositions import NonFiniteError
from empirical.jacobians.krylov import DENSE_ROWS, TOLERANCE, leading_triplets
from empirical.jacobians.operators import LinearOperator


def prescribed(rows: int, cols: int, s: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A float64 matrix of the given leading singular values, the rest 0, with Haar vectors."""
    generator = torch.Generator().manual_seed(seed)
    p = len(s)
    u = torch.linalg.qr(torch.randn((rows, p), generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn((cols, p), generator=generator, dtype=torch.float64))[0]
    return (u * s) @ v.T


def operator_of(a: torch.Tensor) -> LinearOperator:
    return LinearOperator((a.shape[0], a.shape[1]), lambda x: x @ a.T, lambda y: y @ a, dtype=a.dtype)


# Below and above the number of rows at which the dense case gives way to the iteration.
SIZES = [(24, 300), (2 * DENSE_ROWS, 500), (2 * DENSE_ROWS, 2 * DENSE_ROWS), (500, 2 * DENSE_ROWS), (500, 24)]


@pytest.mark.parametrize(("rows", "cols"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_values_vectors_and_residuals(rows, cols, dtype):
    s = 0.9 ** torch.arange(min(rows, cols), dtype=torch.float64)
    a = prescribed(rows, cols, s).to(dtype)
    found = leading_triplets(operator_of(a), 6)
    tolerance = {torch.float32: 1e-3, torch.float64: 1e-8}[dtype]
    assert bool(found.converged.all())
    assert float(found.residual.max()) <= tolerance
    # |s - s_true| <= residual s (Weyl), and quadratically better; rounding of the entries adds eps s_1 sqrt(rows).
    slack = tolerance * s[:6] + torch.finfo(dtype).eps * rows**0.5
    assert bool(((found.s - s[:6]).abs() <= slack).all())
    product = a.double() @ found.v.double()
    assert float((product - found.u * found.s).norm(dim=0).max()) <= 2 * tolerance
    gram = found.u.T @ found.u
    assert torch.allclose(gram, torch.eye(6, dtype=torch.float64), atol=1e-12)


def test_dense_case_knows_the_whole_spectrum_norm_and_effective_rank():
    s = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    found = leading_triplets(operator_of(prescribed(4, 50, s)), 2)
    assert found.spectrum is not None
    assert torch.allclose(found.spectrum, s, atol=1e-13)
    assert math.isclose(found.frobenius, float(s.norm()), rel_tol=1e-14)
    assert found.frobenius_se == 0.0
    p = s**2 / (s**2).sum()
    assert math.isclose(found.effective_rank, math.exp(float(-(p * p.log()).sum())), rel_tol=1e-12)
    assert math.isclose(found.share[0], 9.0 / 14.25, rel_tol=1e-12)
    assert found.share[1] == 0.0


def test_tall_operators_have_no_more_values_than_columns():
    s = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    found = leading_triplets(operator_of(prescribed(20, 3, s)), 3)
    assert torch.allclose(found.s, s, atol=1e-13)
    assert found.spectrum is not None and len(found.spectrum) == 3


@pytest.mark.parametrize("rows", [20, 2 * DENSE_ROWS])
def test_zero_operator(rows):
    found = leading_triplets(operator_of(torch.zeros((rows, 400), dtype=torch.float64)), 3)
    assert found.s.tolist() == [0.0, 0.0, 0.0]
    assert bool(found.converged.all())
    assert found.frobenius == 0.0
    assert math.isnan(found.share[0])
    assert torch.allclose(found.u.T @ found.u, torch.eye(3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("rows", [20, 2 * DENSE_ROWS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_below_k_gives_zeros_for_the_rest(rows, dtype):
    s = torch.tensor([2.0, 1.0], dtype=torch.float64)
    found = leading_triplets(operator_of(prescribed(rows, 400, s).to(dtype)), 5)
    assert bool(found.converged[:2].all())
    assert torch.allclose(found.s[:2], s, atol=1e-5)
    # What is left is rounding: either 0, or refused for its residual, never a number.
    assert bool(((found.s[2:] == 0.0) | found.s[2:].isnan()).all())
    assert torch.allclose(found.estimate[2:], torch.zeros(3, dtype=torch.float64), atol=1e-5)


def test_rank_one_with_a_tiny_second_value_keeps_the_ratio():
    s = torch.tensor([1.0, 3e-9, 2e-9, 1e-9], dtype=torch.float64)
    found = leading_triplets(operator_of(prescribed(12, 40, s)), 4, tolerance=1e-5)
    assert bool(found.converged.all())
    assert torch.allclose(found.s / s, torch.ones(4, dtype=torch.float64), atol=1e-6)


def test_multiple_values_are_all_found():
    s = torch.cat([torch.full((4,), 2.0), 0.5 ** torch.arange(30)]).double().sort(descending=True).values
    found = leading_triplets(operator_of(prescribed(2 * DENSE_ROWS, 500, s)), 6)
    assert bool(found.converged.all())
    assert torch.allclose(found.s, s[:6], atol=1e-7)


def test_unconverged_values_are_nan_and_say_so():
    # A flat spectrum and one step: nothing can converge.
    a = prescribed(2 * DENSE_ROWS, 2 * DENSE_ROWS, torch.linspace(1.0, 0.9, 2 * DENSE_ROWS, dtype=torch.float64))
    found = leading_triplets(operator_of(a), 4, max_steps=1)
    assert not bool(found.converged.any())
    assert bool(found.s.isnan().all())
    assert bool((found.residual > 1e-8).all())
    assert bool(torch.isfinite(found.estimate).all())
    assert math.isnan(found.share[0])
    assert math.isnan(found.effective_rank)


def test_running_out_of_rows_completes_the_spectrum():
    rows = DENSE_ROWS + 10
    a = prescribed(rows, 400, torch.linspace(1.0, 0.99, rows, dtype=torch.float64))
    found = leading_triplets(operator_of(a), 20, block=24, max_steps=100)
    assert found.spectrum is not None
    assert bool(found.converged.all())
    assert math.isclose(found.frobenius, float(a.norm()), rel_tol=1e-12)


def test_warm_start_takes_fewer_products():
    s = 0.97 ** torch.arange(2 * DENSE_ROWS, dtype=torch.float64)
    a = prescribed(2 * DENSE_ROWS, 600, s)
    cold, warm = operator_of(a), operator_of(a)
    first = leading_triplets(cold, 5, frobenius=False)
    again = leading_triplets(warm, 5, start=first.u, frobenius=False)
    assert warm.products < cold.products
    assert torch.allclose(first.s, again.s, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("rows", "cols"), [(2 * DENSE_ROWS, 2 * DENSE_ROWS), (600, 2 * DENSE_ROWS)])
def test_a_warm_start_that_is_exact_for_another_value_does_not_stay_there(rows, cols, dtype):
    """One direction a step that begins with the vectors of the third value, or with what A^T sends to 0."""
    s = 2.0 * 0.97 ** torch.arange(cols - 20, dtype=torch.float64)
    a = prescribed(rows, cols, s)
    u = torch.linalg.svd(a)[0]
    for start in (u[:, 2:3], u[:, -1:]):
        found = leading_triplets(operator_of(a.to(dtype)), 1, start=start, frobenius=False)
        # A Ritz value errs by no more than its residual.
        tolerance = TOLERANCE[dtype]
        assert bool(found.converged) and math.isclose(float(found.s[0]), 2.0, rel_tol=tolerance)


def test_frobenius_estimate_covers_the_truth_within_its_error():
    s = 1.0 / torch.arange(1, 301, dtype=torch.float64) ** 0.5
    a = prescribed(300, 700, s)
    true = float(a.norm())
    z = []
    for seed in range(40):
        found = leading_triplets(operator_of(a), 2, seed=seed, tolerance=1e-3)
        assert found.frobenius_se > 0.0
        z.append((found.frobenius - true) / found.frobenius_se)
    # Eight probes each: studentised with 7 degrees of freedom, variance 7/5: the mean of 40 has deviation 0.19. Their
    # squares have variance (3 + 6/3 - 1) (7/5)^2, so the mean square has deviation 0.44: two of them see an error that
    # is off by a factor of 2 either way.
    assert abs(sum(z) / 40) < 3 * 0.19
    assert abs(sum(value**2 for value in z) / 40 - 1.4) < 2 * 0.44
    # The largest of 40 is below 5.2 with probability 0.95; 2.36, the two-sided 95 % quantile, is passed by at most 6 of
    # 40 with probability 0.99.
    assert max(abs(value) for value in z) < 5.2
    assert sum(abs(value) > 2.36 for value in z) <= 6


def test_same_seed_same_bits():
    a = prescribed(2 * DENSE_ROWS, 400, 0.95 ** torch.arange(100, dtype=torch.float64)).float()
    one, two = (leading_triplets(operator_of(a), 5, seed=3) for _ in range(2))
    assert torch.equal(one.s, two.s)
    assert torch.equal(one.residual, two.residual)
    assert one.frobenius == two.frobenius


def test_a_product_that_is_not_adjoint_does_not_pass_as_a_singular_value():
    a = prescribed(20, 100, torch.tensor([2.0, 1.0], dtype=torch.float64))
    broken = LinearOperator((20, 100), lambda x: 1.1 * (x @ a.T), lambda y: y @ a, dtype=a.dtype)
    found = leading_triplets(broken, 2)
    assert not bool(found.converged.any())


def test_bad_arguments_and_non_finite_products():
    a = prescribed(6, 9, torch.ones(6, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"k must lie in \[1, 6\] for a 6 x 9 operator; got 7"):
        leading_triplets(operator_of(a), 7)
    with pytest.raises(ValueError, match="got 0"):
        leading_triplets(operator_of(a), 0)
    with pytest.raises(ValueError, match="tolerance must be positive"):
        leading_triplets(operator_of(a), 1, tolerance=0.0)
    a[0, 0] = float("nan")
    with pytest.raises(NonFiniteError):
        leading_triplets(operator_of(a), 1)
    large = torch.zeros((2 * DENSE_ROWS, 400), dtype=torch.float64)
    large[5, 5] = float("inf")
    with pytest.raises(NonFiniteError):
        leading_triplets(operator_of(large), 1)
