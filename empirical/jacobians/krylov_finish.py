"""Ritz pairs made into singular triplets, with residuals that are measured and not taken from the recursion.

    residual = max(||A v - s u||, ||A^T u - s v||) / s

Where W = A^T Q was kept, A^T u = W y is already a sum of products. The forward residuals take a product each. The
reverse ones are looked at all at once, through one product with a random combination of signs: with r_i = A^T u_i -
s_i v_i and w_i = -1 or 1, E ||A^T (sum w_i u_i) - sum w_i s_i v_i||^2 = sum ||r_i||^2, and what is found counts against
every pair. Where that would refuse a value, and where s is 0 to rounding, each pair gets a reverse product of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from empirical.jacobians.decompositions import floor, qr_positive
from empirical.jacobians.krylov_space import Budget, LeftSpace, orthonormal, random_directions
from empirical.jacobians.operators import LinearOperator
from empirical.jacobians.triplets import Triplets


def finish(space: LeftSpace, k: int, tolerance: float, seed: int) -> Triplets:
    """Vectors and residuals where W was kept; the norm is NaN, for the caller to fill in."""
    operator = space.operator
    generator = torch.Generator(device=operator.device).manual_seed(seed)
    if space.size < k:  # an invariant space smaller than k: what is missing is the operator's kernel
        space.extend(random_directions(len(space.q), k - space.size, generator, operator.device))
    # QR in order of size, not division by sqrt(eigenvalue): u_i holds eps u_1, hence W y_i holds eps s_1 v_1, which A
    # would blow up to eps s_1^2 / s_i; and |R_ii| keeps small values that a Gram matrix loses below sqrt(eps) s_1.
    # In float64: norms of long float32 columns are off by 1e-5.
    v, diagonal = qr_positive("the right vectors", space.right(k).double().T)
    estimate, order = diagonal.sort(descending=True, stable=True)
    v = v.T[order]
    scale = float(estimate[0])
    zero = estimate <= floor(operator.dtype) * scale
    estimate = torch.where(zero, 0.0, estimate)
    u = space.q @ space.y[:, order]
    short = v.to(operator.dtype)
    forward = torch.linalg.vector_norm(operator.matmat(short.T).double() - estimate * u, dim=0)
    signs = torch.randint(0, 2, (k,), generator=generator, device=u.device).double().mul_(2.0).sub_(1.0)
    together = operator.rmatmat((u @ signs)[:, None])[:, 0].double()
    backward = torch.linalg.vector_norm(together - (signs * estimate) @ v).expand(k).clone()
    reference = torch.where(zero, scale if scale > 0.0 else 1.0, estimate)
    alone = zero | (backward > tolerance * reference)
    if bool(alone.any()):
        # Where s is 0 to rounding, v is not a vector at all: what must hold is that A^T u vanishes beside s_1.
        left = operator.rmatmat(u[:, alone]).T.double() - estimate[alone][:, None] * v[alone]
        backward[alone] = torch.linalg.vector_norm(left, dim=1)
    error = torch.where(zero, backward, torch.maximum(forward, backward))
    return _record(u, short.T, estimate, error / reference, tolerance)


def finish_dense(matrix: Tensor, q: Tensor, y: Tensor, operator: LinearOperator, k: int, tolerance: float) -> Triplets:
    """The same for a matrix that is there, (rows, cols) of the operator's products, and all of its left vectors."""
    space = LeftSpace(operator, Budget(operator, None), keep=True)
    space.hold(q, matrix, y)
    return finish(space, k, tolerance, 0)


def finish_without(space: LeftSpace, k: int, tolerance: float, block: int, seed: int) -> Triplets:
    """The same where W was not kept: v = A^T u / ||A^T u||, `block` of them at a time, at two products each."""
    operator, q = space.operator, space.q
    u = q @ space.y[:, :k]
    if u.shape[1] < k:
        generator = torch.Generator(device=q.device).manual_seed(seed)
        extra = orthonormal(random_directions(len(q), k - u.shape[1], generator, q.device), q)
        u = torch.cat([u, extra], 1)
    space.budget.claim(k + 3 * block)
    v = torch.empty((k, operator.shape[1]), dtype=operator.dtype, device=operator.device)
    size, error = u.new_empty(k), u.new_empty(k)
    for part in torch.arange(k, device=q.device).split(block):
        raw = operator.rmatmat(u[:, part]).T
        # By column and in float64 only inside the sum: norms of long float32 columns are off by 1e-5.
        size[part] = torch.linalg.vector_norm(raw, dim=1, dtype=torch.float64)
        v[part] = raw / size[part].clamp_min(torch.finfo(raw.dtype).tiny).to(raw.dtype)[:, None]
        error[part] = torch.linalg.vector_norm(operator.matmat(v[part].T).double() - size[part] * u[:, part], dim=0)
    size, order = size.sort(descending=True, stable=True)
    scale = float(size[0])
    zero = size <= floor(operator.dtype) * scale
    # A^T u = s v holds by construction; where s is 0 to rounding, that A^T u vanishes beside s_1 is all there is.
    error = torch.where(zero, size, error[order])
    residual = error / torch.where(zero, scale if scale > 0.0 else 1.0, size)
    return _record(u[:, order], v[order].T, torch.where(zero, 0.0, size), residual, tolerance)


def _record(u: Tensor, v: Tensor, estimate: Tensor, residual: Tensor, tolerance: float) -> Triplets:
    converged = residual <= tolerance
    return Triplets(
        s=torch.where(converged, estimate, torch.nan),
        estimate=estimate,
        u=u,
        v=v,
        residual=residual,
        converged=converged,
        frobenius=torch.nan,
        frobenius_se=torch.nan,
        spectrum=None,
        steps=0,
    )
