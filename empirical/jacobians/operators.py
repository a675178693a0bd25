"""Linear operators known by their products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from empirical.errors import MeasuringError

MATERIALISE_BUDGET_BYTES = 256 * 2**20
_GRAM_ENTRIES = 2**17
_LEAST_COLUMNS = 1024


class AdjointError(MeasuringError):
    """Forward and reverse products are not each other's adjoints: no singular value of them would mean anything."""

    code = "not_adjoint"


class OutOfMemoryError(MemoryError):
    """A budget or the machine refuses what even one direction takes."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed. torch on the CPU has no type of its own for it, only a RuntimeError and a text."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text)


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken, or None where nothing tells. Asked beforehand, since Linux promises memory that
    it does not have and then ends the process, with no error to catch."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


class LinearOperator:
    """A rows x cols matrix known by its products, for batches of directions.

    `matmat` takes (cols, k) to (rows, k), `rmatmat` takes (rows, k) to (cols, k). Results are transposed views of
    direction-first buffers, so that chains of products copy nothing.

    Args:
        shape: (rows, cols).
        push: (k, cols) -> (k, rows), forward products.
        pull: (k, rows) -> (k, cols), reverse products.
        dtype: of the products; inputs are cast to it.
        device: of the products.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        push: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor], Tensor],
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        if min(shape) < 1:
            raise ValueError(f"an operator must have at least one row and one column; got {shape}")
        self.shape = shape
        self.dtype = dtype
        self.device = torch.device(device)
        self.products = 0
        self._push = push
        self._pull = pull

    def matmat(self, x: Tensor) -> Tensor:
        """A X, (cols, k) -> (rows, k).

        Raises:
            ValueError: if X is not (cols, k).
        """
        return self._apply("matmat", self._push, x, self.shape[1], self.shape[0])

    def rmatmat(self, y: Tensor) -> Tensor:
        """A^T Y, (rows, k) -> (cols, k).

        Raises:
            ValueError: if Y is not (rows, k).
        """
        return self._apply("rmatmat", self._pull, y, self.shape[0], self.shape[1])

    def _apply(self, name: str, function: Callable, x: Tensor, inner: int, outer: int) -> Tensor:
        if x.ndim != 2 or x.shape[0] != inner:
            raise ValueError(
                f"{name} of a {self.shape[0]} x {self.shape[1]} operator takes ({inner}, k); got {tuple(x.shape)}"
            )
        self.products += x.shape[1]
        out = function(x.T.to(self.dtype))
        if out.shape != (x.shape[1], outer):
            raise ValueError(f"{name} must give ({x.shape[1]}, {outer}) direction-first; got {tuple(out.shape)}")
        return out.T

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: LinearOperator | Tensor) -> LinearOperator | Tensor:
        """A @ B, a composition, or A @ X, the products of a block of directions (cols, k).

        A single direction must say that it is one, (cols, 1): a (cols,) block is refused, never broadcast.

        Raises:
            ValueError: if the inner sizes differ.
        """
        if isinstance(other, Tensor):
            return self.matmat(other)
        if self.shape[1] != other.shape[0]:
            raise ValueError(f"cannot compose {self.shape} with {other.shape}: inner sizes differ")
        return LinearOperator(
            (self.shape[0], other.shape[1]),
            lambda x: self.matmat(other.matmat(x.T)).T,
            lambda y: other.rmatmat(self.rmatmat(y.T)).T,
            dtype=self.dtype,
            device=self.device,
        )

    @property
    def T(self) -> LinearOperator:
        """A^T, cols x rows. Its products are counted by both."""
        return LinearOperator(
            (self.shape[1], self.shape[0]),
            lambda x: self.rmatmat(x.T).T,
            lambda y: self.matmat(y.T).T,
            dtype=self.dtype,
            device=self.device,
        )

    def adjoint_gap(self, seed: int = 0) -> float:
        """|<A v, u> - <v, A^T u>| / (||A v|| ||u||), v random and u = A v beside a random direction: two products.

        With u random alone the inner products would be a small part of ||A v|| ||u|| in many rows, and a reverse
        product that is wrong by a few per cent would hide there. 0 for an operator that sends v to 0.
        """
        generator = torch.Generator().manual_seed(seed)  # the same directions on every device
        v = torch.randn((self.shape[1], 1), generator=generator, dtype=torch.float64).to(self.device, self.dtype)
        pushed = self.matmat(v)[:, 0].double()
        size = torch.linalg.vector_norm(pushed)
        if float(size) == 0.0:
            return 0.0
        aside = torch.randn(self.shape[0], generator=generator, dtype=torch.float64).to(self.device)
        # Unequal parts: in one dimension they would otherwise cancel.
        u = (pushed / size + 0.5 * aside / torch.linalg.vector_norm(aside)).to(self.dtype).double()
        pulled = self.rmatmat(u[:, None])[:, 0].double()
        gap = (pushed @ u - v[:, 0].double() @ pulled).abs()
        return float(gap / (size * torch.linalg.vector_norm(u)))

    def require_adjoint(self, name: str, tolerance: float, seed: int = 0) -> None:
        """Refuse an operator whose products are not each other's adjoints.

        Raises:
            AdjointError: if `adjoint_gap` is above `tolerance`.
        """
        gap = self.adjoint_gap(seed)
        if not gap <= tolerance:
            raise AdjointError(
                f"forward and reverse products of {name} must be adjoint to {tolerance:.1e}; got a gap of {gap:.1e}"
            )

    def deflate(self, u: Tensor) -> LinearOperator:
        """(I - u u^T) A for a unit vector u, (rows,).

        Raises:
            ValueError: if u is not a unit vector of `rows` entries.
        """
        if u.shape != (self.shape[0],):
            raise ValueError(f"the direction taken out must be ({self.shape[0]},); got {tuple(u.shape)}")
        norm = float(torch.linalg.vector_norm(u.double()))
        if abs(norm - 1.0) > 64 * torch.finfo(u.dtype).eps * u.numel() ** 0.5:
            raise ValueError(f"the direction taken out must be a unit vector; got norm {norm}")
        unit = u.to(self.dtype)
        return LinearOperator(
            self.shape,
            lambda x: _without(self.matmat(x.T).T, unit),
            lambda y: self.rmatmat(_without(y, unit).T).T,
            dtype=self.dtype,
            device=self.device,
        )

    @property
    def nbytes(self) -> int:
        """Size of the dense matrix in bytes."""
        return self.shape[0] * self.shape[1] * torch.finfo(self.dtype).bits // 8

    def materialise(self, budget_bytes: int = MATERIALISE_BUDGET_BYTES) -> DenseOperator:
        """The matrix itself, row by row through reverse products; afterwards products are GEMMs.

        Raises:
            ValueError: if it would take more than `budget_bytes`.
        """
        if self.nbytes > budget_bytes:
            raise ValueError(
                f"a dense {self.shape[0]} x {self.shape[1]} operator takes {self.nbytes} bytes; "
                f"the budget is {budget_bytes}"
            )
        eye = torch.eye(self.shape[0], dtype=self.dtype, device=self.device)
        return DenseOperator(self.rmatmat(eye).T)


