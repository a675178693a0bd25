"""A left space Q of an operator A that grows by directions, with W = A^T Q, Z = A W and the Ritz values on it.

The float64 Gram matrix of W (p x p) gives s and y; then u = Q y, v = W y / s, and A v - s u = Z y / s - s u costs no
product. Where there is no memory for W, Q^T Z is the same Gram matrix, with its small values less exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from empirical.jacobians.decompositions import gram_singular, qr, require_finite
from empirical.jacobians.operators import LinearOperator, OutOfMemoryError, gram64

# W is kept in slabs of this many directions: one call makes its products with a new one, and nothing is copied anew.
_SLAB = 16


class Budget:
    """Bytes that vectors of the operator's longer side may take; no limit where `limit` is None."""

    def __init__(self, operator: LinearOperator, limit: int | None) -> None:
        self.operator, self.limit = operator, limit

    def allows(self, vectors: int) -> bool:
        """Whether so many vectors fit."""
        return self.limit is None or self._bytes(vectors) <= self.limit

    def claim(self, vectors: int) -> None:
        """Refuse what the machine would not: beforehand, and in the same words at every size.

        Raises:
            OutOfMemoryError: if so many vectors do not fit.
        """
        if not self.allows(vectors):
            cols = self.operator.shape[1]
            raise OutOfMemoryError(
                f"{vectors} vectors of {cols} entries take {self._bytes(vectors)} bytes; the budget is {self.limit}"
            )

    def _bytes(self, vectors: int) -> int:
        return vectors * self.operator.shape[1] * torch.finfo(self.operator.dtype).bits // 8


class LeftSpace:
    """Q, W, Z of an operator and the Ritz values and vectors on Q.

    Args:
        operator: A, rows x cols.
        budget: what W may take.
        keep: whether W is kept.

    Attributes:
        q: orthonormal, (rows, p) float64.
        z: A A^T Q, (rows, p) float64.
        s, y: Ritz values, descending, (p,), and their vectors in Q, (p, p).
    """

    def __init__(self, operator: LinearOperator, budget: Budget, *, keep: bool) -> None:
        self.operator, self.budget, self.keep = operator, budget, keep
        empty = torch.zeros((operator.shape[0], 0), dtype=torch.float64, device=operator.device)
        self.q, self.z = empty, empty
        self._gram = empty.new_zeros((0, 0))
        self.s, self.y = empty.new_zeros(0), self._gram
        self._slabs: list[Tensor] = []
        self._filled = 0  # directions in the last slab

    @property
    def size(self) -> int:
        """p."""
        return self.q.shape[1]

    @property
    def complete(self) -> bool:
        """Whether Q is all there is: then the whole spectrum is known."""
        return self.size >= self.operator.shape[0]

    def extend(self, directions: Tensor) -> Tensor:
        """Add what `directions`, (rows, c), bring that is new; A A^T of that, (rows, <= c), or nothing: (rows, 0).

        Raises:
            NonFiniteError: if a product is not finite.
            OutOfMemoryError: if the budget does not hold W.
        """
        basis = orthonormal(directions, self.q)
        if basis.shape[1] == 0:
            return basis
        old, size = self.size, self.size + basis.shape[1]
        self.budget.claim(size if self.keep else 2 * basis.shape[1])
        fresh = require_finite("a Jacobian product", self.operator.rmatmat(basis).T)
        new = require_finite("a Jacobian product", self.operator.matmat(fresh.T)).double()
        self.q, self.z = torch.cat([self.q, basis], 1), torch.cat([self.z, new], 1)
        grown = self._gram.new_zeros((size, size))
        grown[:old, :old] = self._gram
        if self.keep:
            self._append(fresh)
            grown[old:] = torch.cat([gram64(fresh, part) for part in self.parts()], 1)
        else:
            across = self.q.T @ new
            across[old:] = 0.5 * (across[old:] + across[old:].T)
            grown[old:] = across.T
        grown[:old, old:] = grown[old:, :old].T
        self._gram = grown
        self.s, self.y = gram_singular("the Gram matrix of the products", grown)
        return new

    def hold(self, q: Tensor, matrix: Tensor, y: Tensor) -> None:
        """Take what is known already: Q, W^T = `matrix` and the Ritz vectors; Z, s and the Gram matrix are not made."""
        self.q, self.y = q, y
        self._slabs, self._filled = [matrix], len(matrix)

    def parts(self) -> list[Tensor]:
        """W, direction-first, in slabs, (<= p, cols) each."""
        return [*self._slabs[:-1], self._slabs[-1][: self._filled]] if self._slabs else []

    def right(self, count: int) -> Tensor:
        """W y of the leading `count` Ritz vectors, direction-first, (count, cols)."""
        parts = self.parts()
        weights = self.y[:, :count].to(self.operator.dtype).split([len(part) for part in parts])
        out = weights[0].T @ parts[0]
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            out.addmm_(weight.T, part)
        return out

    def residuals(self, count: int) -> Tensor:
        """A A^T u - s^2 u of the leading `count` Ritz vectors, (rows, count): of the recursion, no product."""
        y = self.y[:, :count]
        return self.z @ y - (self.q @ y) * self.s[:count].square()

    def errors(self, residuals: Tensor, floor: float) -> Tensor:
        """||A v - s u|| / s of the residuals' Ritz vectors; 0 where s is below `floor` of the largest."""
        s = self.s[: residuals.shape[1]]
        size = torch.linalg.vector_norm(residuals, dim=0) / s.square().clamp_min(torch.finfo(torch.float64).tiny)
        return torch.where(s > floor * s[0], size, 0.0)

    def _append(self, fresh: Tensor) -> None:
        if not self._slabs or self._filled + len(fresh) > len(self._slabs[-1]):
            if len(fresh) >= _SLAB:
                self._slabs = [*self.parts(), fresh]
                self._filled = len(fresh)
                return
            self._slabs = [*self.parts(), fresh.new_empty((_SLAB, fresh.shape[1]))]
            self._filled = 0
        self._slabs[-1][self._filled : self._filled + len(fresh)] = fresh
        self._filled += len(fresh)


