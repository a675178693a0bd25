"""The rank-r certificate: an r x m computation along chosen frames, and what the rest may add to it (T25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.bounds._scaled import ScaledMatrix, dense_layers, scaled
from theory.bounds._wide import ZERO, Wide, wide_hypot, wide_max
from theory.bounds.blocks import join_blocks
from theory.chains.chain import Chain

__all__ = ["FRAMES", "FrameCertificate", "FrameChoice", "certify_frames", "frames_of"]

FrameChoice = Literal["layers", "context", "forward", "backward"]

FRAMES: tuple[FrameChoice, ...] = ("layers", "context", "forward", "backward")

Layers = Sequence[tuple[ScaledMatrix, ScaledMatrix]]


@dataclass(frozen=True, slots=True)
class FrameCertificate:
    """Bounds on the singular values of J_L by the part of it inside r-dimensional frames. Logarithms are natural.

    Attributes:
        frames: "layers", "context", "forward", "backward" or "given".
        rank: r.
        block: layers joined into one before the frames were chosen.
        log_lower, log_upper: bounds on sigma_1 .. sigma_r of J_L, shape (r,); -inf where a lower bound is 0.
        log_next_upper: bound on sigma_{r+1}.
        log_error, log_rest: e_L and y_L: ||W_L^T J_L - X^_L|| and ||(I - W_L W_L^T) J_L|| are at most these.
        log_error_original, log_rest_original: e_L and y_L by the recursion of norms alone, as (T25) states it.
    """

    frames: str
    rank: int
    block: int
    log_lower: NDArray[np.float64]
    log_upper: NDArray[np.float64]
    log_next_upper: float
    log_error: float
    log_rest: float
    log_error_original: float
    log_rest_original: float


def frames_of(
    chain: Chain | NDArray[np.float64],
    choice: FrameChoice,
    rank: int,
    injections: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Orthonormal frames W_1 .. W_L of `rank` columns.

    * "layers": the leading left singular vectors of A_l.
    * "context": those of J_l.
    * "forward": those of J_1 in layer 1, then W_l an orthonormal basis of A_l W_{l-1}: (I - W_l W_l^T) A_l W_{l-1} = 0.
    * "backward": those of J_L in layer L, then W_{l-1} a basis of A_l^T W_l: W_l^T A_l (I - W_{l-1} W_{l-1}^T) = 0, so
      that X^ is exact.

    "context" and "backward" read J itself: they summarise it and predict nothing.

    Returns:
        Shape (L, d, r).

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if rank leaves 1..d, the choice is unknown or the shapes disagree.
    """
    a, b = dense_layers(chain, injections)
    return _frames(
        [(scaled(one), scaled(other)) for one, other in zip(a, b, strict=True)], choice, _rank(rank, a.shape[1])
    )


def _rank(rank: int, dimension: int) -> int:
    r = int(natural(rank, "rank"))
    if r > dimension:
        raise ValueError(f"rank must be at most the chain's dimension {dimension}; got {r}")
    return r


