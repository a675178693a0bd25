"""Linear operators: shapes, composition, deflation, counting, and the finiteness guard."""

from __future__ import annotations

import pytest
import torch

from empirical.jacobians.decompositions import NonFiniteError, require_finite
from empirical.jacobians.operators import (
    AdjointError,
    DenseOperator,
    LinearOperator,
    gram64,
)


def matrix(rows: int, cols: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn((rows, cols), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def free(a: torch.Tensor) -> LinearOperator:
    """The same matrix, known by its products only."""
    return LinearOperator((a.shape[0], a.shape[1]), lambda x: x @ a.T, lambda y: y @ a, dtype=a.dtype)


def test_products_and_materialise_equal_the_matrix():
    a = matrix(4, 7)
    x, y = matrix(7, 3, 1), matrix(4, 2, 2)
    for operator in (free(a), DenseOperator(a), free(a).materialise()):
        assert torch.allclose(operator.matmat(x), a @ x, rtol=0, atol=1e-14)
        assert torch.allclose(operator.rmatmat(y), a.T @ y, rtol=0, atol=1e-14)
    assert torch.equal(free(a).materialise().matrix, a)


def test_products_are_counted_by_direction():
    operator = free(matrix(4, 7))
    operator.matmat(matrix(7, 3))
    operator.rmatmat(matrix(4, 5))
    assert operator.products == 8


def test_composition_and_deflation():
    a, b = matrix(4, 5), matrix(5, 6, 1)
    composed = free(a) @ free(b)
    assert torch.allclose(composed.materialise().matrix, a @ b, rtol=0, atol=1e-14)
    assert torch.allclose(composed.matmat(torch.eye(6, dtype=torch.float64)), a @ b, rtol=0, atol=1e-14)
    u = a[:, 0] / a[:, 0].norm()
    across = free(a).deflate(u)
    expected = a - torch.outer(u, u @ a)
    assert torch.allclose(across.materialise().matrix, expected, rtol=0, atol=1e-14)
    assert torch.allclose(across.matmat(torch.eye(5, dtype=torch.float64)), expected, rtol=0, atol=1e-14)


def test_a_block_of_directions_and_the_transpose():
    a = matrix(4, 7)
    operator, x, y = free(a), matrix(7, 3, 1), matrix(4, 2, 2)
    assert torch.equal(operator @ x, operator.matmat(x))
    assert torch.equal(operator.T @ y, operator.rmatmat(y))
    assert torch.equal(operator.T.T @ x, operator.matmat(x))
    assert operator.T.shape == (7, 4) and operator.T.dtype == a.dtype
    assert torch.allclose((operator.T @ operator).materialise().matrix, a.T @ a, rtol=0, atol=1e-13)
    # A block that is shorter than the operator, or one direction that does not say so, is refused and not broadcast.
    for wrong in (matrix(1, 3), matrix(7, 1)[:, 0], matrix(6, 3)):
        with pytest.raises(ValueError, match=r"takes \(7, k\)"):
            operator @ wrong


def test_products_of_the_transpose_are_counted_by_both():
    operator = free(matrix(4, 7))
    transposed = operator.T
    transposed.matmat(matrix(4, 3))
    assert (transposed.products, operator.products) == (3, 3)


@pytest.mark.parametrize(("rows", "cols"), [(3, 5), (200, 300), (300, 40), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operator_and_its_own_transpose_have_no_adjoint_gap(rows, cols, dtype):
    operator = free(matrix(rows, cols, dtype=dtype))
    for seed in range(5):
        # Two products, each a sum of at most max(rows, cols) terms, and one rounding of u.
        assert operator.adjoint_gap(seed) <= 4 * torch.finfo(dtype).eps * max(rows, cols) ** 0.5
    assert operator.products == 10
    assert operator.adjoint_gap(1) == operator.adjoint_gap(1) != operator.adjoint_gap(2) or rows == 1


@pytest.mark.parametrize("error", [1e-1, 1e-2, 1e-3])
def test_a_reverse_product_that_is_wrong_shows_as_a_gap_of_its_size(error):
    a = matrix(500, 700)
    off = error * matrix(500, 700, 1)
    broken = LinearOperator((500, 700), lambda x: x @ a.T, lambda y: y @ (a + off), dtype=a.dtype)
    gaps = [broken.adjoint_gap(seed) for seed in range(10)]
    # <v, off^T u> is normal of deviation error ||v|| ||u|| beside ||A v|| ||u|| = sqrt(500) ||v|| ||u||.
    assert 0.2 * error / 500**0.5 <= (sum(gap**2 for gap in gaps) / 10) ** 0.5 <= 3.0 * error / 500**0.5
    scaled = LinearOperator((500, 700), lambda x: x @ a.T, lambda y: (1.0 + error) * (y @ a), dtype=a.dtype)
    assert 0.2 * error <= scaled.adjoint_gap() <= 2.0 * error
    with pytest.raises(AdjointError, match=r"products of the thing must be adjoint to 1\.0e-05; got a gap of"):
        scaled.require_adjoint("the thing", 1e-5)
    free(a).require_adjoint("the thing", 1e-12)


def test_the_gap_of_zero_is_zero_and_that_of_nan_is_refused():
    def zeros(size: int):
        return lambda x: x.new_zeros((len(x), size))

    nothing = LinearOperator((3, 4), zeros(3), zeros(4), dtype=torch.float64)
    assert nothing.adjoint_gap() == 0.0
    nan = LinearOperator((3, 4), lambda x: torch.full((len(x), 3), torch.nan), zeros(4), dtype=torch.float64)
    with pytest.raises(AdjointError):
        nan.require_adjoint("it", 1.0)


def test_float64_directions_go_through_a_float32_operator():
    a = matrix(4, 7, dtype=torch.float32)
    assert free(a).matmat(matrix(7, 2)).dtype == torch.float32


def test_errors_name_what_was_wrong():
    operator = free(matrix(4, 7))
    with pytest.raises(ValueError, match=r"matmat of a 4 x 7 operator takes \(7, k\); got \(4, 2\)"):
        operator.matmat(matrix(4, 2))
    with pytest.raises(ValueError, match=r"rmatmat of a 4 x 7 operator takes \(4, k\); got \(4,\)"):
        operator.rmatmat(matrix(4, 1)[:, 0])
    with pytest.raises(ValueError, match="inner sizes differ"):
        operator @ operator
    with pytest.raises(ValueError, match="takes 224 bytes; the budget is 100"):
        operator.materialise(100)
    with pytest.raises(ValueError, match=r"must be a unit vector; got norm 2\.0"):
        operator.deflate(torch.tensor([2.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"must be \(4,\)"):
        operator.deflate(torch.ones(7))
    with pytest.raises(ValueError, match="at least one row"):
        LinearOperator((0, 3), lambda x: x, lambda y: y, dtype=torch.float64)
    wrong = LinearOperator((4, 7), lambda x: x, lambda y: y, dtype=torch.float64)
    with pytest.raises(ValueError, match="direction-first"):
        wrong.matmat(matrix(7, 2))
    with pytest.raises(ValueError, match="takes a matrix"):
        DenseOperator(matrix(4, 1)[:, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_entry_is_found_before_a_decomposition(bad):
    a = matrix(5, 5)
    a[2, 3] = bad
    with pytest.raises(NonFiniteError, match=r"the matrix must be finite .* got 1 of 25"):
        require_finite("the matrix", a)
    a[2, 3] = 0.0
    assert require_finite("the matrix", a) is a


def test_opposite_infinities_do_not_cancel_in_the_guard():
    with pytest.raises(NonFiniteError, match="got 2 of 2"):
        require_finite("the pair", torch.tensor([float("inf"), float("-inf")]))


def test_gram64_of_float32_rows_is_the_exact_gram_matrix_of_them():
    a, b = matrix(3, 70_000, dtype=torch.float32), matrix(2, 70_000, 1, dtype=torch.float32)
    assert torch.allclose(gram64(a, b), a.double() @ b.double().T, rtol=0, atol=1e-9)
    assert torch.allclose(gram64(a, a), a.double() @ a.double().T, rtol=1e-12, atol=1e-9)
