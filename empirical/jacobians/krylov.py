"""Leading singular triplets of a linear operator, with what they are worth.

One algorithm serves every size: Rayleigh-Ritz on a left space Q (rows x p), grown by block Lanczos steps on A A^T with
full reorthogonalisation (`krylov_space`). With Q = I it is the exact dense case, whose spectrum is complete. Residuals
are measured at the end by products of their own (`krylov_finish`), and a value whose residual is above the tolerance
is not a singular value: NaN in `s`, False in `converged`.

Where a product is what costs, one direction a step takes the fewest: on an organism's J_L, 38-50 products find the
leading five to 1e-3 where blocks of nine take 108-144. (At an organism's size a call costs more than its arithmetic,
and blocks of four are up to a third faster in spite of their products; at tiny's and above one direction is fastest.)
But a space grown from one vector holds one vector of a value of higher multiplicity, and one of a cluster narrower than
the tolerance. So a space from fewer than k vectors is looked at again: four steps from a random direction beside it. If
a leading value moves by more than the tolerance, something was missed; the residuals' directions are followed until all
stands still, and it is looked at again, from twice as many directions. Of 120 exact doubles of the second, third or
fourth value put into organisms' Jacobians (float64, k = 5), four steps found 117, three 105, two 79; where one is
missed, the values after it are reported one place too high.
A block of k directions or more misses no multiplicity up to k, and is not looked at again.

W = A^T Q is what takes memory: cols x p, dozens of vectors of S d entries. Where it is refused, the block is halved
and the iteration begins anew without W; v then takes k more products. The result says so (`block`, `refusals`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from empirical.jacobians.decompositions import floor, qr_positive, require_finite
from empirical.jacobians.krylov_finish import finish, finish_dense, finish_without
from empirical.jacobians.krylov_space import Budget, LeftSpace, random_directions, ritz
from empirical.jacobians.operators import (
    MATERIALISE_BUDGET_BYTES,
    DenseOperator,
    LinearOperator,
    OutOfMemoryError,
    available_bytes,
    is_out_of_memory,
)
from empirical.jacobians.triplets import Products, Triplets

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
# Below this many rows all products of the dense case cost about what the iteration would, and buy the whole spectrum.
DENSE_ROWS = 160
# The recursion's own residuals must be below this part of the tolerance: what is measured then differs by rounding.
_MARGIN = 0.8
# Part of s_1 below which a float64 Gram matrix knows nothing; no step mends that, and the measured residual tells.
_GRAM_FLOOR = 1e-7
_EXTRA = 4
_MOST_STEPS = 40
_PROBES = 8
_GUARD_STEPS = 4
# Part of a warm start that is random, so that nothing is out of its reach.
_FRESH = 0.01


def leading_triplets(
    operator: LinearOperator,
    k: int,
    *,
    tolerance: float | None = None,
    start: Tensor | None = None,
    block: int | None = None,
    max_steps: int = _MOST_STEPS,
    budget_bytes: int = MATERIALISE_BUDGET_BYTES,
    frobenius: bool = True,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> Triplets:
    """The k leading singular triplets, dense where that is cheap, by Krylov steps otherwise.

    Where memory is refused, by the budget or by the allocator, the block of directions is halved and all begins anew.

    Args:
        operator: A, rows x cols. Where rows > cols, it is A^T that is worked on.
        k: how many, 1 <= k <= min(rows, cols).
        tolerance: largest relative residual of a converged value; by default 1e-3 in float32, 1e-8 in float64.
        start: (rows, any) directions to begin with, such as the left vectors one depth before: their sum, where the
            block is smaller. Left aside where they would be all that the space begins with and is not looked at again.
        block: directions a step. By default 1, the fewest products; k + 4 for a matrix that is there, and on a GPU,
            where a few directions cost what one does.
        max_steps: steps of k + 4 directions, or as many directions in smaller steps, before giving up; what has not
            converged then is NaN.
        budget_bytes: largest dense matrix.
        frobenius: False skips the norm's probes (frobenius is then NaN where the spectrum is incomplete).
        seed: of the starting block, the guard, the checks and the probes.
        memory_bytes: most that the vectors kept may take, beside what the operator's products take; by default nine
            tenths of what the machine has left.

    Raises:
        ValueError: if k or block is out of range.
        NonFiniteError: if a product is not finite.
        OutOfMemoryError: if there is no memory for one direction a step and the k vectors asked for.
    """
    rows, cols = operator.shape
    if not 1 <= k <= min(rows, cols):
        raise ValueError(f"k must lie in [1, {min(rows, cols)}] for a {rows} x {cols} operator; got {k}")
    tolerance = TOLERANCE[operator.dtype] if tolerance is None else tolerance
    if not tolerance > 0.0:
        raise ValueError(f"tolerance must be positive; got {tolerance}")
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1; got {block}")
    if memory_bytes is None and (left := available_bytes(operator.device)) is not None:
        memory_bytes = left * 9 // 10
    if rows > cols:  # the left space is what is kept in float64: it is grown on the shorter side
        known = operator.products
        start = None if start is None else operator.rmatmat(start.double().sum(1, keepdim=True))
        other = leading_triplets(
            operator.T,
            k,
            tolerance=tolerance,
            start=start,
            block=block,
            max_steps=max_steps,
            budget_bytes=budget_bytes,
            frobenius=frobenius,
            seed=seed,
            memory_bytes=memory_bytes,
        )
        return _transposed(other, operator.products - known)
    budget = Budget(operator, memory_bytes)
    refusals = 0
    if rows <= DENSE_ROWS and operator.nbytes <= budget_bytes:
        try:
            budget.claim(3 * rows)
            return _dense(operator, k, tolerance, budget_bytes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            refusals = 1
    full = min(k + _EXTRA, rows)
    if block is None:
        block = full if isinstance(operator, DenseOperator) or operator.device.type == "cuda" else 1
    block, keep = min(block, rows), refusals == 0
    while True:
        try:
            task = _Task(operator, k, tolerance, block, max_steps * full // block, keep, budget, seed)
            return dataclasses.replace(_iterate(task, start, frobenius), block=block, refusals=refusals)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, whose traceback holds on to every tensor of the attempt.
        if block == 1 and not keep:
            raise OutOfMemoryError(
                f"no memory for one direction a step and {k} vectors of a {rows} x {cols} operator: {reason}"
            )
        refusals, block, keep = refusals + 1, max(1, block // 2), False


@dataclass(frozen=True, slots=True)
class _Task:
    operator: LinearOperator
    k: int
    tolerance: float
    block: int
    max_steps: int
    keep: bool
    budget: Budget
    seed: int

    def generator(self, purpose: int) -> torch.Generator:
        """A stream of its own for the start (0), the guard (1) and the probes (2): none moves another."""
        return torch.Generator(device=self.operator.device).manual_seed((4 * self.seed + purpose) % 2**63)


def _transposed(found: Triplets, products: int) -> Triplets:
    """Triplets of A from those of A^T, u orthonormal in float64 again."""
    return dataclasses.replace(
        found,
        u=qr_positive("the left vectors", found.v.double())[0],
        v=found.u.to(found.v.dtype),
        products=dataclasses.replace(
            found.products, iteration=found.products.iteration + products - found.products.total
        ),
    )


def _dense(operator: LinearOperator, k: int, tolerance: float, budget_bytes: int) -> Triplets:
    began = operator.products
    dense = operator.materialise(budget_bytes)
    q = torch.eye(operator.shape[0], dtype=torch.float64, device=operator.device)
    s, y = ritz(require_finite("the matrix", dense.matrix))
    spectrum = s[: min(operator.shape)]
    known = operator.products
    found = finish_dense(dense.matrix, q, y, operator, k, tolerance)
    return dataclasses.replace(
        found,
        spectrum=spectrum,
        frobenius=float(torch.linalg.vector_norm(spectrum)),
        frobenius_se=0.0,
        products=Products(iteration=known - began, verification=operator.products - known),
    )


def _iterate(task: _Task, start: Tensor | None, frobenius: bool) -> Triplets:
    operator, k = task.operator, task.k
    space = LeftSpace(operator, task.budget, keep=task.keep)
    began = operator.products
    steps, guard = _expand(task, space, start)
    grown = operator.products
    if task.keep:
        task.budget.claim(space.size + 6 * k)
    spectrum = None
    if space.complete:
        spectrum = space.s[: min(operator.shape)]
        norm, se = float(torch.linalg.vector_norm(spectrum)), 0.0
    else:
        norm, se = _frobenius(task, space) if frobenius else (math.nan, math.nan)
    probed = operator.products
    if task.keep:
        found = finish(space, k, task.tolerance, task.seed)
    else:
        found = finish_without(space, k, task.tolerance, task.block, task.seed)
    return dataclasses.replace(
        found,
        spectrum=spectrum,
        frobenius=norm,
        frobenius_se=se,
        steps=steps,
        products=Products(grown - began - guard, guard, operator.products - probed, probed - grown),
    )


def _expand(task: _Task, space: LeftSpace, start: Tensor | None) -> tuple[int, int]:
    """Grow the space until the k leading values stand still, and have been looked at again; steps, and the guard's
    products among them."""
    operator, k = task.operator, task.k
    rows, device = operator.shape[0], operator.device
    steps, spent, width = 0, 0, 1
    fresh, again = task.generator(0), task.generator(1)
    unguarded = k == 1 or task.block >= k
    if unguarded and start is not None and start.shape[1] >= task.block:
        # Begun with what is exact, or nearly, for a lesser value, it would stand still there, and nothing would look
        # again; with the guard it would take the products of a cold start.
        start = None
    new = _first(random_directions(rows, task.block, fresh, device), start)
    while steps < task.max_steps:
        z = space.extend(new)
        if z.shape[1] == 0:  # the space is invariant: nothing more is reachable from it
            if task.block >= k:
                break
            # A small block has only met one vector of each multiple value.
            z = space.extend(random_directions(rows, task.block, fresh, device))
        steps += 1
        if space.complete:
            break
        loose = _residuals(task, space)
        if space.size < k or loose.shape[1]:
            # A chain goes on from its newest product; after a guard there are several, and residuals know them all.
            new = z if width == 1 or space.size < k else loose[:, : max(task.block, width)]
            continue
        if unguarded:
            break
        before, began = space.s[:k], operator.products
        new = random_directions(rows, min(width, rows - space.size), again, device)
        for _ in range(_GUARD_STEPS):
            new = space.extend(new)
            if new.shape[1] == 0 or space.complete:
                break
            steps += 1
        spent += operator.products - began
        loose = _residuals(task, space)
        resolved = space.s[:k] > _resolution(operator.dtype) * space.s[0]
        moved = bool((resolved & (space.s[:k] - before > task.tolerance * before)).any())
        if space.complete or (not moved and loose.shape[1] == 0):
            break
        width = min(2 * width, k)
        new = loose[:, : max(task.block, width)] if loose.shape[1] else new
    return steps, spent


def _residuals(task: _Task, space: LeftSpace) -> Tensor:
    """Residual directions of the leading pairs that have not converged in the recursion, (rows, <= k)."""
    residuals = space.residuals(min(task.k, space.size))
    errors = space.errors(residuals, _resolution(task.operator.dtype))
    return residuals[:, errors > _MARGIN * task.tolerance]


def _resolution(dtype: torch.dtype) -> float:
    """Relative size below which neither the products nor the Gram matrix of W know a singular value."""
    return max(floor(dtype), _GRAM_FLOOR)


def _first(random: Tensor, start: Tensor | None) -> Tensor:
    """The starting block, (rows, block): what is known, summed where the block is smaller, and a random part."""
    if start is None:
        return random
    block = random.shape[1]
    known = start.to(torch.float64)
    if known.shape[1] < block:  # random directions stand beside them
        random[:, : known.shape[1]] = known
        return random
    sums = torch.stack([known[:, column::block].sum(1) for column in range(block)], 1)
    size = torch.linalg.vector_norm(sums, dim=0)
    return sums + torch.where(size > 0.0, _FRESH * size, 1.0) * random / torch.linalg.vector_norm(random, dim=0)


def _frobenius(task: _Task, space: LeftSpace) -> tuple[float, float]:
    """||A||_F = sqrt(||A^T Q||_F^2 + E ||A^T (I - Q Q^T) z||^2), z Rademacher, and its standard error.

    What the space Q holds is exact, so only the remainder is estimated (Hutch++'s idea, on the left space).
    """
    q, rows = space.q, len(space.q)
    signs = torch.randint(0, 2, (rows, _PROBES), generator=task.generator(2), device=q.device).double()
    signs = signs.mul_(2.0).sub_(1.0)
    signs -= q @ (q.T @ signs)
    together = max(task.block, _PROBES // 2) if task.keep else task.block
    sample = torch.cat(
        [
            torch.linalg.vector_norm(task.operator.rmatmat(part), dim=0, dtype=torch.float64).square()
            for part in signs.split(together, 1)
        ]
    )
    squared = float(space.s.square().sum() + sample.mean())
    error = float(sample.std() / math.sqrt(_PROBES))
    norm = math.sqrt(squared)
    return norm, error / (2.0 * norm) if norm > 0.0 else 0.0
