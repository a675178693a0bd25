"""Linear operators: shapes, composition, deflation, counting, and the finiteness guard."""

from __future__ import annotations

import pytest
import torch

from empirical.jacobians.operators import DenseOperator, LinearOperator, NonFiniteError, gram64, require_finite


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
