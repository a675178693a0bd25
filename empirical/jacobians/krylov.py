"""Leading singular triplets of a linear operator, with what they are worth.

One algorithm serves every size: Rayleigh-Ritz on a left space Q (rows x p), grown block by block (block Golub-Kahan
with full reorthogonalisation). W = A^T Q and Z = A W are real products; the float64 Gram matrix of W gives s and y,
and then u = Q y, v = W y / s, A v - s u = Z y / s - s u. With Q = I it is the exact dense case, whose spectrum is
complete. Residuals are measured at the end with products of their own, never taken from the recursion:

    residual = max(||A v - s u||, ||A^T u - s v||) / s

and a value whose residual is above the tolerance is not a singular value: NaN in `s`, False in `converged`.

W is what takes memory: cols x p, hundreds of vectors of S d entries. Where it is refused, the block is halved and the
iteration begins anew without W: Q^T Z is the same Gram matrix, with its small values less exact, and v takes k more
products. The result says so (`block`, `refusals`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from empirical.jacobians.operators import (
    MATERIALISE_BUDGET_BYTES,
    LinearOperator,
    OutOfMemoryError,
    available_bytes,
    gram64,
    is_out_of_memory,
    require_finite,
)

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
# Below this many rows all products of the dense case cost about what the iteration would, and buy the whole spectrum.
DENSE_ROWS = 160
_EXTRA = 4
_MOST_STEPS = 40
_PROBES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Triplets:
    """The k leading singular triplets of an operator A (rows x cols).

    Attributes:
        s: singular values, descending, (k,) float64; NaN where unconverged.
        estimate: the same without NaN: best estimates, for error messages and warm starts, never to be reported.
        u: left vectors, (rows, k) float64, unit.
        v: right vectors, (cols, k), of the operator's dtype, unit up to its rounding.
        residual: max of both residuals relative to s; relative to s_1 where s is 0 to rounding.
        converged: (k,) bool, residual <= tolerance.
        frobenius: ||A||_F; exact where the spectrum is complete, else a deflated Hutchinson estimate.
        frobenius_se: its standard error, 0 where exact.
        spectrum: all min(rows, cols) singular values, or None where they are not known.
        steps: block steps taken, 0 for the dense case.
        block: directions a step, k + 4 unless memory was refused; 0 for the dense case.
        refusals: times that memory was refused, each of which halved the block.
    """

    s: Tensor
    estimate: Tensor
    u: Tensor
    v: Tensor
    residual: Tensor
    converged: Tensor
    frobenius: float
    frobenius_se: float
    spectrum: Tensor | None
    steps: int
    block: int = 0
    refusals: int = 0

    @property
    def share(self) -> tuple[float, float]:
        """s_1^2 / ||A||_F^2 and its standard error; NaN where s_1 is unconverged or A is zero."""
        first = float(self.s[0])
        if not math.isfinite(first) or self.frobenius == 0.0:
            return math.nan, math.nan
        share = min(1.0, first**2 / self.frobenius**2)
        return share, 2.0 * share * self.frobenius_se / self.frobenius

    @property
    def effective_rank(self) -> float:
        """exp(entropy of s_i^2 / ||A||_F^2) over the whole spectrum (O2, Jacobian's Gram matrix); NaN if unknown."""
        if self.spectrum is None or not float(self.spectrum[0]) > 0.0:
            return math.nan
        p = self.spectrum.square() / self.spectrum.square().sum()
        return math.exp(float(torch.special.entr(p).sum()))


def leading_triplets(
    operator: LinearOperator,
    k: int,
    *,
    tolerance: float | None = None,
    start: Tensor | None = None,
    max_steps: int = _MOST_STEPS,
    budget_bytes: int = MATERIALISE_BUDGET_BYTES,
    frobenius: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> Triplets:
    """The k leading singular triplets, dense where that is cheap, by block Krylov steps otherwise.

    Where memory is refused, by the budget or by the allocator, the block of directions is halved and all begins anew.
    A value of higher multiplicity than the block may then be found fewer times than it is there.

    Args:
        operator: A, rows x cols; wanted with rows <= cols where they differ, the left space being the one kept.
        k: how many, 1 <= k <= min(rows, cols).
        tolerance: largest relative residual of a converged value; by default 1e-3 in float32, 1e-8 in float64.
        start: (rows, any) directions to begin with, such as the left vectors one depth before.
        max_steps: block steps before giving up; what has not converged then is NaN.
        budget_bytes: largest dense matrix.
        frobenius: False skips the norm's probes (frobenius is then NaN where the spectrum is incomplete).
        seed: of the starting block and the probes.
        memory_bytes: most that the vectors kept may take, beside what the operator's products take; by default nine
            tenths of what the machine has left.

    Raises:
        ValueError: if k is out of range.
        NonFiniteError: if a product is not finite.
        OutOfMemoryError: if there is no memory for one direction a step and the k vectors asked for.
    """
    rows, cols = operator.shape
    if not 1 <= k <= min(rows, cols):
        raise ValueError(f"k must lie in [1, {min(rows, cols)}] for a {rows} x {cols} operator; got {k}")
    tolerance = TOLERANCE[operator.dtype] if tolerance is None else tolerance
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be positive; got {tolerance}")
    if memory_bytes is None and (left := available_bytes(operator.device)) is not None:
        memory_bytes = left * 9 // 10
    budget = _Budget(operator, memory_bytes)
    if rows <= DENSE_ROWS and operator.nbytes <= budget_bytes and budget.allows(3 * rows):
        try:
            return _dense(operator, k, tolerance, budget_bytes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            refusals = 1
    else:
        refusals = int(rows <= DENSE_ROWS and operator.nbytes <= budget_bytes)
    block = full = min(k + _EXTRA, rows)
    keep = refusals == 0
    while True:
        try:
            task = _Task(operator, k, tolerance, block, max_steps * full // block, keep, budget, seed)
            return dataclasses.replace(_iterate(task, start, frobenius), block=block, refusals=refusals)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, whose traceback holds on to every tensor of the attempt.
        if block == 1:
            raise OutOfMemoryError(
                f"no memory for one direction a step and {k} vectors of a {rows} x {cols} operator: {reason}"
            )
        refusals, block, keep = refusals + 1, block // 2, False


@dataclass(frozen=True, slots=True)
class _Budget:
    """Bytes that vectors of the operator's longer side may take."""

    operator: LinearOperator
    limit: int | None

    def allows(self, vectors: int) -> bool:
        return self.limit is None or self._bytes(vectors) <= self.limit

    def claim(self, vectors: int) -> None:
        """Refuse what the machine would not: beforehand, and in the same words at every size."""
        if not self.allows(vectors):
            cols = self.operator.shape[1]
            raise OutOfMemoryError(
                f"{vectors} vectors of {cols} entries take {self._bytes(vectors)} bytes; the budget is {self.limit}"
            )

    def _bytes(self, vectors: int) -> int:
        return vectors * self.operator.shape[1] * torch.finfo(self.operator.dtype).bits // 8


@dataclass(frozen=True, slots=True)
class _Task:
    operator: LinearOperator
    k: int
    tolerance: float
    block: int
    max_steps: int
    keep: bool
    budget: _Budget
    seed: int


def _dense(operator: LinearOperator, k: int, tolerance: float, budget_bytes: int) -> Triplets:
    dense = operator.materialise(budget_bytes)
    q = torch.eye(operator.shape[0], dtype=torch.float64, device=operator.device)
    s, y = _ritz(require_finite("the matrix", dense.matrix))
    spectrum = s[: min(operator.shape)]
    norm = float(torch.linalg.vector_norm(spectrum))
    return _finish(operator, q, [dense.matrix], s, y, k, tolerance, (norm, 0.0), spectrum, 0)


def _iterate(task: _Task, start: Tensor | None, frobenius: bool) -> Triplets:
    operator, rows = task.operator, task.operator.shape[0]
    generator = torch.Generator(device=operator.device).manual_seed(task.seed)
    q, w, s, y, steps = _expand(task, start, generator)
    complete = q.shape[1] >= rows
    spectrum = s[: min(operator.shape)] if complete else None
    if complete:
        norm = (float(torch.linalg.vector_norm(s)), 0.0)
    else:
        norm = _frobenius(operator, q, s, generator, task.block) if frobenius else (math.nan, math.nan)
    if task.keep:
        task.budget.claim(q.shape[1] + 6 * task.k)
        return _finish(operator, q, w, s, y, task.k, task.tolerance, norm, spectrum, steps)
    return _finish_without(task, q, y, norm, spectrum, steps)


def _expand(
    task: _Task, start: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, list[Tensor], Tensor, Tensor, int]:
    """Grow the left space until the k leading residuals of the recursion are below half the tolerance."""
    operator, k = task.operator, task.k
    rows = operator.shape[0]
    new = torch.randn((rows, task.block), generator=generator, dtype=torch.float64, device=operator.device)
    if start is not None:
        known = start.to(torch.float64)[:, : task.block]
        new[:, : known.shape[1]] = known
    q = new.new_zeros((rows, 0))
    w: list[Tensor] = []  # by block: these are the large ones, and joining them anew at each step would copy them all
    z = new.new_zeros((rows, 0))
    gram = new.new_zeros((0, 0))
    s = y = new.new_zeros((0, 0))
    for step in range(1, task.max_steps + 1):
        basis = _orthonormal(new, q)
        if basis.shape[1] == 0:  # the space is invariant: nothing more is reachable from it
            if task.block >= k:
                return q, w, s, y, step - 1
            # A small block may only have met one vector of each multiple value.
            new = torch.randn((rows, task.block), generator=generator, dtype=q.dtype, device=q.device)
            basis = _orthonormal(new, q)
        old, size = q.shape[1], q.shape[1] + basis.shape[1]
        task.budget.claim(size if task.keep else 2 * basis.shape[1])
        fresh = require_finite("a Jacobian product", operator.rmatmat(basis).T)
        z_new = require_finite("a Jacobian product", operator.matmat(fresh.T)).double()
        q, z = torch.cat([q, basis], 1), torch.cat([z, z_new], 1)
        grown = gram.new_zeros((size, size))
        grown[:old, :old] = gram
        if task.keep:
            w = [*w, fresh]
            grown[old:] = torch.cat([gram64(fresh, block) for block in w], 1)
        else:
            across = q.T @ z_new
            across[old:] = 0.5 * (across[old:] + across[old:].T)
            grown[old:] = across.T
        del fresh
        grown[:old, old:] = grown[old:, :old].T
        gram = grown
        s, y = _eigen(gram)
        if size >= rows:
            return q, w, s, y, step
        if len(s) >= k:
            top = y[:, :k] / s[:k].clamp_min(torch.finfo(torch.float64).tiny)
            error = torch.linalg.vector_norm(z @ top - (q @ y[:, :k]) * s[:k], dim=0) / s[:k]
            if bool((error[s[:k] > _floor(operator.dtype) * s[0]] <= 0.5 * task.tolerance).all()):
                return q, w, s, y, step
        new = z_new
    return q, w, s, y, task.max_steps


def _finish_without(
    task: _Task, q: Tensor, y: Tensor, norm: tuple[float, float], spectrum: Tensor | None, steps: int
) -> Triplets:
    """Vectors and residuals where W was not kept: v = A^T u / ||A^T u||, a block of them at a time."""
    operator, k = task.operator, task.k
    u = q @ y[:, :k]
    if u.shape[1] < k:
        extra = torch.randn(len(q), k - u.shape[1], dtype=q.dtype, generator=_fixed(q), device=q.device)
        u = torch.cat([u, _orthonormal(extra, q)], 1)
    task.budget.claim(k + 3 * task.block)
    v = torch.empty((k, operator.shape[1]), dtype=operator.dtype, device=operator.device)
    size, error = u.new_empty(k), u.new_empty(k)
    for part in torch.arange(k, device=q.device).split(task.block):
        raw = operator.rmatmat(u[:, part]).T
        # By column and in float64 only inside the sum: norms of long float32 columns are off by 1e-5.
        size[part] = torch.linalg.vector_norm(raw, dim=1, dtype=torch.float64)
        v[part] = raw / size[part].clamp_min(torch.finfo(raw.dtype).tiny).to(raw.dtype)[:, None]
        error[part] = torch.linalg.vector_norm(operator.matmat(v[part].T).double() - size[part] * u[:, part], dim=0)
    size, order = size.sort(descending=True, stable=True)
    scale = float(size[0])
    zero = size <= _floor(operator.dtype) * scale
    # A^T u = s v holds by construction; where s is 0 to rounding, that A^T u vanishes beside s_1 is all there is.
    error = torch.where(zero, size, error[order])
    residual = error / torch.where(zero, scale if scale > 0.0 else 1.0, size)
    converged = residual <= task.tolerance
    estimate = torch.where(zero, 0.0, size)
    return Triplets(
        s=torch.where(converged, estimate, torch.nan),
        estimate=estimate,
        u=u[:, order],
        v=v[order].T,
        residual=residual,
        converged=converged,
        frobenius=norm[0],
        frobenius_se=norm[1],
        spectrum=spectrum,
        steps=steps,
    )


def _finish(
    operator: LinearOperator,
    q: Tensor,
    w: list[Tensor],
    s: Tensor,
    y: Tensor,
    k: int,
    tolerance: float,
    norm: tuple[float, float],
    spectrum: Tensor | None,
    steps: int,
) -> Triplets:
    """Vectors, and residuals by products of their own."""
    if len(s) < k:  # an invariant space smaller than k: what is missing is the operator's kernel
        missing = k - len(s)
        extra = _orthonormal(torch.randn(len(q), missing, dtype=q.dtype, generator=_fixed(q)), q)
        w = [torch.cat([*w, operator.rmatmat(extra).T])]
        q = torch.cat([q, extra], 1)
        s, y = _ritz(w[0])
    y = y[:, :k]
    # QR in order of size, not division by sqrt(eigenvalue): u_i holds eps u_1, hence W y_i holds eps s_1 v_1, which A
    # would blow up to eps s_1^2 / s_i; and |R_ii| keeps small values that a Gram matrix loses below sqrt(eps) s_1.
    parts = y.to(operator.dtype).split([len(block) for block in w])
    raw = sum(block.T @ part for block, part in zip(w, parts, strict=True))
    v, triangle = torch.linalg.qr(torch.as_tensor(raw).double())  # norms of long float32 columns are off by 1e-5
    v = v * torch.where(triangle.diagonal() < 0.0, -1.0, 1.0)
    estimate, order = triangle.diagonal().abs().sort(descending=True, stable=True)
    v, y = v[:, order].to(operator.dtype), y[:, order]
    scale = float(estimate[0])
    zero = estimate <= _floor(operator.dtype) * scale
    estimate = torch.where(zero, 0.0, estimate)
    u = q @ y
    reverse = operator.rmatmat(u).double()
    backward = torch.linalg.vector_norm(reverse - estimate * v.double(), dim=0)
    forward = torch.linalg.vector_norm(operator.matmat(v).double() - estimate * u, dim=0)
    # Where s is 0 to rounding, v is not a vector at all: what must hold is that A^T u vanishes beside s_1.
    error = torch.where(zero, torch.linalg.vector_norm(reverse, dim=0), torch.maximum(forward, backward))
    reference = torch.where(zero, scale if scale > 0.0 else 1.0, estimate)
    residual = error / reference
    converged = residual <= tolerance
    return Triplets(
        s=torch.where(converged, estimate, torch.nan),
        estimate=estimate,
        u=u,
        v=v,
        residual=residual,
        converged=converged,
        frobenius=norm[0],
        frobenius_se=norm[1],
        spectrum=spectrum,
        steps=steps,
    )


def _frobenius(
    operator: LinearOperator, q: Tensor, s: Tensor, generator: torch.Generator, block: int
) -> tuple[float, float]:
    """||A||_F = sqrt(||A^T Q||_F^2 + E ||A^T (I - Q Q^T) z||^2), z Rademacher, and its standard error.

    What the space Q holds is exact, so only the remainder is estimated (Hutch++'s idea, on the left space).
    """
    rows = len(q)
    signs = torch.randint(0, 2, (rows, _PROBES), generator=generator, device=q.device).to(torch.float64).mul_(2).sub_(1)
    signs -= q @ (q.T @ signs)
    sample = torch.cat(
        [
            torch.linalg.vector_norm(operator.rmatmat(part), dim=0, dtype=torch.float64).square()
            for part in signs.split(block, 1)
        ]
    )
    squared = float(s.square().sum() + sample.mean())
    error = float(sample.std() / math.sqrt(_PROBES))
    norm = math.sqrt(squared)
    return norm, error / (2.0 * norm) if norm > 0.0 else 0.0


def _ritz(w: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values and left vectors, descending, of a direction-first matrix W (p, n), by its float64 Gram matrix.

    Eigenvectors of values below sqrt(eps) s_1 are only a basis of their space: Rayleigh-Ritz again within it sorts
    them out, until they are above the floor of the products themselves.
    """
    s, y = _eigen(gram64(w, w))
    small = s <= 1e-6 * s[0]
    if w.dtype == torch.float64 and bool(small.any()) and not bool(small.all()):
        inner = gram64(rest := y[:, small].T @ w, rest)
        values, vectors = _eigen(inner)
        s, y = torch.cat([s[~small], values]), torch.cat([y[:, ~small], y[:, small] @ vectors], 1)
    return s, y


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0).clamp_min(0.0).sqrt(), vectors.flip(1)


def _orthonormal(new: Tensor, q: Tensor) -> Tensor:
    """An orthonormal basis of what `new` adds to the space q; directions that add nothing but rounding are left out."""
    size = torch.linalg.vector_norm(new, dim=0)
    largest = float(size.max()) if new.shape[1] else 0.0
    if largest == 0.0:
        return new[:, :0]
    new = new[:, size > torch.finfo(torch.float64).eps * largest]
    new = new / torch.linalg.vector_norm(new, dim=0)
    for _ in range(2):  # twice is enough (Kahan and Parlett)
        new = new - q @ (q.T @ new)
    basis, triangle = torch.linalg.qr(new)
    # A column that is a combination of the others leaves a diagonal of rounding size in R, and a random column in Q.
    basis = basis[:, triangle.diagonal().abs() > 1e-10]
    basis = basis - q @ (q.T @ basis)
    return torch.linalg.qr(basis)[0][:, : max(0, q.shape[0] - q.shape[1])]


def _floor(dtype: torch.dtype) -> float:
    """Relative size below which a singular value is rounding of the products."""
    return 8.0 * torch.finfo(dtype).eps


def _fixed(q: Tensor) -> torch.Generator:
    return torch.Generator(device=q.device).manual_seed(0)