class DenseOperator(LinearOperator):
    """A matrix, (rows, cols), as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2:
            raise ValueError(f"a dense operator takes a matrix; got shape {tuple(matrix.shape)}")
        super().__init__(
            (matrix.shape[0], matrix.shape[1]),
            lambda x: x @ matrix.T,
            lambda y: y @ matrix,
            dtype=matrix.dtype,
            device=matrix.device,
        )
        self.matrix = matrix

    def materialise(self, budget_bytes: int = MATERIALISE_BUDGET_BYTES) -> DenseOperator:
        return self


def gram64(a: Tensor, b: Tensor) -> Tensor:
    """A B^T in float64 for direction-first A (p, n) and B (q, n), block by block so that no float64 copy is large.

    A float32 Gram matrix squares the condition and keeps nothing of small singular values; float64 keeps what
    float32 entries hold.
    """
    out = torch.zeros((a.shape[0], b.shape[0]), dtype=torch.float64, device=a.device)
    step = max(_LEAST_COLUMNS, _GRAM_ENTRIES // (len(a) + len(b)))  # both float64 copies stay in the cache
    for start in range(0, a.shape[1], step):
        block = slice(start, start + step)
        left = a[:, block].double()
        out += left @ (left if b is a else b[:, block].double()).T
    return out


def _without(x: Tensor, u: Tensor) -> Tensor:
    return x - (x @ u)[:, None] * u