def ritz(w: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values and left vectors, descending, of a direction-first matrix W (p, n), by its float64 Gram matrix.

    Eigenvectors of values below sqrt(eps) s_1 are only a basis of their space: Rayleigh-Ritz again within it sorts
    them out, until they are above the floor of the products themselves.
    """
    s, y = gram_singular("the Gram matrix of the rows", gram64(w, w))
    small = s <= 1e-6 * s[0]
    if w.dtype == torch.float64 and bool(small.any()) and not bool(small.all()):
        inner = gram64(rest := y[:, small].T @ w, rest)
        values, vectors = gram_singular("the Gram matrix of the small rows", inner)
        s, y = torch.cat([s[~small], values]), torch.cat([y[:, ~small], y[:, small] @ vectors], 1)
    return s, y


def orthonormal(new: Tensor, q: Tensor) -> Tensor:
    """An orthonormal basis of what `new` adds to the space q; directions that add nothing but rounding are left out."""
    size = torch.linalg.vector_norm(new, dim=0)
    largest = float(size.max()) if new.shape[1] else 0.0
    if largest == 0.0:
        return new[:, :0]
    kept = size > torch.finfo(torch.float64).eps * largest
    new = new[:, kept] / size[kept]
    for _ in range(2):  # twice is enough (Kahan and Parlett)
        new = new - q @ (q.T @ new)
    basis, triangle = qr("new directions", new)
    # A column that is a combination of the others leaves a diagonal of rounding size in R, and a random column in Q.
    basis = basis[:, triangle.diagonal().abs() > 1e-10]
    basis = basis - q @ (q.T @ basis)
    return qr("new directions", basis)[0][:, : max(0, q.shape[0] - q.shape[1])]


def random_directions(rows: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal, (rows, count) float64."""
    return torch.randn((rows, count), generator=generator, dtype=torch.float64, device=device)
