"""Corners of Haar matrices of any size, a few columns seen by r rows: what a layer of the residual family draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.simulators.draws import BLOCK

__all__ = ["ResidualDraw", "draw_residual_layers", "gram_schmidt"]

FAMILY = 32
"""Part of every stream's seed, from the tag (T32): no other simulator's chains on the same seed share its numbers."""

Columns = list[NDArray[Any]]
"""Columns of a matrix, the j-th of shape (rows of it that are not 0, ..., n); rows grow from one column to the next."""


@dataclass(frozen=True, slots=True, eq=False)
class ResidualDraw:
    """What one layer needs beside its numbers, for n chains; k columns of the state, r of the update.

    Attributes:
        written: M^T Q, the new write directions seen in the state's span: k columns of shape (r, 1, n).
        unseen: a triangular root of I - (M^T Q)^T M^T Q: k columns, the j-th of shape (j + 1, 1, n).
        read: N^T Q, the new read directions: k columns of shape (r, 1, n), independent of `written`.
        injected: the frame put in, m columns, the j-th of shape (rows + j + 1, 1, n), rows = k, and r before them if it
            is isotropic; None where none is.
        bulk: sqrt(d) G_l U, U the state's span: k columns in the basis of (X_l, the span of [s_w X - omega M], the
            rest of the state's, the unseen): a normal block of r + r + k rows and a triangular root, the j-th column of
            shape (2 r + k + j + 1, 1, n); None where there is no bulk.
    """

    written: Columns
    unseen: Columns
    read: Columns
    injected: Columns | None
    bulk: Columns | None


def gram_schmidt(columns: Columns) -> tuple[Columns, Columns]:
    """Orthonormal columns and the triangular root R: X = Q R, diagonal not negative, by modified Gram-Schmidt.

    A column of 0 has a unit column of 0. A column's error is relative to that column (Bjorck 1967).

    Args:
        columns: X; entries a column lacks at its end are 0.

    Returns:
        Q, columns of the same shapes, and R, the j-th column of shape (j + 1, ...).
    """
    left, units = list(columns), []
    root: list[list[Any]] = [[] for _ in columns]
    for j in range(len(left)):
        column = left[j]
        length = np.sqrt(_inner(column, column))
        root[j].append(length)
        unit = column * (1 / (length + (length == 0)))
        units.append(unit)
        for k in range(j + 1, len(left)):
            inner = _inner(unit, left[k][: len(unit)])
            root[k].append(inner)
            rest = left[k].copy()
            rest[: len(unit)] -= unit * inner
            left[k] = rest
    return units, [np.stack(entries) for entries in root]


def _inner(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return np.einsum("i...,i...->...", x, y)


class _Stream:
    """One block of chains: its normal and chi variables."""

    def __init__(self, seed: list[int], dtype: str) -> None:
        self.generator, self.kind = np.random.default_rng(seed), np.dtype(dtype)

    def normal(self, shape: tuple[int, ...]) -> NDArray[Any]:
        kind: Any = self.kind.type
        return self.generator.standard_normal((*shape, BLOCK), dtype=kind)

    def chi(self, freedom: int) -> NDArray[Any]:
        """Lengths of Gaussian vectors of this many entries; 0 for none."""
        kind: Any = self.kind.type
        return np.sqrt(2 * self.generator.standard_gamma(freedom / 2, BLOCK, dtype=kind))


def _corner(streams: list[_Stream], ambient: int, rows: int, columns: int) -> tuple[Columns, Columns]:
    """The first rows of Haar columns of R^D, and a triangular root for the rows unseen.

    A Gaussian matrix of D rows has a Haar frame for its QR factor Q (the diagonal of R positive). Its rows unseen are
    replaced by their triangular root, chi and normal variables (Bartlett): the QR of what is left is the same R.

    Args:
        streams: one a block.
        ambient: D.
        rows: how many rows are seen, at most D.
        columns: how many columns; those beyond D do not exist and are 0.

    Returns:
        Columns of shape (rows, 1, n), and of shape (j + 1, 1, n).
    """
    exist = min(columns, ambient)
    parts = []
    for stream in streams:
        block = []
        for j in range(exist):
            entries = stream.normal((rows + min(j, ambient - rows),))
            last = stream.chi(ambient - rows - j)[None] if j < ambient - rows else None
            pad = np.zeros((rows + j + 1 - len(entries) - (last is not None), BLOCK), dtype=entries.dtype)
            block.append(np.concatenate([entries, *([] if last is None else [last]), pad]))
        parts.append(block)
    gaussian = [np.concatenate([block[j] for block in parts], axis=-1)[:, None, :] for j in range(exist)]
    units = gram_schmidt(gaussian)[0]
    n, kind = BLOCK * len(streams), streams[0].kind
    units += [np.zeros((rows + j + 1, 1, n), dtype=kind) for j in range(exist, columns)]
    return [unit[:rows] for unit in units], [unit[rows:] for unit in units]


def draw_residual_layers(
    seed: int,
    blocks: range,
    depth: int,
    dimension: int,
    *,
    rank: int,
    shown: int,
    context_dimension: int,
    injected: bool,
    bulk: bool,
    isotropic: bool,
    dtype: str,
) -> Iterator[ResidualDraw]:
    """The draws of one layer after another for some blocks of chains, chains on the last axis.

    Args:
        seed: of the whole run.
        blocks: which blocks of 256 chains.
        depth: L; the draws of a deeper chain begin with these.
        dimension: d.
        rank: r, at most d / 2.
        shown: k, columns of the state.
        context_dimension: m.
        injected: whether a frame is put in; it has a stream of its own, so that the others do not depend on this.
        bulk: whether there is one; it has a stream of its own too.
        isotropic: whether that frame is uniform in R^d (its first r rows lie in the write frame) or across it.
        dtype: "float64" or "float32".
    """
    key = [seed, FAMILY, dimension, rank, shown]
    streams = [_Stream([*key, 0, block], dtype) for block in blocks]
    frames = [_Stream([*key, 1, context_dimension, isotropic, block], dtype) for block in blocks]
    spreads = [_Stream([*key, 2, block], dtype) for block in blocks]
    space = dimension - rank
    for _ in range(depth):
        written, unseen = _corner(streams, space, rank, shown)
        read, _ = _corner(streams, space, rank, shown)
        frame = None
        if injected:
            here, whole = (rank, dimension) if isotropic else (0, space)
            basis = min(shown, space)  # directions of the state's span that exist
            top, rest = _corner(frames, whole, here + basis, context_dimension)
            gone = np.zeros((shown - basis, *top[0].shape[1:]), dtype=top[0].dtype)
            frame = [np.concatenate([x, gone, y]) for x, y in zip(top, rest, strict=True)]
        spread = _gaussian(spreads, dimension, rank, shown) if bulk else None
        yield ResidualDraw(written, unseen, read, frame, spread)


def _gaussian(streams: list[_Stream], dimension: int, rank: int, columns: int) -> Columns:
    """A Gaussian matrix of d rows: 2 r + k of them seen, and a triangular root for the others (Bartlett).

    Of the k rows in the state's own span those that do not exist, and the root of none, are 0.
    """
    own = min(columns, dimension - 2 * rank)
    seen, left = 2 * rank + own, dimension - 2 * rank - own
    found = []
    for j in range(columns):
        parts = []
        for stream in streams:
            entries = stream.normal((seen + min(j, left),))
            gone = np.zeros((columns - own, BLOCK), dtype=entries.dtype)
            last = stream.chi(left - j)[None] if j < left else gone[:0]
            pad = np.zeros((seen + j + 1 - len(entries) - len(last), BLOCK), dtype=entries.dtype)
            parts.append(np.concatenate([entries[:seen], gone, entries[seen:], last, pad]))
        found.append(np.concatenate(parts, axis=-1)[:, None, :])
    return found