def _leading(matrix: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    return np.linalg.svd(matrix, full_matrices=True)[0][:, :rank]


def _frames(layers: Layers, choice: str, rank: int) -> NDArray[np.float64]:
    if choice not in FRAMES:
        raise ValueError(f"frames must be one of {', '.join(FRAMES)} or an array; got {choice!r}")
    if choice == "layers":
        return np.stack([_leading(a.matrix, rank) for a, _ in layers])
    jacobians = [layers[0][1]]
    for a, b in layers[1:]:
        jacobians.append(a @ jacobians[-1] + b)
    if choice == "context":
        return np.stack([_leading(jacobian.matrix, rank) for jacobian in jacobians])
    if choice == "forward":
        frames = [_leading(jacobians[0].matrix, rank)]
        for a, _ in layers[1:]:
            frames.append(np.linalg.qr(a.matrix @ frames[-1])[0])
        return np.stack(frames)
    frames = [_leading(jacobians[-1].matrix, rank)]
    for a, _ in layers[:0:-1]:
        frames.append(np.linalg.qr(a.matrix.T @ frames[-1])[0])
    return np.stack(frames[::-1])


def certify_frames(
    chain: Chain | NDArray[np.float64],
    frames: FrameChoice | NDArray[np.float64],
    rank: int | None = None,
    injections: NDArray[np.float64] | None = None,
    *,
    block: int = 1,
) -> FrameCertificate:
    """Bound the singular values of J_L by X^_L = W_L^T J_L as far as the frames alone carry it.

    Implements (T25), improved: the small r x r matrices T_l are multiplied before a norm is taken, what the frames send
    across themselves is added to the injections' part before a norm is taken, and the singular values of J = W X + Y
    lie between those of X and hypot(., ||Y||). Costs O(L^2) products of r x r by r x d matrices, unless the frames are
    exact.

    Args:
        chain: one chain, or its propagators A_l of shape (L, d, d).
        frames: how to choose them (see `frames_of`), or orthonormal W_l themselves, shape (ceil(L / block), d, r).
        rank: r, 1 <= r <= d; not needed with given frames.
        injections: B_l, shape (L, d, m), where propagators were given.
        block: join this many layers into one first (T17).

    Raises:
        TypeError: if the chain holds tracers.
        ValueError: if rank or block leaves its range, given frames are not orthonormal, or the shapes disagree.
    """
    layers = join_blocks(chain, block, injections)
    dimension = layers[0][0].matrix.shape[0]
    if isinstance(frames, str):
        if rank is None:
            raise ValueError("rank must be given with a choice of frames; got None")
        r = _rank(rank, dimension)
        name, w = frames, _frames(layers, frames, r)
    else:
        name, w = "given", _given(frames, len(layers), dimension)
        r = w.shape[2]
        if rank is not None and rank != r:
            raise ValueError(f"rank must be that of the given frames, {r}; got {rank}")
    inside, error, rest = _improved(layers, w)
    error_plain, rest_plain = _original(layers, w)
    values = inside.singular_values() + [ZERO] * r
    lower = [wide_max(value - error, ZERO).log() for value in values[:r]]
    upper = [wide_hypot(value + error, rest).log() for value in values[:r]]
    return FrameCertificate(
        frames=name,
        rank=r,
        block=int(block),
        log_lower=np.array(lower),
        log_upper=np.array(upper),
        log_next_upper=rest.log(),
        log_error=error.log(),
        log_rest=rest.log(),
        log_error_original=error_plain.log(),
        log_rest_original=rest_plain.log(),
    )


def _given(frames: NDArray[np.float64], depth: int, dimension: int) -> NDArray[np.float64]:
    w = np.asarray(frames, dtype=np.float64)
    if w.ndim != 3 or w.shape[:2] != (depth, dimension) or not 1 <= w.shape[2] <= dimension:
        raise ValueError(f"frames must have shape ({depth}, {dimension}, r) with 1 <= r <= {dimension}; got {w.shape}")
    off = float(np.max(np.abs(np.swapaxes(w, 1, 2) @ w - np.eye(w.shape[2]))))
    if not off <= 64 * dimension * float(np.finfo(np.float64).eps):
        raise ValueError(f"frames must have orthonormal columns; got a Gram matrix off the identity by {off:.3g}")
    return w


@dataclass(frozen=True, slots=True)
class _Split:
    """A layer in the bases of its frames: T, C act into W_l (from W_{l-1} and across it), G, H into its complement."""

    t: ScaledMatrix
    c: ScaledMatrix
    g: ScaledMatrix
    h: ScaledMatrix
    inside: ScaledMatrix
    outside: ScaledMatrix


def _across(w: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return matrix - w @ (w.T @ matrix)


def _split(layers: Layers, w: NDArray[np.float64]) -> list[_Split]:
    out = []
    for index, (a, b) in enumerate(layers):
        now, before = w[index], w[index - 1] if index else np.zeros_like(w[0])
        whole, inside = a.matrix, now.T @ a.matrix
        outside = _across(now, whole)
        out.append(
            _Split(
                t=scaled(inside @ before, a.exponent),
                c=scaled(_across(before, inside.T).T, a.exponent),
                g=scaled(outside @ before, a.exponent),
                h=scaled(_across(before, outside.T).T, a.exponent),
                inside=scaled(now.T @ b.matrix, b.exponent),
                outside=scaled(_across(now, b.matrix), b.exponent),
            )
        )
    return out


def _improved(layers: Layers, w: NDArray[np.float64]) -> tuple[ScaledMatrix, Wide, Wide]:
    """X^_L, e_L and y_L with products of the T_l computed."""
    inside = scaled(np.zeros((w.shape[2], layers[0][1].matrix.shape[1])))
    error, rest = ZERO, ZERO
    strays: list[tuple[ScaledMatrix, Wide]] = []  # T_l ... T_{k+1} C_k with y_{k-1}
    for part in _split(layers, w):
        drive = part.g @ inside + part.outside
        inside = part.t @ inside + part.inside
        strays = [(part.t @ stray, size) for stray, size in strays]
        if rest.fraction:
            strays.append((part.c, rest))
        grown = part.g.norm() * error + part.h.norm() * rest
        rest = drive.norm() + grown
        error = ZERO
        for stray, size in strays:
            error = error + stray.norm() * size
    return inside, error, rest


def _original(layers: Layers, w: NDArray[np.float64]) -> tuple[Wide, Wide]:
    """e_L and y_L by norms alone, as (T25) is stated."""
    inside = scaled(np.zeros((w.shape[2], layers[0][1].matrix.shape[1])))
    error, rest = ZERO, ZERO
    for part in _split(layers, w):
        size = inside.norm()
        error, rest = (
            part.t.norm() * error + part.c.norm() * rest,
            part.g.norm() * (size + error) + part.h.norm() * rest + part.outside.norm(),
        )
        inside = part.t @ inside + part.inside
    return error, rest
